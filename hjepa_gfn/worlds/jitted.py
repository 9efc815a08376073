"""BabyAI's dynamics and view as pure, jitted functions: batches of episodes that never leave the device.

Levels, missions and official scoring stay with MiniGrid: `snapshot` copies a simulator's state into arrays, and from there
on `act`, `percept` and `roll_out` follow it exactly (tests compare them step by step). Dynamics and occlusion are those of
`xminigrid`; this module adds what BabyAI needs besides: boxes that vanish when toggled, the action that does nothing,
MiniGrid's encoding of views.

Differs from MiniGrid in one thing: a box with something in it is refused.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from minigrid.core.constants import IDX_TO_OBJECT, OBJECT_TO_IDX
from minigrid.minigrid_env import MiniGridEnv
from xminigrid.core.actions import take_action
from xminigrid.core.constants import Colors, Tiles
from xminigrid.core.observation import minigrid_field_of_view
from xminigrid.types import AgentState

from hjepa_gfn.errors import UserError
from hjepa_gfn.worlds.babyai import DONE, TOGGLE
from hjepa_gfn.worlds.language import VIEW_SIZE

# MiniGrid's colours 0..5 (red, green, blue, purple, yellow, grey), directions (east, south, west, north) and actions
# (left, right, forward, pickup, drop, toggle) in xminigrid's numbers.
_COLOURS = (Colors.RED, Colors.GREEN, Colors.BLUE, Colors.PURPLE, Colors.YELLOW, Colors.GREY)
_DIRECTIONS = np.array([1, 2, 3, 0])
_ACTIONS = np.array([2, 1, 0, 3, 4, 5])
_DOORS = (Tiles.DOOR_OPEN, Tiles.DOOR_CLOSED, Tiles.DOOR_LOCKED)
TILES = {"wall": Tiles.WALL, "ball": Tiles.BALL, "box": Tiles.SQUARE, "key": Tiles.KEY, "goal": Tiles.GOAL}
_FLOOR = np.array([Tiles.FLOOR, Colors.BLACK], np.uint8)
_NOTHING = np.array([Tiles.EMPTY, Colors.EMPTY], np.uint8)


class GridState(NamedTuple):
    """The state of a batch of episodes, in xminigrid's encoding. Leading axes [B] (none for one episode).

    Attributes:
        grid: uint8[B, H, W, 2] tile and colour of each cell, row y before column x.
        position: int32[B, 2] (y, x). direction: int32[B]: up, right, down, left.
        pocket: uint8[B, 2], what is carried.
    """

    grid: jax.Array
    position: jax.Array
    direction: jax.Array
    pocket: jax.Array


def _tables() -> tuple[np.ndarray, np.ndarray]:
    """MiniGrid's (object, colour, state) to (tile, colour), uint8[11, 6, 3, 2]; and back, uint8[tiles, colours, 3]."""
    into = np.zeros((len(IDX_TO_OBJECT), len(_COLOURS), 3, 2), np.uint8)
    back = np.zeros((16, 16, 3), np.uint8)  # (0, 0): not seen
    back[Tiles.FLOOR, :] = OBJECT_TO_IDX["empty"], 0, 0
    for colour, theirs in enumerate(_COLOURS):
        for state in range(3):
            into[OBJECT_TO_IDX["empty"], colour, state] = _FLOOR
            into[OBJECT_TO_IDX["door"], colour, state] = _DOORS[state], theirs
            back[_DOORS[state], theirs] = OBJECT_TO_IDX["door"], colour, state
            for name, tile in TILES.items():
                into[OBJECT_TO_IDX[name], colour, state] = tile, theirs
                back[tile, theirs] = OBJECT_TO_IDX[name], colour, 0
    return into, back


_INTO, VIEW_CODES = _tables()


