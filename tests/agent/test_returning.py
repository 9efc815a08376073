"""Where a leg leads, against the simulator; and that what it leads back to counts."""
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))
import tiny  # noqa: E402

from experiments.configs.babyai_gotolocal import get_config  # noqa: E402
from hjepa_gfn.agent import decision, modes  # noqa: E402
from hjepa_gfn.agent.reading import FirstLeg  # noqa: E402
from hjepa_gfn.agent.returning import end_of, returns  # noqa: E402
from hjepa_gfn.errors import UserError  # noqa: E402
from hjepa_gfn.worlds import make_world  # noqa: E402
from hjepa_gfn.worlds.babyai import FORWARD, LEFT, PICKUP, RIGHT  # noqa: E402
from hjepa_gfn.worlds.remembering import Remembering  # noqa: E402

LEVEL, ROWS = "BabyAI-GoToLocal-v0", 6
AHEAD = {0: (1, 0), 1: (0, 1), 2: (-1, 0), 3: (0, -1)}  # MiniGrid's directions


def legs(*actions, length=6):
    padded = [[*row, *[FORWARD] * (length - len(row))] for row in actions]
    action, count = jnp.array(padded, jnp.int32), jnp.array([len(row) for row in actions])
    return FirstLeg(action, jnp.full(action.shape, -1), count, jnp.zeros(len(actions), bool))


def test_a_leg_ends_where_the_simulator_says():
    """Random legs of known worlds: the cell faced in the end lies, in the map, where the agent's true pose puts it."""
    rng = np.random.default_rng(0)
    world = Remembering(make_world(LEVEL, ROWS))
    world.reset(range(ROWS))
    checked = stayed = 0
    for _ in range(10):
        for _ in range(4):  # look around, so that what stands in the way is known
            observation, _, done = world.step(np.full(ROWS, LEFT))
        before = [world.pose(i) for i in range(ROWS)]
        actions = rng.choice([LEFT, RIGHT, FORWARD, FORWARD], (ROWS, 4))
        cell, moved = end_of(legs(*actions), jnp.asarray(observation.percept["blocked"]))
        for t in range(4):
            observation, _, done = world.step(actions[:, t])
        for i in np.flatnonzero(~done):
            (x, y, d), (x2, y2, d2) = before[i], world.pose(i)
            to = np.array([x2 + AHEAD[d2][0] - x, y2 + AHEAD[d2][1] - y])
            ahead, right = to @ AHEAD[d], to @ AHEAD[(d + 1) % 4]
            assert bool(moved[i]) == ((x, y, d) != (x2, y2, d2))
            assert tuple(np.asarray(cell[i])) == (6 + right, 6 - ahead)
            checked, stayed = checked + 1, stayed + (not moved[i])
    assert checked > 30 and 0 < stayed < checked / 2


def test_what_was_come_to_is_counted_where_it_lies():
    """In the map around the agent, wherever that has gone; each coming counts once, however long it stays."""
    world = Remembering(make_world(LEVEL, ROWS))
    observation = world.reset(range(ROWS))
    rng, came = np.random.default_rng(1), [{} for _ in range(ROWS)]
    pose, done = [world.pose(i) for i in range(ROWS)], np.zeros(ROWS, bool)
    for t in range(40):
        if t:
            action = rng.choice([LEFT, RIGHT, FORWARD, FORWARD, PICKUP + 2], ROWS)
            observation, _, done = world.step(action)
        now = [world.pose(i) for i in range(ROWS)]
        for i in np.flatnonzero(~done):
            x, y, d = now[i]
            ahead = (x + AHEAD[d][0], y + AHEAD[d][1])
            if (t == 0 or now[i] != pose[i]) and 5 <= observation.percept["view"][i, 3, 5, 0] <= 7:
                came[i][ahead] = came[i].get(ahead, 0) + 1
            faced = np.zeros((13, 13))
            for (x2, y2), count in came[i].items():
                to = np.array([x2 - x, y2 - y])
                row, column = 6 + to @ AHEAD[(d + 1) % 4], 6 - to @ AHEAD[d]
                if 0 <= row < 13 and 0 <= column < 13:
                    faced[row, column] = count
            np.testing.assert_array_equal(observation.percept["faced"][i], faced)
        pose = now
    assert max(max(found.values(), default=0) for found in came) > 1 and sum(map(len, came)) > 4


