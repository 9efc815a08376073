"""Optimisation mode: its moves against enumeration, and what an anytime trace must hold."""

import dataclasses
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))
import few  # noqa: E402
import tiny  # noqa: E402

from experiments.configs.babyai_gotolocal import get_config  # noqa: E402
from hjepa_gfn.agent.decision import draw_by_habit, encode  # noqa: E402
from hjepa_gfn.agent.modes import compiled, doubted, plan  # noqa: E402
from hjepa_gfn.agent.optimisation import Chains, Scene, advance, decide, optimise  # noqa: E402
from hjepa_gfn.agent.options import Optimise, changed, options_of  # noqa: E402
from hjepa_gfn.agent.reading import first_leg  # noqa: E402
from hjepa_gfn.errors import UserError  # noqa: E402
from hjepa_gfn.gflownet.exact import normalise  # noqa: E402
from hjepa_gfn.objectives.appending import appending  # noqa: E402
from hjepa_gfn.objectives.energy import energy_of, make_ground  # noqa: E402
from hjepa_gfn.objectives.text_moves import said  # noqa: E402
from hjepa_gfn.plans.enumeration import canonical_keys  # noqa: E402

CHAINS, MOVES = 2500, 3
PERCEPT, MISSION = tiny.percepts(1), tiny.words(1, tiny.MISSION)


def everything(system, params, plans):
    """E(z;c) [Z] and log p(x|z,c) [Z, X] of all plans and texts in the one situation."""
    context, start = encode(system, params, PERCEPT, MISSION)
    ground = make_ground(system, params, *start)
    number, texts = len(plans.num_edits), len(few.TEXTS)
    rows = jax.tree.map(lambda x: x[None], plans)
    energy = energy_of(system, params, rows, context, ground)[0]
    wide = jax.tree.map(lambda x: jnp.repeat(x, texts, axis=0)[None], plans)
    log_text = said(system, params, wide, context, jnp.tile(few.TEXTS, (number, 1))[None]).target.sum(-1)
    return energy, log_text.reshape(number, texts), context, ground


CASES = {
    "plans that only append": (Optimise(schedule="halving", mix=0.3, tau=0.6), True),
    "plans and texts": (Optimise(energy="plan_and_text", proposals="posterior", schedule="uniform", tau=0.7), False),
}


@pytest.mark.parametrize("case", CASES)
def test_moves_keep_the_exact_target_and_drift_towards_it(case):
    options, narrowed = CASES[case]
    told = options.energy == "plan_and_text"
    system, params, plans = few.small()
    energy, log_text, context, ground = jax.jit(lambda p, z: everything(system, p, z))(params, plans)
    total = np.asarray(energy)[:, None] - (np.asarray(log_text) if told else 0.0)
    p = np.exp(normalise(-total.ravel() / options.tau)[0])
    texts = total.shape[1]
    assert 0.1 < np.ptp(total) < 30
    rows = lambda x: jnp.repeat(x, CHAINS, axis=0)  # noqa: E731
    scene = Scene(system, params, jax.tree.map(rows, context), ground._replace(start=jax.tree.map(rows, ground.start)),
                  options, appending(few.SPEC) if narrowed else None)
    move = jax.jit(lambda key, chains, step: advance(scene, key, chains, step))
    number = {name: i for i, name in enumerate(canonical_keys(plans))}
    vague = np.asarray(jax.jit(lambda p, z: first_leg(system, p, z).count == 0)(params, plans))

    def after(where, seed):
        z, x = where // texts, where % texts
        chains = Chains(jax.tree.map(lambda leaf: leaf[z], plans), energy[z], few.TEXTS[x] if told else None,
                        log_text[z, x] if told else jnp.zeros(CHAINS), vague[z])
        moved, accepted, passes = move(jax.random.key(seed), chains, seed)
        z_new = np.array([number[name] for name in canonical_keys(moved.plan)])
        x_new = few.number_of(moved.text) if told else np.zeros(CHAINS, int)
        np.testing.assert_allclose(moved.energy, energy[z_new], atol=1e-4)
        np.testing.assert_array_equal(moved.vague, vague[z_new])
        if told:
            np.testing.assert_allclose(moved.log_text, log_text[z_new, x_new], atol=1e-4)
        assert (z_new[~np.asarray(accepted)] == z[~np.asarray(accepted)]).all() and passes.min() >= 4
        return z_new * texts + x_new

    rng = np.random.default_rng(0)
    start = where = rng.choice(len(p), CHAINS, p=p)
    for seed in range(MOVES):
        where = after(where, seed)
    count = lambda at: np.bincount(at, minlength=len(p))  # noqa: E731
    assert (where != start).mean() > 0.1
    assert few.far(count(where), p) < 5
    # fewer cells, sharper: the number of edits, which a wrong q(K|z) favours
    grade = np.repeat(np.asarray(plans.num_edits), texts)
    assert few.far(np.bincount(grade, count(where)), np.bincount(grade, p)) < 5
    even = drifted = rng.choice(len(p), CHAINS)
    for seed in range(50, 56):
        drifted = after(drifted, seed)
    assert few.far(count(drifted), p) < 0.9 * few.far(count(even), p)


