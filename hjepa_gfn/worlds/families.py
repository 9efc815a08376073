"""Families of BabyAI levels: what a corpus is drawn from. Which level an episode has is a function of its seed.

A family holds levels of one kind with weights; `mixed` holds every family with weights; a level's gym id is a family of
that level alone. The weights lean on levels that are quickly solved, so that 10,000 mixed episodes take minutes.
"""

import difflib
import functools
import hashlib
from bisect import bisect_right
from itertools import accumulate

from hjepa_gfn.errors import UserError
from hjepa_gfn.worlds.babyai import level_names

MIXED = "mixed"

# Levels that the planner does not always solve (share of 20 episodes): seeds that it cannot solve are passed over, so that
# a corpus of these would be a biased choice. All but SynthS5R2, the one small Synth level, are left out of the families.
NOT_ALWAYS_SOLVED = {
    "BabyAI-GoToImpUnlock-v0": 0.9, "BabyAI-KeyInBox-v0": 0.0, "BabyAI-OpenDoorsOrderN2Debug-v0": 0.35,
    "BabyAI-OpenDoorsOrderN4Debug-v0": 0.1, "BabyAI-PutNextS5N2Carrying-v0": 0.0, "BabyAI-PutNextS6N3Carrying-v0": 0.0,
    "BabyAI-PutNextS7N4Carrying-v0": 0.0, "BabyAI-SynthS5R2-v0": 0.95, "BabyAI-UnlockToUnlock-v0": 0.7,
}  # fmt: skip

# Short names: "GoToLocal" is BabyAI-GoToLocal-v0.
_LEVELS: dict[str, dict[str, float]] = {
    "GoTo": {
        "GoToLocal": 8, "GoToLocalS5N2": 1, "GoToLocalS6N2": 1, "GoToLocalS6N3": 1, "GoToLocalS6N4": 1, "GoToLocalS7N4": 1,
        "GoToLocalS7N5": 1, "GoToLocalS8N2": 1, "GoToLocalS8N3": 1, "GoToLocalS8N4": 1, "GoToLocalS8N5": 1,
        "GoToLocalS8N6": 1, "GoToLocalS8N7": 1, "GoToObj": 1, "GoToObjS4": 1, "GoToObjS6-v1": 1, "GoToDoor": 2,
        "GoToObjDoor": 3, "GoToRedBall": 2, "GoToRedBallGrey": 1, "GoToRedBallNoDists": 1, "GoToRedBlueBall": 1,
        "GoToObjMazeS4R2": 2, "GoToObjMazeS4": 2, "GoToObjMazeS5": 0.5, "GoToObjMazeS6": 0.5, "GoToObjMazeS7": 0.25,
        "GoToObjMaze": 0.25, "GoToObjMazeOpen": 0.25, "GoToOpen": 0.5, "GoTo": 0.5,
    },
    "GoToSeq": {"GoToSeqS5R2": 19, "GoToSeq": 1},
    "Open": {
        "OpenDoor": 2, "OpenDoorColor": 1, "OpenDoorLoc": 2, "OpenDoorDebug": 0.5, "OpenRedDoor": 1, "OpenTwoDoors": 2,
        "OpenRedBlueDoors": 1, "OpenRedBlueDoorsDebug": 0.5, "OpenDoorsOrderN2": 2, "OpenDoorsOrderN4": 3, "Open": 0.5,
    },
    "Pickup": {
        "PickupLoc": 5, "PickupDist": 3, "PickupDistDebug": 1, "ActionObjDoor": 3, "OneRoomS8": 1, "OneRoomS12": 1,
        "OneRoomS16": 0.25, "OneRoomS20": 0.25, "PickupAbove": 1, "FindObjS5": 0.5, "FindObjS6": 0.25, "FindObjS7": 0.25,
        "Pickup": 0.5,
    },
    "PutNext": {
        "PutNextLocal": 5, "PutNextLocalS5N3": 2, "PutNextLocalS6N4": 2, "PutNextS4N1": 1, "PutNextS5N1": 1,
        "PutNextS5N2": 1, "PutNextS6N3": 1, "PutNextS7N4": 0.5, "MoveTwoAcrossS5N2": 1, "MoveTwoAcrossS8N9": 0.25,
    },
    "Unlock": {
        "UnlockLocal": 3, "UnlockLocalDist": 3, "UnlockPickup": 3, "UnlockPickupDist": 2, "BlockedUnlockPickup": 1,
        "KeyCorridorS3R1": 2, "KeyCorridorS3R2": 0.5, "KeyCorridorS3R3": 0.25, "KeyCorridorS4R3": 0.125,
        "KeyCorridorS5R3": 0.125, "KeyCorridorS6R3": 0.0625, "KeyCorridor": 0.0625, "Unlock": 0.125,
    },
    "UnblockPickup": {"UnblockPickup": 1},
    "Synth": {"SynthS5R2": 2, "Synth": 1},
    "SynthLoc": {"SynthLoc": 1},
    "SynthSeq": {"SynthSeq": 1},
    "BossLevel": {"MiniBossLevel": 6, "BossLevelNoUnlock": 1, "BossLevel": 1},
}  # fmt: skip

