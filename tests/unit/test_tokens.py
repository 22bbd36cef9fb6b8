"""Rules for tokens: one request for all who want one, renewed before it ends, and shared between processes."""

from __future__ import annotations

import json
import logging
import multiprocessing
import os
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from flask_outmail.clouds import Cloud, clouds
from flask_outmail.errors import AuthenticationFailed, ConfigurationError, Throttled
from flask_outmail.setup_values import Credential
from flask_outmail.simulator import Simulator
from flask_outmail.simulator.fault import Fault
from flask_outmail.tokens import REFUSALS_MAX, EntraTokens, Renewing


def the_cloud(simulator: Simulator) -> Cloud:
    return clouds({"simulator": simulator.cloud})["simulator"]


def the_credential(simulator: Simulator, **changes: Any) -> Credential:
    values = {
        "tenant": simulator.tenant,
        "client_id": simulator.client_id,
        "client_secret": simulator.client_secret,
        "cloud": "simulator",
        **changes,
    }
    return Credential(**values)


def source(simulator: Simulator, credential: Credential | None = None, **options: Any) -> EntraTokens:
    cloud = the_cloud(simulator)
    return EntraTokens(
        credential or the_credential(simulator),
        cloud,
        cloud.scope,
        **{"timeout_s": 5.0, "ca_file": str(simulator.ca_file), **options},
    )


def requests_made(simulator: Simulator) -> int:
    return sum(answer.method == "POST" and answer.path.endswith("/token") for answer in simulator.answers)


def wait_until(what: Callable[[], bool], within_s: float = 10.0) -> None:
    deadline = time.monotonic() + within_s
    while not what():
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.01)


@dataclass
class Clock:
    """A clock that the test advances; both kinds of it."""

    elapsed_s: float = 1000.0
    jumped_s: float = 0.0

    def monotonic(self) -> float:
        return self.elapsed_s

    def time_of_day(self) -> float:
        return 1.8e9 + self.elapsed_s + self.jumped_s

    @property
    def options(self) -> dict[str, Any]:
        return {"clock": self.monotonic, "now": self.time_of_day, "dice": lambda: 0.5}


@dataclass
class Shelf:
    """A store in memory: what a database does, without one."""

    kept: dict[str, str] = field(default_factory=dict)
    claims: set[str] = field(default_factory=set)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def load(self, key: str) -> str | None:
        return self.kept.get(key)

    def save(self, key: str, text: str, seconds: float) -> None:
        self.kept[key] = text
        self.claims.discard(key)

    def claim(self, key: str, seconds: float) -> bool:
        with self.lock:
            if key in self.claims:
                return False
            self.claims.add(key)
            return True

    def release(self, key: str) -> None:
        self.claims.discard(key)


class Broken:
    """A store that fails at everything."""

    def __getattr__(self, name: str) -> Any:
        def fail(*_: Any) -> Any:
            raise OSError("disk on fire: token eyJhbGciOi")

        return fail


# -- one request ------------------------------------------------------------------------------------------------------


def test_fifty_threads_cause_exactly_one_request(simulator: Simulator) -> None:
    tokens = source(simulator)
    simulator.faults.add(Fault(endpoint="token", delay_s=0.3))
    start = threading.Barrier(50)

    def want(_: int) -> set[str]:
        start.wait()
        return {tokens.token() for _ in range(20)}

    with ThreadPoolExecutor(50) as pool:
        seen = set().union(*pool.map(want, range(50)))
    assert (len(seen), requests_made(simulator)) == (1, 1)


def test_of_twenty_threads_that_were_refused_the_same_token_one_renews_it(simulator: Simulator) -> None:
    tokens = source(simulator)
    old = tokens.token()
    simulator.faults.add(Fault(endpoint="token", delay_s=0.2))
    start = threading.Barrier(20)

    def renew(_: int) -> str:
        start.wait()
        return tokens.token(refused=old)

    with ThreadPoolExecutor(20) as pool:
        seen = set(pool.map(renew, range(20)))
    assert len(seen) == 1 and old not in seen
    assert requests_made(simulator) == 2
    # One who comes late with the old refusal gets what is there already.
    assert {tokens.token(refused=old)} == seen
    assert requests_made(simulator) == 2


