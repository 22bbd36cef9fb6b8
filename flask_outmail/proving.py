"""Testing a setup: the same steps from the page, the command line and `mail.diagnose()`."""

from __future__ import annotations

import ipaddress
import math
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, field, replace
from datetime import timedelta

from . import services, setups
from .current import Current
from .diagnosis import steps
from .diagnosis.domain import DomainCheck
from .diagnosis.gate import Gate
from .diagnosis.microsoft import TokenProof
from .diagnosis.remedies import remedy_for
from .diagnosis.steps import Check, Seen, Step
from .engine import BegunTest, Engine
from .envelope import Envelope
from .errors import ConfigurationError, InvalidMessage, OutmailError, SecretUnreadable, Throttled
from .headers import wire_address
from .message import Address, Message
from .models import PRIMARY, Proof, Setup, utc_now
from .outbox import lanes, roster
from .setup_values import Credential, SetupValues

MINUTE_S = 60.0


@dataclass
class Trial:
    """One test run of some values. Iterate `steps` to run it; afterwards `passed` and `proof_id` are set.

    `titles` are the names of all steps, known before the first one runs. `transcript` is what was said, as ("client" or
    "server", line), without secrets, tokens and bodies. `foreign_mailbox` is one that this application must not be able
    to send as; that is tried where it is given. `gated` is for tests that anybody who sees the page can start: they may
    not connect into private networks. `person` is whose tests are counted together, beside those of all.
    """

    engine: Engine
    values: SetupValues
    connection: str = PRIMARY
    by: str = ""
    test_message_to: str = ""
    foreign_mailbox: str = ""
    gated: bool = False
    person: str = ""
    passed: bool = False
    proof_id: str = ""
    done: list[Step] = field(default_factory=list)
    transcript: list[tuple[str, str]] = field(default_factory=list)
    _plan: services.Plan | None = None

    def __post_init__(self) -> None:
        self._checks = [Check("settings", "Settings complete", self._settings)]
        gate = _gate(self.engine) if self.gated else None
        self._environment = replace(
            self.engine.environment, gate=gate, observe=self._observe, foreign_mailbox=self.foreign_mailbox
        )
        try:
            service = services.service(self.values.service)
            self.values = service.complete(self.values, self.engine.environment)
            self._problems = service.problems(self.values, self.engine.environment)
            if not self._problems:
                self._plan = service.plan(self.values, self._environment)
        except OutmailError as exc:
            self._problems = {"service": str(exc)}
        if self._plan is not None:
            self._checks += self._plan.checks
        if self.test_message_to:
            self._checks.append(Check("message", f"Test message to {self.test_message_to}", self._message))
        if self.engine.needs_worker:
            self._checks.append(Check("worker", "A worker will use this setup", self._worker))

    @property
    def titles(self) -> list[tuple[str, str]]:
        """(key, title) of every step, in order."""
        return [(check.key, check.title) for check in self._checks]

    def steps(self) -> Iterator[Step]:
        """Runs the test, yielding each step as it ends; then records the proof. Touches the network."""
        try:
            begun = count_test(self.engine, self.person)
        except Throttled as exc:
            self.done = [Step(key="settings", title="Settings complete", state="failed", seen=str(exc),
                              code=exc.code, remedy=remedy_for(exc))]  # fmt: skip
            yield from self.done
            return
        begun.is_running = True
        try:
            with closing(self):
                for step in steps.run(self._checks):
                    self.done.append(step)
                    yield step
        finally:
            begun.is_running = False
        self.passed = steps.passed(self.done)
        self._record()
        if self.passed:
            # The transports in use may hold a token from before the repair; new ones begin with that of the test.
            self.engine.connections.look_again()

    def _observe(self, who: str, line: str) -> None:
        self.transcript.append((who, line))

    def close(self) -> None:
        if self._plan is not None:
            self._plan.close()

    def _settings(self) -> Seen:
        if self._problems:
            told = "; ".join(f"{field}: {sentence}" for field, sentence in self._problems.items())
            raise ConfigurationError(told, code="settings_incomplete")
        if self.foreign_mailbox and not any(check.key == "least_privilege" for check in self._checks):
            raise ConfigurationError("this mail service opens no other mailbox", code="foreign_mailbox_not_asked")
        own = {self.values.username.lower(), self.values.from_address.lower()}
        if self.foreign_mailbox and self.foreign_mailbox.lower() in own:
            raise ConfigurationError("the other mailbox is the one that sends", code="foreign_mailbox_own")
        return Seen(services.service(self.values.service).label)

    def _message(self) -> Seen:
        """The real thing: a message through a transport of these values, as the application would send it."""
        service = services.service(self.values.service)
        transport = services.transport_of(self.values, self._environment)
        message = Message(
            subject=f"Test message from {self.engine.app.name}",
            recipients=[self.test_message_to],
            body="This is a test of the outbound mail setup. If you can read it, mail arrives.\n",
            sender=self.values.sender,
            extra_headers={"Auto-Submitted": "auto-generated"},
        )
        self._observe("client", f"the test message to {self.test_message_to}, over a connection of its own")
        try:
            receipt = transport.deliver(Envelope.for_message(message, mailbox=service.mailbox(self.values)))
        except OutmailError as exc:
            self._observe("server", f"not accepted: {exc.code or type(exc).__name__}")
            raise
        finally:
            transport.close()
        if not receipt.accepted:
            held_back = OutmailError("held back", code="recipients_held_back")
            return Seen(f"not sent: {self.test_message_to} is not allowed here", remedy_for(held_back))
        self._observe("server", f"accepted, Message-ID {receipt.message_id}")
        took = f"{receipt.elapsed_s:.1f}"
        if receipt.request_id:
            return Seen(f"accepted in {took} s, request {receipt.request_id}")
        return Seen(f"accepted in {took} s")

    def _worker(self) -> Seen:
        """Whether some process is there that hands over what is queued, and whether it has these values."""
        engine = self.engine
        with engine.database.session() as session:
            since = utc_now() - timedelta(seconds=engine.settings.alert_worker_s)
            alive = [one for one in roster.listed(session) if one.seen_at >= since and not one.is_stopping]
            active = setups.active(session, self.connection)
            in_force = active is not None and self._is_mine(active)
        if not alive:
            return Seen("none has given a sign of life", remedy_for(OutmailError("", code="worker_not_running")))
        count = "1 worker runs" if len(alive) == 1 else f"{len(alive)} workers run"
        if active is None or not in_force:
            return Seen(f"{count}; what is saved here is taken up within seconds")
        behind = [one for one in alive if dict(one.setups or {}).get(self.connection) != active.id]
        if not behind:
            return Seen(f"{count}, with revision {active.revision}")
        told = (
            f"{count}; not with revision {active.revision} yet: {', '.join(f'{one.host} {one.pid}' for one in behind)}"
        )
        return Seen(told, remedy_for(OutmailError(told, code="worker_behind")))

    def _record(self) -> None:
        engine = self.engine
        if not engine.database:
            return
        try:
            is_configured = self._is_configured()
            with engine.database.session() as session:
                proof = setups.add_proof(
                    session,
                    self.values,
                    engine.vault,
                    passed=self.passed,
                    steps=[step.to_dict() for step in self.done],
                    by=self.by,
                    connection=self.connection,
                )
                active = setups.active(session, self.connection)
                in_force = self.passed and (is_configured or (active is not None and self._verify(active)))
                if in_force:
                    # What was kept back since the fault leaves now, and not at the end of the pause.
                    lanes.clear(session, self.connection)
                session.commit()
                self.proof_id = proof.id
        except OutmailError:
            # The test itself went as it went; only saving by this proof is not possible.
            self.proof_id = ""
            in_force = False
        if in_force:
            engine.alerting.recovered(self.connection, is_proven=True)

    def _verify(self, active: Setup) -> bool:
        """A test that passed for exactly the values in force lets the mail flow; returns whether it was those."""
        same = self._is_mine(active)
        if same:
            setups.mark_verified(active, self.values, self.engine.vault, by=self.by)
        return same

    def _is_configured(self) -> bool:
        """Whether these values are in force by the configuration."""
        try:
            current = self.engine.current(self.connection)
        except OutmailError:
            return False  # what is in force cannot be read
        if current is None or current.source == "database":
            return False
        return current.values.canonical() == self.values.canonical()

    def _is_mine(self, active: Setup) -> bool:
        """Whether these are the values of a revision, to the letter."""
        try:
            return setups.values_of(active, self.engine.vault).canonical() == self.values.canonical()
        except SecretUnreadable:
            # What is in force cannot be read any more. The test that mends it must count all the same.
            return False


