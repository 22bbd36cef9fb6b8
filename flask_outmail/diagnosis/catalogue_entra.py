"""Microsoft Entra's refusals to give a token, by AADSTS number (Entra: reference-error-codes).

Microsoft may renumber them, so they serve as hints to a person and decide nothing. Numbers that are not listed get
the address of Microsoft's own explanation.
"""

from __future__ import annotations

from .catalogue import Entry, entry

_APP = "Microsoft Entra admin center > App registrations > the application"
_ENTERPRISE_APP = "Microsoft Entra admin center > Enterprise applications > the application"

ENTRA: tuple[Entry, ...] = (
    # -- the credential ----------------------------------------------------------------------------------------------
    entry(
        "AADSTS7000215",
        title="Microsoft does not know this secret",
        meaning="The client secret that was entered is not one of this application's secrets.",
        steps=(
            f"Open {_APP} > Certificates & secrets.",
            "Make sure that the column Value was copied, whole and without blanks, and not the column Secret ID.",
            "Make sure that it is the application whose Application (client) ID is entered here.",
            "If the value is hidden, choose New client secret and copy its Value at once; it is shown only then.",
            "Enter it here and test again.",
        ),
        who="entra_admin",
    ),
    entry(
        "AADSTS7000222",
        title="The client secret has expired",
        meaning="Microsoft no longer accepts the secret of this application.",
        steps=(
            f"Open {_APP} > Certificates & secrets, choose New client secret and copy its Value at once.",
            "Replace the secret in the authentication object, and note its new expiry date there.",
            "Test again; mail that was kept back then leaves by itself.",
            "Consider a certificate: it can be renewed without a gap.",
        ),
        who="entra_admin",
    ),
    entry(
        "AADSTS7000216",
        "AADSTS7000218",
        title="No secret reached Microsoft",
        meaning="The request for a token carried neither a secret nor a certificate.",
        steps=(
            "Open the authentication object and enter the client secret's Value, or a certificate with its key.",
            "Test again.",
        ),
        who="you",
    ),
    entry(
        "AADSTS700027",
        title="Microsoft does not know this certificate",
        meaning="The proof was signed with a key whose certificate is not registered with this application.",
        steps=(
            f"Open {_APP} > Certificates & secrets > Certificates.",
            "Compare the thumbprint there with that of the certificate in the authentication object.",
            "If it is not there, upload the public part of the certificate, without its private key; the authentication"
            " object's page has it to download.",
            "Test again.",
        ),
        who="entra_admin",
    ),
    entry(
        "AADSTS700024",
        title="This machine's clock seems to be wrong",
        meaning="The signed proof counts for a few minutes only, and Microsoft saw it outside of them.",
        steps=(
            "Compare the time and the time zone of the machine that runs this application with another clock.",
            "Set the clock by NTP and keep that service running.",
            "For a federated credential: the token in its file may have ended; look at what should renew it.",
            "Test again.",
        ),
        who="developer",
    ),
    entry(
        "AADSTS700030",
        title="The certificate's subject is not accepted",
        meaning="The application trusts certificates by subject and issuer, and this one does not match.",
        steps=(
            f"Upload the public part of this very certificate in {_APP} > Certificates & secrets > Certificates.",
            "Or ask who set up the trust which subject and issuer it expects.",
        ),
        who="entra_admin",
    ),
    entry(
        "AADSTS50012",
        "AADSTS50013",
        "AADSTS50027",
        title="Microsoft cannot accept the signed proof",
        meaning="The proof made with the certificate is invalid in the eyes of Microsoft's sign-in service.",
        steps=(
            f"Compare the certificate's thumbprint with the one in {_APP} > Certificates & secrets > Certificates.",
            "Check that the cloud chosen here is the one the tenant lives in.",
            "Check the clock of the machine that runs this application.",
        ),
        who="entra_admin",
    ),
    entry(
        "AADSTS700213",
        "AADSTS700211",
        "AADSTS700212",
        "AADSTS70021",
        title="No federated credential matches",
        meaning="Microsoft compared the outside token with the application's federated credentials and found no match.",
        steps=(
            f"Compare issuer, subject and audience in {_APP} > Certificates & secrets > Federated credentials,"
            " letter by letter.",
            "If the credential was added just now, try again after some minutes.",
            "Or use a client secret or a certificate.",
        ),
        who="entra_admin",
    ),
    entry(
        "AADSTS700229",
        title="A federated credential of the wrong kind was used",
        meaning="The outside token was issued for a person, and only one issued for an application may stand there.",
        steps=("Use a token that the other side issues to an application, or use a client secret or a certificate.",),
        who="developer",
    ),
    # -- application and tenant --------------------------------------------------------------------------------------
    entry(
        "AADSTS700016",
        "AADSTS700011",
        title="This application is not in this tenant",
        meaning="The tenant exists, and it has no application with this Application (client) ID.",
        steps=(
            f"Open {_APP} > Overview.",
            "Compare Application (client) ID and Directory (tenant) ID with those entered here; they may have been"
            " exchanged.",
            "If your organisation has several tenants, check in which of them the application was registered.",
        ),
        who="you",
    ),
    entry(
        "AADSTS7000229",
        title="The application has no enterprise application in this tenant",
        meaning="It is registered, and the tenant holds no account (service principal) for it yet.",
        steps=(
            f"Look for it under {_ENTERPRISE_APP}.",
            "If it is not there, grant admin consent for the application in this tenant; that makes the account.",
            "Check that the tenant entered here is the one whose mailbox is to send.",
        ),
        who="entra_admin",
    ),
    entry(
        "AADSTS7000112",
        "AADSTS70001",
        title="The application is switched off in this tenant",
        meaning="An administrator, or a rule of the organisation, has disabled it.",
        steps=(
            f"Open {_ENTERPRISE_APP} > Properties.",
            "Ask why it was disabled, then set Enabled for users to sign-in to Yes and save.",
            "Test again.",
        ),
        who="entra_admin",
    ),
    entry(
        "AADSTS90002",
        title="There is no tenant with this ID or name",
        meaning="Microsoft's sign-in service of the chosen cloud does not know the tenant.",
        steps=(
            "Copy Directory (tenant) ID from Microsoft Entra admin center > Overview and paste it here; it may have"
            " been exchanged with the Application (client) ID.",
            "If the tenant belongs to the US Government or China cloud, choose that cloud.",
        ),
        who="you",
    ),
    entry(
        "AADSTS900023",
        title="The tenant is neither an ID nor a domain",
        meaning="What was entered as tenant does not have the form of either.",
        steps=(
            "Copy Directory (tenant) ID from Microsoft Entra admin center > Overview and paste it here.",
            "Or enter a domain that is verified in the tenant, such as contoso.com, without https and slashes.",
        ),
        who="you",
    ),
    entry(
        "AADSTS50059",
        "AADSTS90019",
        title="Microsoft was not told the tenant",
        meaning="The request did not say in which organisation to look for the application.",
        steps=("Enter the Directory (tenant) ID in the authentication object.", "Test again."),
        who="you",
    ),
    entry(
        "AADSTS50194",
        "AADSTS9001023",
        title="A tenant of its own is needed here",
        meaning="General names such as common or organizations do not work for an application that logs in by itself.",
        steps=("Enter the Directory (tenant) ID, or a verified domain, in the authentication object.",),
        who="you",
    ),
    entry(
        "AADSTS90038",
        "AADSTS900382",
        "AADSTS900432",
        title="The tenant lives in another Microsoft cloud",
        meaning="Worldwide, US Government and China are separate clouds, and the wrong one was asked.",
        steps=(
            "Ask in which cloud the organisation's Microsoft 365 is; the address of its admin center tells.",
            "Choose that cloud in the authentication object and test again.",
        ),
        who="you",
    ),
    # -- scope and service -------------------------------------------------------------------------------------------
    entry(
        "AADSTS70011",
        "AADSTS1002012",
        "AADSTS28002",
        "AADSTS28003",
        title="The token was requested for a scope that does not work",
        meaning="For an application without a person, a scope is the address of one service and then /.default.",
        steps=(
            "With a built-in cloud, choose the cloud again in the authentication object and test.",
            "With a cloud from `OUTMAIL_CLOUDS`, let `scope` and `smtp_scope` each end in `/.default`, without blanks.",
        ),
        who="developer",
    ),
    entry(
        "AADSTS700022",
        title="One token was requested for two services",
        meaning="Microsoft issues a token for one service only.",
        steps=("In `OUTMAIL_CLOUDS`, let `scope` and `smtp_scope` each name one service.",),
        who="developer",
    ),
    entry(
        "AADSTS500011",
        title="The tenant does not know the service a token was requested for",
        meaning="The scope names another cloud's service, or is misspelt, or the service was never set up here.",
        steps=(
            "Check that the chosen cloud is the one the tenant lives in.",
            "With a cloud from `OUTMAIL_CLOUDS`, check `scope` and `smtp_scope`.",
            "Check that the tenant has Exchange Online.",
        ),
        who="you",
    ),
    entry(
        "AADSTS650057",
        "AADSTS650052",
        title="The application is not set up for this service",
        meaning="Its registration does not list the service, or the organisation has no subscription to it.",
        steps=(
            f"Open {_APP} > API permissions and add `Mail.Send` of Microsoft Graph, or `SMTP.SendAsApp` of Office 365"
            " Exchange Online for SMTP, as an Application permission.",
            "Choose Grant admin consent.",
            "Check that the tenant has Exchange Online.",
        ),
        who="entra_admin",
    ),
    entry(
        "AADSTS65001",
        "AADSTS65004",
        title="An administrator has not agreed yet",
        meaning="The application asks for permissions to which nobody in the organisation has consented.",
        steps=(
            f"Open {_APP} > API permissions.",
            "Check that the permission is of the type Application, not Delegated.",
            "Choose Grant admin consent, then test again; only a new token shows the change.",
        ),
        who="entra_admin",
    ),
    # -- policy ------------------------------------------------------------------------------------------------------
    entry(
        "AADSTS53003",
        "AADSTS530032",
        "insufficient_claims",
        title="Conditional Access stopped the log-in",
        meaning="A rule of the organisation does not let this application log in from here.",
        steps=(
            "Open Microsoft Entra admin center > Monitoring & health > Sign-in logs > Service principal sign-ins and"
            " look which policy applied.",
            "Allow the network address of this application's machine in that policy, or exclude the application.",
            "Test again.",
        ),
        who="entra_admin",
    ),
    entry(
        "AADSTS50005",
        "AADSTS53000",
        "AADSTS53001",
        "AADSTS53002",
        title="Conditional Access asks for a managed device",
        meaning="A rule meant for people and their devices was applied to this application.",
        steps=(
            "Check that the authentication object holds the application's own credential, not a person's.",
            "Open Microsoft Entra admin center > Conditional Access and exclude the application from that policy.",
        ),
        who="entra_admin",
    ),
    entry(
        "AADSTS50034",
        title="Microsoft looked for a person instead of an application",
        meaning="This answer belongs to the log-in of people, which is not used here.",
        steps=(
            "Check that tenant and Application (client) ID were copied from the application's Overview.",
            "If they are right, quote the code and the request id to Microsoft support.",
        ),
        who="you",
    ),
    entry(
        "AADSTS50011",
        title="Microsoft complains about a reply address",
        meaning="This answer belongs to the log-in of people in a browser, which is not used here and needs no reply"
        " address.",
        steps=(
            "Check that Application (client) ID is that of the application registered for sending mail.",
            "If it is right, quote the code and the request id to Microsoft support.",
        ),
        who="you",
    ),
    # -- not now -----------------------------------------------------------------------------------------------------
    entry(
        "AADSTS50196",
        title="Too many equal requests reached Microsoft's sign-in service",
        meaning="It takes them for a loop and pauses this application for some minutes.",
        steps=(
            "Wait some minutes; the next attempt comes by itself.",
            "If it comes back, look for other programs that use the same application, and for processes that start"
            " over and over.",
        ),
        who="developer",
    ),
    entry(
        "AADSTS90055",
        "temporarily_unavailable",
        title="Microsoft asks this tenant to wait",
        meaning="Its sign-in service has too much to do at the moment, for this tenant or altogether.",
        steps=("Nothing needs to be changed; the next attempt comes by itself.",),
        who="nobody",
    ),
    entry(
        "AADSTS90033",
        "AADSTS90006",
        "AADSTS90012",
        "AADSTS90024",
        "AADSTS90090",
        "AADSTS50033",
        "AADSTS50087",
        title="Microsoft's sign-in service has a passing fault",
        meaning="By its own words this is temporary.",
        steps=(
            "Nothing needs to be changed; the next attempt comes by itself.",
            "If it stays, look at the service health in the Microsoft 365 admin center.",
        ),
        who="nobody",
    ),
    entry(
        "AADSTS90036",
        "AADSTS90092",
        title="Microsoft's sign-in service cannot complete the request",
        meaning="By its own words, trying again will not help.",
        steps=("Open a support request with Microsoft, and quote the code, the request id and the time.",),
        who="entra_admin",
    ),
    # -- answers without a number ------------------------------------------------------------------------------------
    entry(
        "invalid_client",
        "unauthorized_client",
        title="Microsoft refused this application's log-in",
        meaning="It did so without a number; mostly the secret, the application or the tenant is wrong.",
        steps=(
            f"Compare Directory (tenant) ID and Application (client) ID with {_APP} > Overview.",
            "Make sure that the secret is the column Value and has not expired.",
            "Test again.",
        ),
        who="you",
    ),
    entry(
        "invalid_scope",
        "invalid_resource",
        "invalid_request",
        "unsupported_grant_type",
        title="Microsoft could not make sense of the request for a token",
        meaning="It did so without a number; mostly the tenant, the cloud or the scope is wrong.",
        steps=(
            "Check the tenant and the chosen cloud in the authentication object.",
            "With a cloud from `OUTMAIL_CLOUDS`, check `authority`, `scope` and `smtp_scope`.",
        ),
        who="developer",
    ),
    entry(
        "invalid_grant",
        "interaction_required",
        "access_denied",
        title="A rule of the organisation stopped the log-in",
        meaning="Microsoft refused without a number; mostly consent is missing or Conditional Access applied.",
        steps=(
            f"Open {_APP} > API permissions and see whether admin consent was granted.",
            "Open Microsoft Entra admin center > Monitoring & health > Sign-in logs > Service principal sign-ins and"
            " look which policy applied.",
        ),
        who="entra_admin",
    ),
    entry(
        "entra_error",
        title="Microsoft refused without saying why",
        meaning="The answer held neither a number nor a name for the fault.",
        steps=(
            "Test again.",
            "If it stays, look into Microsoft Entra admin center > Monitoring & health > Sign-in logs > Service"
            " principal sign-ins at the time of the test.",
        ),
        who="entra_admin",
    ),
    entry(
        "entra_busy",
        title="Microsoft's sign-in service asks to wait",
        meaning="Too many requests reached it at once.",
        steps=("Nothing needs to be changed; the next attempt comes by itself.",),
        who="nobody",
    ),
    entry(
        "entra_unavailable",
        title="Microsoft's sign-in service is not available",
        meaning="It answered with a fault of its own.",
        steps=(
            "Try again in a few minutes.",
            "If it stays, look at the service health in the Microsoft 365 admin center.",
        ),
        who="nobody",
    ),
    entry(
        "not_entra",
        title="Something else answered in Microsoft's place",
        meaning="The answer is not one of its sign-in service; it may be the page of a proxy or a guest network.",
        steps=(
            "Ask the people who run your network to let the machine of this application reach"
            " `login.microsoftonline.com`, or your cloud's own host, at port 443.",
            "If the network needs a proxy, set `HTTPS_PROXY` for the application.",
            "For a cloud from `OUTMAIL_CLOUDS`, check its `authority`.",
        ),
        who="network",
    ),
)
