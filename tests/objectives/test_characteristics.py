"""Characteristics of sub-plans: what is measured, the loss against numpy, what learns, and that the head can learn."""
import dataclasses
import functools
import sys
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parent)]
import test_actors  # noqa: E402
import tiny  # noqa: E402

from hjepa_gfn.errors import UserError  # noqa: E402
from hjepa_gfn.models.context import Target  # noqa: E402
from hjepa_gfn.objectives import characteristics as chars  # noqa: E402
from hjepa_gfn.objectives.energy import energy_of, make_ground  # noqa: E402
from hjepa_gfn.objectives.grounding import level_link  # noqa: E402
from hjepa_gfn.objectives.groups import GROUPS, actor_view, merge_groups  # noqa: E402
from hjepa_gfn.objectives.seeds import Made, begin_from, first_leaf  # noqa: E402
from hjepa_gfn.objectives.system import init_characteristics, init_params, make_system  # noqa: E402
from hjepa_gfn.objectives.windows import encode_start  # noqa: E402
from hjepa_gfn.plans import parse_plan, tree_edits  # noqa: E402
from hjepa_gfn.plans.enumeration import enumerate_plans  # noqa: E402

ROWS = 6
FIELDS = ("risk", "length", "success", "effort")


def system(kind, actors=test_actors.TWO):
    model = SimpleNamespace(**{**tiny.MODEL, "levels": tiny.CLAUSES, "actors": actors, "characteristics": kind})
    return make_system(model, tiny.WORDS, tiny.TEXT, tiny.ACTIONS)


@functools.cache
def params():
    return tiny.drawn(lambda: init_params(system("learned"), jax.random.key(0), tiny.MISSION))


def test_a_kind_needs_a_hierarchy_and_a_name_that_is_known():
    for kind, actors in (("risk", ()), ("length", test_actors.TWO)):
        with pytest.raises(UserError, match=f"model.characteristics='{kind}': must be one of risk, learned"):
            system(kind, actors)


def test_they_are_a_group_of_their_own_of_each_pair_and_no_part_of_the_network():
    assert set(params()["characteristics"]) == {"lower"} and set(merge_groups(params())) == set(GROUPS)
    assert dataclasses.replace(system("risk"), characteristics="") == system("") == test_actors.system()


SUB_PLANS = {  # of the lower actor (3 and 9 state codes, 9 and 3 actions): from a seed with action 2, or from a plain root
    "s0 -[2]{ . -[0]-> 3 -[1]-> . }-> sT": True,                           # whole
    "s0 -[2]{ . -[0]-> 3 -[_]-> . }-> sT": True,                           # leaves a gap
    "s0 -[2]-> sT": True,                                                  # the seed itself
    "s0 -[_]{ . -[0]-> . }-> 1 -[_]{ . -[2]-> 4 -[0]-> . }-> sT": False,   # whole at the end
    "s0 -[_]{ . -[0]-> 4 -[2]-> . }-> 1 -[_]-> sT": False,                 # not at the end
    "s0 -[2]{ . -[1]-> 3 -[1]-> . }-> sT": True,                           # to a state of a level that says nothing of it
}


@functools.cache
def measured():
    lower = system("learned").lower[0]
    plans = jax.tree.map(lambda *x: jnp.stack(x), *(parse_plan(text, lower.spec) for text in SUB_PLANS))
    given = jnp.asarray(list(SUB_PLANS.values()))
    plans = plans._replace(num_edits=tree_edits(plans) - given)
    seed = parse_plan("s0 -[2]-> sT", lower.spec)
    root = jax.tree.map(lambda x: jnp.broadcast_to(x, (ROWS, *x.shape)), seed)
    root = root._replace(action=jnp.where(given[:, None, None], root.action, 0), num_edits=jnp.zeros(ROWS, jnp.int32))
    target = Target(jnp.asarray(np.random.default_rng(0).normal(size=(ROWS, 6)), jnp.float32),
                    jnp.asarray([2, 2, 2, 2, 2, 3], jnp.int32))

    @jax.jit
    def run(p):
        start = encode_start(lower, p, tiny.percepts(ROWS))
        view = actor_view(p, "lower")
        context = lower.net(view, tiny.percepts(ROWS), start[0], tiny.words(ROWS, tiny.MISSION), target, method="context")
        made = Made(plans, root, target, context)
        ground = make_ground(lower, view, *start, target=target)
        one, seeds = (jax.tree.map(lambda x: x[:, None], z) for z in (plans, root))
        features = lower.net(view, one, context, None, method="features")
        log_stop = lower.net(view, lower.net(view, seeds, context, None, method="features"), seeds, 0, method="edits").log_stop
        parts = (energy_of(lower, view, one, context, ground), energy_of(lower, view, seeds, context, ground), log_stop,
                 level_link(lower, view, one, ground, 0), features)
        return chars.measure(lower, p, start, made), jax.tree.map(lambda x: x[:, 0], parts)

    return plans, jax.tree.map(np.asarray, run(params()))


