"""The hypergrid (Bengio et al. 2021): a walk from the origin that adds one to a coordinate at a time and can stop anywhere."""
import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np


@dataclasses.dataclass(frozen=True)
class Hypergrid:
    """States int32 [B, dim]; action and undo d move along coordinate d.

        R(s) = r0 + r1 prod_d [ |x_d| > 0.5 ] + r2 prod_d [ 0.6 < |x_d| < 0.8 ],   x = 2 s / (side - 1) - 1.
    """

    dim: int = 2
    side: int = 8
    r0: float = 1e-3
    r1: float = 0.5
    r2: float = 2.0

    @property
    def horizon(self) -> int:
        return self.dim * (self.side - 1)

    @property
    def num_actions(self) -> int:
        return self.dim

    @property
    def num_undos(self) -> int:
        return self.dim

    def root(self, batch: int) -> jnp.ndarray:
        return jnp.zeros((batch, self.dim), jnp.int32)

    def depth(self, state: jnp.ndarray) -> jnp.ndarray:
        return state.sum(-1)

    def forward(self, state: jnp.ndarray, action: jnp.ndarray) -> tuple[jnp.ndarray, jnp.ndarray]:
        return state + (jnp.arange(self.dim) == action[..., None]), action

    def backward(self, state: jnp.ndarray, undo: jnp.ndarray) -> tuple[jnp.ndarray, jnp.ndarray]:
        return state - (jnp.arange(self.dim) == undo[..., None]), undo

    def forward_mask(self, state: jnp.ndarray) -> jnp.ndarray:
        return state < self.side - 1

    def stop_mask(self, state: jnp.ndarray) -> jnp.ndarray:
        return jnp.ones(state.shape[:-1], bool)

    def backward_mask(self, state: jnp.ndarray) -> jnp.ndarray:
        return state > 0

    def features(self, state: jnp.ndarray) -> jnp.ndarray:
        return jax.nn.one_hot(state, self.side).reshape(*state.shape[:-1], self.dim * self.side)

    def log_reward(self, state: jnp.ndarray) -> jnp.ndarray:
        # in integers: some sides (16, 21) have coordinates right on a bound, where rounding would add modes
        x, whole = jnp.abs(2 * state - (self.side - 1)), self.side - 1
        outer = jnp.all(2 * x > whole, axis=-1)
        ring = jnp.all((10 * x > 6 * whole) & (10 * x < 8 * whole), axis=-1)
        return jnp.log(self.r0 + self.r1 * outer + self.r2 * ring)

    def all_states(self) -> np.ndarray:
        """Every state int32 [side^dim, dim], by depth (host; small grids)."""
        states = np.array(list(itertools.product(range(self.side), repeat=self.dim)), np.int32)
        return states[np.argsort(states.sum(-1), kind="stable")]
