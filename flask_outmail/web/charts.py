"""Charts, drawn on the server: the geometry here, the SVG in `_chart.html`, with the same numbers as a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

WIDTH, HEIGHT = 360, 150
_LEFT, _RIGHT, _TOP, _BOTTOM = 34, 4, 10, 20
#: A single failure among thousands must still be seen.
_LEAST = 2.0
#: How thick the strip is that stands where nothing is known.
_GAP = 4


@dataclass(frozen=True)
class Box:
    """One part of a bar. `series` counts from 0; lengths are in units of the drawing."""

    series: int
    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True)
class Bar:
    """One bar with its numbers, one for each series, and the same in words. `at` is where its label stands.

    `gap` is drawn in its place when its numbers are not known; there are none then.
    """

    label: str
    words: str
    counts: Sequence[int]
    boxes: Sequence[Box]
    at: float
    is_labelled: bool
    gap: Box | None = None

    @property
    def total(self) -> int:
        return sum(self.counts)


@dataclass(frozen=True)
class Tick:
    value: int
    y: float


@dataclass(frozen=True)
class Chart:
    """Stacked bars. `series` are the words for what is stacked, from the bottom up, `colours` the numbers of theirs.

    `is_level`: the bars are what there was at a time, and not what came in it; their sum means nothing then.
    """

    series: Sequence[str]
    bars: Sequence[Bar]
    ticks: Sequence[Tick]
    colours: Sequence[int] = ()
    is_level: bool = False
    width: int = WIDTH
    height: int = HEIGHT
    left: int = _LEFT
    right: int = WIDTH - _RIGHT
    base: int = HEIGHT - _BOTTOM

    @property
    def totals(self) -> list[int]:
        """One number for each series: the sum of its bars, or the highest of a level."""
        known = [bar.counts for bar in self.bars if bar.gap is None]
        return [(max if self.is_level else sum)([0, *column]) for column in zip(*known, strict=True)]

    @property
    def total(self) -> int:
        return sum(self.totals)

    @property
    def gaps(self) -> list[str]:
        """From when to when nothing is known, as "08:00 – 09:30", by the labels of the bars."""
        found: list[str] = []
        begun = ""
        for bar in self.bars:
            if bar.gap is not None:
                begun = begun or bar.label
            elif begun:
                found.append(f"{begun} – {bar.label}")
                begun = ""
        return [*found, f"{begun} –"] if begun else found


def stacked(
    series: Sequence[str],
    rows: Sequence[tuple[str, Sequence[int] | None]],
    *,
    label_every: int = 6,
    colours: Sequence[int] = (),
    is_level: bool = False,
) -> Chart:
    """A chart of one bar for each (label, counts). Counts are never negative; None stands for a gap."""
    top = _round_up(max((sum(counts or ()) for _, counts in rows), default=0))
    base, room = HEIGHT - _BOTTOM, HEIGHT - _BOTTOM - _TOP
    step = (WIDTH - _LEFT - _RIGHT) / max(1, len(rows))
    bars = []
    for number, (label, counts) in enumerate(rows):
        x, y = _LEFT + number * step, float(base)
        boxes: list[Box] = []
        at, is_labelled = round(x + step / 2, 2), number % label_every == 0
        if counts is None:
            gap = Box(0, round(x, 2), base - _GAP, round(step, 2), _GAP)
            bars.append(Bar(label, label, (), boxes, at, is_labelled, gap))
            continue
        for index, count in enumerate(counts):
            if count:
                height = max(_LEAST, count / top * room)
                y -= height
                left, width = x + step * 0.12, step * 0.76
                boxes.append(Box(index, round(left, 2), round(y, 2), round(width, 2), round(height, 2)))
        told = ", ".join(f"{count} {word}" for word, count in zip(series, counts, strict=True) if count)
        bars.append(Bar(label, f"{label}: {told}", counts, boxes, at, is_labelled))
    values = [0, top // 2, top] if top % 2 == 0 else [0, top]
    ticks = [Tick(value, round(base - value / top * room, 2)) for value in values]
    return Chart(series, bars, ticks, colours or range(len(series)), is_level)


def _round_up(count: int) -> int:
    """The next number with which a scale may end: 1, 2, 5, 10, 20, 50 …"""
    size = 1
    while True:
        for top in (size, 2 * size, 5 * size):
            if count <= top:
                return top
        size *= 10
