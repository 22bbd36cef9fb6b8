"""What is told of an incident: one value, and its words as a mail.

A notice holds no body, no secret, and neither an address nor the subject of a message that failed. Whatever is not
in `Notice` cannot be told by any channel.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from ..diagnosis.remedies import WHO_LABELS, Remedy
from ..message import Message
from ..models import Incident
from . import alerts

Event = Literal["opened", "reminder", "recovered", "test"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """One thing to tell. What `@mail.on_alert` functions are called with.

    `id` is the same each time the same thing is told, so that a receiver can drop what it has already. `about` names
    the connection or the credential. `count` is how many messages were affected so far; of a notice of recovery,
    `accepted_count` says how many of those that waited have been accepted since, and `waiting_count` how many still
    wait. `days_left` is that of a credential. `was_told` is false when nobody could be told before that anything was
    wrong. All moments are aware UTC.
    """

    id: str
    event: Event
    kind: str
    application: str
    connection: str
    about: str
    code: str
    title: str
    meaning: str
    steps: tuple[str, ...]
    who: str
    opened_at: datetime
    at: datetime
    count: int = 0
    request_id: str = ""
    waiting_count: int = 0
    accepted_count: int = 0
    days_left: int | None = None
    was_told: bool = True
    page: str = ""

    @classmethod
    def of(
        cls,
        event: Event,
        incident: Incident,
        *,
        application: str,
        at: datetime,
        waiting_count: int = 0,
        accepted_count: int = 0,
        days_left: int | None = None,
        page: str = "",
    ) -> Notice:
        """The notice of an incident."""
        remedy = alerts.remedy_of(incident)
        moment = incident.closed_at if event == "recovered" and incident.closed_at else at
        return cls(
            id=f"{incident.id}-{event}-{incident.level if incident.level is not None else f'{moment:%Y%m%dT%H%M%S}'}",
            event=event,
            kind=incident.kind,
            application=one_line(application),
            connection=one_line(incident.connection),
            about=one_line(incident.about or incident.connection),
            code=incident.code,
            title=remedy.title,
            meaning=remedy.meaning,
            steps=remedy.steps,
            who=WHO_LABELS[remedy.who],
            opened_at=incident.opened_at,
            at=moment,
            count=incident.count,
            request_id=one_line(incident.request_id),
            waiting_count=waiting_count,
            accepted_count=accepted_count,
            days_left=days_left,
            was_told=incident.alert not in ("", alerts.KEPT),
            page=page,
        )

    @classmethod
    def test(cls, remedy: Remedy, *, application: str, at: datetime, page: str = "") -> Notice:
        """What the button “Send test alert” tells."""
        return cls(
            id=f"test-{at:%Y%m%dT%H%M%S%f}",
            event="test",
            kind="test",
            application=one_line(application),
            connection="",
            about="",
            code=remedy.code,
            title=remedy.title,
            meaning=remedy.meaning,
            steps=remedy.steps,
            who=WHO_LABELS[remedy.who],
            opened_at=at,
            at=at,
            page=page,
        )

    @property
    def is_good(self) -> bool:
        """Whether this tells that something is over, or only a test."""
        return self.event in ("recovered", "test")

    @property
    def lasted(self) -> str:
        """How long it has lasted, for reading: "2 h 14 min"."""
        return duration((self.at - self.opened_at).total_seconds())

    @property
    def headline(self) -> str:
        """The whole notice in one line."""
        if self.event == "test":
            return "Test alert: alerts arrive"
        if self.event == "recovered":
            return f"Recovered after {self.lasted}: {_OVER[self.kind].format(about=self.about)}"
        if self.kind == alerts.CREDENTIAL and self.days_left is not None:
            return f"The credential “{self.about}” {ends(self.days_left)}"
        again = "Still: " if self.event == "reminder" else ""
        return f"{again}{_SHORT[self.kind].format(about=self.about)}: {self.title}"

    @property
    def facts(self) -> list[tuple[str, str]]:
        """Name and value of what is known, in the order to show it."""
        if self.event == "test":
            return [("Application", self.application), ("Time", moment(self.at))]
        affected = {alerts.WORKER: "Messages waiting", alerts.QUEUE: "Messages waiting", alerts.HELD: "Messages held"}
        found = [("Application", self.application)]
        if self.kind not in (alerts.CREDENTIAL, alerts.WORKER):
            found.append(("Connection", self.connection))
        if self.kind != alerts.CREDENTIAL:
            found.append((affected.get(self.kind, "Messages affected"), str(self.count)))
            found.append(("Since", moment(self.opened_at)))
        if self.event == "recovered":
            found.append(("Recovered", f"{moment(self.at)}, after {self.lasted}"))
            if self.accepted_count or self.waiting_count:
                found.append(("Waiting messages accepted since", str(self.accepted_count)))
                found.append(("Still waiting", str(self.waiting_count)))
        found.append(("Code", self.code))
        if self.request_id:
            found.append(("Request id", self.request_id))
        return found

    @property
    def remark(self) -> str:
        """A sentence that some notices need beside their facts; "" for most."""
        if self.event == "recovered" and not self.was_told:
            return "Nobody could be told of this before: no channel took the alert while it lasted."
        return ""

    def to_dict(self) -> dict[str, Any]:
        """The notice as JSON, as the generic webhook posts it. Fields may be added; none changes its meaning."""
        return {
            "version": 1,
            "id": self.id,
            "event": self.event,
            "kind": self.kind,
            "headline": self.headline,
            "application": self.application,
            "connection": self.connection,
            "about": self.about,
            "code": self.code,
            "request_id": self.request_id,
            "title": self.title,
            "meaning": self.meaning,
            "steps": list(self.steps),
            "who": self.who,
            "opened_at": self.opened_at.isoformat(),
            "at": self.at.isoformat(),
            "lasted_seconds": int((self.at - self.opened_at).total_seconds()),
            "affected_count": self.count,
            "accepted_count": self.accepted_count,
            "waiting_count": self.waiting_count,
            "days_left": self.days_left,
            "page": self.page,
        }

    def mail(self, to: str) -> Message:
        """The notice as a message, without a sender."""
        steps = [f"  {number}. {step}" for number, step in enumerate(self.steps, 1)]
        told = [self.title, self.meaning, ""] if self.event != "recovered" else [f"What it was: {self.title}", ""]
        lines = [
            f"{self.headline}.",
            "",
            *([self.remark, ""] if self.remark else []),
            *told,
            *(["What to do:", *steps, "", f"Who can do it: {self.who}", ""] if steps and not self.is_good else []),
            *(f"{name}: {value}" for name, value in self.facts),
            *(["", f"Details: {self.page}"] if self.page else []),
        ]
        return Message(
            subject=f"[{self.application}] {self.headline}"[:200],
            recipients=[to],
            body="\n".join(lines) + "\n",
            # So that no robot answers, and no mail programme sends "I am on holiday" (RFC 3834).
            extra_headers={"Auto-Submitted": "auto-generated"},
        )


_SHORT = {
    alerts.FAILING: "Mail over “{about}” is not being accepted",
    alerts.MESSAGE: "Messages over “{about}” are being refused",
    alerts.CREDENTIAL: "The credential “{about}” comes to its end",
    alerts.QUEUE: "Mail over “{about}” does not leave",
    alerts.WORKER: "Mail does not leave",
    alerts.HELD: "Mail over “{about}” is held",
}
_OVER = {
    alerts.FAILING: "mail over “{about}” is accepted again",
    alerts.MESSAGE: "messages over “{about}” are accepted again",
    alerts.CREDENTIAL: "the credential “{about}” is valid for long enough again",
    alerts.QUEUE: "mail over “{about}” leaves again",
    alerts.WORKER: "mail leaves again",
    alerts.HELD: "mail over “{about}” is no longer held",
}


def ends(days_left: int) -> str:
    """When a credential ends: "expires in 7 days", "expires today", "has expired"."""
    if days_left < 0:
        return "has expired"
    return "expires today" if days_left == 0 else f"expires in {days_left} day{'' if days_left == 1 else 's'}"


def duration(seconds: float) -> str:
    """A length of time in its two largest units: "2 h 14 min", "3 d 4 h", "45 s"."""
    left, parts = max(0, int(seconds)), []
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min"), (1, "s")):
        if left >= size:
            parts.append(f"{left // size} {unit}")
            left %= size
        elif parts:
            break
    return " ".join(parts[:2]) or "0 s"


def moment(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M} UTC"


def one_line(text: str) -> str:
    """The text without anything that could end a line: a name must not stop the alert that names it."""
    return " ".join("".join(char if char.isprintable() else " " for char in text).split())
