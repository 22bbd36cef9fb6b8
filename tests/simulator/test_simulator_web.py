"""The pages and the JSON interface: what they show, and to whom."""

from __future__ import annotations

import base64
import email.policy
import re
import socket
from collections.abc import Iterator
from email.message import EmailMessage
from typing import TYPE_CHECKING, Any

import pytest
import requests

from flask_outmail.simulator import PRESETS, Simulator

from ..web.conftest import browser

if TYPE_CHECKING:
    from playwright.sync_api import Browser

EVIL = "<script>alert(1)</script>"


@pytest.fixture
def web(sim: Simulator) -> Iterator[requests.Session]:
    with requests.Session() as session:
        yield session


@pytest.fixture
def get(sim: Simulator, web: requests.Session) -> Any:
    def fetch(path: str, method: str = "GET", **options: Any) -> requests.Response:
        return web.request(method, sim.web_url + path, timeout=10, **options)

    return fetch


@pytest.fixture
def rich(sim: Simulator, graph: Any) -> int:
    """A delivered mail that tries everything; its number."""
    message = EmailMessage(policy=email.policy.SMTP)
    message["From"], message["To"] = f'"{EVIL}" <noreply@contoso.example>', "ann@x.example"
    message["Subject"] = f"Größe {EVIL}"
    message.set_content(f"text {EVIL}")
    message.add_alternative(
        f'<p style="color:red">html</p>{EVIL}<img src="cid:logo"><img src="https://tracker.example/x.png">',
        subtype="html",
    )
    html = message.get_body(("html",))
    assert isinstance(html, EmailMessage)
    html.add_related(b"png", "image", "png", cid="<logo>", filename="logo.png", disposition="inline")
    message.add_attachment(EVIL.encode(), maintype="text", subtype="html", filename='ev"il\\..ä.html')
    assert graph.send_mime(message.as_bytes()).status_code == 202
    return sim.delivered[0].id


PAGES = ["", "?mailbox=ann%40x.example", "mail/1", "values", "misbehave", "answers", "nowhere"]


@pytest.mark.parametrize("path", PAGES)
def test_every_page_is_strict_and_escapes(get: Any, rich: int, path: str) -> None:
    answer = get(path)

    policy = answer.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "script-src" not in policy
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert "<script" not in answer.text
    assert not re.search(r"<[^>]+\s(style|on\w+)=", answer.text)
    assert answer.status_code == (404 if path == "nowhere" else 200)


def test_overview_lists_newest_first_and_by_mailbox(sim: Simulator, get: Any, graph: Any, make_mime: Any) -> None:
    graph.send_mime(make_mime(Subject="first"))
    graph.send_mime(make_mime(Subject="second", To="bob@x.example"))

    everything = get("").text
    assert everything.index("second") < everything.index("first")
    assert "bob@x.example" in everything
    assert sim.mailbox in everything
    assert "second" not in get("?mailbox=ann@x.example").text


def test_empty_overview_says_how_to_begin(get: Any) -> None:
    assert "Nothing has been delivered" in get("").text


def test_mail_page_shows_text_headers_and_source(get: Any, rich: int) -> None:
    page = get(f"mail/{rich}").text

    assert "text &lt;script&gt;" in page
    assert "Größe &lt;script&gt;" in page
    assert "Content-Type: multipart/mixed" in page
    assert f'src="/mail/{rich}/html"' in page
    assert re.search(r'<iframe[^>]* sandbox="allow-popups', page)
    assert "allow-scripts" not in page
    assert "allow-same-origin" not in page


def test_html_of_a_mail_keeps_its_styles_and_can_load_and_run_nothing(get: Any, rich: int) -> None:
    answer = get(f"mail/{rich}/html")

    policy = answer.headers["Content-Security-Policy"]
    assert "sandbox" in policy
    assert "allow-scripts" not in policy
    assert "img-src data:" in policy
    assert "frame-ancestors 'self'" in policy
    assert 'style="color:red"' in answer.text
    assert f"data:image/png;base64,{base64.b64encode(b'png').decode()}" in answer.text


