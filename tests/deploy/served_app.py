"""An application as the servers of these tests load it. Its configuration comes from the environment, as JSON."""

from __future__ import annotations

import asyncio
import json
import os
import threading
from typing import Any

from flask import Flask, request

from flask_outmail import Mail

mail = Mail()


def create_app() -> Flask:
    app = Flask("served")
    app.config.update(json.loads(os.environ["SERVED_CONFIG"]))
    mail.init_app(app)
    if os.environ.get("SERVED_WARM"):
        # What `gunicorn --preload` makes possible: connections opened before the fork.
        with app.app_context():
            mail.send(subject="Warm", recipients=["warm@x.example"], body="x")

    @app.get("/send")
    def send() -> dict[str, Any]:
        receipt = mail.send(subject="Hi", recipients=[request.args["to"]], body="x")
        return {"accepted": receipt.accepted, "pid": os.getpid()}

    @app.get("/asend")
    async def asend() -> dict[str, Any]:
        ticks = 0

        async def tick() -> None:
            nonlocal ticks
            while True:
                ticks += 1
                await asyncio.sleep(0.001)

        ticking = asyncio.create_task(tick())
        to = request.args["to"].split(",")
        receipts = await asyncio.gather(*(mail.asend(subject="Hi", recipients=[one], body="x") for one in to))
        ticking.cancel()
        return {"accepted": all(receipts), "ticks": ticks, "pid": os.getpid(), "threads": threading.active_count()}

    return app


def create_asgi() -> Any:
    from asgiref.wsgi import WsgiToAsgi

    return WsgiToAsgi(create_app())
