"""The belief: updates against numpy, missing percepts, what each term of the loss teaches, and what it does not read."""

import functools
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from hjepa_gfn.models.belief import Belief
from hjepa_gfn.objectives.belief import belief_loss, draw_anchors, watch

S, Z, A, K = 5, 4, 3, 2
BELIEF = Belief(size=S, percept=Z, hidden=8, num_actions=A, members=K)


@functools.cache
def params():
    made = BELIEF.init(jax.random.key(0), jnp.zeros((1, 2, Z)), jnp.zeros((1, 1), jnp.int32), jnp.ones((1, 2), bool))
    rng = np.random.default_rng(0)
    return jax.tree.map(lambda leaf: jnp.asarray(0.4 * rng.normal(size=leaf.shape), jnp.float32), nn.unbox(made)["params"])


def episodes(seed=1):
    rng = np.random.default_rng(seed)
    z, action = rng.normal(size=(3, 6, Z)).astype(np.float32), rng.integers(0, A, (3, 5)).astype(np.int32)
    return z, action, np.array([5, 3, 0], np.int32)


def mlp(p, x):
    h = x @ np.asarray(p["hidden_0"]["kernel"], np.float64) + np.asarray(p["hidden_0"]["bias"], np.float64)
    h = np.asarray(jax.nn.gelu(jnp.asarray(h, jnp.float32)), np.float64)
    return h @ np.asarray(p["out"]["kernel"], np.float64) + np.asarray(p["out"]["bias"], np.float64)


def test_beliefs_against_a_loop_with_percepts_missing():
    p, (z, action, _) = params(), episodes()
    seen = np.random.default_rng(3).random((3, 6)) < 0.6
    assert 5 < seen.sum() < 15
    prior, belief = jax.jit(functools.partial(watch, BELIEF))(p, z, action, seen)
    table = np.asarray(p["action"]["table"], np.float64)
    for row in range(3):
        s = np.zeros(S)
        for t in range(6):
            before = s
            if t:
                both = np.concatenate([s, table[action[row, t - 1]]])
                before = s + np.mean([mlp(p[f"predictor_{k}"], both) for k in range(K)], 0)
            s = before
            if seen[row, t]:
                both = np.concatenate([before, z[row, t]])
                gate = 1 / (1 + np.exp(-mlp(p["gate"], both)))
                s = before + gate * (mlp(p["candidate"], both) - before)
            np.testing.assert_allclose(prior[row, t], before, atol=2e-5)
            np.testing.assert_allclose(belief[row, t], s, atol=2e-5)


@functools.cache
def compiled(horizon=2, drop=0.0, variance=0.5, anchors=0):
    options = SimpleNamespace(horizon=horizon, drop=drop, variance=variance, anchors=anchors)
    loss = lambda p, z, action, length: belief_loss(p, jax.random.key(2), BELIEF, z, action, length, options)
    return jax.jit(jax.value_and_grad(loss, (0, 1), has_aux=True))


def leaves(grad):
    return {name: np.concatenate([np.ravel(g) for g in jax.tree.leaves(part)]) for name, part in grad.items()}


def test_the_loss_against_numpy():
    p, (z, action, length) = params(), episodes()
    (loss, metrics), _ = compiled()(p, z, action, length)
    real = np.arange(6) <= length[:, None]
    prior, belief = (np.asarray(x, np.float64) for x in jax.jit(functools.partial(watch, BELIEF))(p, z, action, real))
    table = np.asarray(p["action"]["table"], np.float64)
    ahead = lambda s, a, k: s + mlp(p[f"predictor_{k}"], np.concatenate([s, table[a]]))
    predict = lambda s, a: np.mean([ahead(s, a, k) for k in range(K)], 0)
    errors = []
    for h in range(3):
        found = []
        for row in range(3):
            for t in range(int(length[row]) - h + 1):
                s = belief[row, t]
                for i in range(h):
                    s = predict(s, action[row, t + i])
                found.append(np.mean((mlp(p["decoder"], s) - z[row, t + h]) ** 2))
        errors.append(np.mean(found))
    steps = [(row, t) for row in range(3) for t in range(int(length[row]))]
    nll, ratio = [], []
    for row, t in steps:
        r = mlp(p["decoder"], prior[row, t + 1]) - z[row, t + 1]
        log_v = mlp(p["variance"], prior[row, t + 1])
        nll.append(np.mean(0.5 * (log_v + r**2 * np.exp(-log_v))))
        ratio.append(np.mean(r**2 * np.exp(-log_v)))
    share = np.asarray(jax.random.bernoulli(jax.random.split(jax.random.key(2), 3)[1], 0.5, (K, 3, 1)))
    apart = [np.mean((ahead(belief[row, t], action[row, t], k) - belief[row, t + 1]) ** 2)
             for k in range(K) for row, t in steps if share[k, row, 0]]
    assert 0 < len(apart) < K * len(steps), "each member sees some rows and misses others: choose another key"
    expected = {"now": errors[0], "next": errors[1], "far": errors[2], "nll": np.mean(nll), "calibration": np.mean(ratio),
                "ensemble": np.mean(apart)}
    assert metrics.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(metrics[name], value, rtol=1e-4, err_msg=name)
    np.testing.assert_allclose(loss, np.mean(errors) + 0.5 * np.mean(nll) + np.mean(apart), rtol=1e-4)


