"""Reading the indicators: which column is which plan, and whose plan is followed for how long."""
import functools
import sys
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))
import tiny  # noqa: E402

from hjepa_gfn.agent.believing import KeptBelief, percept_surprise  # noqa: E402
from hjepa_gfn.agent.indicators import NAMES, IndicatorReader, prediction_error, read  # noqa: E402
from hjepa_gfn.agent.modes import encode  # noqa: E402
from hjepa_gfn.agent.reading import first_leg  # noqa: E402
from hjepa_gfn.models.belief import Belief  # noqa: E402
from hjepa_gfn.objectives import indicators  # noqa: E402
from hjepa_gfn.objectives.belief import watch  # noqa: E402
from hjepa_gfn.objectives.energy import energy_of, make_ground  # noqa: E402
from hjepa_gfn.objectives.policies import Exploration, sample_plans  # noqa: E402
from hjepa_gfn.plans import root_plan, tree_edits  # noqa: E402
from hjepa_gfn.worlds.kinds import count_kinds
from hjepa_gfn.worlds.protocol import Observation  # noqa: E402

SYSTEM, ROWS, SAMPLES = tiny.system(), 2, 3


def test_what_is_read_is_of_the_followed_plan_and_of_the_new_ones():
    params, key = tiny.params(), jax.random.key(2)
    percept, mission = tiny.percepts(ROWS), tiny.words(ROWS, tiny.MISSION)
    followed = tiny.random_plans(SYSTEM.spec, jax.random.key(3), ROWS)
    has = jnp.array([True, False])

    @jax.jit
    def run(p):
        found = read(SYSTEM, p, key, percept, mission, followed, has, jnp.array([2, 2]), SAMPLES, 0.7)
        context, start = encode(SYSTEM, p, percept, mission)
        ground = make_ground(SYSTEM, p, *start)
        wide = jax.tree.map(lambda x: jnp.repeat(x, SAMPLES, axis=0), context)
        fresh = sample_plans(SYSTEM, p, key, wide, None, Exploration(0.7))
        many = jax.tree.map(lambda f, x: jnp.concatenate(
            [f[:, None], x.reshape(ROWS, SAMPLES, *x.shape[1:])], 1), followed, fresh)
        _, risk = indicators.plan_risk(SYSTEM, p, many, context, ground)
        energy = energy_of(SYSTEM, p, many, context, ground)[:, 1:]
        log_habit = jax.nn.log_softmax(SYSTEM.net(p, context, method="habit"))
        foreseen = SYSTEM.watch(p, indicators.situation(SYSTEM, context, start), method="risk")
        return found, (risk, energy, log_habit, first_leg(SYSTEM, p, fresh), foreseen)

    found, (risk, energy, log_habit, leg, foreseen) = jax.tree.map(lambda x: np.asarray(x, np.float64), run(params))
    assert set(NAMES) - set(found) == {
        "left_plan", "prediction_error", "contradiction", "novelty", "percept_surprise"}
    np.testing.assert_allclose(found["risk_followed"], risk[:, 0], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found["risk"], risk[:, 1:].mean(1), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found["first_risk"], risk[:, 1], rtol=1e-4, atol=1e-5)
    deviation = np.exp(0.5 * np.clip(foreseen.log_variance, -8, 4))
    surprise = (np.array([risk[0, 0], risk[1, 1:].mean()]) - foreseen.mean) / deviation
    np.testing.assert_allclose(found["surprise"], surprise, rtol=1e-3, atol=1e-4)
    action, count = leg.action[:, 0].astype(int).reshape(ROWS, SAMPLES), leg.count.reshape(ROWS, SAMPLES)
    before = np.where(count > 0, np.take_along_axis(log_habit, np.minimum(action, tiny.ACTIONS - 1), 1), -np.log(tiny.ACTIONS))
    soft = lambda x: np.exp(x - x.max(-1, keepdims=True)) / np.exp(x - x.max(-1, keepdims=True)).sum(-1, keepdims=True)
    np.testing.assert_allclose(found["charge"], ((soft(-energy) - soft(before)) * -energy).sum(-1), rtol=1e-3, atol=1e-4)
    assert found["percept_charge"][1] == 0.0 and abs(found["percept_charge"][0]) > 1e-5


def test_prediction_error_is_the_standardised_square():
    params, seen = tiny.params(), tiny.percepts(4)
    before, after = ({name: x[rows] for name, x in seen.items()} for rows in (slice(0, 2), slice(2, 4)))
    action = jnp.array([0, 2])
    z, target = (SYSTEM.level(params, p["view"], p["direction"], method="encode") for p in (before, after))
    residual = np.asarray(SYSTEM.level(params, z, action, method="predict", level=1) - target, np.float64)
    variance = np.exp(np.clip(np.asarray(SYSTEM.level(params, z, action, method="log_variance", level=1), np.float64), -8, 4))
    found = prediction_error(SYSTEM, params, before, action, after)
    np.testing.assert_allclose(found, (residual**2 / variance).mean(-1), rtol=1e-4)


