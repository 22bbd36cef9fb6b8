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
from .microsoft import TokenProof, claims, resolve, secure
from .remedies import remedy_for
from .steps import Check, Seen


@dataclass
class GraphProof:
    """The checks for one Graph setup; `TokenProof` stands at their beginning."""

    proof: TokenProof
    settings: GraphSettings
    from_address: str
    answer: Answer | None = None

    def checks(self) -> list[Check]:
        host = self.settings.cloud.graph_host
        return [
            *self.proof.checks(),
            Check("graph_name", f"Name found: {host}", lambda: resolve(host, self.settings.cloud.graph_port)),
            Check("graph_tls", f"Secure connection to {host}", self._tls),
            Check("mailbox", f"Mailbox {self.settings.mailbox} accepts our call", self._mailbox),
            Check("from", f"From {self.from_address} is allowed", self._from),
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
        transport = GraphTransport(replace(self.settings, tokens=self.proof.tokens))
        try:
            self.answer = transport.post(base64.b64encode(_to_nobody(self.from_address)))
        finally:
            transport.close()
        if self.answer.status == 202:
            warning = remedy_for(OutmailError("Graph accepted a message to nobody", code="graph_accepted_empty"))
            return Seen("accepted a message without recipients, which is unexpected", warning)
        error = self._error()
        if isinstance(error, (RecipientsRefused, SenderRefused)):
            return Seen("refused only for want of a recipient, as it should; nothing was sent")
        raise error

    def _from(self) -> Seen:
        error = self._error()
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

    def _error(self) -> DeliveryError:
        assert self.answer is not None  # noqa: S101 -- the check before this one has set it
        mine = self.from_address
        nobody = Envelope(sender=mine, recipients=(), visible=(), from_address=mine, message_id="", content=Content())
        return error_for(self.answer, nobody, transport="microsoft365_graph")


def _to_nobody(from_address: str) -> bytes:
    lines = (f"From: {from_address}", "Subject: Setup test", f"Date: {formatdate()}", "MIME-Version: 1.0",
             "Content-Type: text/plain; charset=us-ascii", "", "This message has no recipients.", "")  # fmt: skip
    return "\r\n".join(lines).encode()
