"""How things stand, and how often they stood so before, against the simulator's own state."""
from collections import Counter

import numpy as np
import pytest

from hjepa_gfn.worlds import make_world
from hjepa_gfn.worlds.babyai import DROP, FORWARD, LEFT, PICKUP, RIGHT, TOGGLE
from hjepa_gfn.worlds.language import BALL, BOX, CLOSED, DOOR, EMPTY, KEY, LOCKED, OPEN
from hjepa_gfn.worlds.missing import Missing
from hjepa_gfn.worlds.remembering import Remembering
from hjepa_gfn.worlds.standing import NOTHING, Standing, changed, foreseen

BLUE_KEY, RED_KEY, RED_BALL, RED_BOX = (KEY, 2, 0), (KEY, 0, 0), (BALL, 0, 0), (BOX, 0, 0)


def state_of(env):
    held = env.carrying.encode() if env.carrying else None
    return (*map(int, env.agent_pos), int(env.agent_dir), held, env.grid.encode().tobytes())


@pytest.mark.parametrize("level", ["BabyAI-PickupLoc-v0", "BabyAI-MiniBossLevel-v0"])
def test_how_often_things_stood_so_is_what_the_simulator_says(level):
    """Random walks full of pick-ups, drops, toggles, walls: what is said of an action before it is taken is how often the
    simulator was in the state that it then is in; of boxes that are opened nothing is said."""
    rows, rng = 8, np.random.default_rng(0)
    inner = make_world(level, rows)
    world = Remembering(inner)
    percept, done = world.reset(range(rows)).percept, np.zeros(rows, bool)
    been = [Counter([state_of(env)]) for env in inner._envs]
    found, unknown, kinds = Counter(), 0, Counter()
    for _ in range(120):
        action = rng.choice(7, rows, p=[0.12, 0.12, 0.2, 0.22, 0.16, 0.16, 0.02])
        said, ahead = percept["stood"], percept["view"][:, 3, 5, 0]
        running, before = ~done, [state_of(env) for env in inner._envs]
        observation, _, done = world.step(action)
        percept = observation.percept
        for row in np.flatnonzero(running):
            now = state_of(inner._envs[row])
            if action[row] == TOGGLE and ahead[row] == BOX:
                assert said[row, TOGGLE] == 0
                unknown += 1
            else:
                assert said[row, action[row]] == been[row][now], (row, action[row])
                found[int(been[row][now])] += 1
                kinds[int(action[row]), now == before[row]] += 1
            been[row][now] += 1
    assert found[0] > 60 and found[1] > 50 and sum(n for count, n in found.items() if count > 2) > 50
    assert all(kinds[action, False] for action in (LEFT, RIGHT, FORWARD, PICKUP, DROP)), "all of them did something"
    assert all(kinds[action, True] for action in (FORWARD, PICKUP, DROP, TOGGLE)), "and nothing"
    assert kinds[TOGGLE, False] if "Boss" in level else unknown
    again = world.reset(range(rows)).percept["stood"]
    assert not again[:, LEFT].any() and (again[:, 6] == 1).all(), "another episode: things never stood but as they do now"


def test_what_actions_make_of_things():
    """Cases that random walks seldom meet: locks, keys that do not fit, full hands, and things put elsewhere."""
    start = Standing()
    held = foreseen(start, BLUE_KEY, False, PICKUP)
    assert held.held == BLUE_KEY and held != start and foreseen(held, NOTHING, True, DROP) == start, "put back"
    aside = foreseen(foreseen(held, NOTHING, True, LEFT), NOTHING, True, DROP)
    assert aside.held == NOTHING and {place for place, *_ in aside.changes} == {(1, 0), (0, -1)}
    assert foreseen(held, RED_BALL, False, PICKUP) == held and foreseen(held, RED_BALL, False, DROP) == held, "full hands"
    assert foreseen(start, NOTHING, True, DROP) == start and foreseen(start, (EMPTY, 0, 0), True, PICKUP) == start
    for key, opens in ((BLUE_KEY, True), (RED_KEY, False), (NOTHING, False)):
        before = start._replace(held=key)
        assert (foreseen(before, (DOOR, 2, LOCKED), False, TOGGLE) != before) == opens
    opened = foreseen(start, (DOOR, 2, CLOSED), False, TOGGLE)
    assert opened.changes == {((1, 0), (DOOR, 2, OPEN), (DOOR, 2, CLOSED))}
    assert foreseen(opened, (DOOR, 2, OPEN), True, TOGGLE) == start
    assert foreseen(start, RED_BOX, False, TOGGLE) is None
    assert foreseen(start, NOTHING, True, FORWARD).place == (1, 0) and foreseen(start, RED_BOX, False, FORWARD) == start
    assert foreseen(start._replace(turns=1), NOTHING, True, FORWARD).place == (0, 1)
    assert (foreseen(start, NOTHING, True, RIGHT).turns, foreseen(start, NOTHING, True, LEFT).turns) == (1, 3)
    assert changed(aside, RED_BALL, RED_BALL, NOTHING).held == RED_BALL


def test_where_nothing_is_seen_nothing_has_changed():
    """A view that is missing (all zeros) shows no empty hand."""
    world = Remembering(Missing(make_world("BabyAI-PickupLoc-v0", 4), 0.9))
    world.reset(range(4))
    for t in range(12):
        percept = world.step(np.full(4, (LEFT, TOGGLE, PICKUP)[t % 3]))[0].percept
        unseen = ~percept["view"].any((1, 2, 3))
        assert all(stands.held == before.held for stands, before, gone in
                   zip(world._stands, world._stands_before, unseen, strict=True) if gone)
