"""A plan tree as an SVG diagram: coarse edges on top, what they expand to below, state codes between them."""

from __future__ import annotations

import dataclasses
import html
import zlib

from hjepa_gfn.evaluation.drawing_path import leg_colour
from hjepa_gfn.evaluation.report_views import EdgeView

ROW = 70  # from one scale to the next
TOP = 30  # room for the words above the first row
MARGIN = 18
INSET = 12  # of a sub-plan from its edge's ends, so that neighbouring sub-plans stay apart
LETTER = 6.3  # mean width of a letter at 11.5 px in system fonts
SHORTEST, LONGEST = 46, 170  # an edge's own width


@dataclasses.dataclass
class _Placed:
    """An edge with its place in the diagram and its span of primitive moves."""

    edge: EdgeView
    leg: int
    left: float
    right: float
    row: int
    first_move: int
    last_move: int
    left_code: str | None
    """Code of the state at the left end; None for the plan's beginning."""
    children: list[_Placed]


def plan_tree(edges: list[EdgeView], begin: str = "now") -> str:
    """SVG of a plan's edges, coarsest scale first.

    Each edge is an element of class "edge" with `data-from` and `data-to`: the primitive moves [from, to) that it
    stands for, counted from the plan's beginning, so that the player can mark what is being done.

    Args:
      edges: the coarse edges, in order; an empty list draws a lone state.
      begin: label of the first state.
    """
    placed, x, move, code = [], float(MARGIN + 10), 0, None
    for leg, edge in enumerate(edges):
        item = _place(edge, leg, x, _width(edge), 0, move, code)
        placed.append(item)
        x, move, code = item.right, item.last_move, edge.state or ""
    depth = max((_depth(edge) for edge in edges), default=1)
    width, height = x + MARGIN + 10, TOP + (depth - 1) * ROW + 34
    shapes = "".join(_draw(item) for item in placed) + _state(MARGIN + 10, TOP, None, begin, "begin")
    words = html.escape("plan: " + "; then ".join(edge.action or "left open" for edge in edges), quote=True)
    return (
        f'<svg class="tree" viewBox="0 0 {width:g} {height:g}" width="{width:g}" height="{height:g}"'
        f' style="min-width:{min(width, 540):g}px" role="img" aria-label="{words}">{shapes}</svg>'
    )


def _depth(edge: EdgeView) -> int:
    return 1 + max((_depth(child) for child in edge.children), default=0)


def _width(edge: EdgeView) -> float:
    own = min(LONGEST, max(SHORTEST, LETTER * len(edge.action or "") + 34))
    return max(own, sum(_width(child) for child in edge.children) + 2 * INSET) if edge.children else own


def _place(edge: EdgeView, leg: int, left: float, width: float, row: int, first_move: int, code: str | None) -> _Placed:
    widths = [_width(child) for child in edge.children]
    children, x, move = [], left + INSET, first_move
    inner = code
    for child, natural in zip(edge.children, widths):
        # Where the parent's words need more room than the sub-plan, the sub-plan spreads over it.
        item = _place(child, leg, x, natural * (width - 2 * INSET) / sum(widths), row + 1, move, inner)
        children.append(item)
        x, move, inner = item.right, item.last_move, child.state or ""
    last_move = first_move + len(edge.moves) if edge.moves else move
    return _Placed(edge, leg, left, left + width, row, first_move, last_move, code, children)


def _draw(item: _Placed) -> str:
    """The edge, its right end state, and below it its sub-plan on a tinted band."""
    edge, y = item.edge, TOP + item.row * ROW
    colour = leg_colour(item.leg)
    parts = []
    if item.children:
        below = y + ROW
        for x, inner in ((item.left, item.left + INSET), (item.right, item.right - INSET)):
            parts.append(f'<line class="drop" x1="{x:g}" x2="{inner:g}" y1="{y + 7}" y2="{below - 6}"/>')
        parts.append(
            f'<rect class="band" x="{item.left + 2:g}" y="{below - 26}" rx="8" width="{item.right - item.left - 4:g}"'
            f' height="{44 + (_depth(edge) - 2) * ROW}" fill="{colour}"/>'
        )
    parts.append(_edge(item, y, colour))
    if item.children:
        kind = "begin inner" if item.left_code is None else "inner"
        parts.append(_state(item.left + INSET, y + ROW, item.left_code, "", kind))
        parts.extend(_draw(child) for child in item.children)
    parts.append(_state(item.right, y, edge.state, edge.state or "", "inner" if item.row else ""))
    return "".join(parts)


def _edge(item: _Placed, y: float, colour: str) -> str:
    edge = item.edge
    span = f'data-from="{item.first_move}" data-to="{item.last_move}"'
    line = f'x1="{item.left + 8:g}" x2="{item.right - 8:g}" y1="{y}" y2="{y}"'
    if edge.action is None:
        words, shown = "left open", ""
        drawn = f'<line class="open" {line}/>'
    else:
        words = edge.action
        shown = _shorten(words, int((item.right - item.left - 20) / LETTER))
        drawn = f'<line class="act" {line} stroke="{colour}"/>'
    middle = (item.left + item.right) / 2
    size = "coarse" if item.row == 0 else "fine"
    return (
        f'<g class="edge {size}" {span}><title>{html.escape(words)}</title>{drawn}'
        f'<text x="{middle:g}" y="{y - 8}">{html.escape(shown)}</text></g>'
    )


def _state(x: float, y: float, code: str | None, label: str, kind: str) -> str:
    """A small circle; equal codes get equal tints, so that a state that comes back is seen to."""
    radius = 5 if "inner" in kind else 7
    fill = f' style="fill:hsl({zlib.crc32(code.encode()) % 360} 45% 82%)"' if code else ""
    title = f"<title>state {html.escape(code)}</title>" if code else ""
    text = ""
    if label:
        text = f'<text class="code" x="{x:g}" y="{y + radius + 10}">{html.escape(_shorten(label, 9))}</text>'
    return f'<g class="state {kind}">{title}<circle cx="{x:g}" cy="{y}" r="{radius}"{fill}/>{text}</g>'


def _shorten(text: str, letters: int) -> str:
    letters = max(1, letters)
    return text if len(text) <= letters else text[: max(1, letters - 1)].rstrip() + "…"
