"""The hierarchical mixture of Hu et al. 2023, section 5.1 (settings of their `toy_gaussians` code).

Four superclusters i at the corners of a square, each with four petals j at fixed offsets on the unit circle:

    p(i) = p(j) = 1/4,    p(x|i,j) = N(x; mu_i + o_j, 0.25^2 I),    o_j = (cos, sin)((j + 1/2) pi / 2).
Only the superclusters' means mu [4, 2] are learned. z = (i, j): first i, then j. The authors' log-likelihood (about -5.60) has
2 log std + log 2 pi added per coordinate where the density subtracts log std + log(2 pi) / 2: the right value is about -2.80.
"""
import dataclasses
import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from hjepa_gfn.gflownet.em import LatentModel
from hjepa_gfn.gflownet.policy import Logits, log_probs
from hjepa_gfn.gflownet.toys.mlp import apply_mlp, init_mlp

SIZE = 4  # superclusters, and petals of each
UNSET = SIZE
STD = 0.25
OFFSETS = np.stack([np.cos((np.arange(SIZE) + 0.5) * np.pi / 2), np.sin((np.arange(SIZE) + 0.5) * np.pi / 2)], -1)
TRUE_MEANS = np.sqrt(2.0) * np.array([[-1.0, -1.0], [1.0, 1.0], [1.0, -1.0], [-1.0, 1.0]])


