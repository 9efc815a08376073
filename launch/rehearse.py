"""A pod on one machine: the processes of a run on many hosts, with emulated CPU devices and collectives over gloo.

    python -m launch.rehearse --processes=2 --devices=4 -- python -m experiments.train --workdir=runs/pod --config.mesh.data=8

Each process gets `--coordinator`, `--num_processes` and `--process_id` at the end of its command line. Its lines are printed
with its number in front. SIGTERM and Ctrl-C are passed on; a second one kills. When one process fails the others end too.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from typing import BinaryIO, NoReturn, TextIO

from hjepa_gfn.errors import UserError

_PASSED_ON = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_TICK = 0.05  # seconds between two looks at the processes
_FORCED_COUNT = re.compile(r"--xla_force_host_platform_device_count=\d+")
_GREETING = re.compile(r"connected peer ranks is\b|is connected to \d+ peer ranks")  # gloo's, eight lines for each group
_PR_SET_PDEATHSIG = 1  # <sys/prctl.h>
_PRINTING = threading.Lock()  # lines are never mixed


def rehearse(command: Sequence[str], processes: int, devices: int, grace: float = 10.0) -> int:
    """Runs `command` as `processes` processes of `devices` CPU devices each, until all have ended.

    Args:
      command: words; `python`, `script.py` and `package.module` stand for this interpreter running them.
      processes, devices: how many, and how many each.
      grace: seconds that the others have to end by themselves after one left with an error. One that was killed takes the
        others with it at once: the collectives of a run cannot go on without it.

    Returns:
      0, or the exit code of the first process that failed (128 + number after a signal).

    Raises:
      UserError: there is no such command, or a count is not positive.
    """
    if processes < 1 or devices < 1:
        raise UserError(f"--processes={processes} --devices={devices}: both must be positive")
    words, port, signals = resolve(command), free_port(), []
    before = {number: signal.signal(number, lambda number, frame: signals.append(number)) for number in _PASSED_ON}
    running: list[subprocess.Popen[bytes]] = []
    try:
        for k in range(processes):
            running.append(_start([*words, *host_flags(port, processes, k)], environment(devices)))
        printers = [_print_from(process, k) for k, process in enumerate(running)]
        code = _wait(running, signals, grace)
        for printer in (thread for pair in printers for thread in pair):
            printer.join(5)
        return code
    finally:
        for process in running:
            _sweep(process)
        for number, handler in before.items():
            signal.signal(number, handler)


def resolve(command: Sequence[str]) -> list[str]:
    """The words to execute: what `rehearse` says of `command`.

    Raises:
      UserError: there is no such program.
    """
    first = command[0] if command else ""
    if first in ("python", "python3"):
        return [sys.executable, *command[1:]]
    if first.endswith(".py"):
        return [sys.executable, *command]
    if re.fullmatch(r"[A-Za-z_]\w*(\.\w+)+", first):
        return [sys.executable, "-m", *command]
    if not first or not shutil.which(first):
        raise UserError(f"no program {first!r}: give a command after --, as in -- python -m experiments.train")
    return list(command)


def host_flags(port: int, processes: int, k: int) -> list[str]:
    """What process `k` is told about the others."""
    return [f"--coordinator=localhost:{port}", f"--num_processes={processes}", f"--process_id={k}"]


def environment(devices: int) -> dict[str, str]:
    """This process's environment, with `devices` emulated CPU devices and nothing that says otherwise."""
    rest = _FORCED_COUNT.sub("", os.environ.get("XLA_FLAGS", "")).strip()
    return {**os.environ, "JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": str(devices), "XLA_FLAGS": rest}


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        return probe.getsockname()[1]


def _start(words: list[str], environment: dict[str, str]) -> subprocess.Popen[bytes]:
    # A session of its own: what it starts can be ended with it, and Ctrl-C reaches it once, through us.
    return subprocess.Popen(
        words, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        start_new_session=True, preexec_fn=_die_with_parent)  # noqa: PLW1509 (no thread has been started yet)


def _die_with_parent() -> None:
    if sys.platform == "linux":  # elsewhere only kill -9 of the rehearsal itself can leave processes behind
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _print_from(process: subprocess.Popen[bytes], k: int) -> list[threading.Thread]:
    pairs = ((process.stdout, sys.stdout), (process.stderr, sys.stderr))
    threads = [threading.Thread(target=_copy, args=(source, sink, f"[{k}] "), daemon=True) for source, sink in pairs]
    for thread in threads:
        thread.start()
    return threads


def _copy(source: BinaryIO, sink: TextIO, prefix: str) -> None:
    for line in source:
        text = line.decode(errors="replace").rstrip("\r\n").rsplit("\r")[-1]  # of a line rewritten in place, how it ended
        if _GREETING.search(text):
            continue
        with _PRINTING:
            sink.write(f"{prefix}{text}\n")
            sink.flush()


def _wait(processes: Sequence[subprocess.Popen[bytes]], signals: list[int], grace: float) -> int:
    """Until all have ended: passes on signals, and ends the others after a failure."""
    failure, deadline, passed = 0, None, 0
    running = list(processes)
    while running:
        for process in [process for process in running if _ended(process)]:
            _sweep(process)
            running.remove(process)
            code = process.returncode
            if code and not failure:
                failure = 128 - code if code < 0 else code
                deadline = time.monotonic() + (0.0 if code < 0 else grace)
        while passed < len(signals):
            for process in running:
                # Not send_signal, which would reap one that has ended.
                os.kill(process.pid, signals[passed] if passed == 0 else signal.SIGKILL)
            passed += 1
        if deadline is not None and time.monotonic() >= deadline:
            for process in running:
                os.kill(process.pid, signal.SIGKILL)
        time.sleep(_TICK)
    return failure


def _ended(process: subprocess.Popen[bytes]) -> bool:
    """Whether it has; it is not reaped, so that its number still names its group."""
    return os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def _sweep(process: subprocess.Popen[bytes]) -> None:
    """Kills what is left of a process and of what it started."""
    if process.returncode is None:
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        process.wait()


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UserError(message)


def main(argv: Sequence[str] | None = None) -> int:
    """The entry point; returns the exit code."""
    parser = _Parser(prog="python -m launch.rehearse", description="Runs a command as the processes of a pod, on this machine.")
    parser.add_argument("--processes", type=int, default=2, help="how many processes (hosts)")
    parser.add_argument("--devices", type=int, default=4, help="emulated CPU devices of each")
    parser.add_argument("--grace", type=float, default=10.0, help="seconds for the others to end by themselves after an error")
    parser.add_argument("command", nargs=argparse.REMAINDER, help="-- and the command, without the flags that name the hosts")
    try:
        options = parser.parse_args(argv)
        command = options.command[1:] if options.command[:1] == ["--"] else options.command
        return rehearse(command, options.processes, options.devices, options.grace)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
