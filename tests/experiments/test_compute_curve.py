"""Curves of compute: the command line's moves, the drawing, and what evaluation makes of costs."""

import re
import xml.etree.ElementTree as ET
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import pytest

from experiments import compute_curve
from experiments.compute_curve import by_choice, parse_moves
from experiments.configs.babyai_gotolocal import get_config
from experiments.evaluate import decision_costs, steps_over_bot
from hjepa_gfn.agent import optimisation_mode
from hjepa_gfn.agent.options import CHOICES, Optimise, options_of
from hjepa_gfn.errors import UserError
from hjepa_gfn.evaluation.drawing_compute import draw


def test_moves_rise():
    assert parse_moves("0,1,4") == [0, 1, 4] and parse_moves("3") == [3]
    for wrong in ("1,0", "1,1", "-1,2", "a", "", "1,,2"):
        with pytest.raises(UserError, match="--moves="):
            parse_moves(wrong)


class FakeAgent(NamedTuple):
    system: Any
    act: dict
    config: Any


@pytest.mark.parametrize("own", ["sample", "habit", "best"])
def test_every_way_to_choose_is_one_that_optimisation_mode_takes(own, monkeypatch):
    """The default names what the agent itself acts on, whatever that is."""
    monkeypatch.setattr(compute_curve, "optimiser", lambda system, options, temperature: lambda: CHOICES.index(options.choose))
    monkeypatch.setattr(optimisation_mode, "PlanFollower", lambda *args: SimpleNamespace(counts={}))
    config = get_config()
    options = Optimise(**{**config.agent.optimise, "choose": own})
    agent = FakeAgent(None, {"habitual": len}, config)
    assert list(by_choice(agent, options, [])) == list(dict.fromkeys([own, "best"]))
    for choose, chooser in by_choice(agent, options, ["sample", "habit", "best"]).items():
        optimisation_mode.OptimisationMode(chooser, 0, 0, choose)  # refuses what it cannot do
        ran = options_of(chooser.config.agent).choose
        assert ran == (own if choose == "best" else choose) == CHOICES[int(chooser.act["optimise"]())]
        assert chooser.act["habitual"] is len
    with pytest.raises(UserError, match="--choose: no way 'worst' to choose; there are sample, habit, best"):
        by_choice(agent, options, ["best", "worst"])


def report():
    point = lambda moves, choose, rate: dict(  # noqa: E731
        moves=moves, choose=choose, success=rate, interval=[rate - 0.1, rate + 0.05], passes_a_decision=10.0 * (1 + moves))
    found = dict(edits="tree", energy=[1.0, -2.0], energy_error=[0.1, 0.2], best_energy=[1.0, -3.0], best_energy_error=None,
                 passes=[10.0, 40.0])
    return dict(episodes=8, success=[point(0, "habit", 0.5), point(3, "habit", 0.9), point(0, "best", 0.4)], energies=[found])


def test_the_drawing_holds_every_point_where_it_belongs():
    root = ET.fromstring(draw(report()))
    circles = [(float(c.get("cx")), float(c.get("cy"))) for c in root.iter("{http://www.w3.org/2000/svg}circle")]
    assert len(circles) == 3 + 4
    (x0, y0), (x1, y1), (x2, y2) = circles[:3]
    assert x0 < x1 and y1 < y0 < y2 and x2 == x0  # more passes to the right, more success higher up
    (_, first), (_, chain), (_, start), (_, best) = circles[3:]
    assert first == start and first < chain < best  # lower energies lie lower
    text = "".join(root.itertext())
    assert "n = 8" in text and "edits anywhere, best" in text and "acting on what habit draws" in text
    assert "a sample" not in text and "the best plan" in text


def test_an_empty_report_draws_no_points():
    svg = draw(dict(episodes=1, success=[], energies=[]))
    assert not re.search("circle|polyline", svg) and ET.fromstring(svg) is not None


def test_costs_of_decisions():
    costs = decision_costs({"plans": 4, "passes": 40, "seconds": 2.0, "timed": 128})
    assert costs["passes_a_decision"] == 10 and costs["seconds_a_decision"] == 2 / 128 and costs["decisions"]["plans"] == 4
    habit = decision_costs({"habitual": 3, "passes": 3, "seconds": 0.0, "timed": 0})
    assert habit["passes_a_decision"] == 1 and habit["seconds_a_decision"] is None
    assert decision_costs({})["passes_a_decision"] is None


def test_steps_over_the_bot_s_count_what_both_solved():
    assert steps_over_bot(np.array([6, 0, 5, 9]), [3, 4, 5, 3, 7], [True, True, True, False, True]) == 1.5
    assert steps_over_bot(np.array([0]), [3], [True]) is None
