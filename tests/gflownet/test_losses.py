"""Losses against float64 double loops that follow the equations literally."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hjepa_gfn.gflownet import losses

B, T = 7, 9
LENGTH = np.array([9, 0, 1, 5, 3, 8, 2])


def trajectories(seed, shift=0.0):
    """(log_flow [B, T+1], log_pf, log_pb [B, T] with zeros past the end)."""
    rng = np.random.default_rng(seed)
    edge = np.arange(T) < LENGTH[:, None]
    flow = rng.normal(size=(B, T + 1)) * 3 + shift
    return flow, np.where(edge, -rng.exponential(2, (B, T)), 0.0), np.where(edge, -rng.exponential(1, (B, T)), 0.0)


def reference_potential(flow, pf, pb):
    a = np.zeros((B, T + 1))
    for b in range(B):
        for t in range(T + 1):
            a[b, t] = flow[b, t] - sum(pf[b, k] - pb[b, k] for k in range(t))
    return a


def reference_subtb(a, present, lam):
    rows = []
    for row, here in zip(a.astype(np.float64), present):
        ends = np.flatnonzero(here)
        top = bottom = 0.0
        for i in range(len(ends)):
            for j in range(i + 1, len(ends)):
                top += lam ** (j - i) * (row[ends[i]] - row[ends[j]]) ** 2
                bottom += lam ** (j - i)
        if bottom:
            rows.append(top / bottom)
    return np.mean(rows)


def test_potential_is_flow_less_what_was_spent_on_the_way():
    flow, pf, pb = trajectories(0)
    found = losses.balance_potential(*map(jnp.asarray, (flow, pf, pb)))
    np.testing.assert_allclose(found, reference_potential(flow, pf, pb), atol=2e-5)


def test_exact_flows_have_no_residual():
    """On a chain with F(z_t) P_F = F(z_{t+1}) P_B, every potential of a row is the same number."""
    _, pf, pb = trajectories(1)
    flow = 2.0 + np.concatenate([np.zeros((B, 1)), np.cumsum(pf - pb, -1)], -1)
    a = losses.balance_potential(*map(jnp.asarray, (flow, pf, pb)))
    np.testing.assert_allclose(a, 2.0, atol=1e-4)
    real = jnp.arange(T + 1) <= LENGTH[:, None]
    assert losses.subtb(a, real)[0] < 1e-8
    for loss in (losses.trajectory_balance, losses.detailed_balance):
        assert loss(a, jnp.asarray(LENGTH))[0] < 1e-8


@pytest.mark.parametrize("lam", [0.5, 0.9, 1.0])
@pytest.mark.parametrize("shift", [0.0, -300.0])
def test_subtb_recursion_is_the_double_sum(lam, shift):
    a = reference_potential(*trajectories(2, shift))
    real = np.arange(T + 1) <= LENGTH[:, None]
    value, info = losses.subtb(jnp.asarray(a), jnp.asarray(real), lam)
    expected = reference_subtb(a, real, lam)
    np.testing.assert_allclose(value, expected, rtol=3e-5)
    np.testing.assert_allclose(info["residual_rms"], np.sqrt(expected), rtol=3e-5)


def test_subtb_over_scattered_states_counts_rank_not_time():
    a = reference_potential(*trajectories(3))
    present = np.random.default_rng(3).random((B, T + 1)) < 0.5
    present[1] = False          # no state
    present[2] = np.eye(T + 1)[4]  # one state: no sub-trajectory
    value, _ = losses.subtb(jnp.asarray(a), jnp.asarray(present), 0.5)
    np.testing.assert_allclose(value, reference_subtb(a, present, 0.5), rtol=1e-5)


def test_subtb_ignores_what_lies_past_the_end_in_value_and_gradient():
    a = reference_potential(*trajectories(4))
    real = np.arange(T + 1) <= LENGTH[:, None]
    noisy = np.where(real, a, 1e6)
    value, grad = jax.value_and_grad(lambda x: losses.subtb(x, jnp.asarray(real))[0])(jnp.asarray(noisy))
    np.testing.assert_allclose(value, reference_subtb(a, real, 0.9), rtol=1e-5)
    assert not np.asarray(grad)[~real].any() and np.abs(np.asarray(grad)[real]).max() > 0.1


def test_subtb_gradient_is_that_of_the_double_sum():
    a = reference_potential(*trajectories(5))
    real = np.arange(T + 1) <= LENGTH[:, None]
    grad = jax.grad(lambda x: losses.subtb(x, jnp.asarray(real), 0.9)[0])(jnp.asarray(a))
    for b, t in [(0, 0), (0, 9), (3, 2), (4, 3), (2, 1)]:
        ends = []
        for sign in (1, -1):
            moved = a.copy()
            moved[b, t] += sign * 1e-4
            ends.append(reference_subtb(moved, real, 0.9))
        np.testing.assert_allclose(grad[b, t], (ends[0] - ends[1]) / 2e-4, rtol=1e-3, atol=1e-4)


def test_subtb_of_nothing_is_zero():
    assert losses.subtb(jnp.ones((2, 3)), jnp.zeros((2, 3), bool))[0] == 0.0


def test_trajectory_balance_compares_root_and_end():
    a = reference_potential(*trajectories(6))
    expected = np.mean([(a[b, 0] - a[b, LENGTH[b]]) ** 2 for b in range(B)])
    np.testing.assert_allclose(losses.trajectory_balance(jnp.asarray(a), jnp.asarray(LENGTH))[0], expected, rtol=1e-5)


def test_detailed_balance_averages_over_real_edges():
    a = reference_potential(*trajectories(7))
    squares = [(a[b, t] - a[b, t + 1]) ** 2 for b in range(B) for t in range(LENGTH[b])]
    np.testing.assert_allclose(
        losses.detailed_balance(jnp.asarray(a), jnp.asarray(LENGTH))[0], np.mean(squares), rtol=1e-5)


def test_trajectory_nll_is_a_weighted_mean_with_the_last_stop():
    _, pf, _ = trajectories(8)
    rng = np.random.default_rng(8)
    stop, weight = -rng.exponential(1, B), rng.random(B)
    expected = -sum(weight[b] * (pf[b].sum() + stop[b]) for b in range(B)) / weight.sum()
    loss, info = losses.trajectory_nll(*map(jnp.asarray, (pf, stop, weight)))
    np.testing.assert_allclose([loss, info["nll"]], expected, rtol=1e-5)
    assert losses.trajectory_nll(jnp.asarray(pf), jnp.asarray(stop), jnp.zeros(B))[0] == 0.0


def test_flow_is_reward_over_stop_probability():
    reward, stop = np.array([1.0, -2.0]), np.log([0.25, 0.5])
    flow = losses.stop_flow(jnp.asarray(reward), jnp.asarray(stop))
    np.testing.assert_allclose(np.exp(flow), np.exp(reward) / [0.25, 0.5], rtol=1e-6)
