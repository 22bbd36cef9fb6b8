"""Every command that the documentation shows is run, and every one that it mentions exists."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from configparser import ConfigParser
from pathlib import Path

import click
import pytest
from click.testing import Result
from flask import Flask

from flask_outmail import Mail
from flask_outmail.cli import outmail_commands
from flask_outmail.simulator import Simulator

from ..conftest import STRICT, MakeApp, graph_setup, make_message
from .pages import PAGES, ROOT, Block, blocks

#: Commands that other tests run, and those that would change this checkout.
ELSEWHERE = {
    "make run": "tests/docs/test_tutorial.py",
    "EXAMPLE_SIMULATOR=0": "tests/example/test_example_shop.py",
    "celery -A celery_worker": "tests/distributed/test_celery.py",
    "export FLASK_": "tests/distributed/test_celery.py",
    "python docs/translate.py": "tests/web/test_languages.py",
    "$EDITOR ": "tests/web/test_languages.py",
}


def commands(block: Block) -> list[str]:
    """The commands of a block: of a console what stands behind `$ `, of a crontab what stands behind the times."""
    lines = block.text.splitlines()
    if block.language == "console":
        return [line[2:] for line in lines if line.startswith("$ ")]
    if block.language == "text":
        return [found[1] for line in lines if (found := re.match(r"\*/5 \* \* \* \*\s+(?:cd \S+ && )?(.+)", line))]
    return [line for line in lines if line.strip() and not line.lstrip().startswith("#")]


PAGES_WITH_COMMANDS = sorted(
    {block.page for block in blocks("", "sh", "console", "text") if commands(block) and "/reference/" not in block.page}
)
#: `flask outmail …` in an environment or not, and what the shell does with its output.
OURS = re.compile(
    r"(?:\S*/)?flask (?:--app \S+ )?outmail (?P<arguments>[^|>]*?)\s*(?:\|\| .*|> .*|\| (?P<filter>jq .*))?$"
)


@pytest.fixture
def app(make_app: MakeApp, simulator: Simulator) -> Flask:
    app, _ = make_app(graph_setup(simulator), db=True)
    return app


def ours(app: Flask, command: str, simulator: Simulator) -> Result:
    """Runs `flask outmail …` in an application that is set up, with what the page supposes to be there."""
    match = OURS.search(command)
    assert match is not None, command
    arguments = shlex.split(match["arguments"])
    if arguments == ["worker"]:
        arguments.append("--once")  # it would run for ever
    if "colleague" in command:
        # Addresses of the page's own organisation become those of the simulator's.
        arguments = [re.sub(r"colleague@\S+", "anna@contoso.example", one) for one in arguments]
    if "1742" in arguments:
        arguments[arguments.index("1742")] = str(an_unknown_delivery(app, simulator))
    result = app.test_cli_runner().invoke(args=["outmail", *arguments], input="Filesystem 97%\n")
    if match["filter"]:
        if shutil.which("jq") is None:
            (pytest.fail if STRICT else pytest.skip)("jq is not installed")
        shell(match["filter"], Path.cwd(), given=result.output)
    return result


def an_unknown_delivery(app: Flask, simulator: Simulator) -> int:
    simulator.faults.lose_answer()
    app.extensions["mail"].enqueue(make_message())
    app.extensions["sqlalchemy"].session.commit()
    app.test_cli_runner().invoke(args=["outmail", "worker", "--once"])
    listed = app.test_cli_runner().invoke(args=["outmail", "deliveries", "list", "--state", "unknown", "--json"])
    [row] = json.loads(listed.output)
    return int(row["id"])


def shell(command: str, folder: Path, *, given: str = "") -> str:
    """Runs a command of the shell with this environment's programs, in a folder of its own."""
    environment = {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}", "HOME": str(folder)}
    run = subprocess.run(
        ["/usr/bin/env", "bash", "-c", command],
        cwd=folder,
        env=environment,
        input=given,
        text=True,
        capture_output=True,
    )
    # The command that changes imports ends with 1 when there is something to change, as its page says.
    assert run.returncode == (1 if "migrate" in command else 0), run.stderr
    return run.stdout


def extras_exist(command: str) -> None:
    known = ConfigParser()
    known.read(ROOT / "setup.cfg")
    for extra in re.findall(r"\[([a-z,]+)\]", command):
        assert set(extra.split(",")) <= set(known["options.extras_require"])


