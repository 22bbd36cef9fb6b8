"""Messages over one connection, in as few round trips as the server allows.

Three ways, in the order of preference:

- *in a window* (CHUNKING and PIPELINING, RFC 3030 and 2920): MAIL, every RCPT and the whole message in one write. One
  round trip for a single message; in bulk, several may be under way.
- *in step* (PIPELINING): MAIL, every RCPT and DATA in one write; the content with its final dot opens the next
  message in the same write. One round trip for each message of a bulk, and one message at most is in doubt.
- the same *word by word* where the server offers no PIPELINING, or has shown that it cannot do it.

Everything turns on one question: how much had left when something went wrong? Up to the last byte before the final
dot (or of the last chunk) it is certain that nothing was accepted, and the message may be tried again. From there on
it is unknown (RFC 1047). `SmtpClient.sent_bytes` is what tells the two apart.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterator
from time import monotonic

from ..content import Content
from ..envelope import Receipt
from ..errors import DeliveryError, OutmailError, RecipientsRefused, Refusal, SenderRefused
from .smtp_client import OutOfStep
from .smtp_jobs import Job, Lost, Outcome, Take, Unit
from .smtp_session import SmtpSession
from .smtp_step import InStep

#: A message up to this size goes out in one write with its MAIL and RCPT; above it, their replies are waited for: the
#: round trip is little beside the time that the message takes, and a refusal saves all of it.
ONE_WRITE_BYTES = 65_536


class Pipeline(InStep):
    """Sends what `take` gives over `session`, until there is no more or the connection is lost.

    `plain` is for servers that cannot take several commands at once; `trusted` for those that have shown they can:
    only they get a whole message in one write.
    """

    def __init__(
        self,
        session: SmtpSession,
        *,
        plain: bool = False,
        trusted: bool = False,
        window: int = 1,
        sign: Callable[[Content], Content] | None = None,
    ) -> None:
        super().__init__(session, plain=plain, sign=sign)
        self._window = window
        self._may_window = trusted
        self._in_doubt = False

    def run(self, take: Take) -> Iterator[tuple[Job, Outcome]]:
        """Yields every message taken with its outcome, in the order taken. Touches the network."""
        self._in_doubt = True
        try:
            if self._grouped and self._chunked:
                # A server that has not shown yet that it can is asked by one message, not by a whole bulk in step.
                more = self._may_window or (yield from self._until_trusted(take))
                if more:
                    yield from self._in_window(take)
            else:
                yield from self._in_step(take)
            self._in_doubt = False
        finally:
            # Left in the middle of a message: whatever the server waits for, it must not be the next one's words.
            if self._in_doubt:
                self._client.close()

    def _until_trusted(self, take: Take) -> Generator[tuple[Job, Outcome], None, bool]:
        """Sends in step until a message is accepted; returns whether more may follow."""
        while (job := take(True)) is not None:
            alone = [job]
            for done, outcome in self._in_step(lambda wait, alone=alone: alone.pop() if alone else None):  # type: ignore[misc]
                yield done, outcome
            if not self._usable:
                return False
            if isinstance(outcome, Receipt):
                return True
        return False

    def _in_window(self, take: Take) -> Iterator[tuple[Job, Outcome]]:
        under_way: deque[Unit] = deque()
        held: Unit | None = None
        while True:
            writes: list[bytes] = []
            while held is None and len(under_way) < self._window:
                unit = self._next(take, not under_way)
                if unit is None:
                    break
                if unit.outcome is None and not self._fits_one_write(unit):
                    held = unit
                    break
                under_way.append(unit)
                if unit.outcome is None:
                    # Behind another, which may be refused and leave its recipients in the server's mind.
                    writes.append(self._whole(unit, reset=self._session.needs_reset or len(under_way) > 1))
                    if unit.outcome is not None:
                        writes.pop()
            self._send_units(writes, under_way)
            if not under_way:
                if held is None:
                    return
                # Too large, or too long after the last word, for one write: this one goes in step.
                waiting, held = held, None
                yield from self._in_step(lambda wait, one=[waiting.job]: one.pop() if one else None)  # type: ignore[misc]
                if not self._usable:
                    return
                continue
            while True:
                unit = under_way.popleft()
                if unit.outcome is None:
                    unit.outcome = self._read_unit(unit)
                    if not self._usable:
                        self._give_up(under_way, unit.outcome)
                yield unit.job, unit.outcome
                if not under_way or not (under_way[0].outcome is not None or self._is_answered(under_way[0])):
                    break
            if not self._usable and not under_way:
                if held is not None:
                    yield held.job, Lost(self._judge.lost(ConnectionError("the connection is closed")))
                return

    def _is_answered(self, unit: Unit) -> bool:
        """Whether its replies are all here, so that reading them does not keep the next message from leaving."""
        return self._client.unread_lines >= unit.has_reset + len(unit.job.envelope.recipients) + 2

    def _fits_one_write(self, unit: Unit) -> bool:
        assert unit.transaction is not None  # noqa: S101 -- the caller has looked
        is_fresh = monotonic() - self._client.heard_at < self._session.settings.fresh_s
        return is_fresh and unit.transaction.size_bytes <= ONE_WRITE_BYTES

    def _whole(self, unit: Unit, *, reset: bool) -> bytes:
        """MAIL, every RCPT and the message as one chunk. Sets the unit's outcome when it cannot be read."""
        session = self._session
        head = self._head(unit, reset=reset)
        try:
            content = b"".join(self._chunks(unit))
        except OutmailError as exc:
            unit.outcome = exc
            return b""
        # Until its replies are read, nobody knows what state the server is in.
        session.needs_reset = True
        return head + content

    def _send_units(self, writes: list[bytes], under_way: deque[Unit]) -> None:
        if not writes:
            return
        mark = self._client.sent_bytes
        new = [unit for unit in under_way if unit.outcome is None][-len(writes) :]
        for unit, data in zip(new, writes, strict=True):
            mark += len(data)
            unit.mark = mark
        try:
            if len(under_way) == len(writes) and self._has_spoken():
                raise ConnectionResetError("the server spoke out of turn")
            self._client.send(writes[0] if len(writes) == 1 else b"".join(writes))
        except OSError as exc:
            # Replies to what had left before may still be read; reading finds the end by itself.
            for unit in new:
                if self._client.sent_bytes < unit.mark:
                    unit.outcome = Lost(self._judge.lost(exc))
            if len(new) == len(under_way) and all(unit.outcome is not None for unit in new):
                self._client.close()
            else:
                self._broken = True

    def _read_unit(self, unit: Unit) -> Outcome:
        """Reads all replies to a message that was sent in one write, and judges them."""
        client, judge, envelope = self._client, self._judge, unit.job.envelope
        is_first = self._session.count == 0
        self._session.count += 1
        try:
            replies = self._replies(unit, 1)
        except OutOfStep as exc:
            client.close()
            return judge.odd(str(exc))
        except OSError as exc:
            client.close()
            return judge.unknown(exc)
        last = replies[-1]
        if last.code == 421:
            client.close()
            error: OutmailError = judge.refusal(last, "the server ended the connection")
            return error if is_first else Lost(error)
        found: OutmailError | None = None
        refused: dict[str, Refusal] = {}
        if not replies[0]:
            found = judge.refusal(replies[0], "the sender was refused", sender=envelope.sender, kind=SenderRefused)
        else:
            try:
                refused = judge.recipients(envelope.recipients, replies[1:-1])
            except DeliveryError as exc:
                found = exc
        if found is None:
            assert unit.transaction is not None  # noqa: S101 -- it was sent
            unit.transaction.refused = refused
            return self._verdict(unit, last)
        if last:
            client.close()
            if not isinstance(found, RecipientsRefused):
                return judge.odd(f"{replies[0].status}, then {last.status}")
            found.detail = f"{found.detail} (and yet the server took the message, for nobody: {last.status})"
        return found

    def _give_up(self, under_way: deque[Unit], outcome: Outcome) -> None:
        """The connection is gone: what is still under way had left, or it had not."""
        # After 421 a server closes and does no more (RFC 5321 3.8), so what follows it was not accepted.
        ended_in_order = isinstance(outcome, Lost) or (isinstance(outcome, DeliveryError) and outcome.smtp_code == 421)
        for unit in under_way:
            if unit.outcome is None:
                cut = ConnectionResetError("the server closed the connection")
                certain = ended_in_order or self._client.sent_bytes < unit.mark
                unit.outcome = Lost(self._judge.lost(cut)) if certain else self._judge.unknown(cut)
        self._client.close()
