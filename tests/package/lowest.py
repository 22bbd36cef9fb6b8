"""Prints the lowest versions that setup.cfg allows of what users install, as constraints for pip (`make lowest`)."""

from __future__ import annotations

import re
from configparser import ConfigParser
from pathlib import Path

SETUP = Path(__file__).parents[2] / "setup.cfg"
#: For people who work on this package or measure it: what is newest there is right.
TOOLS = {"dev", "peers", "bench"}


def lowest() -> list[str]:
    """`name==version` for each requirement, of the package itself and of each extra that is a feature."""
    config = ConfigParser()
    config.read(SETUP)
    lists = [config["options"]["install_requires"]]
    lists += [text for name, text in config["options.extras_require"].items() if name not in TOOLS]
    found = set()
    for line in "\n".join(lists).split():
        match = re.fullmatch(r"([A-Za-z0-9._-]+)(?:\[[a-z,]+\])?>=([0-9.]+)", line)
        if match is None:
            raise ValueError(f"no lower bound: {line}")
        found.add(f"{match[1]}=={match[2]}")
    return sorted(found)


if __name__ == "__main__":
    print("\n".join(lowest()))
