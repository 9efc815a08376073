"""Reading a plan's first actions, on plans laid out by hand."""
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from hjepa_gfn.agent.following import in_chunks
from hjepa_gfn.agent.reading import code_distance, first_leg, reading_order
from hjepa_gfn.agent.runner import run_episodes
from hjepa_gfn.distributed import unbox
from hjepa_gfn.models import fsq
from hjepa_gfn.objectives.system import init_params, make_system
from hjepa_gfn.objectives.windows import find_legs, plan_of_codes
from hjepa_gfn.plans import Plan
from hjepa_gfn.worlds.protocol import Observation


@pytest.fixture(scope="module")
def agent():
    model = ConfigDict(dict(
        state=4, hidden=8, step_levels=(5, 5), levels=[dict(code=(3, 3), action=(3, 3), longest=4)], width=8, heads=2, mlp=8,
        layers=1, context_layers=1, queries=1, max_legs=3, max_steps=3))
    system = make_system(model, 10, 6, 7)
    return system, unbox(init_params(system, jax.random.key(0), 3))


def plan_for(system, actions, segments):
    """The plan of one window whose step-state codes are 10, 11, ... and whose macro codes are 1, 2, ..."""
    length = len(actions)
    window = {"action": jnp.asarray([actions + [0] * (6 - length)]), "length": jnp.asarray([length]),
              "segment": jnp.asarray([segments + [segments[-1] if segments else 0] * (6 - length)])}
    legs = find_legs(window, system.max_legs + 1)
    return plan_of_codes(
        system, (legs,), (jnp.arange(9, 16)[None], jnp.arange(5)[None]), (window["action"], jnp.arange(1, 5)[None]))


def test_steps_of_the_first_leg_with_the_codes_expected_after_them(agent):
    leg = first_leg(*agent, plan_for(agent[0], [1, 2, 0, 2], [0, 0, 1, 1]))
    assert int(leg.count[0]) == 2 and not bool(leg.decoded[0])
    assert leg.action[0, :2].tolist() == [1, 2]
    # after the first step the state code is 10; the second ends the leg, whose state has a subgoal code: nothing to compare
    assert leg.expected[0, :2].tolist() == [10, -1]


def test_reading_order_does_not_depend_on_the_buffer(agent):
    plan = plan_for(agent[0], [1, 2, 2, 0], [0, 0, 0, 1])
    order = np.array([0, 4, 2, 5, 1, 3])
    shuffled = Plan(*(x[:, order] for x in plan[:-1]), plan.num_edits)
    assert np.asarray(reading_order(plan)).tolist() != np.asarray(reading_order(shuffled)).tolist()
    for a, b in zip(first_leg(*agent, plan), first_leg(*agent, shuffled), strict=True):
        np.testing.assert_array_equal(a, b)


def test_an_empty_edge_ends_what_can_be_acted_on(agent):
    plan = plan_for(agent[0], [1, 2, 2, 0], [0, 0, 0, 1])
    second = int(reading_order(plan)[0, 1])
    leg = first_leg(*agent, plan._replace(action=plan.action.at[0, second, 1].set(0)))
    assert int(leg.count[0]) == 1


def test_a_plan_without_steps_is_decoded_from_its_macro_action(agent):
    system, params = agent
    plan = plan_for(system, [1, 2], [0, 0])
    bare = plan._replace(action=plan.action.at[..., 1].set(0), expanded=jnp.zeros_like(plan.expanded))
    leg = first_leg(system, params, bare)
    grid = fsq.from_code(jnp.asarray([1]), (3, 3))
    decoded = np.asarray(system.level(params, grid, method="decode_macro", level=2)[0].argmax(-1))
    count = int(np.argmax(decoded == 7)) if (decoded == 7).any() else len(decoded)
    assert int(leg.count[0]) == count and bool(leg.decoded[0]) == (count > 0)
    assert leg.action[0, :count].tolist() == decoded[:count].tolist()
    assert int(first_leg(system, params, bare._replace(action=jnp.zeros_like(plan.action))).count[0]) == 0


def test_code_distance_counts_cells(agent):
    # codes of a 5x5 grid: 7 is cell (2, 1), 24 is cell (4, 4)
    assert int(code_distance(agent[0], jnp.asarray(7), jnp.asarray(24))) == 5
    assert int(code_distance(agent[0], jnp.asarray(7), jnp.asarray(7))) == 0


def test_chunks_cover_every_row_once():
    pieces = in_chunks(np.arange(10, 17), 3)
    assert all(len(index) == 3 for index, _ in pieces)
    assert [i for index, count in pieces for i in index[:count]] == list(range(10, 17))
    assert in_chunks(np.array([], int), 3) == []


class Corridor:
    """Row i succeeds at its step `goal[i]` and times out at step 5."""

    goal = np.array([2, 9, 4])

    def reset(self, seeds):
        self.t = 0
        return Observation({}, ["go"] * 3)

    def step(self, actions):
        self.t += 1
        won = self.goal == self.t
        return Observation({}, ["go"] * 3), won.astype(np.float32), (self.goal <= self.t) | (self.t >= 5)


def test_episodes_are_counted_until_they_end():
    asked = []
    choose = lambda o, running: asked.append(running.copy()) or np.zeros(3, int)  # noqa: E731
    success, steps = run_episodes(Corridor(), [0, 1, 2], choose, 20)
    assert success.tolist() == [True, False, True]
    assert steps.tolist() == [2, 5, 4]
    assert [r.tolist() for r in asked][2:] == [[False, True, True], [False, True, True], [False, True, False]]
