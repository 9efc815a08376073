"""Which way the agent faces, and where it is, as percepts say it (`data.heading`).

    compass   the compass direction
    turned    by how many quarter turns it has turned since the mission was given
    placed    the same; and each cell of the view says where it lies, as seen from where the mission was given

"The key on your right" is said to an agent that stands in one place and faces one way, and must be understood by one that has
moved since. Where it has got to is arithmetic on its own percepts and actions (path integration): a part of the belief
U(s_{t-1}, a_{t-1}, o_t), as the map is. Nothing here asks the simulator.

Functions take numpy or JAX arrays with any leading dimensions, and are pure.
"""
from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np

from hjepa_gfn.errors import UserError
from hjepa_gfn.worlds.babyai import FORWARD
from hjepa_gfn.worlds.egocentric_map import own_cell, passable
from hjepa_gfn.worlds.language import VIEW_SIZE

HEADINGS = ("compass", "turned", "placed")
# (ahead, right) of a step forward, by quarter turns to the right
STRIDE = np.array([[1, 0], [0, 1], [-1, 0], [0, -1]], np.int32)


def check_heading(heading: str) -> str:
    """`data.heading` as it is. Raises UserError for a value that means nothing."""
    if heading not in HEADINGS:
        raise UserError(f"data.heading={heading!r}: must be one of {', '.join(HEADINGS)}")
    return heading


def channels(heading: str) -> int:
    """Numbers of a cell in percepts: object, colour, state, and where cells are placed, their sector."""
    return 3 + (heading == "placed")


def turned(direction: Any, first: Any) -> Any:
    """Quarter turns to the right, int 0..3, from the compass direction `first` to `direction` (arrays that broadcast)."""
    return (direction - first) % 4


def stride(view: Any, turns: Any, action: Any, map: int = 0) -> Any:
    """(ahead, right) int32 [..., 2] that actions int [...] move an agent by which has made `turns` int [...] quarter turns and
    perceives `view` [..., n, n, 3] (or maps of `map` cells a side): one cell where it steps forward and the cell is free.
    """
    xp = np if isinstance(view, np.ndarray) else jnp
    i, j = own_cell(map)
    goes = (action == FORWARD) & passable(view[..., i, j - 1, :])
    return xp.where(goes[..., None], xp.asarray(STRIDE)[turns], 0)


def places(view: Any, turns: Any, action: Any, map: int = 0) -> Any:
    """(ahead, right) int32 [B, T+1, 2] of where the agent is at each percept of view [B, T+1, n, n, c], as seen from the first:
    path integration over actions int [B, T], where it has made `turns` int [B, T+1] quarter turns to the right."""
    xp = np if isinstance(view, np.ndarray) else jnp
    steps = stride(view[:, :-1], turns[:, :-1], action, map)
    return xp.concatenate([xp.zeros((len(steps), 1, 2), xp.int32), xp.cumsum(steps, axis=1)], axis=1)


def sectors(place: Any, turns: Any, map: int = 0) -> Any:
    """Where the cells of a percept lie, as seen from where the mission was given: int32 [..., n, n],
    3 (sign(ahead) + 1) + sign(right) + 1, which is what missions tell apart.

    Args:
      place, turns: of the agent, int [..., 2] (ahead, right) and int [...].
      map: n of maps; 0: of views.
    """
    xp = np if isinstance(place, np.ndarray) else jnp
    n, (i, j) = map or VIEW_SIZE, own_cell(map)
    right, ahead = np.arange(n)[:, None] - i, j - np.arange(n)  # of the agent: columns [n, 1] and rows [n]
    table = xp.asarray(STRIDE)
    forward, aside = (table[(turns + quarter) % 4][..., None, None, :] for quarter in (0, 1))
    lies = place[..., None, None, :] + forward * ahead[:, None] + aside * right[..., None]
    sign = xp.sign(lies) + 1
    return 3 * sign[..., 0] + sign[..., 1]


def placed(view: Any, place: Any, turns: Any, map: int = 0) -> Any:
    """Percepts [..., n, n, 3] with the sector of each cell as a fourth number: [..., n, n, 4]."""
    xp = np if isinstance(view, np.ndarray) else jnp
    return xp.concatenate([view, sectors(place, turns, map)[..., None].astype(view.dtype)], axis=-1)


def along(view: Any, direction: Any, action: Any, heading: str, map: int = 0) -> tuple[Any, Any]:
    """Percepts of whole episodes as `heading` has them: view [B, T+1, n, n, c] and direction int [B, T+1], of the views (or
    maps), compass directions [B, T+1] and the actions int [B, T] between them."""
    if heading == "compass":
        return view, direction
    turns = turned(direction, direction[:, :1])
    if heading == "turned":
        return view, turns
    return placed(view, places(view, turns, action, map), turns, map), turns
