"""Reachability of empty edges and the link of expanded ones, on plans made by hand, in float64; how the head is trained."""
import functools
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))
import tiny  # noqa: E402
from float64 import dense, gelu, mlp  # noqa: E402

from hjepa_gfn.objectives.between import between_loss  # noqa: E402
from hjepa_gfn.objectives.grounding import Ground, ground_terms  # noqa: E402
from hjepa_gfn.objectives.reachability import last_of_segment, reach_loss  # noqa: E402
from hjepa_gfn.objectives.windows import encode_window, find_segments  # noqa: E402
from hjepa_gfn.plans.tree import Edge, Timeline, plan_of  # noqa: E402

SYSTEM = tiny.system(reach=5, level_link=True)
SPEC = SYSTEM.spec


@functools.cache
def params():
    shape = lambda *s: jnp.zeros(s, jnp.int32)
    return tiny.drawn(lambda: SYSTEM.jepa.init(
        jax.random.key(0), jnp.zeros((1, 3, 7, 7, 3), jnp.uint8), shape(1, 3), shape(1, 2), shape(1, 2),
        jnp.ones((1, 2)))["params"])


def in_float64(level):
    return jax.tree.map(lambda x: np.asarray(x, np.float64), params()[f"level_{level}"])


@functools.cache
def ground():
    rng = np.random.default_rng(1)
    draw = lambda *s: rng.normal(size=s).astype(np.float32)
    return Ground((draw(1, 6), draw(1, 6)), (draw(3, 6), draw(9, 6)), (draw(9, 2),))


def steps(*parts):
    """A sub-plan of (action, state after it), the last without a state."""
    return Timeline(tuple(Edge(a) for a, _ in parts), tuple(s for _, s in parts[:-1]))


PLANS = {
    # s_0 -[steps]-> leg state 2 -> leg state 0 -> open end
    "spelled out": Timeline((Edge(4, steps((1, 7), (0, 3), (2, None))), Edge(), Edge(5)), (2, 0)),
    "one step": Timeline((Edge(None, steps((2, None))), Edge(1)), (1,)),
    "a gap": Timeline((Edge(4, steps((1, 7), (None, 3), (2, None))), Edge(3)), (2,)),
    "last step open": Timeline((Edge(4, steps((1, 7), (None, None))), Edge(1)), (2,)),
    "open end": Timeline((Edge(4, steps((1, 7), (0, None))),), ()),
    "later leg": Timeline((Edge(4), Edge(2, steps((0, 5), (1, None)))), (2,)),
    "later leg with an end": Timeline((Edge(4), Edge(2, steps((0, 5), (1, None))), Edge(0)), (2, 1)),
    "one step of a later leg": Timeline((Edge(4), Edge(2, steps((1, None))), Edge(0)), (2, 1)),
}


def expected_link(legs, begins_at_s_0, end):
    """|E_2(states after each step, the last predicted) - leg state|^2 / Z; legs: [(action, code after it or None)]."""
    one, two, g = in_float64(1), in_float64(2), jax.tree.map(np.float64, ground())
    states = [g.tables[1][code] for _, code in legs[:-1]]
    before = states[-1] if states else g.start[1][0]
    assert states or begins_at_s_0
    embedded = one["action_embed"]["table"][legs[-1][0]]
    states.append(before + mlp(one["dynamics"]["predictor"], np.concatenate([before, embedded])))
    h = np.mean([gelu(dense(two["segment_in"], s)) for s in states], 0)
    return np.mean((mlp(two["encoder"], h) - g.tables[0][end]) ** 2)


def missed(level, left, right):
    return np.log1p(np.exp(-mlp(in_float64(level)["dynamics"]["reachable"], np.concatenate([left, right]))[0]))


def test_reachability_and_link_on_plans_made_by_hand():
    made = [plan_of(tree, SPEC) for tree in PLANS.values()]
    plans, given = jax.tree.map(lambda *x: np.stack(x)[None], *made), jax.tree.map(jnp.asarray, ground())
    some = lambda p: ground_terms(SYSTEM, {"jepa": p}, jax.tree.map(jnp.asarray, plans), given)
    terms, zero = jax.jit(lambda p: (some(p), jax.grad(lambda q: sum(t.sum() for t in some(q)))(p)))(params())
    assert not any(np.asarray(leaf).any() for leaf in jax.tree.leaves(zero)), "the JEPA learns from percepts only"
    assert len(terms) == 5 and all(term.shape == (1, len(PLANS)) for term in terms)
    found = dict(zip(PLANS, np.asarray(jnp.stack(terms))[:, 0].T))
    g = jax.tree.map(np.float64, ground())
    legs, states = g.tables
    empty = {  # (scale 0, scale 1): the empty edges between two states of one scale
        "spelled out": (missed(2, legs[2], legs[0]), 0), "one step": (missed(2, g.start[0][0], legs[1]), 0),
        "a gap": (0, missed(1, states[7], states[3]))}
    link = {"spelled out": expected_link([(1, 7), (0, 3), (2, None)], True, 2), "one step": expected_link([(2, None)], True, 1),
            "later leg with an end": expected_link([(0, 5), (1, None)], False, 1)}
    for name, values in found.items():
        np.testing.assert_allclose(values[2:4], empty.get(name, (0, 0)), rtol=1e-4, atol=1e-6, err_msg=name)
        np.testing.assert_allclose(values[4], link.get(name, 0), rtol=1e-4, atol=1e-6, err_msg=name)


