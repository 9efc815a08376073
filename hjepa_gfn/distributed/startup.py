"""Start-up of a run on many hosts: every process finds the others before anything touches a device.

Which cluster it is comes from the command line (`--coordinator --num_processes --process_id`), else from what SLURM, GKE
or a TPU VM leaves in the environment. One process needs no start-up, and gets none.

Where hosts share a disk, one process must write what all of them read; where they do not, each host needs its own copy.
No flag says which it is: `in_turns` lets process 0 go first, then the first process of every other host, then the rest.
"""

from __future__ import annotations

import itertools
import os
import re
import socket
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import jax
import numpy as np
from absl import flags

from hjepa_gfn.errors import UserError

# Not JAX's own 8482: among the ports that TPU hosts open to each other in a cloud with default firewall rules.
PORT = 8476
TIMEOUT = 300  # seconds: the hosts of a pod do not start at once
_PORT_VARIABLE = "JAX_COORDINATOR_PORT"  # the only way to tell JAX's cluster detection of a port
_SLURM = ("SLURM_JOB_ID", "SLURM_STEP_NODELIST", "SLURM_NTASKS", "SLURM_PROCID", "SLURM_LOCALID")  # set by srun
_DAY_MS = 24 * 3600 * 1000
_barriers = itertools.count()
_T = TypeVar("_T")


def define_flags() -> None:
    """The flags of `start_from_flags`."""
    flags.DEFINE_string("coordinator", None, f"host[:port] of process 0, port {PORT} by default; not on TPU pods or SLURM")
    flags.DEFINE_integer("num_processes", None, "how many processes there are; with --coordinator")
    flags.DEFINE_integer("process_id", None, "which of them this one is, from 0; with --coordinator")
    flags.DEFINE_integer("coordinator_timeout", TIMEOUT, "seconds that the processes wait for each other at the start")


def start_from_flags() -> str | None:
    """`start` with the flags of the command line."""
    given = flags.FLAGS
    return start(given.coordinator, given.num_processes, given.process_id, given.coordinator_timeout)


def start(
    coordinator: str | None = None,
    num_processes: int | None = None,
    process_id: int | None = None,
    timeout: float = TIMEOUT,
) -> str | None:
    """Joins this process to the others; to be called before anything else touches JAX.

    Args:
      coordinator: `host[:port]` of process 0. The three go together; without them the environment decides (`detect`).
      num_processes, process_id: how many there are, and which this is.
      timeout: seconds to wait for the others.

    Returns:
      How the cluster was found: "flags", "slurm", "gketpu", "gcetpu"; None where there is one process (nothing is done).

    Raises:
      UserError: a bad flag or not all three of them, the others cannot be reached in time, or the port is taken.
      RuntimeError: JAX is running already, or was started twice: a defect of the caller.
    """
    if timeout <= 0:
        raise UserError(f"--coordinator_timeout={timeout}: must be a positive number of seconds")
    given = {"coordinator": coordinator, "num_processes": num_processes, "process_id": process_id}
    if any(value is not None for value in given.values()):
        address = _check(given)
        if num_processes == 1:
            return None
        deadline = time.monotonic() + timeout
        if process_id == 0:
            _check_port_is_free(address[1])
        else:
            _wait_for(address, deadline, timeout)
        _initialize(
            f"process {process_id} of {num_processes} at --coordinator={_join(address)}", max(deadline - time.monotonic(), 1),
            coordinator_address=_join(address), num_processes=num_processes, process_id=process_id,
            cluster_detection_method="deactivate",
        )  # fmt: skip
        return "flags"
    cluster = detect(os.environ)
    if cluster in ("gketpu", "gcetpu"):
        port = os.environ.setdefault(_PORT_VARIABLE, str(PORT))
        _check_port_is_free(_port(port, f"{_PORT_VARIABLE}={port}"))
    if cluster:  # under SLURM JAX takes a port from the job's number, as two jobs may share a node
        _initialize(f"the processes of this {_NAMES[cluster]}", timeout, cluster_detection_method=cluster)
    return cluster


SHUTDOWN = 30  # seconds
_NAMES = {"slurm": "SLURM job", "gketpu": "GKE job", "gcetpu": "TPU slice"}


def detect(environ: Mapping[str, str]) -> str | None:
    """What the environment says of a cluster of several processes, in JAX's words; None where there is no sign of one.

    `import jax` must have happened: on a TPU VM it leaves TPU_ML_PLATFORM, elsewhere TPU_SKIP_MDS_QUERY. A TPU VM that is
    a whole slice by itself counts as a cluster, since only its metadata server knows; JAX then starts up with one process.
    """
    if all(name in environ for name in _SLURM):
        return "slurm" if environ["SLURM_NTASKS"] != "1" else None
    workers = environ.get("TPU_PROCESS_ADDRESSES", environ.get("TPU_WORKER_HOSTNAMES"))
    if workers is not None:
        several = "," in workers or environ.get("MEGASCALE_NUM_SLICES", "1") != "1"
        return "gketpu" if several else None
    return "gcetpu" if "TPU_ML_PLATFORM" in environ and "TPU_SKIP_MDS_QUERY" not in environ else None


