"""The gate of the M-step: average, threshold, and that a shut gate keeps everything."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from hjepa_gfn.gflownet.gate import gate_value, hold, init_gate, threshold, update_gate


def test_the_average_is_unbiased_from_the_first_loss_on():
    gate, decay, seen = init_gate(), 0.8, [5.0, 1.0, 4.0, 2.0]
    assert gate_value(gate, decay) == np.inf
    for n in range(1, 5):
        gate = update_gate(gate, jnp.float32(seen[n - 1]), decay)
        weights = decay ** np.arange(n)[::-1]
        np.testing.assert_allclose(gate_value(gate, decay), np.average(seen[:n], weights=weights), rtol=1e-5)


def test_no_gradient_flows_into_the_average():
    value = lambda x: gate_value(update_gate(init_gate(), x, 0.9), 0.9)
    assert jax.grad(value)(jnp.float32(3.0)) == 0.0


def test_the_threshold_halves_its_excess_every_half_life():
    bar = lambda step: float(threshold(jnp.float32(step), start=10.0, end=2.0, half_life=50.0))
    np.testing.assert_allclose([bar(0), bar(50), bar(100), bar(10_000)], [10.0, 6.0, 4.0, 2.0], rtol=1e-6)


def test_a_shut_gate_keeps_parameters_and_moments_bitwise_and_an_open_one_takes_the_step():
    tx = optax.adam(0.1)
    params = {"w": jnp.arange(3.0), "count": jnp.int32(7)}
    state = tx.init(params["w"])
    _, state = tx.update(jnp.ones(3), state)  # momentum that would keep moving what should stand still
    updates, moved = tx.update(jnp.full(3, -2.0), state)
    old, new = (params, state), ({"w": params["w"] + updates, "count": jnp.int32(8)}, moved)
    for is_open, expected in ((jnp.bool_(False), old), (jnp.bool_(True), new)):
        kept = jax.jit(hold)(is_open, new, old)
        jax.tree.map(np.testing.assert_array_equal, kept, expected)
        assert jax.tree.map(lambda x: x.dtype, kept) == jax.tree.map(lambda x: x.dtype, expected)
    assert not np.array_equal(old[0]["w"], new[0]["w"])


def test_a_shut_gate_lets_no_nan_through():
    kept = hold(jnp.bool_(False), {"w": jnp.float32(np.nan)}, {"w": jnp.float32(1.0)})
    assert kept["w"] == 1.0
