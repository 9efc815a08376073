"""Stacked bars: the share of each part, with the total over each bar."""
from __future__ import annotations

import html
from collections.abc import Mapping, Sequence

COLOURS = ("#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377")
HEIGHT, BAR, GAP, LEFT, TOP, BOTTOM = 220, 56, 26, 50, 56, 44


def stacked_bars(labels: Sequence[str], parts: Mapping[str, Sequence[float]], title: str, x: str, unit: str) -> str:
    """An SVG picture: one bar per label, divided in proportion to the parts' values (>= 0); totals in `unit` above.

    Raises:
      ValueError: a part has not one value for each label, or a bar is empty.
    """
    if any(len(values) != len(labels) for values in parts.values()):
        raise ValueError(f"each of {', '.join(parts)} must have {len(labels)} values")
    width = LEFT + len(labels) * (BAR + GAP) + 150
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{TOP + HEIGHT + BOTTOM}" '
           'font-family="sans-serif" font-size="12">', '<rect width="100%" height="100%" fill="white"/>',
           f'<text x="{LEFT}" y="20" font-size="14">{html.escape(title)}</text>']
    for share in (0, 25, 50, 75, 100):
        y = TOP + HEIGHT * (1 - share / 100)
        out.append(f'<line x1="{LEFT}" x2="{width - 150}" y1="{y:.1f}" y2="{y:.1f}" stroke="#ddd"/>'
                   f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{share}%</text>')
    for i, label in enumerate(labels):
        values = [float(series[i]) for series in parts.values()]
        total = sum(values)
        if total <= 0:
            raise ValueError(f"the bar {label!r} is empty")
        left, y = LEFT + GAP / 2 + i * (BAR + GAP), float(TOP + HEIGHT)
        for value, colour in zip(values, COLOURS):
            tall = HEIGHT * value / total
            y -= tall
            out.append(f'<rect x="{left:.1f}" y="{y:.1f}" width="{BAR}" height="{tall:.1f}" fill="{colour}"/>')
        middle = left + BAR / 2
        out.append(f'<text x="{middle:.1f}" y="{TOP - 6}" text-anchor="middle">{total:.3g} {html.escape(unit)}</text>'
                   f'<text x="{middle:.1f}" y="{TOP + HEIGHT + 16}" text-anchor="middle">{html.escape(label)}</text>')
    for i, (name, colour) in enumerate(zip(parts, COLOURS)):
        y = TOP + 18 * i
        out.append(f'<rect x="{width - 140}" y="{y}" width="12" height="12" fill="{colour}"/>'
                   f'<text x="{width - 122}" y="{y + 10}">{html.escape(name)}</text>')
    middle = LEFT + len(labels) * (BAR + GAP) / 2
    out.append(f'<text x="{middle:.1f}" y="{TOP + HEIGHT + 36}" text-anchor="middle">{html.escape(x)}</text></svg>')
    return "\n".join(out)
