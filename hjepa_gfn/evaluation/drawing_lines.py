"""Several series of points in one plot, on linear or logarithmic axes, as an SVG picture."""
from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence

from hjepa_gfn.evaluation.drawing_bars import COLOURS
from hjepa_gfn.evaluation.drawing_curves import nice_ticks

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 420, 300, 56, 16, 40, 44


def lines(
    series: Mapping[str, Sequence[tuple[float, float]]], title: str, x: str, y: str, logarithmic: bool = False,
    diagonal: bool = False,
) -> str:
    """One line with dots for each series of (x, y).

    Args:
      series: points by name, in the order of drawing. title, x, y: what stands over the plot and at its axes.
      logarithmic: both axes; every coordinate must be positive then.
      diagonal: also draw y = x.

    Raises:
      ValueError: there is no point, or one that cannot be drawn.
    """
    points = [p for some in series.values() for p in some]
    if not points:
        raise ValueError(f"{title}: nothing to draw")
    if not all(math.isfinite(v) and (v > 0 or not logarithmic) for p in points for v in p):
        raise ValueError(f"{title}: not every point can be drawn")
    scale = math.log10 if logarithmic else float
    xs, ys = ([scale(p[k]) for p in points] for k in (0, 1))
    if diagonal:
        xs = ys = xs + ys
    (x0, x1), (y0, y1) = _range(xs), _range(ys)
    left = lambda v: LEFT + (WIDTH - LEFT - RIGHT) * (v - x0) / (x1 - x0)  # noqa: E731
    top = lambda v: TOP + (HEIGHT - TOP - BOTTOM) * (y1 - v) / (y1 - y0)  # noqa: E731
    words = lambda t: f"{10**t:.2g}" if logarithmic else f"{t:g}"  # noqa: E731
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" font-family="sans-serif" '
           'font-size="12">',
           '<rect width="100%" height="100%" fill="white"/>',
           f'<text x="{LEFT}" y="20" font-size="14">{html.escape(title)}</text>']
    for t in nice_ticks(y0, y1):
        out.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{top(t):.1f}" y2="{top(t):.1f}" stroke="#ddd"/>'
                   f'<text x="{LEFT - 5}" y="{top(t) + 4:.1f}" text-anchor="end">{words(t)}</text>')
    for t in nice_ticks(x0, x1):
        out.append(f'<text x="{left(t):.1f}" y="{HEIGHT - BOTTOM + 16}" text-anchor="middle">{words(t)}</text>')
    if diagonal:
        out.append(f'<line x1="{left(x0):.1f}" y1="{top(x0):.1f}" x2="{left(x1):.1f}" y2="{top(x1):.1f}" stroke="#999" '
                   'stroke-dasharray="4"/>')
    for number, (name, some) in enumerate(series.items()):
        colour = COLOURS[number % len(COLOURS)]
        at = [(left(scale(a)), top(scale(b))) for a, b in some]
        out.append(f'<polyline fill="none" stroke="{colour}" points="' + " ".join(f"{a:.1f},{b:.1f}" for a, b in at) + '"/>')
        out += [f'<circle cx="{a:.1f}" cy="{b:.1f}" r="3" fill="{colour}"/>' for a, b in at]
        out.append(f'<text x="{LEFT + 8}" y="{TOP + 12 + 15 * number}" fill="{colour}">{html.escape(name)}</text>')
    out.append(f'<text x="{WIDTH / 2:.0f}" y="{HEIGHT - 8}" text-anchor="middle">{html.escape(x)}</text>')
    out.append(f'<text x="14" y="{HEIGHT / 2:.0f}" text-anchor="middle" transform="rotate(-90 14 {HEIGHT / 2:.0f})">'
               f"{html.escape(y)}</text></svg>")
    return "".join(out)


def _range(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    pad = 0.05 * (high - low) or max(abs(high), 1.0) * 0.1
    return low - pad, high + pad
