"""Acting with several actors: when plans are gone on with or made anew, what each begins from, and what is executed."""
import functools
import sys
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[1] / "objectives")]
import test_actors  # noqa: E402
import tiny  # noqa: E402

from hjepa_gfn.agent import following, hierarchy, modes  # noqa: E402
from hjepa_gfn.agent.decision import Decision, draw_by_habit, encode  # noqa: E402
from hjepa_gfn.agent.hierarchy import plan_down, what_is_left  # noqa: E402
from hjepa_gfn.agent.reading import FirstLeg, first_leg  # noqa: E402
from hjepa_gfn.errors import UserError  # noqa: E402
from hjepa_gfn.objectives import seeds  # noqa: E402
from hjepa_gfn.objectives.groups import actor_view  # noqa: E402
from hjepa_gfn.plans import PlanSpec, parse_plan, print_plan, root_plan  # noqa: E402
from hjepa_gfn.worlds.protocol import Observation  # noqa: E402

SYSTEM = test_actors.system(share=True)
UPPER, LOWER = SYSTEM.actors
# a plan of the upper actor, and what is left of it when its first leaf edge was carried out (None: nothing)
LEFT = {
    "s0 -[1]{ . -[4]-> 2 -[5]-> . }-> 7 -[_]-> sT": "s0 -[_]{ . -[5]-> . }-> 7 -[_]-> sT",   # the next leg
    "s0 -[1]{ . -[4]-> . }-> 7 -[2]-> sT": "s0 -[2]-> sT",                                   # the next clause
    "s0 -[1]{ . -[4]-> . }-> 7 -[_]-> sT": None,                                             # only an empty edge
    "s0 -[_]{ . -[4]-> 2 -[_]-> . }-> sT": None, "s0 -[_]-> sT": None,
    "s0 -[_]{ . -[4]-> 2 -[_]-> . }-> 1 -[_]-> sT": "s0 -[_]{ . -[_]-> . }-> 1 -[_]-> sT",   # somehow to a known state
    "s0 -[1]-> 7 -[2]-> sT": None,                                                           # a part of the clause only
}


def plans(texts, spec=UPPER.spec):
    return jax.tree.map(lambda *x: jnp.stack(x), *(parse_plan(text, spec) for text in texts))


def shown(plan, b, spec=UPPER.spec):
    return print_plan(jax.tree.map(lambda x: np.asarray(x)[b], plan), spec)


def test_what_is_left_of_an_upper_plan():
    (rest,), (goes_on,) = jax.jit(what_is_left)((plans(LEFT),), jnp.ones(len(LEFT), bool))
    for b, after in enumerate(LEFT.values()):
        assert bool(goes_on[b]) == (after is not None)
        if after:
            assert shown(rest, b) == after
    assert not np.asarray(jax.jit(what_is_left)((plans(LEFT),), jnp.zeros(len(LEFT), bool))[1][0]).any()


def test_three_actors_go_on_from_the_lowest_that_has_something_left():
    top = PlanSpec((4, 9), (3, 3), 6, 12)
    above = plans(["s0 -[1]{ . -[2]-> 3 -[1]-> . }-> sT"] * 3, top)
    middle = plans(["s0 -[1]{ . -[4]-> 2 -[5]-> . }-> sT", "s0 -[1]{ . -[4]-> . }-> sT", "s0 -[_]-> sT"])
    rest, goes_on = jax.jit(what_is_left)((above, middle), jnp.asarray([True, True, False]))
    assert [g.tolist() for g in goes_on] == [[True, True, False], [True, False, False]]
    assert shown(rest[0], 0, top) == "s0 -[1]{ . -[2]-> 3 -[1]-> . }-> sT", "nothing of it was used up"
    assert shown(rest[0], 1, top) == "s0 -[_]{ . -[1]-> . }-> sT"
    assert shown(rest[1], 0) == "s0 -[_]{ . -[5]-> . }-> sT"


@functools.cache
def decided():
    """A decision in six situations: three go on with plans whose rest is known, three plan anew."""
    texts = [*[text for text, after in LEFT.items() if after], "s0 -[1]-> 7 -[2]-> sT", "s0 -[_]-> sT",
             "s0 -[1]{ . -[4]-> 2 -[5]-> . }-> 7 -[_]-> sT"]
    keep = jnp.asarray([True, True, True, True, False, False])
    seen = []

    def spy(actor, params, key, context, text, explore, start):
        made = sample(actor, params, key, context, text, explore, start=start)
        seen.append((start, made))
        return made

    sample, seeds.sample_plans = seeds.sample_plans, spy
    try:
        def run(p, key, percept, mission, held):
            seen.clear()
            decision = plan_down(SYSTEM, p, key, percept, mission, held, keep, 1.0)
            return decision, list(seen), first_leg(LOWER, p, seen[1][1])

        inputs = test_actors.params(True), jax.random.key(0), tiny.percepts(6), tiny.words(6, tiny.MISSION), (plans(texts),)
        return texts, jax.device_get(jax.jit(run)(*inputs))
    finally:
        seeds.sample_plans = sample


