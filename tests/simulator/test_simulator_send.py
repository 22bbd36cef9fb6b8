"""sendMail: rights, both forms, limits, and what arrives."""

from __future__ import annotations

import base64
import email.policy
import threading
from email.message import EmailMessage
from typing import Any
from urllib.parse import quote

import pytest

from flask_outmail.simulator import Simulator


def code(answer: Any) -> tuple[int, str]:
    return answer.status_code, answer.json()["error"]["code"]


def to(*addresses: str) -> list[dict[str, Any]]:
    return [{"emailAddress": {"address": address}} for address in addresses]


def simple(**changes: Any) -> dict[str, Any]:
    return {
        "subject": "Hello",
        "body": {"contentType": "Text", "content": "Hello."},
        "toRecipients": to("ann@x.example"),
        **changes,
    }


# The answer


def test_success_is_202_with_the_documented_headers_and_no_body(graph: Any, make_mime: Any) -> None:
    mine = "11111111-2222-3333-4444-555555555555"

    answer = graph.send_mime(make_mime(), headers={"client-request-id": mine})

    assert answer.status_code == 202
    assert answer.content == b""
    assert answer.headers["Content-Length"] == "0"
    assert "Content-Type" not in answer.headers
    assert answer.headers["client-request-id"] == mine
    assert answer.headers["request-id"]
    assert answer.headers["Date"]
    assert "Retry-After" not in answer.headers


def test_connections_are_kept_alive(graph: Any, make_mime: Any) -> None:
    graph.token()
    ports = set()
    for _ in range(3):
        answer = graph.send_mime(make_mime(), stream=True)
        ports.add(answer.raw._connection.sock.getsockname()[1])
        answer.content  # noqa: B018 - reads to the end, which frees the connection

    assert len(ports) == 1


def test_error_has_the_shape_of_the_schema(graph: Any, make_mime: Any) -> None:
    answer = graph.send_mime(make_mime(To=None))

    assert set(answer.json()) == {"error"}
    error = answer.json()["error"]
    assert set(error) == {"code", "message", "innerError"}
    assert set(error["innerError"]) == {"date", "request-id", "client-request-id"}
    assert error["innerError"]["request-id"] == answer.headers["request-id"]


# Who may


@pytest.mark.parametrize(
    "header", [None, "", "Bearer", "Bearer ", "Bearer garbage", "Bearer a.b.c", "Basic dXNlcjpwYXNz"]
)
def test_without_a_good_token_it_is_401_with_a_challenge(graph: Any, make_mime: Any, header: str | None) -> None:
    answer = graph.send_mime(make_mime(), headers={"Authorization": header})

    assert code(answer) == (401, "InvalidAuthenticationToken")
    assert answer.headers["WWW-Authenticate"].startswith('Bearer realm=""')


def test_tampered_token_is_401(graph: Any, make_mime: Any) -> None:
    head, _, signature = graph.token().split(".")
    token = ".".join([head, base64.urlsafe_b64encode(b'{"aud":"x"}').decode(), signature])

    assert graph.send_mime(make_mime(), headers={"Authorization": f"Bearer {token}"}).status_code == 401


def test_expired_token_is_401_and_a_new_one_works(sim: Simulator, graph: Any, make_mime: Any) -> None:
    assert graph.send_mime(make_mime()).status_code == 202
    sim.expire_tokens()

    answer = graph.send_mime(make_mime())

    assert code(answer) == (401, "InvalidAuthenticationToken")
    assert "expired" in answer.json()["error"]["message"]
    assert graph.send_mime(make_mime(), headers={"Authorization": f"Bearer {graph.token()}"}).status_code == 202


def test_token_for_another_resource_is_401(sim: Simulator, graph: Any, make_mime: Any) -> None:
    token = graph.token(scope=sim.cloud["smtp_scope"])

    answer = graph.send_mime(make_mime(), headers={"Authorization": f"Bearer {token}"})

    assert code(answer) == (401, "InvalidAuthenticationToken")
    assert "audience" in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    ("mailbox", "expected"),
    [
        ("nobody@contoso.example", (404, "ErrorInvalidUser")),
        ("retired@contoso.example", (404, "MailboxNotEnabledForRESTAPI")),
        ("onprem@contoso.example", (404, "MailboxNotEnabledForRESTAPI")),
    ],
)
def test_mailbox_has_to_exist_in_the_cloud(
    sim: Simulator, graph: Any, make_mime: Any, mailbox: str, expected: tuple[int, str]
) -> None:
    sim.add_mailbox("onprem@contoso.example", on_premises=True)

    assert code(graph.send_mime(make_mime(), mailbox=mailbox)) == expected