def test_what_is_measured_of_sub_plans_made_by_hand():
    plans, (found, (energy, of_seed, log_stop, link, features)) = measured()
    values = dict(zip(FIELDS, found.values.T.astype(np.float64), strict=True))
    edits = np.array([4, 3, 0, 7, 5, 4])
    np.testing.assert_array_equal(plans.num_edits, edits)
    risk = (energy.astype(np.float64) - of_seed - log_stop) / (edits + 1)
    np.testing.assert_allclose(values["risk"], risk, rtol=1e-3, atol=1e-4)
    assert values["risk"][2] == pytest.approx(-log_stop[2], rel=1e-3), "of the seed: it only has to stop"
    np.testing.assert_allclose(values["length"], np.log1p(edits), rtol=1e-5)
    np.testing.assert_allclose(values["effort"], np.log1p([2, 1, 0, 3, 2, 2]), rtol=1e-5)
    # of the first, its whole link; of the others that end in the target, the last edge's
    assert values["success"][0] == pytest.approx(np.exp(-link[0]), rel=1e-4) and 0 < values["success"][0] < 1
    assert values["success"][1] == values["success"][2] == values["success"][4] == 0.0 < values["success"][3]
    assert values["success"][3] > np.exp(-link[3]), "the first of its two edges is not what leads to the target"
    np.testing.assert_array_equal(found.known, np.array([[1, 1, 1, 1]] * 5 + [[1, 1, 0, 1]], bool))
    valid = np.asarray(plans.valid)
    mean = [features[b][valid[b]].mean(0) for b in range(ROWS)]
    np.testing.assert_allclose(found.features, mean, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", ["risk", "learned"])
def test_the_pair_loss_is_that_of_numpy_and_predictions_do_not_move_what_they_are_held_against(kind):
    one, rng = system(kind), np.random.default_rng(3)
    width, lower = one.network.sizes.width, one.lower[0]
    p = tiny.drawn(lambda: init_characteristics(one, jax.random.key(0)))
    values, known = rng.normal(size=(5, 4)).astype(np.float32), rng.random((5, 4)) < 0.7
    known[:, 3] = False
    hidden, features = rng.normal(size=(2, 5, width)).astype(np.float32)
    scale = np.array([0, 1, 1, 0, 1])

    def loss(own):
        every = {"characteristics": own}
        predicted = one.describe(every, lower, hidden, scale, method="predict")
        return chars.pair_loss(one, every, lower, predicted, chars.Measured(values, known, features))

    (found, metrics), grad = jax.jit(jax.value_and_grad(loss, has_aux=True))(p)
    own = jax.tree.map(lambda x: np.asarray(x, np.float64), p["lower"])
    gelu = lambda x: 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))  # noqa: E731
    dense = lambda layer, x: x @ layer["kernel"] + layer["bias"]  # noqa: E731
    mlp = lambda net, x: dense(net["out"], gelu(dense(net["hidden_0"], x)))  # noqa: E731
    predicted = mlp(own["predictor"], np.concatenate([hidden, np.eye(2)[scale]], 1).astype(np.float64))
    if kind == "risk":
        expected, told = np.mean((predicted[:, 0] - values[:, 0]) ** 2), 0.0
    else:
        true = mlp(own["compressor"], features.astype(np.float64))
        error = (dense(own["decoder"], true) - values) ** 2
        told = np.mean([error[known[:, j], j].mean() if known[:, j].any() else 0.0 for j in range(4)])
        expected = told + np.mean((predicted - true) ** 2)
        decoded = dense(own["decoder"], predicted)[:, 0]
        assert float(metrics["risk_error"]) == pytest.approx(np.mean((decoded - values[:, 0]) ** 2), rel=1e-4)
    assert float(found) == pytest.approx(expected, rel=1e-4) and float(metrics["compressed"]) == pytest.approx(told, rel=1e-4)
    assert float(metrics["risk_variance"]) == pytest.approx(values[:, 0].var(), rel=1e-4)
    if kind == "learned":  # the compressor learns from what it is to tell only: not to be easily foreseen
        def reads(own):
            describe = lambda x, method: one.describe({"characteristics": own}, lower, *x, method=method)  # noqa: E731
            error = (describe((describe((features, values), "compress"),), "decode") - values) ** 2
            return jnp.mean(jnp.where(known, error, 0.0).sum(0) / np.maximum(known.sum(0), 1))

        alone = jax.jit(jax.grad(reads))(p)["lower"]
        for name in ("compressor", "decoder"):
            jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), grad["lower"][name], alone[name])


