"""What the agent aims at, as it says itself: which cell of its percept, how sure it is of it, and in words.

The pointer of the context encoder (`models.context.Aim`), read at a percept and a mission. It is part of what habits and plans
are made of, and was taught where experts ended up; it is no explanation made up afterwards.
"""
from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from hjepa_gfn.objectives.system import Params, System
from hjepa_gfn.objectives.windows import encode_start
from hjepa_gfn.worlds.egocentric_map import own_cell
from hjepa_gfn.worlds.language import (
    COLOUR_WORDS,
    EMPTY,
    FLOOR,
    OBJECT_WORDS,
    UNSEEN,
    Place,
    place_in_words,
    with_article,
)


class Aimed(NamedTuple):
    """Where an agent aims at in one situation."""

    place: Place | None  # (ahead, right) of the agent, in cells; None: at something that the percept does not reach
    probability: float
    words: str


def aim_probabilities(system: System, params: Params, percept: dict[str, jnp.ndarray], mission: jnp.ndarray) -> jnp.ndarray:
    """p(cell | percept, mission) [B, n n + 1], the last entry for none of the percept's cells. `model.aim` must be on."""
    start = encode_start(system, params, percept)
    return jax.nn.softmax(system.net(params, percept, start[0], mission, method="pointed")[1])


def aimed_at(probability: np.ndarray, view: np.ndarray, map: int = 0) -> Aimed:
    """The likeliest cell of `probability` [n n + 1], with what the percept `view` [n, n, >= 2] (a map of `map` cells a side)
    shows there."""
    best, n = int(np.argmax(probability)), view.shape[0]
    p = float(probability[best])
    if best == n * n:
        return Aimed(None, p, "something out of view")
    i, j = divmod(best, n)
    own = own_cell(map)
    place = own[1] - j, i - own[0]
    code, colour = int(view[i, j, 0]), int(view[i, j, 1])
    thing = (f"{COLOUR_WORDS[colour]} {OBJECT_WORDS[code]}" if code in OBJECT_WORDS and place != (0, 0)
             else "free cell" if code in (EMPTY, FLOOR) else "cell not seen yet" if code == UNSEEN else "cell")
    return Aimed(place, p, f"{with_article(thing)} {place_in_words(place)}")
