"""The check of the From domain on a page: run at once and shown whole, or streamed step by step."""

from __future__ import annotations

from flask import Response, render_template
from flask.typing import ResponseReturnValue

from ..diagnosis import steps
from ..diagnosis.domain import DomainCheck
from ..diagnosis.steps import Check, Seen
from ..errors import ConfigurationError, SecretUnreadable
from ..proving import count_test, domain_check
from .blueprint import engine, pages
from .forms import ActionForm, csrf_refused, demand_csrf
from .setup_form import wanted_connection
from .trials import Run, refuse, stream


@pages.get("/domain")
def domain() -> ResponseReturnValue:
    return _page()


@pages.post("/domain")
def check_domain() -> ResponseReturnValue:
    """Asks DNS. Touches the network."""
    demand_csrf()
    run = _run()
    return _page(run.finish() if run is not None else None)


@pages.post("/domain/test")
def stream_domain_check() -> Response:
    """The same for the script on the page: each step is sent as it ends."""
    form = ActionForm()
    form.validate()
    if csrf_refused(form):
        return refuse("This page was open too long. Reload it and check again.", status=400)
    run = _run()
    if run is None:
        return refuse("There is no domain to check: no From address is in use.", status=422)
    return stream(run)


def _page(run: Run | None = None) -> str:
    check = _check()
    return render_template("outmail/domain.html", domain=check.domain if check else "", run=run, form=ActionForm())


def _check() -> DomainCheck | None:
    """The check of the From domain in force; None when there is no domain, or the setup cannot be read."""
    try:
        return domain_check(engine(), connection=wanted_connection())
    except SecretUnreadable:
        return None  # the overview says what to do about it
    except ConfigurationError as exc:
        if exc.code != "domain_not_found":
            raise
        return None


def _run() -> Run | None:
    """The same as steps on a page."""
    found, check = engine(), _check()
    if check is None:
        return None

    def allowed() -> Seen:
        # A button that asks DNS must not become a way to ask it without end.
        count_test(found)
        return Seen(check.domain)

    checks = [Check("settings", "Domain of the From address", allowed), *check.checks()]

    def conclude(run: Run) -> None:
        run.passed = steps.passed(run.done)

    return Run([(one.key, one.title) for one in checks], lambda: steps.run(checks), conclude, kind="domain")
