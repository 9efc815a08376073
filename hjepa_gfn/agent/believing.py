"""The belief s_t = U(s_{t-1}, a_{t-1}, o_t) of an agent that acts, and what is read off it."""
from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from hjepa_gfn.models.belief import Belief
from hjepa_gfn.objectives.belief import cells_nll
from hjepa_gfn.worlds.language import UNSEEN

SURE = 0.9  # a cell is shown as what it is believed to hold where that is at least so probable; else as one that is not seen


@partial(jax.jit, static_argnums=(0, 1))
def _apply(belief: Belief, method: str, params: Any, *inputs: Any) -> jax.Array:
    """A method of the belief, compiled once for all that keep one."""
    return belief.apply({"params": params}, *inputs, method=method)


class KeptBelief:
    """The beliefs of B episodes, kept up to date: told of every action and percept in turn. `state`: [B, M x M + 1, F]."""

    def __init__(self, belief: Belief, params: Any):
        """params: of the module `belief`."""
        self.belief, self.params = belief, params

    def begin(self, batch: int) -> None:
        """New episodes, of which nothing is known."""
        self.state = self.belief.empty((batch,))

    def act(self, action: np.ndarray) -> None:
        """Actions int [B] were taken: what is expected now."""
        self.state = _apply(self.belief, "predict", self.params, self.state, np.asarray(action, np.int32))

    def perceive(self, percept: dict[str, np.ndarray], seen: np.ndarray) -> None:
        """Percepts came in, where `seen` bool [B]."""
        self.state = _apply(self.belief, "update", self.params, self.state, percept["view"], percept["direction"], seen)


@partial(jax.jit, static_argnums=0)
def believed_view(belief: Belief, params: Any, s: jax.Array) -> jax.Array:
    """The percept that beliefs [B, M x M + 1, F] expect, uint8 [B, n, n, 3]: in each cell the likeliest object, colour and
    state, zeros (not seen) where the object is less than `SURE`; the own cell shows what is carried, as in percepts."""
    log_p = _looked(belief, params, s)
    sure = (log_p[0].max(-1) >= np.log(SURE)) & (log_p[0].argmax(-1) != UNSEEN)
    codes = jnp.stack([part.argmax(-1) for part in log_p], -1) * sure[..., None]
    n = round(codes.shape[-2] ** 0.5)
    return codes.reshape(*codes.shape[:-2], n, n, 3).astype(jnp.uint8)


@partial(jax.jit, static_argnums=0)
def percept_surprise(belief: Belief, params: Any, s: jax.Array, view: jax.Array) -> jax.Array:
    """How little percepts uint8 [B, n, n, 3] were expected by beliefs [B, M x M + 1, F], in nats: -log p of the cell shown that
    was expected least, [B]; 0 where nothing is shown."""
    nll, shown = cells_nll(_looked(belief, params, s), view)
    return jnp.max(jnp.where(shown, nll, 0.0), -1)


def _looked(belief: Belief, params: Any, s: jax.Array) -> tuple[jax.Array, ...]:
    apply = partial(belief.apply, {"params": params})
    return apply(apply(s, method="look"), method="cells")
