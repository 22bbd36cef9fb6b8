"""One SMTP conversation as smtp.office365.com holds it.

Pages: "how-to-authenticate-an-imap-pop-smtp-application-by-using-oauth", "smtp-submission-improvements",
"continuous-error-throttling-smtp-auth-submissions"; RFC 5321, 3207, 4954, 1870, 2920, 3030, 3461,
6531.
"""

from __future__ import annotations

import contextlib
import re
import ssl
from collections.abc import Callable
from email.utils import format_datetime

from flask_outmail.simulator import mail
from flask_outmail.simulator.fault import Fault
from flask_outmail.simulator.smtp_auth import Authenticator, Signed
from flask_outmail.simulator.smtp_limits import SmtpLimits
from flask_outmail.simulator.smtp_wire import ClientGone, IdleTooLong, LineTooLong, Wire
from flask_outmail.simulator.state import State, Submission, complete, now

_PATH = re.compile(r"<([^<>\s]*)>")
DOMAIN = "localhost"


class Session:
    """One conversation."""

    def __init__(
        self,
        wire: Wire,
        state: State,
        authenticator: Authenticator,
        limits: SmtpLimits,
        tls: Callable[[], ssl.SSLContext],
        *,
        encrypted: bool,
    ) -> None:
        self._wire = wire
        self._state = state
        self._authenticator = authenticator
        self._limits = limits
        self._tls = tls
        self._encrypted = encrypted
        self._greeted = False
        self._signed: Signed | None = None
        self._sender: str | None = None
        self._recipients: list[str] = []
        self._utf8 = False
        self._chunks: list[bytes] = []
        self._commands: dict[str, Callable[[str], None]] = {
            "EHLO": self._ehlo,
            "HELO": self._helo,
            "STARTTLS": self._starttls,
            "AUTH": self._auth,
            "MAIL": self._mail,
            "RCPT": self._rcpt,
            "DATA": self._data,
            "BDAT": self._bdat,
            "RSET": self._rset,
            "NOOP": lambda _: self._reply("NOOP", 250, "2.0.0", "OK"),
            "VRFY": lambda _: self._reply("VRFY", 252, "2.1.5", "Cannot VRFY user"),
            "HELP": lambda _: self._reply("HELP", 214, "2.0.0", "This is a simulator"),
            "QUIT": self._quit,
        }

    def run(self) -> None:
        try:
            self._greet()
            while True:
                self._next_command()
        except IdleTooLong:
            with contextlib.suppress(ClientGone):
                self._reply("-", 421, "4.4.2", "Connection timed out", end=True)
        except ClientGone:
            pass
        finally:
            if self._signed is not None:
                self._limits.leave(self._signed.mailbox.address)

    # Talking

    def _reply(self, verb: str, status: int, code: str, text: str, *, end: bool = False) -> None:
        """`code` is the enhanced status code; empty for replies that have none. `end` also ends the conversation."""
        self._state.record(verb, "smtp", status, code)
        words = " ".join(word for word in (str(status), code, text) if word)
        self._wire.send(f"{words}\r\n".encode())
        if end:
            raise ClientGone

    def _next_command(self) -> None:
        try:
            line = self._wire.read_line(self._state.behaviour.smtp_idle_timeout_s)
        except LineTooLong:
            self._reply("-", 500, "5.5.2", "Line too long")
            return
        verb, _, argument = line.decode("utf-8", "replace").partition(" ")
        run = self._commands.get(verb.upper())
        if run is None:
            self._reply("?", 500, "5.3.3", "Unrecognized command")
            return
        run(argument.strip())

    def _misbehaves(self, stage: str, verb: str, recipient: str | None = None) -> bool:
        """Lets a fault of this stage happen; True when it has given the answer.

        Raises:
            ClientGone: the fault was to drop the connection.
        """
        fault = self._take(stage, recipient)
        if fault is None:
            return False
        self._state.wait(fault.delay_s)
        return self._obeys(fault, verb)

    def _take(self, stage: str, recipient: str | None = None) -> Fault | None:
        mailbox = self._signed.mailbox.address if self._signed else None
        return self._state.faults.take(f"smtp.{stage}", mailbox=mailbox, recipient=recipient)

    def _obeys(self, fault: Fault, verb: str) -> bool:
        if fault.drop:
            self._state.record(verb, "smtp", 0, "dropped")
            self._wire.reset()
        if fault.status is not None:
            self._reply(verb, fault.status, fault.code, fault.message, end=fault.status == 421)
        return fault.status is not None

    # Before a message

    def _greet(self) -> None:
        if fault := self._take("connect"):
            self._state.wait(fault.delay_s)
            if fault.body is not None:
                self._wire.send(fault.body.encode("latin-1", "replace"))
                raise ClientGone
            if self._obeys(fault, "connect"):
                raise ClientGone
        text = f"{DOMAIN} Outmail simulator ESMTP MAIL Service ready at {format_datetime(now())}"
        self._reply("connect", 220, "", text)

    def _ehlo(self, argument: str) -> None:
        if self._misbehaves("ehlo", "EHLO"):
            return
        behaviour = self._state.behaviour
        words = [f"SIZE {behaviour.smtp_size_limit_bytes}", "PIPELINING", "DSN", "ENHANCEDSTATUSCODES"]
        if self._encrypted:
            words.append("AUTH LOGIN XOAUTH2" + (" PLAIN" if behaviour.plain_auth else ""))
        else:
            words.append("STARTTLS")
        words += ["8BITMIME", *(["CHUNKING"] if behaviour.smtp_chunking else [])]
        words += ["SMTPUTF8"] if behaviour.smtp_utf8 else []
        hidden = {word.upper() for word in behaviour.hidden_capabilities}
        words = [f"{DOMAIN} Hello [127.0.0.1]", *(word for word in words if word.split()[0] not in hidden)]
        self._start_over()
        self._greeted = True
        self._state.record("EHLO", "smtp", 250)
        last = len(words) - 1
        lines = [f"250{' ' if number == last else '-'}{word}\r\n" for number, word in enumerate(words)]
        self._wire.send("".join(lines).encode())

    def _helo(self, argument: str) -> None:
        self._start_over()
        self._greeted = True
        self._reply("HELO", 250, "", f"{DOMAIN} Hello [127.0.0.1]")

    def _starttls(self, argument: str) -> None:
        if self._encrypted:
            self._reply("STARTTLS", 503, "5.5.1", "TLS is active already")
            return
        fault = self._take("starttls")
        if fault is not None:
            self._state.wait(fault.delay_s)
            if self._obeys(fault, "STARTTLS"):
                return
        self._state.record("STARTTLS", "smtp", 220, "2.0.0")
        injected = fault.body.encode("latin-1", "replace") if fault and fault.body else b""
        self._wire.send(b"220 2.0.0 SMTP server ready\r\n" + injected)
        try:
            self._wire.start_tls(self._tls())
        except OSError:
            raise ClientGone from None
        self._encrypted, self._greeted = True, False
        self._start_over()

    def _auth(self, argument: str) -> None:
        mechanism, _, initial = argument.partition(" ")
        mechanism = mechanism.upper()
        verb = f"AUTH {mechanism}" if mechanism in ("LOGIN", "PLAIN", "XOAUTH2") else "AUTH"
        if not self._encrypted:
            self._reply(verb, 530, "5.7.0", "Must issue a STARTTLS command first")
            return
        if self._signed is not None or self._sender is not None:
            self._reply(verb, 503, "5.5.1", "Bad sequence of commands")
            return
        result = self._authenticator.run(self, mechanism, initial.strip())
        if result.signed is None:
            self._reply(verb, result.status, result.code, result.text, end=result.status == 421)
            return
        if not self._limits.enter(result.signed.mailbox.address):
            self._reply(
                verb,
                432,
                "4.3.2",
                f"Concurrent connections limit exceeded. Visit the trouble-shooting page. [{DOMAIN}]",
            )
            return
        self._signed = result.signed
        self._reply(verb, 235, "2.7.0", "Authentication successful")

    def challenge(self, text: str) -> str:
        """Sends a 334 and returns the client's line, for the authenticator."""
        self._wire.send(f"334 {text}\r\n".encode())
        try:
            return self._wire.read_line(self._state.behaviour.smtp_idle_timeout_s).decode("ascii", "replace").strip()
        except LineTooLong:
            return ""

    def auth_fault(self, mailbox: str) -> Fault | None:
        """What shall go wrong with this attempt, if anything; the connection may be gone afterwards."""
        fault = self._state.faults.take("smtp.auth", mailbox=mailbox)
        if fault is not None:
            self._state.wait(fault.delay_s)
            if fault.drop:
                self._obeys(fault, "AUTH")
        return fault

    # A message

    def _mail(self, argument: str) -> None:
        if not self._greeted:
            self._reply("MAIL", 503, "5.5.1", "Send hello first")
            return
        if self._signed is None:
            self._reply("MAIL", 530, "5.7.57", f"Client not authenticated to send mail. [{DOMAIN}]")
            return
        if self._sender is not None:
            self._reply("MAIL", 503, "5.5.1", "Sender already specified")
            return
        if self._misbehaves("mail", "MAIL"):
            return
        if self._limits.blocked(self._signed.mailbox.address):
            self._reply("MAIL", 550, "5.2.252", "Sender throttled due to continuous send as denied errors")
            return
        address, parameters = _address(argument, "FROM")
        if address is None or (address and not mail.is_address(address)):
            self._reply("MAIL", 501, "5.1.7", "Invalid address")
            return
        if refusal := self._check_parameters(address, parameters):
            self._reply("MAIL", *refusal)
            return
        self._sender, self._utf8 = address, "SMTPUTF8" in parameters
        self._reply("MAIL", 250, "2.1.0", "Sender OK")

    def _check_parameters(self, address: str, parameters: dict[str, str]) -> tuple[int, str, str] | None:
        behaviour = self._state.behaviour
        known = {"SIZE", "BODY", "RET", "ENVID", "AUTH", *(["SMTPUTF8"] if behaviour.smtp_utf8 else [])}
        if unknown := set(parameters) - known:
            return 555, "5.5.4", f"Unsupported parameter {sorted(unknown)[0][:40]}"
        size = parameters.get("SIZE", "0")
        if not size.isdecimal():
            return 501, "5.5.4", "Invalid SIZE"
        if int(size) > behaviour.smtp_size_limit_bytes:
            return 552, "5.3.4", "Message size exceeds fixed maximum message size"
        if not address.isascii() and "SMTPUTF8" not in parameters:
            return 553, "5.6.7", "The address needs SMTPUTF8"
        return None

    def _rcpt(self, argument: str) -> None:
        if self._sender is None:
            self._reply("RCPT", 503, "5.5.1", "Need MAIL command first")
            return
        address, parameters = _address(argument, "TO")
        if address is None or not mail.is_address(address):
            self._reply("RCPT", 501, "5.1.3", "Invalid address")
            return
        if unknown := set(parameters) - {"NOTIFY", "ORCPT"}:
            self._reply("RCPT", 555, "5.5.4", f"Unsupported parameter {sorted(unknown)[0][:40]}")
            return
        if not address.isascii() and not self._utf8:
            self._reply("RCPT", 553, "5.6.7", "The address needs SMTPUTF8")
            return
        if self._misbehaves("rcpt", "RCPT", recipient=address):
            return
        if len(self._recipients) >= self._state.behaviour.smtp_recipient_limit:
            self._reply("RCPT", 452, "4.5.3", "Too many recipients")
            return
        self._recipients.append(address)
        self._reply("RCPT", 250, "2.1.5", "Recipient OK")

    def _data(self, argument: str) -> None:
        if not self._recipients or self._sender is None or self._signed is None or self._chunks:
            self._reply("DATA", 503, "5.5.1", "Bad sequence of commands")
            return
        fault = self._take("data")
        if fault is not None:
            self._state.wait(fault.delay_s)
            if not fault.drop and self._obeys(fault, "DATA"):
                return
        self._reply("DATA", 354, "", "Start mail input; end with <CRLF>.<CRLF>")
        idle_s = self._state.behaviour.smtp_idle_timeout_s
        if fault is not None and fault.drop:
            self._wire.read_some(idle_s)
            self._obeys(fault, "DATA")
        content = self._wire.read_content(idle_s, self._state.behaviour.smtp_size_limit_bytes)
        self._finish(content, self._signed, self._sender)
        self._start_over()

    def _bdat(self, argument: str) -> None:
        """One chunk (RFC 3030). Its octets are read whatever the answer is: they follow without being asked for."""
        size, _, last = argument.partition(" ")
        if not self._state.behaviour.smtp_chunking or not size.isdecimal() or last.upper() not in ("", "LAST"):
            self._reply("BDAT", 501, "5.5.4", "Invalid arguments", end=True)
        behaviour = self._state.behaviour
        fault = self._take("data")
        if fault is not None:
            self._state.wait(fault.delay_s)
            if fault.drop:
                self._wire.read_some(behaviour.smtp_idle_timeout_s)
                self._obeys(fault, "BDAT")
        limit = behaviour.smtp_size_limit_bytes - sum(map(len, self._chunks))
        chunk = self._wire.read_chunk(behaviour.smtp_idle_timeout_s, int(size), limit)
        if fault is not None and self._obeys(fault, "BDAT"):
            self._start_over()
            return
        if not self._recipients or self._sender is None or self._signed is None:
            self._reply("BDAT", 503, "5.5.1", "Bad sequence of commands")
            return
        if chunk is not None:
            self._chunks.append(chunk)
            if not last:
                self._reply("BDAT", 250, "2.6.0", f"{size} octets received")
                return
        content = None if chunk is None else b"".join(self._chunks)
        self._finish(content, self._signed, self._sender)
        self._start_over()

    def _finish(self, content: bytes | None, signed: Signed, sender: str) -> None:
        """Judges the message, delivers it, answers."""
        if content is None:
            self._reply(".", 552, "5.3.4", "Message size exceeds fixed maximum message size")
            return
        if re.search(rb"(?<!\r)\n", content):
            self._reply(".", 550, "5.6.11", "SMTPSEND.BareLinefeedsAreIllegal; message contains bare linefeeds")
            return
        senders = [
            sender,
            *(address for name in ("from", "sender") for _, address in mail.addresses(content, name)),
        ]
        if not all(signed.mailbox.may_send_as(address) for address in senders):
            self._limits.deny(signed.mailbox.address)
            self._reply(".", *self._send_as_denied(signed))
            return
        fault = self._take("dot")
        if fault is not None:
            self._state.wait(fault.delay_s)
        if fault is None or fault.happens or not fault.answers:
            raw = complete(content, signed.mailbox, self._state.behaviour, rewrite_alias=False)
            self._state.submit(
                Submission(signed.mailbox, raw, self._recipients, "smtp", signed.client, envelope_from=sender)
            )
        if fault is not None and self._obeys(fault, "."):
            return
        message_ids = mail.values(content, "message-id")
        self._reply(".", 250, "2.0.0", f"OK {message_ids[0] if message_ids else ''} [Hostname={DOMAIN}]")

    def _send_as_denied(self, signed: Signed) -> tuple[int, str, str]:
        if self._state.behaviour.send_as_wording == "550-5.7.60":
            return 550, "5.7.60", "SMTP; Client does not have permissions to send as this sender"
        return (
            554,
            "5.2.252",
            f"SendAsDenied; {signed.mailbox.address} not allowed to send as this sender; "
            "STOREDRV.Submission.Exception:SendAsDeniedException.MapiExceptionSendAsDenied",
        )

    def _rset(self, argument: str) -> None:
        self._start_over()
        self._reply("RSET", 250, "2.0.0", "Resetting")

    def _quit(self, argument: str) -> None:
        self._reply("QUIT", 221, "2.0.0", "Service closing transmission channel", end=True)

    def _start_over(self) -> None:
        self._sender, self._recipients, self._utf8, self._chunks = None, [], False, []


def _address(argument: str, word: str) -> tuple[str | None, dict[str, str]]:
    """The address and the parameters of MAIL FROM:<…> or RCPT TO:<…>; None for what is neither."""
    keyword, _, rest = argument.partition(":")
    match = _PATH.match(rest.strip())
    if keyword.strip().upper() != word or match is None:
        return None, {}
    parameters: dict[str, str] = {}
    for parameter in rest.strip()[match.end() :].split():
        name, _, value = parameter.partition("=")
        parameters[name.upper()] = value
    return match[1], parameters
