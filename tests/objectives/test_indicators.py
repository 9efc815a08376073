"""Indicators against numpy, brute force and hand-made cases; the networks' step in tests/objectives/test_train_steps.py."""
import functools
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))
import tiny  # noqa: E402

from hjepa_gfn.models.indicators import Normal
from hjepa_gfn.objectives import indicators
from hjepa_gfn.objectives.energy import energy_of, make_ground, plan_energy
from hjepa_gfn.objectives.windows import encode_start
from hjepa_gfn.plans import edge_exists, root_plan, tree_edits

SYSTEM, ROWS = tiny.system(), 3


@functools.cache
def scene():
    """(params, context, ground, plans [B, 4]); among the plans is the root."""
    params, context = tiny.params(), tiny.context(ROWS)
    ground = jax.jit(lambda p: make_ground(SYSTEM, p, *encode_start(SYSTEM, p, tiny.percepts(ROWS))))(params)
    plans = tiny.random_plans(SYSTEM.spec, jax.random.key(3), 4 * ROWS)
    plans = jax.tree.map(lambda x: x.reshape(ROWS, 4, *x.shape[1:]), plans)
    root = root_plan(SYSTEM.spec, (ROWS,))
    return params, context, ground, jax.tree.map(lambda x, r: x.at[:, 0].set(r), plans, root)


@functools.cache
def measured():
    """Energies and log P_F(STOP) of the plans, [B, 4] in float64, and their risks: one program, for compiling takes long."""
    params, context, ground, plans = scene()

    @jax.jit
    def run(p):
        features = SYSTEM.net(p, plans, context, None, method="features")
        log_stop = SYSTEM.net(p, features, plans, 0, method="edits").log_stop
        one = jax.tree.map(lambda x: x[:, 2], plans)
        return (plan_energy(SYSTEM, p, plans, features, ground), log_stop,
                indicators.plan_risk(SYSTEM, p, plans, context, ground),
                indicators.action_risk(SYSTEM, p, one, context, ground))

    return jax.tree.map(lambda x: np.asarray(x, np.float64), run(params))


@functools.cache
def edges_of():
    params, _, ground, plans = scene()
    return jax.jit(lambda p: (indicators.edge_entropies(SYSTEM, p, plans, ground),
                              indicators.ambiguity(SYSTEM, p, plans, ground)))(params)


