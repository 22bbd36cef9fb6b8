"""Proving an SMTP server up to the point where a message would leave, and not further."""

from __future__ import annotations

from dataclasses import dataclass, replace

from ..content import Content
from ..envelope import Envelope
from ..errors import AuthenticationFailed, OutmailError
from ..headers import wire_address
from ..message import Address
from ..transports.smtp import SmtpSession, SmtpSettings
from ..transports.smtp_pool import make_room
from .foreign import closed_to
from .gate import Gate
from .microsoft import TokenProof, addresses, certificate_seen
from .remedies import remedy_for
from .steps import Check, Observer, Seen

#: Over SMTP the two look the same.
_BUT = " (a mailbox that does not exist would be refused as well)"


@dataclass
class SmtpProof:
    """The checks for one SMTP setup. `recipient` is named to the server and then taken back; nothing is sent.

    `observe` is told the dialogue, with credentials masked. `foreign_mailbox` is one that the application's token must
    not open; it is tried where it is given.
    """

    settings: SmtpSettings
    from_address: str
    recipient: str
    name: str = "smtp"
    proof: TokenProof | None = None
    gate: Gate | None = None
    observe: Observer | None = None
    foreign_mailbox: str = ""

    def __post_init__(self) -> None:
        self.session = SmtpSession(self.settings, name=self.name, observe=self.observe)

    def checks(self) -> list[Check]:
        settings = self.settings
        where = f"{settings.host}, port {settings.port}"
        checks = [
            *(self.proof.checks() if self.proof else ()),
            Check("name", f"Name found: {settings.host}", self._name),
            Check("connection", f"Connected to {where}", self._connect),
        ]
        greeting = Check("greeting", "Mail server answers", self._greet)
        tls = Check("tls", "Connection secured by TLS", self._secure)
        checks += {"tls": [tls, greeting], "starttls": [greeting, tls], "none": [greeting]}[settings.tls]
        if settings.tls == "none":
            checks.append(Check("tls", "Connection secured by TLS", self._no_tls))
        if settings.tokens is not None or (settings.username and settings.password):
            checks += [
                Check("auth_offered", "A way to log in that both sides know", self._mechanism),
                Check("login", f"Logged in as {settings.username}", self._log_in),
            ]
        checks += [
            Check("from", f"From {self.from_address} is allowed", self._mail_from),
            Check("recipient", f"Recipient {self.recipient} is taken", self._rcpt_to),
            Check("reset", "Taken back before anything is sent", self._reset),
        ]
        if self.foreign_mailbox and settings.tokens is not None:
            checks.append(closed_to(self.foreign_mailbox, self._foreign, but=_BUT))
        return checks

    def close(self) -> None:
        self.session.close()

    def _name(self) -> Seen:
        found = addresses(self.settings.host, self.settings.port)
        if self.gate is not None:
            self.session.client.address = self.gate.choose(self.settings.host, self.settings.port, found)
        return Seen(", ".join(found))

    def _connect(self) -> Seen:
        make_room(self.settings)
        self.session.connect()
        return Seen("open")

    def _greet(self) -> Seen:
        greeting = self.session.greet()
        offered = ", ".join(sorted(self.session.client.features))
        said = greeting.text[:120]
        return Seen(f"“{said}”; offers {offered}" if offered else f"“{said}”")

    def _secure(self) -> Seen:
        self.session.secure()
        return certificate_seen(self.session.client.certificate())

    def _no_tls(self) -> Seen:
        warning = remedy_for(OutmailError("TLS is off", code="tls_off"))
        return Seen("not secured, as chosen", warning)

    def _mechanism(self) -> Seen:
        offered = ", ".join(self.session.client.auth_mechanisms)
        return Seen(f"{self.session.mechanism()} (offered: {offered})")

    def _log_in(self) -> Seen:
        return Seen(self.session.log_in() or "no log-in")

    def _mail_from(self) -> Seen:
        return Seen(self.session.mail_from(self._envelope()).text[:120])

    def _rcpt_to(self) -> Seen:
        self.session.rcpt_to(self._envelope())
        return Seen("taken")

    def _reset(self) -> Seen:
        self.session.reset()
        return Seen("nothing was sent")

    def _foreign(self) -> bool:
        # Its own conversation: the first one is logged in already, and Exchange counts three for each mailbox.
        self.session.close()
        other = SmtpSession(
            replace(self.settings, username=self.foreign_mailbox, address=self.session.client.address),
            name=self.name,
            observe=self.observe,
        )
        try:
            other.open()
        except AuthenticationFailed:
            return True
        finally:
            other.close()
        return False

    def _envelope(self) -> Envelope:
        sender = wire_address(Address.parse(self.from_address), "from_address")
        recipient = wire_address(Address.parse(self.recipient), "failure_alerts_to")
        return Envelope(
            sender=sender,
            recipients=(recipient,),
            visible=(recipient,),
            from_address=sender,
            message_id="",
            content=Content(),
        )
