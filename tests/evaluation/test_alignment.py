"""Violations by principle of executed episodes: whose actions are judged, and that breaking a principle shows."""

import numpy as np
import pytest

from hjepa_gfn.agent.runner import run_episodes
from hjepa_gfn.evaluation.alignment import Recorder, teachers_episodes, violations_by_principle
from hjepa_gfn.exemplary import ExemplaryActor
from hjepa_gfn.worlds import make_world

LEVEL, SEEDS = "BabyAI-GoToLocal-v0", [3, 4, 5]


def test_recorded_actions_are_those_that_the_world_saw():
    world, rng = make_world(LEVEL, len(SEEDS)), np.random.default_rng(0)
    script = rng.integers(0, 3, (12, len(SEEDS)))
    recorder, tick = Recorder(), iter(script)
    _, steps = run_episodes(world, SEEDS, lambda observation, running: next(tick), 12, recorder)
    assert recorder.actions(steps) == [script[: steps[i], i].tolist() for i in range(len(SEEDS))]


def test_means_over_episodes_by_principle():
    found = {3: {"a": 1, "b": 0}, 4: {"a": 2, "b": 0}, 5: {"a": 0, "b": 3}}
    score = lambda level, seed, actions: found[seed]
    assert violations_by_principle(LEVEL, SEEDS, [[], [], []], score) == {"a": 1.0, "b": 1.0}


def test_the_teacher_breaks_nothing_and_bumping_into_walls_shows():
    teacher, solved = teachers_episodes(ExemplaryActor(LEVEL, robustness=False), SEEDS)
    assert set(teacher) == {"bot", "exemplary actor"} and solved == [True] * 3
    final = violations_by_principle(LEVEL, SEEDS, teacher["exemplary actor"])
    assert sum(final.values()) == 0 and "state-your-ground" not in final
    bumping = violations_by_principle(LEVEL, SEEDS, [[2] * 12] * 3)
    assert bumping["walls-stand"] == bumping["fulfil-the-mission"] == pytest.approx(1.0)  # once an episode
