"""Drafts, attachments, upload sessions, sending and looking up."""

from __future__ import annotations

import base64
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

import pytest

from flask_outmail.simulator import Simulator

MIB = 1024 * 1024
IMMUTABLE = {"Prefer": 'IdType="ImmutableId"'}


def code(answer: Any) -> tuple[int, str]:
    return answer.status_code, answer.json()["error"]["code"]


def message(**changes: Any) -> dict[str, Any]:
    return {
        "subject": "Draft",
        "body": {"contentType": "text", "content": "Hello."},
        "toRecipients": [{"emailAddress": {"address": "ann@x.example"}}],
        **changes,
    }


def open_session(graph: Any, draft_id: str, size: int = 3 * MIB, **item: Any) -> Any:
    values = {"attachmentType": "file", "name": "big.bin", "size": size, **item}
    return graph.request(
        "POST", f"messages/{draft_id}/attachments/createUploadSession", json={"AttachmentItem": values}
    )


def put(graph: Any, url: str, data: bytes, first: int, total: int, **headers: str) -> Any:
    content_range = f"bytes {first}-{first + len(data) - 1}/{total}"
    return graph.session.put(url, data=data, headers={"Content-Range": content_range, **headers}, timeout=10)


# The shape of a message, as in the published schema

SHAPE: dict[str, type | tuple[type, ...]] = {
    "id": str, "changeKey": str, "categories": list, "createdDateTime": str, "lastModifiedDateTime": str,
    "receivedDateTime": str, "sentDateTime": str, "hasAttachments": bool, "internetMessageId": str, "subject": str,
    "bodyPreview": str, "parentFolderId": str, "conversationId": str, "isDeliveryReceiptRequested": bool,
    "isReadReceiptRequested": bool, "isRead": bool, "isDraft": bool, "webLink": str, "toRecipients": list,
    "ccRecipients": list, "bccRecipients": list, "replyTo": list, "body": dict, "from": dict, "sender": dict,
    "flag": dict,
}  # fmt: skip


def test_created_draft_has_the_shape_of_the_schema(graph: Any) -> None:
    draft = graph.create_draft(**message(replyTo=[{"emailAddress": {"address": "r@x.example", "name": "R"}}]))

    for name, kind in SHAPE.items():
        assert isinstance(draft[name], kind), name
    assert draft["importance"] in ("low", "normal", "high")
    assert draft["inferenceClassification"] in ("focused", "other")
    assert draft["body"]["contentType"] in ("text", "html")
    assert draft["flag"]["flagStatus"] in ("notFlagged", "complete", "flagged")
    assert draft["replyTo"] == [{"emailAddress": {"name": "R", "address": "r@x.example"}}]
    for name in ("createdDateTime", "lastModifiedDateTime", "receivedDateTime", "sentDateTime"):
        assert datetime.strptime(draft[name], "%Y-%m-%dT%H:%M:%SZ")
    assert draft["@odata.context"].startswith("https://")
    assert draft["isDraft"] is True
    assert draft["internetMessageId"].startswith("<")
    assert "internetMessageHeaders" not in draft


@pytest.mark.parametrize("form", ["json", "mime"])
def test_draft_is_sent_with_the_ids_it_had(sim: Simulator, graph: Any, make_mime: Any, form: str) -> None:
    draft = graph.create_draft(make_mime(Message_ID=None)) if form == "mime" else graph.create_draft(**message())
    assert sim.delivered == []

    answer = graph.request("POST", f"messages/{draft['id']}/send")

    assert (answer.status_code, answer.content) == (202, b"")
    assert sim.delivered[0].message_id == draft["internetMessageId"]
    [sent] = graph.request("GET", "mailFolders/sentitems/messages").json()["value"]
    assert (sent["internetMessageId"], sent["conversationId"]) == (draft["internetMessageId"], draft["conversationId"])
    assert sent["isDraft"] is False
    assert graph.request("GET", "mailFolders/drafts/messages").json()["value"] == []


def test_mime_draft_without_attachments_is_sent_byte_for_byte(sim: Simulator, graph: Any, make_mime: Any) -> None:
    raw = make_mime(body="a\r\n\r\n b \r\n")
    draft = graph.create_draft(raw)

    graph.request("POST", f"messages/{draft['id']}/send")

    assert sim.delivered[0].raw == raw
    assert draft["internetMessageId"] == "<one@test.example>"


