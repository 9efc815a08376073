"""How many steps K a back-and-forth move undoes: distributions q(K | n, step) over 0..n, n the length of the plan.

Each has `draw` and the exact `log_prob` that the acceptance ratio needs. A K that q cannot give back has log q = -inf: the move
that would need it in reverse is refused, and R/Z stays stationary. Arguments broadcast; nothing here is differentiated.
"""
import dataclasses
from typing import Protocol

import jax.numpy as jnp


class Schedule(Protocol):
    """q(K | n, step), K in 0..n. `step` is the number of the move, an integer or int32 []."""

    def draw(self, uniform: jnp.ndarray, length: jnp.ndarray, step: jnp.ndarray | int = 0) -> jnp.ndarray:
        """K int32 [B] from uniform random numbers [B] in (0, 1), for lengths n int32 [B]."""

    def log_prob(self, k: jnp.ndarray, length: jnp.ndarray, step: jnp.ndarray | int = 0) -> jnp.ndarray:
        """log q(k | n, step) [B]; -inf outside 0..n and wherever q is zero."""


@dataclasses.dataclass(frozen=True)
class Uniform:
    """K ~ Uniform{0..n}: every K that a reverse move may need has positive probability."""

    def draw(self, uniform, length, step=0) -> jnp.ndarray:
        return jnp.minimum(jnp.floor(uniform * (length + 1)), length).astype(jnp.int32)

    def log_prob(self, k, length, step=0) -> jnp.ndarray:
        return jnp.where(_possible(k, length), -jnp.log(length + 1.0), -jnp.inf)


@dataclasses.dataclass(frozen=True)
class Geometric:
    """q(K|n) = rate^K / sum_{j<=n} rate^j, 0 < rate < 1: mostly short moves, now and then a long one."""

    rate: float = 0.5

    def draw(self, uniform, length, step=0) -> jnp.ndarray:
        # inverse CDF: the smallest k with 1 - rate^(k+1) >= uniform (1 - rate^(n+1))
        k = jnp.log1p(-uniform * (1.0 - self.rate ** (length + 1.0))) / jnp.log(self.rate)
        return jnp.clip(jnp.floor(k), 0, length).astype(jnp.int32)

    def log_prob(self, k, length, step=0) -> jnp.ndarray:
        total = jnp.log1p(-(self.rate ** (length + 1.0))) - jnp.log1p(-self.rate)
        return jnp.where(_possible(k, length), k * jnp.log(self.rate) - total, -jnp.inf)


class _Aimed:
    """A single K, `aim(n, step)`, with a share `mix` of Uniform{0..n}, which makes every reverse move possible."""

    mix: float

    def aim(self, length, step) -> jnp.ndarray:
        raise NotImplementedError

    def draw(self, uniform, length, step=0) -> jnp.ndarray:
        target = self.aim(length, step).astype(jnp.int32)
        if not self.mix:
            return jnp.broadcast_to(target, jnp.broadcast_shapes(target.shape, uniform.shape))
        return jnp.where(uniform < self.mix, Uniform().draw(uniform / self.mix, length), target)

    def log_prob(self, k, length, step=0) -> jnp.ndarray:
        share = self.mix / (length + 1.0) + (1.0 - self.mix) * (k == self.aim(length, step))
        return jnp.where(_possible(k, length), jnp.log(share), -jnp.inf)


@dataclasses.dataclass(frozen=True)
class Fixed(_Aimed):
    """K = min(steps, n) (Zhang et al. 2022 keep K fixed). With mix = 0 a move can only be taken to where the same number of
    steps leads back: between plans of more than `steps` edits, to plans of the same length."""

    steps: int
    mix: float = 0.0

    def aim(self, length, step) -> jnp.ndarray:
        return jnp.minimum(length, self.steps)


@dataclasses.dataclass(frozen=True)
class Halving(_Aimed):
    """K = n/2, n/4, ... (rounded down, at least 1 where n is) at steps 0, 1, ...: the optimisation mode of DESIGN section 5.

    Every step has its own kernel, and each leaves R/Z stationary. The share `mix` is what lets lengths change freely.
    """

    mix: float = 0.1

    def aim(self, length, step) -> jnp.ndarray:
        halved = jnp.floor(length * 0.5 ** (step + 1.0))
        return jnp.minimum(jnp.maximum(halved, 1), length)


def _possible(k, length) -> jnp.ndarray:
    return (k >= 0) & (k <= length)
