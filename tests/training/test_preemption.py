"""What a signal does to a run; two hosts that get one are in test_pod.py."""

import os
import signal

import jax
import pytest

from hjepa_gfn.training.preemption import StopSignal


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_is_noted_and_a_second_one_ends_the_process_as_usual(number):
    before = signal.getsignal(number)
    with StopSignal() as stop:
        assert stop.received(1) is None and signal.getsignal(number) is not before
        os.kill(os.getpid(), number)
        assert stop.received(2) == number and signal.getsignal(number) is before
    assert signal.getsignal(number) is before


def test_on_many_hosts_ctrl_c_is_what_all_of_them_hear_of(monkeypatch):
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    noted, before = [], signal.signal(signal.SIGTERM, lambda number, frame: noted.append(number))  # as JAX's service listens
    try:
        with StopSignal():
            os.kill(os.getpid(), signal.SIGINT)
        assert noted == [signal.SIGTERM]
    finally:
        signal.signal(signal.SIGTERM, before)
