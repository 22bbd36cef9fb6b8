from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import pytest
from flask import redirect

from flask_outmail import SetupNotVerified, setups
from flask_outmail.models import AuthObject, Base, Setup
from flask_outmail.vault import Vault, generate_key

from ..conftest import MakeApp, engine_of, graph_setup, make_message, smtp_setup
from ..integration.test_holding import activate, smtp_values
from .conftest import Site, titles

EVERY_PAGE = (
    "/",
    "/setup",
    "/auth-objects/",
    "/auth-objects/new",
    "/deliveries/",
    "/alerts",
    "/history",
    "/domain",
    "/health.json",
)


# -- who may enter ---------------------------------------------------------------------------------------------------


def routes(site: Site) -> list[tuple[str, str]]:
    """(method, path) of everything below the prefix but the static files."""
    found = []
    for rule in site.app.url_map.iter_rules():
        if rule.endpoint.startswith("outmail.") and rule.endpoint != "outmail.static":
            path = re.sub(r"<[^>]+>", "1", rule.rule)
            found += [(method, path) for method in (rule.methods or set()) & {"GET", "POST"}]
    return found


@pytest.mark.parametrize("verdict", [None, False, 0])
def test_every_route_answers_403_to_whom_the_application_did_not_let_in(make_app: MakeApp, verdict: Any) -> None:
    app, mail = make_app(db=True)
    if verdict is not None:
        mail.access_control(lambda: verdict)
    client = app.test_client()
    paths = routes(Site(app, mail, client, None))  # type: ignore[arg-type]
    assert len(paths) > 15
    for method, path in paths:
        assert client.open(path, method=method).status_code == 403, (method, path)


def test_the_application_may_send_people_to_its_log_in(make_app: MakeApp) -> None:
    app, mail = make_app(db=True)
    mail.access_control(lambda: redirect("/login"))
    assert app.test_client().get("/outmail/").headers["Location"] == "/login"
    mail.access_control(lambda: ("Go away", 401))
    assert app.test_client().get("/outmail/").status_code == 401


def test_every_post_without_a_token_is_refused_and_changes_nothing(site: Site) -> None:
    site.post("/auth-objects/new", action="save", **site.object_fields())
    site.save(site.smtp_fields())
    posts = [path for method, path in routes(site) if method == "POST"]
    assert len(posts) >= 8
    for path in posts:
        answer = site.client.post(
            path, data={**site.object_fields(name="evil"), **site.smtp_fields(), "action": "save"}
        )
        assert answer.status_code == 400, path
    with engine_of(site.app).database.session() as session:
        assert [row.name for row in session.query(AuthObject)] == ["Contoso mailer"]
        assert session.query(Setup).count() == 1


@pytest.mark.parametrize("path", EVERY_PAGE)
def test_every_page_has_a_strict_policy_and_is_not_stored(site: Site, path: str) -> None:
    answer = site.get(path)
    assert answer.status_code == 200
    policy = answer.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["X-Frame-Options"] == "DENY" and "frame-ancestors 'none'" in policy
    assert answer.headers["Referrer-Policy"] == "same-origin"
    assert answer.mimetype == "application/json" or answer.content_type == "text/html; charset=utf-8"
    assert not any(name.startswith("Access-Control-") for name, _ in answer.headers)


def test_a_page_inside_the_applications_template_leaves_its_policy_alone(make_site: Callable[..., Site]) -> None:
    from jinja2 import ChoiceLoader, DictLoader

    site = make_site(OUTMAIL_BASE_TEMPLATE="theirs.html")
    theirs = "<title>{% block title %}{% endblock %}</title><body class=theirs>{% block content %}{% endblock %}"
    loader = site.app.jinja_env.loader
    assert loader is not None
    site.app.jinja_env.loader = ChoiceLoader([DictLoader({"theirs.html": theirs}), loader])
    answer = site.get("/setup")
    assert "class=theirs" in answer.text and "What kind of mail service" in answer.text
    assert "Content-Security-Policy" not in answer.headers


# -- the database ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", EVERY_PAGE)
def test_missing_tables_are_named_with_their_command_and_never_a_500(site: Site, path: str) -> None:
    with site.app.app_context():
        Base.metadata.drop_all(site.app.extensions["sqlalchemy"].engine)
    answer = site.get(path)
    assert answer.status_code == 503
    assert "flask outmail init-db" in answer.text


