"""Who did what on the pages: a line for each change, and one, before it is shown, for each look into a message."""

from __future__ import annotations

import logging
import re

from flask import request
from sqlalchemy.orm import Session

from .. import audit
from ..engine import Engine
from ..errors import OutmailError
from .blueprint import actor, pages

logger = logging.getLogger(__name__)

#: Views where a button only tries what is typed, and what that is called.
_TRIES = {
    "submit_setup": "stream_setup_test",
    "new_auth_object": "stream_new_auth_object_test",
    "auth_object": "stream_auth_object_test",
    "replace_secret": "stream_secret_test",
}
#: A button that says no more than the name of what was done.
_PLAIN = "save"
#: What a button of ours may be called; a form could hold anything.
_BUTTON = re.compile(r"[a-z_]{1,30}")


def note(session: Session, action: str, object: str, detail: str = "") -> None:
    """Adds a line to the caller's transaction, which tells all that there is to tell of this request."""
    audit.record(session, who=actor(), action=action, object=object, detail=detail)
    noted()


def noted() -> None:
    """Says that somebody else has made the line."""
    request.environ["outmail.noted"] = True


def note_change(engine: Engine) -> None:
    """A line for a change whose view made none. Never fails: the change has happened."""
    if request.environ.get("outmail.noted") or not engine.database:
        return
    button = request.form.get("action", "")
    action = (request.endpoint or "").removeprefix(f"{pages.name}.")
    if button == "test":
        action, button = _TRIES.get(action, action), ""
    where = request.path.removeprefix(engine.settings.url_prefix)
    try:
        with engine.database.session() as session:
            detail = button if _BUTTON.fullmatch(button) and button != _PLAIN else ""
            audit.record(session, who=actor(), action=action, object=where, detail=detail)
            session.commit()
    except OutmailError as exc:
        logger.error("who changed something could not be noted", extra={"action": action, "code": exc.code})
