"""What an episode's text does: it is read once, by the posterior; and an agent that acts on its own words alone."""
import sys
from pathlib import Path
from types import SimpleNamespace

import jax
import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))
import tiny  # noqa: E402

from hjepa_gfn.agent import told  # noqa: E402
from hjepa_gfn.agent.following import CHUNK  # noqa: E402
from hjepa_gfn.errors import UserError  # noqa: E402
from hjepa_gfn.objectives.policies import Exploration, sample_plans  # noqa: E402
from hjepa_gfn.worlds.protocol import Observation  # noqa: E402

SYSTEM = tiny.system()


def test_rows_with_a_text_plan_by_the_posterior_and_the_others_by_the_prior():
    """The very plans that each policy samples with the same key, row by row."""
    params, percept, mission = tiny.params(1), tiny.percepts(24), tiny.words(24, tiny.MISSION)
    text = np.asarray(tiny.words(24, tiny.TEXT, full=True)) * (np.arange(24) % 2 == 0)[:, None]
    key = jax.random.key(3)
    found = jax.jit(lambda p: told.read_and_plan(SYSTEM, p, key, {**percept, "text": text}, mission, 1.0))(params)

    @jax.jit
    def alone(params):
        context, _ = told.encode(SYSTEM, params, percept, mission)
        k_read, k_guess = jax.random.split(key)
        return (sample_plans(SYSTEM, params, k_read, context, text, Exploration(1.0)),
                sample_plans(SYSTEM, params, k_guess, context, None, Exploration(1.0)))

    read, guess = jax.tree.map(np.asarray, alone(params))
    same = lambda plan, other, i: all(np.array_equal(a[i], b[i]) for a, b in zip(plan, other, strict=True))  # noqa: E731
    assert sum(not same(read, guess, i) for i in range(24)) > 4, "the policies agree here by chance: choose other parameters"
    for i in range(24):
        assert same(jax.tree.map(np.asarray, found.plan), read if i % 2 == 0 else guess, i)


class Speaker:
    """An agent whose texts are given; records what its explainer was asked with."""

    def __init__(self, texts):
        self.texts, self.asked, self.params = iter(texts), [], None
        self.system = SimpleNamespace(spec=SYSTEM.spec)
        self.tokenizer = SimpleNamespace(decode_text=lambda ids: next(self.texts))
        self.act = {"explain": self.explain, "habitual": lambda p, k, o, m: np.full(len(m), 6)}

    def explain(self, params, key, percept, mission, plan, given):
        assert int(plan.valid.sum()) == CHUNK, "the root alone: no plan"
        self.asked.append(given[:2].copy())
        return np.zeros((CHUNK, 4), np.int32)

    def missions(self, missions):
        return np.zeros((len(missions), 2), np.int32)


def test_a_speaker_carries_out_what_it_says_and_its_prefix_is_used_once():
    agent = Speaker(["turn left and go forward 2. so.", "no plan at all.", "turn right twice. so.", "turn left. so.", "drop."])
    prefixes = np.array([[1, 7, 0, 0], [1, 8, 9, 0]], np.int32)
    mode, observation = told.SpeakingMode(agent, 0, prefixes), Observation({"view": np.zeros((2, 1))}, ["go", "go"])
    taken = [mode(observation, np.ones(2, bool)).tolist() for _ in range(4)]
    # what row 1 says at first cannot be carried out: the habit acts, and it speaks again
    assert taken == [[0, 6], [2, 1], [2, 1], [0, 4]]
    np.testing.assert_array_equal(agent.asked[0], prefixes)
    assert not any(asked.any() for asked in agent.asked[1:])
    assert len(agent.asked) == 3


def test_prefixes_keep_a_share_of_the_words():
    text = np.array([[1, 5, 6, 7, 8, 2, 0], [1, 5, 6, 2, 0, 0, 0], [0, 0, 0, 0, 0, 0, 0]], np.int32)
    np.testing.assert_array_equal(
        told.prefix_of(text, 0.5), [[1, 5, 6, 0, 0, 0, 0], [1, 5, 0, 0, 0, 0, 0], [0] * 7])
    np.testing.assert_array_equal(told.prefix_of(text, 1.0)[0], [1, 5, 6, 7, 8, 0, 0])


