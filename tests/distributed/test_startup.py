"""Start-up on several hosts: what is detected, what is refused, and two real processes that find each other."""

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import jax
import pytest

from hjepa_gfn.distributed import startup
from hjepa_gfn.errors import UserError

SLURM = {"SLURM_JOB_ID": "7", "SLURM_STEP_NODELIST": "n[1-2]", "SLURM_NTASKS": "8", "SLURM_PROCID": "3", "SLURM_LOCALID": "3"}
TPU = {"TPU_ML_PLATFORM": "JAX"}  # what `import jax` leaves where it finds TPU chips


@pytest.mark.parametrize(
    ("environ", "cluster"),
    [
        ({}, None),
        (SLURM, "slurm"),
        ({**SLURM, "SLURM_NTASKS": "1"}, None),
        ({k: v for k, v in SLURM.items() if k != "SLURM_STEP_NODELIST"}, None),  # the batch script, outside srun
        ({**TPU, "TPU_WORKER_HOSTNAMES": "a,b"}, "gketpu"),
        ({**TPU, "TPU_WORKER_HOSTNAMES": "localhost"}, None),
        ({**TPU, "TPU_WORKER_HOSTNAMES": "a", "MEGASCALE_NUM_SLICES": "2"}, "gketpu"),
        ({**TPU, "TPU_WORKER_HOSTNAMES": "a,b", "TPU_PROCESS_ADDRESSES": "a"}, None),  # as JAX reads them
        (TPU, "gcetpu"),
        ({"TPU_SKIP_MDS_QUERY": "1"}, None),
        ({**TPU, "TPU_SKIP_MDS_QUERY": "1"}, None),  # compiling for TPUs on a machine without
    ],
)
def test_detection(environ, cluster):
    assert startup.detect(environ) == cluster


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("10.0.0.2", ("10.0.0.2", 8476)),  # JAX's own 8482 is shut by default firewall rules
        ("host-1.x:1234", ("host-1.x", 1234)),
        ("[fe80::1]", ("fe80::1", 8476)),
        ("[::1]:99", ("::1", 99)),
    ],
)
def test_addresses(address, expected):
    assert startup.parse_address(address) == expected


@pytest.mark.parametrize("address", ["", "a b", "http://a", "a:", "a:x", "a:0", "a:65536", "::1", "a:1:2"])
def test_bad_addresses(address):
    with pytest.raises(UserError, match="^--coordinator=.*(must be host or host:port|the port must be)"):
        startup.parse_address(address)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (dict(coordinator="a"), "^--num_processes is missing: --coordinator, --num_processes and --process_id go together"),
        (dict(num_processes=2, process_id=0), "^--coordinator is missing"),
        (dict(coordinator="a", num_processes=2), "^--process_id is missing"),
        (dict(process_id=0), "is missing"),
        (dict(coordinator="a", num_processes=2, process_id=2), "^--process_id=2: must be between 0 and 1"),
        (dict(coordinator="a", num_processes=2, process_id=-1), "^--process_id=-1: must be between 0 and 1"),
        (dict(coordinator="a", num_processes=0, process_id=0), "^--num_processes=0: must be at least 1"),
        (dict(coordinator="a:x", num_processes=1, process_id=0), "^--coordinator=a:x"),
        (dict(timeout=0), "^--coordinator_timeout=0: must be"),
    ],
)
def test_bad_flags(given, message):
    with pytest.raises(UserError, match=message):
        startup.start(**given)


@pytest.fixture
def initialize(monkeypatch):
    """Records what JAX would be told; this test process itself must not start up."""
    calls = []
    monkeypatch.setattr(jax.distributed, "initialize", lambda **arguments: calls.append(arguments))
    monkeypatch.setattr(startup, "_check_port_is_free", lambda port: None)
    for name in (*SLURM, *TPU, "TPU_WORKER_HOSTNAMES", "TPU_PROCESS_ADDRESSES", "JAX_COORDINATOR_PORT"):
        monkeypatch.delenv(name, raising=False)
    yield calls
    os.environ.pop("JAX_COORDINATOR_PORT", None)


def test_one_process_does_nothing(initialize):
    assert startup.start() is None
    assert startup.start("10.0.0.2", 1, 0) is None
    assert initialize == []
    assert startup.in_turns(lambda: "built") == "built"


def test_the_port_of_a_detected_cluster(initialize, monkeypatch):
    for name, value in {**TPU, "TPU_WORKER_HOSTNAMES": "a,b"}.items():
        monkeypatch.setenv(name, value)
    assert startup.start(timeout=10) == "gketpu"
    assert initialize[-1] == {
        "cluster_detection_method": "gketpu", "initialization_timeout": 70, "shutdown_timeout_seconds": 30}
    assert os.environ["JAX_COORDINATOR_PORT"] == "8476"
    monkeypatch.setenv("JAX_COORDINATOR_PORT", "99999")
    with pytest.raises(UserError, match="JAX_COORDINATOR_PORT=99999: the port must be"):
        startup.start()


