"""The body of knowledge: the principles that critiques cite. One textbook a family of mistakes."""

from typing import NamedTuple


class Principle(NamedTuple):
    """A principle of good planning: an id that critiques cite, and its statement."""

    id: str
    statement: str


PRINCIPLES = {
    p.id: p
    for p in (
        Principle("right-target", "go to the object that the mission names, not to another one."),
        Principle("left-is-left", "turn towards the side on which the target lies."),
        Principle("use-your-eyes", "what is in view need not be looked for."),
        Principle("look-before-you-walk", "walk only where a target is seen or where there is something new to see."),
        Principle("right-distance", "walk as far as the target is, no further."),
        Principle("no-detours", "leave out moves that bring you back to where you were."),
    )
}
