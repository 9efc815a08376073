"""What training on walks of pixels refuses. That it trains is tested with `experiments.two_rooms`."""

import dataclasses

import pytest

from hjepa_gfn.errors import UserError
from hjepa_gfn.training.pixel_jepa import PixelTraining


def test_settings_that_do_not_go_together_are_refused():
    training = PixelTraining(steps=40)
    assert dataclasses.replace(training, chunk=20).chunk == 20
    with pytest.raises(UserError, match="chunk=3: must divide the steps, 40"):
        dataclasses.replace(training, chunk=3)
    with pytest.raises(UserError, match="horizon=6: must lie within 1 and the window, 5"):
        dataclasses.replace(training, horizon=6)
