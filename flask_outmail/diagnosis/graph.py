"""Proving Microsoft Graph without sending anything.

Graph looks at permission and sender before it looks for recipients, so a message to nobody proves both and can reach
no one. The order is not documented; the real test message settles it.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass, replace
from email.utils import formatdate

from ..content import Content
from ..envelope import Envelope
from ..errors import DeliveryError, OutmailError, RecipientsRefused, SenderRefused
from ..transports.graph import GraphTransport
from ..transports.graph_calls import Answer, GraphSettings
from ..transports.graph_errors import error_for
from .foreign import NotSettled, closed_to
from .microsoft import TokenProof, claims, resolve, secure
from .remedies import remedy_for
from .steps import Check, Seen

#: What a 403 says when the application may not use the mailbox; others are about what it wanted to do there.
_NO_ACCESS = ("erroraccessdenied", "authorization_requestdenied", "")


@dataclass
class GraphProof:
    """The checks for one Graph setup; `TokenProof` stands at their beginning.

    `foreign_mailbox` is one that must be refused; it is tried where it is given.
    """

    proof: TokenProof
    settings: GraphSettings
    from_address: str
    foreign_mailbox: str = ""
    answer: Answer | None = None

    def checks(self) -> list[Check]:
        host = self.settings.cloud.graph_host
        return [
            *self.proof.checks(),
            Check("graph_name", f"Name found: {host}", lambda: resolve(host, self.settings.cloud.graph_port)),
            Check("graph_tls", f"Secure connection to {host}", self._tls),
            Check("mailbox", f"Mailbox {self.settings.mailbox} accepts our call", self._mailbox),
            Check("from", f"From {self.from_address} is allowed", self._from),
            *([closed_to(self.foreign_mailbox, self._foreign)] if self.foreign_mailbox else []),
            Check("large_messages", "Large attachments", self._large_messages),
        ]

    def _tls(self) -> Seen:
        cloud = self.settings.cloud
        return secure(
            cloud.graph_host,
            cloud.graph_port,
            timeout_s=self.settings.connect_timeout_s,
            ca_file=self.settings.ca_file,
        )

    def _mailbox(self) -> Seen:
        self.answer = self._post_to_nobody(self.settings.mailbox, self.from_address)
        if self.answer.status == 202:
            warning = remedy_for(OutmailError("Graph accepted a message to nobody", code="graph_accepted_empty"))
            return Seen("accepted a message without recipients, which is unexpected", warning)
        error = self._error(self.answer)
        if isinstance(error, (RecipientsRefused, SenderRefused)):
            return Seen("refused only for want of a recipient, as it should; nothing was sent")
        raise error

    def _from(self) -> Seen:
        assert self.answer is not None  # noqa: S101 -- the check before this one has set it
        error = self._error(self.answer)
        if isinstance(error, SenderRefused):
            raise error
        if self.from_address.lower() == self.settings.mailbox.lower():
            return Seen("the mailbox's own address")
        return Seen("the mailbox may send as this address")

    def _large_messages(self) -> Seen:
        """For information: whoever sends no large attachments needs nothing of this."""
        if not self.settings.large_messages:
            return Seen("switched off: up to about 2.1 MB in one message")
        limit = "150 MB in one message" if self.settings.cloud.uploads else "about 3.1 MB each"
        if "Mail.ReadWrite" in (claims(self.proof.token).get("roles") or ()):
            return Seen(f"up to {limit}, as far as the mailbox's own limit allows")
        return Seen(f"up to about 2.1 MB in one message; with the permission Mail.ReadWrite up to {limit}")

    def _foreign(self) -> bool:
        answer = self._post_to_nobody(self.foreign_mailbox, self.foreign_mailbox)
        if answer.status == 403 and answer.code.lower() in _NO_ACCESS:
            return True
        if answer.status == 202 or isinstance(self._error(answer), (RecipientsRefused, SenderRefused)):
            return False
        if answer.status == 404:
            raise NotSettled(f"there is no mailbox {self.foreign_mailbox} ({answer.code})", "foreign_mailbox_unknown")
        raise self._error(answer)

    def _post_to_nobody(self, mailbox: str, from_address: str) -> Answer:
        transport = GraphTransport(replace(self.settings, mailbox=mailbox, tokens=self.proof.tokens))
        try:
            return transport.post(base64.b64encode(_to_nobody(from_address)))
        finally:
            transport.close()

    def _error(self, answer: Answer) -> DeliveryError:
        mine = self.from_address
        nobody = Envelope(sender=mine, recipients=(), visible=(), from_address=mine, message_id="", content=Content())
        return error_for(answer, nobody, transport="microsoft365_graph")


def _to_nobody(from_address: str) -> bytes:
    lines = (f"From: {from_address}", "Subject: Setup test", f"Date: {formatdate()}", "MIME-Version: 1.0",
             "Content-Type: text/plain; charset=us-ascii", "", "This message has no recipients.", "")  # fmt: skip
    return "\r\n".join(lines).encode()
