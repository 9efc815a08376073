"""Indicators over an episode's steps, as small multiples with a cursor that the page moves."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence

from hjepa_gfn.evaluation.drawing_curves import nice_ticks
from hjepa_gfn.evaluation.report_numbers import in_words
from hjepa_gfn.evaluation.report_views import SwitchView

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 250, 108, 40, 10, 40, 16
LABEL = 9  # pixels that a switch's number needs


def place(step: float, last: int) -> float:
    """x of a step on a chart whose axis goes from 0 to `last`."""
    return LEFT + (WIDTH - LEFT - RIGHT) * step / max(1, last)


def runs(values: Sequence[float]) -> list[list[int]]:
    """Indices of the finite values, cut where one is missing: [1, nan, 2, 3] -> [[0], [2, 3]]."""
    found: list[list[int]] = []
    for k, value in enumerate(values):
        if not math.isfinite(value):
            continue
        if found and found[-1][-1] == k - 1:
            found[-1].append(k)
        else:
            found.append([k])
    return found


def chart(name: str, title: str, values: Sequence[float], last: int, switches: Sequence[SwitchView]) -> str:
    """SVG of one indicator: a line with gaps where nothing was read, the switches of mode as numbered marks (strong where this
    indicator was the cause, with its bar as a dashed line), a cursor at step 0 and the value there.

    Args:
      name: the indicator's. title: what it means, for the tooltip.
      values: one a step, NaN where nothing was read; at least one is finite.
      last: the last step of the axis.

    Raises:
      ValueError: no value is finite.
    """
    finite = [v for v in values if math.isfinite(v)]
    if not finite:
        raise ValueError(f"chart of {name}: nothing was read")
    bars = sorted({s.bar for s in switches if s.indicator == name})
    low, high = min(*finite, *bars, math.inf), max(*finite, *bars, -math.inf)
    pad = 0.06 * (high - low) or max(abs(high), 1.0) * 0.05
    low, high = low - pad, high + pad
    y_of = lambda v: TOP + (HEIGHT - TOP - BOTTOM) * (high - v) / (high - low)
    across = f'x1="{LEFT}" x2="{WIDTH - RIGHT}"'
    parts = [f"<title>{html.escape(title)}</title>", f'<text class="metric" x="2" y="13">{html.escape(name)}</text>',
             f'<text class="reading" x="{WIDTH - RIGHT}" y="13">{html.escape(in_words(values[0]))}</text>']
    for t in nice_ticks(low, high, 3):
        parts.append(f'<line class="grid" {across} y1="{y_of(t):.1f}" y2="{y_of(t):.1f}"/><text class="tick" x="{LEFT - 5}"'
                     f' y="{y_of(t) + 3:.1f}">{html.escape(f"{t:g}".replace("-", "−"))}</text>')
    parts.append(f'<text class="tick begin" x="{LEFT}" y="{HEIGHT - 4}">0</text>'
                 f'<text class="tick" x="{WIDTH - RIGHT}" y="{HEIGHT - 4}">{last}</text>')
    parts += [f'<line class="bar" {across} y1="{y_of(b):.1f}" y2="{y_of(b):.1f}"/>' for b in bars]
    parts += _marks(name, last, switches)
    for run in runs(values):
        if len(run) > 1:
            points = " ".join(f"{place(k, last):.1f},{y_of(values[k]):.1f}" for k in run)
            parts.append(f'<polyline class="line" points="{points}"/>')
        else:
            parts.append(f'<circle class="lone" cx="{place(run[0], last):.1f}" cy="{y_of(values[run[0]]):.1f}" r="1.8"/>')
    parts.append(f'<line class="cursor" x1="{LEFT}" x2="{LEFT}" y1="{TOP - 4}" y2="{HEIGHT - BOTTOM + 3}"/>')
    return (f'<svg class="indicator" data-name="{html.escape(name, quote=True)}" data-left="{LEFT}"'
            f' data-right="{WIDTH - RIGHT}" viewBox="0 0 {WIDTH} {HEIGHT}" role="img"'
            f' aria-label="{html.escape(f"{name} over the steps", quote=True)}">'
            f"{''.join(parts)}</svg>")


def _marks(name: str, last: int, switches: Sequence[SwitchView]) -> list[str]:
    parts, free = [], -math.inf
    for number, switch in enumerate(switches, 1):
        x = place(switch.step, last)
        cause = " cause" if switch.indicator == name else ""
        label = ""
        if x >= free:
            label, free = f'<text x="{x:.1f}" y="{TOP - 7}">{number}</text>', x + LABEL * len(str(number))
        parts.append(f'<g class="switch{cause}"><title>{html.escape(switch_in_words(switch))}</title><line x1="{x:.1f}"'
                     f' x2="{x:.1f}" y1="{TOP - 4}" y2="{HEIGHT - BOTTOM}"/>{label}</g>')
    return parts


def switch_in_words(switch: SwitchView) -> str:
    """E.g. "habitual → planning: surprise 2.31 is above 2"."""
    if switch.indicator == "held":
        cause = "its time was over"
    else:
        side = "above" if switch.value > switch.bar else "below"
        cause = f"{switch.indicator} {in_words(switch.value)} is {side} {in_words(switch.bar)}"
    return f"{switch.origin} → {switch.target}: {cause}"
