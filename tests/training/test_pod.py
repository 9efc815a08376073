"""A toy run on two hosts of four devices each: killed, stopped and continued on other machines, it is the same run."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))
import pod  # noqa: E402

from hjepa_gfn.training import load_checkpoint, read_metrics  # noqa: E402

ROOT = Path(__file__).parents[2]
MEETS = 240  # seconds within which two hosts have met and compiled, on a busy machine


def start(workdir, **options):
    """The run on two hosts, as a rehearsal in the background."""
    workdir.mkdir(exist_ok=True)
    command = [sys.executable, "-m", "launch.rehearse", "--processes=2", "--devices=4", "--", pod.__file__, str(workdir)]
    return subprocess.Popen(
        [*command, json.dumps(options)], cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def rows_of(workdir):
    path = workdir / "metrics.jsonl"
    return path.read_text().count("\n") if path.exists() else 0


def until(process, rows, workdir):
    """Waits for so many rows; the number of the host's process by its rank."""
    deadline = time.monotonic() + MEETS
    while rows_of(workdir) < rows:
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return [int((workdir / f"host_{k}.pid").read_text()) for k in (0, 1)]


def alive(pid):
    return Path(f"/proc/{pid}").exists()


def losses(workdir):
    return np.array([row["fit/loss"] for row in read_metrics(workdir)])


def assert_every_sample_once_and_in_order(state):
    order = np.random.default_rng(5).permutation(pod.SAMPLES).reshape(pod.STEPS, -1)
    np.testing.assert_array_equal(state["order"], order)
    np.testing.assert_array_equal(state["seen"], 1)


@pytest.fixture(scope="module")
def story(tmp_path_factory):
    """Two runs on two hosts: one undisturbed until it is `stopped` late; one `torn`, killed and continued to its end."""
    base = tmp_path_factory.mktemp("pod")
    stopped, torn = base / "stopped", base / "torn"
    seen = {"torn": torn, "stopped": stopped}
    process = start(stopped, pause=0.05, check_rows=True)
    pids = until(process, 17, stopped)
    os.kill(pids[1], signal.SIGTERM)  # not the first host, which writes
    seen["out"], seen["term_err"] = process.communicate(timeout=MEETS)
    seen["term_code"] = process.returncode

    process = start(torn, pause=0.05)
    pids = until(process, 8, torn)
    os.kill(pids[1], signal.SIGKILL)
    killed = time.monotonic()
    seen["kill_code"] = process.wait(MEETS)
    seen["kill_seconds"] = time.monotonic() - killed
    seen["orphans"] = [pid for pid in pids if alive(pid)]
    seen["rows_at_kill"] = rows_of(torn)

    process = start(torn)
    err = process.communicate(timeout=MEETS)[1]
    assert process.returncode == 0, err
    return seen


def test_rows_are_where_the_mesh_wants_them(story):
    assert story["out"].count("rows are where they belong") == 2


def test_a_killed_host_takes_the_others_with_it(story):
    assert story["kill_code"] == 128 + signal.SIGKILL
    assert story["kill_seconds"] < 5 and not story["orphans"]
    assert 8 <= story["rows_at_kill"] < 17


def test_sigterm_to_one_host_stops_all_at_one_step_and_saves(story):
    assert story["term_code"] == 143, story["term_err"]
    said = [line for line in story["term_err"].splitlines() if "stopped by SIGTERM after" in line]
    assert sorted(line[:3] for line in said) == ["[0]", "[1]"]
    assert len({line[4:] for line in said}) == 1
    step = load_checkpoint(story["stopped"]).step
    assert f"after {step}/{pod.STEPS}" in said[0] and 17 <= step < pod.STEPS


def test_continued_on_the_same_hosts_it_is_the_same_run_bit_by_bit(story):
    torn, undisturbed = ((story[name] / "metrics.jsonl").read_text().splitlines() for name in ("torn", "stopped"))
    assert len(torn) == pod.STEPS and len(undisturbed) >= 17
    assert torn[: len(undisturbed)] == undisturbed
    assert_every_sample_once_and_in_order(load_checkpoint(story["torn"]).state)


def test_what_was_lost_counts_against_goodput(story):
    account = json.loads((story["torn"] / "goodput.json").read_text())
    assert account["starts"] == 2 and account["lost_seconds"] > 0  # rows after the last checkpoint were done twice
    assert 0 < account["goodput"] == account["useful_seconds"] / account["wall_seconds"] < 1


@pytest.mark.parametrize("mesh", [pod.MESH, {"data": 2, "tensor": 2}, {}], ids=["1x8", "1x4", "1x1"])
def test_continued_on_other_machines_it_is_the_same_run(story, mesh, tmp_path):
    workdir = tmp_path / "run"
    shutil.copytree(story["stopped"], workdir)
    state = jax.device_get(pod.go(workdir, mesh))
    assert_every_sample_once_and_in_order({"order": state.order, "seen": state.seen})
    np.testing.assert_allclose(losses(workdir), losses(story["torn"]), rtol=1e-5)
    assert len(losses(workdir)) == pod.STEPS
