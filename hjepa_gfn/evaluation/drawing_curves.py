"""Learning curves as small multiples: which to show, how to smooth them, and one SVG panel each."""

from __future__ import annotations

import html
import math
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from hjepa_gfn.evaluation.report_numbers import in_words

WIDTH, HEIGHT = 260, 140
LEFT, RIGHT, TOP, BOTTOM = 42, 8, 34, 20
POINTS = 300  # of the faint line; a panel is not wider

# What a reader looks for first. Bookkeeping is left out: it is no learning curve.
_RANKS = (
    r"(^|_)loss$",
    r"elbo|eubo|nll|log_z|accuracy|auroc|success|reward",
    r"sigreg|rank|std|copy|energy|entropy|loss|error|gap",
)
_BOOKKEEPING = re.compile(r"learning_rate|(^|_)lr$|seconds|time|eta$|memory|^(step|steps|epoch)$|per_s(econd)?$", re.I)


class Curve(NamedTuple):
    """One metric over training."""

    group: str
    metric: str
    steps: np.ndarray
    """float [N], rising; only where the value is finite."""
    values: np.ndarray
    """float [N]"""
    broken: int
    """How many values were NaN, infinite or null."""


def read_curves(rows: list[Mapping[str, Any]]) -> list[Curve]:
    """Curves of metrics rows {"step": ..., "<group>/<metric>": value}, in order of first appearance."""
    points: dict[str, list[tuple[float, float]]] = {}
    broken: dict[str, int] = {}
    for row in rows:
        step = row.get("step")
        if isinstance(step, bool) or not isinstance(step, (int, float)):
            continue
        for key, value in row.items():
            if key == "step" or isinstance(value, (bool, str, list, dict)):
                continue
            points.setdefault(key, [])
            broken.setdefault(key, 0)
            number = math.nan if value is None else float(value)
            if math.isfinite(number):
                points[key].append((float(step), number))
            else:
                broken[key] += 1
    curves = []
    for key, pairs in points.items():
        group, _, metric = key.partition("/") if "/" in key else ("", "", key)
        array = np.array(sorted(pairs, key=lambda pair: pair[0]), float).reshape(-1, 2)
        curves.append(Curve(group, metric, array[:, 0], array[:, 1], broken[key]))
    return curves


def pick_curves(curves: list[Curve], most: int = 24) -> list[Curve]:
    """At most `most` curves worth a panel: every group gets its turn, losses first, constants last, no bookkeeping."""
    groups: dict[str, list[Curve]] = {}
    for curve in curves:
        if not _BOOKKEEPING.search(curve.metric) and len(curve.values) + curve.broken > 1:
            groups.setdefault(curve.group, []).append(curve)
    queues = {group: sorted(members, key=_rank) for group, members in groups.items()}
    picked: dict[str, list[Curve]] = {group: [] for group in queues}
    while any(queues.values()) and sum(map(len, picked.values())) < most:
        for group, queue in queues.items():
            if queue and sum(map(len, picked.values())) < most:
                picked[group].append(queue.pop(0))
    return [curve for members in picked.values() for curve in members]


def _rank(curve: Curve) -> int:
    constant = len(curve.values) < 2 or np.ptp(curve.values) == 0
    found = (k for k, pattern in enumerate(_RANKS) if re.search(pattern, curve.metric, re.I))
    return next(found, len(_RANKS)) + (10 if constant and not curve.broken else 0)


def smooth(values: np.ndarray, window: int) -> np.ndarray:
    """Centred moving average of float [N] over `window` points, shorter at the ends so that it has no bias to zero."""
    window = max(1, min(window, len(values)))
    kernel = np.ones(window)
    return np.convolve(values, kernel, "same") / np.convolve(np.ones(len(values)), kernel, "same")


def thin(steps: np.ndarray, values: np.ndarray, points: int = POINTS) -> tuple[np.ndarray, np.ndarray]:
    """At most about `points` points; each bucket keeps its lowest and highest value, so that spikes stay."""
    if len(values) <= points:
        return steps, values
    keep: list[int] = []
    for bucket in np.array_split(np.arange(len(values)), points // 2):
        keep += sorted({int(bucket[np.argmin(values[bucket])]), int(bucket[np.argmax(values[bucket])])})
    return steps[keep], values[keep]


def nice_ticks(low: float, high: float, most: int = 3) -> list[float]:
    """Round numbers (1, 2 or 5 times a power of ten apart) within [low, high], at most `most` + 1 of them."""
    if not high > low:
        return [low]
    rough = (high - low) / most
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= rough * (1 - 1e-9))
    first = math.ceil(low / step - 1e-9)
    return [k * step for k in range(first, math.floor(high / step + 1e-9) + 1)]


