"""All modes of an agent under one controller, with the indicators read from whatever plan is followed."""
from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from hjepa_gfn.agent.agent import Agent, several_actors
from hjepa_gfn.agent.controller import ControlledMode, parse_rules
from hjepa_gfn.agent.following import OnDecision
from hjepa_gfn.agent.indicators import NAMES, IndicatorReader
from hjepa_gfn.agent.optimisation_mode import OptimisationMode
from hjepa_gfn.agent.runner import HabitualMode, PlanningMode
from hjepa_gfn.errors import UserError

MODES = ("habitual", "planning", "optimisation")


def has_indicators(agent: Agent) -> bool:
    """Whether indicators are read: the agent's parameters hold their networks (older exports lack them), and one actor plans
    (the rest of the plan that is followed is that of one)."""
    return "indicators" in agent.params and not several_actors(agent)


def controlled_mode(
    agent: Agent, seed: int, table: Sequence[str] = (), start: str = "habitual", on_decision: OnDecision | None = None,
    reader: IndicatorReader | None = None,
) -> ControlledMode:
    """Habitual, planning and optimisation mode under a controller's table; without a table, the mode `start` alone.

    Indicators are read at every decision where the agent has their parameters; else the mode's `values` are empty.

    Args:
      on_decision: told of every plan that is made, by either mode, as `PlanFollower` tells it.
      reader: one of this agent to use again (its programs are compiled); it begins anew.

    Raises:
      UserError: a table that does not read, an unknown mode, or a table for an agent without indicators.
    """
    if start not in MODES:
        raise UserError(f"no mode {start!r}; there are {', '.join(MODES)}")
    rules = parse_rules(table, NAMES, MODES)
    if rules and not has_indicators(agent):
        why = "are not read where several actors plan" if several_actors(agent) else "this agent has no parameters of"
        raise UserError(f"agent.controller needs indicators, which {why}")
    if has_indicators(agent):
        reader = reader or IndicatorReader(agent, seed)
        reader.begin(seed)

    def decided(row: int, decision: Any) -> None:
        for told in (reader and reader.on_decision, on_decision):
            if told:
                told(row, decision)

    planning = PlanningMode(agent, seed, decided)
    optimisation = OptimisationMode(agent, seed, on_decision=decided)
    if reader:
        reader.follow(planning.follower, optimisation.follower)
    indicate: Callable = reader or (lambda observation, running: {})
    modes = {"habitual": HabitualMode(agent, seed), "planning": planning, "optimisation": optimisation}
    return ControlledMode(modes, rules, indicate, start)
