"""Losses against float64 double loops that follow the equations literally."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hjepa_gfn.gflownet import losses, mcmc

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


# --- head form, conditional and Z-free losses -----------------------------------------------------------------------


def stops_and_rewards(seed):
    """(log P_F(STOP) [B, T+1], log R [B, T+1])."""
    rng = np.random.default_rng(seed)
    return -rng.exponential(1, (B, T + 1)), rng.normal(size=(B, T + 1)) * 2


def at_end(x):
    return x[np.arange(B), LENGTH]


def test_the_terminal_node_closes_each_trajectory():
    (flow, pf, pb), (stop, reward) = trajectories(9), stops_and_rewards(9)
    terminal = losses.terminal_potential(*map(jnp.asarray, (pf, pb, at_end(stop), at_end(reward))))
    expected = [reward[b, n] - sum(pf[b, k] - pb[b, k] for k in range(n)) - stop[b, n] for b, n in enumerate(LENGTH)]
    np.testing.assert_allclose(terminal, expected, atol=2e-5)
    a, length = losses.with_terminal(jnp.asarray(flow), terminal, jnp.asarray(LENGTH))
    assert a.shape == (B, T + 2) and length.tolist() == (LENGTH + 1).tolist()
    for b, n in enumerate(LENGTH):
        np.testing.assert_allclose(a[b, : n + 1], flow[b, : n + 1], rtol=1e-6)
        np.testing.assert_allclose(a[b, n + 1], expected[b], atol=2e-5)
    assert np.asarray(losses.is_present(a, length)).sum(1).tolist() == (LENGTH + 2).tolist()


def reference_head(flow, pf, pb, stop, reward, squares):
    """Sums `squares(list of (log F, its edge's log P_F - log P_B))` literally: nodes 0..n and the terminal one, F = R there."""
    rows = []
    for b, n in enumerate(LENGTH):
        nodes = [*flow[b, : n + 1], reward[b, n]]
        edges = [*(pf[b, :n] - pb[b, :n]), stop[b, n]]  # the STOP edge has P_B = 1
        rows.append(squares(nodes, edges))
    return rows


def test_tb_db_and_subtb_in_head_form_are_the_equations_of_the_papers():
    (flow, pf, pb), (stop, reward) = trajectories(10), stops_and_rewards(10)
    a = losses.balance_potential(*map(jnp.asarray, (flow, pf, pb)))
    terminal = losses.terminal_potential(*map(jnp.asarray, (pf, pb, at_end(stop), at_end(reward))))
    a, length = losses.with_terminal(a, terminal, jnp.asarray(LENGTH))
    rows = functools.partial(reference_head, flow, pf, pb, stop, reward)

    # Malkin et al. 2022, eq. 14: (log Z + sum log P_F - log R - sum log P_B)^2
    tb = np.mean(rows(lambda nodes, edges: (nodes[0] + sum(edges) - nodes[-1]) ** 2))
    np.testing.assert_allclose(losses.trajectory_balance(a, length)[0], tb, rtol=1e-5)
    # DB: (log F(s) + log P_F - log F(s') - log P_B)^2 over all edges
    db = np.concatenate(rows(lambda f, e: [(f[t] + e[t] - f[t + 1]) ** 2 for t in range(len(e))]))
    np.testing.assert_allclose(losses.detailed_balance(a, length)[0], db.mean(), rtol=1e-5)

    # Madan et al. 2022, eq. 10
    def weighted(f, e, lam=0.8):
        pairs = [(i, j) for i in range(len(f)) for j in range(i + 1, len(f))]
        squares = [lam ** (j - i) * (f[i] + sum(e[i:j]) - f[j]) ** 2 for i, j in pairs]
        return sum(squares) / sum(lam ** (j - i) for i, j in pairs)

    np.testing.assert_allclose(
        losses.subtb(a, losses.is_present(a, length), 0.8)[0], np.mean(rows(weighted)), rtol=1e-5)


def test_modified_db_is_the_equation_of_deleu():
    (_, pf, pb), (stop, reward) = trajectories(11), stops_and_rewards(11)
    squares = [(reward[b, t + 1] + pb[b, t] + stop[b, t] - reward[b, t] - pf[b, t] - stop[b, t + 1]) ** 2
               for b in range(B) for t in range(LENGTH[b])]
    found = losses.modified_detailed_balance(*map(jnp.asarray, (reward, stop, pf, pb, LENGTH)))[0]
    np.testing.assert_allclose(found, np.mean(squares), rtol=1e-5)


def test_vargrad_is_the_variance_within_each_context():
    rng = np.random.default_rng(12)
    a, context = rng.normal(size=12) * 3 - 50, np.array([0, 1, 1, 0, 3, 0, 1, 0, 0, 1, 1, 0])
    means = {c: a[context == c].mean() for c in set(context)}
    expected = np.mean([(x - means[c]) ** 2 for x, c in zip(a, context)])
    loss, info = losses.log_partition_variance(jnp.asarray(a), jnp.asarray(context), 4)
    np.testing.assert_allclose(loss, expected, rtol=1e-4)
    np.testing.assert_allclose(info["log_z"], [means[0], means[1], 0.0, means[3]], rtol=1e-5)
    # the gradient is that of TB with log Z at its best value, held fixed
    grad = jax.grad(lambda x: losses.log_partition_variance(x, jnp.asarray(context), 4)[0])(jnp.asarray(a))
    np.testing.assert_allclose(grad, [2 * (x - means[c]) / 12 for x, c in zip(a, context)], atol=1e-5)


def test_forward_looking_increments_enter_each_edge():
    """Pan et al. 2023: log F~(s) + log P_F = log F~(s') + log P_B + log R(s') - log R(s)."""
    (tilde, pf, pb), (_, reward) = trajectories(13), stops_and_rewards(13)
    flow = losses.forward_looking_flow(jnp.asarray(reward), jnp.asarray(tilde))
    squares = [(tilde[b, t] + pf[b, t] - tilde[b, t + 1] - pb[b, t] - (reward[b, t + 1] - reward[b, t])) ** 2
               for b in range(B) for t in range(LENGTH[b])]
    a = losses.balance_potential(flow, jnp.asarray(pf), jnp.asarray(pb))
    np.testing.assert_allclose(losses.detailed_balance(a, jnp.asarray(LENGTH))[0], np.mean(squares), rtol=1e-5)


def test_back_and_forth_loss_is_the_squared_log_ratio_without_k():
    rng = np.random.default_rng(14)
    fields = {name: rng.normal(size=9) * 2 for name in mcmc.Move._fields}
    f = fields
    expected = np.mean([
        (f["log_reward_old"][b] + f["log_back"][b] + f["log_forth"][b]
         - f["log_reward_new"][b] - f["log_back_reverse"][b] - f["log_forth_reverse"][b]) ** 2 for b in range(9)])
    loss, info = mcmc.back_and_forth_loss(mcmc.Move(**{k: jnp.asarray(v) for k, v in fields.items()}))
    np.testing.assert_allclose([loss, info["residual_rms"] ** 2], expected, rtol=1e-5)
