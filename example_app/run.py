"""`python -m example_app`: the simulator and the shop together, until Ctrl-C.

Everything is a `Part`: it runs, it can be asked whether it still does, and it can be stopped. When one stops by
itself the others are stopped too, because half a demonstration only puzzles people.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import signal
import socket
import sys
import threading
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import Any, Protocol

from flask import Flask
from werkzeug.serving import make_server

from flask_outmail.simulator import Simulator
from flask_outmail.working import make_worker

from . import config, create_app
from .extensions import db
from .models import DEMO_USERS, create_tables
from .world import World

HOST = "127.0.0.1"
SHOP_PORT = 5000
#: Entra and Graph, SMTP with STARTTLS, SMTP with TLS, mailboxes. The same ones at every start, so that a setup that
#: names a port keeps working; another program on one of them makes the simulator take any free one instead.
SIMULATOR_PORTS = {"https_port": 8443, "smtp_port": 5587, "smtps_port": 5465, "web_port": 8025}
LOOK_EVERY_S = 0.5
ANSWER_WITHIN_S = 15.0
#: Each part gets this long to stop. None is waited for longer: their threads end with the process.
STOP_WITHIN_S = 1.5


class Part(Protocol):
    name: str

    def alive(self) -> bool: ...

    def stop(self) -> None: ...


class Shop:
    """The example application, served by threads of this process."""

    name = "the shop"

    def __init__(self, app: Flask, listening: socket.socket) -> None:
        host, port = listening.getsockname()[:2]
        self.url = f"http://{host}:{port}/"
        # Given an open socket, because werkzeug ends the process when it finds a port taken.
        self._server = make_server(host, port, app, threaded=True, fd=listening.fileno())
        listening.close()
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.1,), name="shop", daemon=True)
        self._thread.start()

    def alive(self) -> bool:
        return self._thread.is_alive()

    def stop(self) -> None:
        self._server.shutdown()


class SimulatorPart:
    """The simulator, in threads of this process: it leaves nothing behind, however this process ends."""

    name = "the simulator"

    def __init__(self, folder: Path, wished: dict[str, int]) -> None:
        ports = {name: port if port and _is_free(port) else 0 for name, port in wished.items()}
        self.simulator = Simulator(
            directory=folder,
            host=HOST,
            https_port=ports["https_port"],
            smtp_port=ports["smtp_port"],
            smtps_port=ports["smtps_port"],
            web_port=ports["web_port"],
        )
        self.simulator.start()
        World.of(self.simulator).save(folder)
        self._web_port = int(self.simulator.web_url.rstrip("/").rpartition(":")[2])

    def alive(self) -> bool:
        try:
            socket.create_connection((HOST, self._web_port), timeout=2.0).close()
        except OSError:
            return False
        return True

    def stop(self) -> None:
        self.simulator.close()


class WorkerPart:
    """A worker in a thread of this process, for what is in the outbox. Elsewhere `flask outmail worker` is one."""

    name = "the worker"

    def __init__(self, app: Flask) -> None:
        self._worker, self._side = make_worker(app.extensions["outmail"])
        self._thread = threading.Thread(target=self._worker.run, name="worker", daemon=True)
        self._thread.start()

    def alive(self) -> bool:
        return self._thread.is_alive()

    def stop(self) -> None:
        self._worker.stop()
        self._thread.join(STOP_WITHIN_S)
        self._side.close()


def main(argv: Sequence[str] | None = None) -> int:
    """0 when it was stopped by Ctrl-C or SIGTERM, 1 when a part could not start or stopped by itself."""
    stop = threading.Event()

    def on_signal(number: int, frame: FrameType | None) -> None:
        stop.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, on_signal)
    options = _parser().parse_args(argv)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    # Otherwise werkzeug raises its own level, and a line for every request pushes the address off the screen.
    logging.getLogger("werkzeug").setLevel(logging.WARNING)
    # The factory reads these, here and in every process that is started beside this one.
    os.environ["EXAMPLE_INSTANCE"] = str(options.instance.resolve())
    os.environ["EXAMPLE_SIMULATOR"] = "1" if options.simulator else "0"
    parts: list[Part] = []
    with contextlib.ExitStack() as at_end:
        try:
            return _run(options, parts, stop, at_end)
        except OSError as exc:
            print(f"The example application cannot start: {exc}", file=sys.stderr)
            return 1
        finally:
            _stop_all(parts)


def _run(options: argparse.Namespace, parts: list[Part], stop: threading.Event, at_end: contextlib.ExitStack) -> int:
    mailboxes = ""
    if options.simulator:
        wished = dict.fromkeys(SIMULATOR_PORTS, 0) if options.port == 0 else SIMULATOR_PORTS
        simulator = SimulatorPart(options.instance.resolve() / config.SIMULATOR_FOLDER, wished)
        parts.append(simulator)
        mailboxes = simulator.simulator.web_url
    app = create_app()
    at_end.callback(_close_database, app)
    with app.app_context():
        create_tables()
    shop = Shop(app, _listen(options.host, options.port))
    parts.append(shop)
    parts.append(WorkerPart(app))
    _wait_until_it_answers(shop.url)
    if not stop.is_set():
        print(_announcement(shop.url, mailboxes), flush=True)
    while not stop.wait(LOOK_EVERY_S):
        for part in parts:
            if not part.alive():
                print(f"Stopping, because {part.name} has stopped by itself.", file=sys.stderr, flush=True)
                return 1
    return 0


def _stop_all(parts: list[Part]) -> None:
    stopping = [threading.Thread(target=part.stop, daemon=True) for part in reversed(parts)]
    for thread in stopping:
        thread.start()
    for thread in stopping:
        thread.join(STOP_WITHIN_S)


def _close_database(app: Flask) -> None:
    with app.app_context():
        db.engine.dispose()


def _announcement(url: str, mailboxes: str) -> str:
    roles = {True: "administrator", False: "customer"}
    logins = [f"{name} / {password} ({roles[is_admin]})" for name, password, _, is_admin in DEMO_USERS]
    lines = [f"  Open     {url}", f"  Log in   {', or '.join(logins)}"]
    if mailboxes:
        lines.append(f"  Mail     {mailboxes} (the simulator’s mailboxes)")
    return "\n".join(["", "Quill & Page is open.", "", *lines, "", "Press Ctrl-C to stop everything.", ""])


def _wait_until_it_answers(url: str) -> None:
    # Without the proxies of the environment: this is our own machine.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with contextlib.closing(opener.open(url, timeout=ANSWER_WITHIN_S)):
        pass


def _listen(host: str, port: int) -> socket.socket:
    """A listening socket on this port, or on any free one when it is taken.

    Raises:
        OSError: this is no address of this machine.
    """
    return socket.create_server((host, port if port and _is_free(port, host) else 0), backlog=128)


def _is_free(port: int, host: str = HOST) -> bool:
    try:
        socket.create_server((host, port)).close()
    except OSError:
        return False
    return True


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m example_app", description="The shop, and the simulator with it.")
    option: Any = parser.add_argument
    option("--instance", type=Path, default=config.instance_folder(), help="database and keys (default: ./instance)")
    option("--host", default=HOST, help="address of the shop (default: %(default)s)")
    option("--port", type=int, default=SHOP_PORT, help="port of the shop (default: %(default)s; 0: any, everywhere)")
    option(
        "--simulator",
        action=argparse.BooleanOptionalAction,
        default=config.wants_simulator(),
        help="start the simulator (default: yes, unless EXAMPLE_SIMULATOR=0)",
    )
    return parser
