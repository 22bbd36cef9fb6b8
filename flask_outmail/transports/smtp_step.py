"""One message after the other over a connection, each opened together with the content before it.

Whatever goes wrong, the question is how much had left; see `smtp_pipeline`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from time import monotonic

from ..content import Content
from ..envelope import Receipt
from ..errors import InvalidMessage, MessageRejected, OutmailError, RecipientsRefused, SenderRefused
from .smtp_client import OutOfStep, Reply
from .smtp_jobs import Job, Lost, Outcome, Take, Unit
from .smtp_judge import queue_id
from .smtp_session import SmtpSession

#: Longest wait for a reply where something better can be tried than to wait on: word by word, or a new connection.
PATIENCE_S = 10.0
#: A caller who gives messages slower than this is not asked for one while another's answer is waited for.
_QUICK_S = 0.002


class InStep:
    """The steps of a message over `session`. `plain` is for servers that cannot take several commands at once."""

    def __init__(
        self,
        session: SmtpSession,
        *,
        plain: bool = False,
        sign: Callable[[Content], Content] | None = None,
    ) -> None:
        self._session = session
        self._sign = sign
        self._client = session.client
        self._judge = session.judge
        self._grouped = session.pipelining and not plain
        self._chunked = session.chunking
        self._broken = False
        # The pool has listened a moment ago.
        self._has_listened = True
        self._mark = 0
        #: Whether messages come so fast that one may be asked for while an answer is on its way.
        self._gives_quickly = False
        was_idle = session.count > 0 and monotonic() - self._client.heard_at > session.settings.fresh_s
        self._first_wait_s = PATIENCE_S if was_idle else 0.0

    @property
    def _usable(self) -> bool:
        return self._client.is_open and not self._client.ending and not self._broken

    def _in_step(self, take: Take) -> Iterator[tuple[Job, Outcome]]:
        unit = self._next(take, True)
        while unit is not None:
            # Not opened yet: the first, or the one before ended the connection's overlap.
            outcome = unit.outcome or self._open(unit)
            ahead: Unit | None = None
            while outcome is None:
                following = ahead or (self._next(take, False) if self._grouped else None)
                # A message that cannot be prepared has its outcome; another is opened along with the content.
                opens = following if following is not None and following.outcome is None else None
                outcome = self._hand_over(unit, opens)
                ahead = None
                if outcome is None:
                    if opens is not None and self._gives_quickly:
                        # The server reads and answers meanwhile.
                        ahead = self._next(take, False)
                    outcome = self._answer(unit)
                if opens is not None:
                    opens.outcome = self._opened(opens)
                    if isinstance(opens.outcome, Lost) and opens.outcome.out_of_step and isinstance(outcome, Receipt):
                        # Which reply answered what, nobody can tell.
                        outcome = self._judge.odd("replies out of step")
                yield unit.job, outcome
                if following is None:
                    break
                unit = following
                outcome = unit.outcome
            else:
                yield unit.job, outcome
            if not self._usable:
                if ahead is not None:
                    yield ahead.job, ahead.outcome or self._never_begun()
                return
            unit = ahead or self._next(take, True)

    def _never_begun(self) -> Lost:
        return Lost(self._judge.lost(ConnectionError("the connection is closed")), is_untouched=True)

    def _next(self, take: Take, wait: bool) -> Unit | None:
        asked_at = monotonic()
        job = take(wait)
        if job is None:
            return None
        job.started = monotonic()
        self._gives_quickly = job.started - asked_at < _QUICK_S
        content = job.content or job.envelope.content
        try:
            if job.content is None and self._sign is not None:
                content = job.content = self._sign(content)
            return Unit(job, content, self._session.prepare(job.envelope, content))
        except OutmailError as exc:
            return Unit(job, content, None, outcome=exc)

    def _head(self, unit: Unit, *, reset: bool) -> bytes:
        assert unit.transaction is not None  # noqa: S101 -- units without one have their outcome already
        unit.has_reset = reset
        head = unit.transaction.head if not reset else b"RSET\r\n" + unit.transaction.head
        return head if self._chunked else head + b"DATA\r\n"

    def _open(self, unit: Unit) -> Outcome | None:
        """Sends everything before the content; None when the server waits for that now."""
        head = self._head(unit, reset=self._session.needs_reset)
        if not self._grouped:
            return self._open_word_by_word(unit, head)
        try:
            if self._has_spoken():
                return self._spoke_first(unit)
            self._client.send(head)
        except OSError as exc:
            self._client.close()
            return Lost(self._judge.lost(exc))
        return self._opened(unit)

    def _has_spoken(self) -> bool:
        listened, self._has_listened = self._has_listened, False
        return not listened and self._client.has_spoken()

    def _spoke_first(self, unit: Unit) -> Outcome:
        """The server said something before it was asked: most often 421, because the connection was idle too long."""
        try:
            reply = self._client.reply()
        except OSError as exc:
            return Lost(self._judge.lost(exc))
        finally:
            self._client.close()
        error = self._judge.refusal(reply, "the server ended the connection")
        return Lost(error) if self._session.count else error

    def _opened(self, unit: Unit) -> Outcome | None:
        """Reads the replies to a group that was sent; None when the server waits for the content now."""
        if not self._usable:
            self._client.close()
            return Lost(self._judge.lost(ConnectionError("the connection is closed")))
        try:
            replies = self._replies(unit, 0 if self._chunked else 1, wait_s=self._first_wait_s or PATIENCE_S)
            if self._client.has_unread and not self._client.ending:
                raise OutOfStep("more replies than commands")
        except OSError as exc:
            self._client.close()
            # After a long silence it is rather the connection that was dead.
            in_group = not self._first_wait_s
            return Lost(self._judge.lost(exc), in_group=in_group, out_of_step=isinstance(exc, OutOfStep))
        finally:
            self._first_wait_s = 0.0
        return self._judged(unit, replies)

    def _replies(self, unit: Unit, extra: int, *, wait_s: float = 0.0) -> list[Reply]:
        """The replies to MAIL, every RCPT and `extra` commands after them; fewer when one of them is 421."""
        client = self._client
        wait_s = min(wait_s or client.timeout_s, client.timeout_s)
        replies = []
        count = 1 + len(unit.job.envelope.recipients) + extra
        if unit.has_reset:
            reply = client.reply(wait_s)
            if client.ending:
                return [reply]
            if not reply:
                raise OutOfStep("RSET was refused")
            self._session.needs_reset = False
        for number in range(count):
            reply = client.reply(wait_s)
            replies.append(reply)
            if client.ending:
                break
            if 300 <= reply.code < 400 and not (extra and number == count - 1):
                raise OutOfStep("a server waits for what was not announced")
        return replies

    def _open_word_by_word(self, unit: Unit, head: bytes) -> Outcome | None:
        client = self._client
        replies: list[Reply] = []
        wait_s = min(self._first_wait_s or client.timeout_s, client.timeout_s)
        try:
            if self._has_spoken():
                return self._spoke_first(unit)
            for line in head.split(b"\r\n")[:-1]:
                client.send(line + b"\r\n")
                reply = client.reply(wait_s)
                wait_s = client.timeout_s
                if line == b"RSET" and not client.ending:
                    if not reply:
                        raise OutOfStep("RSET was refused")
                    self._session.needs_reset = False
                else:
                    replies.append(reply)
                if client.ending or (len(replies) == 1 and not reply):
                    break
                if len(replies) > len(unit.job.envelope.recipients) and not any(replies[1:]):
                    break  # every recipient was refused: there is nothing to send
            if client.has_unread and not client.ending:
                raise OutOfStep("more replies than commands")
        except OSError as exc:
            client.close()
            return Lost(self._judge.lost(exc))
        finally:
            self._first_wait_s = 0.0
        return self._judged(unit, replies)

    def _judged(self, unit: Unit, replies: list[Reply]) -> Outcome | None:
        """What the replies before the content mean; None when the content may go."""
        session, judge, envelope = self._session, self._judge, unit.job.envelope
        last = replies[-1]
        if self._client.ending:
            self._client.close()
            error: OutmailError = judge.refusal(last, "the server ended the connection")
            return Lost(error) if session.count else error
        waits = not self._chunked and len(replies) > 1 + len(envelope.recipients) and last.code == 354
        mail = replies[0]
        session.needs_reset = True
        if not mail:
            if waits:
                self._client.close()  # for an unknown sender it would take anything
            elif mail.code == 503 and session.count:
                # "Nested MAIL": it has not finished what went before in the way we thought.
                self._client.close()
                return Lost(judge.refusal(mail, "the server had not finished the message before"))
            return judge.refusal(mail, "the sender was refused", sender=envelope.sender, kind=SenderRefused)
        try:
            refused = judge.recipients(envelope.recipients, replies[1:])
        except OutmailError as exc:
            if waits:
                self._take_back(exc)
            return exc
        if not self._chunked:
            if not last:
                return judge.refusal(last, "the server refused the message before it was sent")
            if not waits:
                self._client.close()
                return Lost(judge.lost(OutOfStep("DATA was not answered by 354")), in_group=self._grouped)
        unit.transaction.refused = refused  # type: ignore[union-attr]
        return None

    def _take_back(self, error: OutmailError) -> None:
        """The server waits for content though nobody shall receive it (RFC 2920 3.1: a lone dot, and a refusal)."""
        if not isinstance(error, RecipientsRefused):
            self._client.close()
            return
        try:
            self._client.send(b".\r\n")
            reply = self._client.reply()
        except OSError:
            self._client.close()
            return
        if reply:
            error.detail = f"{error.detail} (then the server took an empty message for nobody: {reply.status})"

    def _hand_over(self, unit: Unit, following: Unit | None) -> Outcome | None:
        """Sends the content, and the group of the message after it, if any; None when the verdict is to come."""
        client, judge = self._client, self._judge
        tail = b"" if following is None else self._head(following, reset=self._chunked)
        self._mark = 0
        try:
            early = self._send_content(unit, tail)
        except OSError as exc:
            client.close()
            return judge.unknown(exc) if self._mark and client.sent_bytes >= self._mark else Lost(judge.lost(exc))
        except OutmailError as exc:
            client.close()  # an attachment is gone: without its end the server cannot accept the message
            return exc
        if early is not None:
            client.close()
            return judge.refusal(early, "the server stopped in the middle of the message", kind=MessageRejected)
        self._session.count += 1
        return None

    def _answer(self, unit: Unit) -> Outcome:
        """Reads the verdict on a message that has left."""
        try:
            reply = self._client.reply()
        except OSError as exc:
            self._client.close()
            return self._judge.unknown(exc)
        return self._verdict(unit, reply)

    def _verdict(self, unit: Unit, reply: Reply) -> Outcome:
        """What the reply to the whole message means."""
        session, envelope = self._session, unit.job.envelope
        if reply.code == 250:
            session.needs_reset = False
            transaction = unit.transaction
            assert transaction is not None  # noqa: S101 -- it was sent
            return Receipt(
                accepted=True,
                transport=session.name,
                message_id=envelope.message_id,
                request_id=queue_id(reply),
                refused=transaction.refused,
                accepted_at=datetime.now(timezone.utc),
                elapsed_s=monotonic() - unit.job.started,
            )
        if reply:
            # RFC 5321 4.3.2 knows one acceptance after the final dot.
            self._client.close()
            return self._judge.odd(reply.status)
        # After a refused chunk the state is undefined (RFC 3030 4.2); after a refused dot it is clear.
        session.needs_reset = self._chunked
        return self._judge.refusal(
            reply, "the server refused the message", sender=envelope.from_address, kind=MessageRejected
        )

    # -- content -----------------------------------------------------------------------------------------------------

    def _send_content(self, unit: Unit, tail: bytes) -> Reply | None:
        """Sends the content and then `tail`; `_mark` is where the content ends.

        A server that has had enough may answer early, or hang up: seen before the end, it is still certain that
        nothing was accepted. Returns such an early reply.
        """
        pieces = self._chunks(unit) if self._chunked else _stuffed(unit.content)
        client = self._client
        held: bytes | None = None
        for piece in pieces:
            if held is not None:
                client.send(held)
                if client.has_spoken():
                    return client.reply()
            held = piece
        assert held is not None  # noqa: S101 -- there is at least the end
        self._mark = client.sent_bytes + len(held)
        client.send(held + tail if tail else held)
        return None

    def _chunks(self, unit: Unit) -> Iterator[bytes]:
        """The content as one chunk of BDAT (RFC 3030), in pieces. It ends with a line end, as with DATA."""
        assert unit.transaction is not None  # noqa: S101 -- it was opened
        size = left = unit.transaction.size_bytes
        end = b"" if _ends_a_line(unit.content) else b"\r\n"
        head, held = b"BDAT %d LAST\r\n" % (size + len(end)), b""
        for piece in unit.content.chunks():
            if held:
                yield held
            held, head = head + piece, b""
            left -= len(piece)
            if left < 0:
                break
        if left:
            # More or less than was announced: what follows would be read as commands, or the other way round.
            raise InvalidMessage("the message changed its size while it was sent", code="attachment_changed")
        yield held + head + end


def _ends_a_line(content: Content) -> bool:
    last = content.pieces[-1] if content.pieces else b"\r\n"
    return last.endswith(b"\r\n") if isinstance(last, bytes) else True  # an attachment ends with one


def _stuffed(content: Content) -> Iterator[bytes]:
    """The content as DATA wants it: dots at the beginnings of lines doubled, and a lone dot at the end.

    After a bare LF too: a server that takes it for a line end must not see an end that is none ("SMTP smuggling").
    """
    at_line_start = True
    ending = b"\r\n"
    held = b""
    for piece in content.chunks():
        if held:
            yield held
        starts, at_line_start = at_line_start, piece.endswith(b"\n")
        ending = (ending + piece[-2:])[-2:]
        # Looking for one byte is a hundred times as fast as for two, and base64 has no dot at all.
        held = piece.replace(b"\n.", b"\n..") if b"." in piece else piece
        if starts and piece.startswith(b"."):
            held = b"." + held
    yield held + (b".\r\n" if ending == b"\r\n" else b"\r\n.\r\n")
