"""Resistance curves: which points are measured, that a report goes on where it was, how it is told and drawn; bad input."""
import xml.etree.ElementTree as ET
from types import SimpleNamespace

import numpy as np
import pytest

from experiments import resistance
from experiments.resistance import Setting, begin, parse_rising
from hjepa_gfn.errors import UserError
from hjepa_gfn.evaluation import resistance_curve
from hjepa_gfn.evaluation.resistance_curve import HEADER, Course, courses, draw, fingerprint, measure, table_rows
from hjepa_gfn.files import read_json
from hjepa_gfn.worlds.protocol import Observation

STEPS, RATES = [0, 2, 5], [0.1, 0.3]


def found(harm=2.0, success=0.5):
    return dict(violations=harm, violations_interval=[harm - 1, harm + 2], success=success, steps=9.0,
                success_interval=[success - 0.1, success + 0.2])


def point(learner, texts, rate, steps, **values):
    modes = resistance_curve.LEARNERS[learner]
    measures = {mode: found(**values) for mode in modes}
    return dict(learner=learner, texts=texts, rate=rate, steps=steps, losses={}, modes=measures)


def test_numbers_rise():
    assert parse_rising("0,10,30", "steps", int, 0) == [0, 10, 30]
    assert parse_rising("1e-4,0.1", "rates", float, 0) == [1e-4, 0.1]
    wrong = [(text, int) for text in ("1,0", "1,1", "-1", "a", "", "1.5")]
    for text, kind in (*wrong, ("nan", float), ("inf", float)):
        with pytest.raises(UserError, match="--steps="):
            parse_rising(text, "steps", kind, 0)


def test_every_point_is_measured_once_and_the_untouched_agent_once_for_all():
    wanted = courses(("harmful", "benign"), RATES, STEPS, [])
    assert wanted[:3] == [Course("agent", "harmful", 0.1, (0, 2, 5)), Course("reader", "harmful", 0.1, (0, 2, 5)),
                          Course("agent", "benign", 0.1, (2, 5))]
    assert len(wanted) == 8 and sum(len(course.steps) for course in wanted) == 2 * (1 + 2 * 2 * 2)
    done = [point("agent", "benign", 0.3, 2), point("agent", "harmful", 0.1, 0), point("reader", "harmful", 0.1, 2),
            point("reader", "harmful", 0.1, 5), point("reader", "benign", 0.3, 0)]
    left = courses(("harmful", "benign"), RATES, STEPS, done)
    assert Course("agent", "harmful", 0.1, (2, 5)) in left and Course("agent", "benign", 0.3, (5,)) in left
    assert not any(course[:3] == ("reader", "harmful", 0.1) or 0 in course.steps for course in left)


@pytest.fixture
def toy(monkeypatch):
    """Learners whose parameters are sums of what they were tuned on; harm is what they hold. Counts the iterations."""
    ran = []

    def tuner(learner):
        def tune(state, batch, rate):
            ran.append(learner)
            return SimpleNamespace(params=state.params + batch["x"] * float(rate)), {"nll": np.float32(1.0)}
        return tune

    class Batches:
        def __init__(self, data_dir, split, tokenizer, config, seed, store):
            self.store = store

        def batch(self, number):
            return {"x": self.store.size + number, "index": 0}

    def measured(agent, modes, level, seeds, seed):
        return {mode: found(harm=float(agent.params)) for mode in modes}

    changes = dict(agent_tuner=lambda *_: tuner("agent"), reader_tuner=lambda *_: tuner("reader"), Pipeline=Batches,
                   measure=measured, start_state=lambda params, config: SimpleNamespace(params=params),
                   tuning_config=lambda config, rows, seed: config, batch_shapes=lambda data: {"x": None})
    for name, change in changes.items():
        monkeypatch.setattr(resistance, name, change)
    agent = SimpleNamespace(params=np.float64(3.0), config=SimpleNamespace(data=None), system=None, tokenizer=None)
    agent._replace = lambda params: SimpleNamespace(params=params)
    data = {kind: SimpleNamespace(final=[kind], size=size) for kind, size in (("harmful", 10), ("benign", -1))}
    return ran, lambda out, steps=STEPS, texts=("harmful", "benign"), seed=0: resistance.resistance(
        agent, data, out, list(texts), steps, RATES, Setting("level", "all", 8, 4, seed))


def numbers(report):
    return {resistance_curve.key_of(p): p["modes"][resistance_curve.LEARNERS[p["learner"]][0]]["violations"]
            for p in report["points"]}


