"""A value of the configuration that cannot be meant is refused at the start, by its key."""

from __future__ import annotations

from typing import Any

import pytest

from flask_outmail.errors import ConfigurationError
from flask_outmail.settings import Settings


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("OUTMAIL_LOG_DIRECT", "false", "must be True or False"),
        ("OUTMAIL_SMTP_TIMEOUT_SECONDS", "soon", "must be a number, not 'soon'"),
        ("OUTMAIL_SMTP_TIMEOUT_SECONDS", [5], "must be a number"),
        ("OUTMAIL_SMTP_TIMEOUT_SECONDS", 0, "must be greater than 0 and finite"),
        ("OUTMAIL_SMTP_TIMEOUT_SECONDS", "nan", "must be greater than 0 and finite"),
    ],
)
def test_a_value_of_another_kind_is_refused(key: str, value: Any, words: str) -> None:
    with pytest.raises(ConfigurationError, match=f"{key} {words}"):
        Settings.from_config({key: value})
