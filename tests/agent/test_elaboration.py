"""Optimisation mode of several actors: what sub-plans turn out to be, in energies, in the acceptance and in what is done."""
import dataclasses
import functools
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[1] / "objectives")]
import test_actors  # noqa: E402
import tiny  # noqa: E402

from hjepa_gfn.agent import elaboration, optimisation  # noqa: E402
from hjepa_gfn.agent.decision import encode  # noqa: E402
from hjepa_gfn.agent.elaboration import edge_name, nothing_made, recall  # noqa: E402
from hjepa_gfn.agent.hierarchy import optimise_down, what_is_left  # noqa: E402
from hjepa_gfn.agent.optimisation import Chains, Scene, advance, rescore  # noqa: E402
from hjepa_gfn.agent.options import Optimise  # noqa: E402
from hjepa_gfn.agent.reading import first_leg  # noqa: E402
from hjepa_gfn.gflownet import mcmc  # noqa: E402
from hjepa_gfn.objectives import characteristics as chars  # noqa: E402
from hjepa_gfn.objectives.energy import make_ground, plan_energy  # noqa: E402
from hjepa_gfn.objectives.groups import actor_view  # noqa: E402
from hjepa_gfn.objectives.seeds import Made  # noqa: E402
from hjepa_gfn.objectives.system import init_characteristics  # noqa: E402
from hjepa_gfn.plans import parse_plan  # noqa: E402

SYSTEM = dataclasses.replace(test_actors.system(), characteristics="risk")
UPPER, LOWER = SYSTEM.actors
HELD = "s0 -[1]{ . -[4]-> 2 -[5]-> . }-> 7 -[_]-> sT"
BATCH, MOVES, WEIGHT = 3, 4, 3.0


@functools.cache
def own():
    """Random parameters of the group `characteristics` alone."""
    with jax.ensure_compile_time_eval():  # wherever it is called first
        return {"characteristics": tiny.drawn(lambda: init_characteristics(SYSTEM, jax.random.key(0)))}


def plans(*texts):
    return jax.tree.map(lambda *x: jnp.stack(x), *(parse_plan(text, UPPER.spec) for text in texts))


def remembered(text, risk):
    """A memory [1, 2] in which a sub-plan of the first leaf of the plan was made, of that risk; the other slot is free."""
    memory = nothing_made(SYSTEM, own(), 1, 2)
    return memory._replace(edge=memory.edge.at[:, 0].set(edge_name(LOWER, plans(text))), made=memory.made.at[:, 0].set(True),
                           embedding=memory.embedding.at[:, 0].set(risk))


def test_an_edge_goes_by_the_seed_that_it_gives():
    alike = ("s0 -[0]{ . -[4]-> 2 -[_]-> . }-> sT", HELD)                      # elsewhere and above anything may differ
    others = ("s0 -[1]{ . -[5]-> 2 -[5]-> . }-> 7 -[_]-> sT",                 # another action
              "s0 -[1]{ . -[4]-> 1 -[5]-> . }-> 7 -[_]-> sT",                 # to another state
              "s0 -[1]{ . -[4]-> . }-> 2 -[_]-> sT",                          # of that number, but of the scale above
              "s0 -[1]{ . -[4]-> . }-> sT", "s0 -[1]-> sT")                   # to the open end; nothing given
    every = plans(*alike, *others)

    @jax.jit
    def run():
        names = edge_name(LOWER, every)
        wide = jax.tree.map(lambda x: jnp.repeat(x, len(names), axis=0), remembered(HELD, 1.5))
        unused = wide._replace(made=jnp.zeros_like(wide.made), edge=wide.edge.at[:, 1].set(names))
        return *recall(wide, names), recall(unused, names)[1]

    slot, known, blank = run()
    assert known.tolist() == [True] * len(alike) + [False] * len(others)
    assert slot.embedding[:2, 0].tolist() == [1.5, 1.5]
    assert not blank.any(), "a free slot says nothing, whatever lies in it"


