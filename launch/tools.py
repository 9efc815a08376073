"""Commands of other people's tools: shown, or run one after the other."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence

from hjepa_gfn.errors import UserError


def line(command: Sequence[str]) -> str:
    """A command as one line for a shell."""
    return shlex.join(command)


def require(tool: str) -> None:
    """Refuses to begin what cannot be finished.

    Raises:
      UserError: the tool is not installed.
    """
    if shutil.which(tool) is None:
        raise UserError(f"{tool} is not installed, or not on PATH; --dry_run shows what would be run with it")


def call(command: Sequence[str], text: str | None = None, *, capture: bool = False) -> str:
    """Runs a command, shown on stderr first, with `text` as its input.

    Returns:
      What it printed, with `capture`; otherwise that goes to the terminal.

    Raises:
      UserError: the tool is not installed, or the command fails (what it says of it is on the terminal).
    """
    require(command[0])
    shown = line(command)
    print(f"+ {shown if len(shown) <= 400 else shown[:397] + '...'}", file=sys.stderr)
    result = subprocess.run(command, input=text, text=True, stdout=subprocess.PIPE if capture else None, check=False)
    if result.returncode:
        raise UserError(f"{' '.join(command[:5])} ... ended with code {result.returncode}")
    return result.stdout or ""
