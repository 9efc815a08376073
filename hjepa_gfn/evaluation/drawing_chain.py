"""The energies that a decision's Markov chains met, as a small SVG: each chain's state, and the least met so far."""

from __future__ import annotations

import html
import math

from hjepa_gfn.evaluation.drawing_curves import nice_ticks
from hjepa_gfn.evaluation.report_numbers import in_words
from hjepa_gfn.evaluation.report_views import TraceView

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 320, 120, 46, 12, 10, 22


def chain_trace(trace: TraceView) -> str:
    """SVG: a line a chain, its dots full where the move was accepted and hollow where it was refused (or none was made, at 0);
    the least energy met so far as a dashed line of steps. Values that are not finite are left out.

    Raises:
      ValueError: the lists differ in length, or there is no chain.
    """
    moves = len(trace.best) - 1
    if not trace.chains or any(len(row) != moves + 1 for row in (*trace.chains, *trace.accepted)):
        raise ValueError(f"chain_trace: chains and acceptances must have {moves + 1} entries each, as best has")
    seen = [value for row in (*trace.chains, trace.best) for value in row if math.isfinite(value)]
    low, high = (min(seen), max(seen)) if seen else (0.0, 1.0)
    pad = 0.08 * (high - low) or max(abs(high), 1.0) * 0.05
    low, high = low - pad, high + pad
    x_of = lambda k: LEFT + (WIDTH - LEFT - RIGHT) * k / max(1, moves)
    y_of = lambda value: TOP + (HEIGHT - TOP - BOTTOM) * (high - value) / (high - low)
    parts = [
        f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y_of(t):.1f}" y2="{y_of(t):.1f}"/>'
        f'<text class="tick" x="{LEFT - 6}" y="{y_of(t) + 3:.1f}">{html.escape(f"{t:g}".replace("-", "−"))}</text>'
        for t in nice_ticks(low, high, 2)
    ]
    for k in sorted({0, moves, *range(0, moves, max(1, math.ceil(moves / 8)))}):
        parts.append(f'<text class="move" x="{x_of(k):.1f}" y="{HEIGHT - 7}">{k}</text>')
    for row, accepted in zip(trace.chains, trace.accepted, strict=True):
        at = [(x_of(k), y_of(value), taken) for k, (value, taken) in enumerate(zip(row, accepted, strict=True))
              if math.isfinite(value)]
        parts.append(f'<polyline class="chain" points="{" ".join(f"{x:.1f},{y:.1f}" for x, y, _ in at)}"/>')
        parts += [f'<circle class="{"taken" if taken else "refused"}" cx="{x:.1f}" cy="{y:.1f}" r="2.8"/>'
                  for x, y, taken in at]
    steps = [(k, value) for k, value in enumerate(trace.best) if math.isfinite(value)]
    corners = [(x_of(k), y_of(value)) for (_, value), (k, _) in zip(steps, steps[1:])]  # the old height, at the new move
    points = [xy for pair in zip([(x_of(k), y_of(v)) for k, v in steps], [*corners, None]) for xy in pair if xy]
    parts.append(f'<polyline class="best" points="{" ".join(f"{x:.1f},{y:.1f}" for x, y in points)}"/>')
    label = html.escape(trace_in_words(trace), quote=True)
    return f'<svg class="trace" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{label}">{"".join(parts)}</svg>'


def trace_in_words(trace: TraceView) -> str:
    """E.g. "2 moves of 1 chain, 1 accepted; least energy 3.20, then 2.10"."""
    moves, chains = len(trace.best) - 1, len(trace.chains)
    accepted = sum(map(sum, trace.accepted))
    return (
        f"{moves} move{'' if moves == 1 else 's'} of {chains} chain{'' if chains == 1 else 's'}, {accepted} accepted; "
        f"least energy {in_words(trace.best[0])}, then {in_words(trace.best[-1])}"
    )
