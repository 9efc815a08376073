"""A run on GPU hosts under SLURM: `python -m launch.slurm --nodes=4 --gpus_per_node=8 --repository=/shared/hjepa_gfn ...`.

Renders a batch script, one process a GPU (as JAX's SLURM detection expects), and submits it with sbatch; `--dry_run` prints
it. Before its time is up the job is told, saves, and is queued again; the run goes on where it was.
"""

from __future__ import annotations

import re
import shlex
from typing import Any

from absl import flags

from experiments import cli
from hjepa_gfn.errors import UserError
from launch import tools
from launch.job import DEFAULT_CONFIG, Job, define_flags, job_from_flags

_GRACE = 120  # seconds to save in before the time is up
_REQUEUED = 143  # the exit code of a run that SIGTERM stopped

# Every task sees all GPUs of its node and JAX takes the one of its number: bound to one by SLURM, the numbers would not fit.
_SCRIPT = """\
#!/bin/bash
#SBATCH --job-name={name}
#SBATCH --nodes={nodes}
#SBATCH --ntasks-per-node={gpus}
#SBATCH --gpus-per-node={gpus}
#SBATCH --cpus-per-task={cpus}
#SBATCH --time={time}
#SBATCH --output={name}-%j.log
#SBATCH --open-mode=append
#SBATCH --requeue
#SBATCH --signal=TERM@{grace}
{options}set -euo pipefail
cd {repository}
# proxies between hosts keep the processes from finding each other
unset http_proxy https_proxy HTTP_PROXY HTTPS_PROXY all_proxy ALL_PROXY
mkdir -p {folders}
code=0
srun --gpu-bind=none {container}{command} || code=$?
# stopped by a signal, with everything saved: go on in the next allocation
if [ "$code" -eq {requeued} ]; then
  scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
"""


def script(job: Job, nodes: int, gpus: int, cpus: int, time: str, repository: str, *, image: str = "", partition: str = "",
           account: str = "") -> str:  # fmt: skip
    """The batch script.

    Args:
      job: what is run.
      nodes, gpus, cpus: hosts, GPUs of each, CPU cores for each GPU.
      time: of an allocation, in SLURM's spelling.
      repository: this repository on the shared file system; its `.venv` is used unless there is an image.
      image: container image for srun (the pyxis plugin), with Python and the dependencies; the code is the repository's.
      partition, account: SLURM's.

    Raises:
      UserError: a number that is not positive, a bad time, or a relative path.
    """
    for flag, value in (("nodes", nodes), ("gpus_per_node", gpus), ("cpus_per_gpu", cpus)):
        if value < 1:
            raise UserError(f"--{flag}={value}: must be at least 1")
    if not re.fullmatch(r"(\d+-)?\d+(:\d+){0,2}", time):
        raise UserError(f"--time={time}: must be SLURM's, as in 12:00:00 or 2-00:00:00")
    if not repository.startswith("/"):
        raise UserError(f"--repository={repository}: must be a path on the shared file system, beginning with /")
    for flag, word in (("partition", partition), ("account", account)):
        if not re.fullmatch(r"[\w.,-]*", word):
            raise UserError(f"--{flag}={word}: must be SLURM's name for it")
    options = [f"#SBATCH --{name}={value}\n" for name, value in (("partition", partition), ("account", account)) if value]
    container = ""
    if image:
        mounts = ",".join(f"{folder}:{folder}" for folder in (repository, *job.folders))
        container = f"--container-image={shlex.quote(image)} --container-mounts={shlex.quote(mounts)} " \
                    f"--container-workdir={shlex.quote(repository)} "  # fmt: skip
    command = tools.line(job.command("python" if image else ".venv/bin/python"))
    return _SCRIPT.format(
        name=job.name, nodes=nodes, gpus=gpus, cpus=cpus, time=time, grace=_GRACE, options="".join(options),
        repository=shlex.quote(repository), folders=tools.line(job.folders), container=container, command=command,
        requeued=_REQUEUED,
    )  # fmt: skip


def main(config: Any) -> None:
    """The entry point."""
    given = flags.FLAGS
    job = job_from_flags(config, max(given.nodes, 1) * max(given.gpus_per_node, 1), buckets=False)
    text = script(job, given.nodes, given.gpus_per_node, given.cpus_per_gpu, given.time, given.repository, image=given.image,
                  partition=given.partition, account=given.account)  # fmt: skip
    if given.dry_run:
        print(text, end="")
    else:
        tools.call(["sbatch"], text)


if __name__ == "__main__":
    define_flags()
    flags.DEFINE_integer("nodes", 1, "how many hosts")
    flags.DEFINE_integer("gpus_per_node", 8, "GPUs of each host")
    flags.DEFINE_integer("cpus_per_gpu", 8, "CPU cores for each GPU's process")
    flags.DEFINE_string("time", "12:00:00", "of one allocation")
    flags.DEFINE_string("repository", None, "this repository on the shared file system")
    flags.DEFINE_string("image", "", "container image for srun (pyxis); default: the repository's .venv")
    flags.DEFINE_string("partition", "", "default: the cluster's")
    flags.DEFINE_string("account", "", "default: yours")
    cli.main(main, config=DEFAULT_CONFIG, required=("repository", "workdir"))
