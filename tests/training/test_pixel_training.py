"""Training on walks drawn within the step: many steps in one call are the steps one by one."""

import dataclasses

import jax
import numpy as np
import pytest

from hjepa_gfn.errors import UserError
from hjepa_gfn.models.pixel_jepa import PixelSizes
from hjepa_gfn.objectives.pixel_jepa import PUBLISHED_WEIGHTS
from hjepa_gfn.training.pixel_jepa import PixelTraining, train, updater
from hjepa_gfn.worlds.two_rooms import Rooms

ROOMS = Rooms(size=12, high=10.0, wall=(5, 6), door=(4, 7), roam=6)
TRAINING = PixelTraining(
    rooms=ROOMS, sizes=PixelSizes(state=4, channels=4, predictor="gru", hidden=8), steps=40, batch=8, horizon=2, window=3,
    from_first=True, rate=0.02)


def test_scanned_steps_are_the_steps_one_by_one_and_learn():
    run = lambda chunk, seed=3: train(dataclasses.replace(TRAINING, chunk=chunk), PUBLISHED_WEIGHTS, seed, progress=False)
    (one, losses, _), (many, again, _) = run(1), run(20)
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(many)):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)
    assert losses == pytest.approx(again, rel=1e-3), "of 4 steps here, of the last 4 of 20 there"
    other, found, _ = run(20, 4)
    assert any(np.abs(a - b).max() > 1e-3 for a, b in zip(jax.tree.leaves(many), jax.tree.leaves(other))), "a seed of its own"
    without = train(dataclasses.replace(TRAINING, chunk=20), PUBLISHED_WEIGHTS._replace(inverse=0.0), 4, progress=False)[1]
    assert found["inverse"] < 0.9 * without["inverse"], "what is weighted is learned"
    assert updater(dataclasses.replace(TRAINING, chunk=20))._cache_size() == 1, "one program for all weights"


def test_settings_that_do_not_go_together_are_refused():
    with pytest.raises(UserError, match="chunk=3: must divide the steps, 40"):
        dataclasses.replace(TRAINING, chunk=3)
    with pytest.raises(UserError, match="horizon=4"):
        dataclasses.replace(TRAINING, horizon=4)