def test_slurm_keeps_the_port_of_its_job(initialize, monkeypatch):
    for name, value in SLURM.items():
        monkeypatch.setenv(name, value)
    assert startup.start() == "slurm" and initialize[-1]["cluster_detection_method"] == "slurm"
    assert "JAX_COORDINATOR_PORT" not in os.environ


def test_what_jax_says_is_passed_on(initialize, monkeypatch):
    def fail(error):
        def initialize(**_):
            raise error

        return initialize

    monkeypatch.setenv("TPU_WORKER_HOSTNAMES", "a,b")
    monkeypatch.setattr(jax.distributed, "initialize", fail(ValueError("coordinator_address should be defined.")))
    with pytest.raises(UserError, match="this GKE job: .*JAX does not find them.*is libtpu installed"):
        startup.start()
    monkeypatch.setattr(jax.distributed, "initialize", fail(RuntimeError("Failed to recognize coordinator address a")))
    with pytest.raises(UserError, match="this GKE job: Failed to recognize coordinator address a"):
        startup.start()
    monkeypatch.setattr(jax.distributed, "initialize", fail(RuntimeError("must be called before any JAX calls")))
    with pytest.raises(RuntimeError):  # our own defect keeps its traceback
        startup.start()


def test_a_coordinator_that_does_not_answer():
    port = _free_port()
    began = time.monotonic()
    with pytest.raises(UserError, match=rf"^--coordinator=127.0.0.1:{port}: not reached within 0.5 s \(Connection refused\)"):
        startup.start(f"127.0.0.1:{port}", 2, 1, timeout=0.5)
    assert time.monotonic() - began < 3


def test_a_port_that_is_taken():
    with socket.create_server(("", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(UserError, match=f"^port {port} of this host cannot be had for the coordinator"):
            startup.start(f"127.0.0.1:{port}", 2, 0, timeout=5)


PROGRAM = """
import sys, time
from pathlib import Path
from hjepa_gfn.distributed import startup
from hjepa_gfn.errors import UserError
from jax._src import xla_bridge
assert not xla_bridge.backends_are_initialized()
number, port, folder, timeout = int(sys.argv[1]), sys.argv[2], Path(sys.argv[3]), float(sys.argv[4])
try:
    startup.start(f"127.0.0.1:{port}", 2, number, timeout)
except UserError as error:
    print(f"error: {error}")
    sys.exit(2)
import jax
assert (jax.process_count(), jax.process_index(), jax.device_count()) == (2, number, 2)

def build():
    if (folder / "corpus").exists():
        return "found"
    time.sleep(0.2)
    (folder / "corpus").touch()
    return "built"

print(startup.in_turns(build), startup.in_turns(build))

def fail():
    raise UserError(f"disk full in {number}")

for fn in (fail if number == 0 else build, build if number == 0 else fail):
    try:
        startup.in_turns(fn)
    except UserError as error:
        print(error)
"""


def _free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def _start(*arguments) -> subprocess.Popen:
    environ = {k: v for k, v in os.environ.items() if k not in ("XLA_FLAGS", "JAX_NUM_CPU_DEVICES")}
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *map(str, arguments)], text=True, cwd=Path(__file__).parents[2],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={**environ, "JAX_PLATFORMS": "cpu"},
    )  # fmt: skip


@pytest.fixture(scope="module")
def programs(tmp_path_factory):
    """Two processes that belong together, and one whose companion never comes; side by side, as starting takes longest."""
    folder, port = tmp_path_factory.mktemp("shared"), _free_port()
    processes = [_start(0, port, folder, 60), _start(1, port, folder, 60), _start(0, _free_port(), folder, 1)]
    try:
        results = [(*process.communicate(timeout=60), process.returncode) for process in processes]
        yield [([line for line in out.splitlines() if not line.startswith("[Gloo]")], err, code) for out, err, code in results]
    finally:
        for process in processes:
            process.kill()


def test_two_processes_find_each_other_and_one_of_them_builds(programs):
    assert [code for *_, code in programs[:2]] == [0, 0], programs
    assert [out[0] for out, *_ in programs[:2]] == ["built found", "found found"]


def test_where_one_process_fails_all_stop(programs):
    other = "stopped, as process {} failed; what it says of it stands in its own output"
    assert programs[0][0][1:] == ["disk full in 0", other.format(1)]
    assert programs[1][0][1:] == [other.format(0), "disk full in 1"]


def test_a_process_whose_companion_never_comes_gives_one_line(programs):
    out, _, code = programs[2]
    assert code == 2 and len(out) == 1
    assert out[0].startswith("error: process 0 of 2 at --coordinator=127.0.0.1:") and "within 1 s" in out[0]
