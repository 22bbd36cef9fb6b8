"""Texts with values that are made below the pages, in English, as a translator sees them.

A page recognises such a text by its shape (`texts.said`). A test compares the list with what the code makes; a text
whose shape is missing here stays English.
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
)
