"""Scores of episodes, and that a planner sees pictures only."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.two_rooms import finished, run, table
from experiments.two_rooms_settings import SETTINGS, Setting, as_json, changed, wall_range, weights_of
from hjepa_gfn.agent.mppi import Mppi
from hjepa_gfn.errors import UserError
from hjepa_gfn.evaluation.two_rooms import Tasks, draw_tasks, outcome, planned, true_advance, true_sight
from hjepa_gfn.files import write_json
from hjepa_gfn.models.pixel_jepa import PixelSizes
from hjepa_gfn.training.pixel_jepa import PixelTraining, train, updater
from hjepa_gfn.worlds.two_rooms import Rooms, layouts

ROOMS = Rooms()


def test_outcomes_are_scored_at_the_end_and_on_the_way():
    tasks = Tasks(*(jnp.array(rows, jnp.float32) for rows in ([[9, 9]] * 3, [[3, 3]] * 3, [[14, 3]] * 3)))
    there, far = [14.0, 4.0], [4.0, 3.0]
    position = jnp.array([[[3, 3], far, there], [[3, 3], there, far], [[3, 3], far, [16.0, 9.0]]])
    found = outcome(ROOMS, tasks, position)
    assert found["success"] == pytest.approx(1 / 3) and found["reached"] == pytest.approx(2 / 3)
    assert found["crossed"] == pytest.approx(2 / 3) and found["episodes"] == 3
    assert found["distance"] == pytest.approx((1.0 + 10.0 + np.hypot(2, 6)) / 3, rel=1e-5)


def test_tasks_are_of_the_split_and_differ_by_seed():
    known = {tuple(row) for row in layouts(ROOMS, "test")}
    tasks = draw_tasks(ROOMS, "test", 2 * len(known), 0)
    assert {tuple(row) for row in np.asarray(tasks.layout)} == known
    assert not np.array_equal(tasks.start, draw_tasks(ROOMS, "test", 2 * len(known), 1).start)


def test_the_true_dynamics_planner_goes_through_the_door_and_what_is_planned_in_is_what_see_gives():
    tasks = Tasks(jnp.array([[9.0, 9.0]]), jnp.array([[4.0, 8.0]]), jnp.array([[14.0, 10.0]]))
    plan = Mppi(knots=6, samples=64, elites=8)
    run_it = lambda see: planned(ROOMS, plan, see, true_advance(ROOMS), jax.random.key(0), tasks)
    position = jax.jit(lambda: run_it(true_sight))()
    assert position.shape == (1, ROOMS.allowed + 1, 2)
    assert outcome(ROOMS, tasks, position)["success"] == 1.0
    # A planner whose sight shows now and goal alike has nothing to go for and stays.
    blind = jax.jit(lambda: run_it(lambda layout, position: jnp.array([4.0, 8.0])))()
    assert outcome(ROOMS, tasks, blind)["crossed"] == 0.0


def test_it_looks_again_after_as_many_actions_as_it_may_take():
    """Between two looks it walks on by the plan it has; the search after them begins with that plan's rest, or at rest."""
    tasks = Tasks(jnp.array([[9.0, 9.0]]), jnp.array([[4.0, 8.0]]), jnp.array([[8.0, 8.0]]))
    rooms = dataclasses.replace(ROOMS, allowed=6)
    east = Mppi(knots=4, hold=1, samples=64, elites=8, iterations=3, replan=3, longest=0.5)
    search = lambda plan: jax.jit(lambda: planned(rooms, plan, true_sight, true_advance(rooms), jax.random.key(0), tasks))()
    positions = {warm: np.asarray(search(dataclasses.replace(east, warm=warm)))[0] for warm in (True, False)}
    for found in positions.values():
        assert found.shape == (7, 2) and (np.linalg.norm(np.diff(found, axis=0), axis=-1) < 0.5 + 1e-5).all()
        assert found[-1, 0] > 4.0 + 4 * 0.4, "all actions of a plan are taken, not its first three times"
    np.testing.assert_array_equal(positions[True][:4], positions[False][:4])
    assert np.abs(positions[True][4:] - positions[False][4:]).max() > 1e-6, "from the second look on they search elsewhere"


def test_flags_change_the_part_of_the_setting_that_has_their_name():
    new = changed(SETTINGS["short"], {"steps": 100, "samples": 30, "dtype": "float32", "episodes": None}, ["30", "31"])
    assert (new.training.steps, new.plan.samples, new.training.sizes.dtype) == (100, 30, "float32")
    assert new.episodes == SETTINGS["short"].episodes and new.training.rooms.wall == (30, 31)
    back = changed(new, {"steps": 1600, "samples": 200, "dtype": "bfloat16"}, ["20", "44"])
    assert back == SETTINGS["short"]
    assert weights_of(back, "sigreg") == (0.0, 0.0, 12.0, 1.0, 0.02) and weights_of(back, "no inverse").inverse == 0.0


def test_a_finished_run_is_taken_up_again_and_one_of_other_settings_is_not(tmp_path):
    setting, weights = as_json(Setting()), weights_of(Setting(), "sigreg")._asdict()
    path = tmp_path / "sigreg-0.json"
    assert finished(path, setting, weights) is None
    write_json(path, {"setting": setting, "weights": weights, "success": 0.5})
    assert finished(path, as_json(Setting()), weights)["success"] == 0.5
    assert finished(path, as_json(Setting(training=PixelTraining(steps=7))), weights) is None
    assert finished(path, setting, weights_of(Setting(), "full")._asdict()) is None


def test_a_wall_that_leaves_no_room_is_refused():
    assert wall_range(ROOMS, ["7", "12"]) == (7, 12)
    for given in (["9"], ["a", "9"], ["12", "7"], ["2", "9"], ["9", "15"]):
        with pytest.raises(UserError, match="--wall="):
            wall_range(ROOMS, given)


def test_a_tiny_run_is_measured_and_compiles_once_for_all_weights():
    # With what EB-JEPA adds: a recurrent predictor from the first state, windows of longer walks, several steps a call.
    training = PixelTraining(
        rooms=dataclasses.replace(ROOMS, roam=4), sizes=PixelSizes(state=4, channels=4, predictor="gru", hidden=8), steps=4,
        batch=4, horizon=2, window=3, from_first=True, chunk=2)
    setting = Setting(training, plan=Mppi(knots=2, samples=16, elites=4, iterations=1), episodes=4)
    first = run(setting, "full", 0, False)
    second = run(setting, "no inverse", 0, False)
    assert updater(training)._cache_size() == 1
    assert first["losses"]["prediction"] != second["losses"]["prediction"], "the weights reach the loss"
    many, losses, _ = train(training, setting.weights, 0, progress=False)
    assert first["losses"] == losses, "the same seed, the same run"
    one, losses, _ = train(dataclasses.replace(training, chunk=1), setting.weights, 0, progress=False)
    for a, b in zip(jax.tree.leaves(many), jax.tree.leaves(one)):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5, err_msg="scanned steps are the steps one by one")
    assert losses == pytest.approx(first["losses"], rel=1e-4)
    assert set(first) >= {"success", "probe_position", "pred_over_copy_far"} and 0 <= first["success"] <= 1
    text = table({"full": [first, first | {"success": first["success"] + 0.5}]})
    assert f"{100 * first['success'] + 25:.1f} ± 25.0" in text and "| full | 2 | 97 |" in text
