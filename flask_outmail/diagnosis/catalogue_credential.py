"""Faults of credentials without a stored secret: federated tokens, managed identities, and two secrets that overlap."""

from __future__ import annotations

from .catalogue import Entry, entry

CREDENTIAL: tuple[Entry, ...] = (
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
