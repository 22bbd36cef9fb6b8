"""The simulator's world as the shop sees it: where it answers, and the values to paste into the set-up pages.

`run.py` writes it down when it starts the simulator, so that other processes (`flask --app example_app outmail …`)
find the same world.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from flask_outmail.simulator import Simulator

_FILE = "world.json"


@dataclass(frozen=True)
class World:
    cloud: dict[str, Any]
    ca_file: str
    web_url: str
    tenant: str
    client_id: str
    client_secret: str = field(repr=False)
    mailbox: str
    smtp_host: str
    smtp_port: int
    smtps_port: int
    smtp_password: str = field(repr=False)

    @classmethod
    def of(cls, simulator: Simulator) -> World:
        """The world of a simulator that runs."""
        return cls(
            cloud=simulator.cloud,
            ca_file=str(simulator.ca_file),
            web_url=simulator.web_url,
            tenant=simulator.tenant,
            client_id=simulator.client_id,
            client_secret=simulator.client_secret,
            mailbox=simulator.mailbox,
            smtp_host=simulator.smtp_host,
            smtp_port=simulator.smtp_port,
            smtps_port=simulator.smtps_port,
            smtp_password=simulator.smtp_password,
        )

    @classmethod
    def load(cls, folder: Path) -> World | None:
        """What `save` wrote; None when there is nothing, or nothing that can be used."""
        try:
            world = cls(**json.loads((folder / _FILE).read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return None
        return world if Path(world.ca_file).is_file() else None

    def save(self, folder: Path) -> None:
        """Readable by its owner alone, and never seen half written."""
        draft = folder / f"{_FILE}.new"
        draft.unlink(missing_ok=True)
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as stream:
            json.dump(asdict(self), stream, indent=1)
        draft.replace(folder / _FILE)