def test_a_report_goes_on_where_it_was_and_its_points_do_not_depend_on_how_it_came_about(toy, tmp_path):
    ran, run = toy
    whole = run(tmp_path / "whole")
    assert numbers(whole)["agent", "harmful", 0.1, 2] == pytest.approx(3 + 0.1 * (10 + 11))
    assert numbers(whole)["reader", "benign", 0.3, 5] == pytest.approx(3 + 0.3 * (-1 + 0 + 1 + 2 + 3))
    assert numbers(whole)["agent", "none", 0.0, 0] == 3 and len(numbers(whole)) == 18
    ran.clear()
    first = run(tmp_path / "parts", steps=[0, 5], texts=("harmful",))
    assert len(ran) == 4 * 5 and len(first["points"]) == 6
    parts = run(tmp_path / "parts")
    assert numbers(parts) == numbers(whole) == numbers(read_json(tmp_path / "parts" / "resistance.json"))
    assert len(ran) == 4 * 5 + 4 * 2 + 4 * 5, "two steps where five are known; five where nothing is"
    ran.clear()
    assert run(tmp_path / "parts")["points"] == parts["points"] and not ran
    with pytest.raises(UserError, match="was measured with seed 0, this is 1"):
        run(tmp_path / "parts", seed=1)


def test_a_strange_file_is_refused_and_left_alone(tmp_path):
    (tmp_path / "r.json").write_text("[1]")
    with pytest.raises(UserError, match="is not a report"):
        begin(tmp_path / "r.json", {})
    assert (tmp_path / "r.json").read_text() == "[1]"


def test_the_drawing_holds_every_point_where_it_belongs():
    points = [point(learner, "harmful", rate, steps, harm=1.0 + steps * rate) for learner in ("agent", "reader")
              for rate in RATES for steps in STEPS if steps or rate == 0.1]
    root = ET.fromstring(draw(points, RATES, STEPS, ["harmful", "benign"], 7))
    plots = root.findall("{http://www.w3.org/2000/svg}g")
    assert len(plots) == len(RATES) * 2 * 2
    titles = [plot.find("{http://www.w3.org/2000/svg}text").text for plot in plots]
    assert titles[0] == "harmful texts, rate 0.1: violations an episode (n = 7)"
    assert titles[7] == "benign texts, rate 0.3: success (n = 7)"
    circles = [[(float(c.get("cx")), float(c.get("cy"))) for c in plot.iter("{http://www.w3.org/2000/svg}circle")]
               for plot in plots]
    assert [len(some) for some in circles] == [9, 9, 3, 3] * 2, "of benign texts there is the untouched agent alone"
    (x0, y0), (x1, y1), (x2, y2) = circles[0][:3]
    assert x1 - x0 == pytest.approx(x2 - x1, abs=0.2) and y0 > y1 > y2, "steps are spread evenly; more harm is higher up"
    ticks = {float(t.get("x")) for t in plots[2].iter("{http://www.w3.org/2000/svg}text") if t.text in ("2", "5")}
    assert max(ticks) < resistance_curve.WIDTH, "an axis has room for steps that are still to come"
    assert circles[0][2][1] != circles[4][2][1] or circles[0][1][1] != circles[4][1][1], "each rate has a row of its own"


def test_rows_of_the_table_stand_under_its_header():
    rows = table_rows(point("agent", "harmful", 0.003, 30, harm=4.25, success=0.5))
    assert [row.split()[4] for row in rows] == ["planning", "habitual"] and all("4.25 [3.25, 6.25]" in row for row in rows)
    assert rows[0].split()[:4] == ["agent", "harmful", "0.003", "30"]
    for name, value in (("learner", "agent"), ("texts", "harmful"), ("mode", "planning")):
        assert HEADER.index(name) == rows[0].index(value)
    assert table_rows(point("reader", "harmful", 0.1, 0))[0].split()[1] == "none"


def test_fingerprints_tell_parameters_and_texts_apart():
    one = {"a": np.zeros(2), "b": np.ones(1)}
    assert fingerprint(one) == fingerprint({**one}) != fingerprint({**one, "b": np.zeros(1)})
    assert fingerprint(["ab", "c"]) != fingerprint(["a", "bc"])


def test_every_mode_is_judged_on_what_it_did(monkeypatch):
    """Stand-ins for the modes walk by their own actions; all begin with the same seeds."""
    class World:
        num_actions = 7

        def __init__(self, agent, level, count):
            self.count = count

        def reset(self, seeds):
            assert seeds == [5, 6]
            return Observation({}, ["go"] * 2)

        def step(self, actions):
            return Observation({}, ["go"] * 2), (actions == 2).astype(np.float32), actions == 2

    modes = {"PlanningMode": 2, "HabitualMode": 1, "SpeakingMode": 0}
    for name, action in modes.items():
        monkeypatch.setattr(resistance_curve, name, lambda *_, action=action: lambda seen, running: np.full(2, action))
    monkeypatch.setattr(resistance_curve, "world_for", World)
    monkeypatch.setattr(resistance_curve, "summary", lambda level, seeds, actions, success, seed: (actions, success.tolist()))
    settings = SimpleNamespace(data=SimpleNamespace(text_length=4), agent=SimpleNamespace(max_steps=3))
    agent = SimpleNamespace(config=settings)
    out = measure(agent, ("planning", "habitual", "speaker", "random"), "level", [5, 6], 0)
    assert out["planning"] == ([[2]] * 2, [True] * 2) and out["habitual"] == ([[1] * 3] * 2, [False] * 2)
    assert out["speaker"][0] == [[0] * 3] * 2 and set(out) == {"planning", "habitual", "speaker", "random"}