def test_mailbox_may_be_named_by_its_object_id(sim: Simulator, graph: Any, make_mime: Any) -> None:
    mailbox = sim.state.mailbox(sim.mailbox)
    assert mailbox is not None

    assert graph.send_mime(make_mime(), mailbox=mailbox.id).status_code == 202


def test_mailbox_is_unquoted_from_its_path_segment(sim: Simulator, graph: Any, make_mime: Any) -> None:
    sim.add_mailbox("guest#ext#+o'neill@contoso.example")

    answer = graph.send_mime(make_mime(From=None), mailbox=quote("guest#ext#+o'neill@contoso.example", safe=""))

    assert answer.status_code == 202


def test_application_without_permission_is_403(sim: Simulator, graph: Any, make_mime: Any) -> None:
    app = sim.add_app("Bare", roles=())
    token = graph.token(client_id=app.client_id, client_secret=app.secret)

    answer = graph.send_mime(make_mime(), headers={"Authorization": f"Bearer {token}"})

    assert code(answer) == (403, "ErrorAccessDenied")


def test_rbac_scope_allows_its_mailboxes_and_no_other(sim: Simulator, graph: Any, make_mime: Any) -> None:
    app = sim.add_app("Scoped", scoped_to={sim.mailbox})
    token = graph.token(client_id=app.client_id, client_secret=app.secret)
    headers = {"Authorization": f"Bearer {token}"}

    assert graph.send_mime(make_mime(), headers=headers).status_code == 202
    answer = graph.send_mime(make_mime(From=None), headers=headers, mailbox="anna@contoso.example")
    assert code(answer) == (403, "ErrorAccessDenied")


def test_token_switched_to_no_roles_is_403(sim: Simulator, graph: Any, make_mime: Any) -> None:
    sim.behaviour.token_style = "no-roles"

    assert code(graph.send_mime(make_mime())) == (403, "ErrorAccessDenied")


def test_unscoped_permission_is_good_for_every_mailbox(graph: Any, make_mime: Any) -> None:
    assert graph.send_mime(make_mime(From=None), mailbox="anna@contoso.example").status_code == 202


@pytest.mark.parametrize("form", ["mime", "json"])
def test_foreign_from_is_403(graph: Any, make_mime: Any, form: str) -> None:
    if form == "mime":
        answer = graph.send_mime(make_mime(From="anna@contoso.example"))
    else:
        answer = graph.send_json(simple(**{"from": to("anna@contoso.example")[0]}))

    assert code(answer) == (403, "ErrorSendAsDenied")


def test_send_as_allows_a_foreign_from(sim: Simulator, graph: Any, make_mime: Any) -> None:
    answer = graph.send_mime(make_mime(From="News <news@contoso.example>", Sender="noreply@contoso.example"))

    assert answer.status_code == 202
    assert str(sim.delivered[0].parsed["from"]) == "News <news@contoso.example>"


def test_alias_in_from_becomes_the_primary_address_unless_the_tenant_says_otherwise(
    sim: Simulator, graph: Any, make_mime: Any
) -> None:
    sim.add_mailbox("shop@contoso.example", aliases=["orders@contoso.example"])
    raw = make_mime(From='"The Shop" <orders@contoso.example>')

    graph.send_mime(raw, mailbox="shop@contoso.example")
    sim.behaviour.send_from_alias = True
    graph.send_mime(raw, mailbox="shop@contoso.example")

    first, second = (mail.parsed["from"].addresses[0] for mail in sim.delivered)
    assert (first.display_name, first.addr_spec) == ("The Shop", "shop@contoso.example")
    assert second.addr_spec == "orders@contoso.example"


