"""Two rooms against plain numpy: walls stop, doors let through, nothing tunnels; what is drawn is where it should be."""

import os
import subprocess

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hjepa_gfn.worlds.two_rooms import PUBLISHED, SPLITS, Rooms, layouts, render, slide, start_and_goal, step
from hjepa_gfn.worlds.two_rooms_walks import Walks, draw_walks, von_mises, window

ROOMS = Rooms(size=28, low=1.0, high=26.0, wall=(8, 19), door=(4, 23))


def solid(rooms, layout, point):
    """Whether a point is in a border or in the wall beside its door."""
    off = np.abs(point - layout)
    wall = (off[..., 0] <= rooms.wall_half) & (off[..., 1] > rooms.door_half)
    return wall | ((point <= rooms.low) | (point >= rooms.high)).any(-1)


@pytest.mark.parametrize("rooms", [ROOMS, PUBLISHED], ids=["small", "published"])
def test_a_step_is_taken_unless_some_point_of_its_way_is_solid(rooms):
    rng = np.random.default_rng(0)
    every = layouts(rooms, "train")
    layout = every[rng.integers(len(every), size=1500)].astype(np.float64)
    # Near the wall and the door, where it matters, with steps up to five walls long.
    start = layout + rng.uniform(-1, 1, layout.shape) * [4, 2 * rooms.door_half]
    action = rng.uniform(-1, 1, layout.shape) * rng.choice([1.0, 3.0, 10.0], (len(layout), 1))
    free = ~solid(rooms, layout, start)
    layout, start, action = layout[free], start[free], action[free]
    way = start + np.linspace(0, 1, 1501)[:, None, None] * action
    met = solid(rooms, layout, way).any(0)
    expected = np.where(met[:, None], start, start + action)
    found = np.asarray(jax.jit(lambda *a: step(rooms, *a))(layout, start, action))
    # Ways that only graze a corner may fall between the points.
    close = (np.abs(found - expected) < 1e-4).all(-1)
    assert 0.1 < met.mean() < 0.9 and len(met) > 1000
    assert (~close).sum() <= 2
    through = (np.sign(start[:, 0] - layout[:, 0]) != np.sign(found[:, 0] - layout[:, 0])).sum()
    assert through > 20, "doors let through"


def test_the_door_lets_through_and_the_wall_stops_whatever_the_step():
    layout = jnp.array([12.0, 10.0])
    move = lambda start, action: step(ROOMS, layout, jnp.array(start), jnp.array(action)).tolist()
    assert move([9.0, 10.0], [6.0, 0.0]) == [15.0, 10.0]
    assert move([9.0, 13.0], [6.0, 0.0]) == [9.0, 13.0], "beside the door; six is three walls thick"
    assert move([9.0, 13.0], [0.0, 3.0]) == [9.0, 16.0]
    assert move([12.0, 10.0], [0.0, 3.0]) == [12.0, 10.0], "from within the door into the wall"
    assert move([3.0, 3.0], [-2.5, 0.0]) == [3.0, 3.0]


def test_percepts_show_dot_walls_and_door():
    layout, position = jnp.array([12.0, 8.0]), jnp.array([20.0, 5.0])
    image = np.asarray(render(ROOMS, layout, position))
    assert image.shape == (28, 28, 2) and image[5, 20, 0] == 1.0, "row y, column x"
    assert image[5, 21, 0] == pytest.approx(np.exp(-1 / (2 * 1.3**2)))
    assert image[7, 23, 0] == pytest.approx(np.exp(-13 / (2 * 1.3**2)))
    wall = image[..., 1]
    assert set(np.unique(wall)) == {0.0, 1.0}
    column = np.array([wall[y, 12] for y in range(2, 26)])
    assert (np.flatnonzero(column == 0) + 2).tolist() == [6, 7, 8, 9, 10], "the door's opening"
    assert wall[20, 11:14].all() and not wall[20, [9, 10, 14, 15]].any(), "the wall's thickness"
    assert wall[1].all() and wall[26].all() and wall[:, 1].all() and wall[:, 26].all()


def test_splits_share_no_layout():
    parts = [{tuple(row) for row in layouts(ROOMS, split)} for split in SPLITS]
    assert [len(part) for part in parts] == [168, 24, 48]
    assert len(set.union(*parts)) == 240
    assert layouts(PUBLISHED, "train")[:, 0].min() == 20 and layouts(PUBLISHED, "train")[:, 0].max() == 44


def test_starts_and_goals_lie_in_different_rooms_clear_of_walls():
    layout = jnp.asarray(np.resize(layouts(ROOMS, "test"), (500, 2)))
    start, goal = (np.asarray(x) for x in start_and_goal(ROOMS, jax.random.key(0), layout))
    side = np.sign(start[:, 0] - layout[:, 0])
    assert (side == -np.sign(goal[:, 0] - layout[:, 0])).all() and 0.4 < (side > 0).mean() < 0.6
    for place in (start, goal):
        assert (np.abs(place[:, 0] - layout[:, 0]) >= 2.2 - 1e-4).all()
        assert (place >= 2.2 - 1e-4).all() and (place <= 24.8 + 1e-4).all()