def test_the_lower_actor_plans_from_the_first_leaf_of_the_upper_plan_and_its_steps_are_executed():
    texts, (decision, ((_, upper), (root, lower)), leg) = decided()
    held = decision.held[0]
    for b in range(6):
        if b < 3:
            assert shown(held, b) == LEFT[texts[b]]
        else:
            assert shown(held, b) == shown(upper, b)
    assert root.action[:3, 0, 0].tolist() == [6, 0, 0], "the leg's action; none of a clause's edge, or of an empty one"
    np.testing.assert_array_equal(lower.action[:, 0, 0][root.action[:, 0, 0] > 0], root.action[root.action > 0])
    jax.tree.map(np.testing.assert_array_equal, decision.plan, held)
    jax.tree.map(np.testing.assert_array_equal, decision.leg, leg)
    sampled = np.asarray([0, 0, 0, 1, 1, 1])
    built = 1 + np.minimum(lower.num_edits + 1, LOWER.spec.max_edits)
    built += sampled * (1 + np.minimum(upper.num_edits + 1, UPPER.spec.max_edits))
    np.testing.assert_array_equal(decision.passes, 1 + built)
    assert np.isfinite(decision.energy).all() and decision.energy.shape == (6,)


@functools.cache
def several(choose_by):
    """(decision, all of which it is chosen, log habit [2, A]) of five plans each in two situations; the first goes on with what
    it holds."""
    seen = []

    def spy(*inputs):
        seen.append(inner(*inputs))
        return seen[-1]

    inner, hierarchy.one_of_each = hierarchy.one_of_each, spy
    try:
        def run(p, key, percept, mission, held):
            seen.clear()
            decision = plan_down(SYSTEM, p, key, percept, mission, held, jnp.asarray([True, False]), 1.0, 5, choose_by)
            view = actor_view(p, SYSTEM.name)
            context, _ = encode(SYSTEM, view, percept, mission)
            return decision, seen[0], jax.nn.log_softmax(SYSTEM.net(view, context, method="habit"))

        held = plans(["s0 -[1]{ . -[4]-> 2 -[5]-> . }-> 7 -[_]-> sT"] * 2)
        inputs = test_actors.params(True), jax.random.key(0), tiny.percepts(2), tiny.words(2, tiny.MISSION), (held,)
        return jax.device_get(jax.jit(run)(*inputs))
    finally:
        hierarchy.one_of_each = inner


@pytest.mark.parametrize("choose_by", ["energy", "habit"])
def test_of_several_plans_of_all_actors_one_is_acted_on(choose_by):
    decision, made, log_habit = several(choose_by)
    energy, count = made.energy.reshape(2, 5), made.leg.count.reshape(2, 5)
    np.testing.assert_array_equal(decision.energies, energy)
    assert [shown(made.held[0], b) for b in range(5)] == [LEFT["s0 -[1]{ . -[4]-> 2 -[5]-> . }-> 7 -[_]-> sT"]] * 5
    assert len({tuple(row) for row in made.leg.action[5:].tolist()}) > 1, "each sample is its own"
    if choose_by == "energy":
        best = np.argmin(np.where(count > 0, energy, np.inf), axis=1)
    else:
        first = np.where(count > 0, made.leg.action[:, 0].reshape(2, 5), 0)
        begins = np.take_along_axis(log_habit, first, axis=1)
        assert (count > 0).sum() > 4
        best = np.asarray(draw_by_habit(jax.random.key(0), jnp.asarray(begins), jnp.asarray(count == 0)))
    rows = best + 5 * np.arange(2)
    for name in ("plan", "leg", "held", "energy"):
        jax.tree.map(lambda a, b: np.testing.assert_array_equal(a, b[rows]), getattr(decision, name), getattr(made, name))
    np.testing.assert_array_equal(decision.passes, made.passes.reshape(2, 5).sum(1) + (choose_by == "habit"))


