"""What was seen, around the agent: against a map of the simulator's own coordinates, on all that may happen in a level."""
import jax
import numpy as np
import pytest

from hjepa_gfn.errors import UserError
from hjepa_gfn.worlds import egocentric_map, make_world
from hjepa_gfn.worlds.babyai import BabyAIWorld
from hjepa_gfn.worlds.remembering import Remembering

STEPS = 60
remember = jax.jit(egocentric_map.remember, static_argnums=2)
WEIGHTS = np.array([0.2, 0.2, 0.45, 0.05, 0.04, 0.06, 0.0])


def walk(level: str, rows: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, list]:
    """Views [B, T+1, 7, 7, 3], actions [B, T], poses by row; where a mission is fulfilled nothing goes on."""
    world, rng = BabyAIWorld(level, rows), np.random.default_rng(seed)
    views, actions, poses = [world.reset(range(rows)).percept["view"]], [], [[world.pose(i) for i in range(rows)]]
    done = np.zeros(rows, bool)
    for _ in range(STEPS):
        taken = np.where(done, 6, rng.choice(7, rows, p=WEIGHTS))
        observation, _, done = world.step(taken)
        views.append(observation.percept["view"])
        actions.append(taken)
        poses.append([world.pose(i) for i in range(rows)])
    return np.stack(views, 1), np.stack(actions, 1).astype(np.int32), poses


