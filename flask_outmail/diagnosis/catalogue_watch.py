"""What the watch finds by itself, without a message that failed: ends that come near, mail that waits."""

from __future__ import annotations

from .catalogue import Entry, entry

WATCH: tuple[Entry, ...] = (
    entry(
        "credential_expiring",
        title="A credential will expire soon",
        meaning="After its last day Microsoft refuses it, and no mail leaves any more.",
        steps=(
            "Make a new client secret or certificate in Microsoft Entra admin center > App registrations > the"
            " application > Certificates & secrets. The old one keeps working until its own end.",
            "Enter it in the authentication object here, with its expiry date, and test the setup.",
            "Remove the old one in Microsoft Entra once mail flows with the new one.",
        ),
        who="entra_admin",
    ),
    entry(
        "queue_old",
        title="Mail has been waiting too long",
        meaning="Messages that should have left are still in the outbox.",
        steps=(
            "Look at the deliveries that wait: each says what it waits for.",
            "Look at the workers on the overview; start more of them if the queue grows faster than it leaves"
            " (`flask outmail worker`).",
            "Test the setup of this connection.",
        ),
        who="you",
    ),
    entry(
        "worker_missing",
        title="Mail waits, and no worker is running",
        meaning="The outbox is handed over by `flask outmail worker`, and none has given a sign of life.",
        steps=(
            "Start `flask outmail worker`, and let the service manager of the machine keep it running.",
            "If one should be running, read its log: it may lack the database or the configuration of the web process.",
        ),
        who="developer",
    ),
    entry(
        "backlog_held",
        title="Mail is held, because the setup is not verified",
        meaning="Messages are kept and leave once the active setup of their connection has passed a test.",
        steps=(
            "Open the set-up page and test the setup; follow the remedy of the step that fails.",
            "Once the test has passed, the messages leave by themselves, oldest first.",
        ),
        who="you",
    ),
    entry(
        "alert_test",
        title="This is a test",
        meaning="Somebody asked to see whether alerts arrive, and nothing is wrong.",
        steps=(),
        who="nobody",
    ),
    entry(
        "callback_failed",
        title="A function of the application did not take the alert",
        meaning="A function decorated with `@mail.on_alert` raised an error, or returned False.",
        steps=("Look into the application's log for the function's name.", "Mend it, and send a test alert."),
        who="developer",
    ),
    entry(
        "webhook_unreachable",
        title="The webhook for alerts cannot be reached",
        meaning="Nothing was posted, because no secure connection to the address in `OUTMAIL_ALERT_WEBHOOK_URL` came"
        " about.",
        steps=(
            "Check that this machine may open HTTPS connections to that host, through the proxy if there is one"
            " (`HTTPS_PROXY`).",
            "If the code in brackets speaks of TLS, the host's certificate is not trusted here: name the authority's"
            " file in `OUTMAIL_CA_FILE`.",
            "Send a test alert.",
        ),
        who="network",
    ),
    entry(
        "webhook_refused",
        title="The webhook did not take the alert",
        meaning="The address in `OUTMAIL_ALERT_WEBHOOK_URL` answered, but not with success.",
        steps=(
            "Compare `OUTMAIL_ALERT_WEBHOOK_KIND` with what stands behind the address: `json`, `slack` or `teams`.",
            "Make a new address in Slack or Teams if the old one was withdrawn (404 and 410 mean that), and put it into"
            " the configuration.",
            "Send a test alert.",
        ),
        who="developer",
    ),
)
