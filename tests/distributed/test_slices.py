"""Gradients over slices: the mean of the slices' own, reduced between them once however often a parameter is used."""
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hjepa_gfn.distributed import ShardingRules, make_mesh, put_batch
from hjepa_gfn.distributed.compiled_text import collectives
from hjepa_gfn.distributed.mesh import AXES
from hjepa_gfn.distributed.sharding import constrain, in_groups, use_mesh
from hjepa_gfn.distributed.slices import mean_over_slices, num_slices, spread_further

NAMES = {"w": ("embed", "mlp"), "odd": None}
PARAMS = {"w": np.random.default_rng(0).normal(size=(8, 8)), "odd": np.random.default_rng(1).normal(size=(3,))}


def loss(params, key, rows):
    """Uses `w` three times, at activations whose rows are spread; a draw of the group's key shows which key it was given."""
    x = rows * (1.0 + jax.random.uniform(key))
    for _ in range(3):
        x = constrain(jnp.tanh(x @ params["w"]), ("batch", None))
    return jnp.mean(x**2) + jnp.sum(params["odd"] ** 2) * jnp.mean(rows), {"rows": jnp.mean(rows)}


def gradient(params, keys, batch):
    def of_groups(params):
        each = in_groups(lambda key, rows: loss(params, key, rows), keys, batch)
        return jax.tree.map(lambda x: x.mean(0), each)

    return jax.value_and_grad(of_groups, has_aux=True)(params)


@pytest.fixture(scope="module")
def found():
    """Loss and gradient on one device, and on two slices of 2 x 2 devices with the compiled program's text."""
    rows = np.random.default_rng(2).normal(size=(16, 8))
    params = jax.tree.map(jnp.float32, PARAMS)
    keys = jax.random.split(jax.random.key(0), 8)
    (value, _), whole = jax.jit(gradient)(params, keys, jnp.float32(rows))
    mesh, rules = make_mesh(replica=2, data=2, fsdp=2), ShardingRules(embed=None, uneven="whole")

    def by_slice(params, keys, batch):
        with use_mesh(mesh, rules):
            assert num_slices() == 2
            return mean_over_slices(lambda k, b: gradient(params, k, b), NAMES, "float32", keys.reshape(2, 4), batch)

    program = jax.jit(by_slice).lower(params, keys, put_batch(np.float32(rows), mesh)).compile()
    (other, metrics), grads = program(params, keys, put_batch(np.float32(rows), mesh))
    return (value, whole), (other, grads, metrics), collectives(program.as_text(), AXES, [mesh.shape[a] for a in AXES])


def test_mean_over_slices_is_the_mean_over_all_groups(found):
    (value, whole), (other, grads, metrics), _ = found
    assert float(other) == pytest.approx(float(value), rel=1e-6) and metrics["rows"].shape == ()
    for name in PARAMS:
        np.testing.assert_allclose(grads[name], whole[name], rtol=1e-5, atol=1e-7)


def test_one_reduction_goes_between_slices_spread_over_their_devices(found):
    moved = [c for c in found[2] if "replica" in c.axes]
    assert all(c.axes == ("replica",) for c in moved), "nothing is reduced between all devices at once"
    # a quarter of w for each of a slice's four devices, `odd` (which does not divide) whole, and two or three scalars
    assert sum(c.bytes * c.times for c in moved) <= 4 * (8 * 8 / 4 + 3) + 12


def test_gradients_are_spread_where_a_dimension_divides():
    mesh = make_mesh(data=4, fsdp=2)
    assert spread_further(["fsdp", None], (16, 3), mesh) == [("fsdp", "data"), None]
    assert spread_further(["fsdp", None], (6, 8), mesh) == ["fsdp", ("data",)]
    assert spread_further([None], (3,), mesh) == [None]
    assert spread_further([("data", "fsdp")], (8,), mesh) == [("data", "fsdp")]
    assert num_slices() == 1, "outside a mesh there is one"