def by_coordinates(view: np.ndarray, poses: list, size: int) -> np.ndarray:
    """One episode's maps, from the simulator's coordinates: what each cell of the world was last seen to hold."""
    world: dict[tuple[int, int], np.ndarray] = {}
    maps = np.zeros((len(view), size, size, 3), np.uint8)
    ahead_of = {0: (1, 0), 1: (0, 1), 2: (-1, 0), 3: (0, -1)}
    for t, (x, y, direction) in enumerate(poses):
        dx, dy = ahead_of[direction]
        place = lambda i, j, dx=dx, dy=dy, x=x, y=y: (x + dx * j - dy * i, y + dy * j + dx * i)  # i to the right, j ahead
        for i in range(7):
            for j in range(7):
                if view[t, i, j, 0] and (i, j) != (3, 6):
                    world[place(i - 3, 6 - j)] = view[t, i, j]
        world.setdefault((x, y), np.array([1, 0, 0]))
        for i in range(size):
            for j in range(size):
                maps[t, i, j] = world.get(place(i - size // 2, size // 2 - j), 0)
        maps[t, size // 2, size // 2] = view[t, 3, 6]
    return maps


# What has left the map's reach is forgotten; the reference remembers it. Levels of one room never leave 15 cells.
@pytest.mark.parametrize(
    ("level", "size"), [("BabyAI-PickupLoc-v0", 15), ("BabyAI-UnlockLocal-v0", 45), ("BabyAI-GoToImpUnlock-v0", 45)])
def test_maps_hold_what_was_last_seen(level, size):
    view, action, poses = walk(level, 3)
    found = np.asarray(remember(view, action, size))
    assert view.shape[1] > 20 and (action == egocentric_map.FORWARD).any()
    for row in range(len(view)):
        np.testing.assert_array_equal(found[row], by_coordinates(view[row], [p[row] for p in poses], size))
    remembered = (found[..., 0] > 0).sum((-2, -1)) - (view[..., 0] > 0).sum((-2, -1))
    assert remembered[:, -1].min() > 5, "more is known than is shown"


def test_what_leaves_a_small_map_is_forgotten_and_a_view_in_front_of_it_cut():
    view, action, poses = walk("BabyAI-PickupLoc-v0", 3)
    small = np.asarray(remember(view, action, 9))
    large = np.asarray(remember(view, action, 15))[:, :, 3:-3, 3:-3]
    known = small[..., 0] > 0
    np.testing.assert_array_equal(small[known], large[known])
    assert known.mean() > 0.8 * (large[..., 0] > 0).mean()


def test_numpy_and_jax_agree_and_a_world_that_remembers_perceives_the_same():
    level, rows = "BabyAI-UnlockLocal-v0", 2
    view, action, _ = walk(level, rows, seed=3)
    want = np.asarray(remember(view, action, 11))
    world = Remembering(make_world(level, rows), 11)
    observation = world.reset(range(rows))
    for t in range(action.shape[1] + 1):
        assert observation.percept["view"].dtype == np.uint8
        np.testing.assert_array_equal(observation.percept["view"], want[:, t])
        if t < action.shape[1]:
            assert not observation.percept["contradicted"].any(), "the world is as remembered"
            observation, _, done = world.step(action[:, t])
    assert set(observation.percept) == set(world.percept_spec)
    plain, same = Remembering(make_world(level, rows)), make_world(level, rows)
    seen, bare = plain.reset(range(rows)), same.reset(range(rows))
    np.testing.assert_array_equal(seen.percept["view"], bare.percept["view"])
    assert plain.percept_spec["view"] == same.percept_spec["view"] and not seen.percept["contradicted"].any()


def test_tampered_percepts_and_displaced_agents_contradict_what_is_remembered():
    world = Remembering(make_world("BabyAI-GoToLocal-v0", 4), 13)
    world.reset(range(4))
    before, _, _ = world.step(np.zeros(4, int))
    known = before.percept["view"].copy()
    unshown = Remembering(make_world("BabyAI-GoToLocal-v0", 4))
    unshown.reset(range(4))
    unshown.step(np.zeros(4, int))
    shown = world.tamper(lambda view: np.where(view[..., :1] > 3, (view + [0, 1, 0]) % 6, view).astype(np.uint8))
    assert (shown.percept["contradicted"] > 0).sum() >= 3
    turned = unshown.tamper(lambda view: np.where(view[..., :1] > 3, (view + [0, 1, 0]) % 6, view).astype(np.uint8))
    np.testing.assert_array_equal(turned.percept["contradicted"], shown.percept["contradicted"])
    again = world.show(world.world._observation())
    np.testing.assert_array_equal(again.percept["view"], known)
    moved = world.displace([0, 1])
    assert (moved.percept["contradicted"][:2] > 0.1).all() and not moved.percept["contradicted"][2:].any()


def test_handling_the_cell_ahead_is_no_contradiction():
    known = egocentric_map.empty_map((1,), 7)
    view = np.zeros((1, 7, 7, 3), np.uint8)
    view[0, 3, 5], view[0, 3, 4] = (6, 0, 0), (1, 0, 0)
    held = egocentric_map.seen(known, view, np.array([-1])).known
    empty = view.copy()
    empty[0, 3, 5] = (1, 0, 0)
    assert egocentric_map.seen(held, empty, np.array([egocentric_map.PICKUP])).contradicted == 0
    assert egocentric_map.seen(held, empty, np.array([egocentric_map.LEFT])).contradicted == 0.5


def test_missing_percepts_leave_what_is_known_to_the_agents_own_motion():
    """Without a percept for two turns, the map is that of an agent that looked each time, but for what only they showed."""
    view, _, _ = walk("BabyAI-GoToLocal-v0", 3)
    turns = np.zeros((3, 2), np.int32)
    blind = np.stack([view[:, 0], np.zeros_like(view[:, 0]), np.zeros_like(view[:, 0])], 1)
    found = np.asarray(remember(blind, turns, 15))
    expected = found[:, 0, ::-1, ::-1].copy()  # turned round twice
    expected[:, 7, 7] = 0  # what is carried is not remembered
    np.testing.assert_array_equal(found[:, 2], expected)


@pytest.mark.parametrize("size", [5, 8])
def test_sizes_that_hold_no_view_are_refused(size):
    with pytest.raises(UserError, match=f"data.map={size}: must be 0"):
        egocentric_map.check_size(size)
