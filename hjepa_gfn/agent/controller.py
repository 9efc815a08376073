"""Which mode an episode is in: a small table of rules over indicators (DESIGN section 5; config `agent.controller`).

    "surprise > 2: habitual -> planning for 4"
reads: where an episode is in habitual mode and its indicator `surprise` is above 2, it is in planning mode for its next 4
decisions, this one included, and then in habitual mode again. Without "for N" it stays there until a rule says otherwise. Rules
are asked in order, the first that applies wins, and none is asked while a mode is held.
"""
from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from hjepa_gfn.errors import UserError
from hjepa_gfn.worlds.protocol import Observation

Mode = Callable[[Observation, np.ndarray], np.ndarray]
TABLE = ("surprise > 2: habitual -> planning", "charge < 0: planning -> habitual")  # of configurations that have none
NO_END = -1  # decisions left, of a mode that is not held
_ROW = re.compile(r"\s*(\w+)\s*([<>])\s*([-+.\w]+)\s*:\s*(\w+)\s*->\s*(\w+)(?:\s+for\s+(\S+))?\s*")


class Rule(NamedTuple):
    """One row of the table."""

    indicator: str
    above: bool      # whether the rule applies above the bar, or below it
    bar: float
    origin: str
    target: str
    decisions: int   # how long the target mode is held; NO_END: until another rule applies


class Switch(NamedTuple):
    """One entry of the log. `indicator` is "held" where a mode's time was over; value and bar are decisions then."""

    step: int
    row: int
    indicator: str
    value: float
    bar: float
    origin: str
    target: str


class Phase(NamedTuple):
    """Where each of B episodes stands."""

    mode: np.ndarray  # int [B] index of the mode
    left: np.ndarray  # int [B] decisions for which it is still held, or NO_END
    back: np.ndarray  # int [B] the mode to go back to then


def parse_rules(table: Sequence[str], indicators: Sequence[str], modes: Sequence[str]) -> tuple[Rule, ...]:
    """The rules of a table.

    Raises:
      UserError: a row that does not read as above, or names an indicator or mode that is not there.
    """
    if isinstance(table, str):
        raise UserError(f"agent.controller={table!r}: must be a tuple of rows")
    return tuple(_parse(row, indicators, modes) for row in table)


def _parse(row: str, indicators: Sequence[str], modes: Sequence[str]) -> Rule:
    def refuse(why: str) -> UserError:
        return UserError(f"agent.controller: row {row!r}: {why}")

    match = _ROW.fullmatch(row) if isinstance(row, str) else None
    if not match:
        raise refuse("must read like 'surprise > 2: habitual -> planning for 4'")
    indicator, sign, bar, origin, target, decisions = match.groups()
    if indicator not in indicators:
        raise refuse(f"no indicator {indicator!r}; there are {', '.join(indicators)}")
    for name in (origin, target):
        if name not in modes:
            raise refuse(f"no mode {name!r}; there are {', '.join(modes)}")
    if origin == target:
        raise refuse("leads from a mode to itself")
    try:
        number = float(bar)
    except ValueError:
        number = np.nan
    if not np.isfinite(number):
        raise refuse(f"the bar {bar!r} is not a number")
    if decisions is not None and not (decisions.isdigit() and int(decisions) > 0):
        raise refuse(f"'for {decisions}' must be a positive number of decisions")
    return Rule(indicator, sign == ">", number, origin, target, int(decisions) if decisions else NO_END)


def decide(
    rules: Sequence[Rule], modes: Sequence[str], phase: Phase, values: Mapping[str, np.ndarray], running: np.ndarray, step: int
) -> tuple[Phase, list[Switch]]:
    """The phase in which B episodes take their next decision, and what changed. values: indicator -> [B]; NaN applies to no
    rule. Episodes that are not running keep their phase."""
    mode, left, back = (x.copy() for x in phase)
    log = []

    def switch(rows: np.ndarray, target: int, name: str, value: np.ndarray, bar: float) -> None:
        log.extend(Switch(step, int(i), name, float(value[i]), bar, modes[mode[i]], modes[target]) for i in rows)
        mode[rows] = target

    over = running & (left == 0)
    for target in np.unique(back[over]):
        switch(np.flatnonzero(over & (back == target)), int(target), "held", np.zeros(len(mode)), 0.0)
    left[over] = NO_END
    free = running & (left == NO_END)
    before = mode.copy()  # one rule a decision: none applies to a mode that another has just led to
    for rule in rules:
        value = np.asarray(values[rule.indicator])
        beyond = value > rule.bar if rule.above else value < rule.bar
        rows = np.flatnonzero(free & beyond & (before == modes.index(rule.origin)))
        free[rows] = False
        switch(rows, modes.index(rule.target), rule.indicator, value, rule.bar)
        back[rows], left[rows] = modes.index(rule.origin), rule.decisions
    left[running & (left > 0)] -= 1
    return Phase(mode, left, back), log


class ControlledMode:
    """Several modes, switched for each episode by the table; a `choose` of `run_episodes`.

    Args:
      modes: name -> mode; each is asked for the episodes that are in it. One with a method `forget(rows)` drops what it kept of
        episodes that have just come (back) to it.
      indicate: (observation, running) -> {indicator: [B]}, before every decision.
    Attributes:
      log: every switch with its cause. counts: decisions by mode, and the number of switches. values: the indicators at
        the latest decision.
    """

    def __init__(self, modes: Mapping[str, Mode], rules: Sequence[Rule], indicate: Callable, start: str = "habitual"):
        self.modes, self.rules, self.indicate = dict(modes), tuple(rules), indicate
        self.names, self.start = list(self.modes), start
        self.phase: Phase | None = None
        self.log: list[Switch] = []
        self.values: Mapping[str, np.ndarray] = {}
        self.step, self.counts = 0, dict.fromkeys([*self.names, "switches"], 0)

    def __call__(self, observation: Observation, running: np.ndarray) -> np.ndarray:
        if self.phase is None:
            whole = lambda value: np.full(len(running), value)  # noqa: E731
            self.phase = Phase(whole(self.names.index(self.start)), whole(NO_END), whole(0))
        values = self.values = self.indicate(observation, running)
        self.phase, switched = decide(self.rules, self.names, self.phase, values, running, self.step)
        self.log += switched
        self.counts["switches"] += len(switched)
        self.step += 1
        actions = np.zeros(len(running), np.int64)
        for number, (name, mode) in enumerate(self.modes.items()):
            rows = running & (self.phase.mode == number)
            forget = getattr(mode, "forget", None)
            if forget and (moved := [entry.row for entry in switched if name in (entry.origin, entry.target)]):
                forget(np.asarray(moved))
            if rows.any():
                actions[rows] = mode(observation, rows)[rows]
                self.counts[name] += int(rows.sum())
        if acted := getattr(self.indicate, "acted", None):
            acted(observation, actions)
        return actions
