"""Golden files, jobs, and commands of a shell."""

import os
import subprocess
from pathlib import Path

from experiments.cli import load_config
from launch.job import make_job

GOLDEN = Path(__file__).parent / "golden"


def check_golden(name: str, text: str) -> None:
    """Compares with a golden file; UPDATE_GOLDEN=1 writes it instead."""
    path = GOLDEN / name
    if os.environ.get("UPDATE_GOLDEN"):
        path.write_text(text)
    assert text == path.read_text(), f"{path} differs: after looking at the difference, UPDATE_GOLDEN=1 writes it anew"


def job(devices=64, slices=1, name="mine", words=("--config=babyai_gotolocal",), workdir="gs://bucket/run", data_dir="",
        mesh=None, buckets=True):  # fmt: skip
    config = load_config("babyai_gotolocal")
    config.mesh.update(mesh or {})
    return make_job(name, config, words, workdir, data_dir, devices, slices, buckets=buckets)


def check_shell(script: str) -> None:
    """Refuses what bash cannot parse."""
    result = subprocess.run(["bash", "-n"], input=script, text=True, capture_output=True)
    assert result.returncode == 0, result.stderr
