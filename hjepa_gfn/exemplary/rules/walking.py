"""Ways over the whole world as it is: for going on from where a habit has led."""

from collections import deque

from hjepa_gfn.exemplary.simulation import DIRECTIONS, State
from hjepa_gfn.worlds.babyai import FORWARD, LEFT, RIGHT


def walk(state: State, goal: tuple[int, int, int]) -> list[int] | None:
    """The fewest moves from a state to a pose (x, y, heading) over passable cells, walking first; None: there is no way."""
    start = (*state.pos, state.heading)
    queue, parents = deque([start]), {start: None}
    while queue:
        pose = queue.popleft()
        if pose == goal:
            actions = []
            while parents[pose] is not None:
                pose, action = parents[pose]
                actions.append(action)
            return actions[::-1]
        x, y, heading = pose
        dx, dy = DIRECTIONS[heading]
        ahead = (x + dx, y + dy)
        options = [(LEFT, (x, y, (heading + 3) % 4)), (RIGHT, (x, y, (heading + 1) % 4))]
        if state.passable(ahead):
            options.insert(0, (FORWARD, (*ahead, heading)))
        for action, following in options:
            if following not in parents:
                parents[following] = (pose, action)
                queue.append(following)
    return None
