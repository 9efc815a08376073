"""The plan energy against a walk over the tree, and the likelihood of texts against a loop over words."""

import functools
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[1] / "plans")]
import nested  # noqa: E402
import tiny  # noqa: E402

from hjepa_gfn.objectives.cases import take_ground  # noqa: E402
from hjepa_gfn.objectives.energy import energy_of, make_ground, plan_energy, residual, text_log_prob  # noqa: E402
from hjepa_gfn.plans.enumeration import canonical_keys  # noqa: E402

SYSTEM, SPEC = tiny.system(), tiny.system().spec
B, T = 4, 6


@functools.cache
def setting():
    """(plans [B, T], ground, context)."""
    rng = np.random.default_rng(0)
    plans = jax.tree.map(
        lambda x: x.reshape(B, T, *x.shape[1:]), tiny.random_plans(SPEC, jax.random.key(7), B * T))
    z1, z2 = jnp.asarray(rng.normal(size=(2, B, tiny.MODEL["state"])), jnp.float32)
    return plans, jax.jit(lambda p: make_ground(SYSTEM, p, z1, z2))(tiny.params()), tiny.context(B), (z1, z2)


@functools.cache
def evaluated():
    """(energy from features, energy, learned part, residual of each scale, gradient of the energies' sum)."""
    plans, ground, context, _ = setting()

    @jax.jit
    def call(p):
        features = SYSTEM.net(p, plans, context, None, method="features")
        parts = [residual(SYSTEM, p, plans, ground, scale) for scale in range(2)]
        learned = SYSTEM.net(p, features, plans, method="energy_terms")
        grad = jax.grad(lambda q: plan_energy(SYSTEM, q, plans, features, ground).sum())(p)
        return (plan_energy(SYSTEM, p, plans, features, ground), energy_of(SYSTEM, p, plans, context, ground), learned,
                parts, grad)

    return jax.tree.map(np.asarray, call(tiny.params()))


def walked(tree, start, tables, macros, predict, scale=0):
    """{scale: sum of squared errors} of acted edges both of whose ends are states of the edge's own scale."""
    edges, states = tree
    total = {0: 0.0, 1: 0.0}
    # the ends of a finer segment are known at their own scale only where it begins at s_0
    ends = [start[scale]] + [tables[scale][code] for code in states]
    for i, (action, inside) in enumerate(edges):
        if action is not None and i < len(states) and ends[i] is not None:
            total[scale] += np.mean((predict(scale, ends[i], action) - tables[scale][states[i]]) ** 2)
        if inside is not None:
            at_s_0 = i == 0 and start[0] is not None
            inner = walked(inside, start if at_s_0 else (None, None), tables, macros, predict, scale + 1)
            total = {d: total[d] + inner[d] for d in total}
    return total