# Shares of the families in `mixed`, in percent.
MIXED_WEIGHTS: dict[str, float] = {
    "GoTo": 30, "GoToSeq": 9, "Open": 18, "Pickup": 14, "PutNext": 13, "Unlock": 8, "UnblockPickup": 1.5, "Synth": 2,
    "SynthLoc": 1.5, "SynthSeq": 1, "BossLevel": 2,
}  # fmt: skip


def _normalised(weights: dict[str, float]) -> dict[str, float]:
    total = sum(weights.values())
    return {name: weight / total for name, weight in weights.items()}


def _gym_id(short: str) -> str:
    return f"BabyAI-{short}" if short[-3:-1] == "-v" else f"BabyAI-{short}-v0"


# Each family's levels, by gym id, and their shares of it.
FAMILIES: dict[str, dict[str, float]] = {
    family: _normalised({_gym_id(short): weight for short, weight in levels.items()}) for family, levels in _LEVELS.items()
}


def family_names() -> list[str]:
    """The families that hold several kinds or sizes of levels, `mixed` first. (Every level's gym id is a family too.)"""
    return [MIXED, *FAMILIES]


def check_family(name: str) -> None:
    """Raise a UserError that suggests close names unless `name` is a family or a registered BabyAI level."""
    known = [*family_names(), *level_names()]
    if name in known:
        return
    by_lower = {k.lower(): k for k in known}
    close = difflib.get_close_matches(str(name).lower(), by_lower, n=3, cutoff=0.4)
    hint = f"did you mean {' or '.join(by_lower[c] for c in close)}?" if close else "give a BabyAI level's gym id or a family"
    raise UserError(f"unknown level or family {name!r}: {hint} (families: {', '.join(family_names())})")


def levels_of(family: str) -> dict[str, float]:
    """The levels that a family draws from, and their shares (they sum to 1).

    Raises:
        UserError: unknown family or level.
    """
    check_family(family)
    if family == MIXED:
        shares = _normalised(MIXED_WEIGHTS)
        return {level: shares[kind] * share for kind, levels in FAMILIES.items() for level, share in levels.items()}
    return FAMILIES.get(family, {family: 1.0})


def family_of(level: str) -> str:
    """The family that holds a level, or "" for a level that none holds."""
    return next((family for family, levels in FAMILIES.items() if level in levels), "")


def draw_level(family: str, episode_seed: int) -> str:
    """The level of the episode with this seed, in a corpus of this family: a pure function of both.

    Raises:
        UserError: unknown family or level.
    """
    levels, bounds = _bounds(family)
    digest = hashlib.blake2b(f"{family}:{int(episode_seed)}".encode(), digest_size=8).digest()
    place = int.from_bytes(digest, "big") / 2**64  # uniform in [0, 1), on every machine and in every version of NumPy
    return levels[min(bisect_right(bounds, place), len(levels) - 1)]  # min: rounding may leave the last bound below 1


@functools.cache
def _bounds(family: str) -> tuple[list[str], list[float]]:
    levels = levels_of(family)
    return [*levels], [*accumulate(levels.values())]