def snapshot(env: MiniGridEnv, shape: tuple[int, int] | None = None) -> GridState:
    """A simulator's state as arrays (numpy, one episode).

    Args:
        env: a simulator, reset.
        shape: (height, width) to pad the grid to with cells that nobody sees or enters: levels of several sizes in one batch.

    Raises:
        UserError: the level has a box with something in it, or what xminigrid does not know (lava), or does not fit `shape`.
    """
    cells = env.grid.encode()
    things = [thing for thing in env.grid.grid if thing is not None]
    if any(getattr(thing, "contains", None) is not None for thing in things):
        raise UserError("a jitted world knows no boxes with something in them: use the level's own simulator")
    kinds = {IDX_TO_OBJECT[int(kind)] for kind in np.unique(cells[..., 0])}
    if unknown := kinds - {"empty", "door", *TILES}:
        raise UserError(f"a jitted world knows no {min(unknown)}: use the level's own simulator")
    grid = _INTO[tuple(np.moveaxis(cells, -1, 0))].transpose(1, 0, 2)
    height, width = shape or grid.shape[:2]
    if height < grid.shape[0] or width < grid.shape[1]:
        raise UserError(f"shape={shape}: the level's grid is {grid.shape[0]} x {grid.shape[1]}")
    grid = np.pad(grid, ((0, height - grid.shape[0]), (0, width - grid.shape[1]), (0, 0)), constant_values=Tiles.EMPTY)
    carried = env.carrying
    pocket = _NOTHING if carried is None else _INTO[tuple(carried.encode())]
    x, y = env.agent_pos
    return GridState(grid, np.array([y, x], np.int32), np.int32(_DIRECTIONS[env.agent_dir]), pocket)


def batch_of(states: Sequence[GridState]) -> GridState:
    """Single episodes, with grids of one size, as a batch."""
    return GridState(*(jnp.asarray(np.stack(leaves)) for leaves in zip(*states, strict=True)))


def _act(state: GridState, action: jax.Array) -> GridState:
    agent = AgentState(state.position, state.direction, state.pocket)
    theirs = jnp.asarray(_ACTIONS)[jnp.minimum(action, TOGGLE)]
    grid, after, faced = take_action(state.grid, agent, theirs)
    y, x = faced[0], faced[1]
    opened = (action == TOGGLE) & (state.grid[y, x, 0] == Tiles.SQUARE)  # an empty box: nothing is left of it
    grid = grid.at[y, x].set(jnp.where(opened, jnp.asarray(_FLOOR), grid[y, x]))
    moved = GridState(grid, after.position, after.direction, after.pocket)
    return jax.tree.map(lambda new, old: jnp.where(action == DONE, old, new), moved, state)


def _percept(state: GridState) -> dict[str, jax.Array]:
    agent = AgentState(state.position, state.direction, state.pocket)
    view = minigrid_field_of_view(state.grid, agent, VIEW_SIZE, VIEW_SIZE)
    own = jnp.where(state.pocket[0] == Tiles.EMPTY, jnp.asarray(_FLOOR), state.pocket)
    view = view.at[VIEW_SIZE - 1, VIEW_SIZE // 2].set(own)  # MiniGrid shows what is carried in the agent's own cell
    seen = jnp.asarray(VIEW_CODES)[view[..., 0], view[..., 1]]
    return {"view": seen.transpose(1, 0, 2), "direction": (state.direction - 1) % 4}


def act(state: GridState, action: jax.Array) -> GridState:
    """The states after MiniGrid's actions, int[B]."""
    return jax.vmap(_act)(state, action)


def percept(state: GridState) -> dict[str, jax.Array]:
    """What the sensors give: view uint8[B, 7, 7, 3] and direction int32[B], encoded as MiniGrid does."""
    return jax.vmap(_percept)(state)


def roll_out(state: GridState, actions: jax.Array) -> tuple[GridState, dict[str, jax.Array]]:
    """Takes actions int[B, T] from the states [B], whatever the mission says of them.

    Returns:
        The last states [B], and the percepts before each action and after the last: view uint8[B, T+1, 7, 7, 3], direction
        int32[B, T+1].
    """
    states, seen = trace_states(state, actions)
    return jax.tree.map(lambda leaf: leaf[:, -1], states), seen


def trace_states(state: GridState, actions: jax.Array) -> tuple[GridState, dict[str, jax.Array]]:
    """As `roll_out`, with the states [B, T+1] before each action and after the last: what only the simulator knows."""
    def move(state: GridState, action: jax.Array) -> tuple[GridState, GridState]:
        after = act(state, action)
        return after, after

    _, later = jax.lax.scan(move, state, actions.T)
    states = jax.tree.map(lambda a, b: jnp.concatenate([a[:, None], jnp.moveaxis(b, 0, 1)], axis=1), state, later)
    # percepts in one flat batch after the loop: compiled once, and several times faster than one step at a time
    seen = percept(jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), states))
    batch, steps = states.direction.shape
    return states, jax.tree.map(lambda leaf: leaf.reshape(batch, steps, *leaf.shape[1:]), seen)
