"""The learned decomposition of a terminal reward, against loops, and what its partial sums mean."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hjepa_gfn.gflownet import losses
from hjepa_gfn.gflownet.decomposition import decomposition_loss, partial_log_reward

B, T = 6, 5
LENGTH = np.array([5, 0, 1, 3, 4, 2])


def drawn(seed):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(B, T)), rng.normal(size=B) * 2


def reference(phi, reward, kept):
    """Jang et al. 2024: (log R / n - sum_t m_t phi_t / sum_t m_t)^2, over trajectories that have an edge."""
    rows = []
    for b, n in enumerate(LENGTH):
        if n:
            mask = kept[b, :n] if kept[b, :n].any() else np.ones(n, bool)
            rows.append((reward[b] / n - sum(phi[b, t] for t in range(n) if mask[t]) / mask.sum()) ** 2)
    return np.mean(rows)


@pytest.mark.parametrize("keep", [1.0, 0.6, 0.05])
def test_loss_is_the_equation_under_the_mask_that_is_drawn(keep):
    phi, reward = drawn(0)
    key = jax.random.key(3)
    kept = np.asarray(jax.random.bernoulli(key, keep, (B, T)))
    loss, info = decomposition_loss(key, *map(jnp.asarray, (phi, LENGTH, reward)), keep)
    expected = reference(phi, reward, kept)
    np.testing.assert_allclose([loss, info["residual_rms"] ** 2], expected, rtol=1e-5)


def test_what_lies_past_the_end_gets_no_gradient():
    phi, reward = drawn(1)
    grad = jax.grad(lambda x: decomposition_loss(jax.random.key(0), x, jnp.asarray(LENGTH), jnp.asarray(reward), 1.0)[0])(
        jnp.asarray(phi))
    edge = np.arange(T) < LENGTH[:, None]
    assert not np.asarray(grad)[~edge].any() and np.abs(np.asarray(grad)[edge]).min() > 0


def test_a_reward_spread_evenly_has_no_loss_whatever_is_dropped():
    _, reward = drawn(2)
    phi = np.where(np.arange(T) < LENGTH[:, None], (reward / np.maximum(LENGTH, 1))[:, None], 99.0)
    for seed in range(3):
        loss, _ = decomposition_loss(jax.random.key(seed), *map(jnp.asarray, (phi, LENGTH, reward)), 0.5)
        assert loss < 1e-10
    empty = decomposition_loss(jax.random.key(0), jnp.zeros((2, 3)), jnp.zeros(2, jnp.int32), jnp.ones(2))[0]
    assert empty == 0.0


def test_partial_rewards_are_running_sums_without_gradient():
    phi, _ = drawn(3)
    found = partial_log_reward(jnp.asarray(phi), jnp.asarray(LENGTH))
    for b, n in enumerate(LENGTH):
        expected = [phi[b, : min(t, n)].sum() for t in range(T + 1)]
        np.testing.assert_allclose(found[b], expected, atol=1e-6)
    grad = jax.grad(lambda x: partial_log_reward(x, jnp.asarray(LENGTH)).sum())(jnp.asarray(phi))
    assert not np.asarray(grad).any()


def test_the_stop_edge_makes_up_for_what_is_not_learned():
    """Whatever phi says, the terminal node has the true log R: flows that absorb phi leave no residual."""
    phi, reward = drawn(4)
    rng = np.random.default_rng(4)
    edge = np.arange(T) < LENGTH[:, None]
    pf, pb = (np.where(edge, -rng.exponential(1, (B, T)), 0.0) for _ in range(2))
    stop = -rng.exponential(1, B)
    partial = partial_log_reward(jnp.asarray(phi), jnp.asarray(LENGTH))
    flow = np.zeros((B, T + 1))  # the true flow, from the end back
    for b, n in enumerate(LENGTH):
        flow[b, n] = reward[b] - stop[b]
        for t in reversed(range(n)):
            flow[b, t] = flow[b, t + 1] + pb[b, t] - pf[b, t]
    tilde = flow - np.asarray(partial)
    a = losses.balance_potential(losses.forward_looking_flow(partial, jnp.asarray(tilde)), jnp.asarray(pf), jnp.asarray(pb))
    terminal = losses.terminal_potential(*map(jnp.asarray, (pf, pb, stop, reward)))
    a, length = losses.with_terminal(a, terminal, jnp.asarray(LENGTH))
    assert losses.subtb(a, losses.is_present(a, length))[0] < 1e-9
