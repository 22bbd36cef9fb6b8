"""What was measured, as Markdown."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date

from .measuring import Result
from .workloads import NAMES, OURS, Contender, Workload

BEGIN, END = "<!-- bench:begin -->", "<!-- bench:end -->"


@dataclass(frozen=True, slots=True)
class Verdict:
    """One goal and what was reached of it. `share` is reached ÷ goal for ratios, for the chart."""

    what: str
    goal: str
    reached: str
    met: bool | None
    ratio: float = 0.0
    wanted: float = 0.0

    @property
    def word(self) -> str:
        return {True: "met", False: "**missed**", None: "not measured"}[self.met]


@dataclass
class Report:
    """Everything one run found out."""

    command: str
    rounds: int
    versions: Mapping[str, str]
    smtp: list[tuple[Workload, list[Result]]] = field(default_factory=list)
    graph: list[Result] = field(default_factory=list)
    graph_notes: list[str] = field(default_factory=list)
    imports: list[Result] = field(default_factory=list)
    memory: list[Result] = field(default_factory=list)
    own_layers: list[Result] = field(default_factory=list)

    def verdicts(self) -> list[Verdict]:
        return [*self._smtp_verdicts(), *self._graph_verdicts(), *self._limits()]

    def _smtp_verdicts(self) -> Iterable[Verdict]:
        for workload, results in self.smtp:
            named = {result.name: result for result in results}
            for goal in workload.goals:
                label = goal.ours.partition(", ")[2]
                title = f"{workload.title} ({label})" if label and "connections" not in label else workload.title
                yield faster(title, named[goal.ours], named[goal.against], goal.at_least)

    def _graph_verdicts(self) -> Iterable[Verdict]:
        if not self.graph:
            return
        burst, *others = self.graph
        wanted = {others[0].name: 3.8} | {result.name: 5.0 for result in others[1:]}
        for result in others:
            yield faster("Graph, one mailbox, a burst", burst, result, wanted[result.name])
        said = self.graph_notes[0].partition(": ")[2] if self.graph_notes else ""
        met = said == "1 token request, 0 answers 429" if said else None
        yield Verdict("Graph, one mailbox, a burst", "1 token request, no 429", said or burst.reason, met)

    def _limits(self) -> Iterable[Verdict]:
        if self.imports:
            named = {result.name: result for result in self.imports}
            yield at_most_times("import flask_outmail", named["import flask_outmail"], named["import flask_mail"], 1.3)
        for result in self.memory:
            if result.name.startswith(NAMES[OURS]):
                yield at_most(f"memory, 150 MB from a path: {result.name}", result, 48e6, 1e6, "MB")
        if self.own_layers:
            yield at_most("what a send costs in our own layers", self.own_layers[0], 60e-6, 1e-6, "µs")


def faster(what: str, ours: Result, other: Result, at_least: float) -> Verdict:
    goal = f"≥ {at_least:g} × {other.name}"
    if not (ours.values and other.values):
        reason = ours.reason or other.reason
        return Verdict(what, goal, reason, False if other.values else None)
    ratio = other.median / ours.median
    said = times(ratio)
    if ratio < at_least <= float(said):
        said = f"{ratio:.2f}"  # rounded, it would look as if it were met
    return Verdict(what, goal, f"{said} ×", ratio >= at_least, ratio, at_least)


def at_most_times(what: str, ours: Result, other: Result, most: float) -> Verdict:
    goal = f"≤ {most:g} × {other.name}"
    if not (ours.values and other.values):
        return Verdict(what, goal, ours.reason or other.reason, None)
    ratio = ours.median / other.median
    return Verdict(what, goal, f"{ratio:.2f} ×", ratio <= most)


def at_most(what: str, ours: Result, most: float, unit: float, name: str) -> Verdict:
    goal = f"≤ {most / unit:.0f} {name}"
    if not ours.values:
        return Verdict(what, goal, ours.reason, None if ours.reason.startswith("not there") else False)
    return Verdict(what, goal, f"{ours.median / unit:.0f} {name}", ours.median <= most)


def times(ratio: float) -> str:
    return f"{ratio:.0f}" if ratio >= 20 else f"{ratio:.1f}"


def duration(seconds: float) -> str:
    if seconds < 0.001:
        return f"{seconds * 1e6:.0f} µs"
    return f"{seconds * 1000:.0f} ms" if seconds >= 0.03 else f"{seconds * 1000:.2f} ms"


def megabytes(number: float) -> str:
    return f"{number / 1e6:.1f} MB"


def render(report: Report) -> str:
    """The whole report, between the markers of the page."""
    lines = [
        BEGIN,
        f"Made by `{report.command}` on {date.today().isoformat()}: {machine()}; medians of {report.rounds} rounds, in"
        " each of which every library has its turn. A ratio is the other's time divided by ours.",
        "",
        *_table(
            ["workload", "goal", "reached", "verdict"],
            [[one.what, one.goal, one.reached, one.word] for one in report.verdicts()],
        ),
    ]
    if report.smtp:
        lines += ["", "Time for each message; in brackets, how many times ours that is:", "", *_smtp(report)]
    if report.graph:
        lines += ["", "Graph, 100 ms for each answer, one mailbox:", "", *_graph(report)]
    if report.imports:
        rows = [[f"`{one.name}`", _said(one, duration)] for one in report.imports]
        lines += ["", "Imports, in fresh processes, time of the processor:", "", *_table(["statement", "time"], rows)]
    if report.memory:
        rows = [[one.name, _said(one, megabytes)] for one in report.memory]
        lines += [
            "",
            "How much the peak of a process grows while it sends 150 MB from a path, after one small message:",
            "",
            *_table(["library", "growth"], rows),
        ]
    if report.own_layers:
        rows = [[one.name, _said(one, duration)] for one in report.own_layers]
        lines += ["", "One small message, without a network:", "", *_table(["what", "time"], rows)]
    said = ", ".join(f"{NAMES[peer]} {version}" for peer, version in report.versions.items() if peer != "raw")
    return "\n".join([*lines, "", f"Versions: {said}.", END])


def _smtp(report: Report) -> list[str]:
    found = {_column(contender) for workload, _ in report.smtp for contender in workload.contenders}
    columns = [column for name in NAMES.values() for column in (name, f"{name}, CHUNKING") if column in found]
    rows = []
    missing: dict[str, str] = {}
    for workload, results in report.smtp:
        ours = next(result for result in results if result.name.startswith(NAMES[OURS]))
        cells = dict.fromkeys(columns, "–")
        for contender, result in zip(workload.contenders, results, strict=True):
            if not result.values:
                if word := next((one for one in ("not there", "failed") if result.reason.startswith(one)), ""):
                    cells[_column(contender)] = word
                    missing[result.name] = result.reason
                continue
            cell = duration(result.median)
            if contender.peer != OURS and ours.values:
                cell += f" ({times(result.median / ours.median)} ×)"
            if "connections" in contender.fields:
                cell += f", {contender.fields['connections']} connections"
            cells[_column(contender)] = cell
        rows.append([workload.title, *cells.values()])
    lines = _table(["workload", *columns], rows)
    lines += [""] if missing else []
    lines += [f"{name} {'is ' * reason.startswith('not')}{reason}." for name, reason in missing.items()]
    return lines


def _column(contender: Contender) -> str:
    return f"{NAMES[contender.peer]}, CHUNKING" if contender.chunking else NAMES[contender.peer]


def _graph(report: Report) -> list[str]:
    burst = report.graph[0]
    notes = dict(note.split(": ", 1) for note in report.graph_notes)
    rows = []
    for result in report.graph:
        ratio = f"{times(result.median / burst.median)} ×" if result.values and burst.values else ""
        rows.append([result.name, _said(result, duration), ratio, notes.get(result.name, "")])
    return _table(["client", "each message", "of ours", "a run's requests"], rows)


def _said(result: Result, unit: Callable[[float], str]) -> str:
    return unit(result.median) if result.values else result.reason


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    return [f"| {' | '.join(row)} |" for row in (header, ["---"] * len(header), *rows)]


def machine() -> str:
    return f"{os.cpu_count()} cores, {platform.system()} {platform.machine()}, Python {platform.python_version()}"


def written(page: str, report: str) -> str:
    """The page with the report between its markers.

    Raises:
        ValueError: it has none.
    """
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"the page has no {BEGIN} … {END}")
    return before + report + after
