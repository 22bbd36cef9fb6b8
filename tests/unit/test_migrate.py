"""What the migration shows and writes for code that uses Flask-Mail or Flask-Mailman."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from flask_outmail.migrate import find, main


def changed(folder: Path, name: str, text: str) -> str:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(text.encode())
    return "".join(finding.after for finding in find(folder))


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("from flask_mail import Mail, Message\n", "from flask_outmail import Mail, Message\n"),
        ("from flask_mail import (\n    Mail,\n)\n", "from flask_outmail import (\n    Mail,\n)\n"),
        ("import flask_mail\n", "import flask_outmail as flask_mail\n"),
        ("import os, flask_mail as fm, sys\n", "import os, flask_outmail as fm, sys\n"),
        ("x = 'é'; import flask_mail\n", "x = 'é'; import flask_outmail as flask_mail\n"),
        ("def f():\r\n    from flask_mail import Mail\r\n", "def f():\r\n    from flask_outmail import Mail\r\n"),
        (
            "a = 1\x0cb = 2\nimport flask_mail\n".replace("\x0cb", "\x0c\nb"),
            "a = 1\x0c\nb = 2\nimport flask_outmail as flask_mail\n",
        ),
        ("from flask_mailman import EmailMessage\n", "from flask_outmail.mailman import EmailMessage\n"),
    ],
)
def test_an_import_is_changed_and_nothing_else(tmp_path: Path, before: str, after: str) -> None:
    assert changed(tmp_path, "app.py", before) == after


@pytest.mark.parametrize(
    "text",
    ["from .flask_mail import x\n", "from flask_mail_sendgrid import x\n", "import flask_mailing\n", "# flask_mail\n"],
)
def test_what_only_looks_alike_stays(tmp_path: Path, text: str) -> None:
    assert changed(tmp_path, "app.py", text) == ""


def test_requirements_are_changed_whatever_their_spelling(tmp_path: Path) -> None:
    before = "Flask-Mail==0.9.1 ; python_version > '3'\nflask\nflask_mail>=0.10  # mail\nFlask-Mail-SendGrid\n"
    after = "flask-outmail ; python_version > '3'\nflask\nflask-outmail  # mail\nFlask-Mail-SendGrid\n"
    assert changed(tmp_path, "requirements-dev.txt", before) == after


def test_what_a_person_must_see_is_told_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text('patch("flask_mail.Mail.send")\n')
    (tmp_path / "b.py").write_text("from flask_mailman import get_connection\n")
    (tmp_path / "c.py").write_text("import flask_mail\nprint 'two'\n")
    notes = {finding.name: finding.notes[0] for finding in find(tmp_path)}
    assert (notes["a.py"][0], "flask_mail.Mail.send" in notes["a.py"][1]) == (1, True)
    assert "get_connection" in notes["b.py"][1]
    assert "cannot be read" in notes["c.py"][1]


def test_files_that_say_nothing_of_it_are_left_and_those_that_are_no_text_break_nothing(tmp_path: Path) -> None:
    (tmp_path / "requirements.txt").write_bytes(b"Flask-Mail\xff")
    (tmp_path / "picture.png").write_bytes(b"flask_mail")
    (tmp_path / "other.py").write_bytes(b"import os\n")
    assert list(find(tmp_path)) == []


def test_environments_and_history_are_not_looked_at(tmp_path: Path) -> None:
    for folder in (".venv", ".git", "node_modules", "pkg/__pycache__"):
        assert changed(tmp_path, f"{folder}/app.py", "import flask_mail\n") == ""


def test_nothing_is_written_unless_asked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    app = tmp_path / "app.py"
    app.write_bytes(b"# coding: latin-1\r\nname = '\xe9'\r\nimport flask_mail\r\n")
    assert main([str(tmp_path)]) == 1
    assert "+import flask_outmail as flask_mail" in capsys.readouterr().out
    assert b"flask_outmail" not in app.read_bytes()
    assert main([str(tmp_path), "--write"]) == 0
    assert app.read_bytes() == b"# coding: latin-1\r\nname = '\xe9'\r\nimport flask_outmail as flask_mail\r\n"
    assert main([str(tmp_path)]) == 0


def test_the_command_shows_what_a_person_must_see(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.py").write_text('patch("flask_mail.Mail.send")\n')
    main([str(tmp_path)])
    assert "a.py:1: note: " in capsys.readouterr().out


def test_the_difference_can_be_applied_by_patch(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub/app.py").write_text("import flask_mail\n")
    command = [sys.executable, "-m", "flask_outmail.migrate", str(tmp_path)]
    shown = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    assert shown.startswith("--- a/sub/app.py\n+++ b/sub/app.py\n")


def test_a_folder_that_is_not_there_is_wrong_usage(tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as ended:
        main([str(tmp_path / "none")])
    assert ended.value.code == 2