def _gate(engine: Engine) -> Gate:
    """What configuration names is trusted."""
    settings, environment = engine.settings, engine.environment
    configured = [values for values, _ in settings.configured.values()]
    if settings.fallback is not None:
        configured.append(settings.fallback)
    trusted = {(cloud.smtp_host.lower(), cloud.smtp_port) for cloud in environment.clouds.values()}
    for values in configured:
        with suppress(OutmailError):  # one that is not complete names no server
            completed = services.service(values.service).complete(values, environment)
            trusted.add((completed.host.lower(), completed.port))
    loopback = ("127.0.0.0/8", "::1/128") if engine.app.debug else ()
    networks = [ipaddress.ip_network(one, strict=False) for one in (*settings.test_networks, *loopback)]
    return Gate(networks, frozenset(trusted))


def count_test(engine: Engine, person: str = "") -> BegunTest:
    """A test button must not become a way to knock on other doors, so runs are limited: in this process, and for each
    person where it is known who that is. One that takes longer than a minute, because a server lets it wait, counts
    until it ends.

    Raises:
        Throttled: there were too many in the last minute.
    """
    with engine.test_lock:
        return _count(engine, person)


def _count(engine: Engine, person: str) -> BegunTest:
    now, runs, settings = time.monotonic(), engine.test_runs, engine.settings
    runs[:] = [one for one in runs if one.is_running or now - one.at < MINUTE_S]
    own = [one for one in runs if person and one.person == person]
    for told, counted, most in (
        ("You have run", own, settings.tests_per_person),
        ("There were", runs, settings.tests_per_minute),
    ):
        if len(counted) >= most:
            wait_s = max(1, math.ceil(MINUTE_S - (now - counted[-most].at)))
            raise Throttled(
                f"{told} {_tests(len(counted))} in the last minute; the next may begin in {wait_s} s",
                code="tests_too_many",
                retry_after_s=wait_s,
            )
    begun = BegunTest(now, person)
    runs.append(begun)
    return begun


