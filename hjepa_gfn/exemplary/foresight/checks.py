"""Checks of predictions, by the principles of the textbooks: which principle speaks to which mistake."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator

from hjepa_gfn.exemplary.checkers.epistemology import false_places, use_your_eyes
from hjepa_gfn.exemplary.forecasts import TOPICS
from hjepa_gfn.exemplary.foresight.case import Fault, PredictionCase
from hjepa_gfn.exemplary.foresight.overlooked import principle_of_step
from hjepa_gfn.exemplary.simulation import LOCKED
from hjepa_gfn.worlds.babyai import PICKUP
from hjepa_gfn.worlds.language import DOOR_STATES, VIEW_SIZE, place_in_words

Check = Callable[[PredictionCase], Iterator[Fault]]
NEAR = 2  # cells: so near by is not there


def fulfil_the_mission(case: PredictionCase) -> Iterator[Fault]:
    """Whether the mission is fulfilled is told by following the plan, and the episode is over then."""
    said, sound, wrong = case.prediction, case.sound, case.wrong()
    if "fulfilled" in wrong:
        yield Fault("fulfil-the-mission", ("fulfilled",), f"the mission is {'' if sound.fulfilled else 'not '}fulfilled.")
    if "steps" in wrong and said.steps > sound.steps:
        yield Fault("fulfil-the-mission", ("steps",), f"it is over after {sound.steps} steps.")
    if "vain" in wrong and said.vain > len(case.foresight.effects):
        yield Fault("fulfil-the-mission", ("vain",), f"step {said.vain} is not taken any more.")


def right_distance(case: PredictionCase) -> Iterator[Fault]:
    """Near a thing is not before it."""
    if "fulfilled" not in case.wrong() or not case.prediction.fulfilled:
        return
    final = case.foresight.final
    for cell, item in final.at.items():
        far = abs(cell[0] - final.pos[0]) + abs(cell[1] - final.pos[1])
        if far <= NEAR and cell != final.front and item in _wanted(case):
            name = final.layout.items[item].name
            yield Fault("right-distance", ("fulfilled",), f"the plan ends near the {name}, not facing it.")
            return


def no_detours(case: PredictionCase) -> Iterator[Fault]:
    """Every action is a step, turns too."""
    if "steps" in case.wrong() and case.prediction.steps < case.sound.steps:
        yield Fault("no-detours", ("steps",), f"turns are steps too: {case.sound.steps} are taken.")


def right_target(case: PredictionCase) -> Iterator[Fault]:
    """What the plan reaches is what the mission names, or the mission is not fulfilled."""
    yield from _misplaced(case, "right-target", "other")
    final = case.foresight.final
    if "fulfilled" in case.wrong() and case.prediction.fulfilled:
        item = final.carrying if final.carrying is not None else final.at.get(final.front)
        if item is not None and item not in _wanted(case):
            complaint = f"what the plan reaches is the {final.layout.items[item].name}, which the mission does not name."
            yield Fault("right-target", ("fulfilled",), complaint)


def left_is_left(case: PredictionCase) -> Iterator[Fault]:
    """Sides are those that are perceived."""
    yield from _misplaced(case, "left-is-left", "mirrored")
    wrong = case.wrong()
    if wrong and all(getattr(case.prediction, name) == getattr(case.mirrored, name) for name in wrong):
        topics = " and ".join(TOPICS[name] for name in wrong)
        yield Fault("left-is-left", tuple(wrong), f"left is taken for right: {topics} would be so then.")


def known_from_the_view(case: PredictionCase) -> Iterator[Fault]:
    """What follows from what is in view can be known."""
    if shy := case.shy():
        topics = " and ".join(TOPICS[name] for name in shy)
        yield Fault("use-your-eyes", tuple(shy), f"{topics} can be known from what is in view.")
    for violation in use_your_eyes(case.words):
        yield Fault("use-your-eyes", (), violation.complaint)


def explore_first(case: PredictionCase) -> Iterator[Fault]:
    """What hangs on things out of view cannot be known."""
    for name in case.unsupported():
        where = f"step {case.foresight.lost[0]} leads beyond what is seen" if case.foresight.lost else "it hangs on the unseen"
        yield Fault("explore-first", (name,), f"{TOPICS[name]} is assumed, not known: {where}.")
    yield from _misplaced(case, "explore-first", "unseen")


def state_your_ground(case: PredictionCase) -> Iterator[Fault]:
    """The explanation is there, and the percept bears it out."""
    if not case.explanation:
        yield Fault("state-your-ground", (), "no ground is given.")
    yield from _misplaced(case, "state-your-ground", "empty")


def _of_steps(principle: str) -> Check:
    """What the first step in vain tells of."""

    def check(case: PredictionCase) -> Iterator[Fault]:
        if "vain" in case.wrong():
            cited, complaint = principle_of_step(case)
            if cited == principle:
                yield Fault(principle, ("vain",), complaint)
        yield from _HANDLING[principle](case) if principle in _HANDLING else ()

    return check


def _of_doors(principle: str) -> Check:
    def check(case: PredictionCase) -> Iterator[Fault]:
        for name, end in _changes(case)[1]:
            if end in DOOR_STATES and (principle == "keys-that-fit") == _is_locked(case, name):
                yield Fault(principle, ("changes",), f"the {name} does not end up {end}.")

    return check


def _of_hands(principle: str) -> Check:
    def check(case: PredictionCase) -> Iterator[Fault]:
        full = _picks_up_with_a_full_hand(case)
        if "held" in case.wrong() and (principle == "one-at-a-time") == full:
            yield Fault(principle, ("held",), f"at the end it holds {_in_hand(case)}.")
        if principle == "within-reach":
            for name, end in _changes(case)[1]:
                if end not in DOOR_STATES:
                    yield Fault(principle, ("changes",), f"the {name} is not {end}.")

    return check


_HANDLING = {
    "doors-first": _of_doors("doors-first"), "keys-that-fit": _of_doors("keys-that-fit"),
    "one-at-a-time": _of_hands("one-at-a-time"), "within-reach": _of_hands("within-reach"),
}  # fmt: skip


def leave_as_found(case: PredictionCase) -> Iterator[Fault]:
    """Doors stay as the plan leaves them: nobody closes them."""
    for name, end in _changes(case)[0]:
        if end in DOOR_STATES:
            yield Fault("leave-as-found", ("changes",), f"the {name} is not as it was found: it ends up {end}.")


def take_only_needed(case: PredictionCase) -> Iterator[Fault]:
    """Things stay where the plan leaves them."""
    for name, end in _changes(case)[0]:
        if end not in DOOR_STATES:
            yield Fault("take-only-needed", ("changes",), f"the {name} is not where it was: it ends up {end}.")


def within_sight(case: PredictionCase) -> Iterator[Fault]:
    """Nothing is said of what lies beyond the view's reach."""
    if case.foresight.lost and _out_of_reach(case.foresight.lost[1]):
        step, place = case.foresight.lost
        for name in case.unsupported():
            complaint = f"step {step} leads where the view does not reach ({place_in_words(place)}): {TOPICS[name]} is unknown."
            yield Fault("within-sight", (name,), complaint)
    for claim in case.words.claims:
        if claim.kind == "at" and _out_of_reach(claim.place):
            yield Fault("within-sight", (), f"{place_in_words(claim.place)} is out of the view's reach.")


