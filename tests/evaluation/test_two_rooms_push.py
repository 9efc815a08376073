"""Pushing at the wall: that the walks do, and what is made of what a model foresees of them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hjepa_gfn.evaluation.two_rooms_push import crept, pushes
from hjepa_gfn.worlds.two_rooms import PUBLISHED, Rooms, layouts, step


@pytest.mark.parametrize("rooms", [Rooms(), PUBLISHED], ids=["small", "published"])
def test_pushes_stand_in_the_free_and_move_nobody(rooms):
    some = pushes(rooms, jax.random.key(0), jnp.asarray(layouts(rooms, "train")), 400, 3)
    layout, start, action = some.layout, some.position[:, 0], some.action[:, 0]
    assert some.position.shape == (400, 4, 2) and some.action.shape == (400, 3, 2)
    np.testing.assert_array_equal(step(rooms, layout, start, action), start)
    assert np.asarray((start > rooms.low) & (start < rooms.high)).all()
    # Away from the wall, and up and down, the way is free: it is the wall that stops them.
    back = step(rooms, layout, start, -action)
    assert (np.abs(back - start).max(-1) > 0).all()
    off = np.abs(np.asarray(start - layout))
    assert (off[:, 1] > rooms.door_half).all() and (off[:, 0] > rooms.wall_half).all()
    assert 0.4 < (np.asarray(action)[:, 0] > 0).mean() < 0.6, "from both sides"
    assert 0.2 < np.asarray(start[:, 1] > layout[:, 1]).mean() < 0.8, "below the door and above it"


def test_creep_is_measured_along_the_push():
    rooms = Rooms()
    layout, action = np.array([[9.0, 9.0]] * 2), np.array([[[2.0, 0.0]] * 4, [[-2.0, 0.0]] * 4])
    read = np.stack([[[7.0, 7.5, 8.0, 8.5, 9.5], [11.0, 11.0, 10.5, 10.5, 9.5]], np.full((2, 5), 3.0)], -1)
    assert crept(rooms, layout, action, read) == {"creep": pytest.approx((2.5 + 1.5) / 2 / 8), "through": 0.5}
