"""The critic tries a draft in the simulator and says, citing a principle, what is wrong with it."""

from hjepa_gfn.exemplary.drafts import Draft
from hjepa_gfn.exemplary.legs import flatten
from hjepa_gfn.exemplary.tools import Simulation

MARGIN = 2  # a draft must cost at least so many steps more than the final plan to count as worse


def critique(draft: Draft, start: Simulation, final_steps: int) -> str | None:
    """What is wrong with a draft, or None if trying it does not show it to be clearly worse than the final plan.

    Args:
        draft: the plan to try.
        start: the episode's start.
        final_steps: steps that the final plan takes to succeed.
    """
    outcome = start.attempt(flatten(draft.plan))
    if outcome.success and outcome.steps < final_steps + MARGIN:
        return None
    verdict = f"takes {outcome.steps} steps where {final_steps} would do" if outcome.success else "does not get there"
    return f"{draft.principle}: {draft.complaint} tried out, it {verdict}."


def approval(final_steps: int) -> str:
    """What the critic says of the final version."""
    return f"no principle is broken: it gets there in {final_steps} step{'s' if final_steps != 1 else ''}."