def test_a_failure_is_shared_by_all_who_waited_for_it(simulator: Simulator) -> None:
    tokens = source(simulator)
    simulator.faults.preset("token-700016")
    simulator.faults.add(Fault(endpoint="discovery", delay_s=0.3))
    start = threading.Barrier(10)

    def want(_: int) -> Exception | str:
        start.wait()
        try:
            return tokens.token()
        except AuthenticationFailed as exc:
            return exc

    with ThreadPoolExecutor(10) as pool:
        seen = list(pool.map(want, range(10)))
    assert {getattr(one, "code", one) for one in seen} == {"AADSTS700016"}
    assert len({id(one) for one in seen}) == 10, "one exception object must not be raised in several threads"
    assert requests_made(simulator) == 1


def test_a_server_that_refuses_every_token_does_not_cause_a_request_for_each_message(simulator: Simulator) -> None:
    tokens = source(simulator)
    current = tokens.token()
    for _ in range(30):
        current = tokens.token(refused=current)
    assert requests_made(simulator) == 1 + REFUSALS_MAX


def test_mail_that_goes_on_coming_does_not_flood_an_entra_that_refuses(simulator: Simulator) -> None:
    clock = Clock()
    tokens = source(simulator, the_credential(simulator, client_secret="wrong"), **clock.options)
    for _ in range(50):
        with pytest.raises(AuthenticationFailed):
            tokens.token()
    few = requests_made(simulator)
    assert few <= 3
    clock.elapsed_s += 60
    with pytest.raises(AuthenticationFailed):
        tokens.token()
    assert requests_made(simulator) == few + 1


def test_entra_is_not_asked_again_before_the_time_it_named(simulator: Simulator) -> None:
    clock = Clock()
    tokens = source(simulator, **clock.options)
    simulator.faults.add(Fault(endpoint="token", status=429, retry_after=20))
    for _ in range(5):
        with pytest.raises(Throttled) as caught:
            tokens.token()
        assert caught.value.retry_after_s == 20
    assert requests_made(simulator) == 1
    clock.elapsed_s += 21
    assert tokens.token()


def test_a_test_of_the_setup_is_not_fooled_by_what_was_refused_a_moment_ago(simulator: Simulator) -> None:
    """A new source asks Entra itself: neither we nor MSAL repeat a refusal to it."""
    simulator.faults.add(
        Fault(endpoint="token", status=400, error="invalid_request", code=90002, message="no such tenant")
    )
    with pytest.raises(AuthenticationFailed):
        source(simulator).token()
    assert source(simulator).token()
    assert requests_made(simulator) == 2


# -- the life of a token ----------------------------------------------------------------------------------------------


def test_a_token_is_kept_until_shortly_before_its_end(simulator: Simulator) -> None:
    clock = Clock()
    tokens = source(simulator, **clock.options)
    first = tokens.token()
    clock.elapsed_s += 0.79 * 3599
    assert tokens.token() == first
    assert requests_made(simulator) == 1
    clock.elapsed_s += 3599
    assert tokens.token() != first


def test_a_token_is_renewed_while_the_old_one_still_serves(simulator: Simulator) -> None:
    clock = Clock()
    tokens = source(simulator, **clock.options)
    first = tokens.token()
    clock.elapsed_s += 0.81 * 3599
    assert tokens.token() == first, "nobody waits for an early renewal"
    wait_until(lambda: tokens.token() != first)
    assert requests_made(simulator) == 2


def test_an_early_renewal_that_fails_keeps_the_old_token_and_is_tried_again_later(simulator: Simulator) -> None:
    clock = Clock()
    tokens = source(simulator, **clock.options)
    first = tokens.token()
    clock.elapsed_s += 0.81 * 3599
    simulator.faults.preset("token-503-json")
    assert tokens.token() == first
    wait_until(lambda: not tokens._is_renewing)
    assert [tokens.token() for _ in range(10)] == [first] * 10
    assert requests_made(simulator) == 2
    clock.elapsed_s += 150
    assert tokens.token() == first
    wait_until(lambda: tokens.token() != first)


def test_what_entra_says_about_renewing_counts(simulator: Simulator) -> None:
    clock = Clock()
    simulator.behaviour.token_refresh_in_s = 600
    tokens = source(simulator, **clock.options)
    first = tokens.token()
    clock.elapsed_s += 900
    assert tokens.token() == first
    wait_until(lambda: tokens.token() != first)


