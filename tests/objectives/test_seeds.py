"""Seeded actors: their observed plans, seeds and targets against the tree of a single actor's plan; the seed in the energy; and
the policy from a seed against enumeration."""
import dataclasses
import functools
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parent)]
import test_actors  # noqa: E402
import test_three_levels as three  # noqa: E402
import tiny  # noqa: E402

from hjepa_gfn.gflownet.exact import terminal_log_probs  # noqa: E402
from hjepa_gfn.models.agent_network import AgentNetwork  # noqa: E402
from hjepa_gfn.models.context import Target  # noqa: E402
from hjepa_gfn.objectives.grounding import level_link, make_ground, residual  # noqa: E402
from hjepa_gfn.objectives.policies import evaluate, log_prob_of_path, sample_paths, undo_at_random, vocabulary_index  # noqa: E402
from hjepa_gfn.objectives.seeds import begin_from, first_leaf, seeded  # noqa: E402
from hjepa_gfn.objectives.windows import Coded, plan_of_codes  # noqa: E402
from hjepa_gfn.plans import EXPAND, PlanSpec, parse_plan, root_plan, tree_edits  # noqa: E402
from hjepa_gfn.plans.enumeration import canonical_keys, enumerate_plans  # noqa: E402
from hjepa_gfn.plans.tree import EMPTY, ROOT, Edge, Timeline, timeline_of  # noqa: E402

UPPER, LOWER = test_actors.system().actors
KNOWN = [b for b, legs in enumerate(three.LEGS) if legs]
KINDS = {"acted": 0.9, "open": 0.4, "coarse": 0.1}  # a draw that falls to each, where half of the roots are plain (0.5)


@functools.cache
def params():
    return {"jepa": three.params()}


@functools.cache
def cases(kind):
    """The single actor's plans, the upper actor's, and the lower's of one kind; numpy leaves."""
    rng = np.random.default_rng(0)
    draw = lambda top, n: jnp.asarray(rng.integers(0, top, (len(three.LEGS), n)), jnp.int32)
    codes = tuple(draw(top, n) for top, n in ((9, 8), (3, 5), (9, 5)))
    coded = Coded(three.segments(1), codes, (three.window()["action"], draw(9, 4), draw(3, 4)), jnp.ones(len(three.LEGS), bool))

    def run(p):
        # the share that makes every row of the kind: plain / 2 <= draw < plain is open, below it coarse
        share = {"acted": 0.0, "open": 1.0, "coarse": 2.0}[kind]
        upper = plan_of_codes(UPPER, *coded[:3])
        if kind != "open":
            return upper, seeded(LOWER, p, coded, jax.random.key(0), share)
        whole = seeded(LOWER, p, coded, jax.random.key(0), 0.0)
        bare = whole.root._replace(action=jnp.zeros_like(whole.root.action))
        return upper, whole._replace(root=bare, plan=whole.plan._replace(num_edits=tree_edits(whole.plan)))

    one = plan_of_codes(three.SYSTEM, *coded[:3])
    return jax.device_get((one, *jax.jit(run)(params())))


def rows(plan):
    return [timeline_of(jax.tree.map(lambda x, b=b: x[b], plan)) for b in range(len(three.LEGS))]


@pytest.mark.parametrize("kind", KINDS)
def test_a_seeded_plan_is_what_the_single_actors_plan_has_below_its_first_edge(kind):
    one, upper, lower = cases(kind)
    tables = jax.device_get(jax.jit(lambda p: LOWER.level(p, method="tables")[0])(params()))
    for b, (tree, above, mine, root) in enumerate(zip(rows(one), rows(upper), rows(lower.plan), rows(lower.root))):
        if b not in KNOWN:
            assert tree == above == mine == root == ROOT
            continue
        clause, legs = tree.edges[0], tree.edges[0].inside
        first = legs.edges[0]
        plain = Timeline(tuple(Edge(edge.action) for edge in legs.edges), legs.states)
        assert above == Timeline((Edge(clause.action, plain), *tree.edges[1:]), tree.states), "legs, but no steps"
        assert mine == (legs if kind == "coarse" else Timeline((first,), ()))
        assert root == Timeline((Edge(first.action if kind == "acted" else None),), ())
        ends = [(3, tree.states)] if kind == "coarse" else [(2, legs.states), (3, tree.states)]
        level, code = next(((level, states[0]) for level, states in ends if states), (0, 0))
        assert int(lower.target.level[b]) == level
        expected = tables[level - 1][code] if level else np.zeros(tiny.MODEL["state"])
        np.testing.assert_allclose(lower.target.state[b], expected, rtol=1e-5)
    assert sorted(set(lower.target.level[KNOWN].tolist())) == ([0, 3] if kind == "coarse" else [2, 3])
    edits = np.asarray(jax.jit(tree_edits)(lower.plan))
    given = [kind == "acted" and b in KNOWN for b in range(len(edits))]
    assert lower.plan.num_edits.tolist() == (edits - given).tolist() and not lower.root.num_edits.any()