def test_attachments_are_downloads_whatever_they_are(get: Any, rich: int) -> None:
    answers = [get(f"mail/{rich}/attachments/{position}") for position in range(2)]

    assert [answer.content for answer in answers] == [b"png", EVIL.encode()]
    for answer in answers:
        assert answer.headers["Content-Type"] == "application/octet-stream"
        assert answer.headers["Content-Disposition"].startswith("attachment")
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert get(f"mail/{rich}/attachments/2").status_code == 404
    assert get("mail/999").status_code == 404


def test_source_is_the_delivered_bytes(sim: Simulator, get: Any, rich: int) -> None:
    assert get(f"mail/{rich}/source").content == sim.delivered[0].raw


def test_odd_mails_have_a_page(sim: Simulator, get: Any, graph: Any, make_mime: Any) -> None:
    raws = [
        make_mime(Subject=None, body=""),
        make_mime(Content_Type='text/plain; charset="nonsense"', body="x\r\n"),
        make_mime(Content_Type="multipart/mixed", body="x\r\n"),
        make_mime(Content_Type="image/png", Content_Transfer_Encoding="base64", body="?\r\n"),
        make_mime(Subject="raw Ü \x07"),
        make_mime(
            Content_Type='multipart/mixed; boundary="b"',
            body="--b\r\nContent-Type: message/rfc822\r\n\r\nSubject: inner\r\n\r\nx\r\n--b--\r\n",
        ),
    ]
    for raw in raws:
        assert graph.send_mime(raw).status_code == 202
    for mail in sim.delivered:
        assert get(f"mail/{mail.id}").status_code == 200
        assert get(f"mail/{mail.id}/html").status_code == 200
    assert sim.delivered[-1].attachments[0].filename.endswith(".eml")
    assert b"Subject: inner" in sim.delivered[-1].attachments[0].content
    assert get("api/delivered").status_code == 200


def test_values_to_paste_are_all_there(sim: Simulator, get: Any) -> None:
    page = get("values").text

    for value in (
        sim.tenant, sim.client_id, sim.client_secret, sim.secret_id, sim.mailbox, sim.smtp_password, sim.https_url,
        str(sim.smtp_port), str(sim.smtps_port), str(sim.ca_file),
    ):  # fmt: skip
        assert value in page
        assert value in sim.describe()


def test_configuration_to_paste_is_python(sim: Simulator, get: Any) -> None:
    [text] = re.findall(r'<pre class="copy">(OUTMAIL_CLOUDS.*?)</pre>', get("values").text, re.DOTALL)
    namespace: dict[str, Any] = {}

    exec(text.replace("&#34;", '"'), namespace)  # noqa: S102 - our own page

    assert namespace["OUTMAIL_CLOUDS"] == {"simulator": sim.cloud}
    assert namespace["OUTMAIL_SETUP"]["client_secret"] == sim.client_secret


def test_misbehave_form_adds_faults_and_clears_them(sim: Simulator, get: Any) -> None:
    page = get("misbehave").text
    for name in PRESETS:
        assert f'value="{name}"' in page

    get("misbehave", "POST", data={"preset": "graph-429", "times": "2", "mailbox": sim.mailbox})
    get("misbehave", "POST", data={"preset": "smtp-rcpt-550", "times": "", "recipient": "bad@x.example"})
    get(
        "misbehave",
        "POST",
        data={"endpoint": "sendMail", "status": "418", "code": "Teapot", "retry_after": "3", "happens": "on"},
    )

    first, second, third = sim.faults.active()
    assert (first.status, first.times, first.mailbox) == (429, 2, sim.mailbox)
    assert (second.status, second.times, second.recipient) == (550, None, "bad@x.example")
    assert (third.status, third.code, third.retry_after, third.happens, third.times) == (418, "Teapot", "3", True, 1)
    assert "Teapot" in get("misbehave").text
    get("behave", "POST")
    assert sim.faults.active() == []


