"""Why a prediction says what it says: one sentence on what is perceived, after the stated part."""

import numpy as np

from hjepa_gfn.exemplary.foresight.foresee import Foresight
from hjepa_gfn.exemplary.foresight.picture import cell_of
from hjepa_gfn.worlds.language import mission_targets, place_in_words, things_in_view


def grounds(foresight: Foresight, fulfilled: bool | None, view: np.ndarray, mission: str, style: int) -> str:
    """One sentence, lower case, with a full stop.

    Args:
        foresight: what the prediction rests on.
        fulfilled: what it says of the mission.
        view: uint8[7, 7, 3], what is perceived (or what one takes oneself to perceive).
        mission: the instruction, lower case.
        style: which of the equivalent wordings (any integer); with a step that fails, and with one that leads out of view,
            which of the grounds is given, too.
    """
    wordings = [w for ground in (_of_failing(foresight), _of_the_unseen(foresight)) for w in ground]
    wordings = wordings or _of_the_target(fulfilled, view, mission)
    return wordings[style % len(wordings)]


def _of_failing(foresight: Foresight) -> list[str]:
    if foresight.vain is None:
        return []
    step, place, name = foresight.vain
    where = place_in_words(place)
    item = foresight.start.at.get(cell_of(place))
    if name == "wall" or (name and item is not None and foresight.start.layout.items[item].name == name):
        article = "a" if name == "wall" else "the"
        return [
            f"{article} {name} is {where}, where step {step} comes to nothing.",
            f"i see {article} {name} {where}: there step {step} fails.",
            f"because {article} {name} is {where}, step {step} is in vain.",
        ]
    if name:  # it was moved there
        return [f"by step {step} the {name} has been put before the agent.", f"step {step} meets the {name} that was moved."]
    return [f"at step {step} there is nothing ahead to handle.", f"step {step} finds nothing before it that it could change."]


def _of_the_unseen(foresight: Foresight) -> list[str]:
    if foresight.lost is None:
        return []
    step, place = foresight.lost
    where = place_in_words(place)
    return [
        f"what lies {where} is not in view, and step {step} depends on it.",
        f"step {step} depends on a cell {where} that i do not perceive.",
        f"from step {step} on it hangs on what is {where}, out of view.",
    ]


def _of_the_target(fulfilled: bool | None, view: np.ndarray, mission: str) -> list[str]:
    targets = mission_targets(mission)
    seen = next((thing for target in targets for thing in things_in_view(view) if target.matches(thing)), None)
    if seen is None:
        name = targets[0].name if targets else "object"
        return [
            f"i do not see the {name}, and every step stays within what is in view.",
            f"the {name} is not in view; where the plan leads is.",
        ]
    where = f"the {seen.name} is {place_in_words(seen.place)}"
    if fulfilled:
        return [f"{where}, and the plan leads there.", f"because {where}: that is where the plan goes.", f"i see that {where}."]
    if fulfilled is None:
        return [f"{where}, but more may lie where i do not see.", f"{where}; the rest hangs on what is out of view."]
    return [f"{where}; the plan does not do with it what was asked.", f"i see that {where}, and the plan leaves it at that."]