def test_the_share_of_plain_roots_is_drawn_half_open_half_coarse():
    one = three.window()
    many = np.zeros(60, int)  # one window, over and over
    codes = (jnp.zeros((60, 8), jnp.int32), jnp.ones((60, 5), jnp.int32), 2 * jnp.ones((60, 5), jnp.int32))
    segments = jax.tree.map(lambda x: x[many], three.segments(1))
    actions = (one["action"][many], jnp.ones((60, 4), jnp.int32), jnp.ones((60, 4), jnp.int32))
    found = jax.device_get(jax.jit(lambda p: seeded(
        LOWER, p, Coded(segments, codes, actions, jnp.ones(60, bool)), jax.random.key(3), 0.5))(params()))
    acted, coarse = found.root.action[:, 0, 0] > 0, found.target.level == 3
    assert 20 <= acted.sum() <= 40 and 7 <= coarse.sum() <= 23 and not (acted & coarse).any()
    assert (found.plan.valid.sum(1) > found.plan.valid[acted].sum(1).max())[coarse].all(), "several legs on a coarse edge"


@pytest.mark.parametrize("kind", KINDS)
def test_undoing_an_observed_plan_ends_in_its_root(kind):
    lower = cases(kind)[2]
    back = jax.device_get(jax.jit(lambda z: undo_at_random(LOWER.spec, jax.random.key(5), z))(lower.plan))
    assert back.length.tolist() == lower.plan.num_edits.tolist()
    assert rows(back.first) == rows(lower.root) and rows(back.final) == rows(lower.plan)


def test_the_first_leaf_decides_what_a_plan_begins_from():
    texts = {"s0 -[1]{ . -[4]-> 2 -[_]-> . }-> 7 -[_]-> sT": (1, 5, 2, 2), "s0 -[1]{ . -[_]-> . }-> 7 -[_]-> sT": (1, 0, 3, 7),
             "s0 -[1]-> 7 -[_]-> sT": (0, 0, 3, 7), "s0 -[_]-> sT": (0, 0, 1, 0), "s0 -[_]{ . -[3]-> . }-> sT": (1, 4, 1, 0)}
    plans = jax.tree.map(lambda *x: jnp.stack(x), *(parse_plan(text, UPPER.spec) for text in texts))
    outer = Target(jnp.full((len(texts), tiny.MODEL["state"]), 0.5), jnp.ones(len(texts), jnp.int32))
    run = jax.jit(lambda p, z: (
        first_leaf(z), begin_from(LOWER, p, z, first_leaf(z), outer), LOWER.level(p, method="tables")[0]))
    leaf, (root, target), tables = jax.device_get(run(params(), plans))
    for b, (scale, held, level, code) in enumerate(texts.values()):
        assert (leaf[b], root.action[b, 0, 0], target.level[b]) == (scale, held, level)
        expected = tables[level - 1][code] if level > 1 else outer.state[b]  # an open end is the upper plan's own target
        np.testing.assert_allclose(target.state[b], expected, rtol=1e-5)
        assert root.valid[b].tolist() == [True] + [False] * (LOWER.spec.capacity - 1) and not root.expanded[b].any()


def test_the_target_is_the_end_of_the_root_edge_for_the_energy():
    """Residual and level link of a plan with a target equal those of the same plan that spells the target out as a state."""
    inside = "{ . -[1]-> 3 -[2]-> . }"
    bare, spelled = (parse_plan(f"s0 -[4]{inside}-> {end}sT", LOWER.spec) for end in ("", "2 -[_]-> "))
    plans = jax.tree.map(lambda *x: jnp.stack(x)[:, None], bare, spelled, bare)
    start = tuple(jnp.asarray(np.random.default_rng(1).normal(size=(3, tiny.MODEL["state"])), jnp.float32) for _ in range(3))

    def terms(p):
        state = LOWER.level(p, method="tables")[0][1][jnp.array([2, 2, 2])]
        ground = make_ground(LOWER, p, *start, target=Target(state, jnp.array([2, 0, 3])))
        same = ground._replace(start=tuple(jnp.broadcast_to(z[:1], z.shape) for z in ground.start))
        return jnp.stack([residual(LOWER, p, plans, same, 0)[:, 0], level_link(LOWER, p, plans, same, 0)[:, 0]])

    found = np.asarray(jax.jit(terms)(params()))
    np.testing.assert_allclose(found[:, 0], found[:, 1], rtol=1e-5)
    assert (found[:, 0] > 1e-3).all() and not found[:, 2].any(), "a target of another level says nothing at this scale"


