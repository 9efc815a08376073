"""What is recorded of episodes under the controller: the plan and step of each action, at percepts alone."""
from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import pytest

from hjepa_gfn.agent.aiming import aimed_at
from hjepa_gfn.agent.controlled import controlled_mode
from hjepa_gfn.agent.decision import Decision, Trace
from hjepa_gfn.agent.following import CHUNK
from hjepa_gfn.agent.reading import FirstLeg
from hjepa_gfn.errors import UserError
from hjepa_gfn.evaluation import recording
from hjepa_gfn.evaluation.report_views import AimView, SwitchView
from hjepa_gfn.worlds.protocol import Observation

ENDS = np.array([4, 9])  # how long the two episodes last
TABLE = ("surprise > 2: habitual -> planning for 3", "charge < 0: habitual -> optimisation")


class World:
    """Percepts hold the time and the row; frames hold what no agent may see."""

    def __init__(self, name, batch):
        self.batch = batch

    def observation(self):
        return Observation({"view": 10 * np.arange(self.batch) + self.time}, ["go to the ball", "go to the box"])

    def reset(self, seeds):
        self.time = 0
        return self.observation()

    def step(self, actions):
        self.time += 1
        done = self.time >= ENDS
        return self.observation(), (self.time == ENDS) * np.array([1.0, 0.0]), done

    def situation(self, i):
        return f"situation {i}"

    def render(self, i):
        return np.full((1, 1, 3), 10 * i + self.time)

    def pose(self, i):
        return (i, self.time, 0)


def decided(counts, trace=None):
    rows = len(counts)
    leg = FirstLeg(np.tile([1, 2, 3], (rows, 1)), np.full((rows, 3), -1), counts, np.zeros(rows, bool))
    return Decision(np.zeros(rows), np.arange(float(rows)), np.zeros((rows, 1)), leg, np.ones(rows, int), trace)


class Options(SimpleNamespace):
    def get(self, name, default):
        return getattr(self, name, default)


def agent_of(plan, groups=("indicators",)):
    energy = np.tile([[[3.0], [2.0], [2.0]]], (CHUNK, 1, 1))
    trace = Trace(energy, energy[..., 0], energy < 3, np.ones(CHUNK, int))
    found = SimpleNamespace(moves=np.int32(1), accepted=np.zeros((3, CHUNK, 1), bool))
    act = {"left_plan": lambda p, o, e: np.zeros(len(e)), "habitual": lambda p, k, o, m: np.full(len(m), 6), "plan": plan,
           "optimise": lambda *inputs: (decided(np.full(CHUNK, 2), trace), found)}
    options = Options(max_steps=7, leave_distance=3, optimise=dict(moves=2))
    return SimpleNamespace(params=dict.fromkeys(groups), config=SimpleNamespace(agent=options), act=act,
                           missions=lambda missions: jnp.zeros((len(missions), 1), jnp.int32))


class Reader:
    """Indicators by a script: at step 1 the first episode is surprising, at step 2 the second's charge is negative."""

    def begin(self, seed):
        self.seen, self.decided, self.followers = [], [], ()

    def follow(self, *followers):
        self.followers = followers

    def on_decision(self, row, decision):
        self.decided.append((len(self.seen) - 1, row))

    def __call__(self, observation, running):
        self.seen.append(np.asarray(observation.percept["view"]).tolist())
        t = len(self.seen) - 1
        return {"surprise": np.array([3.0 if t == 1 else 0.0, np.nan]), "charge": np.array([1.0, -1.0 if t == 2 else 0.5])}


@pytest.fixture
def played(monkeypatch):
    asked = []

    def plan(params, key, percept, mission):
        asked.append(percept["view"][0])
        return decided(np.full(CHUNK, 2 if len(asked) == 1 else 0))  # the first says how to begin, the second does not

    monkeypatch.setattr(recording, "world_for", lambda agent, level, n: World(level, n))
    reader = Reader()
    return recording.record_episodes(agent_of(plan), "level", [5, 6], 0, TABLE, reader=reader), reader, asked


def test_every_action_has_its_mode_plan_and_step(played):
    (first, second), reader, asked = played
    of = lambda episode: [(step.mode[0], step.plan, step.active) for step in episode.steps]
    # habit; a plan of two steps; at its end another, too vague to begin with: it is in force, and the habit acts
    assert of(first) == [("h", None, None), ("p", 0, 0), ("p", 0, 1), ("p", 1, None)]
    assert first.actions == [6, 1, 2, 6] and asked == [1, 3]
    assert of(second)[:4] == [("h", None, None)] * 2 + [("o", 0, 0), ("o", 0, 1)] and of(second)[4] == ("o", 1, 0)
    assert second.actions == [6, 6, 1, 2, 1, 2, 1]
    assert [(made.step, made.pose, made.percept["view"]) for made in first.made] == [(1, (0, 1, 0), 1), (3, (0, 3, 0), 3)]
    assert reader.decided[:3] == [(1, 0), (2, 1), (3, 0)], "whatever mode made a plan, the indicators are read of it"
    assert len(reader.followers) == 2
    assert first.switches == [SwitchView(1, "habitual", "planning", "surprise", 3.0, 2.0)]
    assert second.switches == [SwitchView(2, "habitual", "optimisation", "charge", -1.0, 0.0)]