def test_without_a_database_the_pages_say_so(make_app: MakeApp) -> None:
    app, mail = make_app()
    mail.access_control(lambda: True)
    answer = app.test_client().get("/outmail/setup")
    assert answer.status_code == 503 and "database" in answer.text


def test_a_lost_key_breaks_no_page(make_site: Callable[..., Site]) -> None:
    site = make_site()
    site.post("/auth-objects/new", action="save", **site.object_fields())
    site.save(site.graph_fields())
    site.save(site.smtp_fields(), action="save_draft")
    site.app.secret_key = "changed"
    engine_of(site.app)._vault = None
    engine_of(site.app).connections.look_again()
    for path in (*EVERY_PAGE[:-1], "/auth-objects/1"):
        assert site.get(path).status_code == 200, path
    assert site.get("/health.json").status_code == 503, "mail does not flow"
    assert "cannot be read with the present keys" in site.get("/setup").text


def test_a_secret_entered_again_after_a_lost_key_is_proven_and_used(site: Site) -> None:
    site.save_tested(site.smtp_fields())
    engine_of(site.app)._vault = Vault([generate_key()])
    engine_of(site.app).connections.look_again()
    assert "cannot be read with the present keys" in site.get("/setup").text
    assert "Mail is sent with these settings" in site.save_tested(site.smtp_fields()).text


# -- authentication objects ------------------------------------------------------------------------------------------


def test_an_object_is_tested_without_being_saved_and_saved_without_being_shown(site: Site) -> None:
    fields = site.object_fields()
    tested = site.post("/auth-objects/new", action="test", **fields)
    assert "Token obtained" in tested.text and "None yet" in site.get("/auth-objects/").text
    saved = site.post("/auth-objects/new", action="save", **fields)
    assert "Contoso mailer" in saved.text and "15 Apr 2027" in saved.text
    for page in (tested, saved, site.get("/auth-objects/1"), site.get("/setup"), site.get("/auth-objects/1/delete")):
        assert site.simulator.client_secret not in page.text


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"client_secret": "11111111-2222-4333-8444-555555555555"}, "secret&#39;s ID"),
        ({"client_id": "TENANT"}, "tenant ID again"),
        ({"client_secret": "********"}, "stand for a secret"),
        ({"name": ""}, "Enter a name"),
        ({"tenant": "common"}, "no certain tenant"),
        ({"cloud": "atlantis"}, "Choose one of the clouds"),
        ({"certificate": "rubbish", "client_secret": ""}, "neither PEM"),
    ],
)
def test_an_obvious_mistake_is_told_beside_its_field(site: Site, changes: dict[str, str], words: str) -> None:
    changes = {name: site.simulator.tenant if value == "TENANT" else value for name, value in changes.items()}
    answer = site.post("/auth-objects/new", action="save", **site.object_fields(**changes))
    assert answer.status_code == 422
    assert words in answer.text and "needs attention" in answer.text
    assert re.search(r"<title>\d error", answer.text)


def test_what_pasting_adds_to_a_secret_is_taken_away(site: Site) -> None:
    secret = f"  {site.simulator.client_secret}\r\n"
    fields = site.object_fields(client_secret=secret, tenant=f" {site.simulator.tenant}\n")
    site.post("/auth-objects/new", action="save", **fields)
    assert "Mail is sent" in site.save_tested(site.graph_fields()).text


def test_a_name_is_used_once_and_the_limit_holds(make_site: Callable[..., Site]) -> None:
    site = make_site(OUTMAIL_AUTH_OBJECTS_MAX=2)
    site.post("/auth-objects/new", action="save", **site.object_fields())
    assert "already" in site.post("/auth-objects/new", action="save", **site.object_fields()).text
    site.post("/auth-objects/new", action="save", **site.object_fields(name="two"))
    assert "which is the limit" in site.get("/auth-objects/").text
    assert site.post("/auth-objects/new", action="save", **site.object_fields(name="three")).status_code == 422


def test_an_object_in_use_cannot_be_deleted_and_an_unused_one_can(site: Site) -> None:
    site.post("/auth-objects/new", action="save", **site.object_fields())
    site.save_tested(site.graph_fields())
    refused = site.post("/auth-objects/1/delete", token_from="/setup")
    assert refused.status_code == 409 and "is in use" in refused.text
    site.post("/auth-objects/new", action="save", **site.object_fields(name="spare"))
    assert "is deleted" in site.post("/auth-objects/2/delete").text


