"""Design: what the agent is made to do, to see, and how long it may take."""

from collections.abc import Iterator

from hjepa_gfn.exemplary.checkers.case import Case, Finding, Violation
from hjepa_gfn.worlds.babyai import DONE, TOGGLE
from hjepa_gfn.worlds.language import DOOR, VIEW_SIZE, place_in_words


def known_actions(case: Case) -> Iterator[Finding]:
    """No action that can have no effect: waiting, toggling what cannot be toggled."""
    for t, effect in enumerate(case.rollout.effects):
        action = case.rollout.actions[t]
        if action == DONE:
            yield Violation("known-actions", t, f"step {t + 1} waits, and nothing comes of waiting.")
        thing = None if effect.item is None else case.layout.items[effect.item]
        if action == TOGGLE and effect.kind == "nothing" and (thing is None or thing.kind != DOOR):
            yield Violation("known-actions", t, f"step {t + 1} toggles where there is nothing to toggle.")


def within_sight(case: Case) -> Iterator[Finding]:
    """What is claimed to be seen lies where the view reaches: up to 6 ahead, 3 to either side, nothing behind."""
    for claim in case.claims:
        if claim.kind == "at":
            ahead, right = claim.place
            if not 0 <= ahead < VIEW_SIZE or abs(right) > VIEW_SIZE // 2:
                yield Violation("within-sight", None, f"{place_in_words(claim.place)} is out of the view's reach.")


def step_budget(case: Case) -> Iterator[Finding]:
    """The plan fits the episode's limit on steps."""
    n, limit = len(case.rollout.actions), case.layout.max_steps
    if n > limit:
        yield Violation("step-budget", limit, f"{n} steps do not fit the limit of {limit}.")