OPTIONS = Optimise(chains=2, moves=80, patience=1, tau=1e-3, schedule="uniform")  # greedy: it comes to a halt
ROWS = 2


@pytest.fixture(scope="module")
def found():
    """A budget of all moves and one of 2 for the same decision, and what is acted on."""
    system, params = tiny.system(), tiny.params()
    run = jax.jit(lambda key, moves: optimise(
        system, params, key, tiny.percepts(ROWS), tiny.words(ROWS, tiny.MISSION), OPTIONS, 0.9, moves))
    long, short = (jax.tree.map(np.asarray, run(jax.random.key(3), moves)) for moves in (OPTIONS.moves, 2))
    act = jax.jit(lambda found, move, best: decide(system, params, found, move, best))
    return long, short, act


def test_a_smaller_budget_is_the_beginning_of_a_larger(found):
    long, short, _ = found
    assert long.moves > 2 == short.moves
    for whole, part in zip(jax.tree.leaves(long), jax.tree.leaves(short), strict=True):
        if whole.ndim:
            np.testing.assert_array_equal(whole[:3], part[:3])
    for leaf in jax.tree.leaves((short.chains, short.best, short.passes)):
        for later in leaf[3:]:
            np.testing.assert_array_equal(later, leaf[2])
    assert not short.accepted[3:].any() and long.accepted[3:].any() and not long.accepted[0].any()
    done = int(long.moves)
    assert (np.diff(long.passes, axis=0)[:done] >= 4 * OPTIONS.chains).all()


def test_the_best_plan_is_the_least_met_so_far(found):
    long, _, act = found
    score = np.asarray(long.chains.total + 1e6 * long.chains.vague)
    best = np.asarray(long.best.total + 1e6 * long.best.vague)
    np.testing.assert_allclose(best, np.minimum.accumulate(score.min(-1), axis=0), rtol=1e-6)
    assert (best[-1] < best[0]).any()
    np.testing.assert_array_equal(act(long, 3, True).energy, long.best.energy[3])
    np.testing.assert_array_equal(act(long, 3, True).plan.code, long.best.plan.code[3])


def test_a_sample_is_the_state_of_the_first_chain_that_can_be_acted_on(found):
    long, _, act = found
    vague = np.ones(long.chains.vague.shape, bool)
    vague[::2, 0, 1] = vague[1::2, 0] = False  # situation 0: the second chain, the first one in turn; situation 1: none
    long = long._replace(chains=long.chains._replace(vague=vague))
    for move in range(4):
        decision = act(long, move, False)
        first = vague[move].argmin(-1)
        np.testing.assert_array_equal(decision.energy, long.chains.energy[move, np.arange(ROWS), first])
        np.testing.assert_array_equal(decision.plan.action, long.chains.plan.action[move, np.arange(ROWS), first])
        np.testing.assert_array_equal(decision.passes, long.passes[move])


def test_a_decision_tells_what_its_chains_met(found):
    _, short, act = found
    trace = act(short, 2, False).trace
    score = np.asarray(short.chains.total)
    assert trace.energy.shape == (ROWS, OPTIONS.moves + 1, OPTIONS.chains) and trace.moves.tolist() == [2] * ROWS
    for row in range(ROWS):
        np.testing.assert_array_equal(trace.energy[row], score[:, row])
        np.testing.assert_array_equal(trace.best[row], short.best.total[:, row])
        np.testing.assert_array_equal(trace.accepted[row], short.accepted[:, row])


def test_no_move_and_one_chain_is_planning(found):
    long, _, _ = found
    system, params = tiny.system(), tiny.params()
    seen = tiny.percepts(ROWS), tiny.words(ROWS, tiny.MISSION)
    planned = jax.jit(lambda key: plan(system, params, key, *seen, OPTIONS.chains, 0.9))(jax.random.key(3))
    np.testing.assert_allclose(planned.energies, long.chains.energy[0], atol=1e-5)
    np.testing.assert_array_equal(planned.plan.code, long.best.plan.code[0])
    np.testing.assert_array_equal(planned.passes, long.passes[0])


def test_no_move_and_a_draw_by_habit_is_planning_with_one():
    system, params = tiny.system(), tiny.params()
    seen = tiny.percepts(ROWS), tiny.words(ROWS, tiny.MISSION)
    options = Optimise(chains=6, moves=1, choose="habit")

    @jax.jit
    def run(key):
        found = optimise(system, params, key, *seen, options, 0.9, 0)
        context, _ = encode(system, params, *seen)
        return plan(system, params, key, *seen, 6, 0.9, "habit"), decide(system, params, found, 0, False, key), found, context

    differ = 0
    for seed in range(4):
        planned, decided, found, context = run(jax.random.key(seed))
        np.testing.assert_array_equal(planned.plan.action, decided.plan.action)
        np.testing.assert_allclose(planned.energy, decided.energy, atol=1e-5)
        differ += (np.asarray(planned.energy) != np.asarray(planned.energies[:, 0])).sum()
        log_habit = np.asarray(jax.nn.log_softmax(system.net(params, context, method="habit")))
        leg = first_leg(system, params, jax.tree.map(lambda x: x[0, :, 0], found.chains.plan))
        want = np.where(leg.count > 0, log_habit[np.arange(ROWS), np.asarray(leg.action[:, 0])], -np.log(tiny.ACTIONS))
        np.testing.assert_allclose(found.chains.habit[0, :, 0], want, rtol=1e-5)
    assert differ, "not always the first chain"