def test_ordinary_id_dies_with_the_sending(graph: Any) -> None:
    draft = graph.create_draft(**message())
    graph.request("POST", f"messages/{draft['id']}/send")

    assert code(graph.request("GET", f"messages/{draft['id']}")) == (404, "ErrorItemNotFound")
    assert code(graph.request("POST", f"messages/{draft['id']}/send")) == (404, "ErrorItemNotFound")


@pytest.mark.parametrize(("mode", "status"), [("kept", 200), ("changed", 404)])
def test_immutable_id_survives_the_sending_or_not(sim: Simulator, graph: Any, mode: str, status: int) -> None:
    sim.behaviour.immutable_ids = mode
    answer = graph.request("POST", "messages", json=message(), headers=IMMUTABLE)
    assert answer.headers["Preference-Applied"] == 'IdType="ImmutableId"'
    graph.request("POST", f"messages/{answer.json()['id']}/send")

    found = graph.request("GET", f"messages/{answer.json()['id']}", headers=IMMUTABLE)

    assert found.status_code == status


def test_between_202_and_delivery_the_draft_is_still_there_and_can_be_sent_twice(sim: Simulator, graph: Any) -> None:
    sim.behaviour.delivery_delay_s = 3600
    draft = graph.create_draft(**message())
    path = f"messages/{draft['id']}"

    assert graph.request("POST", f"{path}/send").status_code == 202
    assert sim.delivered == []
    assert graph.request("GET", path).json()["isDraft"] is True
    assert graph.request("POST", f"{path}/send").status_code == 202
    assert sim.deliver_pending() == 2

    assert len(sim.delivered) == 2
    assert graph.request("GET", path).status_code == 404


def test_delivery_delay_ends_by_itself(sim: Simulator, graph: Any, make_mime: Any) -> None:
    sim.behaviour.delivery_delay_s = 0.05
    graph.send_mime(make_mime())

    assert len(sim.wait_for(1)) == 1


def test_new_messages_can_be_invisible_for_a_while(sim: Simulator, graph: Any) -> None:
    sim.behaviour.visibility_delay_s = 3600
    draft = graph.create_draft(**message())

    assert graph.request("GET", f"messages/{draft['id']}").status_code == 404
    assert graph.request("GET", "messages").json()["value"] == []


def test_messages_are_found_by_internet_message_id_and_conversation(graph: Any, make_mime: Any) -> None:
    draft = graph.create_draft(make_mime(Message_ID="<it's+one@test.example>"))
    graph.create_draft(**message())
    filters = [
        "internetMessageId eq '<it''s+one@test.example>'",
        f"conversationId eq '{draft['conversationId']}'",
        f"conversationId eq '{draft['conversationId']}' and isDraft eq true",
    ]

    for text in filters:
        found = graph.request("GET", "messages", params={"$filter": text, "$select": "internetMessageId,isDraft"})
        [item] = found.json()["value"]
        assert set(item) == {"id", "@odata.etag", "internetMessageId", "isDraft"}
        assert item["id"] == draft["id"]


def test_messages_are_found_by_extended_property(graph: Any) -> None:
    name = "String {11111111-2222-3333-4444-555555555555} Name outmail-id"
    draft = graph.create_draft(**message(singleValueExtendedProperties=[{"id": name, "value": "42"}]))
    text = f"singleValueExtendedProperties/Any(ep: ep/id eq '{name}' and ep/value eq '42')"

    [found] = graph.request("GET", "mailFolders/drafts/messages", params={"$filter": text}).json()["value"]

    assert found["id"] == draft["id"]


def test_filter_that_is_not_understood_is_refused(graph: Any) -> None:
    for text in ("contains(subject,'x')", "isDraft eq true or isDraft eq false", "isDraft eq true isDraft eq true"):
        assert graph.request("GET", "messages", params={"$filter": text}).status_code == 400


def test_what_is_not_there_is_404(graph: Any, make_mime: Any) -> None:
    path = f"messages/{graph.create_draft(make_mime())['id']}"
    body = {"@odata.type": "#microsoft.graph.fileAttachment", "name": "a.txt", "contentBytes": "aGk="}
    graph.request("POST", f"{path}/attachments", json=body)

    assert graph.request("GET", "mailFolders/nowhere/messages").status_code == 404
    assert graph.request("GET", f"{path}/attachments/none").status_code == 404
    assert graph.request("DELETE", f"{path}/attachments/none").status_code == 404