def test_whether_plans_are_gone_on_with_is_an_option():
    """Without it all plan anew, whatever they hold: as if nothing had been carried out."""
    options = test_actors.get_config().agent
    held = (plans(["s0 -[1]{ . -[4]-> 2 -[5]-> . }-> 7 -[_]-> sT"] * 3),)
    found = {}
    for go_on in (True, False):
        options.go_on = go_on
        act = modes.compiled(SYSTEM, options)
        for keep in (True, False):
            inputs = jax.random.key(0), tiny.percepts(3), tiny.words(3, tiny.MISSION), held, np.full(3, keep)
            found[go_on, keep] = jax.device_get(act["plan"](test_actors.params(True), *inputs).held[0])
    same = lambda a, b: all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))  # noqa: E731
    assert same(found[True, False], found[False, False]) and same(found[False, True], found[False, False])
    assert shown(found[True, True], 0) == LEFT["s0 -[1]{ . -[4]-> 2 -[5]-> . }-> 7 -[_]-> sT"]


class Fake:
    """An agent of two actors whose compiled functions are recorded: plans of two actions, and a number as the plan held."""

    def __init__(self):
        self.calls, self.away, self.says, self.params = [], np.zeros(3), 2, None
        self.config = SimpleNamespace(agent=SimpleNamespace(leave_distance=3))
        self.act = {"left_plan": lambda p, o, e: self.away, "plan": self.plan, "blank": lambda batch: (np.zeros(batch),),
                    "habitual": lambda p, k, o, m: np.full(3, 6)}

    def missions(self, missions):
        return jnp.zeros((len(missions), 2), jnp.int32)

    def plan(self, params, key, percept, mission, held, keep):
        self.calls.append((np.asarray(held[0]), np.asarray(keep)))
        rows = len(mission)
        leg = FirstLeg(np.ones((rows, 2), int), np.full((rows, 2), -1), np.full(rows, self.says), np.zeros(rows, bool))
        made = len(self.calls) + np.asarray(percept["row"]) / 10
        return Decision(np.zeros(rows), np.zeros(rows), np.zeros((rows, 1)), leg, np.ones(rows, int), None, (made,))


def test_followers_hand_back_the_plans_that_are_held_and_drop_them_where_the_world_left_them():
    agent = Fake()
    follower = following.PlanFollower(agent, 0, agent.act["plan"])
    observation = Observation({"row": np.arange(3)}, ["go"] * 3)
    act = lambda: follower(observation, np.ones(3, bool))
    act(), act()
    held, keep = agent.calls[0]
    assert len(agent.calls) == 1 and not keep.any() and not held.any()
    act()  # the two actions are over: all go on with what they hold
    held, keep = agent.calls[1]
    assert keep[:3].all() and held[:3].tolist() == [1.0, 1.1, 1.2]
    agent.away = np.asarray([0, 4, 0])
    act()  # in the midst of a plan, the world is not where episode 1 expected it
    held, keep = agent.calls[2]
    assert not keep[0] and held[0] == pytest.approx(2.1), "the first row of the chunk is episode 1"
    agent.away[:] = 0
    follower.forget(np.array([2]))
    act()
    held, keep = agent.calls[3]
    assert (held[0], keep[0]) == (pytest.approx(2.0), True) and (held[1], keep[1]) == (pytest.approx(2.2), False)
    assert follower.counts["left_plan"] == 1 and follower.counts["plan_ended"] == 3 + 3 + 2


def test_where_the_habit_acts_for_want_of_a_plan_nothing_was_carried_out():
    agent = Fake()
    agent.says = 0
    follower = following.PlanFollower(agent, 0, agent.act["plan"])
    for _ in range(2):
        assert follower(Observation({"row": np.arange(3)}, ["go"] * 3), np.ones(3, bool)).tolist() == [6, 6, 6]
    assert len(agent.calls) == 2 and not agent.calls[1][1].any()


def test_what_several_actors_do_not_do_is_said():
    options = test_actors.get_config().agent
    options.optimise.choose = "habit"
    with pytest.raises(UserError, match="agent.optimise.choose='habit': with several actors"):
        modes.compiled(SYSTEM, options)
    options.optimise.choose = "sample"
    agent = SimpleNamespace(act=modes.compiled(SYSTEM, options), config=test_actors.get_config(), system=SYSTEM)
    assert [plan.batch_shape for plan in agent.act["blank"](4)] == [(4,)]
    assert "blank" not in modes.compiled(tiny.system(), options)
    assert root_plan(UPPER.spec, (4,)).code.shape == agent.act["blank"](4)[0].code.shape