def test_the_habit_draws_in_proportion_to_its_probabilities_and_only_what_can_be_acted_on():
    share = np.array([0.5, 0.3, 0.2, 0.9])
    vague = np.array([False, False, False, True])
    many = lambda x: jnp.broadcast_to(jnp.asarray(x), (20000, 4))  # noqa: E731
    drawn = np.asarray(draw_by_habit(jax.random.key(0), many(np.log(share)), many(vague)))
    np.testing.assert_allclose(np.bincount(drawn, minlength=4) / 20000, [0.5, 0.3, 0.2, 0], atol=0.015)
    alone = np.asarray(draw_by_habit(jax.random.key(1), many(np.log(share)), many(np.ones(4, bool))))
    assert (np.bincount(alone, minlength=4) > 0).all(), "where there is nothing else"


def test_the_habit_doubts_what_it_would_hardly_do():
    system, params = tiny.system(), tiny.params()
    seen = tiny.percepts(ROWS), tiny.words(ROWS, tiny.MISSION)
    context, _ = encode(system, params, *seen)
    share = np.asarray(jax.nn.softmax(system.net(params, context, method="habit")))
    for action in range(tiny.ACTIONS):
        asked = jnp.full((ROWS,), action).at[0].set(-1)
        bar = float(np.median(share))
        want = (share[:, action] < bar) & (np.arange(ROWS) > 0)
        np.testing.assert_array_equal(doubted(system, params, *seen, asked, bar), want)


@pytest.mark.parametrize("changed, complaint", (
    (dict(choose="best"), "agent.choose=.best.: one of energy, habit"),
    (dict(veto=1.0), "agent.veto=1.0: must be a probability")))
def test_options_of_the_habit_s_say_that_mean_nothing_are_refused(changed, complaint):
    options = get_config().agent
    options.update(changed)
    with pytest.raises(UserError, match=complaint):
        compiled(tiny.system(), options)


def test_the_mode_stops_where_nothing_moves(found):
    """After a move that no chain of any situation took, no more is done and none is paid for."""
    long, _, _ = found
    accepted, done = np.asarray(long.accepted).any((1, 2)), int(long.moves)
    quiet = 1 + np.flatnonzero(~accepted[1:])[0]
    assert done == quiet < OPTIONS.moves
    for leaf in jax.tree.leaves((long.chains, long.best, long.passes)):
        assert (np.asarray(leaf[done:]) == np.asarray(leaf[done])).all()


def test_options():
    assert options_of({}) == Optimise() and options_of({"optimise": {"chains": 5}}).chains == 5
    for wrong in (dict(choose="worst"), dict(energy="text"), dict(proposals="posterior"), dict(schedule="x"), dict(chains=0),
                  dict(tau=0.0), dict(moves=-1), dict(elaborate=-1), dict(mix=2.0), dict(colour=1)):
        with pytest.raises(UserError, match=r"agent\.optimise"):
            options_of({"optimise": wrong})
    assert dataclasses.replace(Optimise(), energy="plan_and_text", proposals="posterior").proposals == "posterior"


def test_an_agent_can_act_with_other_options_and_says_which_there_are():
    options = get_config().agent
    before = options.to_dict()
    new = changed(options, ["plan_samples=4", "choose=energy", "veto=0", "optimise.moves=8", "controller=('a > 1: b -> c',)"])
    assert (new.plan_samples, new.choose, new.veto, new.optimise.moves) == (4, "energy", 0.0, 8)
    assert new.controller == ("a > 1: b -> c",) and isinstance(new.veto, float)
    assert options.to_dict() == before, "the agent's own config is left alone"
    for name in ("veto", "choose", "optimise"):  # as in older exports
        del options[name]
    old = changed(options, ["optimise.moves=8"])
    assert (old.veto, old.choose, Optimise(**old.optimise)) == (0.0, "energy", Optimise(moves=8))
    for change, complaint in (
        ("plan_sample=4", "no field 'plan_sample'; there are choose, .*optimise.moves"), ("optimise=4", "no field 'optimise'"),
        ("a.b.moves=4", "no field 'a.b.moves'"), ("plan_samples=many", "plan_samples is of type int, such as 2"),
        ("plan_samples=2.5", "plan_samples is of type int"), ("veto=", "veto is of type float")):
        with pytest.raises(UserError, match=f"--agent={change}: {complaint}"):
            changed(options, [change])
