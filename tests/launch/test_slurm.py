"""Batch scripts: one process a GPU, every GPU visible, stopped in time and queued again."""

import os
import re
import subprocess

import pytest

from hjepa_gfn.errors import UserError
from launch.slurm import script
from tests.launch.helpers import check_golden, check_shell, job


def render(nodes=4, gpus=8, time="12:00:00", repository="/shared/hjepa_gfn", **options):
    made = job(nodes * gpus, workdir="/shared/run", buckets=False)
    return script(made, nodes, gpus, 6, time, repository, **options)


def test_resources():
    text = render()
    check_shell(text)
    directives = dict(re.findall(r"#SBATCH --([a-z-]+)=(.*)", text))
    assert directives["nodes"] == "4" and directives["ntasks-per-node"] == directives["gpus-per-node"] == "8"
    assert directives["signal"] == "TERM@120" and directives["cpus-per-task"] == "6" and directives["job-name"] == "mine"
    assert "srun --gpu-bind=none .venv/bin/python -m experiments.train" in text
    head, body = text.split("set -euo pipefail")
    assert "#SBATCH" not in body and all(line.startswith("#") for line in head.strip().splitlines())


def test_golden_scripts():
    check_golden("slurm.sh", render())
    text = render(1, 4, image="nvcr.io/nvidia/jax:26.01-py3", partition="gpu", account="lab")
    check_shell(text)
    check_golden("slurm_image.sh", text)


@pytest.mark.parametrize("code", [0, 2, 143])
def test_only_a_run_that_was_stopped_is_queued_again(tmp_path, code):
    for name, does in (("srun", f"exit {code}"), ("scontrol", f'echo "$@" > {tmp_path}/asked')):
        (tmp_path / name).write_text(f"#!/bin/bash\n{does}\n")
        (tmp_path / name).chmod(0o755)
    text = render(repository=str(tmp_path)).replace("mkdir -p /shared/run", "")
    environ = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "SLURM_JOB_ID": "77"}
    assert subprocess.run(["bash"], input=text, text=True, env=environ).returncode == code
    assert (tmp_path / "asked").exists() == (code == 143)
    if code == 143:
        assert (tmp_path / "asked").read_text() == "requeue 77\n"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (dict(time="soon"), "^--time=soon: must be SLURM's"),
        (dict(repository="here"), "^--repository=here: must be a path on the shared file system"),
        (dict(partition="a b"), "^--partition=a b"),
        (dict(account="x\n#SBATCH"), "^--account=x"),
    ],
)
def test_refusals(given, message):
    with pytest.raises(UserError, match=message):
        render(**given)
    for number in (dict(nodes=0), dict(gpus=0)):
        with pytest.raises(UserError, match="must be at least 1"):
            script(job(workdir="/s/run"), **{"nodes": 1, "gpus": 1, "cpus": 1, "time": "1:00", "repository": "/r", **number})
