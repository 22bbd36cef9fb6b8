"""What can be wrong with a credential before a server has seen it, and with those that need no stored secret."""

from __future__ import annotations

from .catalogue import Entry, entry

CREDENTIAL: tuple[Entry, ...] = (
    entry(
        "secret_is_id",
        title="This looks like the secret's ID, not its value",
        meaning="What was entered as client secret has the form of an ID, which no secret has.",
        steps=(
            "Open Microsoft Entra admin center > App registrations > the application > Certificates & secrets.",
            "Copy the column Value, not the column Secret ID.",
            "The value is shown only once, right after it was made; if it is hidden, choose New client secret.",
            "Enter the value here and test again.",
        ),
        who="you",
    ),
    entry(
        "tenant_is_client_id",
        title="Tenant and application have the same ID",
        meaning="The Directory (tenant) ID and the Application (client) ID are always two different IDs.",
        steps=(
            "Open Microsoft Entra admin center > App registrations > the application > Overview.",
            "Copy Directory (tenant) ID and Application (client) ID each into its own field.",
        ),
        who="you",
    ),
    entry(
        "credential_incomplete",
        title="The log-in for Microsoft is not complete",
        meaning="A tenant, an application and something that shows who we are (a client secret, a certificate or a"
        " federated token) are needed.",
        steps=(
            "Open the authentication object.",
            "Fill in Directory (tenant) ID and Application (client) ID; both stand on the application's Overview in"
            " Microsoft Entra admin center > App registrations.",
            "Enter a client secret, or a certificate with its private key.",
        ),
        who="you",
    ),
    entry(
        "certificate_unreadable",
        title="The certificate cannot be read",
        meaning="What was given is not an RSA private key together with its own certificate.",
        steps=(
            "Paste one PEM text that holds both, the private key and the certificate, or choose a PFX file.",
            "If the key is protected, enter its password; if it is not, leave the password empty.",
            "Use an RSA key: only such keys are supported here.",
            "Make sure that key and certificate belong together.",
        ),
        who="you",
    ),
    entry(
        "certificate_expired",
        title="The client certificate has expired",
        meaning="Microsoft does not accept a certificate after its last day.",
        steps=(
            "Make a new key pair and certificate.",
            "Upload its public part in Microsoft Entra admin center > App registrations > the application >"
            " Certificates & secrets > Certificates; the old one may stay beside it.",
            "Put the new key and certificate into the authentication object and test.",
            "Remove the old certificate in Entra.",
        ),
        who="entra_admin",
    ),
    entry(
        "credential_expired",
        title="The expiry date of this credential has passed",
        meaning="By the date noted here, Microsoft no longer accepts it, or soon will not.",
        steps=(
            "Open Microsoft Entra admin center > App registrations > the application > Certificates & secrets and"
            " look at the column Expires.",
            "If it has expired, choose New client secret, copy its Value, and replace the secret in the"
            " authentication object.",
            "If it has not, correct the date here.",
        ),
        who="entra_admin",
    ),
    entry(
        "secret_unreadable",
        title="Stored secrets cannot be read with the present key",
        meaning="They were encrypted with a key that this application no longer has, or they were damaged.",
        steps=(
            "Add the former key at the end of `OUTMAIL_ENCRYPTION_KEYS`, newest first, and restart the application.",
            "If no keys were configured, secrets hang on `SECRET_KEY`: see whether that was changed.",
            "If the key is lost, enter the secret again; a new one can be made at its origin.",
            "Give every process, workers too, the same `OUTMAIL_ENCRYPTION_KEYS`.",
        ),
        who="developer",
    ),
    entry(
        "encryption_key_missing",
        title="There is no key to encrypt secrets with",
        meaning="Secrets are stored encrypted or not at all.",
        steps=(
            "Make a key with `flask outmail keys generate`.",
            "Put it into `OUTMAIL_ENCRYPTION_KEYS` and restart the application.",
            "Keep a copy in a safe place; without it, stored secrets cannot be read.",
        ),
        who="developer",
    ),
    entry(
        "token_file_missing",
        title="The token for the federated credential is not there",
        meaning="No file is named, or the file with the token cannot be read by this application.",
        steps=(
            "Check that the workload has its identity: on Kubernetes the label `azure.workload.identity/use: true`"
            " and a service account with the application's client id make the file and set"
            " `AZURE_FEDERATED_TOKEN_FILE`.",
            "If another path is entered in the authentication object, compare it letter by letter.",
            "Make sure that the user this application runs as may read the file.",
            "Test again.",
        ),
        who="developer",
    ),
    entry(
        "token_file_unreadable",
        title="What stands for the federated credential is not a token",
        meaning="The file or the function gave something that has not the form of a signed token (JWT), so nothing of"
        " it was sent.",
        steps=(
            "Look at what writes the file: it must hold one token and nothing else.",
            "If a function of this application gives the token, let it return the token itself as text.",
            "Test again.",
        ),
        who="developer",
    ),
    entry(
        "token_function_unknown",
        title="The function that gives the token is not registered here",
        meaning="The authentication object names a function, and this process of the application knows none of that"
        " name.",
        steps=(
            "Call `register_token_function` while the application starts, in every process: web, worker and commands.",
            "Compare the name with the one in the authentication object.",
        ),
        who="developer",
    ),
    entry(
        "token_function_failed",
        title="The function that gives the token broke off",
        meaning="This application's own function for the federated credential ended with an error of its own.",
        steps=(
            "Call the function by hand where the application runs, and see where it ends.",
            "Test again; nothing of the earlier attempt is kept.",
        ),
        who="developer",
    ),
    entry(
        "managed_identity_missing",
        title="This machine has no managed identity",
        meaning="A managed identity exists only on Azure, and nothing answers here where Azure would.",
        steps=(
            "If the application runs on Azure: open the resource (App Service, virtual machine, container app) >"
            " Identity, switch it on, and restart the application.",
            "If it runs elsewhere: use a federated credential, a certificate or a client secret instead.",
            "A firewall on the machine must let the application reach `169.254.169.254` at port 80.",
        ),
        who="developer",
    ),
    entry(
        "managed_identity_refused",
        title="Azure gave no token for this managed identity",
        meaning="Azure's endpoint on this machine answered, and refused.",
        steps=(
            "Read what it said, below.",
            "If a client id is entered, make sure that this user-assigned identity is added to the resource under"
            " Identity > User assigned.",
            "If none is entered, make sure that Identity > System assigned is on.",
            "Test again after a minute.",
        ),
        who="developer",
    ),
    entry(
        "credential_fallback",
        title="The new secret or certificate is not taken yet",
        meaning="Microsoft refused the newest one, and the one before it served in its place, so mail goes on.",
        steps=(
            "For a certificate: upload its public part in Microsoft Entra admin center > App registrations > the"
            " application > Certificates & secrets > Certificates.",
            "For a secret: compare it with the column Value there, or make another one and enter it.",
            "Test again before the old one ends.",
        ),
        who="entra_admin",
    ),
    entry(
        "provider_unknown",
        title="This kind of credential is not known here",
        meaning="The authentication object, or the configuration, names a kind that this version does not have.",
        steps=(
            "Use `microsoft_client_credentials`, `microsoft_federated` or `microsoft_managed_identity`.",
            "If the object was made by a newer version of the package, install that version.",
        ),
        who="developer",
    ),
)
