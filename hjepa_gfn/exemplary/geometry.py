"""Plans as the agent can picture them: dead reckoning and route finding within one percept.

Poses are (ahead, right, heading), relative to the agent at the start; heading 0 is the way it faces then, 1 its right,
2 back, 3 its left. Nothing here looks at the simulator.
"""

from collections import deque
from collections.abc import Sequence

import numpy as np

from hjepa_gfn.worlds.babyai import FORWARD, LEFT, RIGHT
from hjepa_gfn.worlds.language import Place, walkable

Pose = tuple[int, int, int]
START: Pose = (0, 0, 0)
_STEP = ((1, 0), (0, 1), (-1, 0), (0, -1))


def move(pose: Pose, action: int) -> Pose:
    """The pose after an action if nothing is in the way; actions other than moves keep it."""
    ahead, right, heading = pose
    if action == LEFT:
        return ahead, right, (heading - 1) % 4
    if action == RIGHT:
        return ahead, right, (heading + 1) % 4
    if action == FORWARD:
        return ahead + _STEP[heading][0], right + _STEP[heading][1], heading
    return pose


def faced(pose: Pose) -> Place:
    """The cell in front of a pose."""
    ahead, right, heading = pose
    return ahead + _STEP[heading][0], right + _STEP[heading][1]


def destination(actions: Sequence[int]) -> Place:
    """The cell that a plan faces where it first handles something (pick up, drop, toggle), or else at its end."""
    pose = START
    for action in actions:
        if action not in (LEFT, RIGHT, FORWARD):
            break
        pose = move(pose, action)
    return faced(pose)


def route(view: np.ndarray, goal: Place) -> list[int] | None:
    """A shortest sequence of moves over cells seen to be walkable that ends facing `goal`; None if there is none.

    Of equally short routes, the one that walks first.
    """
    queue, parents = deque([START]), {START: None}
    while queue:
        pose = queue.popleft()
        if faced(pose) == goal:
            return _trace_back(parents, pose)
        for action in (FORWARD, LEFT, RIGHT):
            following = move(pose, action)
            if following not in parents and (action != FORWARD or walkable(view, following[:2])):
                parents[following] = (pose, action)
                queue.append(following)
    return None


def _trace_back(parents: dict, pose: Pose) -> list[int]:
    actions = []
    while parents[pose] is not None:
        pose, action = parents[pose]
        actions.append(action)
    return actions[::-1]
