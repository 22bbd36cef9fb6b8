"""Where the configuration comes from: the environment, the instance folder, and the simulator when there is one.

EXAMPLE_INSTANCE       folder for the database and the keys       ./instance
EXAMPLE_DATABASE_URL   SQLAlchemy URL                             SQLite in the instance folder
EXAMPLE_SIMULATOR      "0": never the simulator's world           its world, once it has run
EXAMPLE_SHOP_ADDRESS   where the contact form writes to           hello@quill-and-page.example
SECRET_KEY, OUTMAIL_ENCRYPTION_KEYS                               made on the first start and kept
"""

from __future__ import annotations

import json
import os
import secrets
from pathlib import Path
from typing import Any

from cryptography.fernet import Fernet

from .world import World

#: Where the simulator keeps what it remembers, below the instance folder.
SIMULATOR_FOLDER = "simulator"


def instance_folder() -> Path:
    return Path(os.environ.get("EXAMPLE_INSTANCE") or "instance").resolve()


def wants_simulator() -> bool:
    return os.environ.get("EXAMPLE_SIMULATOR") != "0"


def settings(instance: Path) -> dict[str, Any]:
    """The whole configuration for an application whose instance folder this is; the folder is made if need be."""
    instance.mkdir(mode=0o700, parents=True, exist_ok=True)
    keys = _keys(instance / "keys.json")
    config: dict[str, Any] = {
        "SECRET_KEY": os.environ.get("SECRET_KEY") or keys["secret_key"],
        "SQLALCHEMY_DATABASE_URI": os.environ.get("EXAMPLE_DATABASE_URL") or f"sqlite:///{instance / 'shop.sqlite'}",
        # Cookies do not know ports: under a common name the session of another application on this machine would
        # take the place of ours.
        "SESSION_COOKIE_NAME": "quill_and_page",
        "SESSION_COOKIE_SAMESITE": "Lax",
        "EXAMPLE_SHOP_ADDRESS": os.environ.get("EXAMPLE_SHOP_ADDRESS") or "hello@quill-and-page.example",
        "OUTMAIL_ENCRYPTION_KEYS": os.environ.get("OUTMAIL_ENCRYPTION_KEYS") or keys["encryption_keys"],
        "OUTMAIL_BASE_TEMPLATE": "base.html",
    }
    if wants_simulator():
        config.update(simulator_settings(World.load(instance / SIMULATOR_FOLDER)))
    return config


def simulator_settings(world: World | None) -> dict[str, Any]:
    """What makes an application part of the simulator's world: one more cloud, and its certificate authority."""
    if world is None:
        return {}
    return {
        "EXAMPLE_WORLD": world,
        "OUTMAIL_CLOUDS": {"simulator": world.cloud},
        "OUTMAIL_CA_FILE": world.ca_file,
    }


def _keys(file: Path) -> dict[str, Any]:
    """The keys of this installation: made once, readable by their owner alone. Whoever deletes them loses the
    stored secrets of the mail setup."""
    try:
        # O_EXCL: of two first starts at the same moment one makes the keys, and the other reads them.
        handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        return found
    keys = {"secret_key": secrets.token_hex(32), "encryption_keys": [Fernet.generate_key().decode()]}
    with os.fdopen(handle, "w", encoding="utf-8") as stream:
        json.dump(keys, stream, indent=1)
    return keys
