"""What is said of a world model: ranks, ratios and masks against numpy loops, calibration, doors, plots."""
import functools
import sys
import xml.dom.minidom
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))
import tiny  # noqa: E402

from hjepa_gfn.evaluation.drawing_lines import lines  # noqa: E402
from hjepa_gfn.evaluation.world_model import (  # noqa: E402
    calibration,
    dynamics_table,
    nearest_door,
    probe_walks,
    read_steps,
    reliability,
)

SYSTEM = tiny.system()


@functools.cache
def read():
    window = {k: np.asarray(v) for k, v in tiny.window([[3, 2], [4, 3], [2]], seed=2).items()}
    return window, read_steps(SYSTEM, tiny.params(), window, 2)


def test_steps_against_loops():
    window, found = read()
    level = lambda *args, **how: np.asarray(SYSTEM.level(tiny.params(), *args, **how), np.float64)
    z, action = found.z, window["action"]
    assert found.real.sum() == 5 + 7 + 2
    for b in range(3):
        for t in range(action.shape[1]):
            if t >= window["length"][b]:
                assert np.isnan(found.error[:, b, t]).all() and np.isnan(found.copy[:, b, t]).all()
    for b, t in ((0, 0), (0, 4), (1, 3), (2, 0)):
        ahead = [level(z[b, t], np.int32(a), method="predict", level=1) for a in range(tiny.ACTIONS)]
        gaps = [np.mean((x - z[b, t + 1]) ** 2) for x in ahead]
        own = action[b, t]
        assert found.rank[b, t] == 1 + sum(gap < gaps[own] for gap in gaps)
        np.testing.assert_allclose(found.error[0, b, t], gaps[own], rtol=1e-4)
        np.testing.assert_allclose(found.residual2[b, t].mean(), gaps[own], rtol=1e-4)
        np.testing.assert_allclose(found.copy[0, b, t], np.mean((z[b, t] - z[b, t + 1]) ** 2), rtol=1e-4)
        if t + 2 <= window["length"][b]:
            far = level(ahead[own].astype(np.float32), np.int32(action[b, t + 1]), method="predict", level=1)
            np.testing.assert_allclose(found.error[1, b, t], np.mean((far - z[b, t + 2]) ** 2), rtol=1e-4)
            np.testing.assert_allclose(found.copy[1, b, t], np.mean((z[b, t] - z[b, t + 2]) ** 2), rtol=1e-4)
        else:
            assert np.isnan(found.error[1, b, t])
        assert found.inverse[b, t] == level(z[b, t], z[b, t + 1], method="invert", level=1).argmax()


def test_tables_count_real_steps_only():
    window, found = read()
    real = np.arange(7) < window["length"][:, None]
    action = np.where(real, window["action"], 99)
    table = dynamics_table(found._replace(rank=np.where(real, found.rank, 50)), action)
    assert table["true_action_best"] == pytest.approx((found.rank == 1)[real].mean())
    assert table["true_action_mean_rank"] == pytest.approx(found.rank[real].mean())
    assert table["inverse_accuracy"] == pytest.approx((found.inverse == window["action"])[real].mean())
    assert table["pred_over_copy"] == pytest.approx(found.error[0][real].mean() / found.copy[0][real].mean(), rel=1e-4)
    assert table["pred_over_copy_2"] != pytest.approx(table["pred_over_copy"], rel=1e-3)


def test_calibration_of_right_and_wrong_variances():
    rng = np.random.default_rng(0)
    variance = np.exp(rng.normal(size=(4000, 1))) * np.ones((1, 6))
    residual2 = variance * rng.normal(size=(4000, 6)) ** 2
    right, wrong = calibration(residual2, variance), calibration(residual2, variance / 4)
    assert right["calibration"] == pytest.approx(1.0, abs=0.05) and wrong["calibration"] == pytest.approx(4.0, abs=0.2)
    assert right["calibration_log_correlation"] == pytest.approx(wrong["calibration_log_correlation"]) and (
        right["calibration_log_correlation"] > 0.8)
    assert abs(calibration(residual2, rng.permutation(variance))["calibration_log_correlation"]) < 0.1
    bins = reliability(residual2, variance)
    assert len(bins) == 10 and all(a[0] < b[0] for a, b in zip(bins, bins[1:]))
    assert all(v == pytest.approx(r, rel=0.2) for v, r in bins)


def test_the_nearest_door_is_read():
    view = np.zeros((3, 7, 7, 3), np.uint8)
    view[0, 3, 4] = 4, 1, 2  # two steps ahead, locked
    view[0, 0, 0] = 4, 1, 1
    view[1, 6, 6] = 4, 1, 1
    assert nearest_door(view).tolist() == [2, 1, -1]


def test_probes_find_what_is_there_and_say_where_there_is_nothing_to_find():
    rng = np.random.default_rng(1)
    direction, position = rng.integers(0, 4, (20, 9)), rng.integers(0, 8, (20, 9, 2))
    z = np.concatenate([np.eye(4)[direction], position], -1)
    state = SimpleNamespace(pocket=np.zeros((20, 9, 2), np.uint8), position=position)
    walks = SimpleNamespace(state=state, seen={"view": np.zeros((20, 9, 7, 7, 3), np.uint8), "direction": direction})
    table = probe_walks(z, walks)
    assert table["direction"] == 1.0 and table["position"] > 0.99 and table["carried"] is None and table["door"] is None
    assert probe_walks(rng.normal(size=z.shape), walks)["direction"] < 0.6


def test_plots_are_pictures_with_every_point():
    drawn = lines({"a < b": [(1.0, 2.0), (10.0, 30.0)], "c": [(2.0, 2.0)]}, "title", "x", "y", logarithmic=True, diagonal=True)
    svg = xml.dom.minidom.parseString(drawn)
    assert len(svg.getElementsByTagName("circle")) == 3 and len(svg.getElementsByTagName("polyline")) == 2
    height = {c.getAttribute("cy") for c in svg.getElementsByTagName("circle")}
    assert len(height) == 2, "equal values lie equally high"
    for bad in ({}, {"a": [(0.0, 1.0)]}, {"a": [(float("nan"), 1.0)]}):
        with pytest.raises(ValueError, match="title"):
            lines(bad, "title", "x", "y", logarithmic=True)
