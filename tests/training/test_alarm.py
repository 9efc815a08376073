"""The collapse alarm: both signs at once end a run before anything is saved over its last good checkpoint; one alone none."""
import sys
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import jax.numpy as jnp
import pytest

sys.path.insert(0, str(Path(__file__).parent))
import toy  # noqa: E402

from hjepa_gfn.distributed import make_mesh  # noqa: E402
from hjepa_gfn.errors import UserError  # noqa: E402
from hjepa_gfn.training import load_checkpoint, run  # noqa: E402
from hjepa_gfn.training.alarm import collapse  # noqa: E402

BARS = SimpleNamespace(std=0.2, sigreg=0.5, after=3)


class Shrinking(toy.Toy):
    """Two numbers a train step reports: std falls below its bar from one iteration on, SIGReg rises from another on."""

    def __init__(self, small_at, far_at, back_at=10**6):
        super().__init__(total_steps=16)
        self._at = small_at, far_at, back_at
        self.train_steps = {"jepa": self.watched}

    def schedule(self, step):
        return ("jepa",)

    def watched(self, state, batch):
        new, metrics = self.fit(state, batch)
        small, far, back = self._at
        std = jnp.where((state.step >= small) & (state.step < back), 0.01, 0.9)
        share = jnp.where(state.step >= far, 0.95, 0.05)
        return new, metrics | {"step_std": std + 0.3, "subgoal_std": std, "step_collapse": share, "subgoal_collapse": share}


def go(task, workdir):
    settings = toy.settings(checkpoint_every=6, log_every=3, alarm=partial(collapse, bars=BARS))
    return run(task, workdir, mesh=make_mesh(), **settings)


def test_a_collapsed_run_stops_and_keeps_its_last_good_checkpoint(tmp_path):
    with pytest.raises(UserError) as stopped:
        go(Shrinking(small_at=6, far_at=6), tmp_path)
    said = str(stopped.value)
    for word in ("level 'subgoal'", "std 0.01", "alarm.std=0.2", "0.95", "alarm.sigreg=0.5", "at step 9", "step 6"):
        assert word in said
    assert "\n" not in said
    assert load_checkpoint(tmp_path).step == 6 and [p.name for p in (tmp_path / "checkpoints").iterdir()] == ["6"]


def test_nothing_is_saved_between_two_rows_of_a_collapsed_run(tmp_path):
    """The checkpoint at 6 falls between the rows at 5 and 10."""
    settings = toy.settings(checkpoint_every=6, log_every=5, alarm=partial(collapse, bars=BARS))
    with pytest.raises(UserError, match="at step 6 of .*there is no checkpoint yet"):
        run(Shrinking(small_at=5, far_at=5), tmp_path, mesh=make_mesh(), **settings)
    assert not list((tmp_path / "checkpoints").glob("[0-9]*"))


@pytest.mark.parametrize("task", [
    pytest.param(dict(small_at=10**6, far_at=10**6), id="healthy"),
    pytest.param(dict(small_at=6, far_at=10**6, back_at=9), id="a dip of std alone"),
    pytest.param(dict(small_at=10**6, far_at=6), id="a large statistic alone")])
def test_one_sign_alone_stops_nothing(task, tmp_path):
    assert int(go(Shrinking(**task), tmp_path).step) == 16


def test_bars():
    means = {"jepa/step_std": 0.1, "jepa/step_collapse": 0.6}
    assert "level 'step'" in collapse(3, means, BARS)
    assert collapse(2, means, BARS) is None, "it keeps quiet at the start"
    assert collapse(3, {"habit/loss": 0.1}, BARS) is None, "no JEPA was trained"
    assert collapse(3, {**means, "jepa/step_std": 0.21}, BARS) is None
    assert collapse(3, {**means, "jepa/step_collapse": 0.49}, BARS) is None
    assert collapse(3, means, SimpleNamespace(std=0.0, sigreg=0.5, after=0)) is None