def test_a_short_lived_token_is_kept_too(simulator: Simulator) -> None:
    """MSAL alone would ask for each call where a policy gives tokens five minutes."""
    simulator.behaviour.token_lifetime_s = 300
    tokens = source(simulator)
    assert len({tokens.token() for _ in range(10)}) == 1
    assert requests_made(simulator) == 1


def test_a_machine_whose_clock_is_wrong_keeps_its_tokens(simulator: Simulator) -> None:
    clock = Clock(jumped_s=-86400.0 * 400)
    tokens = source(simulator, **clock.options)
    first = tokens.token()
    clock.jumped_s = 7200.0
    clock.elapsed_s += 60
    assert tokens.token() == first


# -- fork -------------------------------------------------------------------------------------------------------------


def test_a_lock_held_in_the_parent_does_not_stop_the_child(simulator: Simulator) -> None:
    """A fork while a request is under way: the thread that would end it does not exist in the child."""
    tokens = source(simulator)
    simulator.faults.add(Fault(endpoint="token", delay_s=1.5))
    asking = threading.Thread(target=tokens.token)
    asking.start()
    wait_until(lambda: tokens._flight is not None)
    tokens._lock.acquire()
    try:
        child = multiprocessing.get_context("fork").Process(target=_token_in_child, args=(tokens,))
        child.start()
    finally:
        tokens._lock.release()
    child.join(10)
    if child.exitcode is None:
        child.kill()
    asking.join()
    assert child.exitcode == 0


def _token_in_child(tokens: EntraTokens) -> None:
    os._exit(0 if tokens.token() else 1)


def test_a_child_goes_on_with_the_token_of_its_parent(simulator: Simulator) -> None:
    tokens = source(simulator)
    tokens.token()
    child = multiprocessing.get_context("fork").Process(target=_token_in_child, args=(tokens,))
    child.start()
    child.join(10)
    assert child.exitcode == 0
    assert requests_made(simulator) == 1


# -- sharing ----------------------------------------------------------------------------------------------------------


def test_sources_that_share_a_store_ask_once(simulator: Simulator) -> None:
    shelf = Shelf()
    simulator.faults.add(Fault(endpoint="token", delay_s=0.3))
    with ThreadPoolExecutor(8) as pool:
        seen = set(pool.map(lambda _: source(simulator, store=shelf).token(), range(8)))
    assert (len(seen), requests_made(simulator)) == (1, 1)


def test_another_credential_has_another_token(simulator: Simulator) -> None:
    """A replaced secret must show at once; and nobody gets the token of another application."""
    shelf = Shelf()
    first = source(simulator, store=shelf).token()
    other = simulator.add_app(name="another").client_id
    with pytest.raises(AuthenticationFailed):
        source(simulator, the_credential(simulator, client_id=other), store=shelf).token()
    with pytest.raises(AuthenticationFailed):
        source(simulator, the_credential(simulator, client_secret="wrong"), store=shelf).token()
    assert source(simulator, store=shelf).token() == first


def test_a_key_of_the_store_does_not_contain_the_secret(simulator: Simulator) -> None:
    shelf = Shelf()
    source(simulator, store=shelf).token()
    [key] = shelf.kept
    assert simulator.client_secret not in key and len(key) == 64


def test_a_token_that_one_process_renewed_serves_the_others(simulator: Simulator) -> None:
    shelf = Shelf()
    one, two = source(simulator, store=shelf), source(simulator, store=shelf)
    old = one.token()
    assert two.token() == old
    new = one.token(refused=old)
    assert two.token(refused=old) == new
    assert requests_made(simulator) == 2


def test_an_early_renewal_takes_what_another_process_has_brought(simulator: Simulator) -> None:
    shelf, clock = Shelf(), Clock()
    one, two = (source(simulator, store=shelf, **clock.options) for _ in range(2))
    old = one.token()
    assert two.token() == old
    clock.elapsed_s += 0.81 * 3599
    one.token()
    wait_until(lambda: one.token() != old)
    two.token()
    wait_until(lambda: two.token() != old)
    assert one.token() == two.token()
    assert requests_made(simulator) == 2


def test_a_store_that_fails_costs_nothing_but_the_sharing(
    simulator: Simulator, caplog: pytest.LogCaptureFixture
) -> None:
    tokens = source(simulator, store=Broken())
    with caplog.at_level(logging.DEBUG, logger="flask_outmail"):
        assert tokens.token() and tokens.token()
    assert requests_made(simulator) == 1
    assert "the store failed" in caplog.text and "eyJ" not in caplog.text


