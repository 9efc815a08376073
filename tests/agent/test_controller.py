"""The controller's table: how rows read, when they apply, for how long, and what is logged."""
import numpy as np
import pytest

from hjepa_gfn.agent.controller import NO_END, ControlledMode, Phase, Rule, Switch, decide, parse_rules
from hjepa_gfn.errors import UserError
from hjepa_gfn.worlds.protocol import Observation

INDICATORS, MODES = ("surprise", "charge"), ("habitual", "planning", "optimisation")


def rules(*rows):
    return parse_rules(rows, INDICATORS, MODES)


def test_rows_read_as_they_say():
    assert rules("surprise > 2: habitual -> planning for 4", " charge<-1e-1 :planning->habitual ") == (
        Rule("surprise", True, 2.0, "habitual", "planning", 4), Rule("charge", False, -0.1, "planning", "habitual", NO_END))


@pytest.mark.parametrize(("row", "message"), [
    ("surprise 2: habitual -> planning", "must read like"), (("surprise", ">"), "must read like"),
    ("surprize > 2: habitual -> planning", "no indicator 'surprize'; there are surprise, charge"),
    ("surprise > 2: habitual -> plan", "no mode 'plan'; there are habitual, planning, optimisation"),
    ("surprise > 2: planning -> planning", "from a mode to itself"), ("surprise > two: habitual -> planning", "not a number"),
    ("surprise > nan: habitual -> planning", "not a number"),
    ("surprise > 2: habitual -> planning for 0", "positive number"),
    ("surprise > 2: habitual -> planning for a while", "must read")])
def test_wrong_rows_are_one_line(row, message):
    with pytest.raises(UserError, match="agent.controller: row") as error:
        rules(row)
    assert message in str(error.value) and "\n" not in str(error.value)


def test_a_table_that_is_one_string_is_refused():
    with pytest.raises(UserError, match="tuple of rows"):
        parse_rules("surprise > 2: habitual -> planning", INDICATORS, MODES)


def test_which_rows_switch_and_what_the_log_says():
    table = rules("surprise > 2: habitual -> planning for 2", "surprise > 3: habitual -> optimisation",
                  "surprise > 2: planning -> optimisation")
    phase = Phase(np.array([0, 0, 1, 0, 1, 0]), np.array([NO_END, NO_END, NO_END, NO_END, 3, NO_END]), np.zeros(6, int))
    surprise = np.array([2.0, 4.0, 5.0, 9.0, 9.0, np.nan])
    new, log = decide(table, MODES, phase, {"surprise": surprise}, np.array([1, 1, 1, 0, 1, 1], bool), 7)
    # at the bar nothing happens; the first rule wins; not running: untouched; held: not asked; unknown: no rule applies
    assert new.mode.tolist() == [0, 1, 2, 0, 1, 0]
    assert new.left.tolist() == [NO_END, 1, NO_END, NO_END, 2, NO_END]
    assert log == [Switch(7, 1, "surprise", 4.0, 2.0, "habitual", "planning"),
                   Switch(7, 2, "surprise", 5.0, 2.0, "planning", "optimisation")]
    assert phase.mode.tolist() == [0, 0, 1, 0, 1, 0], "the old phase is left as it was"


class Constant:
    def __init__(self, action):
        self.action, self.forgotten, self.asked = action, [], []

    def __call__(self, observation, running):
        self.asked.append(running.copy())
        return np.where(running, self.action, 0)

    def forget(self, rows):
        self.forgotten += rows.tolist()


def test_episodes_switch_each_by_itself_for_as_many_decisions_as_the_table_says():
    surprise = np.array([[0, 0], [3, 0], [3, 3], [0, 0], [0, 0], [0, 0]], float)
    steps = iter(surprise)
    modes = {"habitual": lambda observation, running: np.where(running, 1, 0), "planning": Constant(2)}
    table = parse_rules(["surprise > 2: habitual -> planning for 2"], INDICATORS, tuple(modes))
    controlled = ControlledMode(modes, table, lambda observation, running: {"surprise": next(steps)})
    running = [np.array(row, bool) for row in [(1, 1)] * 4 + [(1, 0)] * 2]
    actions = [controlled(Observation({}, ["", ""]), row).tolist() for row in running]
    assert actions == [[1, 1], [2, 1], [2, 2], [1, 2], [1, 0], [1, 0]]
    assert [(s.step, s.row, s.indicator, s.target) for s in controlled.log] == [
        (1, 0, "surprise", "planning"), (2, 1, "surprise", "planning"), (3, 0, "held", "habitual")]
    assert controlled.counts == {"habitual": 6, "planning": 4, "switches": 3}
    assert modes["planning"].forgotten == [0, 1, 0], "on the way in and on the way out"
    assert [asked.tolist() for asked in modes["planning"].asked] == [[True, False], [True, True], [False, True]]