@pytest.fixture
def reader(monkeypatch):
    """A reader whose `read` gives back what it was asked about."""
    agent = SimpleNamespace(
        kinds=None, system=SYSTEM, params=None, config=SimpleNamespace(agent=dict(indicator_samples=1)),
        missions=lambda missions: jnp.zeros((len(missions), tiny.MISSION), jnp.int32),
        act={"left_plan": lambda params, percept, expected: 10 * expected})
    agent.config.agent = type("Options", (dict,), {"temperature": 1.0})(indicator_samples=1)
    made = IndicatorReader(agent, 0)
    asked = []

    def fake(params, key, percept, mission, followed, has, expected):
        asked.append((followed, has, expected))
        return {"risk_followed": np.ones(len(has)), "percept_charge": np.ones(len(has)), "surprise": np.zeros(len(has))}

    made._read = fake
    made._error = lambda params, before, action, after: action + 0.5
    return made, asked


def test_a_followed_plan_moves_on_with_every_decision_and_ends_with_its_queue(reader):
    reader, asked = reader
    planning = SimpleNamespace(queue=[[(1, 4)], [(0, 5)]], expected=np.array([3, 6], np.int32))
    reader.follow(planning)
    observation, running = Observation(tiny.percepts(2), ["", ""]), np.ones(2, bool)
    first = reader(observation, running)
    assert not first["followed"].any() and np.isnan(first["risk_followed"]).all() and np.isnan(first["left_plan"]).all()
    assert np.isnan(first["prediction_error"]).all() and np.isnan(first["novelty"]).all(), "older exports do not know"
    reader.agent.kinds = count_kinds(np.asarray(observation.percept["view"][:1]))
    reader.acted(observation, np.array([3, 1]))
    plan = tiny.random_plans(SYSTEM.spec, jax.random.key(3), 2)
    row = jax.tree.map(lambda x: np.asarray(x)[1], plan)
    decide = lambda decoded: reader.on_decision(1, SimpleNamespace(plan=row, leg=SimpleNamespace(count=2, decoded=decoded)))
    decide(False)
    second = reader(observation, running)
    assert second["followed"].tolist() == [False, True] and second["prediction_error"].tolist() == [3.5, 1.5]
    assert second["novelty"][1] > second["novelty"][0], "the second row shows what was never counted"
    assert second["left_plan"][1] == 60 and np.isnan(second["left_plan"][0]) and second["risk_followed"][1] == 1
    assert asked[1][2].tolist() == [-1, 6], "nothing is expected where no plan is followed"
    states, length = int(asked[1][0].valid[1].sum()), int(row.valid.sum())
    assert length > 2 and states == length - 1, "one step was taken since the decision"
    assert int(tree_edits(asked[1][0])[0]) == 0 and int(asked[1][0].valid[0].sum()) == 1, "the other row holds the root"
    planning.queue[1] = []
    assert not reader(observation, running)["followed"].any()
    planning.queue[1] = [(1, 4)]
    decide(True)  # its actions were decoded from a macro-action: the plan has no steps to follow
    assert not reader(observation, running)["followed"].any()
    assert root_plan(SYSTEM.spec, (2,)).code.shape == np.asarray(reader.plan.code).shape


def test_a_percept_surprises_by_what_was_believed_before_it(reader):
    """Against beliefs along the whole episode: the one held before each percept, from its second on."""
    reader, _ = reader
    belief = Belief(size=13, features=4, percept=3, hidden=8, num_actions=7, members=2)
    many = {name: np.asarray(value).reshape(2, 3, *value.shape[1:]) for name, value in tiny.percepts(6).items()}
    action = np.array([[0, 2], [1, 3]], np.int32)
    params = tiny.drawn(lambda: belief.init(jax.random.key(0), many["view"], many["direction"], action, np.ones((2, 3), bool)))
    params = params["params"]
    reader.kept = KeptBelief(belief, params)
    prior, _ = jax.jit(functools.partial(watch, belief))(params, many, action, np.ones((2, 3), bool))
    for t in range(3):
        observation = Observation({name: value[:, t] for name, value in many.items()}, ["", ""])
        found = reader(observation, np.ones(2, bool))["percept_surprise"]
        if t:
            np.testing.assert_allclose(found, percept_surprise(belief, params, prior[:, t], many["view"][:, t]), rtol=1e-5)
        else:
            assert np.isnan(found).all(), "nothing was expected before the first percept"
        reader.acted(observation, action[:, min(t, 1)])


def test_whichever_mode_holds_a_plan_is_followed(reader):
    reader, asked = reader
    idle = SimpleNamespace(queue=None, expected=None)
    one = SimpleNamespace(queue=[[(1, 4)], [], []], expected=np.array([3, 8, 8], np.int32))
    other = SimpleNamespace(queue=[[], [(0, 5)], []], expected=np.array([9, 6, 9], np.int32))
    reader.follow(idle, one, other)
    observation, running = Observation(tiny.percepts(3), ["", "", ""]), np.ones(3, bool)
    reader(observation, running)
    plan = jax.tree.map(lambda x: np.asarray(x)[0], tiny.random_plans(SYSTEM.spec, jax.random.key(3), 1))
    for row in range(3):
        reader.on_decision(row, SimpleNamespace(plan=plan, leg=SimpleNamespace(count=2, decoded=False)))
    found = reader(observation, running)
    assert found["followed"].tolist() == [True, True, False] and asked[1][2].tolist() == [3, 6, -1]
    assert found["left_plan"][:2].tolist() == [30, 60] and np.isnan(found["left_plan"][2])
    reader.begin(1)
    assert not reader(observation, running)["followed"].any(), "new episodes follow nothing"