def test_indicators_and_frames_are_those_of_each_step(played):
    (first, second), _, _ = played
    assert [step.indicators["surprise"] for step in first.steps] == [0.0, 3.0, 0.0, 0.0]
    assert np.isnan([step.indicators["surprise"] for step in second.steps]).all()
    assert [step.indicators["charge"] for step in second.steps][:4] == [0.5, 0.5, -1.0, 0.5]
    # the frame after the last action, too, of an episode that ends before the others and of one that is cut
    assert [int(frame[0, 0, 0]) for frame in first.frames] == [0, 1, 2, 3, 4]
    assert [int(frame[0, 0, 0]) for frame in second.frames] == [10, 11, 12, 13, 14, 15, 16, 17]
    assert (first.success, second.success) == (True, False)
    assert (second.mission, second.situation) == ("go to the box", "situation 1")


def test_chains_energies_as_far_as_moves_were_made(played):
    (first, second), _, _ = played
    view = recording.trace_view(second.made[0].decision.trace)
    assert (view.chains, view.best, view.accepted) == ([[3.0, 2.0]], [3.0, 2.0], [[False, True]])
    assert recording.trace_view(first.made[0].decision.trace) is None


def test_without_indicators_there_is_no_table_but_each_mode_by_itself(monkeypatch):
    agent = agent_of(lambda *inputs: decided(np.full(CHUNK, 2)), groups=())
    with pytest.raises(UserError, match="agent.controller needs indicators"):
        controlled_mode(agent, 0, TABLE)
    with pytest.raises(UserError, match="no mode 'plan'; there are habitual, planning, optimisation"):
        controlled_mode(agent, 0, start="plan")
    monkeypatch.setattr(recording, "world_for", lambda agent, level, n: World(level, n))
    first, _ = recording.record_episodes(agent, "level", [5, 6], 0, start="planning")
    assert [(step.mode, step.plan, step.active, step.indicators) for step in first.steps] == [
        ("planning", 0, 0, {}), ("planning", 0, 1, {}), ("planning", 1, 0, {}), ("planning", 1, 1, {})]


def test_what_the_agent_aims_at_is_recorded_where_the_world_has_it(monkeypatch):
    """The view has a red ball 3 ahead and 1 to the left of the first agent; the second aims at nothing in view."""
    class Seeing(World):
        def observation(self):
            view = np.ones((2, 7, 7, 3), np.uint8)
            view[0, 2, 3, :2] = 6, 0
            return Observation({"view": view, "direction": np.zeros(2, int)}, ["go to the ball"] * 2)

        def pose(self, i):
            return 4, 5, 3  # looks up

    def point(params, percept, mission):
        assert set(percept) == {"view", "direction"}, "percepts alone"
        shares = np.full((2, 50), 0.001)
        shares[0, 2 * 7 + 3], shares[1, 49] = 0.9, 0.6
        return shares

    agent = agent_of(lambda *inputs: decided(np.full(CHUNK, 2)), groups=())
    agent.act["aim"], agent.system = point, SimpleNamespace(map=0)
    monkeypatch.setattr(recording, "world_for", lambda agent, level, n: Seeing(level, n))
    first, second = recording.record_episodes(agent, "level", [5, 6], 0, start="habitual")
    assert [step.aim for step in first.steps] == [AimView("a red ball 3 ahead and 1 to the left", 0.9, (3, 2))] * 4
    assert [step.aim for step in second.steps] == [AimView("something out of view", 0.6, None)] * 7
    around = [recording.cell_from((4, 5, heading), (2, 1)) for heading in range(4)]  # east, south, west, north
    assert around == [(6, 6), (3, 7), (2, 4), (5, 3)]


def test_what_is_aimed_at_in_words():
    view = np.ones((7, 7, 3), np.uint8)
    view[3, 5], view[4, 6], view[0, 0], view[3, 6] = (2, 5, 0), (0, 0, 0), (4, 2, 2), (5, 1, 0)
    words = lambda i, j: aimed_at(np.eye(50)[i * 7 + j], view).words
    assert words(3, 5) == "a cell 1 ahead" and words(4, 6) == "a cell not seen yet 1 to the right"
    assert words(0, 0) == "a blue door 6 ahead and 3 to the left" and words(3, 3) == "a free cell 3 ahead"
    assert words(3, 6) == "a cell here", "what is carried is not there"
    maps = np.ones((11, 11, 3), np.uint8)
    maps[5, 8] = (7, 3, 0)  # behind an agent in the middle
    assert aimed_at(np.eye(122)[5 * 11 + 8], maps, 11)[:1] + aimed_at(np.eye(122)[5 * 11 + 8], maps, 11)[2:] == (
        (-3, 0), "a purple box 3 behind")
