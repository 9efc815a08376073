"""A run that is killed and started again is the same run, bit by bit."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))
import toy  # noqa: E402

from hjepa_gfn.distributed import make_mesh  # noqa: E402
from hjepa_gfn.training import run  # noqa: E402

CONFIG = {"rate": 1e-2, "total_steps": 30}


def go(workdir, mesh=None, **changes):
    return run(toy.Toy(), workdir, mesh=mesh or make_mesh(), **toy.settings(config=CONFIG, **changes))


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    """The final state, and metrics.jsonl, of a run that nobody disturbed."""
    workdir = tmp_path_factory.mktemp("uninterrupted")
    state = go(workdir)
    return jax.device_get(state), (workdir / "metrics.jsonl").read_bytes()


def start(workdir, until):
    """Starts the toy slowly in a process of its own, and returns it when `until()` holds."""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "JAX_PLATFORMS": "cpu"}
    process = subprocess.Popen(
        [sys.executable, toy.__file__, str(workdir), json.dumps({"pause": 0.05})],
        env=environment, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    deadline = time.monotonic() + 120
    while not until():
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return process


def assert_same(state, workdir, uninterrupted):
    expected, metrics = uninterrupted
    for got, want in zip(jax.tree.leaves(jax.device_get(state)), jax.tree.leaves(expected), strict=True):
        np.testing.assert_array_equal(got, want)
    assert (workdir / "metrics.jsonl").read_bytes() == metrics


def test_metrics_cover_the_run(uninterrupted):
    rows = [json.loads(line) for line in uninterrupted[1].decode().splitlines()]
    assert [row["step"] for row in rows] == [5, 10, 15, 20, 25, 30]
    per_step = {f"{name}/{metric}" for name in ("fit", "shrink") for metric in ("loss", "grad_norm", "average")}
    assert set(rows[0]) == {"step", *per_step} and rows[0]["fit/grad_norm"] > 0
    assert rows[-1]["fit/loss"] < 0.5 * rows[0]["fit/loss"]


def test_sigkill_and_restart(tmp_path, uninterrupted):
    # The second checkpoint (step 14) falls between two log lines: the window of metrics must survive too.
    process = start(tmp_path, lambda: (tmp_path / "checkpoints" / "14").is_dir())
    process.kill()
    assert process.wait() == -signal.SIGKILL
    assert not (tmp_path / "final.npz").exists()
    with open(tmp_path / "metrics.jsonl", "a") as file:
        file.write('{"step": 20, "fit/lo')  # as if killed in mid-write
    assert_same(go(tmp_path), tmp_path, uninterrupted)


def test_sigterm_saves_leaves_and_restarts(tmp_path, uninterrupted):
    rows = tmp_path / "metrics.jsonl"
    process = start(tmp_path, lambda: rows.exists() and rows.read_text().count("\n") >= 2)
    process.send_signal(signal.SIGTERM)
    stderr = process.communicate()[1]
    assert process.returncode == 143
    assert stderr.count("\n") == 1 and "stopped by SIGTERM after" in stderr and "run the same command" in stderr
    newest = max(int(path.name) for path in (tmp_path / "checkpoints").iterdir() if path.name.isdigit())
    assert 10 <= newest < 30 and f"after {newest}/30" in stderr  # saved where it stopped, not only at multiples of 7
    assert_same(go(tmp_path), tmp_path, uninterrupted)


def test_a_finished_run_stays_as_it_is(tmp_path, uninterrupted):
    go(tmp_path)
    assert_same(go(tmp_path), tmp_path, uninterrupted)


def test_resuming_on_another_mesh(tmp_path, uninterrupted):
    class Stopped(Exception):
        pass

    class Stops(toy.Toy):
        def batch(self, step, *shards):
            if step == 16:
                raise Stopped
            return super().batch(step, *shards)

    with pytest.raises(Stopped):
        run(Stops(), tmp_path, mesh=make_mesh(data=4, tensor=2), **toy.settings(config=CONFIG))
    state = go(tmp_path, make_mesh(data=2))
    for got, want in zip(jax.tree.leaves(jax.device_get(state)), jax.tree.leaves(uninterrupted[0]), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)
