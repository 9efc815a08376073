"""Timings, goodput and traces, on a clock of their own."""

import json
import threading
from types import SimpleNamespace

import pytest

from hjepa_gfn.errors import UserError
from hjepa_gfn.training.goodput import Goodput
from hjepa_gfn.training.profiling import parse_steps
from hjepa_gfn.training.timing import Spent, Timings, busy, means, peak_memory


class Machine:
    """A clock, and a device that is done with its work at given times; nobody learns of it before `go` is set."""

    def __init__(self):
        self.now, self.go = 0.0, threading.Event()

    def clock(self):
        return self.now

    def wait(self, done_at):
        self.go.wait()
        if done_at is None:
            raise RuntimeError("the device failed")
        self.now = max(self.now, done_at)

    def call(self, takes, done_at):
        self.now += takes
        return "state", done_at


@pytest.fixture
def machine():
    return Machine()


@pytest.fixture
def timings(machine):
    timings = Timings(machine.clock, machine.wait)
    yield timings
    machine.go.set()
    timings.close()


def test_steps_count_from_the_end_of_the_one_before(machine, timings):
    with timings.host("data"):
        machine.now += 1
    assert timings.step("fit", machine.call, 3, 10.0) == ("state", 10.0)  # compiles from 1 to 4, runs from 4 to 10
    timings.step("fit", machine.call, 0.5, 16.0)  # dispatched at 4, runs from 10 to 16
    with timings.host("data"):
        machine.now += 1  # hidden behind the device's work
    timings.call("finish", machine.call, 2, None)  # compiles; its results are not waited for
    timings.step("shrink", machine.call, 1, 20.0)  # compiles from 7.5 to 8.5, runs from 16 to 20
    machine.go.set()
    spent = timings.take()
    assert spent == {
        "data": Spent(2, 2.0), "compile": Spent(3, 6.0), "fit": Spent(2, 12.0), "shrink": Spent(1, 4.0)
    }  # fmt: skip
    assert busy(spent, ("fit", "shrink")) == 16.0
    assert means(spent, 4) == {"time/compile": 6.0, "time/data": 0.5, "time/fit": 6.0, "time/shrink": 4.0}


def test_a_device_that_waits_is_not_busy(machine, timings):
    machine.go.set()
    timings.step("fit", machine.call, 0, 5.0)
    assert timings.take()["fit"] == Spent(1, 5.0)
    machine.now = 100.0  # the host was slow
    timings.step("fit", machine.call, 0, 103.0)
    assert timings.take()["fit"] == Spent(1, 3.0)
    assert timings.take() == {}


def test_a_failed_step_neither_counts_nor_stops_the_books(machine, timings):
    machine.go.set()
    timings.step("fit", machine.call, 0, None)
    timings.step("fit", machine.call, 0, 2.0)
    assert timings.take()["fit"] == Spent(1, 2.0)


def test_goodput_over_a_restart(tmp_path):
    time = SimpleNamespace(now=1000.0)
    first = Goodput(tmp_path, now=lambda: time.now)
    time.now, first.useful = 1100.0, 30.0
    assert first.write() == {"goodput": 0.3, "time/lost": 0.0, "time/down": 0.0}
    # Killed; its last checkpoint held 20 of those 30 seconds.
    time.now = 1150.0
    second = Goodput(tmp_path, 20.0, now=lambda: time.now)
    assert second.write() == {"goodput": 20 / 150, "time/lost": 10.0, "time/down": 50.0}
    time.now, second.useful = 1250.0, 100.0
    second.write()
    account = json.loads((tmp_path / "goodput.json").read_text())
    assert account["goodput"] == 100 / 250 and account["wall_seconds"] == 250.0 and account["starts"] == 2
    assert account["lost_seconds"] == 10.0 and account["down_seconds"] == 50.0
    (tmp_path / "goodput.json").write_text("{")
    with pytest.raises(UserError, match="goodput.json"):
        Goodput(tmp_path)


def test_the_highest_watermark_counts():
    def device(stats):
        return SimpleNamespace(memory_stats=lambda: stats)

    small, large = ({"peak_bytes_in_use": peak, "bytes_in_use": 1, "bytes_limit": 100} for peak in (5, 70))
    assert peak_memory([device(large), device(small)]) == {"memory/peak_bytes": 70.0, "memory/limit_bytes": 100.0}
    assert peak_memory([device(None)]) == {} and peak_memory() == {}  # CPUs keep none


def test_steps_to_trace():
    assert parse_steps("") is None and parse_steps("100:110") == (100, 110) == parse_steps("100:110")
    for text in ("100", "110:100", "a:b", "1:2:3", "-1:4"):
        with pytest.raises(UserError, match="--profile_steps="):
            parse_steps(text)