def test_mistakes_are_found_in_the_documented_order(graph: Any, make_mime: Any) -> None:
    unreadable = {"Content-Type": "image/png"}
    big = make_mime(body="x" * 3_300_000, From="anna@contoso.example", To=None)

    assert graph.send_mime(make_mime(), mailbox="nobody@contoso.example", headers=unreadable).status_code == 404
    assert graph.send_mime(big, headers=unreadable).status_code == 415
    assert graph.send_mime(big).status_code == 413
    assert code(graph.send_mime(make_mime(From="anna@contoso.example", To=None)))[1] == "ErrorSendAsDenied"


# MIME


def test_bcc_is_delivered_but_not_shown(sim: Simulator, graph: Any, make_mime: Any) -> None:
    raw = make_mime(To="Ann <ann@x.example>", Cc="cleo@x.example", Bcc="Bob <bob@x.example>,\r\n bill@x.example")

    graph.send_mime(raw)

    assert [mail.recipient for mail in sim.delivered] == [
        "ann@x.example", "cleo@x.example", "bob@x.example", "bill@x.example",
    ]  # fmt: skip
    for mail in sim.delivered:
        assert b"bcc" not in mail.raw.lower()
        assert b"bob@" not in mail.raw
        assert b"bill@" not in mail.raw
        assert mail.had_bcc_header


def test_everything_but_bcc_arrives_byte_for_byte(sim: Simulator, graph: Any) -> None:
    before = (
        b"From: =?utf-8?q?M=C3=BCller?=\r\n <noreply@contoso.example>\r\nTo:   ann@x.example\r\n"
        b"X-Odd:  two  spaces \r\nList-Unsubscribe: <mailto:x@x.example>\r\n"
    )
    after = (
        b"Message-ID: <Kept@test.example>\r\nDate: Tue, 24 Nov 2026 08:00:00 +0000\r\nMIME-Version: 1.0\r\n"
        b'Content-Type: multipart/alternative; boundary="b"\r\n\r\npreamble\r\n--b\r\nContent-Type: text/plain\r\n\r\n'
        b".dots\r\n..\r\nBcc: not a header\r\n--b\r\nContent-Type: text/html\r\n\r\n<p>\xc3\xa4\r\n--b--\r\nepilogue"
    )

    answer = graph.send_mime(before + b"Bcc: bob@x.example\r\n\tcarl@x.example\r\n" + after)

    assert answer.status_code == 202
    assert sim.delivered[0].raw == before + after
    assert sim.delivered[0].message_id == "<Kept@test.example>"
    assert sim.delivered[0].text.splitlines() == [".dots", "..", "Bcc: not a header"]


def test_missing_headers_are_added_as_exchange_does(sim: Simulator, graph: Any, make_mime: Any) -> None:
    graph.send_mime(make_mime(From=None, Date=None, Message_ID=None))

    parsed = sim.delivered[0].parsed
    assert str(parsed["from"]) == sim.mailbox
    assert parsed["date"].datetime is not None
    assert sim.delivered[0].message_id.endswith("OUTLOOK.EXAMPLE>")


def test_a_tenant_that_replaces_message_ids(sim: Simulator, graph: Any, make_mime: Any) -> None:
    sim.behaviour.message_ids = "replaced"

    graph.send_mime(make_mime())

    assert sim.delivered[0].message_id != "<one@test.example>"


def test_one_person_named_twice_gets_one_copy(sim: Simulator, graph: Any, make_mime: Any) -> None:
    graph.send_mime(make_mime(To="ann@x.example", Cc="Ann <ANN@x.example>"))

    assert [mail.recipient for mail in sim.delivered] == ["ann@x.example"]


@pytest.mark.parametrize("body", [b"not base64!", b"abc", b"", b"QUJD=QUJD"])
def test_bad_base64_is_400(graph: Any, body: bytes) -> None:
    answer = graph.request("POST", "sendMail", data=body, headers={"Content-Type": "text/plain"})

    assert code(answer) == (400, "ErrorMimeContentInvalidBase64String")
    assert answer.json()["error"]["message"] == "Invalid base64 string for MIME content."


def test_base64_of_something_else_is_400(graph: Any) -> None:
    assert code(graph.send_mime(b"just some words")) == (400, "ErrorMimeContentInvalid")


@pytest.mark.parametrize("recipients", [{"To": None}, {"To": "undisclosed-recipients:;"}, {"To": ""}])
def test_without_recipients_it_is_400(sim: Simulator, graph: Any, make_mime: Any, recipients: Any) -> None:
    answer = graph.send_mime(make_mime(**recipients))

    assert code(answer) == (400, "ErrorInvalidRecipients")
    assert "no recipients" in answer.json()["error"]["message"]
    assert sim.delivered == []


