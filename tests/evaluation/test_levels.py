"""What the heads of `model.compass` read off held-out windows, against numpy."""
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))
import tiny  # noqa: E402

from hjepa_gfn.evaluation.levels import read_heads  # noqa: E402


def test_heads_are_right_where_their_largest_number_is_at_what_the_percept_shows():
    system, window = tiny.system(compass=True), tiny.window([[2, 1], [3, 2], []])
    params = jax.tree.map(lambda x: x, tiny.params(compass=True))  # a tree of its own, to change
    rng = np.random.default_rng(0)
    window = {name: np.array(leaf) for name, leaf in window.items()}
    window["view"][:, :, 3, 6, 0] = rng.choice([1, 6], window["view"].shape[:2])
    window["view"][:, :, 3, 6, 1] = rng.choice([2, 4], window["view"].shape[:2])
    # that a yellow ball is carried is told of all states: the words are right where it is so
    head = params["jepa"]["level_1"]["load"]
    told = np.zeros(24)
    told[[6, 16 + 4]] = 9.0
    params["jepa"]["level_1"]["load"] = {"kernel": 0 * head["kernel"], "bias": jnp.asarray(told, jnp.float32)}
    z = np.asarray(system.level(params, window["view"], window["direction"], method="encode"), np.float64)
    own = params["jepa"]["level_1"]
    linear = lambda name: (z @ np.asarray(own[name]["kernel"]) + np.asarray(own[name]["bias"]))  # noqa: E731
    turned, load = linear("heading").argmax(-1), linear("load")
    # each of the steps' own numbers is told half of the time
    window["direction"] = np.where(rng.random(turned.shape) < 0.5, turned, (turned + 1) % 4)
    z = np.asarray(system.level(params, window["view"], window["direction"], method="encode"), np.float64)
    turned, load = linear("heading").argmax(-1), linear("load")
    want = {"direction_read": [], "load_read": [], "load_read_where_held": []}
    for row, t in np.ndindex(turned.shape):
        if t > window["length"][row]:
            continue
        kind, colour = window["view"][row, t, 3, 6, :2]
        right = load[row, t, :16].argmax() == kind and load[row, t, 16:].argmax() == colour
        want["direction_read"].append(turned[row, t] == window["direction"][row, t])
        want["load_read"].append(right)
        if kind >= 5:
            want["load_read_where_held"].append(right)
    assert 0 < np.mean(want["load_read"]) < np.mean(want["load_read_where_held"]) < 1
    assert 0 < len(want["load_read_where_held"]) < len(want["load_read"]) < turned.size
    found = read_heads(params, system, window)
    assert found == {name: pytest.approx(np.mean(hits)) for name, hits in want.items()}
    window["view"][:, :, 3, 6, 0] = 1
    assert set(read_heads(params, system, window)) == {"direction_read", "load_read"}
