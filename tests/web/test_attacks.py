"""What somebody could try on the set-up pages, or through a server that they talk to."""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import event

from flask_outmail import auth_objects, entra, setups
from flask_outmail.auth_objects import InUse
from flask_outmail.diagnosis.microsoft import certificate_seen
from flask_outmail.errors import Throttled
from flask_outmail.models import AuthObject, Proof, utc_now
from flask_outmail.proving import Trial, count_test
from flask_outmail.setup_values import FEDERATED, SetupValues
from flask_outmail.simulator import Simulator

from ..conftest import make_message
from ..smtp.scripted import Server, Talk
from .conftest import Site, engine_of

if TYPE_CHECKING:
    from playwright.sync_api import Page

LOOPBACK = {"OUTMAIL_TEST_NETWORKS": ["127.0.0.0/8"]}
MARKUP = "<img src=x onerror=alert(1)><script>alert(2)</script>"
#: A terminal would take the first two for a command, a browser would turn the line round at the third.
NO_TEXT = ("\x1b", "\x07", "\u202e")
POISON = f"{MARKUP}\x1b]0;owned\x07\u202e\"'"
MakeSite = Callable[..., Site]


def poisoned_server() -> Server:
    """Says it wherever a server can say something."""

    def refuse(talk: Talk, said: str) -> bool:
        talk.say(f"535 5.7.8 {POISON} you said {said}")
        return True

    return Server(offers=("AUTH PLAIN <b>LOGIN</b>", POISON), hooks={"AUTH": refuse})


def at(server: Server, site: Site, **changes: Any) -> dict[str, Any]:
    where = {"host": "127.0.0.1", "port": str(server.port), "tls": "none", "tls_none_confirmed": "y"}
    return site.smtp_fields(**where, password="correct-horse~17", **changes)


def assert_harmless(text: str) -> None:
    assert "<img src=x" not in text and "<script>alert" not in text
    assert not any(one in text for one in NO_TEXT)


# -- what a server says ----------------------------------------------------------------------------------------------


def test_what_a_mail_server_says_is_text_and_no_markup_and_obeyed_by_no_terminal(make_site: MakeSite) -> None:
    site = make_site(**LOOPBACK)
    with poisoned_server() as server:
        page = site.test(at(server, site))
        assert "&lt;img src=x" in page.text, "it is shown, as text"
        assert_harmless(page.text)
        site.save(at(server, site), action="save")
        printed = site.app.test_cli_runner().invoke(args=["outmail", "test", "--transcript"]).output
    assert MARKUP in printed and not any(one in printed for one in NO_TEXT)
    assert "correct-horse" not in printed + page.text, "a server that quotes the password does not make us show it"


def test_what_graph_and_entra_say_is_text_and_without_the_token_or_secret_that_they_quote(site: Site) -> None:
    sim = site.simulator
    site.post("/auth-objects/new", action="save", **site.object_fields())
    sim.faults.refuse("token", 401, "7000215", f"{POISON} {sim.client_secret}", error="invalid_client")
    page = site.test(site.graph_fields())
    assert_harmless(page.text)
    assert "Microsoft does not know this secret" in page.text and sim.client_secret not in page.text
    for code in ("ErrorAccessDenied", POISON * 40):
        sim.faults.refuse("sendMail", 403, code, POISON, headers={"request-id": MARKUP + "x" * 4000})
        page = site.test(site.graph_fields())
        assert "did not pass" in page.text
        assert_harmless(page.text)
        assert "x" * 200 not in page.text, "no more of it is kept than a person reads"