def test_residual_is_the_prediction_error_along_acted_edges():
    plans, ground, _, (z1, z2) = setting()
    jepa = jax.tree.map(lambda w: np.asarray(w, np.float64), tiny.params()["jepa"])
    one, two = jepa["level_1"], jepa["level_2"]
    gelu = lambda x: 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))
    dense = lambda layer, x: x @ layer["kernel"] + layer["bias"]

    def mlp(p, x):
        return dense(p["out"], gelu(dense(p["hidden_0"], x)))

    def predict(scale, z, action):
        if scale == 1:
            return z + mlp(one["dynamics"]["predictor"], np.concatenate([z, one["action_embed"]["table"][action]]))
        macro = np.array([action % 3 - 1.0, action // 3 - 1.0])  # two dimensions of three levels
        return z + mlp(two["dynamics"]["predictor"], np.concatenate([z, macro]))

    grid_1 = [np.array([c % 3 - 1.0, c // 3 - 1.0]) for c in range(9)]
    grid_2 = [np.array([c - 1.0]) for c in range(3)]
    up = lambda level, grid: [mlp(level["dynamics"]["quantiser"]["up"], g) for g in grid]
    tables = [up(two, grid_2), up(one, grid_1)]
    names = canonical_keys(jax.tree.map(lambda x: x.reshape(B * T, *x.shape[2:]), plans))
    expected = np.zeros((2, B * T))
    for n, name in enumerate(names):
        start = np.asarray(z2[n // T], np.float64), np.asarray(z1[n // T], np.float64)
        total = walked(nested.parse(name), start, tables, None, predict)
        expected[:, n] = total[0], total[1]
    assert (expected > 0).sum(1).min() > 3, "too few acted edges between states"
    np.testing.assert_allclose(np.stack(evaluated()[3]).reshape(2, -1), expected, rtol=1e-3, atol=1e-4)


def test_energy_is_the_learned_part_and_the_weighted_residuals():
    whole, again, learned, parts, _ = evaluated()
    weights = np.log1p(np.exp(np.asarray(tiny.params()["model"]["ground_weight"])))
    assert weights.shape == (2,) and abs(weights[0] - weights[1]) > 0.05
    np.testing.assert_allclose(whole, learned + weights[0] * parts[0] + weights[1] * parts[1], rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(again, whole, atol=1e-4)


def test_energy_is_a_function_of_the_tree_not_of_the_buffers_order():
    """The residuals too, which look up what stands at both ends of an edge."""
    plans, ground, context, _ = setting()
    rng = np.random.default_rng(1)
    order = np.stack([[np.r_[0, 1 + rng.permutation(SPEC.capacity - 1)] for _ in range(T)] for _ in range(B)])
    move = lambda x: np.take_along_axis(np.asarray(x), order.reshape(*order.shape, *(1,) * (x.ndim - 3)), axis=2)
    moved = type(plans)(*map(move, plans[:-1]), plans.num_edits)
    assert not np.array_equal(plans.valid, moved.valid)
    whole, _, _, parts, _ = evaluated()
    assert min(np.count_nonzero(part) for part in parts) > 3
    again = jax.jit(lambda p, z: (energy_of(SYSTEM, p, z, context, ground), [
        residual(SYSTEM, p, z, ground, scale) for scale in range(2)]))(tiny.params(), moved)
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-4), again, (whole, parts))


def test_energy_teaches_its_head_and_weights_but_not_the_hierarchy():
    grad = evaluated()[-1]
    size = lambda tree: max(np.abs(g).max() for g in jax.tree.leaves(tree))
    assert size(grad["jepa"]) == 0.0
    assert size(grad["model"]["energy_head"]) > 1e-3 and (np.abs(grad["model"]["ground_weight"]) > 1e-4).all()


def test_ground_of_some_rows_shares_the_tables():
    _, ground, _, (z1, z2) = setting()
    some = take_ground(ground, np.array([2, 0]))
    np.testing.assert_array_equal(some.start[0], z2[np.array([2, 0])])
    np.testing.assert_array_equal(some.start[1], z1[np.array([2, 0])])
    assert [t.shape for t in some.tables] == [(3, 6), (9, 6)] and some.macro.shape == (9, 2)
    jax.tree.map(np.testing.assert_array_equal, (some.tables, some.actions), (ground.tables, ground.actions))


def test_text_log_prob_sums_the_words_after_the_first_and_no_padding():
    plans, _, context, _ = setting()
    text = tiny.words(B, tiny.TEXT, full=True).at[1, 4:].set(0).at[2, 3:].set(0)
    call = jax.jit(lambda p, x: (
        text_log_prob(SYSTEM, p, plans, context, x), SYSTEM.net(p, plans, context, x, method="explain")))
    wide = jnp.broadcast_to(text[:, None], (B, T, tiny.TEXT))
    found, log_p = map(np.asarray, call(tiny.params(), wide))
    expected = [[sum(log_p[b, t, i, text[b, i + 1]] for i in range(tiny.TEXT - 1) if text[b, i + 1] > 0)
                 for t in range(T)] for b in range(B)]
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    np.testing.assert_allclose(
        jax.jit(lambda p: text_log_prob(SYSTEM, p, plans, context, text))(tiny.params()), found, rtol=1e-5)
    # with another embedding of the padding word: not one number changes
    p = tiny.params()
    encoder = p["encoder"]["encoder"]
    table = encoder["word"]["table"].at[0].add(3 * jnp.cos(jnp.arange(16.0)))
    other = {**p, "encoder": {**p["encoder"], "encoder": {**encoder, "word": {"table": table}}}}
    np.testing.assert_allclose(call(other, wide)[0], found, atol=1e-5)
