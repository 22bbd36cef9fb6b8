"""What a test that did not pass had before it: the revision that passed last, and how the tested values differ."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from .. import services, setups
from ..engine import Engine
from ..errors import OutmailError
from ..models import Setup
from ..setup_values import SetupValues
from ..setups import Change

#: What no test depends on.
_ASIDE = ("from_name", "failure_alerts_to")


@dataclass(frozen=True)
class Compared:
    """The revision verified last beside the tested values. `is_same`: to the letter, secrets included."""

    row: Setup
    changes: Sequence[Change]
    is_same: bool

    @property
    def service_labels(self) -> Mapping[str, str]:
        return {service.name: service.label for service in services.services()}


def compared(engine: Engine, connection: str, values: SetupValues) -> Compared | None:
    """Reads the database. None when nothing was ever verified, or it cannot be read."""
    with suppress(OutmailError), engine.database.session() as session:
        row = setups.last_verified(session, connection)
        if row is not None:
            found = [one for one in setups.differences(row, values, engine.vault) if one.field not in _ASIDE]
            return Compared(row, found, not found and setups.is_verified(row, values, engine.vault))
    return None