def test_a_true_embedding_changes_the_acceptance_as_computed_by_hand(monkeypatch):
    """The state has energy 3, of which w 0.5 are what was foreseen; the proposal has 4. With w = 2 a true risk of 1.5 makes 5
    of 3, one of 0.25 makes 2.5."""
    rows = 4000
    many = lambda x: jnp.repeat(x, rows, axis=0)  # noqa: E731
    state, other = (jax.tree.map(many, plans(text)) for text in (HELD, "s0 -[1]{ . -[5]-> . }-> sT"))
    full = lambda value: jnp.full(rows, value)  # noqa: E731
    chains = Chains(state, full(3.0), None, full(0.0), jnp.zeros(rows, bool), full(0.5))
    scene = Scene(SYSTEM, own(), None, None, Optimise(characteristics=2.0, tau=1.0))

    def propose(key, walker, state, schedule, step):
        zero = full(0.0)
        return other, mcmc.Move(*walker.log_reward(state, other), *[zero] * 6), jnp.zeros(rows, jnp.int32)

    monkeypatch.setattr(optimisation, "score", lambda scene, plan: (full(4.0), full(0.125)))
    monkeypatch.setattr(optimisation.mcmc, "propose", propose)

    @jax.jit
    def run(risk):
        memory = jax.tree.map(many, remembered(HELD, risk))
        scored, unknown = (rescore(scene, chains._replace(plan=plan), memory) for plan in (state, other))
        return scored.energy, unknown.energy, advance(scene, jax.random.key(0), scored, 0)

    for risk, before in ((0.5, 3.0), (1.5, 5.0), (0.25, 2.5)):
        energy, unknown, (moved, accepted, _) = run(risk)
        np.testing.assert_allclose(energy, before, rtol=1e-6)
        np.testing.assert_array_equal(unknown, 3.0)
        assert float(accepted.mean()) == pytest.approx(min(1.0, np.exp(before - 4.0)), abs=0.02)
        took = np.asarray(accepted)
        np.testing.assert_allclose(moved.energy, np.where(took, 4.0, before), rtol=1e-6)
        np.testing.assert_allclose(moved.risk, np.where(took, 0.125, risk), rtol=1e-6)


@functools.cache
def decided():
    """Decisions of 0 and of all moves where the first two situations hold a plan, and what they should have been made of."""
    options = Optimise(chains=2, moves=MOVES, patience=0, characteristics=WEIGHT, elaborate=2)
    held = (jax.tree.map(lambda x: jnp.repeat(x, BATCH, axis=0), plans(HELD)),)
    keep, seen = jnp.asarray([True, True, False]), (tiny.percepts(BATCH), tiny.words(BATCH, tiny.MISSION))

    @jax.jit
    def run(p, moves):
        decision, found = optimise_down(SYSTEM, p, jax.random.key(1), *seen, held, keep, options, 1.0, moves, True)
        context, start = encode(UPPER, p, *seen)
        ground = make_ground(UPPER, p, *start)
        last = jax.tree.map(lambda x: x[moves], found.chains)
        features = UPPER.net(p, last.plan, context, None, method="features")
        foreseen = chars.foresee(SYSTEM, p, LOWER, last.plan, features)[..., 0]
        energy = plan_energy(UPPER, p, last.plan, features, ground)
        names, made = edge_name(LOWER, last.plan), found.memory
        best = jax.tree.map(lambda x: x[moves], found.best)
        leg = first_leg(LOWER, actor_view(p, "lower"), jax.tree.map(lambda x: x[:, 0], made.plan))
        return (decision, found, what_is_left(held, keep)[0][0],
                (energy, foreseen, names, edge_name(LOWER, best.plan), best, leg))

    p = {**test_actors.params(), **own()}
    return [jax.device_get(run(p, np.int32(moves))) for moves in (0, MOVES)]


