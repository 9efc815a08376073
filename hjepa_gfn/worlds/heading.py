"""Which way the agent faces, as percepts say it: by compass, or by how far it has turned since the mission was given.

"The key on your right" is said to an agent that faces one way and must be understood by one that has turned since. What it has
turned is arithmetic on its own percepts: a part of the belief U(s_{t-1}, a_{t-1}, o_t), as the map is.
"""
from __future__ import annotations

from typing import Any

from hjepa_gfn.errors import UserError

HEADINGS = ("compass", "turned")


def is_turned(heading: str) -> bool:
    """Whether `data.heading` asks for turns. Raises UserError for a value that means nothing."""
    if heading not in HEADINGS:
        raise UserError(f"data.heading={heading!r}: must be one of {', '.join(HEADINGS)}")
    return heading == "turned"


def turned(direction: Any, first: Any) -> Any:
    """Quarter turns to the right, int 0..3, from the compass direction `first` to `direction` (arrays that broadcast)."""
    return (direction - first) % 4
