"""What this application finds in itself: its settings, templates and tables."""

from __future__ import annotations

from .catalogue import Entry, entry

LOCAL: tuple[Entry, ...] = (
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
)