def test_group_without_members_and_bcc_is_delivered(sim: Simulator, graph: Any, make_mime: Any) -> None:
    assert graph.send_mime(make_mime(To="undisclosed-recipients:;", Bcc="bob@x.example")).status_code == 202
    assert [mail.recipient for mail in sim.delivered] == ["bob@x.example"]


def test_a_recipient_that_is_no_address_is_400(graph: Any, make_mime: Any) -> None:
    assert code(graph.send_mime(make_mime(To="ann@x.example, not-an-address"))) == (400, "ErrorInvalidRecipients")


def test_too_many_recipients_are_400(sim: Simulator, graph: Any, make_mime: Any) -> None:
    sim.behaviour.recipient_limit = 2

    answer = graph.send_mime(make_mime(To="a@x.example, b@x.example, c@x.example"))

    assert code(answer) == (400, "ErrorExceededMaxRecipientLimit")


@pytest.mark.parametrize("content_type", ["message/rfc822", "application/octet-stream", ""])
def test_wrong_content_type_is_415(graph: Any, content_type: str) -> None:
    answer = graph.request("POST", "sendMail", data=b"QUJD", headers={"Content-Type": content_type})

    assert answer.status_code == 415


# Size: the limit is on the request


def request_of(size_bytes: int, make_mime: Any) -> bytes:
    """A MIME request of exactly that size once encoded, without line breaks."""
    raw = make_mime()
    packed = base64.b64encode(raw + b"x" * ((size_bytes // 4) * 3 - len(raw)))
    assert len(packed) == size_bytes
    return packed


def test_four_mebibytes_pass_and_four_more_bytes_do_not(sim: Simulator, graph: Any, make_mime: Any) -> None:
    headers = {"Content-Type": "text/plain"}
    limit = 4 * 1024 * 1024

    assert graph.request("POST", "sendMail", data=request_of(limit, make_mime), headers=headers).status_code == 202
    assert graph.request("POST", "sendMail", data=request_of(limit + 4, make_mime), headers=headers).status_code == 413
    assert len(sim.delivered) == 1


def test_oversize_modes(sim: Simulator, graph: Any, make_mime: Any) -> None:
    big = make_mime(body="x" * 3_300_000)

    assert code(graph.send_mime(big)) == (413, "RequestEntityTooLarge")
    sim.behaviour.oversize = "413-bare"
    assert graph.send_mime(big).headers["Content-Type"].startswith("text/html")
    sim.behaviour.oversize = "200"
    answer = graph.send_mime(big)
    assert (answer.status_code, answer.content) == (200, b"")
    assert graph.send_json(simple(subject="x" * 5_000_000)).status_code == 413
    assert sim.delivered == []


def test_message_limit_of_the_mailbox(sim: Simulator, graph: Any, make_mime: Any) -> None:
    sim.behaviour.message_limit_bytes = 1000

    assert code(graph.send_mime(make_mime(body="x" * 2000))) == (413, "ErrorMessageSizeExceeded")


# JSON


def test_json_makes_exactly_one_body_part(sim: Simulator, graph: Any) -> None:
    message = simple(subject="Grüße 🎈", body={"contentType": "HTML", "content": "<p>Schöne Grüße</p>"})

    assert graph.send_json(message).status_code == 202

    mail = sim.delivered[0]
    assert mail.parsed.get_content_type() == "text/html"
    assert (mail.subject, mail.html.strip(), mail.text) == ("Grüße 🎈", "<p>Schöne Grüße</p>", "")
    assert mail.raw.isascii()
    assert str(mail.parsed["from"]) == sim.mailbox


def test_json_names_may_be_in_any_case_and_booleans_may_be_strings(sim: Simulator, graph: Any) -> None:
    body = {
        "Message": {
            "Subject": "Hello",
            "Body": {"ContentType": "TEXT", "Content": "Hello."},
            "ToRecipients": [{"EmailAddress": {"Address": "ann@x.example"}}],
        },
        "SaveToSentItems": "false",
    }

    assert graph.request("POST", "sendmail", json=body).status_code == 202
    assert sim.delivered[0].text.strip() == "Hello."
    assert graph.request("GET", "mailFolders/SentItems/messages").json()["value"] == []


def test_sent_items_get_a_copy_unless_told_otherwise(graph: Any) -> None:
    graph.send_json(simple(subject="kept"))
    graph.send_json(simple(subject="not kept"), also={"saveToSentItems": False})

    found = graph.request("GET", "mailFolders/sentitems/messages").json()["value"]
    assert [item["subject"] for item in found] == ["kept"]


def test_json_people_and_properties_become_headers(sim: Simulator, graph: Any) -> None:
    message = simple(
        ccRecipients=[{"emailAddress": {"address": "cleo@x.example", "name": 'Cleo "C", Ünal'}}],
        bccRecipients=to("bob@x.example"),
        replyTo=to("answers@x.example"),
        importance="High",
        isReadReceiptRequested=True,
        isDeliveryReceiptRequested=True,
        internetMessageHeaders=[{"name": "x-Order", "value": "4711"}],
    )

    assert graph.send_json(message).status_code == 202

    parsed = sim.delivered[0].parsed
    assert parsed["cc"].addresses[0].display_name == 'Cleo "C", Ünal'
    assert (str(parsed["reply-to"]), parsed["importance"], parsed["x-order"]) == ("answers@x.example", "high", "4711")
    assert str(parsed["disposition-notification-to"]) == str(parsed["return-receipt-to"]) == sim.mailbox
    assert "bcc" not in parsed
    assert [mail.recipient for mail in sim.delivered] == ["ann@x.example", "cleo@x.example", "bob@x.example"]


def test_json_attachments_and_inline_images_arrive(sim: Simulator, graph: Any) -> None:
    file = {"@odata.type": "#microsoft.graph.fileAttachment", "contentBytes": base64.b64encode(b"\x00\xff").decode()}
    message = simple(
        body={"contentType": "html", "content": '<img src="cid:logo">'},
        attachments=[
            {**file, "name": "Übersicht.bin", "contentType": "application/x-thing"},
            {**file, "name": "logo.png", "contentType": "image/png", "isInline": True, "contentId": "logo"},
            {**file, "name": "empty.txt", "contentType": "text/plain", "contentBytes": ""},
        ],
    )

    assert graph.send_json(message).status_code == 202

    found = {part.filename: part for part in sim.delivered[0].attachments}
    assert found["Übersicht.bin"].content == b"\x00\xff"
    assert (found["logo.png"].inline, found["logo.png"].content_id) == (True, "logo")
    assert found["empty.txt"].content == b""
    assert sim.delivered[0].html.strip() == '<img src="cid:logo">'


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["In-Reply-To"], "InvalidInternetMessageHeader"),
        (["x-bad name"], "InvalidInternetMessageHeader"),
        ([f"x-{number}" for number in range(6)], "InvalidInternetMessageHeaderCollection"),
    ],
)
def test_json_headers_are_limited(graph: Any, names: list[str], expected: str) -> None:
    headers = [{"name": name, "value": "1"} for name in names]

    assert code(graph.send_json(simple(internetMessageHeaders=headers))) == (400, expected)


