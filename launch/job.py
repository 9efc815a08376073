"""What is to be run, wherever it runs: name, config with overrides, where the run lives; checked before anything is asked for.

The loop writes ordinary files. A bucket is therefore mounted on every host (`gs://bucket/run` becomes `/gcs/bucket/run`),
which is also the disk that the hosts share.
"""

from __future__ import annotations

import dataclasses
import math
import re
import sys
from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import Any

from absl import flags

from hjepa_gfn.distributed.mesh import AXES
from hjepa_gfn.errors import UserError

MOUNT = "/gcs"
DEFAULT_CONFIG = "babyai_gotolocal"
_NAME_LENGTH = 39  # JobSet makes pod names of it, of 63 characters at most, with room for slice, host and a random ending


@dataclasses.dataclass(frozen=True)
class Job:
    """A training run: `arguments` are those of `python -m experiments.train`."""

    name: str
    arguments: tuple[str, ...]
    bucket: str | None  # to be mounted at MOUNT/bucket
    folders: tuple[str, ...]  # of the hosts, that it writes to

    def command(self, python: str = "python") -> list[str]:
        """The command line of every process."""
        return [python, "-m", "experiments.train", *self.arguments]


def define_flags() -> None:
    """The flags that all launchers share; `--config` with its overrides is `experiments.cli`'s."""
    flags.DEFINE_string("name", "hjepa", "the job's name")
    flags.DEFINE_string("workdir", None, "where the run lives: gs://bucket/run, or a path that all hosts share")
    flags.DEFINE_string("data_dir", "", "the corpus; default: corpus/ in the working directory. A path of the hosts' own "
                        "disks will do: each host then builds its own")  # fmt: skip
    flags.DEFINE_bool("dry_run", False, "print what would be run, and run nothing")


def job_from_flags(config: Any, devices: int, slices: int = 1, *, buckets: bool = True) -> Job:
    """The job that the command line describes. Raises UserError as `make_job` does."""
    given = flags.FLAGS
    words = config_arguments(sys.argv[1:])
    if not any(word.startswith("--config=") for word in words):
        words = [f"--config={DEFAULT_CONFIG}", *words]
    return make_job(given.name, config, words, given.workdir, given.data_dir, devices, slices, buckets=buckets)


def make_job(
    name: str, config: Any, config_args: Sequence[str], workdir: str, data_dir: str, devices: int, slices: int = 1, *,
    buckets: bool = True,
) -> Job:  # fmt: skip
    """A checked job.

    Args:
      name: what the cluster is to call it.
      config: the parsed config, overrides included.
      config_args: the words of the command line that made it (`--config=...`, `--config.x=...`).
      workdir, data_dir: paths on the hosts, or `gs://bucket/path`.
      devices: how many the job has in all; slices: over how many TPU slices.
      buckets: whether hosts can mount buckets.

    Raises:
      UserError: a name that cluster managers refuse, a path that hosts do not have, or a mesh that leaves devices idle.
    """
    if not re.fullmatch(r"[a-z]([-a-z0-9]*[a-z0-9])?", name) or len(name) > _NAME_LENGTH:
        raise UserError(f"--name={name}: must be lower-case letters, digits and hyphens, begin with a letter, not end with "
                        f"a hyphen, and have {_NAME_LENGTH} characters at most")  # fmt: skip
    if slices < 1:
        raise UserError(f"--slices={slices}: must be at least 1")
    paths, found = {}, {}
    for flag, path in (("workdir", workdir), ("data_dir", data_dir)):
        paths[flag], found[flag] = _on_host(flag, path, buckets)
    if len(set(found.values()) - {None}) > 1:
        raise UserError(f"--data_dir={data_dir}: must be in the bucket of --workdir={workdir}, or on the hosts' own disks")
    arguments = [*config_args, *_mesh_arguments(config, config_args, devices, slices), f"--workdir={paths['workdir']}"]
    if data_dir:
        arguments.append(f"--data_dir={paths['data_dir']}")
    return Job(name, tuple(arguments), found["workdir"] or found["data_dir"], tuple(filter(None, paths.values())))


def config_arguments(argv: Sequence[str]) -> list[str]:
    """The words of a command line that choose and override the config, to be handed on as they are.

    Raises:
      UserError: one whose value is a word of its own (which words belong together, only the parser knows), or a config
        file that the hosts do not have.
    """
    words = [word.replace("--", "-", 1) for word in argv if re.match(r"--?config(\.|=|$)", word)]
    for word in words:
        if "=" not in word:
            raise UserError(f"-{word}: write it with its value as one word, as in -{word}=value")
        if re.match(r"-config=(/|~|.*\.\.)", word):
            raise UserError(f"-{word}: the hosts have the repository only: give the name of a file in experiments/configs")
    for word in argv:
        if re.match(r"--?noconfig\.", word):
            raise UserError(f"{word}: write --{word.lstrip('-').removeprefix('no')}=false")
    return [f"-{word}" for word in words]


def _on_host(flag: str, path: str, buckets: bool) -> tuple[str, str | None]:
    """The path as hosts see it, and the bucket that it is in."""
    if not path:
        return "", None
    if match := re.fullmatch(r"gs://([a-z0-9][a-z0-9._-]{1,220}[a-z0-9])(?:/(.*))?", path):
        if not buckets:
            raise UserError(f"--{flag}={path}: these hosts mount no bucket: give a path on the file system that they share")
        inside = PurePosixPath(match[2] or "")
        if flag == "workdir" and not inside.parts:
            raise UserError(f"--{flag}={path}: give a folder in the bucket, as in {path.rstrip('/')}/run")
        return str(PurePosixPath(MOUNT, match[1]) / inside), match[1]
    if "://" in path:
        raise UserError(f"--{flag}={path}: must be a path, or gs://bucket/path")
    if not path.startswith("/"):
        raise UserError(f"--{flag}={path}: must begin with / (hosts may start in any folder) or with gs://")
    return path, None


def _mesh_arguments(config: Any, config_args: Sequence[str], devices: int, slices: int) -> list[str]:
    """The mesh's fields that the user left open. On several hosts every device must be in the mesh, or its host hangs."""
    mesh = {axis: config.mesh[axis] for axis in AXES}
    untouched = not any(re.match(r"--config\.mesh\.", word) for word in config_args)
    if untouched and all(size == 1 for size in mesh.values()):
        return [f"--config.mesh.replica={slices}", "--config.mesh.data=-1"]
    if list(mesh.values()).count(-1) > 1:
        raise UserError("--config.mesh: only one axis can be -1")
    fixed = math.prod(size for size in mesh.values() if size != -1)
    spelled = " x ".join(f"{axis} {size}" for axis, size in mesh.items())
    if devices % fixed or (fixed != devices and -1 not in mesh.values()):
        raise UserError(f"--config.mesh: {spelled} does not use all of the job's {devices} devices: let one axis be -1")
    if slices > 1 and mesh["replica"] != -1 and mesh["replica"] % slices:
        raise UserError(f"--config.mesh.replica={mesh['replica']}: must be a multiple of --slices={slices}: only replica runs "
                        "between slices")  # fmt: skip
    return []