def test_what_is_sent_is_a_draft_no_more(graph: Any) -> None:
    path = f"messages/{graph.create_draft(**message())['id']}"
    graph.request("POST", f"{path}/send")
    [sent] = graph.request("GET", "mailFolders/sentitems/messages").json()["value"]

    assert code(graph.request("POST", f"messages/{sent['id']}/send")) == (400, "ErrorInvalidRequest")


def test_a_draft_above_the_limit_is_413_in_every_form(sim: Simulator, graph: Any, make_mime: Any) -> None:
    sim.behaviour.oversize = "413-bare"
    large = base64.b64encode(make_mime(body="x" * 3_300_000))
    path = f"messages/{graph.create_draft(**message())['id']}/attachments"
    text = {"Content-Type": "text/plain"}

    for answer in (
        graph.request("POST", "messages", data=large, headers=text),
        graph.request("POST", "messages", json=message(subject="x" * 4_200_000)),
        graph.request("POST", path, json={"contentBytes": "x" * 4_200_000}),
        graph.send_json(message(subject="x" * 4_200_000)),
    ):
        assert answer.status_code == 413, answer.text
    assert graph.request("POST", "messages", data=b"x", headers={"Content-Type": "image/png"}).status_code == 415


def test_a_charset_that_nobody_knows_leaves_the_text_out(graph: Any, make_mime: Any) -> None:
    draft = graph.create_draft(make_mime(Content_Type="text/plain; charset=klingon"))

    assert draft["body"]["content"] == ""


def test_headers_are_shown_only_when_selected(graph: Any, make_mime: Any) -> None:
    draft = graph.create_draft(make_mime(X_Order="4711"))

    shown = graph.request("GET", f"messages/{draft['id']}", params={"$select": "internetMessageHeaders"}).json()

    assert {"name": "x-order", "value": "4711"} in shown["internetMessageHeaders"]


def test_mime_of_a_message_can_be_read(graph: Any, make_mime: Any) -> None:
    draft = graph.create_draft(make_mime())

    assert graph.request("GET", f"messages/{draft['id']}/$value").content == make_mime()


def test_json_draft_can_be_changed_and_keeps_its_message_id(sim: Simulator, graph: Any) -> None:
    draft = graph.create_draft(**message())

    answer = graph.request("PATCH", f"messages/{draft['id']}", json={"subject": "Changed", "categories": ["outmail"]})

    assert (answer.json()["subject"], answer.json()["categories"]) == ("Changed", ["outmail"])
    graph.request("POST", f"messages/{draft['id']}/send")
    assert (sim.delivered[0].subject, sim.delivered[0].message_id) == ("Changed", draft["internetMessageId"])


def test_mime_draft_takes_categories_but_no_new_subject(graph: Any, make_mime: Any) -> None:
    path = f"messages/{graph.create_draft(make_mime())['id']}"

    assert graph.request("PATCH", path, json={"categories": ["outmail"]}).json()["categories"] == ["outmail"]
    assert graph.request("PATCH", path, json={"subject": "Changed"}).status_code == 400


def test_deleted_draft_is_gone(graph: Any) -> None:
    path = f"messages/{graph.create_draft(**message())['id']}"

    assert graph.request("DELETE", path).status_code == 204
    assert graph.request("DELETE", path).status_code == 404


def test_draft_without_recipients_cannot_be_sent(graph: Any) -> None:
    draft = graph.create_draft(subject="Nobody")

    assert code(graph.request("POST", f"messages/{draft['id']}/send")) == (400, "ErrorInvalidRecipients")


def test_drafts_need_read_write_and_sending_them_needs_send(sim: Simulator, graph: Any) -> None:
    app = sim.add_app("Sender only", roles=["Mail.Send"])
    token = graph.token(client_id=app.client_id, client_secret=app.secret)

    answer = graph.request("POST", "messages", json=message(), headers={"Authorization": f"Bearer {token}"})

    assert code(answer) == (403, "ErrorAccessDenied")


def test_another_mailboxes_draft_is_not_found(graph: Any) -> None:
    draft = graph.create_draft(**message())

    assert graph.request("GET", f"messages/{draft['id']}", mailbox="anna@contoso.example").status_code == 404


