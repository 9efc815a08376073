"""The belief over the world's state: s_t = U(s_{t-1}, a_{t-1}, o_t), which keeps what the percept no longer shows.

    prior   s'_t = s_{t-1} + mean_k P_k(s_{t-1}, a_{t-1})        an ensemble of predictors: their spread is epistemic
    update  s_t  = s'_t + g * (C(s'_t, z_t) - s'_t)              g in (0, 1) per dimension; 0 where the percept is missing
    decode  z_hat = D(s), with log variances V(stop s)           of the percept's embedding z: aleatoric

z is the JEPA's embedding of the percept; a percept that was dropped takes the same path with g = 0. `objectives.belief.watch`
runs it along episodes.
"""
import jax
import jax.numpy as jnp
from flax import linen as nn

from hjepa_gfn.models.layers import Embed, Mlp


class Belief(nn.Module):
    """Methods are pure. S: size of the belief, Z: of the percept's embedding, K: predictors in the ensemble."""

    size: int
    percept: int
    hidden: int
    num_actions: int
    members: int

    def setup(self) -> None:
        self.action = Embed(self.num_actions, 32, 0.5, (None, None))
        self.predictors = [Mlp((self.hidden,), self.size, 0.1, first=None, name=f"predictor_{k}") for k in range(self.members)]
        self.gate = Mlp((self.hidden,), self.size, first=None)
        self.candidate = Mlp((self.hidden,), self.size, first=None)
        self.decoder = Mlp((self.hidden,), self.percept, first=None)
        self.variance = Mlp((self.hidden,), self.percept, 0.1, first=None)

    def empty(self, batch_shape: tuple[int, ...]) -> jnp.ndarray:
        """The belief before the first percept: zeros [..., S]."""
        return jnp.zeros((*batch_shape, self.size))

    def members_of(self, s: jnp.ndarray, action: jnp.ndarray) -> jnp.ndarray:
        """What each predictor expects after an action: s [..., S], action int32 [...] -> [K, ..., S]."""
        both = jnp.concatenate([s, self.action(action)], -1)
        return s + jnp.stack([predictor(both) for predictor in self.predictors])

    def predict(self, s: jnp.ndarray, action: jnp.ndarray) -> jnp.ndarray:
        """The mean of the ensemble, [..., S]."""
        return self.members_of(s, action).mean(0)

    def update(self, prior: jnp.ndarray, z: jnp.ndarray, seen: jnp.ndarray) -> jnp.ndarray:
        """The belief after a percept: prior [..., S], z [..., Z], seen bool [...] (False: the percept is missing)."""
        both = jnp.concatenate([prior, z], -1)
        gate = nn.sigmoid(self.gate(both)) * seen[..., None]
        return prior + gate * (self.candidate(both) - prior)

    def decode(self, s: jnp.ndarray) -> jnp.ndarray:
        """The expected embedding of the percept, [..., Z]."""
        return self.decoder(s)

    def log_variance(self, s: jnp.ndarray) -> jnp.ndarray:
        """Log variance per dimension of that expectation, [..., Z]. It never teaches the belief."""
        return self.variance(jax.lax.stop_gradient(s))

    def __call__(self, z: jnp.ndarray, action: jnp.ndarray, seen: jnp.ndarray) -> jnp.ndarray:
        """Touches every parameter (initialisation only): z [B, 2, Z], action int32 [B, 1], seen bool [B, 2]."""
        s = self.update(self.empty(z.shape[:1]), z[:, 0], seen[:, 0])
        s = self.update(self.predict(s, action[:, 0]), z[:, 1], seen[:, 1])
        return self.decode(s).sum() + self.log_variance(s).sum()