@pytest.mark.parametrize(
    "form", [{"preset": "nonsense"}, {"preset": "graph-429", "times": "x"}, {}, {"endpoint": "x", "status": "500"}]
)
def test_misbehave_form_explains_mistakes(sim: Simulator, get: Any, form: dict[str, str]) -> None:
    answer = get("misbehave", "POST", data=form)

    assert answer.status_code == 400
    assert 'role="alert"' in answer.text
    assert sim.faults.active() == []


def test_behaviour_form_saves_and_resets(sim: Simulator, get: Any) -> None:
    form = {name: _entry(value) for name, value, _, _ in sim.behaviour.describe()}

    get("behaviour", "POST", data={**form, "gov": "true", "delivery_delay_s": "1.5", "hidden_capabilities": "SIZE DSN"})
    assert (sim.behaviour.gov, sim.behaviour.delivery_delay_s) == (True, 1.5)
    assert sim.behaviour.hidden_capabilities == ("SIZE", "DSN")
    assert get("behaviour", "POST", data={"oversize": "nonsense"}).status_code == 400
    get("behaviour/reset", "POST")
    assert (sim.behaviour.gov, sim.behaviour.token_refresh_in_s) == (False, None)


def _entry(value: Any) -> str:
    if value is None or value == ():
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)


def test_empty_forgets_the_mail(sim: Simulator, get: Any, rich: int) -> None:
    get("empty", "POST")

    assert sim.delivered == []


def test_answers_page_shows_what_clients_were_told(sim: Simulator, get: Any, graph: Any, make_mime: Any) -> None:
    graph.send_mime(make_mime(To=None))

    page = get("answers").text
    assert "ErrorInvalidRecipients" in page
    assert "sendMail" in page


# Who may


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8025", "localhost.evil.example", "10.0.0.1", "[::2]", "[", "[x]"]
)
def test_other_host_names_get_nothing(sim: Simulator, get: Any, rich: int, host: str) -> None:
    """DNS rebinding: a foreign page that resolves to this machine still names itself."""
    answer = get("", headers={"Host": host})

    assert answer.status_code == 403
    assert "ann@x.example" not in answer.text
    assert get("api/delivered", headers={"Host": host}).status_code == 403


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:8025", "[::1]:8025", "LOCALHOST"])
def test_names_of_this_machine_are_answered(get: Any, host: str) -> None:
    assert get("", headers={"Host": host}).status_code == 200


POSTS = ["empty", "misbehave", "behave", "behaviour", "behaviour/reset", "api/clear", "api/faults"]


@pytest.mark.parametrize("path", POSTS)
@pytest.mark.parametrize(
    "headers",
    [{"Origin": "https://evil.example"}, {"Origin": "null"}, {"Sec-Fetch-Site": "cross-site"},
     {"Sec-Fetch-Site": "same-site"}],
)  # fmt: skip
def test_other_sites_cannot_act(sim: Simulator, get: Any, rich: int, path: str, headers: dict[str, str]) -> None:
    assert get(path, "POST", headers=headers).status_code == 403
    assert len(sim.delivered) == 1


@pytest.mark.browser
def test_the_page_itself_can_act_in_a_browser(sim: Simulator, rich: int, browser: Browser) -> None:
    page = browser.new_page()
    page.goto(f"{sim.web_url}misbehave")
    page.select_option("select[name=preset]", "token-7000222")
    page.click("text=Let it happen")
    page.wait_for_selector("text=Behave again")
    page.goto(sim.web_url)
    page.click("text=Empty")
    page.wait_for_selector("text=Nothing has been delivered")
    page.close()

    assert sim.delivered == []


@pytest.mark.parametrize("path", POSTS)
def test_nothing_changes_by_get(get: Any, path: str) -> None:
    assert get(path).status_code in (200, 405)


def talk(sim: Simulator, request: bytes) -> bytes:
    """What the web server says to these bytes, until it hangs up."""
    host, _, port = sim.web_url.removeprefix("http://").rstrip("/").rpartition(":")
    with socket.create_connection((host, int(port)), timeout=10) as sock:
        sock.sendall(request)
        sock.shutdown(socket.SHUT_WR)
        answer = b""
        while piece := sock.recv(65536):
            answer += piece
    return answer


