"""Reading single values of a configuration: what is of the wrong kind is refused by the name of its key."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .errors import ConfigurationError, InvalidMessage
from .message import Address


class Reader:
    """The values of one configuration, each by its key; what is not set has the value that `defaults` gives.

    Every method raises `ConfigurationError`, which names the key.
    """

    def __init__(self, config: Mapping[str, Any], defaults: Mapping[str, Any]) -> None:
        self._config = config
        self._defaults = defaults

    def raw(self, key: str) -> Any:
        """The value as it was given."""
        value = self._config.get(key)
        return self._defaults[key] if value is None else value

    def text(self, key: str) -> str:
        """A string, "" when there is none."""
        return str(self.raw(key) or "")

    def line(self, key: str) -> str:
        """A string without line breaks and other control characters."""
        value = self.text(key)
        if not value.isprintable():
            raise invalid(f"{key} holds a line break or control character")
        return value

    def choice(self, key: str, choices: Sequence[str]) -> str:
        """One of a few strings."""
        value = self.text(key)
        if value not in choices:
            raise invalid(f"{key} must be one of {', '.join(choices)}")
        return value

    def texts(self, key: str) -> tuple[str, ...]:
        """A list of strings."""
        value = self.raw(key) or ()
        if isinstance(value, str) or not isinstance(value, Sequence):
            raise invalid(f"{key} must be a list")
        return tuple(str(one) for one in value)

    def flag(self, key: str) -> bool:
        """True or False. Not by truth: "false" and "0", from an environment, would switch on what they switch off."""
        value = self.raw(key)
        if not isinstance(value, bool):
            raise invalid(f"{key} must be True or False")
        return value

    def positive(self, key: str) -> float:
        """A number greater than 0."""
        return positive(self.raw(key), key)

    def count(self, key: str) -> int:
        """A whole number, 1 or more."""
        return count(self.raw(key), key)

    def count_or_none(self, key: str) -> int:
        """A whole number that may be 0."""
        return 0 if self.raw(key) in (0, "0") else self.count(key)


def invalid(words: str) -> ConfigurationError:
    """What a value that cannot be used raises."""
    return ConfigurationError(words, code="config_invalid")


def positive(value: Any, key: str) -> float:
    """The value as a number greater than 0."""
    try:
        number = float(value)
    except (TypeError, ValueError) as exc:
        raise invalid(f"{key} must be a number, not {value!r}") from exc
    # A wait without an end is never what anybody wants, and NaN compares false with everything.
    if not 0 < number < float("inf"):
        raise invalid(f"{key} must be greater than 0 and finite")
    return number


def count(value: Any, key: str) -> int:
    """The value as a whole number, 1 or more."""
    number = positive(value, key)
    if number < 1 or number != int(number):
        raise invalid(f"{key} must be a whole number, 1 or more")
    return int(number)


def port(value: Any, key: str) -> int:
    """The value as the number of a port."""
    try:
        number = int(value)
    except (TypeError, ValueError) as exc:
        raise invalid(f"{key} must be a number from 1 to 65535") from exc
    if not 1 <= number <= 65535:
        raise invalid(f"{key} must be a number from 1 to 65535")
    return number


def check_address(text: str, key: str) -> None:
    """Refuses what is no email address."""
    try:
        Address("", text).check(key)
    except InvalidMessage:
        raise invalid(f"{key}: {text!r} is not an address") from None
