"""Words must say where things really are, and nothing that the percept does not show."""

import numpy as np
import pytest

from hjepa_gfn.worlds import make_world
from hjepa_gfn.worlds.babyai import make_env, reset_env
from hjepa_gfn.worlds.language import (
    AGENT_CELL,
    BALL,
    BOX,
    DOOR,
    EMPTY,
    KEY,
    WALL,
    Description,
    carried,
    cell_of,
    describe_situation,
    free_ahead,
    mission_targets,
    place_in_words,
    things_in_view,
    walkable,
    with_article,
)


def a_view(**things):
    """An empty room with the given (object, colour, state) codes at places named like `ahead3_right_1`."""
    view = np.zeros((7, 7, 3), np.uint8)
    view[..., 0] = EMPTY
    for (ahead, right), code in things.get("at", {}).items():
        view[cell_of((ahead, right))] = code
    return view


@pytest.mark.parametrize("seed", range(20))
def test_places_are_true(seed):
    env = make_env("BabyAI-GoToLocal-v0")
    obs = reset_env(env, seed)
    forward, right = np.array(env.dir_vec), np.array(env.right_vec)
    for thing in things_in_view(obs["image"]):
        x, y = np.array(env.agent_pos) + thing.place[0] * forward + thing.place[1] * right
        there = env.grid.get(int(x), int(y))
        assert (there.type, there.color) == (thing.kind, thing.colour)


def test_situation_in_words():
    view = a_view(at={(3, 0): (BALL, 0, 0), (2, -2): (KEY, 5, 0), (4, 0): (WALL, 5, 0), (0, 3): (DOOR, 2, 0)})
    view[AGENT_CELL] = (BOX, 4, 0)
    assert describe_situation(view, 1, "go to the Red ball") == (
        "mission: go to the red ball. you face south and carry a yellow box. the way ahead is free for 2. "
        "you see a red ball 3 ahead, an open blue door 3 to the right, a grey key 2 ahead and 2 to the left."
    )
    assert carried(view).name == "yellow box"


def test_situation_with_nothing_to_see():
    view = np.zeros((7, 7, 3), np.uint8)
    text = describe_situation(view, 3, "go to a box")
    assert "carry nothing" in text and "blocked" in text and text.endswith("you see no objects.")


def test_worlds_situation_is_made_of_percept_and_mission():
    world = make_world("BabyAI-GoToLocal-v0", 2)
    obs = world.reset([3, 4])
    for i in range(2):
        assert world.situation(i) == describe_situation(
            obs.percept["view"][i], obs.percept["direction"][i], obs.mission[i]
        )


def test_walkable():
    view = a_view(at={(1, 0): (DOOR, 0, 0), (2, 0): (DOOR, 0, 1), (3, 0): (0, 0, 0), (0, 1): (KEY, 0, 0)})
    assert walkable(view, (1, 0)) and walkable(view, (0, 0)) and walkable(view, (4, 2))
    assert not any(walkable(view, place) for place in [(2, 0), (3, 0), (0, 1), (7, 0), (1, 4), (-1, 0)])
    assert free_ahead(view) == 1


@pytest.mark.parametrize(
    "mission, names",
    [
        ("go to the red ball", ["red ball"]),
        ("go to a box", ["box"]),
        ("pick up the grey key on your left", ["grey key"]),
        ("put the green ball next to the yellow key", ["green ball", "yellow key"]),
        ("open the blue door, then go to an object", ["blue door", "object"]),
        ("go to a key after you pick up the purple box", ["purple box", "key"]),
    ],
)
def test_mission_targets_come_in_the_order_of_doing(mission, names):
    assert [target.name for target in mission_targets(mission)] == names


def test_descriptions_match_what_they_leave_open():
    thing = things_in_view(a_view(at={(1, 1): (BALL, 0, 0)}))[0]
    assert Description("ball", "").matches(thing) and Description("", "red").matches(thing)
    assert not Description("ball", "blue").matches(thing) and not Description("key", "red").matches(thing)


def test_small_words():
    assert place_in_words((3, -2)) == "3 ahead and 2 to the left"
    assert place_in_words((-1, 0)) == "1 behind"
    assert place_in_words((0, 1)) == "1 to the right"
    assert with_article("open door") == "an open door" and with_article("key") == "a key"
