"""Charts: what is drawn is what the numbers say."""

from __future__ import annotations

import re

import pytest

from flask_outmail.web import charts
from flask_outmail.web.charts import Box

SERIES = ["accepted", "not accepted"]


def boxes(chart: charts.Chart) -> list[Box]:
    return [box for bar in chart.bars for box in bar.boxes]


def test_heights_are_in_proportion_to_the_counts_and_parts_stand_on_one_another() -> None:
    chart = charts.stacked(SERIES, [("00:00", (60, 40)), ("01:00", (50, 0))])
    first, second, third = boxes(chart)
    assert first.height / second.height == pytest.approx(1.5)
    assert first.height / third.height == pytest.approx(1.2)
    assert first.y + first.height == pytest.approx(chart.base)
    assert second.y + second.height == pytest.approx(first.y)
    assert [box.series for box in boxes(chart)] == [0, 1, 0]


def test_a_single_failure_among_thousands_is_seen_and_nothing_leaves_the_drawing() -> None:
    chart = charts.stacked(SERIES, [("00:00", (100_000, 1))])
    assert boxes(chart)[1].height >= 2
    assert all(box.y >= 0 and box.x >= chart.left and box.x + box.width <= chart.right for box in boxes(chart))


def test_a_count_of_nothing_draws_nothing() -> None:
    chart = charts.stacked(SERIES, [("00:00", (0, 0))])
    assert boxes(chart) == []
    assert chart.total == 0


def test_what_is_not_known_is_a_gap_and_no_nought() -> None:
    chart = charts.stacked(SERIES, [("00:00", None), ("01:00", None), ("02:00", (0, 0)), ("03:00", None)])
    assert [bar.gap is not None for bar in chart.bars] == [True, True, False, True]
    assert boxes(chart) == []
    assert chart.gaps == ["00:00 – 02:00", "03:00 –"]
    assert chart.totals == [0, 0]


def test_a_level_has_a_highest_and_no_sum() -> None:
    chart = charts.stacked(SERIES, [("00:00", (3, 1)), ("01:00", None), ("02:00", (2, 4))], is_level=True)
    assert chart.totals == [3, 4]


@pytest.mark.parametrize(
    ("count", "top"), [(0, 1), (1, 1), (2, 2), (3, 5), (7, 10), (11, 20), (21, 50), (60, 100), (100_001, 200_000)]
)
def test_the_scale_ends_with_a_round_number_that_holds_the_highest_bar(count: int, top: int) -> None:
    ticks = charts.stacked(SERIES, [("00:00", (count, 0))]).ticks
    assert ticks[-1].value == top
    assert [tick.value for tick in ticks] == sorted({0, top // 2, top} if top % 2 == 0 else {0, top})


def numbers_of_the_picture(text: str) -> dict[str, list[int]]:
    """hour -> counts, as the tips of the bars of the first chart tell them."""
    found = {}
    text = text[text.index("<figure") :].partition("</figure>")[0]
    for label, told in re.findall(r"<g><title>([^:]+:\d\d): ([^<]+)</title>", text):
        found[label] = [int(number) for number in re.findall(r"\d+", told)]
    return found


def numbers_of_the_table(text: str) -> dict[str, list[int]]:
    table = text[text.index("om-numbers") :].partition("</table>")[0]
    found = {}
    for row in re.findall(r"<tr[^>]*>(.*?)</tr>", table, re.DOTALL)[1:]:
        label, *counts = re.findall(r"<td[^>]*>([^<]*)</td>", row)
        found[label] = [int(count) for count in counts]
    return found
