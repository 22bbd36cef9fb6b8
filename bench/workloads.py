"""What is measured, who takes part, and which goals are set. A ratio is the other's time divided by ours."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from .job import Job

OURS = "flask_outmail"
NAMES = {
    "flask_outmail": "Flask-Outmail",
    "flask_mail": "Flask-Mail",
    "flask_mailman": "Flask-Mailman",
    "redmail": "redmail",
    "django": "Django",
    "aiosmtplib": "aiosmtplib",
    "nodemailer": "nodemailer",
    "smtp_source": "smtp-source",
    "raw": "bare socket",
    "msgraph_sdk": "msgraph-sdk",
    "o365": "O365",
}
SMTP_PEERS = ("flask_mail", "flask_mailman", "redmail", "django", "aiosmtplib", "nodemailer", "smtp_source", "raw")
SLOW_MS = 20.0


@dataclass(frozen=True, slots=True)
class Contender:
    """A peer and what is special about its part: another `label`, fields of the job, a sink that offers CHUNKING."""

    peer: str
    label: str = ""
    chunking: bool = False
    fields: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return f"{NAMES[self.peer]}, {self.label}" if self.label else NAMES[self.peer]


@dataclass(frozen=True, slots=True)
class Goal:
    """`ours` is to be at least `at_least` times as fast as `against`."""

    against: str
    at_least: float
    ours: str = NAMES[OURS]


@dataclass(frozen=True, slots=True)
class Workload:
    """One row of the table. `count_even` replaces the job's count for those in `EVEN`, where it is given."""

    key: str
    title: str
    job: Job
    contenders: tuple[Contender, ...]
    goals: tuple[Goal, ...]
    line: Literal["none", "loopback", "slow"] = "loopback"
    count_even: int = 0
    measure: Literal["seconds", "grown_bytes"] = "seconds"


OURS_PLAIN = Contender(OURS)
OURS_CHUNKING = Contender(OURS, "CHUNKING", chunking=True)
OURS_WINDOW = Contender(OURS, "CHUNKING", chunking=True, fields={"window": 8})
PEERS = tuple(Contender(peer) for peer in SMTP_PEERS)
MB = 1_000_000
MAIL, SOURCE = NAMES["flask_mail"], NAMES["smtp_source"]
CHUNKING = OURS_CHUNKING.name
POOLED = (
    Contender(OURS, "8 connections", fields={"connections": 8}),
    Contender("nodemailer", "5 connections", fields={"connections": 5}),
)

WORKLOADS: tuple[Workload, ...] = (
    Workload(
        "building",
        "build + serialise, small text + HTML",
        Job(kind="build", count=1000),
        (OURS_PLAIN, *PEERS),
        (Goal(MAIL, 45),),
        line="none",
        count_even=200,
    ),
    Workload(
        "building-1mb",
        "build + serialise, 1 MB attachment",
        Job(kind="build", count=40, attachment_bytes=MB),
        (OURS_PLAIN, *PEERS),
        (Goal(MAIL, 18),),
        line="none",
        count_even=15,
    ),
    Workload(
        "bulk",
        "bulk, small, one connection",
        Job(kind="bulk", count=2000),
        (OURS_PLAIN, OURS_WINDOW, *PEERS),
        (Goal(MAIL, 12), Goal(SOURCE, 1.5)),
        count_even=500,
    ),
    Workload(
        "bulk-tls",
        "bulk, small, STARTTLS + AUTH, one connection",
        Job(kind="bulk", count=2000, security="starttls"),
        (OURS_PLAIN, OURS_WINDOW, *PEERS),
        (Goal(MAIL, 12), Goal(MAIL, 28, CHUNKING)),
        count_even=500,
    ),
    Workload(
        "bulk-1mb",
        "bulk, 1 MB attachment, one connection",
        Job(kind="bulk", count=200, attachment_bytes=MB),
        (OURS_PLAIN, OURS_WINDOW, *PEERS),
        (Goal(MAIL, 12), Goal(MAIL, 16, CHUNKING)),
        count_even=25,
    ),
    Workload(
        "bulk-slow",
        f"bulk, small, one connection, {SLOW_MS:g} ms round trip",
        Job(kind="bulk", count=200),
        (OURS_PLAIN, OURS_WINDOW, *PEERS),
        (Goal(MAIL, 3.7),),
        line="slow",
        count_even=40,
    ),
    Workload(
        "pool-slow",
        f"bulk, small, several connections, {SLOW_MS:g} ms round trip",
        Job(kind="bulk", count=800),
        (*POOLED, Contender("flask_mail")),
        (Goal(MAIL, 15, POOLED[0].name),),
        line="slow",
        count_even=50,
    ),
    Workload(
        "web",
        "separate sends, in the clear",
        Job(kind="web", count=300),
        (OURS_PLAIN, OURS_CHUNKING, *PEERS),
        (Goal(MAIL, 10),),
    ),
    Workload(
        "web-tls",
        "separate sends, STARTTLS + AUTH",
        Job(kind="web", count=300, security="starttls"),
        (OURS_PLAIN, OURS_CHUNKING, *PEERS),
        (Goal(MAIL, 16), Goal(MAIL, 22, CHUNKING)),
    ),
    Workload(
        "web-slow",
        f"separate sends, STARTTLS + AUTH, {SLOW_MS:g} ms round trip",
        Job(kind="web", count=200, security="starttls"),
        (OURS_PLAIN, OURS_CHUNKING, *PEERS),
        (Goal(MAIL, 5.7), Goal(MAIL, 9.6, CHUNKING)),
        line="slow",
        count_even=8,
    ),
)
#: Whose time for each message does not depend on how many there are: a few tell it as well as all.
EVEN = {"flask_mail", "flask_mailman", "redmail", "django", "aiosmtplib", "smtp_source"}
