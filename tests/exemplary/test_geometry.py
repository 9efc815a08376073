"""Dead reckoning and route finding must agree with the simulator."""

import numpy as np
import pytest

from hjepa_gfn.exemplary.geometry import START, destination, faced, move, route
from hjepa_gfn.worlds.babyai import DROP, FORWARD, LEFT, PICKUP, RIGHT, make_env, reset_env
from hjepa_gfn.worlds.language import things_in_view


def test_destination():
    assert destination([FORWARD, FORWARD]) == (3, 0)
    assert destination([LEFT, FORWARD]) == (0, -2)
    assert destination([FORWARD, RIGHT, FORWARD, RIGHT]) == (0, 1)
    assert destination([RIGHT, PICKUP, FORWARD, FORWARD, DROP]) == (0, 1)


@pytest.mark.parametrize("seed", range(12))
def test_routes_lead_to_what_is_seen_and_none_is_shorter(seed):
    env = make_env("BabyAI-GoToLocal-v0")
    things = things_in_view(reset_env(env, seed)["image"])
    for thing in things:
        view = reset_env(env, seed)["image"]
        actions = route(view, thing.place)
        if actions is None:
            continue
        pose = START
        for action in actions:
            env.step(action)
            pose = move(pose, action)
        there = env.grid.get(*np.array(env.front_pos).tolist())
        assert (there.type, there.color) == (thing.kind, thing.colour)
        assert faced(pose) == thing.place
        ahead, right = thing.place
        assert len(actions) >= abs(ahead) + abs(right) - 1 + (right != 0)


def test_no_route_through_walls_or_the_unseen():
    view = np.zeros((7, 7, 3), np.uint8)
    assert route(view, (3, 0)) is None
