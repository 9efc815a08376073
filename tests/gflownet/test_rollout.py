"""The generic rollout, reversal in time and sampling by inverse distribution function."""

import jax
import jax.numpy as jnp
import numpy as np

from hjepa_gfn.gflownet.rollout import Trajectory, choose, reverse_in_time, rollout, sample_index


def test_rollout_keeps_every_state_and_record_in_order():
    noise = jnp.array([[1.0, 10.0], [2.0, 20.0], [3.0, 30.0]])  # [T, B]
    act = lambda n, s: ({"sum": s["sum"] + n, "log": s["log"] * 2}, {"before": s["sum"], "noise": n})
    states, records = rollout(noise, {"sum": jnp.zeros(2), "log": jnp.ones((2, 2))}, act)
    np.testing.assert_array_equal(states["sum"], [[0, 1, 3, 6], [0, 10, 30, 60]])
    np.testing.assert_array_equal(states["log"][:, :, 0], [[1, 2, 4, 8]] * 2)
    np.testing.assert_array_equal(records["before"], [[0, 1, 3], [0, 10, 30]])
    np.testing.assert_array_equal(records["noise"], noise.T)


def test_reverse_in_time_turns_round_what_is_real_on_the_rows_asked_for():
    values = {"x": jnp.arange(15).reshape(3, 5), "y": jnp.arange(30).reshape(3, 5, 2)}
    out = reverse_in_time(values, jnp.array([2, 4, 1]), jnp.array([True, True, False]))
    np.testing.assert_array_equal(out["x"], [[2, 1, 0, 0, 0], [9, 8, 7, 6, 5], [10, 11, 12, 13, 14]])
    np.testing.assert_array_equal(out["y"][..., 1], 2 * out["x"] + 1)


def test_reverse_in_time_of_an_empty_trajectory_repeats_the_first():
    out = reverse_in_time(jnp.arange(4)[None] + 7, jnp.array([-1]), jnp.array([True]))
    np.testing.assert_array_equal(out, [[7, 7, 7, 7]])


def test_a_trajectory_knows_its_real_edges_and_states():
    states = {"v": jnp.array([[0, 1, 1, 1], [0, 1, 2, 3]])}
    empty = jnp.zeros((2, 3), jnp.int32)
    path = Trajectory(states, empty, empty, empty, jnp.array([1, 3]))
    assert path.edge.tolist() == [[True, False, False], [True] * 3]
    assert path.real.tolist() == [[True, True, False, False], [True] * 4]
    assert path.first["v"].tolist() == [0, 0] and path.final["v"].tolist() == [1, 3]


def test_choose_is_by_row_for_leaves_of_any_rank():
    yes = {"a": jnp.ones((3, 2, 2)), "b": jnp.ones(3, bool)}
    no = jax.tree.map(jnp.zeros_like, yes)
    out = choose(jnp.array([True, False, True]), yes, no)
    assert out["a"].sum((1, 2)).tolist() == [4, 0, 4] and out["b"].tolist() == [True, False, True]


def test_samples_follow_the_probabilities_and_never_fall_on_masked_entries():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(4, 13)) * 1.5
    masked = np.zeros((4, 13), bool)
    masked[0, [0, 1, 12]] = masked[1, 3:9] = masked[2, 1:] = True
    logits[masked] = -1e9
    n = 20_000
    uniform = jax.random.uniform(jax.random.key(0), (n, 4), minval=1e-7)
    log_probs = jnp.asarray(logits - 300.0)  # an offset changes nothing
    drawn = np.asarray(jax.jit(sample_index)(uniform, jnp.broadcast_to(log_probs, (n, 4, 13))))
    for row in range(4):
        p = np.exp(logits[row]) / np.exp(logits[row]).sum()
        share = np.bincount(drawn[:, row], minlength=13) / n
        assert not share[masked[row]].any()
        np.testing.assert_allclose(share, p, atol=4 * np.sqrt(0.25 / n))
        assert np.abs(share - p)[~masked[row]].max() < 4 * np.sqrt(p.max() / n)


def test_the_ends_of_the_unit_interval_draw_legal_entries():
    logits = jnp.asarray(np.where(np.isin(np.arange(13), [2, 5, 9]), 0.0, -1e9), jnp.float32)
    uniform = jnp.array([1e-7, 0.33, 0.34, 0.5, 0.999, 1 - 2.0**-24])
    assert sample_index(uniform, jnp.broadcast_to(logits, (6, 13))).tolist() == [2, 2, 5, 5, 9, 9]


def test_no_uniform_number_draws_a_masked_entry_of_a_long_vocabulary():
    """The compiled cumulative sum adds in blocks, so it can rise by a rounding error over entries of probability zero:
    aim right at those steps."""
    rng = np.random.default_rng(0)
    rows, size = 200, 432
    masked = rng.random((rows, size)) < 0.7
    masked[:, 0] = False
    logits = np.where(masked, -1e9, rng.normal(size=(rows, size)) * 2).astype(np.float32)
    cumulative = np.asarray(jax.jit(lambda x: jnp.cumsum(jnp.exp(x - x.max(-1, keepdims=True)), -1))(logits))
    aim = (cumulative / cumulative[:, -1:]).astype(np.float32)
    aim = np.stack([np.nextafter(aim, np.float32(0)), aim, np.nextafter(aim, np.float32(2))])
    uniform = np.clip(aim, np.float32(1e-7), np.float32(1 - 2.0**-24))  # [3, rows, size]
    logits = jnp.broadcast_to(jnp.asarray(logits), (3, rows, size))
    drawn = jax.jit(jax.vmap(sample_index, (2, None), 2))(uniform, logits)
    assert not masked[np.arange(rows)[:, None], np.asarray(drawn)].any()