def test_line_breaks_in_json_cannot_make_headers(sim: Simulator, graph: Any) -> None:
    message = simple(
        subject="Hello\r\nBcc: evil@x.example",
        internetMessageHeaders=[{"name": "x-a", "value": "1\r\nBcc: evil@x.example"}],
    )

    assert graph.send_json(message).status_code == 202
    assert "bcc" not in sim.delivered[0].parsed
    assert [mail.recipient for mail in sim.delivered] == ["ann@x.example"]


@pytest.mark.parametrize(
    "message",
    [
        "not an object",
        simple(toRecipients="ann@x.example"),
        simple(toRecipients=["ann@x.example"]),
        simple(subject=5),
        simple(body={"contentType": "markdown", "content": "x"}),
        simple(importance="urgent"),
        simple(isReadReceiptRequested="perhaps"),
        simple(attachments=[{"name": "a", "contentBytes": "QQ=="}]),
        simple(attachments=[{"@odata.type": "#microsoft.graph.fileAttachment", "name": "a", "contentBytes": "?"}]),
    ],
)
def test_json_of_the_wrong_shape_is_400(graph: Any, message: Any) -> None:
    assert code(graph.request("POST", "sendMail", json={"message": message})) == (400, "RequestBodyRead")


def test_a_json_attachment_needs_a_name(graph: Any) -> None:
    nameless = {"@odata.type": "#microsoft.graph.fileAttachment", "name": "", "contentBytes": "QQ=="}

    assert code(graph.send_json(simple(attachments=[nameless]))) == (400, "ErrorInvalidRequest")