@pytest.mark.parametrize("kept", ["", "[]", "{}", '"x"', '{"token": 1}', "\x00", '{"token": "t", "issued_on": "x"}'])
def test_what_is_damaged_in_the_store_is_asked_for_again(simulator: Simulator, kept: str) -> None:
    shelf = Shelf()
    good = source(simulator, store=shelf).token()
    [key] = shelf.kept
    shelf.kept[key] = kept
    assert source(simulator, store=shelf).token() not in ("", good)


def test_a_process_that_died_while_asking_does_not_hold_up_the_others(simulator: Simulator) -> None:
    shelf, clock = Shelf(), Clock()
    source(simulator, store=shelf).token()
    [key] = shelf.kept
    shelf.kept.clear()
    shelf.claims.add(key)

    def passing() -> float:
        clock.elapsed_s += 0.5
        return clock.elapsed_s

    assert source(simulator, store=shelf, clock=passing).token()


def test_a_clock_set_back_makes_no_token_younger_than_now(simulator: Simulator) -> None:
    shelf, clock = Shelf(), Clock()
    first = source(simulator, store=shelf, **clock.options).token()
    clock.jumped_s = -7200.0
    other = source(simulator, store=shelf, **clock.options)
    assert other.token() == first
    clock.elapsed_s += 3599
    assert other.token() != first


def test_a_test_replaces_the_token_that_others_use(simulator: Simulator) -> None:
    """It shows the permissions of now; the next message must not go out with those of an hour ago."""
    shelf = Shelf()
    old = source(simulator, store=shelf).token()
    tested = source(simulator, store=Renewing(shelf)).token()
    assert tested != old
    assert source(simulator, store=shelf).token() == tested


def test_where_all_tokens_were_revoked_the_first_message_hears_why_there_is_no_other(
    simulator: Simulator, request: pytest.FixtureRequest
) -> None:
    """Not that Graph refused an older one, which another process or a check had left in the store."""
    shelf = Shelf()
    tokens = source(simulator, store=shelf, now=lambda: time.time() + 120)
    own = tokens.token()
    left = source(simulator, store=Renewing(shelf)).token()
    assert left != own
    application = simulator.state.apps()[0]
    application.secret_expired = True
    request.addfinalizer(lambda: setattr(application, "secret_expired", False))
    simulator.expire_tokens()
    with pytest.raises(AuthenticationFailed) as caught:
        tokens.token(refused=own)
    assert caught.value.code == "AADSTS7000222"


# -- in the database --------------------------------------------------------------------------------------------------

_PROGRAM = """
import json, sys
from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from flask_outmail import Mail, Message

config = json.loads(sys.stdin.readline())
app = Flask("shop")
app.config.update(config)
mail = Mail(app, SQLAlchemy(app))
with app.app_context():
    sys.stdin.readline()
    for _ in range(3):
        mail.send(Message(subject="Order", recipients=["ann@customers.example"], body="Thanks"))
"""


