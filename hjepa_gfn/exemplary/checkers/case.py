"""What a checker looks at, and what it finds."""

import dataclasses
import functools
from collections.abc import Callable, Iterator
from typing import NamedTuple

from hjepa_gfn.exemplary.claims import Claim, claims_of
from hjepa_gfn.exemplary.phrases import Plan
from hjepa_gfn.exemplary.protocol import Situation
from hjepa_gfn.exemplary.rollout import Rollout
from hjepa_gfn.exemplary.simulation import Layout
from hjepa_gfn.worlds.language import Description, Thing, mission_targets, things_in_view


class Violation(NamedTuple):
    """A principle is broken: at which step (from 0; None: no step in particular), and what is wrong, in words."""

    principle: str
    step: int | None
    complaint: str


class Exemption(NamedTuple):
    """A principle is not kept, and rightly so: at which step, and for what reason."""

    principle: str
    step: int | None
    reason: str


@dataclasses.dataclass(frozen=True)
class Case:
    """A plan under review. `plan`, `explanation`: None where an agent acted without stating them."""

    situation: Situation
    plan: Plan | None
    explanation: str | None
    rollout: Rollout

    @property
    def layout(self) -> Layout:
        """What stays as it is during the episode."""
        return self.rollout.layout

    @functools.cached_property
    def claims(self) -> list[Claim]:
        """What the explanation claims."""
        return claims_of(self.explanation or "")

    @functools.cached_property
    def things(self) -> list[Thing]:
        """What the first percept shows."""
        return things_in_view(self.situation.view)

    @functools.cached_property
    def targets(self) -> list[Description]:
        """The objects that the mission speaks of."""
        return mission_targets(self.situation.mission)

    def thing_at(self, place: tuple[int, int]) -> Thing | None:
        """What the first percept shows at a place."""
        return next((thing for thing in self.things if thing.place == place), None)

    def name(self, item: int | None) -> str:
        """An item's name; a wall's where there is none."""
        return "wall" if item is None else self.layout.items[item].name


Finding = Violation | Exemption
Checker = Callable[[Case], Iterator[Finding]]
