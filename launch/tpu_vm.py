"""A run on TPU VMs: `python -m launch.tpu_vm --tpu=v5e --topology=4x4 --zone=Z --repository=URL --workdir=gs://bucket/run`.

Steps (`--steps`): create asks for a queued resource, wait waits until it is there, setup installs the repository on every
worker, run trains on all of them at once, delete gives everything back. Setup may be repeated; a run that is started again
goes on where it was. `delete` among the steps is done even when one before it fails.
"""

from __future__ import annotations

import re
import shlex
import sys
import time
from collections.abc import Sequence
from typing import Any

from absl import flags

from experiments import cli
from hjepa_gfn.errors import UserError
from launch import tools
from launch.generations import Slice, make_slice
from launch.job import DEFAULT_CONFIG, MOUNT, Job, define_flags, job_from_flags

STEPS = ("create", "wait", "setup", "run", "delete")
_FOLDER = "hjepa_gfn"  # in the home directory of each worker
_POLL = 30  # seconds

# Python comes with uv, as the images' own is older than 3.11. Each worker runs the same lines; done twice, they do no harm.
_SETUP = """\
set -euo pipefail
python3 -m pip install --quiet --user uv
export PATH="$HOME/.local/bin:$PATH"
[ -d {folder}/.git ] || git clone --quiet {repository} {folder}
cd {folder}
git fetch --quiet origin {revision}
git checkout --quiet --detach FETCH_HEAD
[ -d .venv ] || uv venv --quiet --python 3.11 .venv
uv pip install --quiet -c constraints.txt -e '.[tpu]'
"""

_SETUP_BUCKET = """\
if ! command -v gcsfuse > /dev/null; then
  key=/usr/share/keyrings/cloud.google.asc
  curl -fsS https://packages.cloud.google.com/apt/doc/apt-key.gpg | sudo tee "$key" > /dev/null
  echo "deb [signed-by=$key] https://packages.cloud.google.com/apt gcsfuse-$(lsb_release -cs) main" \\
    | sudo tee /etc/apt/sources.list.d/gcsfuse.list > /dev/null
  sudo apt-get update --quiet=2
  sudo apt-get install --quiet=2 --yes gcsfuse
fi
sudo mkdir -p {mount}
sudo chown "$(id -u):$(id -g)" {mount}
mountpoint -q {mount} || gcsfuse --implicit-dirs --rename-dir-limit=200000 \\
  --metadata-cache-ttl-secs=0 --metadata-cache-negative-ttl-secs=0 {bucket} {mount}
"""


def setup_script(repository: str, revision: str, bucket: str | None) -> str:
    """What installs the repository on a worker, and mounts the bucket."""
    script = ""
    if bucket:
        script = _SETUP_BUCKET.format(bucket=bucket, mount=f"{MOUNT}/{bucket}")
    head, rest = _SETUP.split("\n", 1)
    rest = rest.format(folder=_FOLDER, repository=shlex.quote(repository), revision=shlex.quote(revision))
    return f"{head}\n{script}{rest}"


def run_script(job: Job, detach: bool) -> str:
    """What trains, on every worker: in the foreground, or for as long as it takes with its output in `<name>.log`."""
    command = tools.line(job.command(".venv/bin/python"))
    if detach:
        return f"cd {_FOLDER} && nohup {command} > ../{job.name}.log 2>&1 < /dev/null & sleep 1"
    return f"cd {_FOLDER} && exec {command}"


def create_command(name: str, piece: Slice, slices: int, where: Sequence[str], extra: Sequence[str] = ()) -> list[str]:
    """Asks for the slices.

    Raises:
      UserError: a generation or shape that is not to be had as TPU VMs.
    """
    kind = piece.generation
    if kind.runtime_version is None:
        raise UserError(f"--tpu={kind.name}: not offered as TPU VMs with queued resources: use launch.gke")
    if piece.chips_per_host != make_slice(kind.name, piece.topology).chips_per_host:
        raise UserError(f"--chips_per_host={piece.chips_per_host}: TPU VMs come with as many chips as they can")
    if piece.is_usual_shape:
        chips = [f"--accelerator-type={piece.accelerator_type}"]
    else:
        chips = [f"--type={kind.name}", f"--topology={piece.topology}"]
    nodes = [f"--node-id={name}"] if slices == 1 else [f"--node-count={slices}", f"--node-prefix={name}"]
    return _queued("create", name, where) + [*chips, f"--runtime-version={kind.runtime_version}", *nodes, *extra]


def ssh_command(name: str, where: Sequence[str], script: str) -> list[str]:
    """Runs a script on all workers of all slices at once: in batches, the first would wait for the others for ever."""
    return _queued("ssh", name, where) + ["--node=all", "--worker=all", "--batch-size=all", f"--command={script}"]