@pytest.mark.browser
def test_nothing_that_a_server_says_runs_in_the_browser(
    make_site: MakeSite, serve: Callable[[Site], str], open_page: Callable[..., Page]
) -> None:
    site = make_site(**LOOPBACK)
    # Without the policy, so that it is the escaping that is tried and not the second line of defence.
    site.app.after_request(lambda response: response.headers.remove("Content-Security-Policy") or response)
    page = open_page()
    ran: list[str] = []
    page.on("dialog", lambda dialog: (ran.append(dialog.message), dialog.dismiss()))
    with poisoned_server() as server:
        page.goto(f"{serve(site)}/setup")
        page.check("input[name=service][value=smtp]")
        fields = at(server, site)
        for name in ("host", "port", "username", "password", "from_address"):
            page.fill(f"#{name}", fields[name])
        page.check("input[name=tls][value=none]")
        page.click("[data-test]")
        page.wait_for_selector("#tls-live-error, #tls-error")
        page.evaluate("document.querySelector('#om-setup').insertAdjacentHTML('beforeend',"
                      " '<input name=tls_none_confirmed value=y>')")  # fmt: skip
        page.click("[data-test]")
        page.wait_for_selector(".om-is-failed")
        page.wait_for_selector(".om-verdict")
    assert ran == []
    assert page.locator("main img, main script, main b").count() == 0
    assert MARKUP in page.inner_text(".om-is-failed")


def test_the_names_in_a_certificate_are_text() -> None:
    issuer = ((("organizationName", f"Evil\x1b[31m{MARKUP}"),),)
    assert "\x1b" not in certificate_seen({"issuer": issuer, "notAfter": "Jan  1 00:00:00 2099 GMT"}).text


def test_the_subject_of_a_certificate_made_here_is_text(site: Site) -> None:
    fields = site.object_fields(name=f"{MARKUP}", client_secret="", expires_on="", secret_kind="made")
    site.post("/auth-objects/new", action="save", **fields)
    page = site.get("/auth-objects/1").text
    assert "CN=\\&lt;img" in page
    assert_harmless(page)


# -- where the test button may connect -------------------------------------------------------------------------------


@contextmanager
def listening(port: int = 0) -> Iterator[tuple[int, list[Any]]]:
    """Something that listens on this machine: its port, and who came."""
    with socket.create_server(("127.0.0.1", port)) as server:
        came: list[Any] = []

        def serve() -> None:
            with suppress(OSError):
                while True:
                    client, address = server.accept()
                    came.append(address)
                    client.close()

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield server.getsockname()[1], came
        server.shutdown(socket.SHUT_RDWR)
        thread.join(5)


def test_this_machine_is_not_reached_in_whatever_way_it_is_written(site: Site) -> None:
    with listening() as (port, came):
        for host in (
            "127.0.0.1", "localhost", "127.1", "2130706433", "0x7f000001", "0177.0.0.1", "0", "127.0.0.1.",
            "::ffff:127.0.0.1", "::1", "[::1]", "::", "64:ff9b::7f00:1",
        ):  # fmt: skip
            assert "steps passed" not in site.test(site.smtp_fields(host=host, port=str(port))).text, host
            assert came == [], host


