"""What optimisation mode is told by a configuration."""
from __future__ import annotations

import ast
import dataclasses
from collections.abc import Iterable
from typing import Any

from ml_collections import ConfigDict

from hjepa_gfn.errors import UserError
from hjepa_gfn.gflownet.schedules import Geometric, Halving, Schedule, Uniform

CHOICES = ("sample", "habit", "best")  # of what is acted on


@dataclasses.dataclass(frozen=True)
class Optimise:
    """`config.agent.optimise`.

    Raises:
      UserError: a value that means nothing.
    """

    chains: int = 1             # C, in each situation
    moves: int = 2              # M, the budget
    tau: float = 1.0            # of the target exp(-E / tau); 1 is exact
    patience: int = 4           # moves without any acceptance after which the mode stops; 0: never
    # what is acted on: "sample", a chain's last state; "habit", of all chains' last states one drawn by the habit's probability
    # of how it begins; "best", the least energy met
    choose: str = "sample"
    energy: str = "plan"        # "plan" or "plan_and_text"
    proposals: str = "prior"    # policy that moves plans: "prior", or with "plan_and_text" also "posterior", which reads x
    schedule: str = "halving"   # q(K|n, move): "halving", "uniform", "geometric"
    mix: float = 0.1            # share of uniform K in "halving"
    characteristics: float = 1.0  # w, of several actors with characteristics: nats for each nat a decision of risk foreseen
    elaborate: int = 1          # moves between two sub-plans that are made then; 0: none is made

    def __post_init__(self):
        allowed = {"choose": CHOICES, "energy": ("plan", "plan_and_text"),
                   "proposals": ("prior", "posterior"), "schedule": ("halving", "uniform", "geometric")}
        for name, values in allowed.items():
            if getattr(self, name) not in values:
                raise UserError(f"agent.optimise.{name}={getattr(self, name)!r}: one of {', '.join(values)}")
        if self.proposals == "posterior" and self.energy == "plan":
            raise UserError("agent.optimise.proposals='posterior' reads the chain's text: it needs energy='plan_and_text'")
        if self.chains < 1 or self.moves < 0 or self.patience < 0 or self.elaborate < 0:
            raise UserError("agent.optimise: chains must be at least 1, moves, patience and elaborate at least 0")
        if not self.tau > 0 or not 0 <= self.mix <= 1:
            raise UserError("agent.optimise: tau must be above 0, and mix between 0 and 1")

    @property
    def halves(self) -> Schedule:
        """The schedule of K, for plans and texts."""
        return {"halving": Halving(self.mix), "uniform": Uniform(), "geometric": Geometric()}[self.schedule]


# fields of `config.agent` that older exports lack, and how these act
OLDER = {"veto": 0.0, "choose": "energy", "go_on": True, "tried": 0.0, "stood": 0.0, "returns": 0.0, "fill": ""}


def changed(agent: Any, changes: Iterable[str]) -> Any:
    """A `config.agent` with other values of some fields: "plan_samples=4", "optimise.moves=8".

    Raises:
      UserError: no such field, or a value of another kind.
    """
    agent = agent.copy_and_resolve_references()
    with agent.unlocked():
        agent.update({name: value for name, value in OLDER.items() if name not in agent})
        agent.optimise = dataclasses.asdict(options_of(agent))
        for change in changes:
            path, _, text = change.partition("=")
            *parents, name = path.split(".")
            at = agent.optimise if parents == ["optimise"] else agent
            if name not in at or isinstance(at[name], ConfigDict) or parents not in ([], ["optimise"]):
                known = sorted({*agent, *(f"optimise.{field}" for field in agent.optimise)} - {"optimise"})
                raise UserError(f"--agent={change}: no field {path!r}; there are {', '.join(known)}")
            old = at[name]
            try:
                value = text if isinstance(old, str) else ast.literal_eval(text)
                at[name] = type(old)(value)
                if isinstance(old, int) and at[name] != value:
                    raise ValueError
            except (ValueError, SyntaxError, TypeError) as error:
                raise UserError(f"--agent={change}: {path} is of type {type(old).__name__}, such as {old!r}") from error
    return agent


def options_of(agent: Any) -> Optimise:
    """The options of a `config.agent`; exports from before there were any get the defaults.

    Raises:
      UserError: unknown or meaningless options.
    """
    try:
        return Optimise(**dict(agent.get("optimise", {})))
    except TypeError as error:
        raise UserError(f"agent.optimise: {error}") from error
