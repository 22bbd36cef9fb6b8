"""What this application finds by itself: settings, secrets, tables, the log-in, and hints about a setup."""

from __future__ import annotations

from .catalogue import Entry, entry

LOCAL: tuple[Entry, ...] = (
    # -- the credential ----------------------------------------------------------------------------------------------
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
    # -- settings and storage ----------------------------------------------------------------------------------------
    entry(
        "settings_incomplete",
        title="The setup is not complete",
        meaning="Some fields are missing, or they do not fit together.",
        steps=("Correct the fields that the message names.", "Test again."),
        who="you",
    ),
    entry(
        "setup_missing",
        title="No mail service is set up yet",
        meaning="There is nothing to send with, neither a saved setup nor one in the configuration.",
        steps=(
            "Open the outbound mail setup, choose a mail service and fill in its fields.",
            "Test it, then save it as the active setup.",
        ),
        who="you",
    ),
    entry(
        "setup_not_verified",
        title="The setup has not been proven yet",
        meaning="It was changed, and no test has passed for these values, so mail is kept back.",
        steps=("Open the outbound mail setup.", "Run the test; as soon as it passes, what is held leaves by itself."),
        who="you",
    ),
    entry(
        "service_unknown",
        title="This mail service does not exist here",
        meaning="The setup names a mail service that this application does not know.",
        steps=(
            "Correct `service` to one of those the message lists.",
            "If the service comes from another package, install that package.",
        ),
        who="developer",
    ),
    entry(
        "connection_unknown",
        title="There is no connection with this name",
        meaning="A message asked for a named connection that nobody has set up.",
        steps=("Add a setup under that name, or correct the name after `via=` in the application.",),
        who="developer",
    ),
    entry(
        "cloud_unknown",
        title="There is no cloud with this name",
        meaning="The setup names a Microsoft cloud that is neither built in nor configured.",
        steps=(
            "Use `global`, `usgov`, `usgov_dod` or `china`, or a name from `OUTMAIL_CLOUDS`.",
            "If it was removed from `OUTMAIL_CLOUDS`, put it back.",
        ),
        who="developer",
    ),
    entry(
        "config_unknown",
        title="The configuration has an entry that nobody reads",
        meaning="A name there is misspelt, or it belongs to another version.",
        steps=("Correct or remove the entry that the message names.", "Restart the application."),
        who="developer",
    ),
    entry(
        "config_invalid",
        title="A value in the configuration cannot be used",
        meaning="It has the wrong form, or it is missing.",
        steps=("Correct the entry that the message names.", "Restart the application."),
        who="developer",
    ),
    entry(
        "template_missing",
        title="There is no mail template with this name",
        meaning="Neither a text nor an HTML file of that name stands in the folder of mail templates.",
        steps=(
            "Correct the name, or add `mail/NAME.html` (or `.txt`) to the application's templates.",
            "If the mail templates are in another folder, name it in `OUTMAIL_TEMPLATE_FOLDER`.",
        ),
        who="developer",
    ),
    entry(
        "template_subject",
        title="The mail from this template has no subject",
        meaning="Neither the call nor a file says what the subject is.",
        steps=("Give `subject=…`, or add `mail/NAME.subject.txt` beside the template.",),
        who="developer",
    ),
    entry(
        "template_image",
        title="A picture that a mail template asks for is not there",
        meaning="Pictures are read from the application's static folder, and this one was not found in it.",
        steps=("Correct the name in `image(…)`, or add the file to the static folder.",),
        who="developer",
    ),
    entry(
        "base_url_missing",
        title="A link in a mail cannot be made",
        meaning="Outside a request nothing says under which address the site is reached.",
        steps=("Set `OUTMAIL_BASE_URL`, for example to `https://shop.example.com`.", "Restart the application."),
        who="developer",
    ),
    entry(
        "tables_missing",
        title="The tables for outbound mail are missing",
        meaning="The database was reached, and the tables have not been made in it.",
        steps=(
            "Run `flask outmail init-db`, or call `db.create_all()`.",
            "If the application uses Flask-Migrate, make and apply a migration instead.",
        ),
        who="developer",
    ),
    entry(
        "tables_outdated",
        title="The tables for outbound mail are those of an earlier version",
        meaning="The package was upgraded, and its tables in the database were not.",
        steps=(
            "Run `flask outmail init-db`: it adds what is missing, and keeps every row.",
            "If the application uses Flask-Migrate, run `flask db migrate` and `flask db upgrade` instead.",
        ),
        who="developer",
    ),
    entry(
        "tables_refused",
        title="The database did not let the tables be made or upgraded",
        meaning="It answers, and it refused the change for the reason it gave.",
        steps=(
            "Read the reason. Often the database user may not create or alter tables: run the command as one who may.",
            "If a table was in use for too long, run the command again when the application is quiet or stopped.",
        ),
        who="developer",
    ),
    entry(
        "database_missing",
        title="This needs a database",
        meaning="Pages, queue and log keep what they know in a database, and none was given.",
        steps=(
            "Give the extension the application's Flask-SQLAlchemy object: `mail.init_app(app, db)`.",
            "Make the tables with `flask outmail init-db`.",
        ),
        who="developer",
    ),
    entry(
        "database_unavailable",
        title="The database did not answer",
        meaning="It could not be reached, or it was busy for too long.",
        steps=(
            "Try again in a moment.",
            "If it stays, check that the database runs and can be reached, and that its disk is not full.",
        ),
        who="developer",
    ),
    entry(
        "conflict",
        title="Somebody else saved in the meantime",
        meaning="Your change was not stored, so that theirs is not lost.",
        steps=(
            "Open the page again and look at what was changed.",
            "Make your change once more if it is still needed.",
        ),
        who="you",
    ),
    entry(
        "name_taken",
        title="This name is taken",
        meaning="Another one already has the name that was entered.",
        steps=("Choose another name.",),
        who="you",
    ),
    entry(
        "in_use",
        title="It is still in use",
        meaning="A setup depends on it, so removing it would stop the mail.",
        steps=("Choose another authentication object in that setup and save it.", "Then remove this one."),
        who="you",
    ),
    entry(
        "limit_reached",
        title="There is no room for another one",
        meaning="The number of stored authentication objects is limited, and the limit is reached.",
        steps=("Remove authentication objects that are no longer used.", "Or raise `OUTMAIL_AUTH_OBJECTS_MAX`."),
        who="you",
    ),
    entry(
        "tests_too_many",
        title="There were many tests in a short time",
        meaning="Tests reach out to other servers, so their number in a minute is limited.",
        steps=(
            "Wait as long as the message says, and test again.",
            "A developer can change `OUTMAIL_TESTS_PER_MINUTE` and `OUTMAIL_TESTS_PER_PERSON`.",
        ),
        who="you",
    ),
    # -- hints about a setup -----------------------------------------------------------------------------------------
    entry(
        "token_without_role",
        title="The token does not name the permission",
        meaning="This is right if Exchange keeps the permission (RBAC for Applications), and otherwise means that"
        " consent is missing.",
        steps=(
            "Look at the next steps of the test: if the mailbox accepts the call, nothing needs to be done.",
            "If it does not, and you use RBAC for Applications: the role may not be assigned yet, or the change may"
            " still be on its way (30 minutes to 2 hours).",
            "If you do not use it: in Microsoft Entra admin center > App registrations > the application > API"
            " permissions, add `Mail.Send` of Microsoft Graph, or `SMTP.SendAsApp` of Office 365 Exchange Online for"
            " SMTP, as an Application permission and choose Grant admin consent.",
        ),
        who="entra_admin",
    ),
    entry(
        "foreign_mailbox_open",
        title="This application may send as other mailboxes too",
        meaning="The permission is not limited to the mailbox of this setup, so a stolen secret would speak for"
        " everybody.",
        steps=(
            "Give the permission in Exchange for the one mailbox (RBAC for Applications); the request for your IT"
            " department has the commands.",
            "In Microsoft Entra admin center > App registrations > the application > API permissions, remove the"
            " consent to `Mail.Send` (for SMTP `SMTP.SendAsApp`): it and the scope in Exchange add up.",
            "Wait 30 minutes to 2 hours, then test both again: the own mailbox has to pass, the other to be refused.",
        ),
        who="entra_admin",
    ),
    entry(
        "foreign_mailbox_unknown",
        title="The other mailbox does not exist, so nothing is proven by it",
        meaning="Only a mailbox that exists can show whether this application is kept out of it.",
        steps=("Name the mailbox of a colleague in the same organisation, and test again; nothing is sent.",),
        who="you",
    ),
    entry(
        "foreign_mailbox_not_asked",
        title="This mail service cannot be asked about other mailboxes",
        meaning="Only the Microsoft services send by a permission of the application, which may reach too far.",
        steps=("Leave the other mailbox out, and test again.",),
        who="you",
    ),
    entry(
        "foreign_mailbox_own",
        title="The other mailbox is the one that sends",
        meaning="The proof needs a mailbox that this application has nothing to do with.",
        steps=("Name another mailbox of the organisation, or leave the field empty.",),
        who="you",
    ),
    entry(
        "worker_not_running",
        title="No worker is running, so mail would wait",
        meaning="`OUTMAIL_DELIVERY` is `outbox`: messages are stored, and `flask outmail worker` hands them over.",
        steps=(
            "Start `flask outmail worker`, and let the service manager of the machine keep it running.",
            "Test again; until then messages are kept, and none is lost.",
        ),
        who="developer",
    ),
    entry(
        "worker_behind",
        title="A worker has not taken up this setup yet",
        meaning="Workers look for a new revision every few seconds, and this one still uses another.",
        steps=(
            "Wait half a minute and test again.",
            "If it stays so, restart that worker and read its log: it may use another database or another key.",
        ),
        who="developer",
    ),
    entry(
        "token_role_delegated",
        title="The permission may have been added as Delegated",
        meaning="Delegated permissions act for a person who is logged in, and this application sends without one.",
        steps=(
            "Open Microsoft Entra admin center > App registrations > the application > API permissions and look at"
            " the column Type.",
            "Add the permission again under Application permissions, and remove the delegated one.",
            "Choose Grant admin consent, then test again; only a new token shows the change.",
        ),
        who="entra_admin",
    ),
    entry(
        "token_opaque",
        title="The token cannot be looked into",
        meaning="Microsoft may write tokens in any form, and this says nothing about whether sending works.",
        steps=(),
        who="nobody",
    ),
    entry(
        "graph_accepted_empty",
        title="Microsoft accepted a message without recipients",
        meaning="The test expects a refusal there, so this step proves nothing about the permission.",
        steps=(
            "Send a test message to yourself and see whether it arrives.",
            "If it does, nothing else needs to be done.",
        ),
        who="you",
    ),
    entry(
        "sender_domain_differs",
        title="The From address belongs to another domain than the mailbox",
        meaning="Recipients may see such mail as forged, and the server may refuse it.",
        steps=(
            "Use a From address in the mailbox's own domain where you can.",
            "Otherwise see that the mailbox may send as that address, and that SPF, DKIM and DMARC of its domain"
            " allow this server.",
            "Send a test message to an address outside your organisation.",
        ),
        who="you",
    ),
    entry(
        "port_465_starttls",
        title="Port 465 usually begins with TLS",
        meaning="STARTTLS is chosen, and at this port nearly every server expects TLS from the start.",
        steps=("Choose TLS from the start, or use port 587 with STARTTLS.",),
        who="you",
    ),
    entry(
        "port_587_tls",
        title="Port 587 usually begins in the clear",
        meaning="TLS from the start is chosen, and at this port nearly every server expects STARTTLS.",
        steps=("Choose STARTTLS, or use port 465 with TLS from the start.",),
        who="you",
    ),
    entry(
        "tls_off",
        title="The connection is not encrypted",
        meaning="Everybody on the way to the server can read the mail, and the password if there is one.",
        steps=(
            "Choose STARTTLS, or TLS from the start, if the server offers either.",
            "Leave it off only for a server on the same machine or in a network that you trust.",
        ),
        who="you",
    ),
    entry(
        "no_alert_path",
        title="Nobody would be told when mail stops",
        meaning="An alert that can only travel through the broken mail service does not arrive.",
        steps=(
            "Set up a second connection, for instance `backup`, with another mail service, or another channel for"
            " alerts.",
            "Enter an address for alerts that does not depend on this mail service.",
        ),
        who="you",
    ),
    # -- log-in, as judged here --------------------------------------------------------------------------------------
    entry(
        "auth_needs_tls",
        title="A token never travels without TLS",
        meaning="TLS is off in this setup, so logging in would have shown the token to everybody on the way.",
        steps=("Choose STARTTLS (port 587).", "Test again."),
        who="you",
    ),
    entry(
        "auth_not_offered",
        transport="microsoft365_smtp",
        title="The server does not offer log-in by token",
        meaning="Microsoft 365 offers it at its submission host, so another server may have answered.",
        steps=(
            "Check that the host is the cloud's own, `smtp.office365.com` for the worldwide cloud, and the port 587.",
            "Ask the people who run your network whether something between the two answers in Microsoft's place.",
            "Microsoft Graph needs no SMTP at all.",
        ),
        who="you",
    ),
    entry(
        "auth_not_offered",
        title="Server and application know no common way to log in",
        meaning="The server offers none of the usual password log-ins: PLAIN, LOGIN, CRAM-MD5.",
        steps=(
            "Check port and TLS: many servers offer a log-in only on a secured connection, or only at port 587.",
            "If the server needs no log-in from here, leave user name and password empty.",
            "If it offers only XOAUTH2, passwords are off; for Microsoft 365 choose a mail service with OAuth 2.0.",
        ),
        who="you",
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
        "transport_fault",
        title="The mail service ended by a fault of its own",
        meaning="That says nothing about the message, which may or may not have left.",
        steps=(
            "Look at the application's log, which names the fault, and report it to whoever wrote the mail service.",
        ),
        who="developer",
    ),
    entry(
        "too_many_at_once",
        title="Too many messages are under way at once",
        meaning="Exchange serves four requests of one application and mailbox at a time, and all four were taken.",
        steps=("Send fewer at the same moment; `mail.send_many` hands them over one after another.",),
        who="developer",
    ),
    entry(
        "paused_by_server",
        title="Microsoft has asked for a pause, and it is being kept",
        meaning="An earlier message was answered with a request to wait; asking again before would lengthen the wait.",
        steps=("Nothing needs to be done; the message may be sent when the pause is over.",),
        who="nobody",
    ),
    entry(
        "requests_used_up",
        title="This mailbox has used up its requests for the moment",
        meaning="Exchange serves 10,000 requests of one application and mailbox in ten minutes, and so many were made.",
        steps=(
            "Nothing needs to be done; there is room again within ten minutes.",
            "For mass mail, use a service that is made for it, or several mailboxes.",
        ),
        who="nobody",
    ),
    entry(
        "answer_odd",
        title="The server's answer makes no sense",
        meaning="After the message the server gave an answer that is neither a yes nor a no, so it may have arrived.",
        steps=("Ask the recipient before sending it again.", "Tell whoever runs the mail server what it answered."),
        who="mail_admin",
    ),
    entry(
        "message_invalid",
        title="A field of this message is of the wrong kind",
        meaning="Something in the message is not text, or not a number, where it has to be.",
        steps=("Look at the fields that the application gives to the message; the log names the error.",),
        who="developer",
    ),
    entry(
        "recipients_refused",
        title="Some recipients were refused",
        meaning="The message was accepted for the others.",
        steps=("Check the addresses that the reason names.",),
        who="you",
    ),
    entry(
        "dkim_library_missing",
        title="Mail shall be signed, and the signing library is missing",
        meaning="`OUTMAIL_DKIM_DOMAIN` is set; without the library nothing can be signed, so nothing is sent.",
        steps=("Install it: `pip install 'flask-outmail[dkim]'`, and restart.", "Or unset the `OUTMAIL_DKIM_…` keys."),
        who="developer",
    ),
    entry(
        "dkim_key_invalid",
        title="The key that shall sign mail cannot be used",
        meaning="`OUTMAIL_DKIM_KEY_FILE` holds no RSA private key in PEM that the signing library can read.",
        steps=(
            "Make one: `openssl genrsa -traditional -out dkim.pem`.",
            "Publish its public part in the domain name system, as a TXT record named SELECTOR._domainkey.DOMAIN.",
        ),
        who="developer",
    ),
    entry(
        "secret_key_missing",
        title="The application has no secret key",
        meaning="Without `SECRET_KEY` no form of these pages can be protected, so none is shown.",
        steps=("Set `SECRET_KEY` in the application's configuration to a long random text, and restart.",),
        who="developer",
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
