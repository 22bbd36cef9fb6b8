"""Log-in and log-out, and who may do what. This is where the shop tells Flask-Outmail whom to let in."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar
from urllib.parse import urlsplit

from flask import Blueprint, abort, flash, g, redirect, render_template, request, session, url_for
from werkzeug.wrappers import Response

from .extensions import db, mail
from .forms import LoginForm
from .models import User

blueprint = Blueprint("accounts", __name__)
P = ParamSpec("P")
R = TypeVar("R")


def current_user() -> User | None:
    """Who is logged in; looked up once for each request."""
    if "user" not in g:
        user_id = session.get("user_id")
        g.user = db.session.get(User, user_id) if user_id is not None else None
    user: User | None = g.user
    return user


def is_admin() -> bool:
    user = current_user()
    return user is not None and user.is_admin


@mail.access_control
def may_administer_mail() -> bool | Response:
    if current_user() is None and request.method in ("GET", "HEAD"):
        return _to_login()
    return is_admin()


@mail.actor
def acting_name() -> str:
    user = current_user()
    return user.name if user else ""


def login_required(view: Callable[P, R]) -> Callable[P, R | Response]:
    @wraps(view)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> R | Response:
        return view(*args, **kwargs) if current_user() is not None else _to_login()

    return guarded


def admin_required(view: Callable[P, R]) -> Callable[P, R | Response]:
    @login_required
    @wraps(view)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> R:
        if not is_admin():
            abort(403)
        return view(*args, **kwargs)

    return guarded


def _to_login() -> Response:
    # The answer to a form cannot be asked for again after the log-in, so the page it stood on is.
    wanted = request.full_path.rstrip("?") if request.method == "GET" else urlsplit(request.referrer or "").path
    return redirect(url_for("accounts.login", next=wanted or None))


def _safe_target(target: str) -> str:
    """A path of this site. Whatever else stands in `next` was put there by somebody who wants to lead people away."""
    local = target.startswith("/") and not target.startswith(("//", "/\\")) and target.isprintable()
    return target if local else url_for("shop.home")


@blueprint.route("/login", methods=["GET", "POST"])
def login() -> str | Response:
    form = LoginForm(next=request.args.get("next", ""))
    if form.validate_on_submit():
        user = db.session.scalar(db.select(User).where(User.name == form.name.data.strip()))
        if user is not None and user.has_password(form.password.data):
            # A session that somebody else prepared ends here.
            session.clear()
            session["user_id"] = user.id
            return redirect(_safe_target(form.next.data or ""))
        form.password.errors = ["This name and password do not belong together."]
    return render_template("login.html", form=form)


@blueprint.post("/logout")
def logout() -> Response:
    session.clear()
    flash("You are logged out.")
    return redirect(url_for("shop.home"))
