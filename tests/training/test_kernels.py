"""Kernels of a profiler's trace: streams of devices are added up, and nothing else."""
import gzip
import json

import pytest

from hjepa_gfn.errors import UserError
from hjepa_gfn.training.kernels import Kernel, kernels


def trace(path, events):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(json.dumps({"traceEvents": events}).encode()))


def named(pid, process, tid, thread):
    return [{"ph": "M", "name": "process_name", "pid": pid, "args": {"name": process}},
            {"ph": "M", "name": "thread_name", "pid": pid, "tid": tid, "args": {"name": thread}}]


def ran(pid, tid, name, microseconds):
    return {"ph": "X", "pid": pid, "tid": tid, "name": name, "ts": 0, "dur": microseconds}


def test_device_streams_are_added_up_longest_first(tmp_path):
    trace(tmp_path / "plugins" / "host.trace.json.gz", [
        *named(1, "/device:GPU:0", 7, "Stream #7(Compute)"), *named(1, "/device:GPU:0", 8, "XLA Modules"),
        *named(2, "/host:CPU", 7, "Stream of the host"),
        ran(1, 7, "gemm", 30), ran(1, 7, "gemm", 50), ran(1, 7, "fusion", 100), ran(1, 8, "jit_step", 999),
        ran(2, 7, "python", 999)])
    assert kernels(tmp_path) == [
        Kernel("fusion", 1, pytest.approx(1e-4)), Kernel("gemm", 2, pytest.approx(8e-5))]


def test_a_folder_without_a_trace_is_one_line(tmp_path):
    with pytest.raises(UserError, match="holds no trace"):
        kernels(tmp_path)
