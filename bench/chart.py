"""How many times as fast as Flask-Mail, drawn: a picture that needs no script and follows light and dark."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from .table import Verdict, times

WIDTH, LEFT, ROW, BAR, TOP = 920, 470, 30, 16, 44
STYLE = """
text { font: 13px system-ui, sans-serif; fill: #24292f } .head { font-weight: 600 } .small { fill: #57606a }
.bar { fill: #2563a8 } .missed { fill: #b45309 } .goal { stroke: #24292f; stroke-width: 2 }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3 } .small { fill: #9da7b3 } .goal { stroke: #e6edf3 }
  .bar { fill: #6aa9e9 } .missed { fill: #f0a44b }
}
"""


def draw(verdicts: Sequence[Verdict], against: str = "Flask-Mail") -> str:
    """An SVG with one bar for each ratio against one library, and a mark where its goal is."""
    shown = [one for one in verdicts if one.ratio and one.goal.endswith(f"× {against}")]
    height = TOP + ROW * len(shown) + 12
    longest = max([1.0, *(max(one.ratio, one.wanted) for one in shown)])
    scale = (WIDTH - LEFT - 70) / longest
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img"'
        f' aria-label="How many times as fast as {escape(against)}">',
        f"<style>{STYLE}</style>",
        f'<text class="head" x="8" y="20">How many times as fast as {escape(against)}</text>',
        f'<text class="small" x="{WIDTH - 8}" y="20" text-anchor="end">the mark is the goal</text>',
    ]
    for number, one in enumerate(shown):
        y = TOP + number * ROW
        length = one.ratio * scale
        goal = LEFT + one.wanted * scale
        out += [
            f'<text x="{LEFT - 10}" y="{y + 13}" text-anchor="end">{escape(one.what)}</text>',
            f'<rect class="bar{"" if one.met else " missed"}" x="{LEFT}" y="{y}" width="{length:.1f}" height="{BAR}"'
            ' rx="2"/>',
            f'<line class="goal" x1="{goal:.1f}" x2="{goal:.1f}" y1="{y - 3}" y2="{y + BAR + 3}"/>',
            f'<text x="{LEFT + max(length, one.wanted * scale) + 8:.1f}" y="{y + 13}">{times(one.ratio)} ×</text>',
        ]
    return "\n".join([*out, "</svg>", ""])
