"""What a run says of itself: timings, goodput over restarts, traces."""

import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
import toy  # noqa: E402

from hjepa_gfn.distributed import make_mesh  # noqa: E402
from hjepa_gfn.training import load_checkpoint, read_metrics, run  # noqa: E402


class Stopped(Exception):
    pass


class Stops(toy.Toy):
    """Stops before iteration 13: a row (10) after the last checkpoint (7)."""

    def batch(self, step, *shards):
        if step == 13:
            raise Stopped
        return super().batch(step, *shards)


@pytest.fixture(scope="module")
def observed(tmp_path_factory):
    """A run that was stopped and continued, and its account when it was stopped."""
    workdir = tmp_path_factory.mktemp("observed")
    with pytest.raises(Stopped):
        run(Stops(total_steps=20, pause=0.01), workdir, mesh=make_mesh(), **toy.settings(), profile_steps=(3, 4))
    account = json.loads((workdir / "goodput.json").read_text())
    traces = list((workdir / "profile").rglob("*.xplane.pb"))
    run(toy.Toy(total_steps=20, pause=0.01), workdir, mesh=make_mesh(), **toy.settings(), profile_steps=(3, 4))
    return workdir, account, traces


def test_timings_have_rows_of_their_own(observed):
    rows = read_metrics(observed[0] / "timings.jsonl")
    assert [row["step"] for row in rows] == [5, 10, 15, 20] == [row["step"] for row in read_metrics(observed[0])]
    for row in rows:
        assert row["time/data"] >= 0.01 and row["time/fit"] > 0 and row["time/shrink"] > 0 and 0 < row["goodput"] < 1
        assert row["time/fit"] < 5
    # 7, 14 and 20 were saved; the compilations were before 5 and, after the restart at 7, before 10 (whose row was made again).
    assert [("time/save" in row, "time/compile" in row) for row in rows] == [
        (False, True), (False, True), (True, False), (False, False)]  # fmt: skip
    assert not any(name.startswith(("time/", "goodput")) for row in read_metrics(observed[0]) for name in row)


def test_what_a_restart_does_again_counts_against_it(observed):
    workdir, before, _ = observed
    after = json.loads((workdir / "goodput.json").read_text())
    assert before["starts"] == 1 and before["lost_seconds"] == 0 and after["starts"] == 2
    assert 0 < after["lost_seconds"] < before["useful_seconds"]  # the work between the checkpoint (7) and the row (10)
    assert after["begun"] == before["begun"] and after["wall_seconds"] > before["wall_seconds"]
    assert after["goodput"] == after["useful_seconds"] / after["wall_seconds"]
    assert load_checkpoint(workdir).meta["useful_seconds"] == pytest.approx(after["useful_seconds"])


def test_chosen_iterations_are_traced_once(observed):
    workdir, _, traces = observed
    assert len(traces) == 1 and b"shrink" in traces[0].read_bytes()
    assert list((workdir / "profile").rglob("*.xplane.pb")) == traces  # begun again at step 7, there is nothing left to trace
