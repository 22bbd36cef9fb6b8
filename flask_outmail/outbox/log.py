"""Pages of the delivery log: found by key, never by counting rows over, and never by more looks than a page may take.

Filters by state and time are ranges of an index. The others (address, subject, cause, connection) are looked for in
the next `WINDOW` messages of that range; a page says where it stopped looking, and the next one goes on from there.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, and_, func, or_, select
from sqlalchemy.orm import Session, load_only

from ..models import Delivery
from .claims import deliveries
from .housekeeping import containing, naming
from .states import FAILED, REFUSED, UNKNOWN, WAITING

#: Messages on a page.
PAGE = 50
#: Messages in which a page looks for what has no index.
WINDOW = 20_000
#: Rows of an export that are read at a time.
_EXPORTED_TOGETHER = 1000

_TIME, _ID = deliveries.c.created_at, deliveries.c.id


@dataclass(frozen=True, slots=True)
class Place:
    """A place in the log, as a link carries it: the moment and the number of a message."""

    at: datetime
    id: int

    def __str__(self) -> str:
        return f"{self.at:%Y%m%dT%H%M%S%f}-{self.id}"

    def before(self) -> ColumnElement[bool]:
        return and_(self.at >= _TIME, or_(self.at > _TIME, self.id > _ID))

    def after(self) -> ColumnElement[bool]:
        return and_(self.at <= _TIME, or_(self.at < _TIME, self.id < _ID))


@dataclass(frozen=True, slots=True)
class Filters:
    """What is looked for. `to` is a whole address, or, with a `*` at its end, what addresses begin with."""

    state: str = ""
    connection: str = ""
    code: str = ""
    to: str = ""
    subject: str = ""
    since: datetime | None = None
    until: datetime | None = None

    def ranges(self) -> list[ColumnElement[bool]]:
        """What an index answers."""
        found = []
        if self.state:
            found.append(deliveries.c.state == self.state)
        if self.since is not None:
            found.append(self.since <= _TIME)
        if self.until is not None:
            found.append(self.until > _TIME)
        return found

    def others(self) -> list[ColumnElement[bool]]:
        """What must be looked for in each message."""
        found = []
        if self.connection:
            found.append(deliveries.c.connection == self.connection)
        if self.code:
            found.append(deliveries.c.code == self.code)
        if self.to:
            exact = not self.to.endswith("*")
            found.append(naming(deliveries.c.recipients, self.to.rstrip("*"), exact=exact))
        if self.subject:
            found.append(containing(deliveries.c.subject, self.subject))
        return found


@dataclass(frozen=True, slots=True)
class Page:
    """One page, newest first. `older` and `newer` are where the next ones begin, None at an end.

    `looked_back_to` is set when the looking stopped before the end of the log, and says where.
    """

    rows: Sequence[Delivery]
    older: Place | None
    newer: Place | None
    looked_back_to: datetime | None = None


def page(
    session: Session,
    filters: Filters,
    *,
    before: Place | None = None,
    after: Place | None = None,
    size: int = PAGE,
    window: int = WINDOW,
) -> Page:
    """The page behind `before`, or the one in front of `after`; the newest without either."""
    upwards = after is not None
    place = after or before
    wanted = filters.ranges()
    if place is not None:
        wanted.append(place.after() if upwards else place.before())
    order = (_TIME.asc(), _ID.asc()) if upwards else (_TIME.desc(), _ID.desc())
    others, stopped = filters.others(), None
    if others:
        stopped = _end_of_window(session, wanted, order, window)
        if stopped is not None:
            # Up to that one, which belongs to the window.
            wanted.append(or_(stopped.before() if upwards else stopped.after(), _ID.in_([stopped.id])))
    found = select(_ID, _TIME).where(*wanted, *others).order_by(*order).limit(size + 1)
    keys = [Place(row.created_at, row.id) for row in session.execute(found).all()]
    more = len(keys) > size
    keys = keys[:size]
    ends_at = keys[-1] if more else stopped
    if upwards:
        keys.reverse()
    rows = _rows(session, [key.id for key in keys])
    if upwards and place is not None:
        if len(keys) < size and not others:
            # Nothing in front of it: the newest page, whole, rather than a few rows of it.
            return page(session, filters, size=size)
        # The way back from an empty page begins with the message that it was reached from.
        return Page(rows, older=keys[-1] if keys else Place(place.at, place.id + 1), newer=ends_at)
    front = None if place is None else (keys[0] if keys else Place(place.at, place.id - 1))
    looked_back_to = stopped.at if stopped is not None and not more else None
    return Page(rows, older=ends_at, newer=front, looked_back_to=looked_back_to)


def _end_of_window(session: Session, wanted: list[Any], order: tuple[Any, ...], window: int) -> Place | None:
    """The last message of the window; None when the range ends before."""
    keys = select(_ID, _TIME).where(*wanted).order_by(*order).offset(window - 1).limit(1)
    row = session.execute(keys).first()
    return Place(row.created_at, row.id) if row is not None else None


_SHOWN = (
    Delivery.id, Delivery.uid, Delivery.created_at, Delivery.state, Delivery.connection, Delivery.sender,
    Delivery.recipients, Delivery.subject, Delivery.code, Delivery.reason, Delivery.attempt_count, Delivery.due_at,
    Delivery.message_id, Delivery.size_bytes, Delivery.updated_at, Delivery.origin, Delivery.parent_id,
)  # fmt: skip


def _rows(session: Session, ids: list[int]) -> list[Delivery]:
    by_id = {
        row.id: row for row in session.scalars(select(Delivery).options(load_only(*_SHOWN)).where(Delivery.id.in_(ids)))
    }
    return [by_id[one] for one in ids if one in by_id]


def causes(session: Session, *, now: datetime, hours: int = 24, limit: int = 5) -> list[tuple[str, str, int]]:
    """(state, code, how many) of what was not accepted in the last hours, the most frequent first."""
    states = (REFUSED, FAILED, UNKNOWN, WAITING)
    since = now - timedelta(hours=hours)
    count = func.count()
    rows = session.execute(
        select(deliveries.c.state, deliveries.c.code, count)
        .where(deliveries.c.state.in_(states), since <= _TIME, deliveries.c.code != "")
        .group_by(deliveries.c.state, deliveries.c.code)
        .order_by(count.desc(), deliveries.c.code)
        .limit(limit)
    )
    return [(str(row[0]), str(row[1]), int(row[2])) for row in rows]


# -- export ----------------------------------------------------------------------------------------------------------

COLUMNS = ("id", "created_at", "state", "connection", "sender", "recipients", "subject", "size_bytes",
           "attempt_count", "code", "reason", "updated_at", "message_id", "origin", "parent_id")  # fmt: skip
#: What a spreadsheet takes for the beginning of a formula (OWASP, "CSV Injection").
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "＝", "＋", "－", "＠")


def safe_cell(value: Any) -> str:
    """A value for a cell that no spreadsheet runs; moments in ISO 8601, several addresses with commas between."""
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, list):
        value = ", ".join(map(str, value))
    text = "" if value is None else str(value)
    # Spreadsheets pass over spaces and other invisible characters on the way to the first one that counts.
    return f"'{text}" if text.lstrip(" \n\0\ufeff\u00a0\u3000").startswith(_FORMULA) else text


def csv_lines(open_page: Callable[[Place | None], Page]) -> Iterator[str]:
    """The pages that `open_page(before)` gives, as CSV: UTF-8 with a mark that Excel needs, read a piece at a time."""
    yield "\ufeff" + _line(COLUMNS)
    place: Place | None = None
    while True:
        found = open_page(place)
        lines = [_line(tuple(safe_cell(getattr(row, name)) for name in COLUMNS)) for row in found.rows]
        if lines:
            yield "".join(lines)
        if found.older is None:
            return
        place = found.older


def exported_page(session: Session, filters: Filters, before: Place | None) -> Page:
    """One piece of an export."""
    return page(session, filters, before=before, size=_EXPORTED_TOGETHER)


def _line(cells: Sequence[str]) -> str:
    stream = io.StringIO()
    csv.writer(stream).writerow(cells)
    return stream.getvalue()
