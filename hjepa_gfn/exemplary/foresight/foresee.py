"""Plans rolled forward in the picture: what can be known of their outcome from the first percept alone.

Where a step depends on what is not in view, the outcomes that are possible part; what is foreseen is what all of them share:

    foreseen.part = v if every possible outcome has part = v, else None ("cannot be known")

The outcomes are: the plan ends early wherever something out of view may fulfil the mission, or the limit on steps may be
reached (it is not in view either); and from the first step on whose
effect depends on a cell out of view, everything that the remaining actions can still bring about.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from hjepa_gfn.exemplary.forecasts import Change, Prediction
from hjepa_gfn.exemplary.foresight.picture import Picture, picture, place_of
from hjepa_gfn.exemplary.simulation import Effect, State
from hjepa_gfn.worlds.babyai import DROP, FORWARD, PICKUP, TOGGLE
from hjepa_gfn.worlds.language import BOX, DOOR_STATES, Place

_NEEDS = {"open": TOGGLE, "pick": PICKUP, "put": DROP}  # no such part is done without that action
VAIN = ("blocked", "nothing")


class Foresight(NamedTuple):
    """What is foreseen, and on what it rests.

    Attributes:
        prediction: the parts that are known.
        lost: (number of the first step, from 1, that depends on what is out of view, the place it depends on), or None.
        vain: (number of the first step known to be in vain, from 1; place in front of it; name of what is there, "wall", or
            "" for nothing), or None.
        effects: what each step does, as far as it is known.
        start, final: the pictured states before the first and after the last step that is known.
    """

    prediction: Prediction
    lost: tuple[int, Place] | None
    vain: tuple[int, Place, str] | None
    effects: tuple[Effect, ...]
    start: State
    final: State


def foresee(view: np.ndarray, mission: str, actions: Sequence[int], pictured: Picture | None = None) -> Foresight:
    """What can be known of a plan's outcome.

    Args:
        view: uint8[7, 7, 3], the first percept.
        mission: the instruction, lower case.
        actions: the plan's actions; at least one.
        pictured: the world to imagine it in; None: the one that the percept shows.
    """
    world = pictured or picture(view, mission)
    sure, hopeful = world.sure.copy(), world.hopeful.copy()
    start, known = world.sure, set(world.known)
    vain, lost, over = None, None, False
    effects: list[Effect] = []
    outcomes: list[Prediction] = []
    for t, action in enumerate(actions):
        front = sure.front
        if front not in known and _depends(sure, action):
            lost = (t + 1, place_of(front))
            break
        broken = action == TOGGLE and front in sure.at and sure.layout.items[sure.at[front]].kind == BOX
        effect = sure.step(action)
        hopeful.step(action)
        effects.append(effect)
        if vain is None and effect.kind in VAIN:
            name = "wall" if effect.wall else "" if effect.item is None else sure.layout.items[effect.item].name
            vain = (t + 1, place_of(front), name)
        if broken:
            known.discard(front)  # what was in the box, if anything, lies there now
        if not world.readable:
            outcomes.append(_outcome(start, sure, vain, None, None))  # it may be over at any step
            continue
        if sure.success:
            over = True
            outcomes.append(_outcome(start, sure, vain, True, t + 1))
            break
        if hopeful.success:
            outcomes.append(_outcome(start, sure, vain, True, t + 1))
        if t + 1 >= world.least_limit:
            outcomes.append(_outcome(start, sure, vain, False, t + 1))
    steps = len(effects)
    if lost is not None:
        outcomes.append(_beyond(start, sure, hopeful, vain, tuple(actions[steps:]), world, len(actions)))
    elif not over and world.readable:
        outcomes.append(_outcome(start, sure, vain, False, steps))
    return Foresight(_shared(outcomes), lost, vain, tuple(effects), start, sure)


def _depends(state: State, action: int) -> bool:
    """Whether what an action does depends on the cell in front."""
    if action == PICKUP:
        return state.carrying is None
    if action == DROP:
        return state.carrying is not None
    return action in (FORWARD, TOGGLE)


def _outcome(start: State, state: State, vain: tuple | None, fulfilled: bool | None, steps: int | None) -> Prediction:
    held = "" if state.carrying is None else state.layout.items[state.carrying].name
    return Prediction(vain[0] if vain else 0, held, changes_between(start, state), fulfilled, steps)


def _beyond(
    start: State, sure: State, hopeful: State, vain: tuple | None, rest: tuple[int, ...], world: Picture, length: int
) -> Prediction:
    """What every outcome shares once the agent no longer knows what its steps do: only what no remaining action can change."""
    now = _outcome(start, sure, vain, None, None)
    hands_move = (DROP if sure.carrying is not None else PICKUP) in rest
    undone = [part for part in hopeful.layout.mission.parts if part.number not in hopeful.memory.finished]
    never = world.readable and any(part.kind in _NEEDS and _NEEDS[part.kind] not in rest for part in undone)
    return Prediction(
        vain[0] if vain else None,
        None if hands_move else now.held,
        None if hands_move or TOGGLE in rest else now.changes,
        False if never else None,
        length if never and length <= world.least_limit else None,
    )


def _shared(outcomes: list[Prediction]) -> Prediction:
    if not outcomes:
        return Prediction(None, None, None, None, None)
    return Prediction(*(values[0] if len(set(values)) == 1 else None for values in zip(*outcomes)))


def changes_between(start: State, final: State) -> tuple[Change, ...]:
    """What has become of doors and things that lay open at the start; what is in hand is left out."""
    items = start.layout.items
    before = {item: cell for cell, item in start.at.items()}
    after = {item: cell for cell, item in final.at.items()}
    if start.carrying is not None:
        before[start.carrying] = None
    found = [
        (items[item].name, DOOR_STATES[state]) for item, state in final.door.items() if start.door[item] != state
    ]
    for item, cell in before.items():
        if item in start.door or item == final.carrying:
            continue
        if item not in after:
            found.append((items[item].name, "broken"))
        elif after[item] != cell:
            found.append((items[item].name, "moved"))
    return tuple(sorted(found))