@dataclasses.dataclass(frozen=True)
class Pairs:
    """States int32 [B, 2] = (i, j), 4 where unset; action i, then action 4 + j. A tree: each state has one parent."""

    horizon: int = 2
    num_actions: int = 2 * SIZE
    num_undos: int = 1

    def root(self, batch: int) -> jnp.ndarray:
        return jnp.full((batch, 2), UNSET, jnp.int32)

    def depth(self, state: jnp.ndarray) -> jnp.ndarray:
        return (state < UNSET).sum(-1).astype(jnp.int32)

    def forward(self, state: jnp.ndarray, action: jnp.ndarray) -> tuple[jnp.ndarray, jnp.ndarray]:
        place = jnp.arange(2) == (action // SIZE)[:, None]
        return jnp.where(place, (action % SIZE)[:, None], state), jnp.zeros_like(action)

    def backward(self, state: jnp.ndarray, undo: jnp.ndarray) -> tuple[jnp.ndarray, jnp.ndarray]:
        last = jnp.maximum(self.depth(state) - 1, 0)
        here = jnp.arange(2) == last[:, None]
        return jnp.where(here, UNSET, state), last * SIZE + jnp.sum(jnp.where(here, state, 0), -1)

    def forward_mask(self, state: jnp.ndarray) -> jnp.ndarray:
        return jnp.arange(2 * SIZE) // SIZE == self.depth(state)[:, None]

    def stop_mask(self, state: jnp.ndarray) -> jnp.ndarray:
        return self.depth(state) == 2

    def backward_mask(self, state: jnp.ndarray) -> jnp.ndarray:
        return self.depth(state)[:, None] > 0

    def features(self, state: jnp.ndarray) -> jnp.ndarray:
        return jax.nn.one_hot(state, SIZE + 1).reshape(state.shape[0], 2 * (SIZE + 1))


def log_prior(theta: Any, state: jnp.ndarray) -> jnp.ndarray:
    """log p(i) p(j), uniform and of what is set so far: [B]."""
    return -np.log(SIZE) * (state < UNSET).sum(-1).astype(jnp.float32)


def log_likelihood(theta: Any, x: jnp.ndarray, state: jnp.ndarray) -> jnp.ndarray:
    """log N(x; mu_i + o_j, STD^2 I) of x [B, 2] under whole states [B, 2], in nats; 0 of partial ones: [B]."""
    i, j = state[:, 0], state[:, 1]
    row = lambda table, index: jnp.take(table, index, axis=0, mode="clip")  # noqa: E731
    apart = x - row(theta["means"], i) - row(jnp.asarray(OFFSETS, x.dtype), j)
    density = -0.5 * jnp.sum(apart**2, -1) / STD**2 - np.log(2 * np.pi * STD**2)
    return jnp.where(jnp.all(state < UNSET, -1), density, 0.0)


def draw(theta: Any, key: jnp.ndarray, x: jnp.ndarray) -> tuple[jnp.ndarray, jnp.ndarray]:
    """(x', z') ~ p, as many as x [B, 2]."""
    k_z, k_x = jax.random.split(key)
    z = jax.random.randint(k_z, x.shape, 0, SIZE)
    centre = theta["means"][z[:, 0]] + jnp.asarray(OFFSETS, x.dtype)[z[:, 1]]
    return centre + STD * jax.random.normal(k_x, x.shape), z


def posterior(params: Any, features: jnp.ndarray, x: jnp.ndarray) -> Logits:
    """q's network: sees the state, x and its squares (log Z(x) of a far point is a squared distance)."""
    squares = jnp.stack([x[:, 0] ** 2, x[:, 1] ** 2, x[:, 0] * x[:, 1]], -1)
    out = apply_mlp(params, jnp.concatenate([features, x, 0.25 * squares], -1))
    return Logits(out[:, : 2 * SIZE + 1], None, 10.0 * out[:, -1])


def init_posterior(key: jnp.ndarray, width: int = 64, depth: int = 2) -> Any:
    """Parameters of `posterior`."""
    return init_mlp(key, 2 * (SIZE + 1) + 5, 2 * SIZE + 2, width, depth)


def mixture_model() -> LatentModel:
    """The toy as the driver wants it; theta = {"means": [4, 2]}, x float32 [B, 2]."""
    env = Pairs()
    return LatentModel(env, lambda x: env.root(x.shape[0]), posterior, log_prior, log_likelihood, draw)


def posterior_table(params: Any, x: jnp.ndarray) -> jnp.ndarray:
    """log q(i, j|x) of all latents, by running the policy through both of its decisions: [B, 16], z = 4 i + j."""
    env, batch = Pairs(), x.shape[0]
    root = env.root(batch)
    first = log_probs(env, posterior(params, env.features(root), x), root).action[:, :SIZE]  # [B, i]
    below = jnp.tile(jnp.stack([jnp.arange(SIZE), jnp.full(SIZE, UNSET)], -1), (batch, 1))   # (i, unset) of each datum in turn
    second = log_probs(env, posterior(params, env.features(below), jnp.repeat(x, SIZE, 0)), below).action[:, SIZE:]
    return (first[:, :, None] + second.reshape(batch, SIZE, SIZE)).reshape(batch, SIZE * SIZE)


# ---- exact references, numpy float64 ----

def sample_data(seed: int, size: int = 4000) -> np.ndarray:
    """x float64 [size, 2] from the true means."""
    rng = np.random.default_rng(seed)
    i, j = rng.integers(0, SIZE, (2, size))
    return TRUE_MEANS[i] + OFFSETS[j] + STD * rng.normal(size=(size, 2))


def starting_means(seed: int, x: np.ndarray) -> np.ndarray:
    """Four random data, as in the paper: [4, 2]."""
    return x[np.random.default_rng(1000 + seed).integers(0, len(x), SIZE)]


def exact_joint(x: np.ndarray, means: np.ndarray) -> np.ndarray:
    """log p(x, z) float64 [N, 16]."""
    centres = (np.asarray(means, np.float64)[:, None] + OFFSETS).reshape(SIZE * SIZE, 2)
    squared = ((np.asarray(x, np.float64)[:, None] - centres) ** 2).sum(-1)
    return -0.5 * squared / STD**2 - np.log(2 * np.pi * STD**2) - 2 * np.log(SIZE)


def exact_posterior(x: np.ndarray, means: np.ndarray) -> tuple[np.ndarray, float]:
    """(log p(z|x) [N, 16], mean log p(x))."""
    joint = exact_joint(x, means)
    top = joint.max(-1, keepdims=True)
    log_x = top + np.log(np.exp(joint - top).sum(-1, keepdims=True))
    return joint - log_x, float(log_x.mean())


def exact_em(
    x: np.ndarray, means: np.ndarray, iterations: int = 2000, tolerance: float = 1e-12
) -> tuple[np.ndarray, list[float]]:
    """Exact EM from `means`: E-step by enumeration of the 16 latents, closed-form M-step

        mu_i = sum_{n,j} p(i,j|x_n) (x_n - o_j) / sum_{n,j} p(i,j|x_n);
    stops when mean log p(x) rises by less than `tolerance`. Returns (means, mean log p(x) before each M-step and at the end).
    """
    means, history = np.asarray(means, np.float64), []
    for _ in range(iterations):
        log_p, value = exact_posterior(x, means)
        if history and value - history[-1] < tolerance:
            return means, [*history, value]
        history.append(value)
        p = np.exp(log_p).reshape(-1, SIZE, SIZE)
        mass = p.sum((0, 2))
        total = sum(p[:, :, j].T @ (x - OFFSETS[j]) for j in range(SIZE))
        means = np.where(mass[:, None] > 1e-12, total / np.maximum(mass, 1e-12)[:, None], means)
    return means, [*history, exact_posterior(x, means)[1]]


def divergence(log_q: np.ndarray, log_p: np.ndarray) -> float:
    """KL(q||p) over the latents, averaged over data; [N, 16] each, in nats."""
    log_q = np.asarray(log_q, np.float64)
    return float((np.exp(log_q) * (log_q - log_p)).sum(-1).mean())


def effective_latents(log_q: np.ndarray) -> float:
    """exp of the entropy of mean_n q(z|x_n): how many of the 16 latents are in use."""
    share = np.exp(np.asarray(log_q, np.float64)).mean(0)
    share = share[share > 0] / share.sum()
    return float(np.exp(-(share * np.log(share)).sum()))


ALL_LATENTS = np.array(list(itertools.product(range(SIZE), repeat=2)), np.int32)  # [16, 2], z = 4 i + j
