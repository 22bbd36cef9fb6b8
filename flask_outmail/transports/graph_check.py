"""Looking into the mailbox for what became of a message whose answer was lost.

A message outside Drafts with our Message-ID was accepted. One that stays in Drafts was not sent; right after a send it
may still be on its way out, so that counts only after a while, and only once the draft is deleted and can never leave.
Nothing found proves nothing: Exchange may have given the message another Message-ID, or a rule may have removed the
copy (Graph: outlook-things-to-know-about-send-mail, message resource; users report both).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from enum import Enum
from time import monotonic, sleep
from typing import Any
from urllib.parse import quote

from ..errors import OutmailError
from .graph_calls import PATIENCE_S, GraphCalls, Lost

_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.25, 5.0


@dataclass(frozen=True, slots=True)
class Found:
    """What the mailbox holds under one Message-ID. `drafts` are the ids of unsent ones, with when they were made.

    `at` is when that was so. Both are of the server's clock.
    """

    sent: bool
    at: datetime
    drafts: Sequence[tuple[str, datetime | None]] = ()


def look(calls: GraphCalls, message_id: str, *, patience_s: float = PATIENCE_S) -> Found | None:
    """One look into all folders; None when it could not be taken (no permission, no answer, a long pause)."""
    wanted = message_id.replace("'", "''")
    url = calls.url("messages", filter=f"internetMessageId eq '{wanted}'", select="id,isDraft,createdDateTime")
    try:
        answer = calls.ask("GET", url, patience_s=patience_s)
    except (Lost, OutmailError):
        return None
    items = answer.body.get("value")
    if answer.status != 200 or not isinstance(items, list):
        return None
    read = [one for one in items if isinstance(one, dict) and isinstance(one.get("isDraft"), bool)]
    drafts = [(str(one["id"]), _moment(one.get("createdDateTime"))) for one in read if one["isDraft"] and one.get("id")]
    at = answer.at or datetime.now(timezone.utc)
    return Found(sent=any(not one["isDraft"] for one in read), at=at, drafts=drafts)


def settle(calls: GraphCalls, message_id: str, within_s: float) -> bool | None:
    """What became of a message that was just handed over: accepted, certainly not, or None. Waits up to `within_s`.

    An unsent draft is deleted before False is returned.
    """
    until = monotonic() + within_s
    wait_s = _FIRST_WAIT_S
    while True:
        # The fault that cost us the answer may have come with a request to wait.
        found = look(calls, message_id, patience_s=max(PATIENCE_S, until - monotonic()))
        if found and found.sent:
            return True
        left_s = until - monotonic()
        if left_s <= 0:
            return False if found and _delete_all(calls, found) else None
        sleep(min(wait_s, left_s))
        wait_s = min(wait_s * 2, _LONGEST_WAIT_S)


def check(calls: GraphCalls, message_id: str, settled_s: float) -> bool | None:
    """What became of a message of some time ago, as `settle`, in one look.

    A draft counts as unsent when it is older than `settled_s`.
    """
    found = look(calls, message_id)
    if found is None:
        return None
    if found.sent:
        return True
    newest_at = found.at - timedelta(seconds=settled_s)
    if any(made_at is None or made_at > newest_at for _, made_at in found.drafts):
        return None
    return False if _delete_all(calls, found) else None


class Deleted(Enum):
    """What became of a draft: it was there until now, somebody else had taken it, or that is not known."""

    NOW = "now"
    BEFORE = "before"
    NOT_KNOWN = "not known"


def delete(calls: GraphCalls, draft_id: str) -> Deleted:
    """Deletes a draft, whatever pause Graph has asked for."""
    try:
        answer = calls.ask("DELETE", calls.url(f"messages/{quote(draft_id, safe='')}"), urgent=True)
    except (Lost, OutmailError):
        return Deleted.NOT_KNOWN
    if answer.status == 404 and answer.code.lower() == "erroritemnotfound":
        return Deleted.BEFORE
    return Deleted.NOW if answer.status == 204 else Deleted.NOT_KNOWN


def _delete_all(calls: GraphCalls, found: Found) -> bool:
    # Every one, also behind one that could not be deleted.
    gone = [delete(calls, draft_id) for draft_id, _ in found.drafts]
    return bool(gone) and all(one is Deleted.NOW for one in gone)


def _moment(value: Any) -> datetime | None:
    try:
        moment = datetime.fromisoformat(str(value).replace("Z", "+00:00"))
    except ValueError:
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)
