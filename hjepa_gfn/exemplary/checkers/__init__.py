"""Checkers: one a principle, one file a discipline. `CHECKERS` may be extended: a function from a case to findings."""

from collections.abc import Iterable

from hjepa_gfn.exemplary.checkers import design, epistemology, ethics, physics, rationality
from hjepa_gfn.exemplary.checkers.case import Case, Checker, Exemption, Finding, Violation

_FUNCTIONS = {
    "rationality": (
        rationality.fulfil_the_mission, rationality.parts_in_order, rationality.no_detours, rationality.right_distance,
    ),
    "epistemology": (
        epistemology.right_target, epistemology.left_is_left, epistemology.use_your_eyes, epistemology.explore_first,
        epistemology.state_your_ground,
    ),
    "physics": (
        physics.walls_stand, physics.doors_first, physics.keys_that_fit, physics.one_at_a_time, physics.within_reach,
    ),
    "ethics": (ethics.leave_as_found, ethics.put_aside, ethics.take_only_needed, ethics.out_of_the_way),
    "design": (design.known_actions, design.within_sight, design.step_budget),
}  # fmt: skip


def _id(function: Checker) -> str:
    return function.__name__.replace("_", "-")


DISCIPLINES: dict[str, tuple[str, ...]] = {name: tuple(map(_id, checks)) for name, checks in _FUNCTIONS.items()}
CHECKERS: dict[str, Checker] = {_id(function): function for checks in _FUNCTIONS.values() for function in checks}


def findings(case: Case, principles: Iterable[str] | None = None) -> list[Finding]:
    """Everything that the checkers of some principles find (None: of all); principles without a checker are passed over."""
    wanted = CHECKERS if principles is None else [p for p in principles if p in CHECKERS]
    return [finding for principle in wanted for finding in CHECKERS[principle](case)]


def violations(case: Case, principles: Iterable[str] | None = None) -> list[Violation]:
    """The violations among the findings."""
    return [finding for finding in findings(case, principles) if isinstance(finding, Violation)]


def exemptions(case: Case, principles: Iterable[str] | None = None) -> list[Exemption]:
    """The exemptions among the findings."""
    return [finding for finding in findings(case, principles) if isinstance(finding, Exemption)]


__all__ = [
    "CHECKERS", "DISCIPLINES", "Case", "Checker", "Exemption", "Finding", "Violation", "exemptions", "findings", "violations",
]  # fmt: skip
