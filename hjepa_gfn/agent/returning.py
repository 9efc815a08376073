"""Where a plan's first leg leads, and whether the agent has been there before: what only a plan can say.

A habit says what to do next; a plan says where that leads. So of plans it can be told before they are carried out that they
lead back to what the agent has stood before already in this episode (`agent.returns`). Where that is comes from its own
percepts and actions alone (`worlds.remembering`).
"""
from __future__ import annotations

import jax
import jax.numpy as jnp

from hjepa_gfn.agent.reading import FirstLeg
from hjepa_gfn.worlds.babyai import FORWARD, LEFT, RIGHT
from hjepa_gfn.worlds.heading import STRIDE

# (i, j) of a step, in a map that looks towards smaller j, by quarter turns to the right
STEP = STRIDE[:, ::-1] * (1, -1)


def end_of(leg: FirstLeg, blocked: jnp.ndarray) -> tuple[jnp.ndarray, jnp.ndarray]:
    """The cell [R, 2] (i, j) of the map that the agent faces after legs [R], and whether it stands or looks otherwise than
    before, bool [R]; `blocked` bool [R, M, M], the cells that it knows to be impassable: steps into them are none."""
    size = blocked.shape[-1]
    rows, step = jnp.arange(len(blocked)), jnp.asarray(STEP)

    def act(pose: tuple[jnp.ndarray, jnp.ndarray], inputs: tuple) -> tuple:
        place, turns = pose
        action, counts = inputs
        ahead = place + step[turns]
        i, j = jnp.clip(ahead, 0, size - 1).T
        goes = counts & (action == FORWARD) & ~(blocked[rows, i, j] & (ahead >= 0).all(-1) & (ahead < size).all(-1))
        turns = turns + counts * ((action == RIGHT).astype(int) - (action == LEFT))
        return (jnp.where(goes[:, None], ahead, place), turns % 4), None

    middle = jnp.full((len(blocked), 2), size // 2)
    counts = jnp.arange(leg.action.shape[1]) < leg.count[:, None]
    (place, turns), _ = jax.lax.scan(act, (middle, jnp.zeros(len(blocked), int)), (leg.action.T, counts.T))
    return place + step[turns], (place != middle).any(-1) | (turns != 0)


def returns(leg: FirstLeg, percept: dict[str, jnp.ndarray]) -> jnp.ndarray:
    """How often the agent came already to what legs [R] lead it to, float [R]: "faced" [R, M, M] at the cell that it would face
    in the end; 0 where the leg leaves it as it stands, and beyond the map."""
    faced = percept["faced"]
    cell, moved = end_of(leg, percept["blocked"])
    inside = ((cell >= 0) & (cell < faced.shape[-1])).all(-1)
    i, j = jnp.clip(cell, 0, faced.shape[-1] - 1).T
    return jnp.where(inside & moved, faced[jnp.arange(len(faced)), i, j], 0.0)
