"""The belief: updates against a loop in numpy, missing percepts, memory, and what each term of the loss teaches and reads."""

import functools
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from hjepa_gfn.errors import UserError
from hjepa_gfn.models.belief import Belief, check_belief
from hjepa_gfn.objectives.belief import belief_loss, cells_nll, draw_anchors, watch
from hjepa_gfn.worlds.babyai import FORWARD, LEFT, PICKUP, RIGHT
from hjepa_gfn.worlds.language import AGENT_CELL, BALL, EMPTY

M, F, Z, A, K = 13, 3, 4, 7, 2
BELIEF = Belief(size=M, features=F, percept=Z, hidden=8, num_actions=A, members=K)
LENGTH = np.array([5, 3, 0], np.int32)


@functools.cache
def params():
    view = jnp.zeros((1, 2, 7, 7, 3), jnp.uint8)
    made = BELIEF.init(
        jax.random.key(0), view, jnp.zeros((1, 2), jnp.int32), jnp.zeros((1, 1), jnp.int32), jnp.ones((1, 2), bool))
    rng = np.random.default_rng(0)
    return jax.tree.map(lambda leaf: jnp.asarray(0.4 * rng.normal(size=leaf.shape), jnp.float32), nn.unbox(made)["params"])


def episodes(seed=1):
    """(embeddings, percepts, actions) of three rows of five actions."""
    rng = np.random.default_rng(seed)
    view = np.stack([rng.integers(0, high, (3, 6, 7, 7)) for high in (4, 3, 2)], -1).astype(np.uint8)
    percept = {"view": view, "direction": rng.integers(0, 4, (3, 6)).astype(np.int32)}
    return rng.normal(size=(3, 6, Z)).astype(np.float32), percept, rng.integers(0, 4, (3, 5)).astype(np.int32)


def mlp(p, x):
    h = x @ np.asarray(p["hidden_0"]["kernel"], np.float64) + np.asarray(p["hidden_0"]["bias"], np.float64)
    h = np.asarray(jax.nn.gelu(jnp.asarray(h, jnp.float32)), np.float64)
    return h @ np.asarray(p["out"]["kernel"], np.float64) + np.asarray(p["out"]["bias"], np.float64)


def table(name):
    return np.asarray(params()[name]["table"], np.float64)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def ahead(s, action, k):
    """What the k-th predictor expects of one belief [M x M + 1, F], cell by cell."""
    s = s.copy()
    middle = M // 2
    front = middle * M + middle - 1
    said = mlp(params()[f"predictor_{k}"], np.concatenate([s[front], s[-1], table("action")[action]]))
    s[front] += said[:F]
    s[-1] += said[F : 2 * F]
    old, free = s[:-1].reshape(M, M, F), sigmoid(said[-1])
    new = np.zeros_like(old)
    for i in range(M):
        for j in range(M):
            if action == LEFT:
                new[i, j] = old[j, M - 1 - i]
            elif action == RIGHT:
                new[i, j] = old[M - 1 - j, i]
            elif action == FORWARD:
                new[i, j] = (1 - free) * old[i, j] + (free * old[i, j - 1] if j else 0)
            else:
                new[i, j] = old[i, j]
    return np.concatenate([new.reshape(-1, F), s[-1:]])


def predict(s, action):
    return np.mean([ahead(s, action, k) for k in range(K)], 0)


