"""Sampled trajectories on a small environment: legal, in forward order, the same with and without early exit, row by row."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hjepa_gfn.gflownet.environments import Hypergrid
from hjepa_gfn.gflownet.policy import Logits, behaviour, noise_of
from hjepa_gfn.gflownet.rollout import (
    Trajectory,
    choose,
    cut,
    in_forward_order,
    sample_index,
    sample_trajectories,
)

ENV, ROWS = Hypergrid(dim=3, side=4), 40


def network(params, x):
    """Logits that differ from state to state; STOP now and then."""
    mixed = jnp.sin(x @ params)
    return Logits(mixed[..., :4] - jnp.array([0.0, 0.0, 0.0, 1.0]), mixed[..., 4:])


PARAMS = jnp.asarray(np.random.default_rng(0).normal(size=(12, 7)) * 2)
BEHAVE = behaviour(ENV, network, PARAMS)
NOISE = noise_of(ENV, jax.random.key(1), ROWS)
FORWARD = np.arange(ROWS) % 2 == 0
ENDS = np.random.default_rng(1).integers(0, 4, (ROWS, 3)).astype(np.int32)
STARTS = np.where(FORWARD[:, None], 0, ENDS)


@functools.cache
def walked(way, partly=False):
    """Trajectories with forward=True from the root, False from ENDS, or both on different rows."""
    start, forward = {"forth": (np.zeros_like(ENDS), True), "back": (ENDS, False), "both": (STARTS, jnp.asarray(FORWARD))}[way]
    steps = jnp.asarray(ENDS.sum(-1) // 2) if partly else None
    sample = jax.jit(lambda n: sample_trajectories(ENV, BEHAVE, n, jnp.asarray(start), forward, steps))
    return jax.tree.map(np.asarray, sample(NOISE))


@pytest.mark.parametrize("partly", [False, True])
@pytest.mark.parametrize("way", ["forth", "back", "both"])
def test_trajectories_are_legal_and_in_forward_order(way, partly):
    path = walked(way, partly)
    for b in range(ROWS):
        n = path.length[b]
        ahead = way == "forth" or (way == "both" and FORWARD[b])
        for t in range(n):
            moved = path.states[b, t].copy()
            assert moved[path.action[b, t]] < 3
            moved[path.action[b, t]] += 1
            np.testing.assert_array_equal(path.states[b, t + 1], moved)
            assert path.undo[b, t] == path.action[b, t]
        assert (path.states[b, n:] == path.states[b, n]).all(), "past the end the last state is repeated"
        if ahead:
            assert not path.states[b, 0].any()
        else:
            np.testing.assert_array_equal(path.states[b, -1], ENDS[b])
            assert n == (ENDS[b].sum() // 2 if partly else ENDS[b].sum())
            assert partly or not path.states[b, 0].any()
    assert len(set(path.length.tolist())) > 3


@pytest.mark.parametrize("partly", [False, True])
def test_both_directions_at_once_agree_row_by_row_with_each_alone(partly):
    both = walked("both", partly)
    for way, rows in (("forth", FORWARD), ("back", ~FORWARD)):
        alone = walked(way, partly)
        real = both.edge[rows]
        np.testing.assert_array_equal(both.length[rows], alone.length[rows])
        np.testing.assert_array_equal(both.states[rows], alone.states[rows])
        for name in ("action", "undo"):
            np.testing.assert_array_equal(getattr(both, name)[rows][real], getattr(alone, name)[rows][real])


def reference(start, ahead):
    """One row after the other, every step to the horizon: no early exit, no batch."""
    decide = jax.jit(lambda noise, state: BEHAVE(noise, state))
    states, actions, lengths = [], [], []
    for b in range(ROWS):
        here, seen, taken = start[b].copy(), [start[b].copy()], []
        for t in range(ENV.horizon):
            stop, action, undo = (np.asarray(x)[0] for x in decide(NOISE[t][:, b : b + 1], jnp.asarray(here[None])))
            if ahead[b]:
                if stop:
                    break
                here[action] += 1
                taken.append(action)
            else:
                if not here.any():
                    break
                here[undo] -= 1
                taken.append(undo)
            seen.append(here.copy())
        states.append(seen if ahead[b] else seen[::-1])
        actions.append(taken if ahead[b] else taken[::-1])
        lengths.append(len(taken))
    return states, actions, lengths


def test_early_exit_changes_nothing():
    path = walked("both")
    states, actions, lengths = reference(STARTS, FORWARD)
    assert path.length.tolist() == lengths
    for b in range(ROWS):
        np.testing.assert_array_equal(path.states[b, : lengths[b] + 1], states[b])
        assert path.action[b, : lengths[b]].tolist() == [int(a) for a in actions[b]]


def test_the_loop_ends_when_every_row_has():
    """Behaviour that stops at once is asked once, however long the horizon."""
    asked = []

    def behave(noise, state):
        jax.debug.callback(lambda: asked.append(1))
        return BEHAVE(noise, state)._replace(stop=jnp.ones(ROWS, bool))

    path = jax.jit(lambda n: sample_trajectories(ENV, behave, n, ENV.root(ROWS)))(NOISE)
    jax.block_until_ready(path)
    jax.effects_barrier()
    assert not np.asarray(path.length).any() and len(asked) == 1


def test_in_forward_order_turns_round_what_is_real_on_backward_rows():
    values = {"x": jnp.arange(15).reshape(3, 5), "y": jnp.arange(30).reshape(3, 5, 2)}
    out = in_forward_order(values, jnp.array([2, 4, 1]), jnp.array([False, False, True]))
    np.testing.assert_array_equal(out["x"], [[2, 1, 0, 0, 0], [9, 8, 7, 6, 5], [10, 11, 11, 11, 11]])
    np.testing.assert_array_equal(out["y"][..., 1], 2 * out["x"] + 1)
    for forward in (True, False):
        out = in_forward_order(jnp.arange(4)[None] + 7, jnp.array([-1]), jnp.array([forward]))
        np.testing.assert_array_equal(out, [[7, 7, 7, 7]])


def test_a_trajectory_knows_its_real_edges_and_states():
    states = {"v": jnp.array([[0, 1, 1, 1], [0, 1, 2, 3]])}
    empty = jnp.zeros((2, 3), jnp.int32)
    path = Trajectory(states, empty, empty, jnp.array([1, 3]))
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


def test_windows_are_successive_edges_of_the_same_trajectories_at_every_place():
    whole, size = walked("forth"), 3
    begins = set()
    for seed in range(6):
        part = jax.tree.map(np.asarray, jax.jit(cut, static_argnums=2)(whole, jax.random.key(seed), size))
        assert part.states.shape == (ROWS, size + 1, 3) and part.action.shape == part.undo.shape == (ROWS, size)
        np.testing.assert_array_equal(part.length, np.minimum(whole.length, size))
        for b in range(ROWS):
            n = part.length[b]
            # a walk on the grid only grows: its first state tells where the window begins
            begin = int(np.flatnonzero((whole.states[b] == part.states[b, 0]).all(-1))[0])
            assert begin + n <= whole.length[b]
            np.testing.assert_array_equal(part.states[b, : n + 1], whole.states[b, begin : begin + n + 1])
            np.testing.assert_array_equal(part.action[b, :n], whole.action[b, begin : begin + n])
            np.testing.assert_array_equal(part.undo[b, :n], whole.undo[b, begin : begin + n])
            begins.add((b, begin))
    longest = int(np.argmax(whole.length))
    assert whole.length[longest] > size + 2 and len({begin for b, begin in begins if b == longest}) > 2, "windows must move"


def test_a_window_longer_than_the_horizon_is_the_whole_trajectory():
    whole = walked("forth")
    jax.tree.map(np.testing.assert_array_equal, cut(whole, jax.random.key(0), 1000), whole)
