"""Injected anomalies, and what is made of the numbers."""
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))
import tiny  # noqa: E402

from hjepa_gfn.errors import UserError
from hjepa_gfn.evaluation import watchdog
from hjepa_gfn.evaluation.watchdog import (
    add_noise,
    auroc_with_interval,
    indicators_at,
    residual_summary,
    shows_door,
    swap_colours,
)
from hjepa_gfn.training import indicators as training
from hjepa_gfn.worlds import make_world
from hjepa_gfn.worlds.protocol import Observation


def test_colours_move_on_for_things_and_for_nothing_else():
    view = np.zeros((1, 7, 7, 3), np.uint8)
    view[0, 0, :6] = [(4, 5, 1), (5, 0, 0), (6, 2, 0), (7, 3, 0), (2, 5, 0), (1, 0, 0)]  # door, key, ball, box, wall, empty
    swapped = swap_colours(view)
    assert swapped[0, 0, :6, 1].tolist() == [0, 1, 3, 4, 5, 0]
    np.testing.assert_array_equal(swapped[..., [0, 2]], view[..., [0, 2]])
    assert view[0, 0, 0, 1] == 5, "the simulator's own view is left alone"


def test_noise_hits_a_tenth_of_the_cells_with_what_can_be_seen():
    view = np.full((200, 7, 7, 3), 9, np.uint8)  # no such colour
    noisy = add_noise(view, np.random.default_rng(0))
    hit = (noisy[..., 1] != 9)
    assert 0.08 < hit.mean() < 0.12
    assert (noisy[hit].max(0) == [10, 5, 2]).all() and (noisy[~hit] == 9).all()


def test_displaced_agents_stand_elsewhere_and_the_others_where_they_were():
    world = make_world("BabyAI-GoToLocal-v0", 6)
    before = world.reset(range(6))
    poses = [world.pose(i) for i in range(6)]
    after = world.displace([0, 1, 2, 3])
    assert [world.pose(i) for i in (4, 5)] == poses[4:]
    np.testing.assert_array_equal(after.percept["view"][4:], before.percept["view"][4:])
    assert sum(world.pose(i) != poses[i] for i in range(4)) >= 3 and after.mission == before.mission
    assert (after.percept["view"][:4] != before.percept["view"][:4]).any()


def test_auroc_leaves_out_what_cannot_be_read():
    found = auroc_with_interval(np.array([3.0, np.nan, 1.0]), np.array([2.0, 0.0, np.nan, 0.0]))
    assert found["auroc"] == pytest.approx(5 / 6) and (found["anomalous"], found["ordinary"]) == (2, 3)
    low, high = found["interval"]
    assert 0 <= low <= 5 / 6 <= high <= 1
    assert auroc_with_interval(np.array([np.nan]), np.ones(2))["auroc"] is None


def test_residuals_of_a_right_prediction_have_mean_0_and_square_1():
    rng = np.random.default_rng(0)
    predicted, deviation = rng.normal(size=4000), rng.uniform(0.2, 0.6, 4000)
    table = {"first_risk": predicted + deviation * rng.normal(size=4000), "predicted": predicted, "deviation": deviation,
             "subplan_surprise": np.concatenate([np.zeros(2000), rng.normal(size=2000) + 1])}
    found = residual_summary(table)
    assert abs(found["mean"]) < 0.05 and abs(found["mean_square"] - 1) < 0.1 and 0.75 < found["r2"] < 0.9
    assert found["subplans"] == 2000 and abs(found["subplan_mean"] - 1) < 0.1
    shifted = residual_summary({**table, "predicted": predicted - 1})
    assert shifted["mean"] > 1.5 and shifted["mean_square"] > 3


def test_unknown_anomalies_are_refused():
    with pytest.raises(UserError, match="unknown anomaly 'nois': there are none, teleported, colours, noise"):
        indicators_at(None, "BabyAI-GoToLocal-v0", [0], "nois", 1, 0)


def test_training_on_top_moves_the_indicators_alone_on_the_rows_asked_for(monkeypatch):
    import jax
    from ml_collections import ConfigDict

    from experiments.configs.babyai_gotolocal import get_config

    config = get_config()
    config.seed, config.groups = 4, 3
    old = ConfigDict(config.to_dict())
    del old.em.rows["indicators"]
    seen = []

    def steps(system, settings):
        seen.append(settings)

        def step(state, batch):
            group = jax.tree.map(lambda x: x + 1, state.params["indicators"])
            return state.replace(params={**state.params, "indicators": group}), {"loss": batch["mission"].sum()}

        return {"indicators": step}

    class Batches:
        def batch(self, number):
            return {name: np.full((1,), number) for name in ("random", "mission", "final")}

    monkeypatch.setattr(training, "make_train_steps", steps)
    before = {"encoder": np.ones(2)}
    params, metrics = training.train_indicators(tiny.system(), before, old, Batches(), 3, rows=500)
    assert seen[0].em.rows.indicators == 96 and seen[0].groups == 1 and seen[0].schedule.em_steps == 3
    assert "indicators" not in old.em.rows and old.groups == 3, "the agent's own config is left alone"
    assert [m["loss"] for m in metrics] == [0, 1, 2] and set(before) == {"encoder"}
    np.testing.assert_array_equal(params["encoder"], 1.0)
    fresh = tiny.drawn(lambda: training.init_indicators(tiny.system(), jax.random.key(0)))
    assert jax.tree.structure(params["indicators"]) == jax.tree.structure(fresh)


class Corridor:
    """Row i shows a door from step `door[i]` on and ends at step `end[i]`."""

    door, end = np.array([1, 3, 5, 9, 2]), np.array([9, 9, 4, 6, 9])

    def reset(self, seeds):
        self.time = 0
        return self.show()

    def show(self):
        view = np.zeros((5, 7, 7, 3), np.uint8)
        view[self.time >= self.door, 2, 2] = 4, 0, 2
        return Observation({"view": view}, ["m"] * 5)

    def step(self, actions):
        self.time += 1
        return self.show(), np.zeros(5), self.time >= self.end


class Clock:
    """An indicator reader that reads the time, and rows that are told apart."""

    def begin(self, seed):
        self.time, self.on_decision = 0, None

    def follow(self, follower):
        pass

    def step_on(self, batch):
        self.time += 1

    def acted(self, observation, actions):
        pass

    def __call__(self, observation, running):
        self.step_on(len(running))
        return {"risk": 10.0 * np.arange(5) + self.time - 1}


def test_what_a_level_holds_is_read_where_it_first_comes_into_view(monkeypatch):
    monkeypatch.setattr(watchdog, "world_for", lambda *_: Corridor())
    monkeypatch.setattr(watchdog, "PlanningMode", lambda *_: type("Mode", (), {
        "follower": None, "__call__": lambda self, observation, running: np.zeros(5, int)})())
    read = lambda until: indicators_at(None, "level", range(5), "none", 2, 0, Clock(), until)["risk"].tolist()  # noqa: E731
    assert read(None) == [2, 12, 22, 32, 42], "all at once, after two steps"
    # rows 0 and 4 show it already; row 1 at step 3; row 2 ended at step 4, a step too soon, row 3 at 6 without one
    assert read(shows_door) == [2, 42, 13]
    with pytest.raises(UserError, match="no episode is left after 2 steps that shows what is waited for"):
        read(lambda view: np.zeros(5, bool))