def test_walks_obey_the_rules_and_some_go_through_the_door():
    walks = jax.jit(lambda k: draw_walks(ROOMS, k, jnp.asarray(layouts(ROOMS, "train")), 512, 8))(jax.random.key(0))
    layout, position, action = (np.asarray(x) for x in walks)
    assert not solid(ROOMS, layout[:, None], position).any()
    again = position[:, :-1] + action
    moved = np.abs(position[:, 1:] - again).max(-1) < 1e-5
    assert np.logical_or(moved, (position[:, 1:] == position[:, :-1]).all(-1)).all()
    assert 0.05 < 1 - moved.mean() < 0.6, "some are stopped"
    length = np.linalg.norm(action, axis=-1)
    assert length.min() >= 0.4 - 1e-5 and length.max() <= 3.6 + 1e-5 and abs(length.mean() - 2.0) < 0.05
    crossed = np.sign(position[:, 0, 0] - layout[:, 0]) != np.sign(position[:, -1, 0] - layout[:, 0])
    assert 0.15 < crossed.mean() < 0.5
    known = {tuple(row) for row in layouts(ROOMS, "train")}
    assert all(tuple(row) in known for row in layout)


def test_windows_of_longer_walks_are_pieces_of_them_from_all_their_times():
    position = jnp.arange(11.0)[None, :, None] + 100 * jnp.arange(300.0)[:, None, None] + jnp.zeros(2)
    whole = Walks(jnp.zeros((300, 2)), position, position[:, :-1] + 0.5)
    cut = window(jax.random.key(0), whole, 4)
    assert cut.position.shape == (300, 5, 2) and cut.action.shape == (300, 4, 2)
    first = np.asarray(cut.position[:, 0, 0]) - 100 * np.arange(300)
    assert set(first) == set(range(7)), "the whole walk's beginning and its end, too"
    np.testing.assert_array_equal(np.asarray(cut.position[..., 1]), np.asarray(cut.position[:, :1, 1]) + np.arange(5))
    np.testing.assert_array_equal(cut.action, cut.position[:, :-1] + 0.5)


def test_turns_have_the_moments_of_a_von_mises_distribution():
    turn = np.asarray(von_mises(jax.random.key(0), 5.0, (20000,)), np.float64)
    grid = np.linspace(-np.pi, np.pi, 20001)
    density = np.exp(5.0 * np.cos(grid))
    for power in (1, 2):
        expected = (np.cos(power * grid) * density).sum() / density.sum()
        assert np.cos(power * turn).mean() == pytest.approx(expected, abs=0.01)
    assert abs(np.sin(turn).mean()) < 0.01


PEER = """
import sys, numpy as np, torch
from stable_worldmodel.envs.two_room import TwoRoomEnv
data = np.load(sys.argv[1])
env, out = TwoRoomEnv(), []
env.reset(seed=0)
for door, start, actions in zip(data["door"], data["start"], data["action"]):
    env.door_positions = torch.tensor([door])
    env._set_state(start)
    rows = []
    for action in actions:
        env.step(action)
        rows.append(env.agent_position.numpy().copy())
    out.append(rows)
np.save(sys.argv[2], np.array(out))
"""


def test_slide_follows_stable_worldmodel_step_by_step(tmp_path):
    """Where $STABLE_WORLDMODEL_PYTHON is an interpreter with stable-worldmodel 0.1.1 (its pins clash with ours)."""
    python = os.environ.get("STABLE_WORLDMODEL_PYTHON")
    if not python:
        pytest.skip("STABLE_WORLDMODEL_PYTHON is not set")
    rng = np.random.default_rng(0)
    n, steps = 60, 40
    door = rng.integers(30, 195, n).astype(np.float32)
    start = rng.uniform(25, 199, (n, 2)).astype(np.float32)
    start[np.abs(start[:, 0] - 112) < 14, 0] = 60.0
    aim = np.stack([np.full(n, 112.0) - start[:, 0], door - start[:, 1]], -1)
    towards = 1.5 * aim[:, None] / np.abs(aim).max(-1)[:, None, None]  # the door, and through it
    action = towards + rng.normal(0, 0.5, (n, steps, 2))
    action = action.astype(np.float32)
    np.savez(tmp_path / "in.npz", door=door, start=start, action=action)
    subprocess.run([python, "-c", PEER, tmp_path / "in.npz", tmp_path / "out.npy"], check=True, capture_output=True)
    peer = np.load(tmp_path / "out.npy")
    layout = np.stack([np.full(n, 112.0, np.float32), door], -1)
    move = jax.jit(lambda p, a: slide(layout, p, a))
    found, position = [], jnp.asarray(start)
    for t in range(steps):
        position = move(position, action[:, t])
        found.append(np.asarray(position))
    np.testing.assert_allclose(np.stack(found, 1), peer, atol=1e-3)
    crossed = np.sign(peer[:, -1, 0] - 112) != np.sign(start[:, 0] - 112)
    assert 0.1 < crossed.mean() < 1.0, "some went through the door, others not"