def test_only_legs_that_lead_somewhere_else_and_back_count():
    faced = np.zeros((5, 7, 7), np.float32)
    faced[:, 3, 2], faced[:, 3, 1], faced[:, 2, 3] = 5.0, 2.0, 3.0  # ahead, two ahead, on the left
    percept = {"faced": jnp.asarray(faced), "blocked": jnp.zeros((5, 7, 7), bool)}
    leg = legs([], [PICKUP], [FORWARD], [LEFT], [LEFT, FORWARD, FORWARD, FORWARD, FORWARD])
    assert returns(leg, percept).tolist() == [0, 0, 2, 3, 0], "as it stands; as it stands; ahead; left; beyond the map"
    blocked = np.zeros((5, 7, 7), bool)
    blocked[:, 3, 2] = True
    assert returns(leg, {**percept, "blocked": jnp.asarray(blocked)}).tolist() == [0, 0, 0, 3, 0], "no step, no return"


def test_returns_weigh_on_plans_and_not_on_how_they_begin():
    system, params = tiny.system(), tiny.params()
    percept, mission = tiny.percepts(2), jnp.zeros((2, tiny.MISSION), jnp.int32)
    leg = legs([FORWARD], [FORWARD])
    faced = np.zeros((2, 13, 13), np.float32)
    faced[1, 6, 4] = 1.5

    @jax.jit
    def run(params, faced):
        context, _ = decision.encode(system, params, percept, mission)
        knows = {**percept, "faced": faced, "blocked": jnp.zeros(faced.shape, bool)}
        plain, weighed = (decision.how_legs_begin(system, params, context, leg, seen) for seen in (percept, knows))
        return plain, weighed, decision.habit_log_prob(system, params, context, leg)

    plain, weighed, habit = run(params, faced)
    np.testing.assert_allclose(plain - weighed, [0.0, 1.5], atol=1e-6)
    np.testing.assert_allclose(plain, habit, atol=1e-6)


def test_legs_that_lead_back_are_taken_less_and_habits_do_not_know():
    """Of the compiled functions: with 60 nats against the cell that the leg of a first choice leads to, others are chosen."""
    system, params, rows = tiny.system(), tiny.params(), 40
    options = get_config().agent.copy_and_resolve_references()
    options.update(dict(plan_samples=6, tried=0.0))
    options.optimise.update(dict(chains=6, moves=0))
    percept, mission, key = tiny.percepts(rows), tiny.words(rows, tiny.MISSION), jax.random.key(3)
    blocked, compiled = jnp.zeros((rows, 13, 13), bool), {}
    for nats in (0.0, 60.0):
        options.returns = nats
        compiled[nats] = modes.compiled(system, options)

    def chosen(nats, faced):
        act, seen = compiled[nats], {**percept, "faced": faced, "blocked": blocked}
        made = act["plan"](params, key, seen, mission), act["optimise"](params, key, seen, mission, 0, False)[0]
        return [decision.leg for decision in made], act["habitual"](params, key, seen, mission)

    legs, habits = chosen(0.0, jnp.zeros((rows, 13, 13)))
    for number, leg in enumerate(legs):
        cell, _ = end_of(leg, blocked)
        memory = {"faced": jnp.zeros((rows, 13, 13)).at[jnp.arange(rows), cell[:, 0], cell[:, 1]].set(1.0), "blocked": blocked}
        before = float(returns(leg, memory).mean())
        same, other = (chosen(nats, memory["faced"]) for nats in (0.0, 60.0))
        assert before > 0.3 and float(returns(same[0][number], memory).mean()) == before, "of no weight by default"
        assert float(returns(other[0][number], memory).mean()) < before
        np.testing.assert_array_equal(other[1], habits)
    options.returns = -1.0
    with pytest.raises(UserError, match="agent.returns=-1.0"):
        modes.compiled(system, options)
