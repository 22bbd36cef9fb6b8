"""The application of the runs: `flask --app tests.chaos.shop outmail worker`. Its configuration is a file."""

from __future__ import annotations

import json
import os
from pathlib import Path

from flask import Flask
from flask_sqlalchemy import SQLAlchemy

from flask_outmail import Mail


def create_app(config_file: str | None = None) -> Flask:
    file = Path(config_file or os.environ["CHAOS_CONFIG"])
    app = Flask("shop", instance_path=str(file.parent / "instance"))
    app.config.update(json.loads(file.read_text()))
    Mail(app, SQLAlchemy(app))
    return app
