"""The entry point, as a user meets it."""

import os
import subprocess
import sys
import time

import pytest

from hjepa_gfn.data.directory import check_corpus


def make_corpus(*arguments):
    command = [sys.executable, "-m", "experiments.make_corpus", *arguments]
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, "JAX_PLATFORMS": "cpu"})


def test_builds_a_corpus(tmp_path):
    out = tmp_path / "corpus"
    result = make_corpus(f"--out={out}", "--train=5", "--validation=2", "--level=BabyAI-GoToObj-v0")
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip().splitlines() == [str(out)]
    assert check_corpus(out).n_train == 5


@pytest.mark.parametrize(
    "arguments, complaint", [((), "--out"), (("--level=BabyAI-X-v0", "--out={}/c"), "unknown level")]
)
def test_mistakes_give_one_line_and_code_2(tmp_path, arguments, complaint):
    result = make_corpus(*(argument.format(tmp_path) for argument in arguments))
    assert result.returncode == 2
    (line,) = result.stderr.strip().splitlines()
    assert line.startswith("error: ") and complaint in line
    assert list(tmp_path.iterdir()) == []


def test_a_killed_build_leaves_no_corpus_and_no_workers(tmp_path):
    out = tmp_path / "corpus"
    command = [sys.executable, "-m", "experiments.make_corpus", f"--out={out}", "--train=100000", "--workers=2"]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL, start_new_session=True) as process:
        traces = tmp_path / f".corpus.partial-{process.pid}" / "traces" / "train.jsonl"
        wait_until(lambda: traces.exists() and traces.stat().st_size > 0)
        process.kill()
    assert not out.exists()
    wait_until(lambda: not session_is_alive(process.pid))  # otherwise workers wait for work for ever


def wait_until(condition, seconds=60.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "timed out"
        time.sleep(0.05)


def session_is_alive(group):
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True
