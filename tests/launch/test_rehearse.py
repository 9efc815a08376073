"""Rehearsals: one process for each host, one output, one end."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from hjepa_gfn.errors import UserError
from launch import rehearse

ROOT = Path(__file__).parents[2]
HOST = """
import os, signal, subprocess, sys, time
flags = dict(word[2:].split("=") for word in sys.argv[1:] if "=" in word)
k, what = int(flags["process_id"]), flags["do"]
child = subprocess.Popen(["sleep", "60"]) if what == "child" else None
with open(f"{flags['dir']}/{k}.tmp", "w") as file:
    file.write(f"{os.getpid()} {child.pid if child else ''}")
def told(number, frame):
    print("told", number, flush=True)
    if what != "deaf":
        sys.exit(128 + number)
signal.signal(signal.SIGTERM, told)
os.rename(f"{flags['dir']}/{k}.tmp", f"{flags['dir']}/{k}")
if what == "say":
    where = flags["coordinator"].split(":")[0]
    print(flags["num_processes"], where, os.environ["JAX_NUM_CPU_DEVICES"], os.environ["JAX_PLATFORMS"])
    print("force" in os.environ["XLA_FLAGS"], file=sys.stderr)
elif what == "fail" and k == 1:
    sys.exit(3)
elif what == "leave":
    sys.exit(0 if k else 4)
else:
    time.sleep(60)
"""


def start(tmp_path, what, *options):
    script = tmp_path / "host.py"
    script.write_text(HOST)
    return subprocess.Popen(
        [sys.executable, "-m", "launch.rehearse", *options, "--", str(script), f"--do={what}", f"--dir={tmp_path}"],
        cwd=ROOT, env={**os.environ, "XLA_FLAGS": "--xla_force_host_platform_device_count=3"},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def pids(tmp_path, hosts=2):
    """The numbers of all processes that the hosts are, and started, once they are there."""
    deadline = time.monotonic() + 30
    while not all((tmp_path / str(k)).exists() for k in range(hosts)):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return [[int(word) for word in (tmp_path / str(k)).read_text().split()] for k in range(hosts)]


def gone(numbers):
    deadline = time.monotonic() + 5
    while any(Path(f"/proc/{number}").exists() for number in numbers) and time.monotonic() < deadline:
        time.sleep(0.01)
    return not any(Path(f"/proc/{number}").exists() for number in numbers)


def test_hosts_are_told_who_they_are_and_printed_by_number(tmp_path):
    rehearsal = start(tmp_path, "say", "--processes=3", "--devices=5")
    out, err = rehearsal.communicate(timeout=30)
    assert rehearsal.returncode == 0
    assert sorted(out.splitlines()) == [f"[{k}] 3 localhost 5 cpu" for k in range(3)]
    assert sorted(err.splitlines()) == [f"[{k}] False" for k in range(3)]


def test_a_failure_ends_the_others_after_a_grace(tmp_path):
    begun = time.monotonic()
    rehearsal = start(tmp_path, "fail", "--grace=0.5")
    assert rehearsal.wait(30) == 3 and time.monotonic() - begun < 10
    assert gone([pid for host in pids(tmp_path) for pid in host])


def test_one_that_leaves_in_time_is_not_killed(tmp_path):
    assert start(tmp_path, "leave").wait(30) == 4


def test_a_killed_host_takes_all_with_it_and_leaves_no_orphans(tmp_path):
    rehearsal = start(tmp_path, "child", "--grace=60")
    hosts = pids(tmp_path)
    os.kill(hosts[0][0], signal.SIGKILL)
    begun = time.monotonic()
    assert rehearsal.wait(30) == 137 and time.monotonic() - begun < 3
    assert gone([pid for host in hosts for pid in host])  # what they had started too


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process of its parent's death")
def test_a_killed_rehearsal_leaves_no_hosts(tmp_path):
    rehearsal = start(tmp_path, "wait")
    hosts = pids(tmp_path)
    rehearsal.kill()
    rehearsal.wait()
    assert gone([pid for host in hosts for pid in host])


def test_a_signal_is_passed_on_and_a_second_one_kills(tmp_path):
    rehearsal = start(tmp_path, "wait")
    pids(tmp_path)
    rehearsal.send_signal(signal.SIGTERM)
    out, _ = rehearsal.communicate(timeout=30)
    assert rehearsal.returncode == 143 and sorted(out.splitlines()) == ["[0] told 15", "[1] told 15"]
    for name in "01":
        (tmp_path / name).unlink()
    deaf = start(tmp_path, "deaf")
    hosts = pids(tmp_path)
    deaf.send_signal(signal.SIGTERM)
    assert deaf.stdout.readline() and deaf.stdout.readline() and deaf.poll() is None
    deaf.send_signal(signal.SIGTERM)
    assert deaf.wait(30) == 137 and gone([pid for host in hosts for pid in host])


def test_commands():
    assert rehearse.resolve(["python", "-m", "x"]) == [sys.executable, "-m", "x"]
    assert rehearse.resolve(["a/b.py", "--c"]) == [sys.executable, "a/b.py", "--c"]
    assert rehearse.resolve(["experiments.train", "--c"]) == [sys.executable, "-m", "experiments.train", "--c"]
    assert rehearse.resolve(["sleep", "1"]) == ["sleep", "1"]
    for command in ([], ["no-such-program"]):
        with pytest.raises(UserError, match="no program"):
            rehearse.resolve(command)


@pytest.mark.parametrize("arguments", [[], ["--processes=0", "--", "sleep", "1"], ["--processes=x"], ["--", "no-such-program"]])
def test_bad_input_is_one_line(arguments, capsys):
    assert rehearse.main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("error: ") and err.count("\n") == 1
