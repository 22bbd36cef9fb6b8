"""The states of a delivery, each with a sentence that a person can read.

    held ──────────► queued ◄──────── waiting
                       │                 ▲
                       ▼                 │ try again later
                    claimed ─────────────┤
                       │                 │
                       ├──► accepted     │
                       ├──► refused, failed
                       └──► unknown      (again only when a person asks, a check decides, or at_least_once is chosen)

From queued, waiting or held a person can make it cancelled. Suppressed and accepted end where they begin.
"""

from __future__ import annotations

QUEUED, CLAIMED, WAITING, HELD = "queued", "claimed", "waiting", "held"
ACCEPTED, REFUSED, FAILED, UNKNOWN = "accepted", "refused", "failed", "unknown"
SUPPRESSED, CANCELLED = "suppressed", "cancelled"
#: The state of an attempt whose end is not known yet.
BEGUN = "begun"

STATES = {
    QUEUED: "It leaves as soon as a worker is free.",
    CLAIMED: "Being handed over now.",
    WAITING: "It leaves, or is tried again, at the time shown.",
    HELD: "Waiting: the active setup had not passed a test. It leaves soon after one has.",
    ACCEPTED: "The server has taken it over. That is not yet its arrival.",
    REFUSED: "The server refused this message or its recipients for good. Nothing more is tried by itself.",
    FAILED: "Not accepted; nothing more will be tried by itself.",
    UNKNOWN: "It left, and no answer came: it may have arrived. It is never sent again by itself.",
    SUPPRESSED: "Not handed over: the application suppresses sending, or allows none of the recipients.",
    CANCELLED: "Cancelled before it left.",
}
#: Nothing more happens to these by itself.
FINAL = frozenset({ACCEPTED, REFUSED, FAILED, UNKNOWN, SUPPRESSED, CANCELLED})
#: These have certainly not left, and nobody is busy with them.
RESTING = frozenset({QUEUED, WAITING, HELD})
