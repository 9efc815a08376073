"""The command lines themselves, side by side, on a machine that has none of the tools."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.launch.helpers import check_shell

LINES = {
    "gke": "gke --tpu=v5p --topology=4x4x4 --slices=2 --image=repo/hjepa:1 --workdir=gs://bucket/run --config.seed=3 --dry_run",
    "gke_real": "gke --tpu=v6e --topology=4x4 --image=repo/hjepa:1 --workdir=gs://bucket/run",
    "tpu_vm": "tpu_vm --tpu=v5e --topology=4x4 --zone=z --repository=https://git.example/h --workdir=gs://b-1/run --dry_run",
    "slurm": "slurm --nodes=2 --repository=/shared/h --workdir=/shared/run --config.em.epsilon=0.1 --dry_run",
}


@pytest.fixture(scope="module")
def results():
    environ = {**os.environ, "JAX_PLATFORMS": "cpu", "PATH": "/nonexistent"}
    root = Path(__file__).parents[2]
    running = {
        name: subprocess.Popen([sys.executable, "-m", f"launch.{line.split()[0]}", *line.split()[1:]], cwd=root, env=environ,
                               text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for name, line in LINES.items()
    }  # fmt: skip
    try:
        yield {name: (*process.communicate(timeout=120), process.returncode) for name, process in running.items()}
    finally:
        for process in running.values():
            process.kill()


def test_gke(results):
    out, err, code = results["gke"]
    assert (code, err) == (0, "")
    replicated = yaml.safe_load(out)["spec"]["replicatedJobs"][0]  # what is no YAML stands in comments
    assert replicated["replicas"] == 2 and replicated["template"]["spec"]["completions"] == 16
    command = replicated["template"]["spec"]["template"]["spec"]["containers"][0]["command"]
    assert {"--config=babyai_gotolocal", "--config.seed=3", "--config.mesh.replica=2", "--config.mesh.data=-1"} < set(command)
    assert "\n# xpk workload create --workload=hjepa --tpu-type=v5p-128 --num-slices=2" in out


def test_scripts(results):
    for name, part in (("tpu_vm", "--accelerator-type=v5litepod-16"), ("slurm", "--config.em.epsilon=0.1")):
        out, err, code = results[name]
        assert (code, err) == (0, "") and part in out
        check_shell(out)


def test_a_tool_that_is_not_installed(results):
    assert results["gke_real"] == ("", "error: kubectl is not installed, or not on PATH; --dry_run shows what would be run "
                                       "with it\n", 2)  # fmt: skip
