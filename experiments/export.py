"""Exports a checkpoint: `python -m experiments.export --checkpoint=runs/demo --out=runs/demo/export`.

The result holds parameters (safetensors, and Orbax beside it), config, tokenizer and codebooks; and the plan sampler and the
explainer as StableHLO programs for cpu, cuda and tpu, with a loader that needs only jax (`--noprograms` leaves them out). It
loads on one device, whatever mesh the run had.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from absl import flags
from ml_collections import ConfigDict

from experiments import cli
from hjepa_gfn.errors import UserError
from hjepa_gfn.export import read_npz, save_export
from hjepa_gfn.training import load_checkpoint, workdir_of

TEXT_TEMPERATURE = 0.3  # of the explainer, where a caller names none; the agent's own (`agent.modes`)


def export_checkpoint(
    checkpoint: str | os.PathLike[str], out: str | os.PathLike[str], step: int | None = None, programs: bool = True
) -> Path:
    """Exports the parameters of a checkpoint with what the run stored beside: its config, tokenizer and codebooks.

    Args:
      checkpoint: as `load_checkpoint` takes it.
      out: as `save_export` takes it.
      step: which checkpoint; the newest by default.
      programs: also write the plan sampler and the explainer as programs (some seconds of tracing).

    Returns:
      The export directory's absolute path.

    Raises:
      UserError: the checkpoint or a file beside it is missing or corrupt, the run is not an agent's (and `programs` are
        wanted), or `out` holds something else.
    """
    found = load_checkpoint(checkpoint, step)
    workdir = workdir_of(checkpoint)
    if "params" not in found.state:
        raise UserError(f"{checkpoint}: the checkpoint's state has no field 'params': nothing to export")
    try:
        tokenizer_json = (workdir / "tokenizer.json").read_text(encoding="utf-8")
        codebooks = read_npz((workdir / "codebooks.npz").read_bytes())
    except (OSError, ValueError) as error:
        name = getattr(error, "filename", None) or workdir / "codebooks.npz"
        raise UserError(f"{name}: cannot be read; the run stores it at its start: was it moved or deleted?") from error
    params, config = found.state["params"], found.meta["config"]
    files = agent_programs(params, config, tokenizer_json, str(checkpoint)) if programs else {}
    return save_export(out, params, config, tokenizer_json, codebooks, files)


def agent_programs(params: Any, config: dict[str, Any], tokenizer_json: str, source: str) -> dict[str, bytes]:
    """The programs of an agent, as files by name.

    Raises:
      UserError: the config or the tokenizer is not an agent's.
    """
    from hjepa_gfn.data.tokenizer import Tokenizer
    from hjepa_gfn.export.arrays import flatten
    from hjepa_gfn.export.programs import program_files
    from hjepa_gfn.training.agent_task import system_of

    try:
        settings = ConfigDict(config)
        system = system_of(settings, Tokenizer.from_json(tokenizer_json, source))
        mission, temperature = settings.data.mission_length, settings.agent.temperature
    except (AttributeError, KeyError, UserError) as error:
        raise UserError(f"{source}: not of an agent ({error}), so it has no programs: export with --noprograms") from error
    return program_files(system, flatten(params), mission, temperature, TEXT_TEMPERATURE)


def sizes(directory: Path) -> list[str]:
    """One line for each file, and for Orbax's directory as a whole, with its size."""
    total: dict[str, int] = {}
    for path in sorted(path for path in directory.rglob("*") if path.is_file()):
        name = path.relative_to(directory).as_posix()
        name = "orbax/" if name.startswith("orbax/") else name
        total[name] = total.get(name, 0) + path.stat().st_size
    return [f"  {name:32s} {size / 1024:10,.1f} KiB" for name, size in total.items()]


def main() -> None:
    """The entry point."""
    f = flags.FLAGS
    out = export_checkpoint(f.checkpoint, f.out, f.step, f.programs)
    print(f"exported to {out}", *sizes(out), sep="\n")


def define_flags() -> None:
    """The command line; defined on running only, so that other entry points can import this one."""
    flags.DEFINE_string("checkpoint", None, "a run's working directory, or one of its checkpoints")
    flags.DEFINE_string("out", None, "the directory to write; a new or empty one, or an earlier export")
    flags.DEFINE_integer("step", None, "which checkpoint of the run; the newest by default")
    flags.DEFINE_bool("programs", True, "write the plan sampler and the explainer as StableHLO programs, too")


if __name__ == "__main__":
    define_flags()
    cli.main(main, required=("checkpoint", "out"))
