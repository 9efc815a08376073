"""Physics: what stands in the way stays there, doors want opening, hands hold one thing."""

from collections.abc import Iterator

from hjepa_gfn.exemplary.checkers.case import Case, Finding, Violation
from hjepa_gfn.exemplary.simulation import CLOSED, LOCKED
from hjepa_gfn.worlds.babyai import DROP, PICKUP, TOGGLE
from hjepa_gfn.worlds.language import DOOR


def _bumps(case: Case) -> Iterator[tuple[int, int | None, int | None]]:
    """Steps against what blocks: time, item or None for a wall, a door's state or None. Bumping on counts once."""
    rollout, last = case.rollout, None
    doors = dict(rollout.start.door)
    for t, effect in enumerate(rollout.effects):
        if effect.after is not None:
            doors[effect.item] = effect.after
        if effect.kind == "blocked" and (effect.cell, t - 1) != last:
            yield t, effect.item, doors.get(effect.item)
        last = (effect.cell, t) if effect.kind == "blocked" else None


def walls_stand(case: Case) -> Iterator[Finding]:
    """No walking against walls and things."""
    for t, item, door in _bumps(case):
        if door is None:
            yield Violation("walls-stand", t, f"step {t + 1} walks against the {case.name(item)}.")


def doors_first(case: Case) -> Iterator[Finding]:
    """A closed door is opened before it is walked through."""
    for t, item, door in _bumps(case):
        if door == CLOSED:
            yield Violation("doors-first", t, f"step {t + 1} walks against the {case.name(item)}, which is closed.")


def keys_that_fit(case: Case) -> Iterator[Finding]:
    """A locked door needs the key of its colour."""
    for t, item, door in _bumps(case):
        if door == LOCKED:
            yield Violation("keys-that-fit", t, f"step {t + 1} walks against the {case.name(item)}, which is locked.")
    for t, effect in _vain(case, TOGGLE):
        if effect.item is not None and case.layout.items[effect.item].kind == DOOR:
            yield Violation("keys-that-fit", t, f"step {t + 1} needs the key of the {case.name(effect.item)} in hand.")


def _vain(case: Case, action: int) -> Iterator[tuple]:
    for t, effect in enumerate(case.rollout.effects):
        if effect.kind == "nothing" and case.rollout.actions[t] == action:
            yield t, effect


def one_at_a_time(case: Case) -> Iterator[Finding]:
    """One thing is carried at a time."""
    for t, _ in _vain(case, PICKUP):
        held = case.rollout.carried[t]
        if held is not None:
            yield Violation("one-at-a-time", t, f"step {t + 1} picks up with the {case.name(held)} in hand.")


def within_reach(case: Case) -> Iterator[Finding]:
    """Picking up takes a thing in front, putting down a free cell in front and a thing in hand."""
    for t, _ in _vain(case, PICKUP):
        if case.rollout.carried[t] is None:
            yield Violation("within-reach", t, f"step {t + 1} picks up where nothing can be picked up.")
    for t, _ in _vain(case, DROP):
        why = "with nothing in hand" if case.rollout.carried[t] is None else "where there is no room"
        yield Violation("within-reach", t, f"step {t + 1} puts down {why}.")

