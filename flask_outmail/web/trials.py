"""A test on a page: run at once and shown whole, or streamed so that its steps fill in as they happen."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from flask import Response, render_template, stream_with_context

from ..diagnosis import report
from ..diagnosis.steps import Step
from ..frames import frames
from ..models import utc_now
from .comparing import Compared
from .texts import said

logger = logging.getLogger(__name__)


@dataclass
class Run:
    """One test: `titles` are known before it runs, the rest afterwards.

    `start` runs it step by step; `conclude` then sets `passed`, and `proof_id` and `note` if there are any. `kind`
    chooses the words for what a test proves ("setup" or "auth_object"), `heading` tells several runs apart. `facts`
    are lines about what is tested, for the text to be sent to whoever helps.
    """

    titles: Sequence[tuple[str, str]]
    start: Callable[[], Iterator[Step]]
    conclude: Callable[[Run], None]
    kind: str = "setup"
    heading: str = ""
    facts: Sequence[str] = ()
    transcript: Sequence[tuple[str, str]] = ()
    done: list[Step] = field(default_factory=list)
    passed: bool = False
    proof_id: str = ""
    note: str = ""
    #: After a test of a setup that did not pass: what passed last.
    compared: Compared | None = None
    #: Whether what the page asked for is done now: mail flows, or Microsoft takes what is stored.
    settled: bool = False
    broke: bool = False

    def steps(self) -> Iterator[Step]:
        """Runs it. Touches the network. A fault of our own ends the run, and is told as one, not as a broken page."""
        try:
            for step in self.start():
                self.done.append(step)
                yield step
        except Exception as exc:
            # Whatever it was, half of the answer has been sent: the page is told, and the log has the trace.
            logger.error("a test ended by a fault of this application:\n%s", frames(exc))
            self.broke = True
            return
        self.conclude(self)

    def finish(self) -> Run:
        for _ in self.steps():
            pass
        return self

    @property
    def elapsed_s(self) -> float:
        return sum(step.elapsed_s for step in self.done)

    @property
    def failed_step(self) -> tuple[int, Step] | None:
        found = [(number, step) for number, step in enumerate(self.done, 1) if step.state == "failed"]
        return found[0] if found else None

    @property
    def is_by_earlier(self) -> bool:
        """Whether the token was had by the secret before the newest, which was refused."""
        return any(step.key == "token" and step.state == "warning" for step in self.done)

    @property
    def warned_count(self) -> int:
        return sum(step.state == "warning" for step in self.done)

    @property
    def proven(self) -> list[str]:
        return report.proven(self.done)

    @property
    def not_proven(self) -> list[str]:
        return report.not_proven(self.done)

    @property
    def support_text(self) -> str:
        title = "Test of an authentication object" if self.kind == "auth_object" else "Test of the outbound mail setup"
        at = f"{utc_now():%Y-%m-%d %H:%M} UTC"
        return report.support_text(self.done, title=title, at=at, facts=self.facts, transcript=self.transcript)


def stream(run: Run) -> Response:
    """The run as lines of JSON: the titles, one line for each step as it ends, and the result."""

    def lines() -> Iterator[str]:
        yield _line({"titles": [said(title) for _, title in run.titles]})
        for number, step in enumerate(run.steps(), 1):
            html = render_template("outmail/_step.html", step=step, number=number)
            told = {"number": number, "key": step.key, "title": said(step.title), "state": step.state, "html": html}
            yield _line(told)
        yield _line(
            {
                "done": True,
                "passed": run.passed,
                "proof": run.proof_id,
                "settled": run.settled,
                "summary": render_template("outmail/_summary.html", run=run).strip(),
                "html": render_template("outmail/_verdict.html", run=run),
            }
        )

    return _answer(stream_with_context(lines()))


def refuse(sentence: str, problems: Mapping[str, str] | None = None, *, status: int) -> Response:
    """A test that cannot begin: the sentence, and what is wrong with which field."""
    told = {name: said(problem) for name, problem in (problems or {}).items()}
    line = _line({"done": True, "passed": False, "proof": "", "summary": said(sentence), "errors": told})
    response = _answer([line])
    response.status_code = status
    return response


def _line(value: Mapping[str, Any]) -> str:
    return json.dumps(value) + "\n"


def _answer(lines: Any) -> Response:
    response = Response(lines, mimetype="application/x-ndjson")
    # A proxy that waits for the end would make all steps appear at once.
    response.headers["X-Accel-Buffering"] = "no"
    return response
