"""The pages of the delivery log: found, looked at, acted on, exported, erased."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from sqlalchemy import select, update

from flask_outmail.models import Attempt, AuditEntry, Delivery

from ..conftest import engine_of, make_message
from ..integration.test_holding import activate, smtp_values
from ..outbox.conftest import work
from .conftest import Site, titles

MakeSite = Callable[..., Site]
TOKEN = "0c9e6a1fb4d24a5e9d1c7f03a2b8e6d4"
LINK = f"https://shop.example/reset/{TOKEN}?user=ann"
HTML = f'<p>Hello <a href="{LINK}">reset</a><img src="https://tracker.example/p.gif"><script>alert(1)</script></p>'


@pytest.fixture
def site(make_site: MakeSite) -> Site:
    return queueing_site(make_site)


def queueing_site(make_site: MakeSite) -> Site:
    """Mail is queued, and leaves when `work` is called."""
    site = make_site(OUTMAIL_DELIVERY="outbox", OUTMAIL_WORKER_POLL_SECONDS=0.02, OUTMAIL_RETRY_FIRST_SECONDS=0.01)
    activate(site.app, smtp_values(site.simulator), verified=True)
    return site


def fail(site: Site, **changes: Any) -> int:
    """A message that its server refused."""
    site.simulator.faults.preset("smtp-rcpt-550", recipient="ann@customers.example")
    return put(site, **changes)


def lose(site: Site, **changes: Any) -> int:
    """A message of which nobody knows what became."""
    site.simulator.faults.lose_answer("smtp.dot")
    return put(site, **changes)


def put(site: Site, **changes: Any) -> int:
    site.mail.send(make_message(**{"html": HTML, "body": f"Reset: {LINK}\n", **changes}))
    work(site.app)
    return newest(site).id


def newest(site: Site) -> Delivery:
    with engine_of(site.app).database.session() as session:
        return session.scalars(select(Delivery).order_by(Delivery.id.desc())).first() or pytest.fail("no row")


def activity(site: Site) -> list[tuple[str, str, str, str]]:
    with engine_of(site.app).database.session() as session:
        query = select(AuditEntry.who, AuditEntry.action, AuditEntry.object, AuditEntry.detail)
        return [tuple(row) for row in session.execute(query.order_by(AuditEntry.id))]  # type: ignore[misc]


# -- the list --------------------------------------------------------------------------------------------------------


def test_filters_stand_in_the_address_and_find_what_they_say(site: Site) -> None:
    put(site, subject="Welcome", recipients=["bob@customers.example"])
    number = fail(site, subject="Order 17")
    code = newest(site).code
    for query, found in (
        ("", {"Welcome", "Order 17"}),
        ("?state=refused", {"Order 17"}),
        (f"?code={code.replace(' ', '+')}", {"Order 17"}),
        ("?to=BOB@customers.example", {"Welcome"}),
        ("?to=ann*", {"Order 17"}),
        ("?to=nn@customers.example", set()),
        ("?subject=order", {"Order 17"}),
        ("?connection=backup", set()),
        ("?period=hour", {"Welcome", "Order 17"}),
        ("?since=2020-01-01&until=2020-01-02", set()),
        ("?state=nonsense&before=x&after=y&since=tomorrow&period=%00", {"Welcome", "Order 17"}),
    ):
        text = site.get(f"/deliveries/{query}").text
        table = text[text.find("<table") : text.find("</table>")] if "<table" in text else ""
        assert {one for one in ("Welcome", "Order 17") if one in table} == found, query
        assert ("Clear filters" in text) == bool(query)
    assert f"/outmail/deliveries/{number}" in site.get("/deliveries/").text
    assert 'value="ann*"' in site.get("/deliveries/?to=ann*").text


def test_the_causes_of_the_day_lead_to_their_messages(site: Site) -> None:
    fail(site)
    text = site.get("/deliveries/").text
    [link] = re.findall(r'href="/outmail(/deliveries/\?[^"]*code=[^"]*)"', text)
    assert "Order 17" in site.get(link.replace("&amp;", "&")).text


def test_a_hundred_messages_are_walked_page_by_page(site: Site) -> None:
    now = datetime.now(timezone.utc)
    with engine_of(site.app).database.session() as session:
        for number in range(120):
            at = now - timedelta(minutes=number // 7)
            facts = {"message_id": "<x>", "recipients": [], "created_at": at, "updated_at": at}
            session.add(Delivery(state="accepted", subject=f"No. {number:03}", **facts))
        session.commit()
    seen: list[str] = []
    path: str | None = "/deliveries/"
    pages = 0
    while path:
        text = site.get(path).text
        seen += re.findall(r"No\. \d{3}", text)
        pages += 1
        found = re.search(r'rel="next" href="/outmail([^"]+)"', text)
        path = found[1].replace("&amp;", "&") if found else None
    assert (len(seen), len(set(seen)), pages) == (120, 120, 3)
    # A place that is none is the beginning.
    assert "No. 000" in site.get("/deliveries/?before=99999999T999999999999-1").text


def test_what_a_message_says_of_itself_cannot_be_markup(site: Site) -> None:
    number = fail(site, subject="<script>alert(1)</script>")
    for path in ("/deliveries/", f"/deliveries/{number}", "/deliveries/again?state=refused"):
        text = site.get(path).text
        assert "<script>alert" not in text and "&lt;script&gt;alert" in text


# -- one message -----------------------------------------------------------------------------------------------------


def test_one_message_shows_its_tries_and_what_to_do(site: Site) -> None:
    number = fail(site)
    page = site.get(f"/deliveries/{number}")
    assert titles(page) == [f"Delivery {number} Refused"]
    with engine_of(site.app).database.session() as session:
        [attempt] = session.scalars(select(Attempt))
    # The message had no From of its own, so it left with that of the setup.
    sender = f"<dd>{site.simulator.mailbox}</dd>"
    for words in ("Try 1", "What to do", "Who can do it", attempt.code, attempt.worker_id, "over primary", sender):
        assert words in page.text, words
    assert site.get("/deliveries/17000").status_code == 404


def test_it_is_cancelled_or_tried_again_by_a_button(site: Site) -> None:
    site.mail.send(make_message())
    number = newest(site).id
    text = site.post(f"/deliveries/{number}/cancel", token_from=f"/deliveries/{number}").text
    assert "It is cancelled." in text and newest(site).state == "cancelled"
    text = site.post(f"/deliveries/{number}/cancel", token_from="/deliveries/").text
    assert "not possible" in text
    number = fail(site)
    site.post(f"/deliveries/{number}/retry", token_from=f"/deliveries/{number}")
    assert work(site.app) == 1 and newest(site).state == "accepted"
    assert [line[:3] for line in activity(site)] == [
        ("anna", "cancel", "delivery 1"), ("anna", "retry", f"delivery {number}")
    ]  # fmt: skip


def again(site: Site, number: int, **fields: Any) -> Any:
    text = site.get(f"/deliveries/{number}").text
    once = re.search(r'name="once" value="([^"]+)"', text)
    fields = {"once": once[1] if once else "", **fields}
    return site.post(f"/deliveries/{number}/resend", token_from="/deliveries/", **fields)


def test_a_button_pressed_twice_sends_again_once_and_links_the_two(site: Site) -> None:
    number = fail(site)
    for _ in range(2):
        answer = again(site, number, once="the-same")
    assert titles(answer) == [f"Delivery {number + 1} Queued"]
    assert "It was queued already, once." in answer.text and f"delivery {number}</a>" in answer.text
    assert f"delivery {number + 1}</a>" in site.get(f"/deliveries/{number}").text
    assert work(site.app) == 1


def test_another_recipient_can_have_it_but_nonsense_cannot(site: Site) -> None:
    number = fail(site)
    answer = again(site, number, to="no address")
    assert answer.status_code == 422 and "Enter one address" in answer.text and titles(answer)
    again(site, number, to="me@contoso.example")
    work(site.app)
    assert [one.recipient for one in site.simulator.delivered] == ["me@contoso.example"]
    assert "contoso" not in str(activity(site))


def test_an_unknown_one_needs_a_word_before_it_goes_again(site: Site) -> None:
    number = lose(site)
    assert "may arrive twice" in site.get(f"/deliveries/{number}").text
    answer = again(site, number)
    assert answer.status_code == 422 and "Confirm that it may arrive twice" in answer.text
    again(site, number, may_arrive_twice="yes")
    assert newest(site).parent_id == number


def test_where_no_content_is_kept_the_page_says_why_nothing_can_be_done(site: Site) -> None:
    number = put(site)
    text = site.get(f"/deliveries/{number}").text
    assert "It is not stored" in text and "OUTMAIL_KEEP_BODIES_DAYS" in text
    assert "Read the message" not in text and "Send it again" not in text
    assert "not stored any more" in again(site, number).text
    assert site.get(f"/deliveries/{number}/message").status_code == 404


# -- what it says ----------------------------------------------------------------------------------------------------


def test_long_parts_of_links_are_masked_until_a_button_is_pressed_and_both_are_written_down(site: Site) -> None:
    number = fail(site)
    page = site.get(f"/deliveries/{number}/message")
    assert TOKEN not in page.text and "https://shop.example/reset/••••" in page.text and "user=ann" in page.text
    [frame] = re.findall(r'<iframe[^>]* sandbox src="/outmail([^"]+)"', page.text)
    framed = site.get(frame)
    assert TOKEN not in framed.text and "••••" in framed.text
    policy = framed.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy and "img-src data:" in policy and policy.endswith("sandbox")
    assert "frame-src 'self'" in page.headers["Content-Security-Policy"]
    shown = site.post(f"/deliveries/{number}/message")
    assert LINK.replace("&", "&amp;") in shown.text
    [frame] = re.findall(r'<iframe[^>]* sandbox src="/outmail([^"]+)"', shown.text)
    assert TOKEN in site.get(frame).text
    done = [line[1:3] for line in activity(site)]
    assert done[0] == ("read_body", f"delivery {number}") and done[-1] == ("read_links", f"delivery {number}")


def test_the_frame_opens_only_from_a_page_that_was_written_down(site: Site) -> None:
    number, other = fail(site), fail(site)
    [frame] = re.findall(r'sandbox src="/outmail([^"]+)"', site.get(f"/deliveries/{number}/message").text)
    for path in (
        f"/deliveries/{number}/html",
        frame.replace("seen=", "seen=x"),
        frame.replace(f"/{number}/", f"/{other}/"),
    ):
        assert site.get(path).status_code == 404
    assert len(activity(site)) == 1


def test_a_message_is_saved_as_a_file_and_that_is_written_down(site: Site) -> None:
    number = fail(site)
    answer = site.post(f"/deliveries/{number}/eml", token_from=f"/deliveries/{number}")
    assert answer.mimetype == "message/rfc822" and b"Subject: Order 17" in answer.data
    assert f"delivery-{number}.eml" in answer.headers["Content-Disposition"]
    assert activity(site) == [("anna", "export_message", f"delivery {number}", "")]


def test_a_content_that_no_key_opens_shows_a_remedy_and_no_500(site: Site) -> None:
    number = fail(site)
    site.app.secret_key = "changed"
    engine_of(site.app)._vault = None
    assert site.get(f"/deliveries/{number}").status_code == 200
    assert site.get(f"/deliveries/{number}/message").status_code == 503


# -- many at once ----------------------------------------------------------------------------------------------------


def bulk(site: Site, query: str, **fields: Any) -> Any:
    text = site.get(f"/deliveries/again{query}").text
    hidden = dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)"', text))
    hidden.pop("csrf_token", None)
    return site.post("/deliveries/again", token_from=f"/deliveries/again{query}", **{**hidden, **fields})


def test_a_bulk_is_shown_first_and_sends_each_once(site: Site) -> None:
    for number in range(3):
        fail(site, subject=f"Order {number}")
    query = f"?state=refused&code={newest(site).code}&period=day"
    assert "Send these again" in site.get(f"/deliveries/{query}").text
    text = site.get(f"/deliveries/again{query}").text
    assert "<strong>3</strong>" in text and "Order 2" in text
    assert "Queued again: 2 messages" in bulk(site, query, count="2").text
    assert "Queued again: 1 message." in bulk(site, query).text
    assert "nothing that could be sent again" in site.get(f"/deliveries/again{query}").text
    late = site.post("/deliveries/again", token_from="/deliveries/", state="refused", count="2")
    assert "have been sent again already" in late.text, "as of a page that was open for long"
    assert work(site.app) == 3
    assert sorted(one.parsed["Subject"] for one in site.simulator.delivered) == ["Order 0", "Order 1", "Order 2"]
    assert [line[1] for line in activity(site)] == ["resend_bulk"] * 3


def test_unknown_ones_go_again_in_bulk_only_when_that_is_said(site: Site) -> None:
    lose(site)
    answer = bulk(site, "?state=unknown")
    assert answer.status_code == 422 and "Confirm that these messages may arrive twice" in answer.text
    assert "Queued again: 1 message." in bulk(site, "?state=unknown", may_arrive_twice="yes").text


def test_what_was_found_is_exported_and_no_cell_is_a_formula(site: Site) -> None:
    put(site, subject="=HYPERLINK(1)", recipients=["bob@customers.example"])
    fail(site)
    answer = site.post("/deliveries/export", token_from="/deliveries/", to="bob@customers.example")
    assert answer.data.startswith("\ufeffid,".encode()) and answer.mimetype == "text/csv"
    assert "'=HYPERLINK(1)" in answer.text and "Order 17" not in answer.text
    assert activity(site) == [("anna", "export", "deliveries", "to")]


def test_a_person_is_erased_and_the_address_stands_nowhere_afterwards(site: Site) -> None:
    number = fail(site)
    assert site.post("/deliveries/erase", address="ann").status_code == 422
    text = site.post("/deliveries/erase", address="ann@customers.example").text
    assert "Anonymised: 1 message." in text
    for path in ("/deliveries/", f"/deliveries/{number}", "/history"):
        assert "ann@customers" not in site.get(path).text
    assert "(erased)" in site.get("/deliveries/").text
    assert "Erased" in site.get("/history").text


def test_what_has_still_to_leave_is_told_when_a_person_is_erased(site: Site) -> None:
    site.mail.send(make_message())
    text = site.post("/deliveries/erase", address="ann@customers.example").text
    assert "Anonymised: 0 messages." in text and "1 still to leave, and so left as they are." in text
    assert newest(site).recipients == ["ann@customers.example"]


# -- who may do what -------------------------------------------------------------------------------------------------


#: What each way in needs besides "see"; those that are not named: GET nothing, POST "change".
NEEDS = {
    ("GET", "new_auth_object"): {"change"},
    ("POST", "new_auth_object"): {"change"},
    ("GET", "replace_secret"): {"change"},
    ("POST", "replace_secret"): {"change"},
    ("GET", "delete_auth_object"): {"delete"},
    ("POST", "delete_auth_object"): {"delete"},
    ("GET", "resend_deliveries"): {"change"},
    ("GET", "erase_deliveries"): {"delete"},
    ("POST", "do_erase_deliveries"): {"delete"},
    ("POST", "export_deliveries"): {"export"},
    ("POST", "export_delivery"): {"read_bodies", "export"},
    ("GET", "delivery_message"): {"read_bodies"},
    ("POST", "reveal_delivery_message"): {"read_bodies"},
    ("GET", "delivery_html"): {"read_bodies"},
}
ACTIONS = ("see", "change", "delete", "read_bodies", "export")


def ways_in(site: Site) -> list[tuple[str, str, str]]:
    """(method, view, path) of everything below the prefix but the static files."""
    found = []
    for rule in site.app.url_map.iter_rules():
        name = rule.endpoint.removeprefix("outmail.")
        if name != rule.endpoint and name != "static":
            path = re.sub(r"<[^>]+>", "1", rule.rule)
            found += [(method, name, path) for method in (rule.methods or set()) & {"GET", "POST"}]
    return found


@pytest.mark.parametrize("missing", ACTIONS)
def test_no_way_in_answers_whoever_lacks_what_it_needs(site: Site, missing: str) -> None:
    site.mail.access_control(lambda action: action != missing)
    seen = set()
    for method, name, path in ways_in(site):
        needs = {"see"} | NEEDS.get((method, name), {"change"} if method == "POST" else set())
        status = site.client.open(path, method=method).status_code
        assert (status == 403) == (missing in needs), (method, name, status)
        seen |= needs
    assert seen == set(ACTIONS)
    assert set(NEEDS) <= {(method, name) for method, name, _ in ways_in(site)}


@pytest.mark.parametrize("knows", [lambda action="see": action == "see", lambda **asked: asked["action"] == "see"])
def test_whoever_may_only_look_is_shown_no_button_that_would_be_refused(site: Site, knows: Any) -> None:
    site.post("/auth-objects/new", action="save", **site.object_fields())
    number = fail(site)
    site.mail.access_control(knows)
    for path in ("/", "/setup", "/auth-objects/", "/auth-objects/1", "/deliveries/", f"/deliveries/{number}", "/alerts",
                 "/history", "/deliveries/?state=refused"):  # fmt: skip
        answer = site.get(path)
        assert answer.status_code == 200, path
        forms = re.findall(r'<form[^>]*method="post".*?</form>', answer.text, re.DOTALL)
        assert not [one for one in forms if "<button" in one], path
        for word in ("New authentication object</a>", "Delete…", "Erase a person", "Export", "Read the message",
                     "Send it again", "Send these again", "Replace without"):  # fmt: skip
            assert word not in answer.text, (path, word)


def test_a_function_without_the_argument_decides_everything(site: Site) -> None:
    number = fail(site)
    site.mail.access_control(lambda: True)
    assert site.get(f"/deliveries/{number}/message").status_code == 200
    site.mail.access_control(lambda: False)
    assert {site.client.open(path, method=method).status_code for method, _, path in ways_in(site)} == {403}


def test_every_change_leaves_a_line_of_who_made_it_and_no_secret(site: Site) -> None:
    site.post("/auth-objects/new", action="save", **site.object_fields())
    site.save(site.smtp_fields(), action="save_draft")
    site.client.post("/outmail/setup", data={"action": "save"})  # no token: no change
    site.save(site.smtp_fields(), action="choose")  # shows other fields, and changes nothing
    site.save(site.smtp_fields(), action="test")
    site.post("/auth-objects/1", action="test", **site.object_fields())
    site.save(site.smtp_fields(from_name="Contoso"))
    site.post("/history/1/restore", token_from="/history", revision="3")
    site.post("/history/1/restore", token_from="/history", revision="3")  # somebody was quicker: no change
    lines = activity(site)
    assert [line[1:] for line in lines] == [
        ("new_auth_object", "/auth-objects/1", ""),
        ("save_setup", "revision 2 of primary", "draft"),
        ("stream_setup_test", "/setup", ""),
        ("stream_auth_object_test", "/auth-objects/1", ""),
        ("save_setup", "revision 3 of primary", "in use"),
        ("restore_revision", "revision 1 of primary", "as revision 4 of primary"),
    ]
    assert {line[0] for line in lines} == {"anna"}
    text = site.get("/history").text
    assert "Made an authentication object" in text and "anna" in text
    cells = re.findall(r'<td data-label="Of"[^>]*>([^<]+)</td>', text)
    assert cells == ["revision 1 of primary", "revision 3 of primary", "authentication object 1", "–",
                     "revision 2 of primary", "authentication object 1"]  # fmt: skip
    for secret in (site.simulator.client_secret, site.simulator.smtp_password):
        assert secret not in str(lines) + text


def test_the_activity_goes_on_on_further_pages(site: Site) -> None:
    with engine_of(site.app).database.session() as session:
        session.add_all([AuditEntry(action="cancel", who="anna", object=f"delivery {one:02}") for one in range(70)])
        session.commit()
    text, seen = site.get("/history").text, []
    while True:
        seen += re.findall(r"delivery \d\d", text)
        found = re.search(r'href="/outmail([^"#]+before=\d+)', text)
        if not found:
            break
        text = site.get(found[1]).text
    assert seen == [f"delivery {one:02}" for one in reversed(range(70))]


def test_a_message_kept_after_it_was_accepted_is_read_and_sent_again(make_site: MakeSite) -> None:
    site = make_site(OUTMAIL_KEEP_BODIES_DAYS=3)
    activate(site.app, smtp_values(site.simulator), verified=True)
    site.mail.send(make_message())
    number = newest(site).id
    assert "Thank you." in site.get(f"/deliveries/{number}/message").text
    with engine_of(site.app).database.session() as session:
        session.execute(update(Delivery).values(content_sealed=None))
        session.commit()
    assert "It is not stored" in site.get(f"/deliveries/{number}").text
