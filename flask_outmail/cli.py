from __future__ import annotations

from flask.cli import AppGroup

outmail_commands = AppGroup("outmail", help="Outbound mail.")
