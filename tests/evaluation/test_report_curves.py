"""Learning curves: reading rows, picking panels, smoothing, and what the panel draws."""

import math
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

from hjepa_gfn.evaluation.drawing_curves import nice_ticks, panel, pick_curves, read_curves, smooth, thin


def rows_of(n=50, **metrics):
    return [{"step": 10 * k, **{name: f(k) for name, f in metrics.items()}} for k in range(n)]


def test_rows_become_curves_without_what_is_not_finite():
    rows = [
        {"step": 20, "jepa/loss": 2.0, "prior/loss": None},
        {"step": 10, "jepa/loss": math.nan, "prior/loss": 5},
        {"step": 0, "jepa/loss": 4.0, "note": "text", "flag": True},
        {"jepa/loss": 9.0},
    ]
    curves = {f"{c.group}/{c.metric}": c for c in read_curves(rows)}
    assert set(curves) == {"jepa/loss", "prior/loss"}
    np.testing.assert_array_equal(curves["jepa/loss"].steps, [0, 20])
    np.testing.assert_array_equal(curves["jepa/loss"].values, [4, 2])
    assert (curves["jepa/loss"].broken, curves["prior/loss"].broken) == (1, 1)


def test_picking_gives_every_group_its_turn_losses_first_and_no_bookkeeping():
    many = {f"big/metric_{k:02d}": math.sin for k in range(40)}
    constant = lambda k: 1.0
    rows = rows_of(
        **many,
        **{"big/loss": math.cos, "small/learning_rate": constant, "small/nll": math.cos, "small/fixed": constant},
        **{"late/steps_per_second": math.sin, "late/subtb_loss": math.sin},
    )
    picked = [f"{c.group}/{c.metric}" for c in pick_curves(read_curves(rows), most=24)]
    assert len(picked) == 24
    assert picked[0] == "big/loss"
    assert {"small/nll", "late/subtb_loss"} <= set(picked)
    assert picked.index("small/nll") < picked.index("small/fixed"), "constants come last"
    assert not {"small/learning_rate", "late/steps_per_second"} & set(picked)
    groups = [name.split("/")[0] for name in picked]
    assert groups == sorted(groups, key=["big", "small", "late"].index), "a group's panels stand together"


def test_smoothing_keeps_constants_up_to_the_ends_and_averages():
    np.testing.assert_allclose(smooth(np.full(30, 3.0), 7), 3.0)
    np.testing.assert_allclose(smooth(np.array([0.0, 3.0, 6.0]), 3), [1.5, 3.0, 4.5])
    assert smooth(np.array([2.0]), 9) == pytest.approx([2.0])


def test_thinning_keeps_spikes():
    values = np.zeros(10_000)
    values[6_789] = 100.0
    steps, thinned = thin(np.arange(10_000.0), values, 300)
    assert len(thinned) <= 300
    assert steps[np.argmax(thinned)] == 6_789
    assert np.all(np.diff(steps) > 0)


@pytest.mark.parametrize(
    ("low", "high", "ticks"), [(0, 1, [0, 0.5, 1]), (0.3, 4.2, [2, 4]), (-1, 1, [-1, 0, 1]), (5, 5, [5])]
)
def test_ticks_are_round(low, high, ticks):
    assert nice_ticks(low, high) == pytest.approx(ticks)


def test_panel_draws_the_curve_within_its_frame_and_states_its_last_value():
    curve = read_curves(rows_of(**{"jepa/loss": lambda k: 100 - 2 * k}))[0]
    svg = ElementTree.fromstring(panel(curve, 490, 0))
    points = {line.get("class"): line.get("points").split() for line in svg.iter("polyline")}
    assert len(points["raw"]) == 50
    x, y = np.array([[float(v) for v in p.split(",")] for p in points["smooth"]]).T
    assert x.min() == pytest.approx(42) and x.max() == pytest.approx(252)
    assert np.all(np.diff(y) >= 0), "a falling loss falls on the page: y grows downwards"
    assert next(t.text for t in svg.iter("text") if t.get("class") == "value") == "3"  # mean of 4 and 2


@pytest.mark.parametrize("f", [lambda k: 0.0, lambda k: -5.0, lambda k: 10.0 ** (4 - k / 10), lambda k: math.nan])
def test_panel_draws_constants_wide_ranges_and_nothing(f):
    curve = read_curves(rows_of(**{"a/b<c": f}))[0]
    svg = ElementTree.fromstring(panel(curve, 490, 3))
    text = "".join(svg.itertext())
    assert "b<c" in text and "nan" not in ElementTree.tostring(svg).decode().replace("not finite", "")
    assert ("50 not finite" in text) == math.isnan(f(0))
    assert ("1e1" in text) == (f(0) == 1e4), "a range of some decades gets a logarithmic axis"
