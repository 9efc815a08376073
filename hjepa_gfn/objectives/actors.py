"""Which actors a configuration asks for (`model.actors`), and the JEPA levels that each spans."""
import re
from typing import Any, NamedTuple

from hjepa_gfn.errors import UserError


class Actor(NamedTuple):
    """One actor of the hierarchy."""

    name: str               # "" for the first, the coarsest
    levels: tuple[int, ...]  # the JEPA level of each of its scales, from the coarsest


def actors_of(model: Any, level_names: tuple[str, ...]) -> tuple[Actor, ...]:
    """The entries of `model.actors`, coarsest actor first: `dict(scales=("clause", "subgoal"))`, runs of adjacent JEPA levels
    of which neighbours share exactly one; by default one actor over all levels. Below the first, groups and train steps go by
    the actor's name (`name=`; by default the scales joined by "-").

    Args:
      level_names: of the JEPA's levels from the first, "step".
    Raises:
      UserError: an entry or the list does not make a hierarchy from the top level down to the steps.
    """
    entries = getattr(model, "actors", None) or ()
    coarsest_first = level_names[::-1]
    if not entries:
        return (Actor("", tuple(range(len(level_names), 0, -1))),)
    there = ", ".join(coarsest_first)
    found: list[Actor] = []
    for number, entry in enumerate(entries):
        if unknown := set(entry) - {"name", "scales"}:
            raise UserError(f"model.actors: no field {min(unknown)!r}; there are name, scales")
        scales = tuple(entry.get("scales", ()))
        at = coarsest_first.index(scales[0]) if scales and scales[0] in coarsest_first else 0
        if len(scales) < 2 or coarsest_first[at : at + len(scales)] != scales:
            raise UserError(f"model.actors: scales={scales}: must be two or more adjacent levels, coarsest first, of {there}")
        name = entry.get("name", "-".join(scales))
        if not re.fullmatch(r"\w[\w-]*", name) or name in {actor.name for actor in found}:
            raise UserError(f"model.actors: name {name!r}: must be a word (letters, digits, _, -) that no other actor has")
        found.append(Actor(name if number else "", tuple(len(level_names) - at - i for i in range(len(scales)))))
    for upper, lower in zip(found, found[1:], strict=False):
        if upper.levels[-1] != lower.levels[0]:
            names = [level_names[level - 1] for level in (upper.levels[-1], lower.levels[0])]
            raise UserError(f"model.actors: an actor ends at scale {names[0]!r} and the next begins at {names[1]!r}: "
                            "neighbours share exactly one scale")
    if found[0].levels[0] != len(level_names) or found[-1].levels[-1] != 1:
        raise UserError(f"model.actors: the first must begin at {coarsest_first[0]!r} and the last end at 'step' ({there})")
    return tuple(found)


def config_actors(model: Any) -> tuple[Actor, ...]:
    """The actors of a configuration's section `model`."""
    return actors_of(model, ("step", *(entry.get("name", "subgoal") for entry in model.levels)))


def step_name(step: str, actor: str = "") -> str:
    """The name of an actor's train step."""
    return f"{step}@{actor}" if actor else step