def test_processes_that_share_a_database_ask_once(simulator: Simulator, make_app: Any, tmp_path: Path) -> None:
    from ..conftest import graph_setup, world

    app, _ = make_app(graph_setup(simulator), db=True)
    config = {
        **world(simulator),
        "OUTMAIL_SETUP": graph_setup(simulator),
        "SQLALCHEMY_DATABASE_URI": app.config["SQLALCHEMY_DATABASE_URI"],
    }
    simulator.faults.add(Fault(endpoint="token", delay_s=0.4))
    with_pipes = {"stdin": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    processes = [subprocess.Popen([sys.executable, "-c", _PROGRAM], **with_pipes) for _ in range(3)]  # type: ignore[call-overload]
    for process in processes:
        process.stdin.write(json.dumps(config) + "\n")
        process.stdin.flush()
    for process in processes:
        _, errors = process.communicate("go\n", timeout=60)
        assert process.returncode == 0, errors
    assert len(simulator.wait_for(9)) == 9
    assert requests_made(simulator) == 1


def test_a_token_is_never_readable_in_the_database(simulator: Simulator, make_app: Any, tmp_path: Path) -> None:
    from ..conftest import engine_of, graph_setup, make_message

    app, mail = make_app(graph_setup(simulator), db=True)
    mail.send(make_message())
    current = engine_of(app).current()
    assert current is not None
    token = current.transport.settings.tokens.token()  # type: ignore[attr-defined]
    with closing(sqlite3.connect(tmp_path / "shop.sqlite")) as connection:
        [(row_id, sealed, expires_at)] = connection.execute(
            "SELECT id, token_sealed, expires_at FROM outmail_tokens"
        ).fetchall()
    raw = (tmp_path / "shop.sqlite").read_bytes()
    assert sealed and expires_at and len(row_id) == 64
    for secret in (token, token.split(".")[1], simulator.client_secret, current.transport.settings.tokens._key):  # type: ignore[attr-defined]
        assert secret.encode() not in raw


def test_a_write_lock_of_the_request_itself_does_not_hold_up_the_mail(
    simulator: Simulator, make_app: Any, tmp_path: Path
) -> None:
    """On SQLite the request that sends may hold the only write lock; it must not wait for itself."""
    from ..conftest import graph_setup, make_message

    _, mail = make_app(graph_setup(simulator), db=True, SQLALCHEMY_ENGINE_OPTIONS={"connect_args": {"timeout": 60}})
    locker = sqlite3.connect(tmp_path / "shop.sqlite", isolation_level=None)
    locker.execute("BEGIN IMMEDIATE")
    try:
        assert mail.send(make_message()).accepted
        assert mail.send(make_message()).accepted
    finally:
        locker.execute("ROLLBACK")
        locker.close()
    assert requests_made(simulator) == 1


def test_without_the_tables_each_process_has_its_own_token(simulator: Simulator, make_app: Any) -> None:
    from ..conftest import engine_of, graph_setup, make_message

    app, mail = make_app(graph_setup(simulator), db=True)
    with engine_of(app).database.session() as session:
        session.connection().exec_driver_sql("DROP TABLE outmail_tokens")
        session.commit()
    assert mail.send(make_message()).accepted and mail.send(make_message()).accepted
    assert requests_made(simulator) == 1


_FORKING = """
import json, os, sys
from flask import Flask
from flask_outmail import Mail, Message

app = Flask("shop")
app.config.update(json.loads(sys.stdin.readline()))
mail = Mail(app)
with app.app_context():
    mail.send(Message(subject="Order", recipients=["ann@customers.example"], body="Thanks"))
    if child := os.fork():
        sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    mail.send(Message(subject="Order", recipients=["ann@customers.example"], body="Thanks"))
"""


def test_workers_forked_after_the_first_mail_go_on_with_its_token(simulator: Simulator) -> None:
    """Without a database too, although each process has connections of its own."""
    from ..conftest import graph_setup, world

    config = {**world(simulator), "OUTMAIL_SETUP": graph_setup(simulator)}
    done = subprocess.run(
        [sys.executable, "-c", _FORKING], input=json.dumps(config) + "\n", capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert len(simulator.wait_for(2)) == 2
    assert requests_made(simulator) == 1


def test_a_test_that_passed_gives_its_token_to_the_mail_that_follows(simulator: Simulator, make_app: Any) -> None:
    """Consent was given in the meantime: the token of before would still be without the permission."""
    from ..conftest import graph_setup, make_message

    app = simulator.add_app(name="consented late", roles=())
    _, mail = make_app(graph_setup(simulator, client_id=app.client_id, client_secret=app.secret))
    with pytest.raises(AuthenticationFailed):
        mail.send(make_message())
    app.roles = frozenset({"Mail.Send"})
    assert all(step.state == "passed" for step in mail.diagnose())
    assert mail.send(make_message()).accepted


@pytest.mark.parametrize(
    ("entry", "code"),
    [
        ({"grahp": "https://graph.example"}, "config_unknown"),
        ({"authority": "http://login.example"}, "config_invalid"),
        ({"graph": "https://user@graph.example"}, "config_invalid"),
        ({"uploads": "yes"}, "config_invalid"),
        ({"smtp_port": "smtp"}, "config_invalid"),
    ],
)
def test_a_cloud_that_cannot_be_meant_is_refused_by_its_name(entry: dict[str, Any], code: str) -> None:
    sound = {"authority": "https://login.example", "graph": "https://graph.example"}
    assert clouds({"mine": sound})["mine"].scope == "https://graph.example/.default"
    with pytest.raises(ConfigurationError, match=r"^OUTMAIL_CLOUDS\['mine'\]") as caught:
        clouds({"mine": {**sound, **entry}})
    assert caught.value.code == code
