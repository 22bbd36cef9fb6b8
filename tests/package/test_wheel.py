"""What is installed is what works: the wheel carries all it needs, and serves in an environment of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from .dist import build
from .lowest import lowest

ROOT = Path(__file__).parents[2]

PROBE = """
import importlib.metadata, pathlib, flask_outmail, tempfile
from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from flask_outmail import Mail
from flask_outmail.simulator import Simulator

assert "site-packages" in flask_outmail.__file__, flask_outmail.__file__
here = pathlib.Path(tempfile.mkdtemp())
with Simulator() as sim:
    app = Flask("probe")
    app.config.update(
        SECRET_KEY="x", SQLALCHEMY_DATABASE_URI=f"sqlite:///{here}/x.sqlite",
        OUTMAIL_CLOUDS={"simulator": sim.cloud}, OUTMAIL_CA_FILE=str(sim.ca_file),
        OUTMAIL_SETUP={"service": "microsoft365_graph", "tenant": sim.tenant, "client_id": sim.client_id,
                       "client_secret": sim.client_secret, "cloud": "simulator", "username": sim.mailbox,
                       "from_address": sim.mailbox})
    mail = Mail(app, SQLAlchemy(app))
    mail.access_control(lambda: True)
    client = app.test_client()
    with app.app_context():
        app.extensions["outmail"].database.create_tables()
        assert mail.send(subject="x", recipients=["a@x.example"], body="y").accepted
    for path in ("/outmail/", "/outmail/setup", "/outmail/auth-objects/", "/outmail/static/outmail.css"):
        answer = client.get(path)
        assert answer.status_code == 200, (path, answer.status_code)
        answer.close()
    assert len(sim.delivered) == 1
print("works", importlib.metadata.version("flask-outmail"))
"""


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The sdist, and the wheel made from it."""
    return build(tmp_path_factory.mktemp("dist"))


@pytest.fixture(scope="module")
def wheel(built: tuple[Path, Path]) -> Path:
    return built[1]


@pytest.mark.slow
def test_the_sdist_builds_itself_and_the_wheel_again_byte_by_byte(built: tuple[Path, Path], tmp_path: Path) -> None:
    with tarfile.open(built[0]) as archive:
        archive.extractall(tmp_path, filter="data")
    [source] = tmp_path.iterdir()
    elsewhere = {**os.environ, "PYTHONHASHSEED": "17", "TZ": "Asia/Tokyo"}
    command = [sys.executable, "-m", "tests.package.dist", str(tmp_path / "again")]
    subprocess.run(command, cwd=source, env=elsewhere, umask=0o077, check=True, timeout=600)
    for first in built:
        assert first.read_bytes() == (tmp_path / "again" / first.name).read_bytes(), first.name


@pytest.mark.slow
def test_the_sdist_tells_nothing_of_the_machine_and_can_be_tested(built: tuple[Path, Path]) -> None:
    with tarfile.open(built[0]) as archive:
        members = archive.getmembers()
    names = {member.name.partition("/")[2] for member in members}
    assert {
        "LICENSE",
        "CHANGES.md",
        "SECURITY.md",
        "CONTRIBUTING.md",
        "Makefile",
        "tests/conftest.py",
        "bench/__init__.py",
        "docs/conf.py",
        "example_app/__init__.py",
    } <= names
    assert not [name for name in names if "__pycache__" in name or name.startswith((".venv", "instance"))]
    assert {(one.uid, one.gid, one.uname, one.gname) for one in members} == {(0, 0, "", "")}
    assert len({one.mtime for one in members}) == 1


@pytest.mark.slow
def test_the_wheel_carries_templates_static_files_and_types(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    source = ROOT / "flask_outmail"
    wanted = {
        path.relative_to(ROOT).as_posix()
        for path in source.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert wanted <= names, wanted - names
    assert "flask_outmail/py.typed" in names
    assert not [name for name in names if name.startswith(("tests/", "example_app/", "docs/"))]


@pytest.mark.slow
def test_the_wheel_says_who_made_it_and_what_it_needs(wheel: Path) -> None:
    archive = zipfile.ZipFile(wheel)
    [name] = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
    metadata = archive.read(name).decode()
    for field in ("Name: flask-outmail", "Version: ", "License", "Requires-Python: >=3.10", "Requires-Dist: flask>="):
        assert field in metadata


@pytest.mark.slow
def test_installed_from_the_wheel_in_an_empty_environment_it_works(wheel: Path, tmp_path: Path) -> None:
    environment = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", str(environment)], check=True, timeout=120)
    python = environment / "bin" / "python"
    install = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", str(wheel)]
    subprocess.run(install, check=True, timeout=400)
    probe = subprocess.run(
        [str(python), "-W", "error", "-c", PROBE], cwd=tmp_path, timeout=120, capture_output=True, text=True
    )
    assert probe.returncode == 0, probe.stdout + probe.stderr
    assert "works" in probe.stdout


def test_every_requirement_of_users_has_a_lower_bound_and_no_cap() -> None:
    names = [line.partition("==")[0] for line in lowest()]
    assert {"flask", "sqlalchemy", "celery", "dkimpy"} <= set(names)
    assert len(names) == len(set(names)), "one lower bound for each"