SMALL = PlanSpec(state_codes=(2, 2), action_codes=(2, 2), capacity=4, max_edits=3)


def test_a_policy_from_a_seed_is_a_distribution_over_the_plans_that_keep_it_and_paths_have_its_probability():
    sizes = dataclasses.replace(LOWER.network.sizes, layers=1)
    actor = dataclasses.replace(LOWER, spec=SMALL, network=AgentNetwork(SMALL, sizes))
    root = root_plan(SMALL)
    root = root._replace(action=root.action.at[0, 0].set(2))
    graph = enumerate_plans(SMALL, root)
    assert (graph.plans.action[:, 0, 0] == 2).all(), "the seed stays"
    percept, mission, state = tiny.percepts(1), tiny.words(1, tiny.MISSION), jnp.ones((1, tiny.MODEL["state"]))
    aims = [Target(state, jnp.array([level])) for level in (2, 0)]

    def init():
        plan = jax.tree.map(lambda x: x[None, None], root)
        made = actor.network.init(jax.random.key(0), percept, state, mission, plan, jnp.ones((1, tiny.TEXT), jnp.int32))
        return {"whole": made["params"]}

    p = tiny.drawn(init)

    @jax.jit
    def learned(p, aim):
        context = actor.net(p, percept, state, mission, aim, method="context")
        plans = jax.tree.map(lambda x: jnp.asarray(x)[None], graph.plans)
        features = actor.net(p, plans, context, method="features")
        logits = actor.net(p, features, plans, 0, method="edits")
        site = jnp.asarray(graph.site)[None]
        code = actor.net(p, features[:, graph.parent], site, 0, method="codes")[0]
        coded = code[np.arange(len(graph.site)), vocabulary_index(SMALL, graph.site, graph.code)]
        edge = logits.log_go[0, graph.parent] + logits.log_site[0, graph.parent, graph.site]
        begin = jax.tree.map(lambda x: jnp.broadcast_to(x, (8, *x.shape)), root)
        wide = jax.tree.map(lambda x: jnp.broadcast_to(x[0], (8, *x.shape[1:])), context)
        paths = sample_paths(actor, p, jax.random.key(1), begin, True, wide)
        path = evaluate(actor, p, paths, wide)
        return edge + jnp.where(graph.site % 3 == EXPAND, 0.0, coded), logits.log_stop[0], paths, log_prob_of_path(path, paths)

    totals = []
    for aim in aims:
        edge, log_stop, paths, log_prob = jax.device_get(learned(p, aim))
        totals.append(terminal_log_probs(graph.parent, graph.child, edge, log_stop))
        assert np.exp(totals[-1]).sum() == pytest.approx(1.0, abs=1e-4)
    assert np.abs(np.exp(totals[0]) - np.exp(totals[1])).sum() > 0.01, "the target is part of the condition"
    # the sampled paths, edge by edge: the tree after each is a node of the graph. Buffers differ between path and graph: of
    # edges between two trees, the one of the path is told by kind, scale and code
    node, per, checked = {key: i for i, key in enumerate(canonical_keys(graph.plans))}, 3 * SMALL.num_scales, 0
    for b in range(8):
        trees = [node[key] for key in canonical_keys(jax.tree.map(lambda x, b=b: x[b, : paths.length[b] + 1], paths.states))]
        assert trees[0] == 0, "paths begin in the seed"
        total = log_stop[trees[-1]]
        for t, (here, after) in enumerate(zip(trees[:-1], trees[1:])):
            site, code = paths.action.site[b, t], paths.action.code[b, t]
            same = np.flatnonzero((graph.parent == here) & (graph.child == after) & (graph.site % per == site % per)
                                  & ((graph.code == code) | (site % 3 == EXPAND)))
            assert len(same)
            total += edge[same[0]] if len(same) == 1 else np.nan  # of parallel edges alike in all of this, either may be meant
        if np.isfinite(total):
            checked += len(trees) > 1
            assert total == pytest.approx(log_prob[b], abs=1e-3)
    assert checked >= 3


def test_edges_of_the_first_window_are_no_roots():
    """Guards the checks above: the trees compared are not all alike."""
    trees = [t for b, t in enumerate(rows(cases("acted")[2].plan)) if b in KNOWN]
    assert len(set(map(str, trees))) == len(trees) and all(tree.edges[0] != EMPTY for tree in trees)
