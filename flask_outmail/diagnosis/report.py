"""What a test has proven and what it has not, and the whole of it as plain text for those who help."""

from __future__ import annotations

import platform
import re
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version

from .catalogue import WHO_LABELS
from .steps import Step, passed

#: In the order in which they are told. A step that only warned has proven nothing.
_PROVEN = {
    "token": "credential",
    "mailbox": "mailbox",
    "tls": "encryption",
    "login": "log-in",
    "from": "From address",
    "least_privilege": "that the other mailbox is closed",
    "message": "that a message is accepted",
    "worker": "that a worker is there for it",
}
_MARKS = {"passed": "ok  ", "warning": "look", "failed": "FAIL", "skipped": "-   "}
_SAID = {"client": ">", "server": "<"}
# Not the Message-ID, by which a message is found in logs.
_ADDRESS = re.compile(r"(?<!Message-ID <)(?<![\w.+%'-])([\w+])[\w.+%'-]*@(?=[\w-]+\.)")
_PACKAGES = ("Flask-Outmail", "Flask", "SQLAlchemy", "msal", "requests", "cryptography")


def proven(steps: Sequence[Step]) -> list[str]:
    """What the steps that passed have proven, in a few words each."""
    keys = {step.key for step in steps if step.state == "passed"}
    return [words for key, words in _PROVEN.items() if key in keys]


def not_proven(steps: Sequence[Step]) -> list[str]:
    """What somebody might think that a passed test has proven, and it has not."""
    keys = {step.key for step in steps if step.state == "passed"}
    told = []
    if "message" not in keys:
        told.append("that a real message is accepted")
    if "token" in keys and "least_privilege" not in keys:
        told.append("that other mailboxes are closed to this application")
    return [*told, "arrival in the inbox", "other From addresses"]


def support_text(
    steps: Sequence[Step], *, title: str, at: str, facts: Sequence[str] = (), transcript: Sequence[tuple[str, str]] = ()
) -> str:
    """The run as plain text, to be sent to whoever helps. Holds no secret, and email addresses shortened.

    `at` is when it ran, in words; `facts` are lines about the setup.
    """
    lines = [f"{title}, {at}", _versions(), *facts, ""]
    for number, step in enumerate(steps, 1):
        took = "" if step.state == "skipped" else f" ({step.elapsed_s * 1000:.0f} ms)"
        lines.append(f"{number:2}. {_MARKS[step.state]} {step.title}{took}")
        about = [step.seen, *([step.detail] if step.detail and step.detail not in step.seen else [])]
        about += [f"code {step.code}"] if step.code else []
        about += [f"request id {step.request_id}"] if step.request_id else []
        if step.remedy is not None:
            about.append(f"{step.remedy.title} (who: {WHO_LABELS[step.remedy.who]})")
        lines += [f"         {one}" for one in about if one]
    lines += ["", f"Result: {'passed' if passed(steps) else 'did not pass'}"]
    lines.append(f"Proven: {', '.join(proven(steps)) or 'nothing yet'}")
    if transcript:
        lines += ["", "Transcript (> this application, < the server)"]
        lines += [f"{_SAID.get(who, '?')} {line}" for who, line in transcript]
    return _ADDRESS.sub(r"\1…@", "\n".join(lines)) + "\n"


def _versions() -> str:
    found = [f"Python {platform.python_version()}"]
    for name in _PACKAGES:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            continue
    return ", ".join(found)
