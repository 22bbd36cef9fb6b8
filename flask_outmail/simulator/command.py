"""The command that runs a simulator until Ctrl-C or SIGTERM."""

from __future__ import annotations

import argparse
import contextlib
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from flask_outmail.simulator.server import Simulator

PROG = "python -m flask_outmail.simulator"


def main(argv: Sequence[str] | None = None, *, prog: str = PROG) -> int:
    """Runs a simulator in the foreground; 0 when it was stopped, 1 when a port is taken."""
    options = parser(prog).parse_args(argv)
    try:
        simulator = Simulator(
            directory=options.directory,
            host=options.host,
            https_port=options.https_port,
            smtp_port=options.smtp_port,
            smtps_port=options.smtps_port,
            web_port=options.web_port,
        ).start()
    except OSError as error:
        print(f"The simulator cannot start: {error}. Another port may be free; 0 takes any.", file=sys.stderr)
        return 1
    stop = threading.Event()

    def on_signal(number: int, frame: FrameType | None) -> None:
        stop.set()

    signal.signal(signal.SIGTERM, on_signal)
    signal.signal(signal.SIGINT, on_signal)
    with contextlib.closing(simulator):
        print(simulator.describe(), flush=True)
        print("Press Ctrl-C to stop.", flush=True)
        stop.wait()
    return 0


def parser(prog: str = PROG) -> argparse.ArgumentParser:
    """What the command takes."""
    made = argparse.ArgumentParser(
        prog=prog,
        description="A local Microsoft 365 (Entra, Graph, SMTP) that shows its mail in your browser.",
    )
    made.add_argument(
        "--directory",
        type=Path,
        metavar="DIR",
        help="where certificate and identities are kept; without it they are new every time",
    )
    made.add_argument(
        "--host", default="127.0.0.1", metavar="ADDRESS", help="address to listen on (default: %(default)s)"
    )
    for name, port, says in (
        ("https", 8443, "Entra and Graph"),
        ("smtp", 5587, "SMTP with STARTTLS"),
        ("smtps", 5465, "SMTP with TLS from the start"),
        ("web", 8025, "the mailboxes in the browser"),
    ):
        made.add_argument(
            f"--{name}-port",
            type=int,
            default=port,
            metavar="N",
            help=f"{says} (default: %(default)s; 0: any)",
        )
    return made
