"""A small knowledge base: what the things of this world are and do."""

from hjepa_gfn.errors import UserError
from hjepa_gfn.worlds.language import COLOUR_WORDS

FACTS = {
    "door": "a door is open, closed or locked; only an open one can be walked and seen through; toggle opens and closes it.",
    "locked door": "a locked door opens by toggle while you carry the key of its colour; it can be closed again, not locked.",
    "key": "a key opens the locked door of its colour; it can be picked up, carried and dropped; you cannot walk over it.",
    "ball": "a ball can be picked up, carried and dropped; it does nothing else; you cannot walk over it.",
    "box": "a box can be picked up, carried and dropped; toggle opens it: the box is gone and what was in it lies there.",
    "wall": "a wall can be neither walked nor seen through, and nothing changes it.",
    "carrying": "one thing can be carried at a time; it is dropped onto the empty cell in front.",
    "view": "you see 7 cells wide and 6 ahead, from where you stand; walls and shut doors hide what is behind them.",
}


def look_up(thing: str) -> str:
    """The fact about a kind of thing; a colour before it is ignored.

    Raises:
        UserError: nothing is known about it.
    """
    words = [word for word in thing.lower().split() if word not in (*COLOUR_WORDS, "a", "an", "the")]
    name = " ".join(words)
    if name not in FACTS:
        raise UserError(f"nothing is known about {thing!r}: ask about one of {', '.join(FACTS)}")
    return FACTS[name]
