"""One message of the log: what became of it, what may be done about it, and, if it is kept, what it says."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from email.message import EmailMessage
from typing import Any

from flask import Response, abort, current_app, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from itsdangerous import BadSignature, URLSafeTimedSerializer
from sqlalchemy import select
from sqlalchemy.orm import Session, selectinload

from ..access import EXPORT, READ_BODIES
from ..diagnosis.remedies import remedy_for
from ..envelope import Envelope
from ..errors import InvalidMessage, OutmailError
from ..models import Delivery, Setup, utc_now
from ..outbox import claims, lanes, resending, store
from ..outbox.resending import AGAIN
from ..outbox.states import ACCEPTED, FAILED, QUEUED, REFUSED, RESTING, SUPPRESSED, UNKNOWN, WAITING
from ..outbox.store import NotPossible
from .activity import note, noted
from .blueprint import ID, engine, needs, pages, tell
from .forms import ActionForm, demand_csrf
from .guard import POLICY
from .mail_view import files, framed_html, masked, parsed, part_text

#: How long the frame of a page with a message can be loaded, in seconds.
FRAME_S = 300
_RELATED = 20
_NO_LONGER = "Its content is not kept: {} a message is deleted as soon as nobody needs it to deliver."


@pages.get(f"/deliveries/<{ID}:delivery_id>")
def delivery(delivery_id: int) -> ResponseReturnValue:
    return _page(delivery_id)


def _page(delivery_id: int, problem: str = "") -> str:
    with engine().database.session() as database:
        row = _wanted(database, delivery_id)
        has_content = _has_content(database, row.id)
        child = select(Delivery).where(Delivery.parent_id == row.id).order_by(Delivery.id).limit(_RELATED)
        children = database.scalars(child).all()
        parent = database.get(Delivery, row.parent_id) if row.parent_id else None
        sender = _sender(database, row)
        lane = lanes.read(database).get(row.connection) if row.state == QUEUED else None
    failed = row.state not in (ACCEPTED, SUPPRESSED) and row.code
    remedy = remedy_for(OutmailError(row.reason, code=row.code, detail=row.reason)) if failed else None
    return render_template(
        "outmail/delivery.html",
        row=row,
        state_words=store.STATES[row.state],
        sender=sender,
        pauses=lane if lane is not None and lane.is_paused(utc_now()) else None,
        children=children,
        parent=parent,
        has_content=has_content,
        remedy=remedy,
        can_cancel=row.state in RESTING,
        can_retry=has_content and row.state in (FAILED, REFUSED, WAITING),
        can_resend=has_content and row.state in AGAIN and row.due_at is None,
        is_unknown=row.state == UNKNOWN,
        # A second press of the button, or of "back" and the button, is the same wish.
        once=secrets.token_urlsafe(12),
        problem=problem,
        form=ActionForm(),
    )


def _sender(database: Session, row: Delivery) -> str:
    """From, as the message has it or as the setup of its last attempt gave it; "" when that is not known."""
    used = next((one.setup_id for one in reversed(row.attempts) if one.setup_id), None)
    setup = database.get(Setup, used) if used and not row.sender else None
    return row.sender or (setup.from_address if setup is not None else "")


# -- what may be done ------------------------------------------------------------------------------------------------


@pages.post(f"/deliveries/<{ID}:delivery_id>/cancel")
def cancel_delivery(delivery_id: int) -> ResponseReturnValue:
    return _changed(delivery_id, "cancel", store.cancel, "It is cancelled.")


@pages.post(f"/deliveries/<{ID}:delivery_id>/retry")
def retry_delivery(delivery_id: int) -> ResponseReturnValue:
    return _changed(delivery_id, "retry", store.retry, "It is queued, and leaves as soon as a worker is free.")


def _changed(delivery_id: int, action: str, change: Callable[[Session, int], Any], said: str) -> ResponseReturnValue:
    demand_csrf()
    with engine().database.session() as database:
        _wanted(database, delivery_id)
        try:
            change(database, delivery_id)
        except NotPossible as exc:
            return _not_possible(delivery_id, exc)
        note(database, action, f"delivery {delivery_id}")
        database.commit()
    engine().wake()
    tell(said)
    return redirect(url_for(".delivery", delivery_id=delivery_id))


@pages.post(f"/deliveries/<{ID}:delivery_id>/resend")
def resend_delivery(delivery_id: int) -> ResponseReturnValue:
    demand_csrf()
    found, form = engine(), request.form
    to, once = form.get("to", "").strip()[:320], form.get("once", "")[:40]
    agreed = form.get("may_arrive_twice") == "yes"
    with found.database.session() as database:
        _wanted(database, delivery_id)
        try:
            queued = resending.resend(database, found.vault, delivery_id, once=once, to=to, may_arrive_twice=agreed)
        except NotPossible as exc:
            database.rollback()
            if exc.code == "may_arrive_twice":
                return _page(delivery_id, "Confirm that it may arrive twice, or send it to somebody else."), 422
            return _not_possible(delivery_id, exc)
        except InvalidMessage:
            database.rollback()
            return _page(delivery_id, "Enter one address, like ann@example.com, or leave the field empty."), 422
        new = store.find(database, queued.delivery_id)
        assert new is not None  # noqa: S101 -- added in this transaction, or found by its key
        if queued.is_new:
            told = "to another recipient" if to else "to the same recipients"
            note(database, "resend", f"delivery {delivery_id}", f"{told}, as delivery {new.id}")
        database.commit()
    found.wake()
    tell("It is queued as a delivery of its own." if queued.is_new else "It was queued already, once.")
    return redirect(url_for(".delivery", delivery_id=new.id))


def _not_possible(delivery_id: int, exc: NotPossible) -> ResponseReturnValue:
    noted()  # nothing was changed
    tell(f"That was not possible: {exc}.", "bad")
    return redirect(url_for(".delivery", delivery_id=delivery_id))


# -- what it says ----------------------------------------------------------------------------------------------------


@pages.get(f"/deliveries/<{ID}:delivery_id>/message")
@needs(READ_BODIES)
def delivery_message(delivery_id: int) -> ResponseReturnValue:
    """What the message says, with the long parts of its links masked."""
    return _message_page(delivery_id, shows_links=False)


@pages.post(f"/deliveries/<{ID}:delivery_id>/message")
@needs(READ_BODIES)
def reveal_delivery_message(delivery_id: int) -> ResponseReturnValue:
    """The same with its links as they are. The answer to the button itself, so that no address opens it."""
    demand_csrf()
    return _message_page(delivery_id, shows_links=True)


def _message_page(delivery_id: int, *, shows_links: bool) -> ResponseReturnValue:
    row, message, _ = _read(delivery_id, "read_links" if shows_links else "read_body")
    show = str if shows_links else masked
    text, html = part_text(message, "plain"), part_text(message, "html")
    page = render_template(
        "outmail/delivery_message.html",
        row=row,
        parsed=message,
        text=show(text),
        has_html=bool(html),
        has_masked=not shows_links and (masked(text) != text or masked(html) != html),
        attachments=files(message),
        seen=_signer().dumps([row.id, shows_links]),
        form=ActionForm(),
    )
    response = current_app.make_response(page)
    if not engine().settings.base_template:
        response.headers["Content-Security-Policy"] = f"{POLICY}; frame-src 'self'"
    return response


@pages.get(f"/deliveries/<{ID}:delivery_id>/html")
@needs(READ_BODIES)
def delivery_html(delivery_id: int) -> ResponseReturnValue:
    """The frame of a page that was just shown, and whose reading is on record: nothing else opens it."""
    try:
        seen_id, shows_links = _signer().loads(request.args.get("seen", ""), max_age=FRAME_S)
    except (BadSignature, ValueError, TypeError):
        abort(404)
    if seen_id != delivery_id:
        abort(404)
    with engine().database.session() as database:
        _, message, _ = _opened(database, delivery_id)
    return framed_html(message, str if shows_links else masked)


@pages.post(f"/deliveries/<{ID}:delivery_id>/eml")
@needs(READ_BODIES, EXPORT)
def export_delivery(delivery_id: int) -> ResponseReturnValue:
    """The whole message as a file, as it was handed over; without Bcc, which is not part of it."""
    demand_csrf()
    row, _, content = _read(delivery_id, "export_message")
    response = Response(content, mimetype="message/rfc822")
    response.headers["Content-Disposition"] = f"attachment; filename=delivery-{row.id}.eml"
    return response


def _read(delivery_id: int, action: str) -> tuple[Delivery, EmailMessage, bytes]:
    """A message whose reading is on record before anybody sees it."""
    with engine().database.session() as database:
        found = _opened(database, delivery_id)
        note(database, action, f"delivery {delivery_id}")
        database.commit()
    return found


def _opened(database: Session, delivery_id: int) -> tuple[Delivery, EmailMessage, bytes]:
    row = _wanted(database, delivery_id)
    if row.content_sealed is None:
        abort(404)
    content = bytes(Envelope.from_bytes(engine().vault.open_bytes(row.content_sealed)).content)
    return row, parsed(content), content


def _wanted(database: Session, delivery_id: int) -> Delivery:
    row = database.get(Delivery, delivery_id, options=[selectinload(Delivery.attempts)])
    if row is None:
        abort(404)
    return row


def _has_content(database: Session, delivery_id: int) -> bool:
    stored = claims.deliveries.c
    kept = select(stored.id).where(stored.id == delivery_id, stored.content_sealed.is_not(None))
    return database.scalar(kept) is not None


def _signer() -> URLSafeTimedSerializer:
    return URLSafeTimedSerializer(str(current_app.secret_key), salt="outmail frame of a message")
