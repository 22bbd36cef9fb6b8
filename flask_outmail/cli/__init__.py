"""The commands: `flask outmail …`. Importing a module is what adds its commands to the group."""

from . import alerts, deliveries, proof, sending, storing
from .group import outmail_commands

__all__ = ["alerts", "deliveries", "outmail_commands", "proof", "sending", "storing"]
