"""Bad input to the entry points: one clear line, exit code 2, nothing damaged."""
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def call(module, *arguments):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"}
    return subprocess.run(
        [sys.executable, "-m", f"experiments.{module}", *arguments], cwd=ROOT, env=environment, capture_output=True, text=True,
        timeout=120, check=False)


def refused(result, *words):
    assert result.returncode == 2, result.stderr
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 1 and lines[0].startswith("error: "), result.stderr
    for word in words:
        assert word in lines[0]


def test_unknown_level(tmp_path):
    refused(call("train", f"--workdir={tmp_path}/run", "--config.level=BabyAI-GoToLoca-v0"), "BabyAI-GoToLoca-v0",
            "BabyAI-GoToLocal-v0")


def test_unknown_field(tmp_path):
    refused(call("train", f"--workdir={tmp_path}/run", "--config.em.epsilonn=0.1"), "epsilonn")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("module", [
    "evaluate", "export", "watchdog", "diagnose", "faithfulness", "safety", "resistance", "characteristics", "missing_views"])
def test_missing_checkpoint(module, tmp_path):
    refused(call(module, f"--checkpoint={tmp_path}/none", f"--out={tmp_path}/out"), "none")
    assert not (tmp_path / "out").exists()


def test_half_written_corpus_is_named_and_left_alone(tmp_path):
    data = tmp_path / "corpus"
    data.mkdir()
    (data / "traces").mkdir()
    (data / "traces" / "train.jsonl").write_text('{"half": ')
    refused(call("train", f"--workdir={tmp_path}/run", f"--data_dir={data}"), "corpus")
    assert (data / "traces" / "train.jsonl").read_text() == '{"half": '


def test_corrupt_checkpoint(tmp_path):
    step = tmp_path / "run" / "checkpoints" / "7"
    step.mkdir(parents=True)
    (step / "state").write_bytes(b"nonsense")
    refused(call("evaluate", f"--checkpoint={tmp_path}/run"), "checkpoints")
    assert (step / "state").read_bytes() == b"nonsense"


def test_a_host_of_a_pod_computes_nothing_before_it_has_met_the_others():
    """`jax.distributed.initialize` refuses to start once a backend runs: no import may compute."""
    code = "import experiments.train, jax._src.xla_bridge as bridge; print(bridge.backends_are_initialized())"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "False", done.stderr


def test_where_the_corpus_of_a_run_lies(tmp_path):
    from experiments.evaluate import corpus_of
    from hjepa_gfn.export.directory import MANIFEST

    (tmp_path / "export").mkdir()
    (tmp_path / "export" / MANIFEST).write_text("{}")
    of_run = str(tmp_path / "corpus")
    assert corpus_of(str(tmp_path)) == of_run and corpus_of(str(tmp_path / "export")) == of_run
    assert corpus_of(str(tmp_path), "elsewhere") == "elsewhere"