def test_anchors_are_real_steps_and_the_loss_looks_at_them_alone():
    """Each row's anchors differ and are real where there are enough; the error "now" is the mean over them."""
    length = np.array([6, 4, 1])
    found = np.asarray(draw_anchors(jax.random.key(0), jnp.asarray(length), 6, 3))
    assert all(len(set(row)) == 3 for row in found) and found.max() < 6
    assert (found[:2] < length[:2, None]).all() and (found[2] == 0).any()
    firsts = np.stack([draw_anchors(jax.random.key(k), jnp.asarray(length), 6, 3) for k in range(40)])
    assert set(np.ravel(firsts[:, 0])) == set(range(6)), "any step may be drawn"
    p, (z, action, length) = params(), episodes()
    (_, metrics), _ = compiled(anchors=2)(p, z, action, length)
    anchor = np.asarray(draw_anchors(jax.random.split(jax.random.key(2), 3)[2], jnp.asarray(length) + 1, 6, 2))
    real = np.arange(6) <= length[:, None]
    _, after = jax.jit(functools.partial(watch, BELIEF))(p, z, action, real)
    now, far = [], []
    table = np.asarray(p["action"]["table"], np.float64)
    for row, t in [(b, t) for b in range(3) for t in anchor[b]]:
        if t <= length[row]:
            s = np.asarray(after[row, t], np.float64)
            now.append(np.mean((mlp(p["decoder"], s) - z[row, t]) ** 2))
        if t + 2 <= length[row]:
            for i in range(2):
                both = np.concatenate([s, table[action[row, t + i]]])
                s = s + np.mean([mlp(p[f"predictor_{k}"], both) for k in range(K)], 0)
            far.append(np.mean((mlp(p["decoder"], s) - z[row, t + 2]) ** 2))
    assert len(far) >= 2
    np.testing.assert_allclose(metrics["now"], np.mean(now), rtol=1e-4)
    np.testing.assert_allclose(metrics["far"], np.mean(far), rtol=1e-4)


def test_variances_learn_and_teach_nothing_else():
    inputs = (params(), *episodes())
    with_nll, without = (leaves(compiled(variance=v)(*inputs)[1][0]) for v in (0.5, 0.0))
    assert {name for name in with_nll if not np.allclose(with_nll[name], without[name], atol=1e-7)} == {"variance"}
    taught = {name for name, gradient in with_nll.items() if np.abs(gradient).max() > 1e-7}
    assert taught == {"action", "predictor_0", "predictor_1", "gate", "candidate", "decoder", "variance"}


def test_no_gradient_reaches_the_embeddings():
    assert np.abs(compiled()(params(), *episodes())[1][1]).max() == 0.0


def test_what_lies_past_the_end_is_not_read():
    z, action, length = episodes()
    noise, other, _ = episodes(seed=9)
    past = np.arange(6) > length[:, None]
    z2, action2 = np.where(past[..., None], noise, z), np.where(past[:, 1:], other, action)
    assert not np.array_equal(z, z2) and not np.array_equal(action, action2)
    a, b = compiled()(params(), z, action, length)[0], compiled()(params(), z2, action2, length)[0]
    np.testing.assert_allclose(a[0], b[0], rtol=1e-6)


def test_without_percepts_there_is_nothing_to_go_by():
    """All dropped: what is decoded at a step depends on the actions alone."""
    z, action, _ = episodes()
    seen = np.zeros((3, 6), bool)
    run = jax.jit(functools.partial(watch, BELIEF))
    np.testing.assert_array_equal(run(params(), z, action, seen)[1], run(params(), z + 1.0, action, seen)[1])
    losses = [float(compiled(drop=drop)(params(), z, action, np.full(3, 5))[0][1]["now"]) for drop in (0.0, 1.0)]
    assert losses[0] != pytest.approx(losses[1], rel=1e-3)
