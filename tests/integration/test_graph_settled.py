"""The last step of a message over Graph: an answer that is lost, a look into the mailbox, and the JSON we send."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from flask_outmail.envelope import Envelope
from flask_outmail.errors import (
    DeliveryUnknown,
    TransportUnavailable,
)
from flask_outmail.message import Message
from flask_outmail.simulator import Fault, Simulator
from flask_outmail.transports.graph import GraphTransport
from flask_outmail.transports.graph_attach import (
    attachment_item,
    attachment_json,
    next_position,
)
from flask_outmail.transports.graph_calls import GraphSettings

from .conftest import MakeTransport
from .test_graph_large import BIG, BIG_FILE, calls, drafts_left, message, sent_once

# -- the last step ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fault",
    [
        Fault(endpoint="send", happens=True, drop=True),
        Fault(endpoint="send", status=504, code="GatewayTimeout", happens=True),
        Fault(endpoint="send", status=500, code="UnknownError", happens=True),
    ],
    ids=str,
)
def test_a_lost_answer_to_the_send_is_settled_by_what_the_mailbox_holds(
    simulator: Simulator, make_transport: MakeTransport, fault: Fault
) -> None:
    simulator.faults.add(fault)
    receipt = make_transport({"settle_s": 30.0}).deliver(message(BIG_FILE))
    assert receipt.accepted and receipt.request_id
    assert sent_once(simulator).attachments[0].content == BIG


def test_a_send_that_takes_its_time_is_waited_for(simulator: Simulator, make_transport: MakeTransport) -> None:
    """The draft is still in Drafts when one looks first: it must not be taken for unsent, or the mail comes twice."""
    simulator.behaviour.delivery_delay_s = 1.0
    simulator.faults.add(Fault(endpoint="send", happens=True, drop=True))
    assert make_transport({"settle_s": 30.0}).deliver(message(BIG_FILE)).accepted
    assert len(simulator.delivered) == 1


def test_a_send_that_never_happened_is_certain_and_the_draft_is_gone(
    simulator: Simulator, transport: GraphTransport
) -> None:
    simulator.faults.lose_request("send")
    with pytest.raises(TransportUnavailable) as caught:
        transport.deliver(message(BIG_FILE))
    assert (caught.value.code, caught.value.retryable) == ("draft_unsent", True)
    assert simulator.delivered == [] and drafts_left(simulator) == 0


def test_an_outcome_that_cannot_be_settled_is_unknown_and_its_draft_stays(
    simulator: Simulator, transport: GraphTransport
) -> None:
    simulator.faults.lose_request("send")
    simulator.faults.add(Fault(endpoint="messages", method="GET", status=503, times=None))
    with pytest.raises(DeliveryUnknown) as caught:
        transport.deliver(message(BIG_FILE))
    assert caught.value.request_id
    assert drafts_left(simulator) == 1


def test_a_draft_that_is_gone_after_a_429_is_looked_for(simulator: Simulator, make_transport: MakeTransport) -> None:
    simulator.faults.add(Fault(endpoint="send", status=429, code="ApplicationThrottled", retry_after=0, happens=True))
    assert make_transport({"settle_s": 30.0}).deliver(message(BIG_FILE)).accepted
    assert len(simulator.delivered) == 1


# -- the small message, looked up ------------------------------------------------------------------------------------


def test_a_lost_answer_to_send_mail_is_looked_up_only_where_that_is_allowed(
    simulator: Simulator, make_transport: MakeTransport
) -> None:
    simulator.faults.lose_answer("sendMail", times=2)
    with pytest.raises(DeliveryUnknown):
        make_transport().deliver(message())
    assert [word for _, word, _ in calls(simulator)] == ["sendMail"]
    assert make_transport({"check": True}).deliver(message()).accepted
    assert len(simulator.delivered) == 2


def test_nothing_found_proves_nothing(simulator: Simulator, make_transport: MakeTransport) -> None:
    simulator.behaviour.message_ids = "replaced"
    simulator.faults.lose_answer("sendMail")
    with pytest.raises(DeliveryUnknown):
        make_transport({"check": True}).deliver(message())
    assert len(simulator.delivered) == 1


def test_check_says_what_it_knows_and_no_more(simulator: Simulator, make_transport: MakeTransport) -> None:
    transport = make_transport({"check": True, "settle_s": 0.0})
    sent = transport.deliver(message())
    assert transport.check(sent.message_id) is True
    assert transport.check("<never'seen@contoso.example>") is None
    assert transport.check("") is None
    assert not hasattr(make_transport(), "check")  # not allowed to look, so nobody has to ask

    simulator.faults.lose_request("send")
    simulator.faults.add(Fault(endpoint="messages", method="GET", status=503, times=1))
    lost = message(BIG_FILE)
    with pytest.raises(DeliveryUnknown):
        transport.deliver(lost)
    young = make_transport({"check": True, "settle_s": 3600.0})
    assert young.check(lost.message_id) is None  # it may still be on its way out
    assert transport.check(lost.message_id) is False
    assert drafts_left(simulator) == 0


def test_check_needs_no_more_than_mail_read_and_says_nothing_without_it(
    simulator: Simulator, make_transport: MakeTransport
) -> None:
    reader = simulator.add_app("reader", roles=["Mail.Send", "Mail.Read"])
    transport = make_transport({"check": True}, client_id=reader.client_id, client_secret=reader.secret)
    sent = transport.deliver(message())
    assert transport.check(sent.message_id) is True
    sender = simulator.add_app("sender", roles=["Mail.Send"])
    blind = make_transport({"check": True}, client_id=sender.client_id, client_secret=sender.secret)
    assert blind.check(sent.message_id) is None


# -- the JSON we send, against Microsoft's description of it (OpenAPI of Graph v1.0) ---------------------------------

ATTACHMENT_ITEM = {  # microsoft.graph.attachmentItem
    "attachmentType": str, "contentId": str, "contentType": str, "isInline": bool, "name": str, "size": int,
}  # fmt: skip
FILE_ATTACHMENT = {  # microsoft.graph.fileAttachment and what it inherits
    "@odata.type": str, "contentType": str, "isInline": bool, "lastModifiedDateTime": str, "name": str, "size": int,
    "contentBytes": str, "contentId": str, "contentLocation": str,
}  # fmt: skip


def conforms(value: dict[str, Any], described: dict[str, type]) -> bool:
    """The type is open, so Graph says nothing about a name it does not know: each must be one that it describes."""
    return set(value) <= set(described) and all(type(value[name]) is described[name] for name in value)


def test_the_json_of_attachments_has_only_names_and_types_that_microsoft_describes() -> None:
    made = Message("x", ["ann@customers.example"], html="<p>", sender="noreply@contoso.example")
    made.attach("a.png", "image/png", b"png", "inline", headers={"Content-ID": "<plan>"})
    made.attach("b.bin", "x/y", b"bin")
    for part in Envelope.for_message(made).content.files:
        item = attachment_item(part)
        assert conforms(item, ATTACHMENT_ITEM)
        assert item["attachmentType"] in ("file", "item", "reference")
        one = json.loads(attachment_json(part, b"\xfb\xff"))
        assert conforms(one, FILE_ATTACHMENT)
        assert one["@odata.type"] == "#microsoft.graph.fileAttachment"
        # Described as base64url, shown and taken as ordinary base64 (Graph: attachment-post).
        assert base64.b64decode(one["contentBytes"], validate=True) == b"\xfb\xff"
        assert ("contentId" in item) == ("contentId" in one) == part.is_inline


@pytest.mark.parametrize(
    ("ranges", "position"),
    [
        (["0-"], 0), (["2097152"], 2097152), (["26-100", "200-"], 26), (["300-", "26-100"], 26), ("12-", 12),
        ([5], 5), ([], None), (None, None), (["x"], None), ([None], None), ({}, None),
    ],
)  # fmt: skip
def test_expected_ranges_are_read_in_every_form_they_come_in(ranges: Any, position: int | None) -> None:
    assert next_position({"NextExpectedRanges": ranges}) == position


def test_settings_show_no_token(transport: GraphTransport) -> None:
    assert isinstance(transport.settings, GraphSettings)
    assert "tokens" not in repr(transport.settings)