def test_the_text_is_read_at_the_first_step_only(monkeypatch):
    seen = []

    class Follower:
        def __init__(self, agent, seed, decide):
            pass

        def __call__(self, observation, running):
            seen.append(observation.percept["text"].copy())
            return np.zeros(2, int)

    monkeypatch.setattr(told, "PlanFollower", Follower)
    agent = SimpleNamespace(system=None, config=SimpleNamespace(agent=SimpleNamespace(temperature=1.0)))
    mode = told.ToldMode(agent, 0, np.ones((2, 3), np.int32))
    for _ in range(2):
        mode(Observation({}, ["a", "b"]), np.ones(2, bool))
    assert seen[0].all() and not seen[1].any()


def test_attacks_state_a_plan_that_breaks_principles():
    from hjepa_gfn.evaluation import safety
    from hjepa_gfn.exemplary.phrases import actions_of, parse_plan
    from hjepa_gfn.exemplary.scoring import score_episode

    plan = actions_of(parse_plan(safety.attack_text()))
    assert plan == [action for leg in safety.ATTACK for action in leg]
    broken = score_episode("BabyAI-GoToLocal-v0", 1_000_003, plan)
    assert sum(broken.values()) >= 3
    with pytest.raises(UserError):
        parse_plan("no plan at all.")
    found = safety.summary("BabyAI-GoToLocal-v0", [5, 6], [plan, []], np.array([True, False]), 0)
    assert found["success"] == 0.5 and found["steps"] == len(plan) / 2 and found["violations"] > 0
    assert found["violations"] == pytest.approx(sum(found["by_principle"].values()))


def told_agent():
    """A tiny agent that can be told something; the world leaves its plans at every step."""
    act = {"left_plan": lambda p, o, e: np.full(len(e), 9), "habitual": lambda p, k, o, m: np.full(len(m), 6)}
    settings = SimpleNamespace(temperature=1.0, leave_distance=1)
    return SimpleNamespace(system=SYSTEM, params=tiny.params(1), act=act, config=SimpleNamespace(agent=settings),
                           missions=lambda missions: tiny.words(len(missions), tiny.MISSION))


def test_after_the_first_step_the_prior_alone_decides_as_it_did_beside_the_posterior(monkeypatch):
    """Actions and plans over several steps are those of a mode that samples both policies every time. Policies are stand-ins:
    plans that depend on the key, and on the text where there is one."""
    pool = tiny.random_plans(SYSTEM.spec, jax.random.key(0), 64, 6)

    def plans_for(system, params, key, context, text, explore):
        assert explore == Exploration(1.0) and params is not None
        drawn = jax.random.randint(jax.random.fold_in(key, 0 if text is None else 1 + text.sum()), (CHUNK,), 0, 64)
        return jax.tree.map(lambda x: x[drawn], pool)

    monkeypatch.setattr(told, "sample_plans", plans_for)
    monkeypatch.setattr(told, "encode", lambda system, params, percept, mission: (None, None))
    agent, text = told_agent(), np.asarray(tiny.words(3, tiny.TEXT, full=True)) * np.array([[1], [0], [1]])
    both = jax.jit(lambda *inputs: told.read_and_plan(SYSTEM, *inputs, 1.0))
    def episode(mode):
        plans, taken = [], []
        mode.follower.on_decision = lambda row, decision: plans.append((row, decision))
        for step in range(4):
            seen = Observation({k: np.asarray(v) for k, v in tiny.percepts(3, step).items()}, ["go"] * 3)
            taken.append(mode(seen, np.ones(3, bool)).tolist())
        return plans, taken

    mode = told.ToldMode(agent, 5, text)
    mode.follower.decide = both
    expected, actions = episode(mode)
    found, same_actions = episode(told.ToldMode(agent, 5, text))
    assert actions == same_actions and len(expected) == len(found) == 12, "plans are made anew at every step"
    for (row, one), (other_row, other) in zip(expected, found, strict=True):
        assert row == other_row and all(map(np.array_equal, jax.tree.leaves(one), jax.tree.leaves(other)))
    monkeypatch.setattr(told, "read_and_plan", lambda *inputs: pytest.fail("nothing is to be read"))
    silent, _ = episode(told.ToldMode(agent, 5, np.zeros_like(text)))
    differ = lambda a, b: not all(map(np.array_equal, a.plan, b.plan))  # noqa: E731
    told_rows = [differ(a, b) for (_, a), (_, b) in zip(found[:3], silent[:3], strict=True)]
    assert told_rows[0] and told_rows[2], "what is read makes no difference here: choose another text"
    assert not told_rows[1]
