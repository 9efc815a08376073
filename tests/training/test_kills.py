"""Killed at random moments, in mid-save too: there is always a whole checkpoint, and never one older than the last completed.

`KILLS=20 python -m pytest -s tests/training/test_kills.py` kills more often than the suite does, every third time one of two
hosts; KILLS_SEED changes the moments.
"""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
import pod  # noqa: E402

from hjepa_gfn.training import load_checkpoint  # noqa: E402

ROOT = Path(__file__).parents[2]
KILLS = int(os.environ.get("KILLS", "3"))


def start(workdir, hosts, **options):
    words = [sys.executable, pod.__file__, str(workdir), json.dumps({"checkpoint_every": 1, "log_every": 4, **options})]
    if hosts > 1:
        words = [sys.executable, "-m", "launch.rehearse", "--processes=2", "--devices=4", "--", *words[1:]]
    # A cache of compilations of its own: a killed process may damage it.
    cache = {"JAX_COMPILATION_CACHE_DIR": f"{workdir.parent}/cache", "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.05"}
    environment = {**os.environ, **cache, "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"}
    return subprocess.Popen(words, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def look(workdir):
    """The newest completed checkpoint, and whether one is being written."""
    names = os.listdir(workdir / "checkpoints") if (workdir / "checkpoints").exists() else []
    completed = max((int(name) for name in names if name.isdigit()), default=0)
    return completed, any("orbax-checkpoint-tmp" in name for name in names)


def kill_once(workdir, rng, hosts, in_save, **options):
    """Starts the run and kills it once it has saved something new; what was complete then, and whether it was saving."""
    before, process, deadline = look(workdir)[0], start(workdir, hosts, **options), time.monotonic() + 90
    while look(workdir)[0] <= before:
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.002)
    time.sleep(rng.uniform(0, 0.3))
    while in_save and not look(workdir)[1] and process.poll() is None:
        pass
    time.sleep(rng.uniform(0, 0.02))
    number = int((workdir / f"host_{rng.randrange(2)}.pid").read_text()) if hosts > 1 else process.pid
    seen = look(workdir)
    os.kill(number, signal.SIGKILL)
    process.wait(30)
    process.stderr.close()
    return *seen, process.returncode


def test_kills_at_random_moments(tmp_path):
    rng, runs, saving, done = random.Random(os.environ.get("KILLS_SEED", 3)), 0, 0, 0
    while done < KILLS:
        workdir = tmp_path / str(runs)
        workdir.mkdir(exist_ok=True)
        hosts = 2 if KILLS > 3 and done % 3 == 2 else 1
        completed, in_save, code = kill_once(workdir, rng, hosts, done % 2 == 0, pause=0.02, async_saves=bool(done % 4 > 1))
        assert code in (-signal.SIGKILL, 137)
        found = load_checkpoint(workdir)  # raises unless its checksums hold
        assert found.step >= completed and int(found.state["step"]) == found.step
        assert sorted(np.nonzero(np.asarray(found.state["seen"]))[0]) == sorted(
            np.random.default_rng(5).permutation(pod.SAMPLES)[: found.step * pod.toy.BATCH])  # fmt: skip
        saving, done = saving + in_save, done + 1
        if completed > pod.STEPS - 8:
            runs += 1  # too near to its end to be killed again
    print(f"{done} kills, {saving} of them in mid-save")
    assert saving
    state = jax.device_get(pod.go(workdir, {}, checkpoint_every=100, log_every=4))
    assert state.step == pod.STEPS
    np.testing.assert_array_equal(state.seen, 1)
    np.testing.assert_array_equal(state.order, np.random.default_rng(5).permutation(pod.SAMPLES).reshape(pod.STEPS, -1))
    assert not [path.name for path in (workdir / "checkpoints").iterdir() if not path.name.isdigit()]  # no rubbish is left
    if KILLS == 3:  # all on one device: the same run, bit by bit
        whole = jax.device_get(pod.go(tmp_path / "whole", {}, checkpoint_every=100, log_every=4))
        for got, want in zip(jax.tree.leaves(state), jax.tree.leaves(whole), strict=True):
            np.testing.assert_array_equal(got, want)