def test_the_loss_is_of_plans_made_from_the_first_leaf_down_and_moves_its_group_only(monkeypatch):
    one, key, make = system("learned"), jax.random.key(2), chars.make
    upper, lower = one.actors
    p = params()
    for group in ("policy", "policy@lower"):  # plans of some length
        late = {**p[group]["prior_stop"], "bias": p[group]["prior_stop"]["bias"] - 4.0}
        p = {**p, group: {**p[group], "prior_stop": late}}
    seen = []

    def spy(*args):
        seen.append((args[5:], make(*args)))
        return seen[-1][1]

    monkeypatch.setattr(chars, "make", spy)

    @jax.jit
    def run(p):
        seen.clear()
        found = jax.value_and_grad(chars.characteristics_loss, has_aux=True)(
            p, key, tiny.percepts(ROWS), tiny.words(ROWS, tiny.MISSION), one, 0.8)
        assert [args[1:] for args, _ in seen] == [(None, 0.8), (seen[0][1], 0.8)] and seen[0][1] is not seen[1][1]
        (_, first), (_, sub) = seen
        first, sub = jax.lax.stop_gradient((first, sub))
        features = upper.net(p, jax.tree.map(lambda x: x[:, None], first.plan), first.context, None, method="features")[:, 0]
        predicted = chars.foresee(one, p, lower, first.plan, features)
        start = encode_start(one, p, tiny.percepts(ROWS))
        root, target = begin_from(lower, actor_view(p, "lower"), first.plan, first_leaf(first.plan), None)
        return found, chars.pair_loss(one, p, lower, predicted, chars.measure(lower, p, start, sub)), sub, (root, target)

    ((loss, metrics), grads), (expected, told), sub, (root, target) = jax.device_get(run(p))
    assert loss == pytest.approx(expected, rel=1e-4) and metrics["lower_risk"] == pytest.approx(told["risk"], rel=1e-4)
    assert sub.plan.num_edits.max() > 2 and (sub.target.level > 0).any() and sub.root.action.any()
    jax.tree.map(np.testing.assert_array_equal, (sub.root, sub.target), (root, target))
    moved = {g for g, tree in grads.items() if any(np.abs(x).max() > 0 for x in jax.tree.leaves(tree))}
    assert moved == {"characteristics"}
    assert all(np.abs(x).max() > 0 for x in jax.tree.leaves(grads["characteristics"]))


def test_what_is_foreseen_is_a_function_of_the_tree_not_of_the_buffers_order():
    one = system("learned")
    upper, lower = one.actors
    plans = tiny.random_plans(upper.spec, jax.random.key(5), ROWS)
    slots = plans.valid.shape[1]
    order = np.stack([np.r_[0, 1 + np.random.default_rng(b).permutation(slots - 1)] for b in range(ROWS)])
    mixed = plans._replace(**{name: jnp.asarray(np.stack([np.asarray(x)[b, order[b]] for b in range(ROWS)]))
                              for name, x in plans._asdict().items() if name != "num_edits"})
    assert (np.asarray(mixed.position) != np.asarray(plans.position)).any()

    context = tiny.context(ROWS)

    @jax.jit
    def run(p, plan):
        features = upper.net(p, jax.tree.map(lambda x: x[:, None], plan), context, None, method="features")
        return chars.foresee(one, p, lower, plan, features[:, 0])

    a, b = run(params(), plans), run(params(), mixed)
    np.testing.assert_allclose(a, b, atol=2e-5)
    assert a.shape == (ROWS, 8) and np.asarray(a).std(0).min() > 1e-2, "it tells these plans apart"


def test_the_head_learns_a_planted_relation_on_all_plans_of_two_edits():
    """The risk of a sub-plan is planted: a number for each scale and action of the first leaf (of the finer scale, whether it
    has one: each stands in one plan only). Held out: every fifth plan."""
    one = system("risk")
    upper, lower = one.actors
    plans = jax.tree.map(jnp.asarray, enumerate_plans(dataclasses.replace(upper.spec, max_edits=2)).plans)
    scale, context = np.asarray(first_leaf(plans)), tiny.context(1)
    held = np.asarray(plans.action)[np.arange(len(scale)), 0, scale]
    values = np.zeros((len(scale), 4), np.float32)
    values[:, 0] = np.random.default_rng(0).normal(size=(2, 4))[scale, np.where(scale == 0, held, held > 0)]
    kept, tx = np.arange(len(scale)) % 5 > 0, optax.adam(1e-2)

    @jax.jit
    def learn(p, own):
        features = upper.net(p, jax.tree.map(lambda x: x[None], plans), context, None, method="features")[0]
        predict = lambda own: chars.foresee(one, {"characteristics": own}, lower, plans, features)

        def loss(own):
            told = chars.Measured(values[kept], jnp.ones((kept.sum(), 4), bool), features[kept, 0])
            return chars.pair_loss(one, {"characteristics": own}, lower, predict(own)[kept], told)[0]

        def step(carry, _):
            own, moments = carry
            value, grad = jax.value_and_grad(loss)(own)
            updates, moments = tx.update(grad, moments)
            return (optax.apply_updates(own, updates), moments), value

        (own, _), losses = jax.lax.scan(step, (own, tx.init(own)), None, length=400)
        return predict(own), losses

    predicted, losses = learn(params(), tiny.drawn(lambda: init_characteristics(one, jax.random.key(0))))
    left = ((np.asarray(predicted)[:, 0] - values[:, 0]) ** 2)[~kept].mean() / values[~kept, 0].var()
    assert (~kept).sum() > 20 and left < 0.2 and losses[-1] < 0.02 * losses[0], (left, losses[-1] / losses[0])
