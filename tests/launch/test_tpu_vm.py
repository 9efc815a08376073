"""TPU VMs: the commands of each step, the scripts that workers run, and the order of things with a gcloud that only notes."""

import os
import shlex

import pytest

from hjepa_gfn.errors import UserError
from launch import tools, tpu_vm
from launch.generations import make_slice
from tests.launch.helpers import check_golden, check_shell, job

WHERE = ["--zone=us-east5-a"]
GIT = "https://git.example/hjepa_gfn.git"


def steps(tpu="v5e", topology="4x4", slices=1, workdir="gs://bucket/run", **options):
    piece = make_slice(tpu, topology)
    made = job(piece.devices * slices, slices, workdir=workdir)
    return tpu_vm.commands(made, piece, slices, WHERE, tpu_vm.setup_script(GIT, "main", made.bucket), **options)


def test_create():
    assert steps()["create"] == [
        "gcloud", "compute", "tpus", "queued-resources", "create", "mine", "--zone=us-east5-a", "--quiet",
        "--accelerator-type=v5litepod-16", "--runtime-version=v2-alpha-tpuv5-lite", "--node-id=mine",
    ]  # fmt: skip
    several = steps("v5p", "4x4x4", 3, extra=["--spot"])["create"]
    assert several[-5:] == [
        "--accelerator-type=v5p-128", "--runtime-version=v2-alpha-tpuv5", "--node-count=3", "--node-prefix=mine", "--spot",
    ]  # fmt: skip
    odd = steps("v4", "4x4x16")["create"]  # 256 chips, but v4-512 alone would mean 4x8x8
    assert {"--type=v4", "--topology=4x4x16"} < set(odd) and not any("accelerator" in word for word in odd)
    with pytest.raises(UserError, match="^--tpu=tpu7x: not offered as TPU VMs with queued resources: use launch.gke"):
        steps("tpu7x", "2x2x1")
    with pytest.raises(UserError, match="^--chips_per_host=4"):
        tpu_vm.create_command("mine", make_slice("v6e", "2x4", 4), 1, WHERE)


def test_all_workers_start_at_once():
    for step in ("setup", "run"):
        assert {"--node=all", "--worker=all", "--batch-size=all"} < set(steps()[step])
    command = steps()["run"][-1].removeprefix("--command=cd hjepa_gfn && exec ")
    assert shlex.split(command) == job(16).command(".venv/bin/python")
    assert steps(detach=True)["run"][-1].startswith("--command=cd hjepa_gfn && nohup .venv/bin/python -m experiments.train")


@pytest.mark.parametrize("bucket", [None, "bucket"])
def test_setup_script(bucket):
    script = tpu_vm.setup_script(GIT, "main", bucket)
    check_shell(script)
    assert ("gcsfuse" in script) == bool(bucket) and script.startswith("set -euo pipefail\n")
    assert "; rm" not in tpu_vm.setup_script("x; rm -r ~", "main", None).replace("'x; rm -r ~'", "")


def test_dry_run():
    script = tpu_vm.dry_run(tpu_vm.STEPS, steps("v6e", "8x8", 2))
    check_shell(script)
    check_golden("tpu_vm_v6e_2_slices.sh", script + "\n")
    check_shell(steps(detach=True)["run"][-1].removeprefix("--command="))
    single = tpu_vm.dry_run(["create", "wait", "setup", "run"], steps(workdir="/shared/run"))
    check_shell(single)
    check_golden("tpu_vm_v5e.sh", single + "\n")


@pytest.fixture
def gcloud(tmp_path, monkeypatch):
    """A gcloud that notes what it is asked; `states` are what describe answers, in turn; `fail` makes a verb fail."""
    (tmp_path / "states").write_text("")
    tool = tmp_path / "gcloud"
    tool.write_text(f"""#!/bin/bash
echo "$4" >> {tmp_path}/asked
if [ "$4" = describe ]; then head -1 {tmp_path}/states; sed -i 1d {tmp_path}/states; fi
if [ -f {tmp_path}/fail ] && [ "$4" = "$(cat {tmp_path}/fail)" ]; then exit 3; fi
""")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(tpu_vm, "_POLL", 0)
    return tmp_path


def test_steps_in_order(gcloud):
    (gcloud / "states").write_text("WAITING_FOR_RESOURCES\nPROVISIONING\nACTIVE\n")
    tpu_vm.run_steps(tpu_vm.STEPS, steps())
    assert (gcloud / "asked").read_text().split() == ["create", *["describe"] * 3, "ssh", "ssh", "delete"]


def test_what_will_not_come_is_given_up_and_what_was_asked_for_is_given_back(gcloud):
    (gcloud / "states").write_text("FAILED\n")
    with pytest.raises(UserError, match="^the queued resource mine is FAILED: --steps=delete removes it"):
        tpu_vm.run_steps(["create", "wait", "setup"], steps())
    assert (gcloud / "asked").read_text().split() == ["create", "describe"]
    (gcloud / "fail").write_text("ssh")
    with pytest.raises(UserError, match="^gcloud compute tpus queued-resources ssh ... ended with code 3"):
        tpu_vm.run_steps(["run", "delete"], steps())
    assert (gcloud / "asked").read_text().split()[2:] == ["ssh", "delete"]


def test_a_tool_that_is_not_there(monkeypatch):
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(UserError, match="^gcloud is not installed, or not on PATH; --dry_run shows"):
        tpu_vm.run_steps(["delete"], steps())
    with pytest.raises(UserError, match="^sbatch is not installed"):
        tools.call(["sbatch"], "text")