def test_plan_risk_is_energy_over_that_of_the_root_and_its_stop():
    energy, log_stop, (risk, each), _ = measured()
    log_z = -energy[:, :1] - log_stop[:, :1]
    np.testing.assert_allclose(risk, energy + log_z, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(risk[:, 0], -log_stop[:, 0], rtol=1e-4, atol=1e-4)  # of the root: it only has to stop
    count = np.asarray(tree_edits(scene()[3])) + 1
    assert count[:, 0].tolist() == [1] * ROWS and count.max() > 3
    np.testing.assert_allclose(each, risk / count, rtol=1e-5)


def test_action_risk_is_the_drop_of_log_p_when_that_edge_is_emptied():
    params, context, ground, plans = scene()
    one, found = jax.tree.map(lambda x: x[:, 2], plans), measured()[3]
    acted = np.argwhere(np.asarray(one.action) > 0)
    assert len(acted) > 3
    assert not found[np.asarray(one.action) == 0].any()
    chosen = [(b, n, d) for b, n, d in acted.tolist() if b == acted[0, 0]][:3]
    # the emptied plans side by side, with the network's own shapes: [B, 4]
    less = jax.tree.map(lambda x: jnp.stack([x] * 4, axis=1), one)
    for t, (b, n, d) in enumerate(chosen):
        less = less._replace(action=less.action.at[b, t, n, d].set(0))
    less = less._replace(num_edits=tree_edits(less))
    energy = np.asarray(jax.jit(lambda p: energy_of(SYSTEM, p, less, context, ground))(params))
    for t, (b, n, d) in enumerate(chosen):
        expected = measured()[0][b, 2] - energy[b, t]
        assert found[b, n, d] == pytest.approx(expected, rel=1e-3, abs=1e-4) and abs(expected) > 1e-4


def test_entropies_are_those_of_the_variance_heads_along_acted_edges():
    params, _, ground, plans = scene()
    edges, _ = edges_of()
    exists, action = np.asarray(edge_exists(plans)), np.asarray(plans.action)
    seen = {0: 0, 1: 0}
    for b, t, n, d in np.argwhere(exists & (action > 0)):
        tag, first = int(plans.tag[b, t, n]), int(plans.position[b, t, n]) == 0
        assert bool(edges.acted[b, t, n, d]) == (first or tag == d)
        if not (first or tag == d) or seen[d] >= 4:
            continue
        seen[d] += 1
        z = ground.start[d][b] if first else ground.tables[d][int(plans.code[b, t, n])]
        code = int(action[b, t, n, d]) - 1
        if d == 0:
            log_v = SYSTEM.level(params, z, ground.macro[code], method="log_variance", level=2)
        else:
            log_v = SYSTEM.level(params, z, jnp.int32(code), method="log_variance", level=1)
        log_v = np.clip(np.asarray(log_v, np.float64), -8, 4)
        expected = np.mean(0.5 * np.log(2 * np.pi * np.e * np.exp(log_v)))
        assert float(edges.computed[b, t, n, d]) == pytest.approx(expected, rel=1e-4, abs=1e-5)
    assert min(seen.values()) > 1
    assert not np.asarray(edges.computed)[~np.asarray(edges.acted)].any()
    assert not (np.asarray(edges.vague) & ((action > 0) | np.asarray(plans.expanded) | ~exists)).any()


def test_ambiguity_of_a_root_is_the_estimators_and_of_acted_plans_the_computed():
    params, _, ground, _ = scene()
    edges, found = edges_of()
    alone = SYSTEM.watch(params, ground.start[0], jnp.broadcast_to(jnp.eye(2)[0], (ROWS, 2)), method="ambiguity").mean
    np.testing.assert_allclose(found[:, 0], alone, rtol=1e-4, atol=1e-5)  # one empty edge, of the coarsest scale
    acted, vague = np.asarray(edges.acted).sum((2, 3)), np.asarray(edges.vague).sum((2, 3))
    whole = (acted > 0) & (vague == 0)
    mean = np.asarray(edges.computed, np.float64).sum((2, 3)) / np.maximum(acted, 1)
    np.testing.assert_allclose(np.asarray(found)[whole], mean[whole], rtol=1e-4)
    mixed = (acted > 0) & (vague > 0)
    assert mixed.any() and (np.abs(np.asarray(found) - mean)[mixed] > 1e-4).all(), "empty edges count by the estimator"


def test_affective_charge_by_hand():
    log_r = np.array([[0.0, -1.0, -3.0], [0.0, -1.0, -3.0], [0.0, -1.0, -3.0]])
    before = np.array([[0.0, 0.0, 0.0], [0.0, -1.0, -3.0], [5.0, 0.0, 0.0]])
    soft = lambda x: np.exp(x) / np.exp(x).sum(-1, keepdims=True)
    expected = ((soft(log_r) - soft(before)) * log_r).sum(-1)
    found = np.asarray(indicators.affective_charge(jnp.asarray(before, jnp.float32), jnp.asarray(log_r, jnp.float32)))
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert found[0] > 0.5 and abs(found[1]) < 1e-6 and found[2] < -0.1  # worth deliberating; nothing new; habit knew better


def test_percept_charge_is_the_difference_of_log_rewards_and_zero_where_nothing_was_expected():
    params, _, ground, plans = scene()
    percept, mission = tiny.percepts(ROWS), tiny.words(ROWS, tiny.MISSION)
    rest = jax.tree.map(lambda x: x[:, 1], plans)
    expected = jnp.array([0, 3, -1])

    @jax.jit
    def run(p):
        def log_reward(z1):
            z2 = SYSTEM.level(p, z1[:, None], jnp.ones((ROWS, 1)), method="encode_segment", level=2)
            context = SYSTEM.net(p, percept, z1, mission, method="context")
            one = jax.tree.map(lambda x: x[:, None], rest)
            return -energy_of(SYSTEM, p, one, context, make_ground(SYSTEM, p, z1, z2))[:, 0]

        from_expected = log_reward(ground.tables[1][jnp.maximum(expected, 0)])
        difference = log_reward(ground.start[1]) - from_expected
        return indicators.percept_charge(SYSTEM, p, rest, percept, mission, expected), difference

    found, difference = run(params)
    np.testing.assert_allclose(found[:2], difference[:2], rtol=1e-3, atol=1e-4)
    assert np.abs(found[:2]).max() > 1e-3 and float(found[2]) == 0.0 and abs(float(difference[2])) > 1e-4


def test_standardised_by_the_predicted_deviation():
    found = indicators.standardise(jnp.array([3.0, 3.0]), Normal(jnp.array([1.0, 5.0]), jnp.log(jnp.array([4.0, 0.25]))))
    np.testing.assert_allclose(found, [1.0, -4.0], rtol=1e-5)


def test_loss_agrees_with_the_indicators_of_the_same_plans_and_reaches_its_group_only():
    params = {**tiny.params(), "sampler": {}}
    percept, mission, key = tiny.percepts(ROWS), tiny.words(ROWS, tiny.MISSION), jax.random.key(5)

    @jax.jit
    def run(p):
        start = encode_start(SYSTEM, p, percept)
        context = SYSTEM.net(p, percept, start[0], mission, method="context")
        ground = make_ground(SYSTEM, p, *start)
        plan = indicators.sample_plans(SYSTEM, p, key, context)
        features = indicators.situation(SYSTEM, context, start)
        macro = ground.macro[jnp.maximum(plan.action[:, 0, 0] - 1, 0)]
        one = jax.tree.map(lambda x: x[:, None], plan)
        loss = lambda q: indicators.indicators_loss(q, key, percept, mission, SYSTEM)
        return jax.value_and_grad(loss, has_aux=True)(p), (
            indicators.plan_risk(SYSTEM, p, one, context, ground)[1][:, 0],
            indicators.subplan_risk(SYSTEM, p, plan, context, ground), indicators.has_subplan(plan),
            SYSTEM.watch(p, features, method="risk"), SYSTEM.watch(p, features, macro, method="subplan"))

    ((loss, metrics), grads), parts = run(params)
    risk, subplan, known, of_risk, of_subplan = jax.tree.map(lambda x: np.asarray(x, np.float64), parts)

    def nll(y, normal, weight):
        log_v = np.clip(normal.log_variance, -8, 4)
        return np.sum(weight * 0.5 * (log_v + (y - normal.mean) ** 2 / np.exp(log_v))) / max(weight.sum(), 1)

    assert float(metrics["risk_nll"]) == pytest.approx(nll(risk, of_risk, np.ones(ROWS)), rel=1e-3)
    assert float(metrics["subplan_nll"]) == pytest.approx(nll(subplan, of_subplan, known), rel=1e-3)
    assert float(loss) == pytest.approx(sum(float(metrics[n]) for n in ("risk_nll", "subplan_nll", "ambiguity_nll")), rel=1e-5)
    moved = {group for group, leaves in grads.items() if any(np.abs(x).max() > 0 for x in jax.tree.leaves(leaves))}
    assert moved == {"indicators"}
