"""What is told of an incident: one value, and its words as a mail.

A notice holds no body, no secret, and neither an address nor the subject of a message that failed. Whatever is not
in `Notice` cannot be told by any channel.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from ..diagnosis.remedies import WHO_LABELS, Remedy
from ..message import Message
from ..models import Incident
from ..words import ENGLISH, Words
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

    What people read (`title`, `meaning`, `steps`, `who`, and what is made of them) is in the language of `words`; all
    else is the same in every language.
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
    words: Words = field(default=ENGLISH, repr=False)

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
        words: Words = ENGLISH,
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
            **_told(remedy, words),
            opened_at=incident.opened_at,
            at=moment,
            count=incident.count,
            request_id=one_line(incident.request_id),
            waiting_count=waiting_count,
            accepted_count=accepted_count,
            days_left=days_left,
            was_told=incident.alert not in ("", alerts.KEPT),
            page=page,
            words=words,
        )

    @classmethod
    def test(cls, remedy: Remedy, *, application: str, at: datetime, page: str = "", words: Words = ENGLISH) -> Notice:
        """What the button “Send test alert” tells."""
        return cls(
            id=f"test-{at:%Y%m%dT%H%M%S%f}",
            event="test",
            kind="test",
            application=one_line(application),
            connection="",
            about="",
            code=remedy.code,
            **_told(remedy, words),
            opened_at=at,
            at=at,
            page=page,
            words=words,
        )

    @property
    def is_good(self) -> bool:
        """Whether this tells that something is over, or only a test."""
        return self.event in ("recovered", "test")

    @property
    def lasted(self) -> str:
        """How long it has lasted, for reading: "2 h 14 min"."""
        return duration((self.at - self.opened_at).total_seconds(), self.words)

    @property
    def headline(self) -> str:
        """The whole notice in one line."""
        words, about = self.words, self.about
        if self.event == "test":
            return words.t("Test alert: alerts arrive")
        if self.event == "recovered":
            over = words.t(OVER[self.kind], about=about)
            return words.t("Recovered after %(time)s: %(what)s", time=self.lasted, what=over)
        if self.kind == alerts.CREDENTIAL and self.days_left is not None:
            return self._ending(self.days_left)
        short = words.t(SHORT[self.kind], about=about)
        if self.event == "reminder":
            return words.t("Still: %(what)s: %(title)s", what=short, title=self.title)
        return words.t("%(what)s: %(title)s", what=short, title=self.title)

    def _ending(self, days_left: int) -> str:
        words, about = self.words, self.about
        if days_left < 0:
            return words.t("The credential “%(about)s” has expired", about=about)
        if days_left == 0:
            return words.t("The credential “%(about)s” expires today", about=about)
        return words.tn(
            "The credential “%(about)s” expires in %(count)d day",
            "The credential “%(about)s” expires in %(count)d days",
            days_left,
            about=about,
        )

    @property
    def facts(self) -> list[tuple[str, str]]:
        """Name and value of what is known, in the order to show it."""
        t, clock = self.words.t, self.words.clock
        found = [(t("Application"), self.application)]
        if self.event == "test":
            return [*found, (t("Time"), clock(self.at))]
        if self.kind not in (alerts.CREDENTIAL, alerts.WORKER):
            found.append((t("Connection"), self.connection))
        if self.kind != alerts.CREDENTIAL:
            waiting, held = t("Messages waiting"), t("Messages held")
            affected = {alerts.WORKER: waiting, alerts.QUEUE: waiting, alerts.HELD: held}
            found.append((affected.get(self.kind, t("Messages affected")), str(self.count)))
            found.append((t("Since"), clock(self.opened_at)))
        if self.event == "recovered":
            found.append((t("Recovered"), t("%(when)s, after %(time)s", when=clock(self.at), time=self.lasted)))
            if self.accepted_count or self.waiting_count:
                found.append((t("Waiting messages accepted since"), str(self.accepted_count)))
                found.append((t("Still waiting"), str(self.waiting_count)))
        found.append((t("Code"), self.code))
        if self.request_id:
            found.append((t("Request id"), self.request_id))
        return found

    @property
    def remark(self) -> str:
        """A sentence that some notices need beside their facts; "" for most."""
        if self.event == "recovered" and not self.was_told:
            return self.words.t("Nobody could be told of this before: no channel took the alert while it lasted.")
        return ""

    @property
    def what_it_was(self) -> str:
        """What was wrong, for a notice that it is over."""
        return self.words.t("What it was: %(title)s", title=self.title)

    @property
    def who_can(self) -> str:
        """Who can do what the steps say."""
        return self.words.t("Who can do it: %(who)s", who=self.who)

    def to_dict(self) -> dict[str, Any]:
        """The notice as JSON, as the generic webhook posts it. Fields may be added; none changes its meaning."""
        return {
            "version": 1,
            "id": self.id,
            "event": self.event,
            "kind": self.kind,
            "language": self.words.language,
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
        t = self.words.t
        steps = [f"  {number}. {step}" for number, step in enumerate(self.steps, 1)]
        told = [self.title, self.meaning] if self.event != "recovered" else [self.what_it_was]
        lines = [
            f"{self.headline}.",
            "",
            *([self.remark, ""] if self.remark else []),
            *told,
            "",
            *([t("What to do:"), *steps, "", self.who_can, ""] if steps and not self.is_good else []),
            *(t("%(name)s: %(value)s", name=name, value=value) for name, value in self.facts),
            *(["", t("Details: %(page)s", page=self.page)] if self.page else []),
        ]
        return Message(
            subject=f"[{self.application}] {self.headline}"[:200],
            recipients=[to],
            body="\n".join(lines) + "\n",
            extra_headers={
                # So that no robot answers, and no mail programme sends "I am on holiday" (RFC 3834).
                "Auto-Submitted": "auto-generated",
                "Content-Language": self.words.language.replace("_", "-"),
            },
        )


def _told(remedy: Remedy, words: Words) -> dict[str, Any]:
    said = words.said
    return {
        "title": said(remedy.title),
        "meaning": said(remedy.meaning),
        "steps": tuple(said(step) for step in remedy.steps),
        "who": said(WHO_LABELS[remedy.who]),
    }


#: Each kind of incident, as short as a subject has to be.
SHORT = {
    alerts.FAILING: "Mail over “%(about)s” is not being accepted",
    alerts.MESSAGE: "Messages over “%(about)s” are being refused",
    alerts.CREDENTIAL: "The credential “%(about)s” comes to its end",
    alerts.QUEUE: "Mail over “%(about)s” does not leave",
    alerts.WORKER: "Mail does not leave",
    alerts.HELD: "Mail over “%(about)s” is held",
}
#: The same, when it is over.
OVER = {
    alerts.FAILING: "mail over “%(about)s” is accepted again",
    alerts.MESSAGE: "messages over “%(about)s” are accepted again",
    alerts.CREDENTIAL: "the credential “%(about)s” is valid for long enough again",
    alerts.QUEUE: "mail over “%(about)s” leaves again",
    alerts.WORKER: "mail leaves again",
    alerts.HELD: "mail over “%(about)s” is no longer held",
}


def duration(seconds: float, words: Words = ENGLISH) -> str:
    """A length of time in its two largest units: "2 h 14 min", "3 d 4 h", "45 s"."""
    # The other units are the same in every language.
    day = words.t("d")
    left, parts = max(0, int(seconds)), []
    for size, unit in ((86400, day), (3600, "h"), (60, "min"), (1, "s")):
        if left >= size:
            parts.append(f"{left // size} {unit}")
            left %= size
        elif parts:
            break
    return " ".join(parts[:2]) or "0 s"


def one_line(text: str) -> str:
    """The text without anything that could end a line: a name must not stop the alert that names it."""
    return " ".join("".join(char if char.isprintable() else " " for char in text).split())
