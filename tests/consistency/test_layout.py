"""The rows of the layout (docs/explanation/layout.md): a module imports from its own row or from a row above it."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import flask_outmail

PACKAGE = Path(flask_outmail.__file__).parent

ROWS: dict[int, tuple[str, ...]] = {
    0: ("errors", "frames", "address", "message"),
    1: (
        "content",
        "headers",
        "mime",
        "envelope",
        "reading",
        "setup_values",
        "settings",
        "dsn",
        "html_text",
        "shapes",
        "words",
    ),
    2: ("clouds", "masking", "network", "certificates", "providers", "entra", "tokens", "transports", "diagnosis"),
    3: ("vault", "models", "upgrade", "auth_objects", "setups", "credential_log", "outbox", "audit"),
    4: (
        "signals",
        "services",
        "access",
        "database",
        "current",
        "token_store",
        "compat",
        "alert_channels",
        "alerting",
        "connections",
        "queueing",
        "preparing",
        "bulk",
        "releasing",
        "checking",
        "keeping",
        "working",
        "engine",
        "proving",
        "templating",
        "mailables",
        "rekeying",
        "routing",
        "drop_in",
        "previews",
        "extension",
    ),
    5: (
        "web",
        "cli",
        "celery",
        "testing",
        "testing_outbox",
        "testing_contract",
        "mailman",
        "migrate",
        "metrics",
        "tracing",
    ),
}
ROW_OF = {name: row for row, names in ROWS.items() for name in names}
# init_app hands the application its pages and commands: the one place where the top reaches for what stands on it.
ALLOWED = {("extension", "web"), ("extension", "cli")}


def modules() -> list[Path]:
    return [path for path in sorted(PACKAGE.rglob("*.py")) if path != PACKAGE / "__init__.py"]


def room(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported(path: Path) -> set[str]:
    """Full names of all that a file imports, wherever in the file it does."""
    package = ["flask_outmail", *path.relative_to(PACKAGE).parent.parts]
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            found |= {module} | {f"{module}.{alias.name}" for alias in node.names}
    return found


def rooms_imported(path: Path) -> set[str]:
    names = [name.split(".") for name in imported(path) if name.startswith("flask_outmail.")]
    return {name[1] for name in names if name[1] in ROW_OF or name[1] == "simulator"}


def test_every_module_has_a_row() -> None:
    assert {room(path) for path in modules()} - {"simulator"} == set(ROW_OF)


def test_the_documentation_has_the_same_rows() -> None:
    page = Path(__file__).parents[2] / "docs" / "explanation" / "layout.md"
    told: dict[int, set[str]] = {}
    for row, rooms in re.findall(r"^\| (\d)[^|]* \| ([^|]*) \|", page.read_text(), re.MULTILINE):
        told.setdefault(int(row), set()).update(re.findall(r"`(\w+)`", rooms))
    assert told == {row: set(names) for row, names in ROWS.items()}


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_module_imports_from_its_own_row_or_above(path: Path) -> None:
    here = room(path)
    if here == "simulator":
        assert rooms_imported(path) <= {"simulator"}, "the simulator must not share a mistake with what it tests"
        return
    below = {name for name in rooms_imported(path) if ROW_OF.get(name, 99) > ROW_OF[here]}
    below -= {name for name in below if (here, name) in ALLOWED or (name == "simulator" and ROW_OF[here] == 5)}
    assert not below, f"{here} (row {ROW_OF[here]}) imports {', '.join(sorted(below))}"


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_rows_0_to_3_know_nothing_of_flask(path: Path) -> None:
    if ROW_OF.get(room(path), 99) <= 3:
        assert not {name for name in imported(path) if name.split(".")[0] in ("flask", "flask_wtf", "werkzeug")}


def test_nothing_of_ours_has_an_import_cycle_at_load() -> None:
    """Each module can be the first one imported."""
    names = [f"flask_outmail.{name}" for name in ROW_OF if name != "testing"]
    code = "import importlib, sys\nfor name in sys.argv[1:]: importlib.import_module(name)"
    subprocess.run([sys.executable, "-W", "error", "-c", code, *reversed(names)], check=True, timeout=60)


def test_importing_the_package_loads_nothing_heavy() -> None:
    heavy = {"msal", "requests", "cryptography", "idna", "sqlalchemy", "flask_wtf"}
    code = f"import sys, flask_outmail; print({heavy} & set(sys.modules))"
    out = subprocess.run([sys.executable, "-c", code], check=True, timeout=60, capture_output=True, text=True)
    assert out.stdout.strip() == "set()"


def test_public_names_are_all_there_and_sorted() -> None:
    names = flask_outmail.__all__
    assert sorted(names) == sorted(set(names))
    assert all(hasattr(flask_outmail, name) for name in names)
    public = {
        name
        for name, value in vars(flask_outmail).items()
        if not name.startswith("_") and not hasattr(value, "__path__") and not hasattr(value, "__spec__")
    }
    assert public - {"annotations"} == set(names)
