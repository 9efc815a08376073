"""Curves of compute as one SVG: success by network passes with its intervals, and energies by network passes; and its panels,
lines with intervals over any axis."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from hjepa_gfn.evaluation.drawing_curves import nice_ticks
from hjepa_gfn.evaluation.report_html import esc

WIDTH, HEIGHT, LEFT, TOP, BOTTOM = 420, 300, 56, 54, 40
COLOURS = ("#1b6ca8", "#c8553d", "#3a7d44", "#8a5a9e")


class Line(NamedTuple):
    """A series: x, y and what lies between which y is likely (None: not drawn)."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float] | None = None
    high: Sequence[float] | None = None


def draw(report: Mapping[str, Any]) -> str:
    """SVG of a report of `experiments.compute_curve`; panels without data are left empty."""
    success = []
    for choose, name in (("sample", "a sample"), ("habit", "what habit draws"), ("best", "the best plan")):
        points = [p for p in report["success"] if p["choose"] == choose]
        success.append(Line(
            f"acting on {name}", [p["passes_a_decision"] for p in points],
            [p["success"] for p in points], [p["interval"][0] for p in points], [p["interval"][1] for p in points]))
    energies = []
    for found in report["energies"]:
        kind = "edits anywhere" if found["edits"] == "tree" else "edits at the end"
        for key, name in (("energy", f"{kind}, chains"), ("best_energy", f"{kind}, best")):
            error = found[f"{key}_error"] or [0.0] * len(found[key])
            energies.append(Line(name, found["passes"], found[key], [y - 2 * e for y, e in zip(found[key], error, strict=True)],
                                 [y + 2 * e for y, e in zip(found[key], error, strict=True)]))
    n = report["episodes"]
    panels = [
        panel(f"success, n = {n}, 95 % intervals", success, 0),
        panel(f"energy, n = {n}, two standard errors", energies, 1)]
    return (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {2 * WIDTH} {HEIGHT}" font-family="sans-serif" '
            f'font-size="11"><rect width="100%" height="100%" fill="white"/>{"".join(panels)}</svg>\n')


def panel(
    title: str, lines: list[Line], column: int, row: int = 0, x: str = "network passes a decision",
    ticks: Sequence[tuple[float, str]] | None = None,
) -> str:
    """One plot as an SVG group, at a place in a grid of plots: lines with their intervals; empty without points.

    x: what stands at its axis. ticks: (value, words) on it; by default round numbers.
    """
    lines = [line for line in lines if len(line.x)]
    head = (f'<g transform="translate({column * WIDTH} {row * HEIGHT})">'
            f'<text x="{LEFT}" y="16" font-weight="bold">{esc(title)}</text>')
    if not lines:
        return head + "</g>"
    ys = [y for line in lines for y in (*line.y, *(line.low or ()), *(line.high or ()))]
    right = max([value for line in lines for value in line.x] + [value for value, _ in ticks or ()]) * 1.02 or 1.0
    low, high = min(ys), max(ys)
    pad = 0.05 * (high - low) or 0.5
    low, high = low - pad, high + pad
    x_of = lambda x: LEFT + (WIDTH - LEFT - 14) * x / right  # noqa: E731
    y_of = lambda y: TOP + (HEIGHT - TOP - BOTTOM) * (high - y) / (high - low)  # noqa: E731
    parts = [head]
    for tick in nice_ticks(low, high, 5):
        parts.append(f'<line x1="{LEFT}" x2="{WIDTH - 14}" y1="{y_of(tick):.1f}" y2="{y_of(tick):.1f}" stroke="#ddd"/>'
                     f'<text x="{LEFT - 5}" y="{y_of(tick) + 4:.1f}" text-anchor="end">{tick:g}</text>')
    for tick, words in [(tick, f"{tick:g}") for tick in nice_ticks(0.0, right, 5)] if ticks is None else ticks:
        parts.append(f'<text x="{x_of(tick):.1f}" y="{HEIGHT - BOTTOM + 16}" text-anchor="middle">{esc(words)}</text>')
    parts.append(f'<text x="{(LEFT + WIDTH) / 2:.0f}" y="{HEIGHT - 6}" text-anchor="middle">{esc(x)}</text>')
    for i, line in enumerate(lines):
        colour = COLOURS[i % len(COLOURS)]
        points = " ".join(f"{x_of(a):.1f},{y_of(b):.1f}" for a, b in zip(line.x, line.y, strict=True))
        parts.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="1.6"/>')
        for k, (a, b) in enumerate(zip(line.x, line.y, strict=True)):
            if line.low is not None and line.high is not None:
                parts.append(f'<line x1="{x_of(a):.1f}" x2="{x_of(a):.1f}" y1="{y_of(line.low[k]):.1f}" '
                             f'y2="{y_of(line.high[k]):.1f}" stroke="{colour}" stroke-opacity="0.5"/>')
            parts.append(f'<circle cx="{x_of(a):.1f}" cy="{y_of(b):.1f}" r="2.4" fill="{colour}"/>')
        parts.append(f'<text x="{LEFT + (i % 2) * 175}" y="{30 + 13 * (i // 2)}" fill="{colour}">{esc(line.name)}</text>')
    return "".join(parts) + "</g>"
