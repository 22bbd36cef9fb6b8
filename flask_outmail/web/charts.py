"""Charts, drawn on the server: the geometry here, the SVG in `_chart.html`, with the same numbers as a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

WIDTH, HEIGHT = 360, 150
_LEFT, _RIGHT, _TOP, _BOTTOM = 34, 4, 10, 20
#: A single failure among thousands must still be seen.
_LEAST = 2.0


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
    """One bar with its numbers, one for each series, and the same in words. `at` is where its label stands."""

    label: str
    words: str
    counts: Sequence[int]
    boxes: Sequence[Box]
    at: float
    is_labelled: bool

    @property
    def total(self) -> int:
        return sum(self.counts)


@dataclass(frozen=True)
class Tick:
    value: int
    y: float


@dataclass(frozen=True)
class Chart:
    """Stacked bars. `series` are the words for what is stacked, from the bottom up."""

    series: Sequence[str]
    bars: Sequence[Bar]
    ticks: Sequence[Tick]
    width: int = WIDTH
    height: int = HEIGHT
    left: int = _LEFT
    right: int = WIDTH - _RIGHT
    base: int = HEIGHT - _BOTTOM

    @property
    def totals(self) -> list[int]:
        return [sum(bar.counts[number] for bar in self.bars) for number in range(len(self.series))]

    @property
    def total(self) -> int:
        return sum(self.totals)


def stacked(series: Sequence[str], rows: Sequence[tuple[str, Sequence[int]]], *, label_every: int = 6) -> Chart:
    """A chart of one bar for each (label, counts). Counts are never negative."""
    top = _round_up(max((sum(counts) for _, counts in rows), default=0))
    base, room = HEIGHT - _BOTTOM, HEIGHT - _BOTTOM - _TOP
    step = (WIDTH - _LEFT - _RIGHT) / max(1, len(rows))
    bars = []
    for number, (label, counts) in enumerate(rows):
        x, y, boxes = _LEFT + number * step, float(base), []
        for index, count in enumerate(counts):
            if count:
                height = max(_LEAST, count / top * room)
                y -= height
                left, width = x + step * 0.12, step * 0.76
                boxes.append(Box(index, round(left, 2), round(y, 2), round(width, 2), round(height, 2)))
        told = ", ".join(f"{count} {word}" for word, count in zip(series, counts, strict=True) if count)
        bars.append(Bar(label, f"{label}: {told}", counts, boxes, round(x + step / 2, 2), number % label_every == 0))
    values = [0, top // 2, top] if top % 2 == 0 else [0, top]
    return Chart(series, bars, [Tick(value, round(base - value / top * room, 2)) for value in values])


def _round_up(count: int) -> int:
    """The next number with which a scale may end: 1, 2, 5, 10, 20, 50 …"""
    size = 1
    while True:
        for top in (size, 2 * size, 5 * size):
            if count <= top:
                return top
        size *= 10