def _misplaced(case: PredictionCase, principle: str, wanted: str) -> Iterator[Fault]:
    for claim, matter in false_places(case.words):
        if matter == wanted:
            yield Fault(principle, (), f"the {claim.what} is not {place_in_words(claim.place)}.")
            return


def _changes(case: PredictionCase) -> tuple[list, list]:
    """What has changed and is not said, what is said and has not changed."""
    if "changes" not in case.wrong():
        return [], []
    said, sound = Counter(case.prediction.changes), Counter(case.sound.changes)
    return sorted((sound - said).elements()), sorted((said - sound).elements())


def _wanted(case: PredictionCase) -> set[int]:
    return {item for part in case.foresight.start.layout.mission.parts for item in (*part.things, *part.beside)}


def _is_locked(case: PredictionCase, name: str) -> bool:
    start = case.foresight.start
    return any(state == LOCKED and start.layout.items[item].name == name for item, state in start.door.items())


def _picks_up_with_a_full_hand(case: PredictionCase) -> bool:
    held = case.foresight.start.carrying
    for action, effect in zip(case.actions, case.foresight.effects):
        if action == PICKUP and effect.kind == "nothing" and held is not None:
            return True
        held = effect.item if effect.kind == "pickup" else None if effect.kind == "drop" else held
    return False


def _in_hand(case: PredictionCase) -> str:
    return f"the {case.sound.held}" if case.sound.held else "nothing"


def _out_of_reach(place: tuple[int, int]) -> bool:
    return not 0 <= place[0] < VIEW_SIZE or abs(place[1]) > VIEW_SIZE // 2


PREDICTION_CHECKS: dict[str, Check] = {
    "fulfil-the-mission": fulfil_the_mission, "no-detours": no_detours, "right-distance": right_distance,
    "right-target": right_target, "left-is-left": left_is_left, "use-your-eyes": known_from_the_view,
    "explore-first": explore_first, "state-your-ground": state_your_ground,
    **{name: _of_steps(name) for name in ("walls-stand", "doors-first", "keys-that-fit", "one-at-a-time", "within-reach")},
    "leave-as-found": leave_as_found, "take-only-needed": take_only_needed,
    "known-actions": _of_steps("known-actions"), "within-sight": within_sight,
}  # fmt: skip


def faults(case: PredictionCase, principles: Iterable[str] | None = None) -> list[Fault]:
    """What the checks of some principles find (None: of all); principles without a check of predictions are passed over."""
    wanted = PREDICTION_CHECKS if principles is None else [p for p in principles if p in PREDICTION_CHECKS]
    return [fault for principle in wanted for fault in PREDICTION_CHECKS[principle](case)]
