"""What the agent would see: MiniGrid's 7x7 view, computed from an array of the whole world."""

import functools

import numpy as np

from hjepa_gfn.exemplary.simulation import DIRECTIONS, Cell, State, code_of
from hjepa_gfn.worlds.language import AGENT_CELL, DOOR, VIEW_SIZE, WALL

_MARGIN = VIEW_SIZE - 1  # so far beyond the world's edge can the agent look
_RIGHT, _AHEAD = np.meshgrid(np.arange(VIEW_SIZE) - AGENT_CELL[0], AGENT_CELL[1] - np.arange(VIEW_SIZE), indexing="ij")
_OFFSETS = []
for _heading in range(4):
    (_fx, _fy), (_rx, _ry) = DIRECTIONS[_heading], DIRECTIONS[(_heading + 1) % 4]
    _OFFSETS.append((_AHEAD * _fx + _RIGHT * _rx + _MARGIN, _AHEAD * _fy + _RIGHT * _ry + _MARGIN))


def world_codes(state: State) -> np.ndarray:
    """The whole world, encoded cell by cell, with a margin of walls all around: uint8[W + 12, H + 12, 3]."""
    layout = state.layout
    codes = np.empty((layout.width + 2 * _MARGIN, layout.height + 2 * _MARGIN, 3), np.uint8)
    codes[:] = (WALL, 5, 0)
    inner = codes[_MARGIN:-_MARGIN, _MARGIN:-_MARGIN]
    inner[:] = (1, 0, 0)
    for cell in (*layout.walls, *state.at):
        inner[cell] = code_of(state, cell)
    return codes


def set_code(codes: np.ndarray, cell: Cell, code: tuple[int, int, int]) -> None:
    """Writes a cell of `world_codes`."""
    codes[cell[0] + _MARGIN, cell[1] + _MARGIN] = code


def look(codes: np.ndarray, pose: tuple[int, int, int], held: tuple[int, int, int] | None) -> tuple[np.ndarray, tuple]:
    """The view from a pose (x, y, heading), and the cells (xs, ys) that are in view.

    Args:
        codes: `world_codes`.
        held: code of what the agent carries, which it sees in its own cell.
    """
    x, y, heading = pose
    dx, dy = _OFFSETS[heading]
    xs, ys = dx + x, dy + y
    view = codes[xs, ys]
    opaque = (view[..., 0] == WALL) | ((view[..., 0] == DOOR) & (view[..., 2] != 0))
    mask = _visible(opaque.tobytes())
    view[~mask] = 0
    view[AGENT_CELL] = held or (1, 0, 0)
    return view, (xs[mask] - _MARGIN, ys[mask] - _MARGIN)


@functools.lru_cache(maxsize=20_000)
def _visible(opaque: bytes) -> np.ndarray:
    """Which cells of a view are lit: MiniGrid's rule, from the cells that cannot be seen through."""
    size = VIEW_SIZE
    blocks = np.frombuffer(opaque, bool).reshape(size, size).tolist()
    mask = [[False] * size for _ in range(size)]
    mask[AGENT_CELL[0]][AGENT_CELL[1]] = True
    for j in reversed(range(size)):
        for order, side in ((range(size - 1), 1), (range(size - 1, 0, -1), -1)):
            for i in order:
                if mask[i][j] and not blocks[i][j]:
                    mask[i + side][j] = True
                    if j > 0:
                        mask[i + side][j - 1] = mask[i][j - 1] = True
    return np.array(mask)