def test_unreadable_json_and_missing_message_are_400(graph: Any) -> None:
    headers = {"Content-Type": "application/json"}

    assert code(graph.request("POST", "sendMail", data=b"{", headers=headers)) == (400, "RequestBodyRead")
    assert code(graph.request("POST", "sendMail", json=simple())) == (400, "ErrorInvalidParameter")


@pytest.mark.parametrize("recipients", [[], to("not-an-address"), to(""), to("a b@x.example")])
def test_json_recipients_have_to_be_addresses(graph: Any, recipients: Any) -> None:
    assert code(graph.send_json(simple(toRecipients=recipients))) == (400, "ErrorInvalidRecipients")


# Limits in progress, and odd paths


def test_fifth_request_in_progress_is_429_and_the_four_succeed(sim: Simulator, graph: Any, make_mime: Any) -> None:
    graph.token()
    sim.faults.hang("sendMail", 60, times=4)
    clients = [type(graph)(sim) for _ in range(4)]
    for client in clients:
        client._good_token()
    statuses: list[int] = []
    threads = [
        threading.Thread(target=lambda one=client: statuses.append(one.send_mime(make_mime()).status_code))
        for client in clients
    ]
    for thread in threads:
        thread.start()
    for _ in range(1000):
        if not sim.faults.active():
            break
        threading.Event().wait(0.005)

    answer = graph.send_mime(make_mime())
    other_mailbox = graph.send_mime(make_mime(From=None), mailbox="anna@contoso.example")
    sim.state.end_waits()
    for thread in threads:
        thread.join(10)

    for client in clients:
        client.session.close()
    assert code(answer) == (429, "ApplicationThrottled")
    assert int(answer.headers["Retry-After"]) >= 1
    assert other_mailbox.status_code == 202
    assert statuses == [202] * 4


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [
        ("POST", "sendPost", 400),
        ("GET", "sendMail", 405),
        ("POST", "https:me", 400),
        ("GET", "https:groups", 400),
    ],
)
def test_unknown_paths_are_refused_in_graphs_way(
    sim: Simulator, graph: Any, method: str, path: str, expected: int
) -> None:
    url = path.replace("https:", f"{sim.https_url}/v1.0/")

    answer = graph.request(method, url)

    assert answer.status_code == expected
    assert answer.json()["error"]["code"]


@pytest.mark.parametrize("body", ["", None])
def test_a_body_in_pieces_and_a_message_of_headers_alone_are_read_whole(
    sim: Simulator, graph: Any, make_mime: Any, body: str | None
) -> None:
    raw = make_mime(body="") if body is not None else make_mime(body="").removesuffix(b"\r\n")
    packed = base64.b64encode(raw)
    pieces = (packed[start : start + 50] for start in range(0, len(packed), 50))

    answer = graph.request("POST", "sendMail", data=pieces, headers={"Content-Type": "text/plain"})
    assert answer.status_code == 202, answer.text
    assert [mail.subject for mail in sim.delivered] == ["Hello"]


def test_message_built_by_pythons_own_library_survives(sim: Simulator, graph: Any) -> None:
    message = EmailMessage(policy=email.policy.SMTP)
    message["From"], message["To"], message["Subject"] = sim.mailbox, "ann@x.example", "Größe"
    message.set_content("plain ä")
    message.add_alternative("<p>html ä</p>", subtype="html")
    message.add_attachment(b"%PDF", maintype="application", subtype="pdf", filename="Rechnung ä.pdf")

    graph.send_mime(message.as_bytes())

    mail = sim.delivered[0]
    assert (mail.subject, mail.text.strip(), mail.html.strip()) == ("Größe", "plain ä", "<p>html ä</p>")
    assert [(part.filename, part.content) for part in mail.attachments] == [("Rechnung ä.pdf", b"%PDF")]
