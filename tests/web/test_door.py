"""What stands before every page and after every change: who may enter, the key of the forms, the line of who did it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from flask import abort, redirect
from jinja2 import ChoiceLoader, DictLoader

from flask_outmail.models import AuditEntry, Base, Incident

from ..conftest import MakeApp, engine_of
from .conftest import Site
from .test_alerts_page import fail
from .test_deliveries import activity, lose, newest, queueing_site
from .test_previews import with_previews

MakeSite = Callable[..., Site]


@pytest.mark.parametrize("verdict", [object(), 3.5])
def test_an_answer_that_is_none_lets_nobody_in_and_is_told_to_the_developer(
    make_app: MakeApp, caplog: pytest.LogCaptureFixture, verdict: Any
) -> None:
    app, mail = make_app(db=True)
    mail.access_control(lambda: verdict)
    assert app.test_client().get("/outmail/").status_code == 403
    assert "must return True, False or a response" in caplog.text


@pytest.mark.parametrize("verdict", [None, 0, "", [], {}])
def test_nothing_is_a_no_in_whatever_form(make_app: MakeApp, verdict: Any) -> None:
    app, mail = make_app(db=True)
    mail.access_control(lambda: verdict)
    assert app.test_client().get("/outmail/").status_code == 403


@pytest.mark.parametrize(("verdict", "status"), [(True, 200), (False, 403)])
def test_a_function_that_cannot_tell_its_arguments_is_called_without_any(
    make_app: MakeApp, verdict: bool, status: int
) -> None:
    app, mail = make_app(db=True)
    mail.access_control(partial(bool, verdict))
    assert app.test_client().get("/outmail/").status_code == status


def test_a_function_that_aborts_turns_people_away_with_our_page(make_app: MakeApp) -> None:
    app, mail = make_app(db=True)
    mail.access_control(lambda: abort(403))
    answer = app.test_client().get("/outmail/setup")
    assert answer.status_code == 403 and "outmail.css" in answer.text


@pytest.mark.parametrize(
    "answer", [lambda: redirect("/login"), lambda: "Log in first.", lambda: abort(redirect("/login"))]
)
def test_nothing_is_noted_of_whoever_is_sent_to_the_log_in(site: Site, answer: Callable[[], Any]) -> None:
    site.mail.access_control(answer)
    for path in ("/setup", "/release", "/deliveries/export"):
        assert site.client.post(f"/outmail{path}").status_code < 400
    assert activity(site) == []


def test_a_page_that_needs_no_table_is_answered_from_a_database_without_tables(site: Site) -> None:
    Base.metadata.drop_all(site.app.extensions["sqlalchemy"].engine)
    assert site.get("/previews/").status_code == 404, "there are none outside debug"
    site.mail.access_control(lambda: False)
    assert site.get("/").status_code == 403


def test_without_a_secret_key_no_form_is_shown(make_site: MakeSite) -> None:
    answer = make_site(SECRET_KEY=None, OUTMAIL_ENCRYPTION_KEYS=["x9tWn0Zz2Q0y6sYvH4mQk5l8eB1rT7uJdC3aGfLpOiE="]).get(
        "/setup"
    )
    assert answer.status_code == 503 and "SECRET_KEY is not set" in answer.text


def test_a_change_stands_although_nobody_can_note_who_made_it(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    site.save_tested(site.smtp_fields())
    fail(site)
    AuditEntry.__table__.drop(site.app.extensions["sqlalchemy"].engine)  # type: ignore[attr-defined]
    assert "Dismissed" in site.post("/alerts/1/dismiss", token_from="/alerts").text
    with engine_of(site.app).database.session() as session:
        assert session.get_one(Incident, 1).closed_by == "anna"
    assert "who changed something could not be noted" in caplog.text


def test_the_policy_of_the_application_is_left_alone_where_a_frame_is_shown_too(make_site: MakeSite) -> None:
    site = with_previews(queueing_site(lambda **config: make_site(OUTMAIL_BASE_TEMPLATE="theirs.html", **config)))
    theirs = "<title>{% block title %}{% endblock %}</title><body class=theirs>{% block content %}{% endblock %}"
    site.app.jinja_env.loader = ChoiceLoader([DictLoader({"theirs.html": theirs}), site.app.jinja_env.loader])  # type: ignore[list-item]
    lose(site)
    for path in ("/previews/welcome", f"/deliveries/{newest(site).id}/message"):
        page = site.get(path)
        assert "class=theirs" in page.text and "<iframe" in page.text, path
        assert "Content-Security-Policy" not in page.headers, path
