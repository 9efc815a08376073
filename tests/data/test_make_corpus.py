"""The entry point, as a user meets it: the real exemplary actor."""

import os
import subprocess
import sys

import pytest

from experiments.make_corpus import settings_of
from hjepa_gfn.data.directory import check_corpus
from hjepa_gfn.errors import UserError
from tests.data.processes import session_is_alive, wait_until


def make_corpus(*arguments):
    command = [sys.executable, "-m", "experiments.make_corpus", *arguments]
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, "JAX_PLATFORMS": "cpu"})


def test_builds_a_corpus(tmp_path):
    out = tmp_path / "corpus"
    arguments = (f"--out={out}", "--train=5", "--validation=2", "--level=BabyAI-GoToObj-v0", "--robustness=1", "--workers=1")
    result = make_corpus(*arguments, "--predictions=1")
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip().splitlines()[-1] == str(out)
    info = check_corpus(out)
    assert (info.n_train, info.family, info.robustness, info.imagined) == (5, "BabyAI-GoToObj-v0", 1.0, 0.1)
    counts = info.counts["train"]
    assert info.predictions == 1.0 and counts["predictions"]["traces"] == 5 and "quality of 5 predictions" in result.stdout
    assert counts["robust"] + counts["fragile"] > 0 and len(info.textbooks) == 5
    assert [path.name for path in tmp_path.iterdir()] == ["corpus"]


@pytest.mark.parametrize(
    "arguments, complaint",
    [
        ((), "--out"),
        (("--level=BabyAI-X-v0", "--out={}/c"), "unknown level"),
        (("--level=BabyAI-GoTo-v0", "--family=mixed", "--out={}/c"), "mean the same"),
        (("--backend_setting=hot", "--out={}/c"), "write name=value"),
    ],
)
def test_mistakes_give_one_line_and_code_2(tmp_path, arguments, complaint):
    result = make_corpus(*(argument.format(tmp_path) for argument in arguments))
    assert result.returncode == 2
    (line,) = result.stderr.strip().splitlines()
    assert line.startswith("error: ") and complaint in line
    assert list(tmp_path.iterdir()) == []


def test_settings():
    assert settings_of(["temperature=0.5", "base_url=http://x/?a=b", "seed=null"]) == {
        "temperature": 0.5, "base_url": "http://x/?a=b", "seed": None}  # fmt: skip
    with pytest.raises(UserError, match="--backend_setting==3"):
        settings_of(["=3"])


def test_a_killed_build_leaves_no_corpus_and_no_workers(tmp_path):
    out = tmp_path / "corpus"
    command = [sys.executable, "-m", "experiments.make_corpus", f"--out={out}", "--train=100000", "--workers=2", "--chunk=2"]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL, start_new_session=True) as process:
        wait_until(lambda: list(tmp_path.glob(".corpus.building-*/chunks/train-*.jsonl")))
        process.kill()
    assert not out.exists()
    wait_until(lambda: not session_is_alive(process.pid))  # otherwise workers wait for work for ever