def goal_exists(command: str) -> None:
    makefile = (ROOT / "Makefile").read_text()
    for goal in shlex.split(command, comments=True)[1:]:
        assert re.search(rf"^{goal}:", makefile, re.MULTILINE), goal


@pytest.mark.parametrize("page", PAGES_WITH_COMMANDS)
def test_the_commands_of_a_page_work_one_after_another(
    page: str, tmp_path: Path, app: Flask, simulator: Simulator
) -> None:
    for block in blocks(page, "sh", "console", "text"):
        for command in commands(block):
            elsewhere = next((file for begin, file in ELSEWHERE.items() if command.startswith(begin)), None)
            if elsewhere:
                assert (ROOT / elsewhere).exists()
            elif OURS.search(command):
                result = ours(app, command, simulator)
                assert result.exit_code == 0, f"{page}:{block.line}: {result.output}"
            elif command.startswith("pip install"):
                extras_exist(command)
            elif command.startswith("make"):
                goal_exists(command)
            elif command.startswith("curl"):
                monitored(app, command)
            elif command.startswith("python -m flask_outmail.migrate"):
                (tmp_path / "shop.py").write_text("from flask_mail import Mail\n")
                assert "+from flask_outmail import Mail" in shell(command, tmp_path)
            elif command.startswith("openssl"):
                shell(command, tmp_path)
                assert "PRIVATE KEY" in (tmp_path / "dkim.pem").read_text()
            elif command.startswith("eval"):
                assert "flask" in shell(f"{command}\ncomplete -p flask", tmp_path)
            else:
                pytest.fail(f"{page}:{block.line}: nothing here knows how to run {command}")


def monitored(app: Flask, command: str) -> None:
    words = shlex.split(command)
    name, _, value = words[words.index("-H") + 1].partition(": ")
    shown = Flask("shop")
    shown.config.update(app.config, OUTMAIL_HEALTH_TOKEN="a token of 16 characters")
    Mail(shown)
    path = "/" + words[-1].split("/", 3)[3]
    given = value.replace("$TOKEN", "a token of 16 characters")
    assert shown.test_client().get(path, headers={name: given}).status_code == 200
    assert shown.test_client().get(path).status_code == 403


def test_what_the_status_prints_has_the_fields_that_are_shown(app: Flask) -> None:
    [block] = [one for one in blocks("docs/how-to/use-the-commands.md", "console") if "status --json" in one.text]
    shown = json.loads(block.text.partition("\n")[2])
    printed = app.test_cli_runner().invoke(args=["outmail", "status", "--json"]).output
    assert list(json.loads(printed)) == list(shown)


def test_the_guide_says_which_commands_print_no_json() -> None:
    page = (ROOT / "docs/how-to/use-the-commands.md").read_text()
    [listed] = re.findall(r"Every command has it, but for (.*?)\. ", page, re.DOTALL)
    without = {name for name, one in every(outmail_commands) if not any("--json" in param.opts for param in one.params)}
    assert set(re.findall(r"`([a-z ]+)`", listed)) == without


def every(group: click.Group, path: str = "") -> list[tuple[str, click.Command]]:
    found: list[tuple[str, click.Command]] = []
    for name, command in group.commands.items():
        whole = f"{path} {name}".strip()
        found += every(command, whole) if isinstance(command, click.Group) else [(whole, command)]
    return found


def test_every_command_and_option_that_is_mentioned_exists() -> None:
    known = dict(every(outmail_commands))
    groups = {name.split()[0] for name in known if " " in name}
    mentioned = 0
    for page in PAGES:
        for words in re.findall(r"flask(?: --app \w+)? outmail ([^`\n|>]+)", page.read_text()):
            said = words.split()
            if not re.fullmatch(r"[a-z-]+", said[0]) or (said[0] in groups and len(said) == 1):
                continue
            name = " ".join(said[:2]) if said[0] in groups else said[0]
            assert name in known, f"{page.name}: flask outmail {words}"
            options = {opt for one in known[name].params for opt in (*one.opts, *one.secondary_opts)}
            assert {one for one in said if one.startswith("--")} <= options, f"{page.name}: flask outmail {words}"
            mentioned += 1
    assert mentioned > 40