def panel(curve: Curve, last_step: float, number: int) -> str:
    """SVG of one curve: faint raw line, smoothed line over it, its last smoothed value in words.

    Args:
      curve: what to draw.
      last_step: right end of the x axis, common to all panels.
      number: distinguishes the panel's clip path from others on the page.
    """
    title = f"{curve.group} / {curve.metric}" if curve.group else curve.metric
    warning = ""
    if curve.broken:
        warning = f'<text class="broken" x="{WIDTH - RIGHT}" y="12">{curve.broken} not finite</text>'
    short = curve.metric if len(curve.metric) <= 32 else curve.metric[:31] + "…"  # the last value stands beside it
    head = (
        f'<title>{html.escape(title)}</title><text class="group" x="2" y="12">{html.escape(curve.group)}</text>'
        f'<text class="metric" x="2" y="26">{html.escape(short)}</text>{warning}'
    )
    body = _plot(curve, last_step, number) if len(curve.values) else ""
    return (
        f'<svg class="curve" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{html.escape(title, quote=True)}">'
        f"{head}{body}</svg>"
    )


def _plot(curve: Curve, last_step: float, number: int) -> str:
    logarithmic = bool(curve.values.min() > 0 and curve.values.max() / curve.values.min() > 200)
    values = np.log10(curve.values) if logarithmic else curve.values
    line = smooth(values, max(1, len(values) // 20))
    low, high = _limits(values, line)
    if logarithmic:
        ticks = [(k, f"1e{k}") for k in range(math.ceil(low), math.floor(high) + 1)]
        ticks = ticks[:: max(1, math.ceil(len(ticks) / 4))]
    else:
        ticks = [(t, f"{t:g}".replace("-", "\u2212")) for t in nice_ticks(low, high)]
    x_of = lambda x: LEFT + (WIDTH - LEFT - RIGHT) * x / max(last_step, 1e-9)
    y_of = lambda y: TOP + (HEIGHT - TOP - BOTTOM) * (high - y) / (high - low)
    parts = [
        f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y_of(t):.1f}" y2="{y_of(t):.1f}"/>'
        f'<text class="tick" x="{LEFT - 5}" y="{y_of(t) + 3:.1f}">{html.escape(words)}</text>'
        for t, words in ticks
    ]
    parts.append(f'<text class="tick" x="{LEFT}" y="{HEIGHT - 6}" style="text-anchor:start">0</text>')
    parts.append(f'<text class="tick" x="{WIDTH - RIGHT}" y="{HEIGHT - 6}">{in_words(int(last_step))}</text>')
    box = f'x="{LEFT}" y="{TOP - 2}" width="{WIDTH - LEFT - RIGHT}" height="{HEIGHT - TOP - BOTTOM + 4}"'
    parts.append(f'<clipPath id="curve{number}"><rect {box}/></clipPath><g clip-path="url(#curve{number})">')
    for name, series in (("raw", values), ("smooth", line)):
        xs, ys = thin(curve.steps, series)
        drawn = " ".join(f"{x_of(x):.1f},{y_of(y):.1f}" for x, y in zip(xs, ys))
        parts.append(f'<polyline class="{name}" points="{drawn}"/>')
    last = 10 ** line[-1] if logarithmic else line[-1]
    parts.append(f'</g><circle class="last" cx="{x_of(curve.steps[-1]):.1f}" cy="{y_of(line[-1]):.1f}" r="2.5"/>')
    if not curve.broken:
        parts.append(f'<text class="value" x="{WIDTH - RIGHT}" y="26">{in_words(float(f"{last:.6g}"))}</text>')
    return "".join(parts)


def _limits(values: np.ndarray, line: np.ndarray) -> tuple[float, float]:
    """Range of the y axis: all of the smoothed line, and of the raw one all but the rarest spikes."""
    low = min(float(np.percentile(values, 1)), float(line.min()))
    high = max(float(np.percentile(values, 99)), float(line.max()))
    if high - low < 1e-9 * max(1.0, abs(high)):
        pad = 0.5 * max(abs(high), 1e-3)
        return low - pad, high + pad
    return low - 0.04 * (high - low), high + 0.06 * (high - low)