@pytest.fixture
def resolver(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[str]]:
    """A name server of an attacker's: the answers to a name, one after the other, the last one for ever."""
    answers: dict[str, list[str]] = {}
    ask = socket.getaddrinfo

    def answered(host: Any, *args: Any, **kwargs: Any) -> Any:
        name = host.decode() if isinstance(host, bytes) else host
        if name not in answers:
            return ask(host, *args, **kwargs)
        found = answers[name]
        return ask(found.pop(0) if len(found) > 1 else found[0], *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", answered)
    return answers


def test_a_name_is_looked_up_once_and_all_of_the_test_speaks_to_that_address(
    make_site: MakeSite, resolver: dict[str, list[str]]
) -> None:
    site = make_site(OUTMAIL_TEST_NETWORKS=["127.0.0.2/32"])
    with Server(address="127.0.0.2") as server, listening(server.port) as (port, came):
        resolver["mail.rebind.example"] = ["127.0.0.2", "127.0.0.1"]
        plain = {"tls": "none", "username": "", "password": ""}
        fields = site.smtp_fields(host="mail.rebind.example", port=str(port), **plain)
        assert "steps passed" in site.test({**fields, "test_message_to": "me@customers.example"}).text
        assert len(server.accepted) == 1
        # Whoever runs the name server of a host that carries mail already can point it inside later.
        assert "Mail is sent with these settings" in site.save(fields).text
        assert "This server is in a private network" in site.test(fields).text
    assert came == []


# -- a proof that is no longer one -----------------------------------------------------------------------------------


def test_a_test_in_one_tab_proves_nothing_after_the_credential_was_changed_in_another(site: Site) -> None:
    site.post("/auth-objects/new", action="save", **site.object_fields())
    assert "steps passed" in site.test(site.graph_fields()).text
    other = site.object_fields(client_secret="another~secret-0123456789.abcdefghij", version="1")
    site.post("/auth-objects/1", action="save", **other)
    assert "mail is held until a test passes" in site.save(site.graph_fields()).text


def test_a_test_that_was_long_ago_proves_nothing(site: Site) -> None:
    site.test(site.smtp_fields())
    with engine_of(site.app).database.session() as session:
        session.query(Proof).update({"created_at": utc_now() - timedelta(hours=2)})
        session.commit()
    assert "mail is held until a test passes" in site.save(site.smtp_fields()).text


def test_what_is_saved_while_a_credential_is_tried_is_not_taken_for_tried(site: Site) -> None:
    """The token function is where the test waits; meanwhile somebody puts another revision into use."""
    found, called = engine_of(site.app), []

    def late() -> str:
        called.append(1)
        if len(called) == 1:
            with found.database.session() as session:
                now = setups.active(session)
                assert now is not None
                values = setups.values_of(now, found.vault)
                other = setups.save(session, replace(values, username="retired@contoso.example"), found.vault,
                                    by="boris", seen_revision=now.revision, auth_object=now.auth_object)  # fmt: skip
                setups.activate(other, by="boris")
                session.commit()
        return site.simulator.outside_token()

    entra.register_token_function("early", site.simulator.outside_token)
    entra.register_token_function("late", late)
    try:
        fields = site.object_fields(client_secret="", expires_on="", provider=FEDERATED, token_function="early")
        site.post("/auth-objects/new", action="save", **fields)
        site.save_tested(site.graph_fields())
        page = site.post("/auth-objects/1", action="save", **{**fields, "token_function": "late", "version": "1"})
        assert called and "is not proven with the new values: its mail is held" in page.text
        assert found.current(fresh=True).verified is False  # type: ignore[union-attr]
    finally:
        entra._functions.clear()


# -- passwords and tokens --------------------------------------------------------------------------------------------


def test_a_stored_password_is_not_sent_in_the_clear_because_somebody_switches_tls_off(site: Site) -> None:
    site.save_tested(site.smtp_fields())
    tested = re.search(r'name="proof" value="([0-9a-f]{32})"', site.test(site.smtp_fields(password="")).text)
    assert tested
    for proof in ("", tested[1]):
        off = site.smtp_fields(password="", tls="none", tls_none_confirmed="y", proof=proof)
        for action in ("test", "save"):
            page = site.save(off, action=action)
            assert page.status_code == 422 and "Enter the password again" in page.text


def test_a_token_goes_to_no_host_that_was_typed_where_its_cloud_has_none(
    make_site: MakeSite, simulator: Simulator
) -> None:
    cloud = {**simulator.cloud, "smtp_host": ""}
    site = make_site(OUTMAIL_CLOUDS={"simulator": cloud}, **LOOPBACK)
    site.post("/auth-objects/new", action="save", **site.object_fields())
    with listening() as (port, came):
        typed = site.graph_fields(service="microsoft365_smtp", host="127.0.0.1", port=str(port))
        assert "This cloud has no SMTP" in site.test(typed).text
    assert came == []


# -- replacing a secret ----------------------------------------------------------------------------------------------


@pytest.fixture
def replaced(site: Site) -> tuple[Site, Any, str]:
    """A setup in use whose secret was replaced: the site, its application, and the new secret."""
    application = site.simulator.add_app(name=f"replaced for {id(site)}")
    fields = site.object_fields(client_id=application.client_id, client_secret=application.secret)
    site.post("/auth-objects/new", action="save", **fields)
    site.save_tested(site.graph_fields())
    new = site.simulator.add_secret(application.client_id)
    site.post("/auth-objects/1/secret", action="switch", version="1", secret_kind="secret", client_secret=new)
    return site, application, new


def test_a_second_press_of_the_button_changes_nothing_and_is_no_conflict(replaced: tuple[Site, Any, str]) -> None:
    site, _, new = replaced
    twice = site.post("/auth-objects/1/secret", action="switch", version="1", secret_kind="secret", client_secret=new)
    assert twice.status_code == 200 and "This was done already" in twice.text
    undone = site.post("/auth-objects/1/secret/undo", token_from="/auth-objects/1", version="2")
    assert "is in use again" in undone.text, "the one before is still the first one"
    again = site.post("/auth-objects/1/secret/undo", token_from="/auth-objects/1", version="2")
    assert again.status_code == 409, "a second press does not turn it round once more"


def test_undoing_to_a_secret_that_was_removed_at_microsoft_meanwhile_is_told_first(
    replaced: tuple[Site, Any, str],
) -> None:
    site, application, _ = replaced
    application.secret_expired = True
    page = site.post("/auth-objects/1/secret/undo", token_from="/auth-objects/1", version="2")
    assert page.status_code == 422 and "does not take the one before any more" in page.text
    assert "The client secret has expired" in page.text
    assert site.mail.send(make_message()).accepted
    insisted = site.post("/auth-objects/1/secret/undo", token_from="/auth-objects/1", version="2", action="anyway")
    assert "is in use again" in insisted.text
    assert site.mail.send(make_message()).accepted, "the other serves beside it"


def test_an_object_that_somebody_chooses_while_it_is_deleted_stays(site: Site) -> None:
    site.post("/auth-objects/new", action="save", **site.object_fields())
    found, chosen = engine_of(site.app), []

    def choose(state: Any) -> None:
        if state.is_update and not chosen:
            chosen.append(1)
            site.save(site.graph_fields())

    with found.database.session() as session:
        event.listen(session, "do_orm_execute", choose)
        with pytest.raises(InUse):
            auth_objects.delete(session, session.get_one(AuthObject, 1))
        session.commit()
    with found.database.session() as session:
        now = setups.active(session)
        assert chosen and now is not None and now.auth_object_id == 1
        assert session.get(AuthObject, 1) is not None


# -- too many --------------------------------------------------------------------------------------------------------


def test_of_a_thousand_tests_at_once_only_so_many_run(make_site: MakeSite) -> None:
    engine = engine_of(make_site(OUTMAIL_TESTS_PER_MINUTE=20, OUTMAIL_TESTS_PER_PERSON=5).app)
    ready = threading.Barrier(50)

    def press(number: int) -> bool:
        if number < 50:
            ready.wait(10)
        try:
            count_test(engine, f"person {number % 10}")
        except Throttled:
            return False
        return True

    with ThreadPoolExecutor(50) as pool:
        assert sum(pool.map(press, range(1000))) == 20


def test_a_test_that_a_server_lets_wait_counts_until_it_ends(make_site: MakeSite) -> None:
    site = make_site(OUTMAIL_TESTS_PER_PERSON=1)
    engine = engine_of(site.app)
    running = Trial(engine, SetupValues(service="smtp", host="mail.example.com"), person="anna").steps()
    next(running)
    engine.test_runs[0].at -= 3600
    with pytest.raises(Throttled, match="You have run 1 test"):
        count_test(engine, "anna")
    running.close()
    count_test(engine, "anna")


@pytest.mark.browser
def test_a_cancelled_test_ends_with_the_step_it_is_in_and_sends_nothing(
    site: Site, served: str, open_page: Callable[..., Page]
) -> None:
    sim, page = site.simulator, open_page()
    page.goto(f"{served}/setup")
    page.check("input[name=service][value=smtp]")
    for name in ("host", "port", "username", "password", "from_address"):
        page.fill(f"#{name}", site.smtp_fields()[name])
    page.fill("#test_message_to", "me@customers.example")
    sim.faults.hang("smtp.mail", 0.5)
    page.click("[data-test]")
    page.locator(".om-is-passed >> nth=5").wait_for()
    page.click("[data-cancel]")
    page.wait_for_selector("text=nothing counts as proven")
    for _ in range(200):
        if any(answer.method == "QUIT" for answer in sim.answers):
            break
        page.wait_for_timeout(50)
    assert "RCPT" not in [answer.method for answer in sim.answers] and sim.delivered == []
    with engine_of(site.app).database.session() as session:
        assert session.query(Proof).count() == 0
    assert "mail is held until a test passes" in site.save(site.smtp_fields()).text