def test_received_mail_is_in_the_inbox_of_a_mailbox(graph: Any, make_mime: Any) -> None:
    graph.send_mime(make_mime(To="anna@contoso.example"))

    [item] = graph.request("GET", "mailFolders/inbox/messages", mailbox="anna@contoso.example").json()["value"]
    assert item["subject"] == "Hello"


# Attachments


def test_small_attachments_are_added_one_by_one(sim: Simulator, graph: Any, make_mime: Any) -> None:
    path = f"messages/{graph.create_draft(make_mime())['id']}"
    body = {"@odata.type": "#microsoft.graph.fileAttachment", "name": "a ü.txt", "contentBytes": "aGk="}

    first = graph.request("POST", f"{path}/attachments", json=body)
    second = graph.request("POST", f"{path}/attachments", json={**body, "name": "gone.txt"})
    gone = graph.request("DELETE", f"{path}/attachments/{second.json()['id']}")

    assert (first.status_code, gone.status_code) == (201, 204)
    assert (first.json()["size"], first.json()["isInline"], first.json()["contentBytes"]) == (2, False, "aGk=")
    assert graph.request("GET", f"{path}/attachments/{first.json()['id']}").json()["name"] == "a ü.txt"
    assert len(graph.request("GET", f"{path}/attachments").json()["value"]) == 1
    assert graph.request("GET", path).json()["hasAttachments"] is True
    graph.request("POST", f"{path}/send")
    assert [(part.filename, part.content) for part in sim.delivered[0].attachments] == [("a ü.txt", b"hi")]
    assert sim.delivered[0].text.strip() == "Hello."


def test_inline_attachment_joins_the_html_of_a_mime_draft(sim: Simulator, graph: Any, make_mime: Any) -> None:
    raw = make_mime(body='<img src="cid:x">\r\n', MIME_Version="1.0", Content_Type="text/html")
    path = f"messages/{graph.create_draft(raw)['id']}"
    body = {
        "@odata.type": "#microsoft.graph.fileAttachment", "name": "x.png", "contentType": "image/png",
        "contentBytes": base64.b64encode(b"png").decode(), "isInline": True, "contentId": "x",
    }  # fmt: skip

    graph.request("POST", f"{path}/attachments", json=body)
    graph.request("POST", f"{path}/send")

    [part] = sim.delivered[0].attachments
    assert (part.content_id, part.inline, sim.delivered[0].html.strip()) == ("x", True, '<img src="cid:x">')


# Upload sessions


def test_large_attachment_goes_up_in_ranges_and_arrives_whole(sim: Simulator, graph: Any, make_mime: Any) -> None:
    content = bytes(range(256)) * (20 * 1024)  # 5 MiB
    draft = graph.create_draft(make_mime())
    session = open_session(graph, draft["id"], len(content), contentType="application/x-big")
    assert session.status_code == 201
    assert session.json()["nextExpectedRanges"] == ["0-"]
    assert datetime.strptime(session.json()["expirationDateTime"], "%Y-%m-%dT%H:%M:%SZ")
    url = session.json()["uploadUrl"]
    assert "/v1.0/" not in url

    step = 10 * 320 * 1024
    first = put(graph, url, content[:step], 0, len(content))
    last = put(graph, url, content[step:], step, len(content))

    assert (first.status_code, first.json()["nextExpectedRanges"]) == (200, [str(step)])
    assert "ExpirationDateTime" in first.json()
    assert "uploadUrl" not in first.json()
    assert (last.status_code, last.content) == (201, b"")
    assert "/Attachments('" in last.headers["Location"]
    graph.request("POST", f"messages/{draft['id']}/send")
    [part] = sim.delivered[0].attachments
    assert (part.filename, part.content_type, part.content == content) == ("big.bin", "application/x-big", True)


def test_too_small_and_too_large_files_get_no_session(graph: Any) -> None:
    draft = graph.create_draft(**message())

    small = open_session(graph, draft["id"], 3 * MIB - 1)
    large = open_session(graph, draft["id"], 150 * MIB + 1)

    assert code(small) == (400, "ErrorAttachmentSizeShouldNotBeLessThanMinimumSize")
    assert code(large) == (413, "ErrorAttachmentSizeLimitExceeded")
    assert code(open_session(graph, draft["id"], name="")) == (400, "ErrorInvalidRequest")


def test_government_cloud_has_no_sessions(sim: Simulator, graph: Any) -> None:
    sim.behaviour.gov = True
    draft = graph.create_draft(**message())

    assert open_session(graph, draft["id"]).status_code == 400


