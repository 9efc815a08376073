"""The first step in vain: which principle tells of it, where a prediction gets it wrong."""

from hjepa_gfn.exemplary.foresight.case import PredictionCase
from hjepa_gfn.exemplary.simulation import CLOSED
from hjepa_gfn.worlds.babyai import DROP, FORWARD, PICKUP, TOGGLE


def principle_of_step(case: PredictionCase) -> tuple[str, str]:
    """The principle, and the complaint, about a wrong first step in vain.

    Where a step in vain is overlooked, it is the principle that the step breaks; where a step is wrongly said to be in vain,
    the one about what such a step does.
    """
    said, true = case.prediction.vain, case.sound.vain
    if said == 0 or 0 < true < said:
        return _overlooked(case, true)
    effects = case.foresight.effects
    if said > len(effects):
        return "", ""  # it is not taken: for those to say who know when the mission is fulfilled
    action = case.actions[said - 1]
    complaint = f"step {said} does have an effect."
    return {FORWARD: "walls-stand", PICKUP: "within-reach", DROP: "within-reach"}.get(action, "known-actions"), complaint


def _overlooked(case: PredictionCase, step: int) -> tuple[str, str]:
    start, effects = case.foresight.start, case.foresight.effects
    held, doors = start.carrying, dict(start.door)
    for effect in effects[: step - 1]:
        held = effect.item if effect.kind == "pickup" else None if effect.kind == "drop" else held
        if effect.after is not None:
            doors[effect.item] = effect.after
    effect, action = effects[step - 1], case.actions[step - 1]
    name = "wall" if effect.wall else "" if effect.item is None else start.layout.items[effect.item].name
    door = doors.get(effect.item)
    if action == FORWARD:
        if door is None:
            return "walls-stand", f"step {step} is stopped by the {name}."
        if door == CLOSED:
            return "doors-first", f"step {step} is stopped by the {name}, which is closed."
        return "keys-that-fit", f"step {step} is stopped by the {name}, which is locked."
    if action == TOGGLE and door is not None:
        return "keys-that-fit", f"step {step} needs the key of the {name} in hand."
    if action == PICKUP and held is not None:
        return "one-at-a-time", f"step {step} picks up with the {start.layout.items[held].name} in hand."
    if action in (PICKUP, DROP):
        return "within-reach", f"step {step} has nothing that it could {'pick up' if action == PICKUP else 'put down there'}."
    what = "toggling there" if action == TOGGLE else "waiting"
    return "known-actions", f"step {step} has no effect: nothing comes of {what}."
