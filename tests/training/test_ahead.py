"""Compiling ahead: in the order of need, while the run goes on; errors reach the caller, and nothing is left behind."""

import threading
import time

import jax
import jax.numpy as jnp
import pytest

from hjepa_gfn.training.ahead import Ahead, first_uses, shapes_of


def schedule(step):
    return ("a",) if step < 3 else ("a", "c", "b")


def test_order_of_first_use_and_no_further_than_needed():
    asked = []
    noted = lambda step: asked.append(step) or schedule(step)
    assert first_uses(noted, range(1, 1000), 3) == ["a", "c", "b"]
    assert asked == [1, 2, 3]
    assert first_uses(schedule, range(0, 2), 3) == ["a"]


class Slow:
    """Stands in for a jitted step: compiles when it is let."""

    def __init__(self, log, name, go=None, error=None):
        self.log, self.name, self.go, self.error = log, name, go, error

    def lower(self, state, batch):
        self.log.append(self.name)
        if self.go:
            self.go.wait(10)
        if self.error:
            raise self.error
        return self

    def compile(self):
        return lambda state, batch: (self.name, state, batch)


def test_a_step_is_waited_for_and_later_ones_do_not_hold_up_earlier_ones():
    log, go = [], threading.Event()
    ahead = Ahead({"a": Slow(log, "a"), "b": Slow(log, "b", go)}, ["a", "b"], 0, 0, side_by_side=1)
    assert ahead["a"](1, 2) == ("a", 1, 2)  # while b is being compiled
    threading.Timer(0.3, go.set).start()
    begun = time.monotonic()
    assert ahead["b"](3, 4) == ("b", 3, 4) and time.monotonic() - begun > 0.15
    assert log == ["a", "b"]
    ahead.close()


def test_errors_reach_the_caller_and_closing_compiles_no_more():
    log, go = [], threading.Event()
    steps = {"a": Slow(log, "a", error=ValueError("no such shape")), "b": Slow(log, "b", go), "c": Slow(log, "c")}
    ahead = Ahead(steps, ["a", "b", "c"], 0, 0, side_by_side=1)
    with pytest.raises(ValueError, match="no such shape"):
        ahead["a"](0, 0)
    while "b" not in log:
        time.sleep(0.01)
    threading.Timer(0.1, go.set).start()
    ahead.close()
    assert log == ["a", "b"]


def test_compiled_for_the_shapes_that_come():
    state, batch = jnp.zeros(3), jnp.ones(3)
    ahead = Ahead({"add": jax.jit(lambda s, b: s + b)}, ["add"], shapes_of(state), shapes_of(batch))
    assert ahead["add"](state, batch).tolist() == [1, 1, 1]
    with pytest.raises(TypeError):
        ahead["add"](state, jnp.ones(4))
    ahead.close()


def test_several_are_compiled_side_by_side_each_once():
    log, go = [], threading.Event()
    names = ["a", "b", "c", "d"]
    ahead = Ahead({name: Slow(log, name, go) for name in names}, names, 0, 0, side_by_side=2)
    while len(log) < 2:
        time.sleep(0.01)
    time.sleep(0.1)
    assert sorted(log) == ["a", "b"], "two at once, and no third before one is done"
    go.set()
    assert [ahead[name](1, 2)[0] for name in names] == names
    assert sorted(log) == names
    ahead.close()
