"""What did happen: the prediction that a rollout bears out, for judging predictions. Privileged: never for an agent's eyes."""

from hjepa_gfn.exemplary.forecasts import Prediction
from hjepa_gfn.exemplary.foresight.foresee import VAIN, changes_between
from hjepa_gfn.exemplary.rollout import Rollout


def what_happened(rollout: Rollout) -> Prediction:
    """All five parts, from the simulator's copy."""
    vain = next((t + 1 for t, effect in enumerate(rollout.effects) if effect.kind in VAIN), 0)
    held = rollout.final.carrying
    name = "" if held is None else rollout.layout.items[held].name
    return Prediction(vain, name, changes_between(rollout.start, rollout.final), rollout.success, rollout.steps)


def is_true(prediction: Prediction, rollout: Rollout) -> bool:
    """Whether everything that a prediction claims did happen; what it says cannot be known is no claim."""
    return not false_parts(prediction, rollout)


def false_parts(prediction: Prediction, rollout: Rollout) -> list[str]:
    """Names of the parts that are claimed and did not happen so."""
    truth = what_happened(rollout)
    return [
        name for name, said, was in zip(Prediction._fields, prediction, truth) if said is not None and said != was
    ]
