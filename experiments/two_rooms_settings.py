"""The settings of `experiments.two_rooms`: the small one, for two cores, and EB-JEPA's, with the ablation's variants."""
from __future__ import annotations

import dataclasses
import json
from typing import Any

from hjepa_gfn.agent.mppi import PUBLISHED_MPPI, Mppi
from hjepa_gfn.errors import UserError
from hjepa_gfn.models.pixel_jepa import PUBLISHED_SIZES
from hjepa_gfn.objectives.pixel_jepa import PUBLISHED_WEIGHTS, PixelWeights
from hjepa_gfn.training.pixel_jepa import PixelTraining
from hjepa_gfn.worlds.two_rooms import PUBLISHED, Rooms


@dataclasses.dataclass(frozen=True)
class Setting:
    """All that a run depends on besides its variant and seed."""

    training: PixelTraining = PixelTraining()
    plan: Mppi = Mppi()
    weights: PixelWeights = PixelWeights()  # of the full loss
    sigreg: float = 0.05                    # its weight where it stands for variance and covariance
    episodes: int = 32
    split: str = "test"                     # whose layouts are evaluated on; "validation" for choosing settings


# Windows of 8 steps out of walks of 24: they show walls that block (18 % of steps; 9 % from a walk's begin) beside crossings of
# the door (11 %), training is long enough to learn where the door ends, and walls stand at six places. A run takes a minute on
# two cores.
SMALL = PixelTraining(rooms=Rooms(roam=24, wall=(7, 12)), steps=4800, window=8, horizon=8)

# facebookresearch/eb_jepa, `examples/ac_video_jepa/cfgs/train.yaml` and `eval.yaml`: 17 images a walk, of which 8 are
# predicted; 11 of 12 scheduled epochs of 100,000 walks are run. SIGReg is ours; its weight makes collapse cost what it costs
# with the variance hinge.
SETTINGS = {
    "small": Setting(training=SMALL, episodes=64),
    "published": Setting(
        training=PixelTraining(
            rooms=PUBLISHED, sizes=PUBLISHED_SIZES, steps=2850, batch=384, horizon=8, window=16, from_first=True, rate=1e-3,
            chunk=50),
        plan=PUBLISHED_MPPI, weights=PUBLISHED_WEIGHTS, sigreg=0.02, episodes=20),
}
# The same in a tenth of the time: 9 images a walk (as many as are predicted, and the first), fewer walks, matmuls and
# convolutions in bfloat16; walks of 24 steps, not 90, so that 11 % of what is seen goes through a door, not 3 %. The planner
# looks every 4 steps and goes on from its plan, with no longer steps than training has.
_PUBLISHED = SETTINGS["published"]
SETTINGS["short"] = dataclasses.replace(
    _PUBLISHED,
    training=dataclasses.replace(
        _PUBLISHED.training, rooms=dataclasses.replace(PUBLISHED, roam=24),
        sizes=dataclasses.replace(PUBLISHED_SIZES, dtype="bfloat16"), steps=1600, batch=256, window=8),
    plan=dataclasses.replace(PUBLISHED_MPPI, iterations=12, replan=4, warm=True, longest=1.8), episodes=32)

_NO_TERM = {"variance": 0.0, "covariance": 0.0, "similarity": 0.0, "inverse": 0.0}
# What each variant changes in the full loss.
VARIANTS: dict[str, dict[str, float]] = {
    "full": {},
    "no variance": {"variance": 0.0},
    "no covariance": {"covariance": 0.0},
    "no similarity": {"similarity": 0.0},
    "no inverse": {"inverse": 0.0},
    "sigreg": {"variance": 0.0, "covariance": 0.0},
    "none": _NO_TERM,
    "ema": _NO_TERM,
}
SLOW = {"ema"}  # variants that predict what a slowly following copy of the encoder says
BOUNDS = {"random walk": "roam", "true dynamics": "true"}


def weights_of(setting: Setting, variant: str) -> PixelWeights:
    """The loss's weights of a variant."""
    weights = setting.weights._replace(**VARIANTS[variant])
    return weights._replace(sigreg=setting.sigreg) if variant == "sigreg" else weights


def as_json(setting: Setting) -> dict[str, Any]:
    """The setting as JSON reads it back: without tuples, so that runs of the same setting compare equal."""
    return json.loads(json.dumps(dataclasses.asdict(setting)))


def wall_range(rooms: Rooms, given: list[str]) -> tuple[int, int]:
    """The x that walls may have, from `--wall`. Raises UserError for anything but two that leave room on both sides."""
    low, high = rooms.low + 4, rooms.high - 4
    try:
        first, last = (int(text) for text in given)
    except ValueError:
        raise UserError(f"--wall={','.join(given)}: must be two whole numbers, as in --wall=9,10") from None
    if not low <= first <= last <= high:
        raise UserError(f"--wall={','.join(given)}: must rise within {low:.0f} to {high:.0f}")
    return first, last


def changed(setting: Setting, given: dict[str, Any], wall: list[str] | None = None) -> Setting:
    """The setting with those fields of its own, its training, networks or planner that are given, not None.

    Raises UserError where fields do not go together, and for a wall that leaves no room.
    """
    given = {name: value for name, value in given.items() if value is not None}
    of = lambda part: {f.name: given[f.name] for f in dataclasses.fields(part) if f.name in given}
    training = setting.training
    rooms = dataclasses.replace(training.rooms, **of(training.rooms))
    if wall:
        rooms = dataclasses.replace(rooms, wall=wall_range(rooms, wall))
    sizes = dataclasses.replace(training.sizes, **of(training.sizes))
    training = dataclasses.replace(training, rooms=rooms, sizes=sizes, **of(training))
    plan = dataclasses.replace(setting.plan, **of(setting.plan))
    return dataclasses.replace(setting, training=training, plan=plan, **of(setting))
