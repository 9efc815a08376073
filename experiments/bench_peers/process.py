"""Peers' virtual environments, and worker processes seen from the bench."""
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from experiments.bench_peers.worker import MARK

HERE = Path(__file__).parent
# A peer is a list of pip calls, in order. gfnx pins numpy 1.26.4, whose newest jax is 0.7.1; `gfnx_same_jax` breaks that pin so
# that both sides run on one XLA.
PEERS: dict[str, list[list[str]]] = {
    "gfnx": [["gfnx==0.0.1", "jax==0.7.1", "equinox==0.13.0", "optax==0.2.8"]],
    "gfnx_same_jax": [["gfnx==0.0.1"], ["jax==0.10.2", "equinox==0.13.8", "optax==0.2.8"]],
    "torchgfn": [["torch==2.13.0"], ["torchgfn==2.4.1"]],
}
SCRIPTS = {"ours": "ours_run.py", "gfnx": "gfnx_run.py", "gfnx_same_jax": "gfnx_run.py", "torchgfn": "torchgfn_run.py"}


class PeerError(Exception):
    """A library that cannot be installed or does not answer; the bench goes on without it."""


def python_of(library: str, venvs: Path) -> str:
    """The interpreter that runs a library, its environment made on first use."""
    if library == "ours":
        return sys.executable
    python, made = venvs / library / "bin" / "python", venvs / library / ".made"
    if not made.exists():
        print(f"setting up {library} in {venvs / library} (once)", flush=True)
        _call([sys.executable, "-m", "venv", "--clear", str(venvs / library)], library)
        for packages in PEERS[library]:
            command = [str(python), "-m", "pip", "--disable-pip-version-check", "install", "--quiet", *packages]
            try:
                _call(command, library)
            except PeerError:
                if packages != ["torch==2.13.0"]:
                    raise
                _call([*command[:-1], "torch"], library)
        made.touch()
    return str(python.absolute())


def _call(command: list[str], library: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise PeerError(f"{library} cannot be installed: {(done.stderr.strip().splitlines() or ['no reason given'])[-1]}")


class Worker:
    """A running worker; commands are answered one at a time."""

    def __init__(self, library: str, python: str, spec: Path):
        environment = {**os.environ, "JAX_PLATFORMS": "cpu"}
        self.library = library
        self.errors = tempfile.TemporaryFile("w+")  # not a pipe, which nobody would empty
        try:
            self.process = subprocess.Popen(
                [python, str(HERE / SCRIPTS[library]), str(spec)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                stderr=self.errors, text=True, env=environment)
        except OSError as error:
            raise PeerError(f"{library} cannot be started: {error}") from error
        self.started = self._answer()

    def ask(self, command: str) -> dict[str, Any]:
        """Sends one command and waits for the reply."""
        try:
            self.process.stdin.write(command + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            pass  # it ended: its last words are read below
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        for line in self.process.stdout:
            if line.startswith(MARK):
                return json.loads(line[len(MARK):])
        self.process.wait()
        self.errors.seek(0)
        reason = (self.errors.read().strip().splitlines() or ["it ended"])[-1]
        raise PeerError(f"{self.library} failed: {reason}")

    def log_policy(self, states: np.ndarray, folder: Path) -> np.ndarray:
        """log P_F [S, A+1] of all states."""
        given, found = folder / "states.npy", folder / f"{self.library}.npy"
        np.save(given, states)
        self.ask(f"policy {given} {found}")
        return np.load(found)

    def close(self) -> None:
        """Ends the process."""
        try:
            self.process.stdin.close()
            self.process.wait(10)
        except (BrokenPipeError, subprocess.TimeoutExpired):
            self.process.kill()
            self.process.wait()
        self.errors.close()