def test_a_new_secret_that_does_not_work_never_replaces_one_that_does_by_accident(site: Site) -> None:
    site.post("/auth-objects/new", action="save", **site.object_fields())
    site.save_tested(site.graph_fields())
    wrong = site.object_fields(client_secret="abc~0123456789.0123456789.0123456789abcd", version="1")
    answer = site.post("/auth-objects/1", action="save", **wrong)
    assert answer.status_code == 422 and "mail would stop" in answer.text
    assert "Microsoft does not know this secret" in answer.text
    with site.app.app_context():
        assert site.mail.send(make_message()).accepted
    anyway = site.post("/auth-objects/1", action="save_anyway", **wrong)
    assert "its mail is held" in anyway.text
    with site.app.app_context(), pytest.raises(SetupNotVerified):
        site.mail.send(make_message())
    mended = site.post("/auth-objects/1", action="save", **site.object_fields(version="2"))
    assert "was tested with the new values and works" in mended.text
    assert len(site.simulator.delivered) == 2


def test_of_two_people_who_edit_an_object_the_second_is_told(site: Site) -> None:
    site.post("/auth-objects/new", action="save", **site.object_fields())
    site.post("/auth-objects/1", action="save", **site.object_fields(name="One", client_secret="", version="1"))
    second = site.post(
        "/auth-objects/1", action="save", **site.object_fields(name="Two", client_secret="", version="1")
    )
    assert second.status_code == 409 and "anna saved a change" in second.text


# -- set-up ----------------------------------------------------------------------------------------------------------


def test_the_first_question_and_its_recommended_answer_stand_first(site: Site) -> None:
    text = site.get("/setup").text
    question = text.index("What kind of mail service are you using?")
    answers = (
        "Microsoft Office 365 Exchange (Graph) with OAuth 2.0",
        "Recommended",
        "Microsoft 365 SMTP with OAuth 2.0",
        "SMTP server",
    )
    places = [text.index(one, question) for one in answers]
    assert places == sorted(places)
    for label in (
        "Host",
        "Port",
        "TLS",
        "Username",
        "From email address",
        "From name",
        "Backend failure alerts email address",
    ):
        assert label in text


@pytest.mark.parametrize("kind", ["microsoft365_graph", "microsoft365_smtp", "smtp"])
def test_the_whole_road_without_javascript(site: Site, kind: str) -> None:
    site.post("/auth-objects/new", action="save", **site.object_fields())
    fields = site.smtp_fields() if kind == "smtp" else site.graph_fields(service=kind)
    tested = site.test({**fields, "test_message_to": "me@customers.example"})
    assert re.search(r"All \d+ steps passed", tested.text)
    assert [one.recipient for one in site.simulator.delivered] == ["me@customers.example"]
    assert site.simulator.smtp_password not in tested.text
    with engine_of(site.app).database.session() as session:
        assert session.query(Setup).count() == 0, "a test saves nothing"
    # The password field came back empty; what was just tested is remembered by its proof.
    proof = re.search(r'name="proof" value="(\w+)"', tested.text)
    assert proof
    saved = site.save({**fields, "password": "", "proof": proof[1]})
    assert "Saved. Mail is sent with these settings." in saved.text
    assert titles(site.get("/")) == ["✔ Mail is working."]
    with site.app.app_context():
        assert site.mail.send(make_message()).transport == kind


def test_saving_what_was_not_tested_holds_mail_and_says_so_and_a_test_releases_it(site: Site) -> None:
    saved = site.save(site.smtp_fields())
    assert "mail is held until a test passes" in saved.text
    with site.app.app_context(), pytest.raises(SetupNotVerified):
        site.mail.send(make_message())
    assert "Mail is held" in titles(site.get("/"))[0]
    assert "ann@customers.example" in site.get("/deliveries/").text
    tested = site.test(site.smtp_fields(password=""))
    assert "1 message that had been held: accepted" in tested.text
    assert [one.recipient for one in site.simulator.delivered] == ["ann@customers.example"]


def test_an_unproven_edit_never_replaces_a_working_setup_by_accident(site: Site) -> None:
    site.save_tested(site.smtp_fields())
    refused = site.save(site.smtp_fields(from_address="news@contoso.example"))
    assert refused.status_code == 422 and "have not passed a test" in refused.text
    draft = site.save(site.smtp_fields(from_address="news@contoso.example"), action="save_draft")
    assert "Revision 1 stays in use" in draft.text
    with site.app.app_context():
        assert site.mail.send(make_message()).accepted
    anyway = site.save(site.smtp_fields(from_address="news@contoso.example"), action="save_anyway")
    assert "mail is held" in anyway.text


