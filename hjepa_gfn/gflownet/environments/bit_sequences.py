"""Non-autoregressive bit sequences (Malkin et al. 2022; Tiapkin et al. 2024): n/k words of k bits, written in any order."""
import dataclasses
import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np


@dataclasses.dataclass(frozen=True)
class BitSequences:
    """States int32 [B, n/k]: the word at each place, or 2^k where it is still empty. Action = place * 2^k + word; undo = place.

        log R(x) = -reward_exponent * min_m Hamming(x, m) / n   over `num_modes` modes drawn with `seed`;
    only full sequences stop.
    """

    num_bits: int = 16
    word: int = 4
    num_modes: int = 60
    reward_exponent: float = 2.0
    seed: int = 0

    @property
    def places(self) -> int:
        return self.num_bits // self.word

    @property
    def words(self) -> int:
        return 2**self.word

    @property
    def horizon(self) -> int:
        return self.places

    @property
    def num_actions(self) -> int:
        return self.places * self.words

    @property
    def num_undos(self) -> int:
        return self.places

    def root(self, batch: int) -> jnp.ndarray:
        return jnp.full((batch, self.places), self.words, jnp.int32)

    def depth(self, state: jnp.ndarray) -> jnp.ndarray:
        return (state < self.words).sum(-1).astype(jnp.int32)

    def forward(self, state: jnp.ndarray, action: jnp.ndarray) -> tuple[jnp.ndarray, jnp.ndarray]:
        place = action // self.words
        written = jnp.where(jnp.arange(self.places) == place[..., None], (action % self.words)[..., None], state)
        return written, place

    def backward(self, state: jnp.ndarray, undo: jnp.ndarray) -> tuple[jnp.ndarray, jnp.ndarray]:
        here = jnp.arange(self.places) == undo[..., None]
        word = jnp.sum(jnp.where(here, state, 0), axis=-1)
        return jnp.where(here, self.words, state), undo * self.words + word

    def forward_mask(self, state: jnp.ndarray) -> jnp.ndarray:
        return jnp.repeat(state == self.words, self.words, axis=-1)

    def stop_mask(self, state: jnp.ndarray) -> jnp.ndarray:
        return jnp.all(state < self.words, axis=-1)

    def backward_mask(self, state: jnp.ndarray) -> jnp.ndarray:
        return state < self.words

    def features(self, state: jnp.ndarray) -> jnp.ndarray:
        return jax.nn.one_hot(state, self.words + 1).reshape(*state.shape[:-1], self.places * (self.words + 1))

    @functools.cached_property
    def modes(self) -> np.ndarray:
        """bool [num_modes, num_bits], distinct where there is room."""
        rng = np.random.default_rng(self.seed)
        return rng.integers(0, 2, (self.num_modes, self.num_bits)).astype(bool)

    def bits(self, state: jnp.ndarray) -> jnp.ndarray:
        """bool [B, num_bits] of full sequences, the highest bit of each word first."""
        shifts = jnp.arange(self.word)[::-1]
        return ((state[..., None] >> shifts) & 1).astype(bool).reshape(*state.shape[:-1], self.num_bits)

    def log_reward(self, state: jnp.ndarray) -> jnp.ndarray:
        # Hamming distance as a product: |x - m| summed = |x| + |m| - 2 x.m
        x, m = self.bits(state).astype(jnp.float32), self.modes.astype(np.float32)
        distance = x.sum(-1, keepdims=True) + m.sum(-1) - 2.0 * x @ m.T
        return -self.reward_exponent * distance.min(-1) / self.num_bits

    def all_states(self) -> np.ndarray:
        """Every state int32 [(2^k + 1)^(n/k), n/k], by depth (host; short sequences)."""
        states = np.array(list(itertools.product(range(self.words + 1), repeat=self.places)), np.int32)
        return states[np.argsort((states < self.words).sum(-1), kind="stable")]
