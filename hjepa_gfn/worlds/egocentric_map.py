"""What was seen in an episode, laid out around the agent: the grid part of the belief s_t = U(s_{t-1}, a_{t-1}, o_t).

A map of M x M cells (M odd), as a view is, but with the agent in the middle: `map[i, j] = (object, colour, state)`, zeros where
nothing was seen yet, the agent at (c, c), c = M // 2, looking towards smaller j. A step turns or shifts it by the agent's own
motion and then lays the new percept over it (Gupta et al. 2017 with known egomotion; Parisotto & Salakhutdinov 2018). Nothing
here asks the simulator: that a step forward was possible is read off the map, whose cell ahead each percept renews. A percept
that is missing (all zeros) changes nothing: the map goes on by the agent's motion alone.

All functions take numpy or JAX arrays with any leading dimensions, and are pure.
"""
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from hjepa_gfn.errors import UserError
from hjepa_gfn.worlds.babyai import FORWARD, LEFT, PICKUP, RIGHT, TOGGLE
from hjepa_gfn.worlds.language import AGENT_CELL, DOOR, EMPTY, FLOOR, GOAL, LAVA, UNSEEN, VIEW_SIZE

Array = Any


class Step(NamedTuple):
    """A map after a step.

    Attributes:
        known: uint8 [..., M, M, 3], what is known of the world itself; the agent's own cell holds what lies there, not what is
            carried.
        contradicted: float [...], share of the cells both known and shown that the percept shows otherwise: the world is not
            as remembered. 0 where the percept shows nothing known; the cell ahead is left out after an action that handles it.
    """

    known: Array
    contradicted: Array


def check_size(size: int) -> None:
    """Raises UserError unless `size` is 0 (no map) or an odd number of cells that holds a view's width."""
    if size and (size % 2 == 0 or size < VIEW_SIZE):
        raise UserError(f"data.map={size}: must be 0 (the percept alone) or an odd number of cells from {VIEW_SIZE} on")


def own_cell(size: int) -> tuple[int, int]:
    """The agent's cell in maps of `size` cells a side; 0: in plain views."""
    return (size // 2, size // 2) if size else AGENT_CELL


def passable(cell: Array) -> Array:
    """Whether the agent can step onto cells [..., 3], as it perceives them: bool [...]."""
    kind = cell[..., 0]
    return (kind == EMPTY) | (kind == FLOOR) | (kind == GOAL) | (kind == LAVA) | ((kind == DOOR) & (cell[..., 2] == 0))


def empty_map(batch: tuple[int, ...], size: int) -> np.ndarray:
    """Nothing is known: uint8 [*batch, M, M, 3]."""
    return np.zeros((*batch, size, size, 3), np.uint8)


def shifted(cells: Array) -> Array:
    """Maps [..., M, M, c] as they lie around an agent that has gone a step forward: N[i, j] = O[i, j-1]; nothing is known of
    the row that comes into reach."""
    xp = np if isinstance(cells, np.ndarray) else jnp
    return xp.concatenate([xp.zeros_like(cells[..., :, :1, :]), cells[..., :, :-1, :]], axis=-2)


def moved_by(cells: Array, action: Array, forward: Array) -> Array:
    """Maps [..., M, M, c] as they lie around the agent after actions int [...]; `forward`: as they lie where that is forward.

    Turning left brings what was on the left ahead: N[i, j] = O[j, M-1-i]; right: N[i, j] = O[M-1-j, i].
    """
    xp = np if isinstance(cells, np.ndarray) else jnp
    turned = lambda x: xp.swapaxes(x, -3, -2)  # noqa: E731
    where = lambda flag, x, y: xp.where(flag[..., None, None, None], x, y)  # noqa: E731
    after = where(action == FORWARD, forward, cells)
    after = where(action == LEFT, turned(cells[..., :, ::-1, :]), after)
    return where(action == RIGHT, turned(cells[..., ::-1, :, :]), after)


def cell_ahead(known: Array) -> Array:
    """The cell ahead of the agent in maps [..., M, M, c]: [..., c]."""
    i, j = own_cell(known.shape[-2])
    return known[..., i, j - 1, :]


def moved(known: Array, action: Array, cells: Array | None = None) -> Array:
    """Maps [..., M, M, 3] as they lie around the agent after actions int [...]: forward goes a step where the cell ahead is
    free. `cells` [..., M, M, c]: what lies there besides, moved instead."""
    xp = np if isinstance(known, np.ndarray) else jnp
    cells, free = known if cells is None else cells, passable(cell_ahead(known))
    return moved_by(cells, action, xp.where(free[..., None, None, None], shifted(cells), cells))


def seen(known: Array, view: Array, action: Array) -> Step:
    """Lays percepts uint8 [..., 7, 7, 3], which `action` int [...] led to (-1: none), over maps [..., M, M, 3]."""
    xp = np if isinstance(known, np.ndarray) else jnp
    size = known.shape[-2]
    c, half, depth = size // 2, VIEW_SIZE // 2, min(VIEW_SIZE, size // 2 + 1)
    shown = view[..., :, VIEW_SIZE - depth :, :]
    margin = [(0, 0)] * (view.ndim - 3) + [(c - half, c - half), (c + 1 - depth, c), (0, 0)]
    laid = xp.pad(shown, margin)
    own = np.zeros((size, size), bool)
    own[c, c] = True
    front = np.roll(own, -1, axis=1)
    visible = (laid[..., 0] != UNSEEN) & ~own
    # pick-up, drop and toggle may change the cell ahead
    handled = (action >= PICKUP) & (action <= TOGGLE)
    both = visible & (known[..., 0] != UNSEEN) & ~(front & handled[..., None, None])
    differs = both & xp.any(laid != known, axis=-1)
    contradicted = differs.sum((-2, -1)) / xp.maximum(both.sum((-2, -1)), 1)
    after = xp.where(visible[..., None], laid, known)
    blank = xp.asarray([EMPTY, 0, 0], dtype=known.dtype)
    after = xp.where((own & (after[..., 0] == UNSEEN))[..., None], blank, after)  # nobody stands in a wall
    return Step(after, contradicted)


def percept(known: Array, view: Array) -> Array:
    """What the agent perceives: maps [..., M, M, 3] whose own cell shows what is carried, as in views [..., 7, 7, 3]."""
    xp = np if isinstance(known, np.ndarray) else jnp
    own = np.zeros(known.shape[-3:-1], bool)
    own[own_cell(known.shape[-2])] = True
    return xp.where(own[..., None], view[..., AGENT_CELL[0], AGENT_CELL[1], :][..., None, None, :], known)


def remember(view: jax.Array, action: jax.Array, size: int) -> jax.Array:
    """Along episodes: uint8 [B, T+1, M, M, 3] of percepts uint8 [B, T+1, 7, 7, 3] and the actions int32 [B, T] between them."""
    def step(known: jax.Array, inputs: tuple[jax.Array, ...]) -> tuple[jax.Array, jax.Array]:
        taken, after = inputs
        known = seen(moved(known, taken), after, taken).known
        return known, known

    none = jnp.full(view.shape[:1], -1)
    first = seen(jnp.asarray(empty_map(view.shape[:1], size)), view[:, 0], none).known
    along = lambda x: jnp.moveaxis(x, 1, 0)  # noqa: E731
    _, later = jax.lax.scan(step, first, (action.T, along(view[:, 1:])))
    return percept(jnp.concatenate([first[:, None], along(later)], axis=1), view)