def test_the_energy_has_a_weight_for_each_term():
    for changes, weights in (({}, 2), ({"reach": 5}, 4), ({"level_link": True}, 3), ({"reach": 5, "level_link": True}, 5)):
        sizes = tiny.system(**changes).network.sizes
        assert tiny.system(**changes).spec.num_scales + sizes.more_ground == weights


LEGS = [[3, 2, 1], [1], [], [2, 2, 3], [1] * 7]


@functools.cache
def legs_of():
    return jax.jit(lambda w: find_segments(SYSTEM, w)[0])(tiny.window(LEGS))


def test_the_last_unit_of_each_units_segment():
    legs = legs_of()
    last, counted = last_of_segment(legs.step, legs)
    assert last[0, :6].tolist() == [2, 2, 2, 4, 4, 5] and last[3].tolist() == [1, 1, 3, 3, 6, 6, 6]
    # legs past the third are dropped: nothing is known of where they end
    assert counted.sum(1).tolist() == [6, 1, 0, 7, 3]
    last, counted = last_of_segment(legs.valid, None)
    assert last[:, 0].tolist() == [2, 0, -1, 2, 2] and counted.tolist() == legs.valid.tolist()


def test_the_head_is_trained_by_contrast_with_other_rows():
    legs = legs_of()
    rng, key = np.random.default_rng(2), jax.random.key(9)
    z, decoded = (jnp.asarray(rng.normal(size=(5, 8, 6)), jnp.float32) for _ in range(2))
    call = lambda p, z, decoded: reach_loss(SYSTEM, {"jepa": p}, key, z, decoded, legs.step, legs, 1)
    (loss, metrics), grads = jax.jit(jax.value_and_grad(call, (0, 1, 2), has_aux=True))(params(), z, decoded)
    last, counted = map(np.asarray, last_of_segment(legs.step, legs))
    u = np.asarray(jax.random.uniform(key, counted.shape))
    head = in_float64(1)["dynamics"]["reachable"]
    seen = np.concatenate([z[:, :1], decoded[:, 1:]], 1).astype(np.float64)
    logit = lambda b, t, after: mlp(head, np.concatenate([seen[b, t], after]))[0]
    later = {(b, t): t + 1 + int(u[b, t] * (last[b, t] - t + 1)) for b, t in zip(*np.nonzero(counted))}
    assert all(t < after <= last[b, t] + 1 for (b, t), after in later.items()) and len(set(later.values())) > 4
    hits = [logit(b, t, seen[b, after]) for (b, t), after in later.items()]
    misses = [[logit(b, t, seen[(b - k) % 5, later[(b - k) % 5, t]]) for b, t in later if ((b - k) % 5, t) in later]
              for k in range(1, 5)]
    soft = lambda x: np.mean(np.log1p(np.exp(x)))
    np.testing.assert_allclose(loss, soft(-np.array(hits)) + np.mean([soft(np.array(m)) for m in misses]), rtol=1e-4)
    right = (np.mean(np.array(hits) > 0) + np.mean([np.mean(np.array(m) < 0) for m in misses])) / 2
    np.testing.assert_allclose(metrics["reach_accuracy"], right, rtol=1e-5)
    taught = {jax.tree_util.keystr(path) for path, g in jax.tree_util.tree_leaves_with_path(grads[0]) if np.asarray(g).any()}
    assert taught and all("['level_1']['dynamics']['reachable']" in name for name in taught)
    assert not np.asarray(grads[1]).any() and not np.asarray(grads[2]).any()


def test_between_levels_the_lower_encoder_learns_from_the_upper_prediction():
    window = tiny.window(LEGS, seed=6)

    @jax.jit
    def run(p):
        segments = find_segments(SYSTEM, window)
        levels = encode_window(SYSTEM, {"jepa": p}, window, segments)
        loss = lambda q: between_loss({"jepa": q}, window, SYSTEM)
        return jax.value_and_grad(loss, has_aux=True)(p), levels, segments[0].valid

    ((loss, metrics), grads), levels, valid = jax.tree.map(np.asarray, run(params()))
    p = in_float64(2)["dynamics"]["predictor"]
    z, macro = levels.z[1].astype(np.float64), levels.macro[0]
    step = lambda b, k: z[b, k] + mlp(p, np.concatenate([z[b, k], macro[b, k]])) - z[b, k + 1]
    np.testing.assert_allclose(loss, np.mean([np.mean(step(b, k) ** 2) for b, k in zip(*np.nonzero(valid))]), rtol=1e-4)
    assert set(metrics) == {"subgoal_between"}
    size = {f"{level[-1]}/{name}": max(np.abs(g).max() for g in jax.tree.leaves(tree))
            for level, parts in grads.items() for name, tree in parts.items()}
    assert size.pop("1/encoder") > 1e-4 and not any(size.values())
