"""Texts with values that are made in English, as a translator sees them.

Such a text is recognised by its shape (`Words.said`). A test compares each with what the code makes; a text whose
shape is missing here stays English. The first that fits counts.
"""

from __future__ import annotations

SHAPES: tuple[str, ...] = (
    # The titles of the steps of a test.
    "Answers to %(it)s arrive (MX)",
    "Name found: %(it)s",
    "Secure connection to %(it)s",
    "Mailbox %(it)s accepts our call",
    "From %(it)s is allowed",
    "Permission %(it)s in the token",
    "Connected to %(it)s",
    "Logged in as %(it)s",
    "Recipient %(it)s is taken",
    # What an incident is about.
    "Mail over the connection “%(about)s” is not being accepted.",
    "Messages over the connection “%(about)s” are refused for a fault of their own.",
    "The credential “%(about)s” comes to its end.",
    "Mail over the connection “%(about)s” has been waiting too long.",
    "Mail over the connection “%(about)s” is held.",
    # What somebody did, and to what.
    "delivery %(number)s",
    "alert %(number)s",
    "authentication object %(number)s",
    "revision %(number)s of %(name)s",
    "as revision %(number)s of %(name)s",
    "%(told)s, as delivery %(number)s",
    "to the same recipients",
    "to another recipient",
    "draft",
    "in use, mail is held",
    # How things are, and what was done.
    "Mail cannot be sent: %(why)s.",
    "The worker on %(host)s, process %(number)s, uses another revision.",
    "Connection “%(name)s”: %(what)s",
    "Credential “%(name)s” has expired.",
    "Credential “%(name)s” expires today.",
    "That was not possible: %(why)s.",
    "Connection “%(name)s” is not verified.",
    "Messages are held: %(count)s.",
    "%(who)s saved a change %(when)s.",
    "%(who)s saved a change in the meantime; nothing was deleted.",
    "“%(name)s” is stored.",
    "“%(name)s” is saved.",
    "“%(name)s” is deleted.",
    "Connection “%(name)s” with the new values",
    "Connection “%(name)s” was tested with the new values and works.",
    "Connection “%(name)s” is not proven with the new values: its mail is held.",
    "Connection “%(name)s” was tested with it and works.",
    "Connection “%(name)s” is not proven with it: its mail is held.",
    "Revision %(old)s is restored as revision %(new)s.",
    "Revision %(number)s is in use.",
    "It is not proven, so %(what)s stays in use.",
    "%(what)s stays in use.",
    "Saved as a draft, revision %(number)s.",
    "revision %(number)s",
    "Revision %(number)s",
    "Still held: %(what)s.",
    "%(why)s; see Deliveries.",
    "Held messages could not be handed over: %(why)s.",
    "It was not accepted: %(why)s.",
    "Accepted for %(address)s.",
    "These settings are set by %(key)s and can be changed only there.",
    "There are already %(limit)s, which is the limit.",
    "At most %(count)s characters.",
    "It belongs to the cloud “%(cloud)s”, which is not configured.",
    "“%(tenant)s” is no certain tenant.",
)

#: Those with a form for one and one for many.
COUNTED: tuple[tuple[str, str], ...] = (
    ("Credential “%(name)s” expires in %(count)d day.", "Credential “%(name)s” expires in %(count)d days."),
    ("Mail works, but needs attention: %(count)d item.", "Mail works, but needs attention: %(count)d items."),
    ("Queued again: %(count)d message.", "Queued again: %(count)d messages."),
    ("Anonymised: %(count)d message.", "Anonymised: %(count)d messages."),
    ("%(count)d message that had been held: accepted.", "%(count)d messages that had been held: accepted."),
    (
        "%(count)d message that had been held: not accepted; see Deliveries.",
        "%(count)d messages that had been held: not accepted; see Deliveries.",
    ),
    ("%(count)d message", "%(count)d messages"),
)