def test_a_stored_password_is_kept_for_its_server_and_asked_again_for_another(site: Site) -> None:
    site.save_tested(site.smtp_fields())
    assert re.search(r"All \d+ steps", site.test(site.smtp_fields(password="")).text)
    elsewhere = site.test(site.smtp_fields(password="", host="evil.example"))
    assert elsewhere.status_code == 422 and "You changed the host. Enter the password again" in elsewhere.text
    token = re.search(r'name="csrf_token"[^>]*value="([^"]+)"', site.get("/setup").text)
    assert token
    german = site.client.post(
        "/outmail/setup/test",
        data={**site.smtp_fields(password="", port="1"), "csrf_token": token[1]},
        headers={"Accept-Language": "de"},
    )
    [line] = [json.loads(line) for line in german.text.splitlines()]
    assert line["errors"]["password"].startswith("Sie haben den Port geändert. Geben Sie das Kennwort noch einmal ein:")


def test_of_two_people_who_save_the_second_is_told_and_keeps_what_was_typed(site: Site) -> None:
    site.save(site.smtp_fields())
    second = site.post("/setup", action="save", revision="0", **site.smtp_fields(from_name="Mine"))
    assert second.status_code == 409
    assert "anna saved a change" in second.text and 'value="Mine"' in second.text


def test_what_two_people_saved_at_once_stands_side_by_side_without_a_password(site: Site) -> None:
    site.save(site.smtp_fields(from_name="Shop", port="587"))
    site.save(site.smtp_fields(from_name="Theirs", port="465"))
    mine = site.smtp_fields(from_name="Mine", port="587", password="another-secret-of-mine")
    text = site.post("/setup", action="save", revision="1", **mine).text
    table = text[text.index("om-changes") :].partition("</table>")[0]
    rows = [re.findall(r"<td[^>]*>([^<]*)</td>", row) for row in re.findall(r"<tr>(.*?)</tr>", table)[1:]]
    assert rows == [
        ["Port", "587", "465", "587"], ["Password", "set", "set", "changed"], ["From name", "Shop", "Theirs", "Mine"]
    ]  # fmt: skip
    assert "another-secret-of-mine" not in text and site.simulator.smtp_password not in text
    assert 'value="Theirs"' in site.get("/setup").text, "they are kept by opening the page again"


def test_of_two_people_who_save_the_same_nobody_has_to_compare(site: Site) -> None:
    site.save(site.smtp_fields())
    assert "It is the same as yours." in site.post("/setup", action="save", revision="0", **site.smtp_fields()).text


def test_a_revision_can_be_restored_and_used(site: Site) -> None:
    site.save_tested(site.smtp_fields())
    site.save(site.smtp_fields(from_name="Other"), action="save_draft")
    history = site.get("/history")
    assert "Revision 2" in history.text and "Revision 1" in history.text and "Other" in history.text
    restored = site.post("/history/1/restore", token_from="/history", revision="2")
    assert "is restored as revision 3" in restored.text
    with engine_of(site.app).database.session() as session:
        active = setups.active(session)
        assert active is not None and (active.revision, active.from_name) == (3, "")
    assert "is in use" in site.post("/history/2/use", token_from="/history").text


def test_a_setup_from_configuration_is_shown_locked_and_can_be_tested(make_site: Callable[..., Site]) -> None:
    site = make_site()
    locked = make_site(OUTMAIL_SETUP=graph_setup(site.simulator))
    page = locked.get("/setup")
    assert "OUTMAIL_SETUP" in page.text and "readonly" in page.text
    assert site.simulator.client_secret not in page.text
    assert "Save and start sending" not in page.text
    assert re.search(r"All \d+ steps", locked.post("/setup", action="test").text)
    assert locked.post("/setup", action="save", **locked.smtp_fields()).status_code == 409


def test_the_keys_of_flask_mail_serve_until_a_setup_is_saved(make_site: Callable[..., Site], simulator: Any) -> None:
    keys = smtp_setup(simulator)
    site = make_site(
        MAIL_SERVER=keys["host"], MAIL_PORT=keys["port"], MAIL_USE_TLS=True, MAIL_USERNAME=keys["username"],
        MAIL_PASSWORD=keys["password"], MAIL_DEFAULT_SENDER=keys["from_address"],
    )  # fmt: skip
    page = site.get("/setup")
    assert "MAIL_…" in page.text and keys["password"] not in page.text
    with site.app.app_context():
        assert site.mail.send(make_message()).accepted


