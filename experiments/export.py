"""Exports a checkpoint: `python -m experiments.export --checkpoint=runs/demo --out=runs/demo/export`.

The result holds parameters, config, tokenizer and codebooks and loads on one device (`hjepa_gfn.export.load_export`).
"""

from __future__ import annotations

import os
from pathlib import Path

from absl import flags

from experiments import cli
from hjepa_gfn.errors import UserError
from hjepa_gfn.export import read_npz, save_export
from hjepa_gfn.training import load_checkpoint, workdir_of


def export_checkpoint(checkpoint: str | os.PathLike[str], out: str | os.PathLike[str], step: int | None = None) -> Path:
    """Exports the parameters of a checkpoint with what the run stored beside: its config, tokenizer and codebooks.

    Args:
      checkpoint: as `load_checkpoint` takes it.
      out: as `save_export` takes it.
      step: which checkpoint; the newest by default.

    Returns:
      The export directory's absolute path.

    Raises:
      UserError: the checkpoint or a file beside it is missing or corrupt, or `out` holds something else.
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
    return save_export(out, found.state["params"], found.meta["config"], tokenizer_json, codebooks)


def main() -> None:
    """The entry point."""
    print(f"exported to {export_checkpoint(flags.FLAGS.checkpoint, flags.FLAGS.out, flags.FLAGS.step)}")


def define_flags() -> None:
    """The command line; defined on running only, so that other entry points can import this one."""
    flags.DEFINE_string("checkpoint", None, "a run's working directory, or one of its checkpoints")
    flags.DEFINE_string("out", None, "the directory to write; a new or empty one, or an earlier export")
    flags.DEFINE_integer("step", None, "which checkpoint of the run; the newest by default")


if __name__ == "__main__":
    define_flags()
    cli.main(main, required=("checkpoint", "out"))
