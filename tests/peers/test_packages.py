"""Packages written for Flask-Mail, installed as their users install them, send real mail through us."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from flask_outmail.simulator import Simulator

from ..conftest import STRICT, graph_setup, smtp_setup, world

SCRIPTS = Path(__file__).parent
PACKAGES = ("flask_security", "flask_user", "flask_appbuilder", "invenio_mail", "flask_mail")


@pytest.mark.parametrize("service", ["graph", "smtp"])
@pytest.mark.parametrize("package", PACKAGES)
def test_a_mail_of_the_package_is_delivered(simulator: Simulator, tmp_path: Path, package: str, service: str) -> None:
    # `make test` must pass without the extra; the strict run fails in the process below instead.
    if importlib.util.find_spec(package) is None and not STRICT:
        pytest.skip(f"{package} is not installed (extra [peers])")
    setup = graph_setup(simulator) if service == "graph" else smtp_setup(simulator)
    config: dict[str, Any] = {**world(simulator), "OUTMAIL_SETUP": setup}
    config["SQLALCHEMY_DATABASE_URI"] = f"sqlite:///{tmp_path / 'app.sqlite'}"
    # A process of its own: the packages warn of things that are not ours to mend, and one of them takes our place.
    done = subprocess.run(
        [sys.executable, str(SCRIPTS / f"{package}_app.py")],
        env={**os.environ, "PEER_CONFIG": json.dumps(config), "PYTHONPATH": str(SCRIPTS.parents[1])},
        capture_output=True,
        text=True,
        timeout=120,
        cwd=tmp_path,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    [mail] = simulator.wait_for(1)
    assert mail.recipient == "ann@customers.example"
    assert "Welcome to the shop" in (mail.text or "") + (mail.html or "")