def place(i, j):
    """Where a belief keeps what a view shows at (i, j): the agent at (3, 6) of it is in the middle of the belief."""
    return -1 if (i, j) == AGENT_CELL else (M // 2 + i - 3) * M + M // 2 + j - 6


def updated(s, view, direction):
    s = s.copy()
    for i in range(7):
        for j in range(7):
            own = (i, j) == AGENT_CELL
            if view[i, j, 0] == 0 and not own:
                continue
            shown = sum(table(name)[view[i, j, c]] for c, name in enumerate(("object", "colour", "state")))
            shown = shown + (table("direction")[direction] if own else 0)
            gate, candidate = np.split(mlp(params()["write"], np.concatenate([s[place(i, j)], shown])), 2)
            s[place(i, j)] += sigmoid(gate) * (candidate - s[place(i, j)])
    return s


def looked(s):
    return np.stack([s[place(i, j)] for i in range(7) for j in range(7)])


def test_beliefs_against_a_loop_with_percepts_missing():
    _, percept, action = episodes()
    assert {LEFT, RIGHT, FORWARD, PICKUP} <= set(np.ravel(action))
    seen = np.random.default_rng(3).random((3, 6)) < 0.6
    assert 5 < seen.sum() < 15
    prior, belief = jax.jit(functools.partial(watch, BELIEF))(params(), percept, action, seen)
    for row in range(3):
        s = np.zeros((M * M + 1, F))
        for t in range(6):
            before = predict(s, action[row, t - 1]) if t else s
            s = updated(before, percept["view"][row, t], percept["direction"][row, t]) if seen[row, t] else before
            np.testing.assert_allclose(prior[row, t], before, atol=2e-5)
            np.testing.assert_allclose(belief[row, t], s, atol=2e-5)


@functools.cache
def compiled(horizon=2, drop=0.0, variance=0.5, anchors=0, cells=0.7):
    options = SimpleNamespace(horizon=horizon, drop=drop, variance=variance, anchors=anchors, cells=cells)
    loss = lambda p, z, percept, action, length: belief_loss(
        p, jax.random.key(2), BELIEF, z, percept, action, length, options)
    return jax.jit(jax.value_and_grad(loss, (0, 1), has_aux=True))


def leaves(grad):
    return {name: np.concatenate([np.ravel(g) for g in jax.tree.leaves(part)]) for name, part in grad.items()}


def expected_errors(belief, z, percept, action, anchor, horizon):
    """(squared errors of the embedding, nats of cells shown) by horizon, from steps `anchor` [B, M] of each row, in loops."""
    errors, cells = [], []
    for h in range(horizon + 1):
        found, nats = [], []
        for row, t in [(b, t) for b in range(3) for t in anchor[b] if t + h <= LENGTH[b]]:
            s = belief[row, t]
            for i in range(h):
                s = predict(s, action[row, t + i])
            found.append(np.mean((mlp(params()["decoder"], looked(s).reshape(-1)) - z[row, t + h]) ** 2))
            for i in range(7):
                for j in range(7):
                    code = percept["view"][row, t + h, i, j]
                    if code[0]:
                        p = params()["holds"]
                        said = s[place(i, j)] @ np.asarray(p["kernel"], np.float64) + np.asarray(p["bias"], np.float64)
                        parts = said[:16], said[16:24], said[24:]
                        nats.append(sum(np.log(np.exp(part).sum()) - part[c] for part, c in zip(parts, code, strict=True)))
        errors.append(np.mean(found))
        cells.append(np.mean(nats))
    return errors, cells


def test_the_loss_against_numpy():
    z, percept, action = episodes()
    (loss, metrics), _ = compiled()(params(), z, percept, action, LENGTH)
    real = np.arange(6) <= LENGTH[:, None]
    both = jax.jit(functools.partial(watch, BELIEF))(params(), percept, action, real)
    prior, belief = (np.asarray(x, np.float64) for x in both)
    errors, cells = expected_errors(belief, z, percept, action, [range(6)] * 3, 2)
    steps = [(row, t) for row in range(3) for t in range(int(LENGTH[row]))]
    nll, ratio = [], []
    for row, t in steps:
        before = looked(prior[row, t + 1]).reshape(-1)
        r = mlp(params()["decoder"], before) - z[row, t + 1]
        log_v = mlp(params()["variance"], before)
        nll.append(np.mean(0.5 * (log_v + r**2 * np.exp(-log_v))))
        ratio.append(np.mean(r**2 * np.exp(-log_v)))
    share = np.asarray(jax.random.bernoulli(jax.random.split(jax.random.key(2), 3)[1], 0.5, (K, 3, 1)))
    apart = [np.mean((ahead(belief[row, t], action[row, t], k) - belief[row, t + 1]) ** 2)
             for k in range(K) for row, t in steps if share[k, row, 0]]
    assert 0 < len(apart) < K * len(steps), "each member sees some rows and misses others: choose another key"
    expected = {"now": errors[0], "next": errors[1], "far": errors[2], "cells": cells[0], "cells_far": cells[2],
                "nll": np.mean(nll), "calibration": np.mean(ratio), "ensemble": np.mean(apart)}
    assert metrics.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(metrics[name], value, rtol=2e-4, err_msg=name)
    np.testing.assert_allclose(
        loss, np.mean(errors) + 0.7 * np.mean(cells) + 0.5 * np.mean(nll) + np.mean(apart), rtol=2e-4)


def test_anchors_are_real_steps_and_the_loss_looks_at_them_alone():
    """Each row's anchors differ and are real where there are enough; errors are means over them."""
    length = np.array([6, 4, 1])
    found = np.asarray(draw_anchors(jax.random.key(0), jnp.asarray(length), 6, 3))
    assert all(len(set(row)) == 3 for row in found) and found.max() < 6
    assert (found[:2] < length[:2, None]).all() and (found[2] == 0).any()
    firsts = np.stack([draw_anchors(jax.random.key(k), jnp.asarray(length), 6, 3) for k in range(40)])
    assert set(np.ravel(firsts[:, 0])) == set(range(6)), "any step may be drawn"
    z, percept, action = episodes()
    (_, metrics), _ = compiled(anchors=2)(params(), z, percept, action, LENGTH)
    anchor = np.asarray(draw_anchors(jax.random.split(jax.random.key(2), 3)[2], jnp.asarray(LENGTH) + 1, 6, 2))
    real = np.arange(6) <= LENGTH[:, None]
    belief = np.asarray(jax.jit(functools.partial(watch, BELIEF))(params(), percept, action, real)[1], np.float64)
    errors, cells = expected_errors(belief, z, percept, action, anchor, 2)
    found = [metrics[name] for name in ("now", "next", "far", "cells", "cells_far")]
    np.testing.assert_allclose(found, [*errors, cells[0], cells[2]], rtol=2e-4)


def test_variances_learn_and_teach_nothing_else():
    inputs = (params(), *episodes(), LENGTH)
    with_nll, without = (leaves(compiled(variance=v)(*inputs)[1][0]) for v in (0.5, 0.0))
    assert {name for name in with_nll if not np.allclose(with_nll[name], without[name], atol=1e-7)} == {"variance"}
    taught = {name for name, gradient in with_nll.items() if np.abs(gradient).max() > 1e-7}
    assert taught == {"action", "object", "colour", "state", "direction", "predictor_0", "predictor_1", "write", "decoder",
                      "holds", "variance"}


def test_no_gradient_reaches_the_embeddings():
    assert np.abs(compiled()(params(), *episodes(), LENGTH)[1][1]).max() == 0.0


def test_what_lies_past_the_end_is_not_read():
    z, percept, action = episodes()
    noise, others, other = episodes(seed=9)
    past = np.arange(6) > LENGTH[:, None]
    z2, action2 = np.where(past[..., None], noise, z), np.where(past[:, 1:], other, action)
    percept2 = {"view": np.where(past[..., None, None, None], others["view"], percept["view"]),
                "direction": np.where(past, others["direction"], percept["direction"])}
    assert not np.array_equal(percept2["view"], percept["view"]) and not np.array_equal(action, action2)
    a, b = compiled()(params(), z, percept, action, LENGTH)[0], compiled()(params(), z2, percept2, action2, LENGTH)[0]
    np.testing.assert_allclose(a[0], b[0], rtol=1e-6)


def test_without_percepts_there_is_nothing_to_go_by():
    """All dropped: what is decoded at a step depends on the actions alone."""
    z, percept, action = episodes()
    others, seen = episodes(seed=9)[1], np.zeros((3, 6), bool)
    run = jax.jit(functools.partial(watch, BELIEF))
    np.testing.assert_array_equal(run(params(), percept, action, seen)[1], run(params(), others, action, seen)[1])
    losses = [float(compiled(drop=drop)(params(), z, percept, action, np.full(3, 5))[0][1]["now"]) for drop in (0.0, 1.0)]
    assert losses[0] != pytest.approx(losses[1], rel=1e-3)


def test_what_has_left_the_view_is_kept_where_it_lies():
    """Seen ahead on the left, an object lies ahead on the right after a turn to the left, and behind after two; nothing shown
    since changes what is kept of it."""
    i, j = AGENT_CELL[0] - 1, AGENT_CELL[1] - 2
    view = np.zeros((1, 3, 7, 7, 3), np.uint8)
    view[..., 0] = np.where(np.arange(7) > 5, EMPTY, 0)
    view[0, 0, i, j] = (BALL, 2, 0)
    percept, turns = {"view": view, "direction": np.zeros((1, 3), np.int32)}, np.full((1, 2), LEFT, np.int32)
    still = jax.tree.map(lambda leaf: jnp.zeros_like(leaf), {k: v for k, v in params().items() if k.startswith("predictor")})
    _, belief = jax.jit(functools.partial(watch, BELIEF))({**params(), **still}, percept, turns, np.ones((1, 3), bool))
    kept = np.asarray(belief[0, 0, place(i, j)])
    middle, grid = M // 2, np.asarray(belief[0, :, :-1]).reshape(3, M, M, F)
    assert np.abs(kept).max() > 0
    np.testing.assert_allclose(grid[1, middle + 2, middle - 1], kept, atol=1e-6)  # 1 ahead, 2 to the right
    np.testing.assert_allclose(grid[2, middle + 1, middle + 2], kept, atol=1e-6)  # 2 behind, 1 to the right


def test_cells_that_are_not_shown_count_nowhere():
    view = np.zeros((2, 2, 7, 7, 3), np.uint8)
    view[0, 0, 1, 2] = (BALL, 1, 0)
    said = tuple(jnp.log(jnp.full((2, 2, 49, codes), 1 / codes)) for codes in (16, 8, 4))
    nll, shown = cells_nll(said, view)
    assert shown.sum() == 1 and shown[0, 0, 1 * 7 + 2]
    np.testing.assert_allclose(nll, np.log(16 * 8 * 4), rtol=1e-6)


@pytest.mark.parametrize(("size", "map", "least"), [(12, 0, 13), (11, 0, 13), (128, 0, 13), (9, 11, 11)])
def test_a_belief_holds_whole_percepts(size, map, least):
    with pytest.raises(UserError, match=f"model.belief.size={size}: must be 0 .* odd number of cells from {least} on"):
        check_belief(size, map)
    check_belief(least, map)
