"""A plan's way over the grid: what the moves would do, and the SVG laid over the rendered frame.

The drawing knows no walls: it shows what the plan says, from the pose at which it was made, clipped to the picture.
"""

from __future__ import annotations

from typing import NamedTuple

from hjepa_gfn.evaluation.report_views import PlanView

LEG_COLOURS = ("#f2a541", "#4ba3d9", "#ea6d63", "#9c85e6", "#3fb795", "#df82b5")
"""One colour a coarse edge, in turn; clear on the dark grid and on the white page."""

HEADINGS = ((1, 0), (0, 1), (-1, 0), (0, -1))
"""Column and row step of the directions 0 right, 1 down, 2 left, 3 up (MiniGrid's order)."""

LEFT, RIGHT, FORWARD = 0, 1, 2

Cell = tuple[int, int]
Pose = tuple[int, int, int]


class Leg(NamedTuple):
    """The way of one coarse edge."""

    cells: tuple[Cell, ...]
    """Cells in order, the one where the leg begins first; turning adds none."""
    heading: int
    """Direction at the end."""
    moved: bool
    """False if the edge stands for no moves at all (left open)."""


def leg_colour(index: int) -> str:
    """Colour of the coarse edge with this index."""
    return LEG_COLOURS[index % len(LEG_COLOURS)]


def walk(pose: Pose, moves: list[int], columns: int, rows: int) -> tuple[tuple[Cell, ...], Pose]:
    """Cells that the moves visit, the first one included, and the pose after them.

    Only left, right and forward change the pose; a step out of the `columns` x `rows` picture is not taken.
    """
    x, y, heading = (int(v) for v in pose)
    heading %= 4
    cells = [(x, y)]
    for move in moves:
        if move in (LEFT, RIGHT):
            heading = (heading + (1 if move == RIGHT else -1)) % 4
        elif move == FORWARD:
            ahead = x + HEADINGS[heading][0], y + HEADINGS[heading][1]
            if 0 <= ahead[0] < columns and 0 <= ahead[1] < rows:
                x, y = ahead
                cells.append(ahead)
    return tuple(cells), (x, y, heading)


def plan_legs(plan: PlanView, columns: int, rows: int) -> list[Leg]:
    """The way of each coarse edge, each beginning where the one before ends."""
    legs, pose = [], plan.pose
    for edge in plan.edges:
        cells, pose = walk(pose, edge.moves, columns, rows)
        legs.append(Leg(cells, pose[2], bool(edge.moves)))
    return legs


def centre(cell: Cell, tile: int) -> tuple[float, float]:
    """Pixel at the centre of a cell."""
    return (cell[0] + 0.5) * tile, (cell[1] + 0.5) * tile


def path_overlay(plan: PlanView, width: int, height: int, tile: int) -> str:
    """SVG element of width x height user units (the frame's pixels) with the plan's way.

    A line a leg, in the leg's colour; where the way doubles back, later legs are thinner, so that both show. A numbered
    dot marks the end of each leg, a ring the start, an arrowhead the heading at the end.
    """
    tile = max(1, int(tile))
    legs = plan_legs(plan, width // tile, height // tile)
    lines = [_line(leg, k, tile, trim_start=k == 0) for k, leg in enumerate(legs) if len(leg.cells) > 1]
    sx, sy = centre((int(plan.pose[0]), int(plan.pose[1])), tile)
    ring = f'<circle class="start" cx="{sx:g}" cy="{sy:g}" r="{0.46 * tile:g}" stroke-width="{0.06 * tile:g}"/>'
    return (
        f'<svg class="overlay" viewBox="0 0 {width} {height}" aria-hidden="true">'
        f"{''.join(lines)}{ring}{''.join(_waypoints(legs, tile))}</svg>"
    )


def _line(leg: Leg, index: int, tile: int, trim_start: bool) -> str:
    points = [centre(cell, tile) for cell in leg.cells]
    if trim_start:  # leave the agent itself to be seen
        (x0, y0), (x1, y1) = points[0], points[1]
        points[0] = (x0 + 0.46 * (x1 - x0), y0 + 0.46 * (y1 - y0))
    drawn = " ".join(f"{x:g},{y:g}" for x, y in points)
    thick = tile * max(0.10, 0.22 - 0.03 * index)
    return (
        f'<polyline class="casing" points="{drawn}" stroke-width="{thick + 0.07 * tile:g}"/>'
        f'<polyline class="leg" points="{drawn}" stroke="{leg_colour(index)}" stroke-width="{thick:g}"/>'
    )


def _waypoints(legs: list[Leg], tile: int) -> list[str]:
    """Numbered dots at the ends of the legs; dots on one cell (a turn on the spot) stand side by side."""
    moving = [(k, leg) for k, leg in enumerate(legs) if leg.moved]
    radius = 0.23 * tile
    shapes = []
    if moving:
        shapes.append(_arrowhead(moving[-1][1], moving[-1][0], tile))
    for k, leg in moving:
        together = [j for j, other in moving if other.cells[-1] == leg.cells[-1]]
        shift = (together.index(k) - (len(together) - 1) / 2) * 1.5 * radius
        x, y = centre(leg.cells[-1], tile)
        shapes.append(
            f'<g class="waypoint"><circle cx="{x + shift:g}" cy="{y:g}" r="{radius:g}" fill="{leg_colour(k)}"'
            f' stroke-width="{0.05 * tile:g}"/><text x="{x + shift:g}" y="{y:g}" dy="0.36em"'
            f' font-size="{0.32 * tile:g}">{k + 1}</text></g>'
        )
    return shapes


def _arrowhead(leg: Leg, index: int, tile: int) -> str:
    x, y = centre(leg.cells[-1], tile)
    dx, dy = HEADINGS[leg.heading]
    tip, base, half = 0.47 * tile, 0.24 * tile, 0.16 * tile
    points = [
        (x + tip * dx, y + tip * dy),
        (x + base * dx - half * dy, y + base * dy + half * dx),
        (x + base * dx + half * dy, y + base * dy - half * dx),
    ]
    drawn = " ".join(f"{px:g},{py:g}" for px, py in points)
    return f'<polygon class="arrow" points="{drawn}" fill="{leg_colour(index)}" stroke-width="{0.04 * tile:g}"/>'
