"""What the agent expects of its own plans before it makes them: the watchdog, the meta-prediction, ambiguity unelaborated.

Three small networks, each giving a mean and a log variance (DESIGN section 4, "Indicators"). They read detached states and are
trained in a step of their own; nothing else learns from them. They are small at every size of the agent, and not sharded.
"""
from typing import NamedTuple

import jax.numpy as jnp
from flax import linen as nn

from hjepa_gfn.models.layers import Mlp


class Normal(NamedTuple):
    """A predicted distribution, one number a row."""

    mean: jnp.ndarray          # [...]
    log_variance: jnp.ndarray  # [...]


class Watchdog(nn.Module):
    """Methods are pure. Situations are `features` [..., L x Z + queries x D]: L levels' states, query tokens of the context."""

    hidden: int

    def setup(self) -> None:
        self.risk_head = Mlp((self.hidden, self.hidden), 2, 0.1, whole=True)
        self.subplan_head = Mlp((self.hidden,), 2, 0.1, whole=True)
        self.ambiguity_head = Mlp((self.hidden,), 2, 0.1, whole=True)

    def risk(self, features: jnp.ndarray) -> Normal:
        """Risk a decision of the plans that will be sampled in this situation."""
        return _normal(self.risk_head(features))

    def subplan(self, features: jnp.ndarray, macro: jnp.ndarray) -> Normal:
        """Risk that spelling out the first leg will add, from the situation and the leg's macro-action [..., F]."""
        return _normal(self.subplan_head(jnp.concatenate([features, macro], -1)))

    def ambiguity(self, state: jnp.ndarray, scale: jnp.ndarray) -> Normal:
        """Entropy of the next state after an edge that holds no action yet: state [..., Z] at its left end, its scale one-hot
        [..., S]."""
        return _normal(self.ambiguity_head(jnp.concatenate([state, scale], -1)))

    def __call__(self, features: jnp.ndarray, macro: jnp.ndarray, state: jnp.ndarray, scale: jnp.ndarray) -> jnp.ndarray:
        """Touches every parameter (initialisation only)."""
        found = self.risk(features), self.subplan(features, macro), self.ambiguity(state, scale)
        return sum(normal.mean.sum() for normal in found)


def _normal(out: jnp.ndarray) -> Normal:
    return Normal(out[..., 0], out[..., 1])