def test_without_moves_the_plan_that_is_held_is_gone_on_with_and_nothing_is_elaborated():
    (decision, found, left, (energy, foreseen, *_)), _ = decided()
    for name in ("code", "action", "expanded"):
        np.testing.assert_array_equal(getattr(decision.plan, name)[:2], getattr(left, name)[:2])
    assert not found.memory.made.any() and int(found.moves) == 0
    np.testing.assert_allclose(found.chains.energy[0], energy + WEIGHT * foreseen, rtol=1e-3, atol=1e-3)
    assert np.abs(foreseen).min() > 1e-3


def test_energies_are_of_the_plan_and_of_what_is_foreseen_or_true_of_its_edge():
    _, (decision, found, _, (energy, foreseen, names, of_best, best, leg)) = decided()
    memory = found.memory
    assert memory.made.all() and memory.made.shape == (BATCH, MOVES // 2)
    true = np.full(names.shape[:2], np.nan)
    for b, c, s in np.ndindex(*names.shape[:2], memory.made.shape[1]):
        if (names[b, c] == memory.edge[b, s]).all() and np.isnan(true[b, c]):
            true[b, c] = memory.embedding[b, s, 0]
    known = ~np.isnan(true)
    expected = energy + WEIGHT * np.where(known, true, foreseen)
    np.testing.assert_allclose(found.chains.energy[MOVES], expected, rtol=1e-3, atol=1e-3)
    assert known.any() and (np.abs(true - foreseen)[known] > 0.05).all()
    assert (best.energy <= found.chains.energy[MOVES].min(1) + 1e-5).all()
    np.testing.assert_array_equal(decision.energy, best.energy)
    np.testing.assert_array_equal(decision.held[0].code, best.plan.code)
    done = (of_best == memory.edge[:, 0]).all(-1)
    assert done.any(), "the best plan's sub-plan is the one that was made of it"
    for field in ("action", "count", "expected"):
        np.testing.assert_array_equal(getattr(decision.leg, field)[done], getattr(leg, field)[done])
    planned_anew = ~(of_best[:, None] == memory.edge).all(-1).any(-1)
    np.testing.assert_array_equal(decision.passes > found.passes[MOVES], planned_anew)
    assert (np.diff(found.passes[:, 0])[1::2] > 0).all() and found.memory.plan.num_edits.shape == (BATCH, 2)


def test_what_is_remembered_is_the_sub_plan_of_the_edge_and_what_it_measures(monkeypatch):
    top = plans(HELD, "s0 -[1]-> sT")
    sub = jax.tree.map(lambda *x: jnp.stack(x), *(parse_plan(text, LOWER.spec) for text in (
        "s0 -[4]{ . -[0]-> 3 -[1]-> . }-> sT", "s0 -[_]-> sT")))._replace(num_edits=jnp.asarray([4, 0]))
    risk = jnp.asarray([0.75, -2.0])
    asked = []
    monkeypatch.setattr(elaboration, "make", lambda *args: (asked.append(args), Made(sub, sub, None, None))[1])
    monkeypatch.setattr(elaboration, "measure", lambda lower, p, start, made: chars.Measured(
        jnp.stack([risk, risk + 1, risk + 1, risk + 1], 1), None, jnp.zeros((2, 16))))
    memory, passes = jax.jit(lambda: elaboration.elaborate(
        SYSTEM, own(), jax.random.key(4), {}, (), None, top, nothing_made(SYSTEM, own(), 2, 3), 1, 0.9))()
    assert asked[0][0] is LOWER and asked[0][6].plan is top and asked[0][6].target is None and asked[0][7] == 0.9
    assert memory.made.tolist() == [[False, True, False]] * 2
    np.testing.assert_array_equal(memory.embedding[:, 1, 0], risk)
    np.testing.assert_array_equal(memory.plan.action[:, 1], sub.action)
    np.testing.assert_array_equal(memory.edge[:, 1], [[5, 1, 2, 1], [0, 0, 0, 0]])
    assert passes.tolist() == [1 + 5 + 2, 1 + 1 + 2]
