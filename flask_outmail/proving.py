"""Testing a setup: the same steps from the page, the command line and `mail.diagnose()`."""

from __future__ import annotations

import ipaddress
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field, replace

from . import services, setups
from .diagnosis import steps
from .diagnosis.domain import DomainCheck
from .diagnosis.gate import Gate
from .diagnosis.microsoft import TokenProof
from .diagnosis.remedies import remedy_for
from .diagnosis.steps import Check, Seen, Step
from .engine import Engine
from .envelope import Envelope
from .errors import ConfigurationError, InvalidMessage, OutmailError, SecretUnreadable, Throttled
from .headers import wire_address
from .message import Address, Message
from .models import PRIMARY, Setup
from .settings import Credential, SetupValues


@dataclass
class Trial:
    """One test run of some values. Iterate `steps` to run it; afterwards `passed` and `proof_id` are set.

    `titles` are the names of all steps, known before the first one runs. `transcript` is the SMTP dialogue as
    ("client" or "server", line), with credentials masked; empty for other services. `gated` is for tests that anybody
    who sees the page can start: they may not connect into private networks.
    """

    engine: Engine
    values: SetupValues
    connection: str = PRIMARY
    by: str = ""
    test_message_to: str = ""
    gated: bool = False
    passed: bool = False
    proof_id: str = ""
    done: list[Step] = field(default_factory=list)
    transcript: list[tuple[str, str]] = field(default_factory=list)
    _plan: services.Plan | None = None

    def __post_init__(self) -> None:
        self._checks = [Check("settings", "Settings complete", self._settings)]
        gate = _gate(self.engine, self.connection) if self.gated else None
        self._environment = replace(self.engine.environment, gate=gate)
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
            self.transcript = self._plan.transcript
        if self.test_message_to:
            self._checks.append(Check("message", f"Test message to {self.test_message_to}", self._message))

    @property
    def titles(self) -> list[tuple[str, str]]:
        """(key, title) of every step, in order."""
        return [(check.key, check.title) for check in self._checks]

    def steps(self) -> Iterator[Step]:
        """Runs the test, yielding each step as it ends; then records the proof. Touches the network."""
        try:
            count_test(self.engine)
        except Throttled as exc:
            self.done = [Step(key="settings", title="Settings complete", state="failed", seen=str(exc),
                              code=exc.code, remedy=remedy_for(exc))]  # fmt: skip
            yield from self.done
            return
        with closing(self):
            for step in steps.run(self._checks):
                self.done.append(step)
                yield step
        self.passed = steps.passed(self.done)
        self._record()
        if self.passed:
            # The transports in use may hold a token from before the repair; new ones begin with that of the test.
            self.engine.look_again()

    def close(self) -> None:
        if self._plan is not None:
            self._plan.close()

    def _settings(self) -> Seen:
        if self._problems:
            told = "; ".join(f"{field}: {sentence}" for field, sentence in self._problems.items())
            raise ConfigurationError(told, code="settings_incomplete")
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
        try:
            receipt = transport.deliver(Envelope.for_message(message, mailbox=service.mailbox(self.values)))
        finally:
            transport.close()
        if not receipt.accepted:
            held_back = OutmailError("held back", code="recipients_held_back")
            return Seen(f"not sent: {self.test_message_to} is not allowed here", remedy_for(held_back))
        request = f", request {receipt.request_id}" if receipt.request_id else ""
        return Seen(f"accepted in {receipt.elapsed_s:.1f} s{request}")

    def _record(self) -> None:
        engine = self.engine
        if not engine.database:
            return
        try:
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
                in_force = self.passed and active is not None and self._verify(active)
                session.commit()
                self.proof_id = proof.id
        except OutmailError:
            # The test itself went as it went; only saving by this proof is not possible.
            self.proof_id = ""
            in_force = False
        if in_force:
            engine.alerting.recovered(self.connection)

    def _verify(self, active: Setup) -> bool:
        """A test that passed for exactly the values in force lets the mail flow; returns whether it was those."""
        vault = self.engine.vault
        try:
            same = setups.values_of(active, vault).canonical() == self.values.canonical()
        except SecretUnreadable:
            # What is in force cannot be read any more. The test that mends it must count all the same.
            return False
        if same:
            setups.mark_verified(active, self.values, vault, by=self.by)
        return same


def _gate(engine: Engine, connection: str) -> Gate:
    """Configuration, and what carries mail already, are trusted."""
    settings = engine.settings
    hosts = {values.host for values, _ in settings.configured.values()}
    hosts |= {cloud.smtp_host for cloud in engine.environment.clouds.values()}
    if settings.fallback is not None:
        hosts.add(settings.fallback.host)
    try:
        current = engine.current(connection)
    except OutmailError:
        current = None
    if current is not None and current.verified:
        hosts.add(current.values.host)
    loopback = ("127.0.0.0/8", "::1/128") if engine.app.debug else ()
    networks = [ipaddress.ip_network(one, strict=False) for one in (*settings.test_networks, *loopback)]
    return Gate(networks, frozenset(host.lower() for host in hosts if host))


def count_test(engine: Engine) -> None:
    """A test button must not become a way to knock on other doors, so runs are limited.

    Raises:
        Throttled: there were too many in the last minute.
    """
    now, times = time.monotonic(), engine.test_times
    times[:] = [one for one in times if now - one < 60]
    if len(times) >= engine.settings.tests_per_minute:
        raise Throttled("too many tests in the last minute", code="tests_too_many", retry_after_s=60)
    times.append(now)


def credential_checks(engine: Engine, credential: Credential) -> list[Check]:
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
    allowed = Check("settings", "Settings complete", lambda: _counted(engine))
    return [allowed, *(check for check in proof.checks() if check.key != "role")]


def _counted(engine: Engine) -> Seen:
    count_test(engine)
    return Seen()


def trial(engine: Engine, connection: str = PRIMARY, *, by: str = "", test_message_to: str = "") -> Trial:
    """A test of the setup in force.

    Raises:
        ConfigurationError: there is none.
    """
    current = engine.current(connection, fresh=True)
    if current is None:
        raise ConfigurationError("no mail service is set up yet", code="setup_missing")
    return Trial(engine, current.values, connection, by, test_message_to)


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
    return DomainCheck(
        name.lower(),
        spf_includes=getattr(service, "spf_includes", ()),
        selectors=getattr(service, "dkim_selectors", ()),
        nameservers=engine.settings.dns_servers,
    )