def _queued(verb: str, name: str, where: Sequence[str]) -> list[str]:
    return ["gcloud", "compute", "tpus", "queued-resources", verb, name, *where, "--quiet"]


def wait(command: Sequence[str]) -> None:
    """Polls the state of the queued resource until it is there.

    Raises:
      UserError: it will not come any more.
    """
    while (state := tools.call(command, capture=True).strip()) != "ACTIVE":
        if state in ("FAILED", "SUSPENDING", "SUSPENDED", "DELETING"):
            raise UserError(f"the queued resource {command[5]} is {state}: --steps=delete removes it")
        print(f"{command[5]}: {state or 'no state yet'}", file=sys.stderr)
        time.sleep(_POLL)


def commands(job: Job, piece: Slice, slices: int, where: Sequence[str], setup: str, *, extra: Sequence[str] = (),
             detach: bool = False) -> dict[str, list[str]]:  # fmt: skip
    """The command of each step."""
    return {
        "create": create_command(job.name, piece, slices, where, extra),
        "wait": _queued("describe", job.name, where) + ["--format=value(state.state)"],
        "setup": ssh_command(job.name, where, setup),
        "run": ssh_command(job.name, where, run_script(job, detach)),
        "delete": _queued("delete", job.name, where) + ["--force"],
    }


def dry_run(steps: Sequence[str], by_step: dict[str, list[str]]) -> str:
    """A shell script that does what `run_steps` does."""
    lines = ["set -e"] + ([f"trap {shlex.quote(tools.line(by_step['delete']))} EXIT"] if "delete" in steps else [])
    for step in [step for step in steps if step != "delete"]:
        text = tools.line(by_step[step])
        lines.append(f'until [ "$({text})" = ACTIVE ]; do sleep {_POLL}; done' if step == "wait" else text)
    return "\n".join(lines)


def run_steps(steps: Sequence[str], by_step: dict[str, list[str]]) -> None:
    """Runs the steps in order; `delete` in any case.

    Raises:
      UserError: gcloud is not installed, or a step fails.
    """
    tools.require("gcloud")
    try:
        for step in [step for step in steps if step != "delete"]:
            wait(by_step[step]) if step == "wait" else tools.call(by_step[step])
    finally:
        if "delete" in steps:
            tools.call(by_step["delete"])


def main(config: Any) -> None:
    """The entry point."""
    given = flags.FLAGS
    if unknown := [step for step in given.steps if step not in STEPS]:
        raise UserError(f"--steps: unknown step {unknown[0]!r}; there are {', '.join(STEPS)}")
    steps = [step for step in STEPS if step in given.steps]
    if given.detach and {"run", "delete"} <= set(steps):
        raise UserError("--detach: the run would be deleted as soon as it is started: leave delete out of --steps")
    if not re.fullmatch(r"[\w.:/@~+-]+", given.repository) or given.repository.startswith("-"):
        raise UserError(f"--repository={given.repository}: must be the address of a git repository that the workers can read")
    piece = make_slice(given.tpu, given.topology)
    job = job_from_flags(config, piece.devices * given.slices, given.slices)
    where = [f"--zone={given.zone}"] + ([f"--project={given.project}"] if given.project else [])
    extra = [f"--{name}" for name in ("spot", "reserved") if given[name].value]
    extra += [f"--service-account={given.service_account}"] if given.service_account else []
    setup = setup_script(given.repository, given.revision, job.bucket)
    by_step = commands(job, piece, given.slices, where, setup, extra=extra, detach=given.detach)
    if given.dry_run:
        print(dry_run(steps, by_step))
    else:
        run_steps(steps, by_step)


if __name__ == "__main__":
    define_flags()
    flags.DEFINE_string("tpu", None, "generation: v4, v5e, v5p, v6e")
    flags.DEFINE_string("topology", None, "chips of a slice along each dimension, as in 4x4")
    flags.DEFINE_integer("slices", 1, "how many slices")
    flags.DEFINE_string("zone", None, "the zone to ask in")
    flags.DEFINE_string("project", "", "default: gcloud's")
    flags.DEFINE_string("repository", None, "git address of this repository, readable by the workers")
    flags.DEFINE_string("revision", "main", "branch, tag or commit")
    flags.DEFINE_list("steps", "create,wait,setup,run", f"which of {', '.join(STEPS)}")
    flags.DEFINE_bool("detach", False, "leave the run to itself, its output in <name>.log on each worker")
    flags.DEFINE_bool("spot", False, "ask for Spot capacity")
    flags.DEFINE_bool("reserved", False, "ask for reserved capacity")
    flags.DEFINE_string("service_account", "", "of the workers, with access to the bucket")
    cli.main(main, config=DEFAULT_CONFIG, required=("tpu", "topology", "zone", "repository", "workdir"))