def test_authorization_header_on_an_upload_url_is_refused_in_strict_mode(sim: Simulator, graph: Any) -> None:
    url = open_session(graph, graph.create_draft(**message())["id"]).json()["uploadUrl"]

    assert put(graph, url, b"x", 0, 3 * MIB, Authorization="Bearer x").status_code == 401
    sim.behaviour.strict_uploads = False
    assert put(graph, url, b"x", 0, 3 * MIB, Authorization="Bearer x").status_code == 200


@pytest.mark.parametrize(
    ("size", "first", "total", "status"),
    [
        (10, 5, 3 * MIB, 416),
        (10, 0, 4 * MIB, 400),
        (4 * MIB, 0, 3 * MIB, 413),
    ],
)
def test_ranges_have_to_be_in_order_and_small(graph: Any, size: int, first: int, total: int, status: int) -> None:
    url = open_session(graph, graph.create_draft(**message())["id"]).json()["uploadUrl"]

    assert put(graph, url, b"x" * size, first, total).status_code == status


def test_a_repeated_range_is_416_and_the_session_goes_on(graph: Any) -> None:
    url = open_session(graph, graph.create_draft(**message())["id"]).json()["uploadUrl"]
    assert put(graph, url, b"abc", 0, 3 * MIB).status_code == 200

    assert code(put(graph, url, b"abc", 0, 3 * MIB)) == (416, "invalidRange")
    assert put(graph, url, b"abc", 3, 3 * MIB).json()["nextExpectedRanges"] == ["6"]


def test_length_that_differs_from_its_range_is_refused(graph: Any) -> None:
    url = open_session(graph, graph.create_draft(**message())["id"]).json()["uploadUrl"]
    headers = {"Content-Range": f"bytes 0-9/{3 * MIB}"}

    assert code(graph.session.put(url, data=b"abc", timeout=10)) == (400, "invalidRange")
    assert code(graph.session.put(url, data=b"abc", headers=headers, timeout=10)) == (400, "fragmentLengthMismatch")


@pytest.mark.parametrize("status", [404, 410])
def test_expired_session_is_gone(sim: Simulator, graph: Any, status: int) -> None:
    sim.behaviour.upload_expiry_s, sim.behaviour.expired_upload_status = 0.0, status
    url = open_session(graph, graph.create_draft(**message())["id"]).json()["uploadUrl"]

    assert put(graph, url, b"x", 0, 3 * MIB).status_code == status


def test_session_can_be_deleted_and_its_url_cannot_be_guessed(graph: Any) -> None:
    url = open_session(graph, graph.create_draft(**message())["id"]).json()["uploadUrl"]
    without_secret = url.replace(urlsplit(url).query, "authtoken=x")

    assert put(graph, without_secret, b"x", 0, 3 * MIB).status_code == 401
    assert graph.session.delete(url, timeout=10).status_code == 204
    assert put(graph, url, b"x", 0, 3 * MIB).status_code == 404


def test_upload_urls_are_not_in_the_list_of_answers(sim: Simulator, graph: Any) -> None:
    url = open_session(graph, graph.create_draft(**message())["id"]).json()["uploadUrl"]
    put(graph, url, b"x", 0, 3 * MIB)

    parts = urlsplit(url)
    written = repr(sim.answers)
    assert parts.query not in written
    assert parts.path.rsplit("/", 1)[1] not in written


@pytest.mark.parametrize(("role", "reads"), [("Mail.Read", True), ("Mail.ReadWrite", True), ("Mail.Send", False)])
def test_reading_needs_mail_read_or_more(sim: Simulator, graph: Any, role: str, reads: bool) -> None:
    app = sim.add_app(f"only {role}", roles=[role])
    token = graph.token(client_id=app.client_id, client_secret=app.secret)
    headers = {"Authorization": f"Bearer {token}"}

    assert (graph.request("GET", "messages", headers=headers).status_code == 200) is reads
    assert (graph.request("POST", "messages", json={}, headers=headers).status_code == 201) is (
        role == "Mail.ReadWrite"
    )


def test_dropped_connections_are_gone_and_counted(sim: Simulator, graph: Any, make_mime: Any) -> None:
    graph.send_mime(make_mime())

    assert sim.drop_https_connections() >= 1
    assert graph.send_mime(make_mime()).status_code == 202
