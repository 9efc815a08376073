"""The side-by-side bench without its peers: the protocol, the summary, and a peer that is not there."""
import json
import subprocess
import sys
from pathlib import Path

import pytest

from experiments import bench_gflownet
from experiments.bench_peers.process import PeerError, Worker


def test_ours_is_measured_and_a_missing_peer_is_named(tmp_path, capsys):
    (tmp_path / "gfnx").mkdir()
    (tmp_path / "gfnx" / ".made").touch()  # an environment without an interpreter
    options = {"rounds": 2, "chunk": 3, "warm": 2, "steps": 3, "seeds": 1, "slow_seeds": 1}
    found = bench_gflownet.bench_task("hypergrid_8x8", ["ours", "gfnx"], tmp_path, options)
    ours = found["results"]["ours"]
    assert len(ours["cpu_ms"]["all"]) == 2 and ours["wall_ms"]["min"] > 0 and 0 < ours["tv_mean"] < 1
    assert found["missing"]["gfnx"].startswith("gfnx cannot be started") and "gfnx" not in found["results"]
    bench_gflownet.print_table("hypergrid_8x8", found)
    assert "gfnx cannot be started" in capsys.readouterr().out
    json.dumps(found)


def test_a_worker_that_fails_says_why_in_one_line(tmp_path):
    (tmp_path / "spec.json").write_text("{}")
    with pytest.raises(PeerError, match=r"^ours failed: KeyError: 'training'$"):
        Worker("ours", bench_gflownet.python_of("ours", tmp_path), tmp_path / "spec.json")


def test_an_unknown_task_is_one_line_and_exit_code_2():
    done = subprocess.run(
        [sys.executable, "-m", "experiments.bench_gflownet", "--tasks=nothing"], cwd=Path(__file__).parents[2],
        capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 2 and done.stderr.startswith("error: ") and "hypergrid_8x8" in done.stderr