def _tests(count: int) -> str:
    return "1 test" if count == 1 else f"{count} tests"


def credential_checks(engine: Engine, credential: Credential, person: str = "") -> list[Check]:
    """How to prove a credential by itself: with it, a token can be had. What the token allows is the setup's affair.

    Raises:
        ConfigurationError: its cloud is not configured.
    """
    cloud, settings = engine.environment.cloud(credential), engine.settings
    proof = TokenProof(
        credential=credential,
        cloud=cloud,
        scope=cloud.scope,
        wanted_role="",
        timeout_s=settings.token_timeout_s,
        ca_file=settings.ca_file,
        store=engine.environment.token_store,
    )
    allowed = Check("settings", "Settings complete", lambda: _counted(engine, person))
    return [allowed, *(check for check in proof.checks() if check.key != "role")]


def _counted(engine: Engine, person: str) -> Seen:
    count_test(engine, person)
    return Seen()


def trial(
    engine: Engine, connection: str = PRIMARY, *, by: str = "", test_message_to: str = "", foreign_mailbox: str = ""
) -> Trial:
    """A test of the setup in force.

    Raises:
        ConfigurationError: there is none.
    """
    current = engine.current(connection, fresh=True)
    if current is None:
        raise ConfigurationError("no mail service is set up yet", code="setup_missing")
    return Trial(engine, current.values, connection, by, test_message_to, foreign_mailbox)


def last_proof(engine: Engine, current: Current | None) -> Proof | None:
    """The newest test of what is in force, if there was one. A test of values that are only tried is none.

    Raises:
        OutmailError: the database does not answer.
    """
    if current is None or not engine.database:
        return None
    try:
        vault = engine.vault
    except ConfigurationError:
        # Without a key no test is recorded either.
        return None
    with engine.database.session() as session:
        return setups.last_proof(session, current.connection, of=current.values, vault=vault)


def domain_check(engine: Engine, domain: str = "", connection: str = PRIMARY) -> DomainCheck:
    """The check of a domain, by default that of the From address in force, with what its mail service needs.

    Raises:
        ConfigurationError: no domain is given and nothing is set up; or it cannot be a domain's name.
    """
    current = engine.current(connection)
    service = services.service(current.values.service) if current else None
    if not domain:
        domain = Address.parse(current.values.from_address).domain if current else ""
    try:
        name = wire_address(Address("", f"x@{domain}"), "domain").rpartition("@")[2]
        Address("", f"x@{name}").check("domain")
    except InvalidMessage:
        raise ConfigurationError("there is no domain to check", code="domain_not_found") from None
    dkim = engine.settings.dkim
    own_selectors = (dkim.selector,) if dkim and dkim.domain.lower() == name.lower() else ()
    return DomainCheck(
        name.lower(),
        spf_includes=getattr(service, "spf_includes", ()),
        selectors=getattr(service, "dkim_selectors", ()) or own_selectors,
        nameservers=engine.settings.dns_servers,
    )