def test_no_tls_with_a_password_must_be_confirmed(site: Site) -> None:
    open_fields = site.smtp_fields(tls="none", port="25")
    refused = site.save(open_fields)
    assert refused.status_code == 422 and "Without TLS the password can be read" in refused.text
    assert site.save({**open_fields, "tls_none_confirmed": "y"}).status_code == 200


def test_a_pasted_host_with_its_port_is_split(site: Site) -> None:
    fields = site.smtp_fields(host=f"{site.simulator.smtp_host}:{site.simulator.smtp_port}", port="")
    assert re.search(r"All \d+ steps", site.test(fields).text)


POISON = [
    "a\r\nBcc: evil@x.example",
    "<script>alert(1)</script>",
    "ünï ✓ 名",
    "x" * 5000,
    "' OR 1=1 --",
    "\x00",
    "{{ 7*7 }}",
]


@pytest.mark.parametrize("poison", POISON)
def test_nothing_that_can_be_typed_breaks_a_page_or_comes_back_unescaped(site: Site, poison: str) -> None:
    site.post("/auth-objects/new", action="save", **site.object_fields())
    for form, path, fields in (
        ("setup", "/setup", site.smtp_fields()),
        ("graph", "/setup", site.graph_fields()),
        ("object", "/auth-objects/new", site.object_fields(name="another")),
    ):
        for name in (*fields, "revision", "proof", "test_message_to", "version", "port", "shown_service"):
            for action in ("save", "test"):
                if action == "test" and name in ("host", "tenant", "client_secret", "password"):
                    continue
                answer = site.post(path, **{**fields, name: poison, "action": action})
                assert answer.status_code < 500, (form, name, action)
                assert "<script>alert" not in answer.text and ">49<" not in answer.text


def test_a_broken_connection_is_shown_on_every_page_until_dismissed(site: Site) -> None:
    activate(site.app, smtp_values(site.simulator), verified=True)
    site.simulator.faults.preset("smtp-auth-535")
    with site.app.app_context():
        assert not site.mail.send_many([make_message()])[0]
    for path in EVERY_PAGE[:-1]:
        assert "No working connection could carry this alert" in site.get(path).text, path
    assert "Mail has been failing since" in titles(site.get("/"))[0]
    health = json.loads(site.get("/health.json").text)
    assert health["status"] == "failing" and health["issues"][0]["code"] == "535 5.7.3"
    assert "@" not in json.dumps(health)
    assert "Dismissed" in site.post("/alerts/1/dismiss", token_from="/alerts").text
    assert "could carry this alert" not in site.get("/").text


def test_a_fault_is_over_once_what_passed_a_test_is_in_use(site: Site) -> None:
    site.save_tested(site.smtp_fields())
    site.simulator.faults.preset("smtp-auth-535")
    assert not site.mail.send_many([make_message()])[0]
    failing = "is not being accepted"
    assert failing in site.get("/").text
    mended = site.smtp_fields(from_address="news@contoso.example")
    assert failing in site.test(mended).text, "other values are not in use yet"
    assert failing not in site.save(mended).text
    assert titles(site.get("/")) == ["✔ Mail is working."]


def test_the_stream_tells_titles_then_each_step_then_the_result(site: Site) -> None:
    token = re.search(r'name="csrf_token"[^>]*value="([^"]+)"', site.get("/setup").text)
    assert token
    fields = {"csrf_token": token[1], **site.smtp_fields(password="wrong")}
    answer = site.client.post("/outmail/setup/test", data=fields)
    lines = [json.loads(line) for line in answer.text.splitlines()]
    assert answer.mimetype == "application/x-ndjson"
    assert len(lines[0]["titles"]) == len(lines) - 2
    assert [line["number"] for line in lines[1:-1]] == list(range(1, len(lines) - 1))
    assert lines[-1]["done"] and not lines[-1]["passed"]
    assert "535 5.7.3" in answer.text


def test_a_second_connection_is_set_up_on_the_same_page(site: Site) -> None:
    saved = site.save_tested(site.smtp_fields(from_name="Backup"), query="?connection=backup")
    assert "Mail is sent with these settings" in saved.text
    with site.app.app_context():
        assert site.mail.send(make_message(), via="backup").accepted
    assert site.get("/setup?connection=../evil").status_code == 404