def in_turns(fn: Callable[[], _T]) -> _T:
    """Calls `fn` in every process: first in process 0, then in the first one of each other host, then in the rest.

    For a function that finds its work done by another one and then leaves it (`data.builder.build`). With a shared disk
    process 0 alone does the work; without one, each host does it once, in the time that two of them take.

    Raises:
      UserError: another process failed: left alone, this one would wait for it until the runtime ends it.
      Exception: whatever `fn` raises.
    """
    if jax.process_count() == 1:
        return fn()
    from jax.experimental import multihost_utils
    from orbax.checkpoint import multihost  # a barrier of hosts: devices may wait for each other for a short time only

    barrier = multihost.get_barrier_sync_fn()
    turn = 0 if jax.process_index() == 0 else 1 if os.environ.get("SLURM_LOCALID", "0") == "0" else 2
    results, failure = [], None
    for now in range(3):
        if now == turn:
            try:
                results.append(fn())
            except Exception as error:
                failure = error
        barrier(key=f"hjepa_gfn_turn_{next(_barriers)}", timeout_ms=_DAY_MS)
        failed = multihost_utils.process_allgather(np.asarray(failure is not None))
        if failure:
            raise failure
        if failed.any():
            raise UserError(f"stopped, as process {int(np.argmax(failed))} failed; what it says of it stands in its own output")
    return results[0]


def _check(given: Mapping[str, Any]) -> tuple[str, int]:
    """The coordinator's host and port, all three flags checked."""
    for name, value in given.items():
        if value is None:
            raise UserError(f"--{name} is missing: --coordinator, --num_processes and --process_id go together "
                            "(on TPU pods and under SLURM leave out all three)")  # fmt: skip
    count, number = given["num_processes"], given["process_id"]
    if count < 1:
        raise UserError(f"--num_processes={count}: must be at least 1")
    if not 0 <= number < count:
        raise UserError(f"--process_id={number}: must be between 0 and {count - 1}, as --num_processes={count}")
    return parse_address(given["coordinator"])


def parse_address(address: str) -> tuple[str, int]:
    """Host and port of `host`, `host:port`, `[IPv6]` or `[IPv6]:port`.

    Raises:
      UserError: it is none of them.
    """
    match = re.fullmatch(r"(?:\[([0-9a-fA-F:.]+)\]|([A-Za-z0-9_.-]+))(?::(.*))?", address)
    if not match:
        raise UserError(f"--coordinator={address}: must be host or host:port, as in 10.0.0.2:{PORT}")
    port = PORT if match[3] is None else _port(match[3], f"--coordinator={address}")
    return match[1] or match[2], port


def _port(text: str, where: str) -> int:
    if not re.fullmatch(r"\d{1,5}", text) or not 1 <= int(text) <= 65535:
        raise UserError(f"{where}: the port must be a number between 1 and 65535")
    return int(text)


def _join(address: tuple[str, int]) -> str:
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


# The runtime ends the whole process, with a stack trace, where it cannot reach the others or bind its port: what can be
# known is found out before, and the rest by a clock of our own that strikes first.


def _check_port_is_free(port: int) -> None:
    dual = socket.has_dualstack_ipv6()
    try:
        socket.create_server(
            ("", port), family=socket.AF_INET6 if dual else socket.AF_INET, dualstack_ipv6=dual
        ).close()  # fmt: skip
    except OSError as error:
        raise UserError(f"port {port} of this host cannot be had for the coordinator ({error.strerror}): end the run that "
                        f"holds it, or choose another by --coordinator=host:port or {_PORT_VARIABLE}") from error  # fmt: skip


def _wait_for(address: tuple[str, int], deadline: float, timeout: float) -> None:
    reason = "no answer"
    while (left := deadline - time.monotonic()) > 0:
        try:
            socket.create_connection(address, timeout=min(left, 5)).close()
            return
        except OSError as error:
            reason = error.strerror or str(error)
            time.sleep(min(0.2, max(deadline - time.monotonic(), 0)))
    raise UserError(f"--coordinator={_join(address)}: not reached within {timeout:g} s ({reason}); is process 0 running "
                    "there, and the port open?")  # fmt: skip


def _initialize(who: str, timeout: float, **arguments: Any) -> None:
    failure: list[BaseException] = []

    def initialize() -> None:
        try:
            # a process that raises waits so long for the others, which may sit in a collective (JAX: 300 s)
            jax.distributed.initialize(
                initialization_timeout=int(timeout) + 60, shutdown_timeout_seconds=SHUTDOWN, **arguments)
        except BaseException as error:  # raised again in the main thread
            failure.append(error)

    if jax.distributed.is_initialized():
        raise RuntimeError("the start-up was called twice")
    thread = threading.Thread(target=initialize, name="startup", daemon=True)
    thread.start()
    thread.join(timeout)
    if thread.is_alive():
        raise UserError(f"{who}: not all of the others were there within {timeout:.0f} s; is every process started, and the "
                        "coordinator's port open to all hosts? (--coordinator_timeout waits longer)")  # fmt: skip
    if not failure:
        return
    if isinstance(failure[0], ValueError):  # JAX looked for the cluster that the environment announces
        raise UserError(f"{who}: the environment announces several processes, but JAX does not find them ({failure[0]}); "
                        "on a TPU, is libtpu installed (pip install 'jax[tpu]')?") from failure[0]  # fmt: skip
    if isinstance(failure[0], RuntimeError) and "must be called before" not in str(failure[0]):
        raise UserError(f"{who}: {failure[0]}") from failure[0]
    raise failure[0]