@pytest.mark.parametrize(
    ("header", "body", "status"),
    [
        ("Content-Length: 999999999999", b"", b" 413 "),
        ("Content-Length: -1", b"", b" 413 "),
        ("Content-Length: 10", b"abc", b""),
        ("Transfer-Encoding: chunked", b"3;x=y\r\nabc\r\n0\r\nX-Trailer: z\r\n\r\n", b" 204 "),
        ("Transfer-Encoding: chunked", b"", b""),
        ("Transfer-Encoding: chunked", b"FFFFFFFFF\r\n", b""),
        ("Transfer-Encoding: chunked", b"zz\r\n", b""),
        ("Transfer-Encoding: chunked", b"-1\r\n", b""),
    ],
)
def test_only_a_request_whose_end_is_known_is_answered_as_a_whole_one(
    sim: Simulator, header: str, body: bytes, status: bytes
) -> None:
    answer = talk(sim, f"POST /api/clear HTTP/1.1\r\nHost: localhost\r\n{header}\r\n\r\n".encode() + body)

    assert answer.split(b"\r\n")[0][8:13] == status


def test_head_is_answered_without_a_body(get: Any) -> None:
    answer = get("", "HEAD")

    assert (answer.status_code, answer.content) == (200, b"")
    assert get("").status_code == 200


# The JSON interface


def test_delivered_mail_as_json(sim: Simulator, get: Any, rich: int) -> None:
    [mail] = get("api/delivered", params={"recipient": "ann@x.example", "raw": "1"}).json()

    assert (mail["recipient"], mail["via"], mail["subject"]) == ("ann@x.example", "graph", f"Größe {EVIL}")
    assert base64.b64decode(mail["raw"]) == sim.delivered[0].raw
    assert mail["attachments"][0]["filename"] == "logo.png"
    assert get("api/delivered", params={"recipient": "bob@x.example"}).json() == []
    assert get("api/delivered", "DELETE").status_code == 204
    assert sim.delivered == []


def test_faults_as_json(sim: Simulator, get: Any) -> None:
    made = get("api/faults", "POST", json={"endpoint": "sendMail", "status": 503, "code": "X", "times": None})
    preset = get("api/faults", "POST", json={"preset": "graph-429", "times": 3})

    assert (made.status_code, preset.status_code) == (201, 201)
    assert [fault["status"] for fault in get("api/faults").json()] == [503, 429]
    assert (sim.faults.active()[0].times, sim.faults.active()[1].times) == (None, 3)
    assert get("api/faults", "DELETE").status_code == 204
    assert sim.faults.active() == []


@pytest.mark.parametrize(
    "body", [{"endpoint": "nowhere"}, {"preset": "nonsense"}, {"preset": "graph-429", "times": "3"}, {"typo": 1}]
)
def test_wrong_faults_as_json_are_explained(get: Any, body: dict[str, Any]) -> None:
    answer = get("api/faults", "POST", json=body)

    assert answer.status_code == 400
    assert answer.json()["error"]


@pytest.mark.parametrize("body", [b"", b"[]", b"{"])
def test_what_is_no_json_object_is_refused(get: Any, body: bytes) -> None:
    assert get("api/faults", "POST", data=body, headers={"Content-Type": "application/json"}).status_code == 400


def test_another_process_can_drive_it(sim: Simulator, get: Any, graph: Any, make_mime: Any) -> None:
    identities = get("api/identities").json()
    assert (identities["tenant"], identities["cloud"]) == (sim.tenant, sim.cloud)
    assert get("api/behaviour", "POST", json={"delivery_delay_s": 3600}).json()["delivery_delay_s"] == 3600
    graph.send_mime(make_mime())
    assert get("api/deliver-pending", "POST").json() == {"count": 1}
    assert any(answer["status"] == 202 for answer in get("api/answers").json())
    assert get("api/expire-tokens", "POST").status_code == 204
    assert graph.send_mime(make_mime()).status_code == 401
    assert get("api/drop-smtp-connections", "POST").json() == {"count": 0}
    assert get("api/clear", "POST").status_code == 204
    assert (sim.delivered, sim.behaviour.delivery_delay_s) == ([], 0.0)


__all__ = ["browser"]
