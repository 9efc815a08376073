"""From logical axes to shardings."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn
from jax.sharding import PartitionSpec

from hjepa_gfn.distributed import ShardingRules, constrain, in_groups, make_mesh, param_shardings, sharding, unbox, use_mesh
from hjepa_gfn.errors import UserError


def boxed_params():
    def init(key):
        kernel = nn.with_logical_partitioning(nn.initializers.ones, ("embed", "mlp"))(key, (8, 4))
        odd = nn.with_logical_partitioning(nn.initializers.ones, ("embed", "mlp"))(key, (7, 4))
        return {"kernel": kernel, "odd": odd, "bias": jnp.zeros(4)}

    return jax.eval_shape(init, jax.random.key(0))


def test_specs_follow_the_rules():
    mesh, rules = make_mesh(fsdp=4, tensor=2), ShardingRules(uneven="whole")
    assert rules.spec(("embed", "mlp"), (8, 4), mesh) == PartitionSpec("fsdp", "tensor")
    assert rules.spec(("batch", "length", None), (8, 3, 3), mesh) == PartitionSpec(BATCH, None, None)
    # A dimension that does not divide stays whole if so told; two of the same mesh axis never go.
    with pytest.raises(UserError, match="collide on w .*'mlp' and 'heads' are spread over the mesh axis 'tensor'"):
        rules.spec(("mlp", "heads"), (4, 4), mesh, "w")
    with pytest.raises(UserError, match=r"w of shape \(6, 4\): dimension 'embed' \(6\) is not a multiple of the 4 shards"):
        ShardingRules().spec(("embed", "mlp"), (6, 4), mesh, "w")
    assert ShardingRules().spec(("mlp", "heads"), (4, 4), make_mesh(fsdp=8)) == PartitionSpec("tensor", None)
    assert rules.spec(("embed", "mlp"), (6, 3), mesh) == PartitionSpec(None, None)
    whole = dataclasses.replace(rules, embed=None, mlp=("fsdp", "tensor"))
    assert whole.spec(("embed", "mlp"), (8, 8), mesh) == PartitionSpec(None, ("fsdp", "tensor"))
    with pytest.raises(ValueError, match="unknown logical axis 'embedd'"):
        rules.spec(("embedd",), (4,), mesh)
    with pytest.raises(ValueError, match="do not fit"):
        rules.spec(("embed",), (4, 4), mesh)


BATCH = ("replica", "data", "fsdp")


def test_parameters_and_moments_get_the_same_shardings():
    mesh, params = make_mesh(fsdp=4, tensor=2), boxed_params()
    with pytest.raises(UserError, match="odd.*'embed'"):
        param_shardings(params, mesh)
    whole = ShardingRules(uneven="whole")
    shardings = param_shardings(params, mesh, whole)
    assert {name: s.spec for name, s in shardings.items()} == {
        "kernel": PartitionSpec("fsdp", "tensor"), "odd": PartitionSpec(None, "tensor"), "bias": PartitionSpec(),
    }  # fmt: skip
    moments = jax.eval_shape(optax.adam(1e-3).init, params)
    assert param_shardings(moments, mesh, whole)[0].mu == shardings
    assert jax.tree.structure(param_shardings(moments, mesh, whole)) == jax.tree.structure(unbox(moments))
    assert jax.tree.map(jnp.shape, unbox(params)) == {"kernel": (8, 4), "odd": (7, 4), "bias": (4,)}


def test_constrain_shards_on_a_mesh_and_does_nothing_without():
    mesh = make_mesh(data=4, tensor=2)
    x = jnp.ones((8, 6, 4))
    traces = []

    @jax.jit
    def block(x):
        traces.append(1)
        return constrain(x * 2, ("batch", "length", "mlp"))

    assert len(block(x).sharding.device_set) == 1
    with use_mesh(mesh):
        sharded = block(x)  # traced anew, not the meshless program again
    assert sharded.sharding.is_equivalent_to(
        jax.sharding.NamedSharding(mesh, PartitionSpec(BATCH, None, "tensor")), ndim=3
    )
    with use_mesh(mesh, ShardingRules(mlp=None)):
        assert block(x).sharding.shard_shape((8, 6, 4)) == (2, 6, 4)
    assert len(block(x).sharding.device_set) == 1 and len(traces) == 3
    np.testing.assert_array_equal(sharded, 2 * x)


def test_constrain_works_under_vmap_grad_and_scan():
    def loss(w, x):
        return jnp.sum(constrain(jnp.tanh(x @ w), ("batch", "mlp")) ** 2)

    def value(w, xs):
        return jax.lax.scan(lambda total, x: (total + jax.vmap(loss, (None, 0))(w, x).sum(), None), 0.0, xs)[0]

    w, xs = jnp.ones((3, 4)), jnp.arange(2 * 5 * 8 * 3.0).reshape(2, 5, 8, 3) / 240
    plain = jax.jit(jax.grad(value))(w, xs)
    with use_mesh(make_mesh(data=4, tensor=2)):
        np.testing.assert_allclose(jax.jit(jax.grad(value))(w, xs), plain, rtol=1e-5)


def test_what_groups_do_with_their_rows_stays_on_their_device():
    """Sorting, gathering and concatenating rows: no collective but the sum of the losses, and the numbers of one device."""
    def loss(w, x):
        def one(x):
            turned = jnp.concatenate([x[::-1], x[jnp.argsort(x[:, 0])]])
            return constrain(jnp.tanh(turned @ w), ("batch", "mlp")).sum()

        return in_groups(lambda _, part: one(part), jax.random.split(jax.random.key(0), 8), x).mean()

    w, x = jnp.ones((3, 4)) / 3, jnp.sin(jnp.arange(32 * 3.0)).reshape(32, 3)
    plain = jax.jit(jax.grad(loss))(w, x)
    mesh = make_mesh(data=4, fsdp=2)
    x = jax.device_put(x, jax.sharding.NamedSharding(mesh, PartitionSpec(BATCH)))
    with use_mesh(mesh):
        step = jax.jit(jax.grad(loss)).lower(w, x).compile()
    np.testing.assert_allclose(step(w, x), plain, rtol=1e-5)
    text = step.as_text()
    assert "all-reduce" in text and not any(op in text for op in ("all-gather(", "all-to-all(", "collective-permute("))
    with pytest.raises(UserError, match="groups=8 does not divide the 12 rows"):
        in_groups(lambda _, x: x, jnp.ones(8), jnp.ones(12))
    with use_mesh(mesh), pytest.raises(UserError, match="the groups of a batch of shape .4,.: dimension 'batch'"):
        in_groups(lambda _, x: x, jnp.ones(4), jnp.ones(12))


@pytest.mark.parametrize(("change", "message"), [
    ({"uneven": "no"}, "sharding.uneven='no'"), ({"mlp": "tensors"}, "sharding.mlp: no mesh axis 'tensors'")])
def test_rules_that_mean_nothing_are_refused(change, message):
    with pytest.raises(UserError, match=message):
        ShardingRules(**change)


@pytest.mark.parametrize(("name", "held"), [("cpu", False), ("tpu", False), ("gpu", True), ("cuda", True)])
def test_values_are_held_fixed_where_programs_are_traced_for_gpus(monkeypatch, name, held):
    monkeypatch.setattr(sharding, "platform", lambda: name)

    def loss(x, key):
        noise, x = sharding.settled((jax.random.uniform(key, x.shape), x))
        return jnp.sum(x * noise)

    x, keys = jnp.arange(3.0), jax.random.split(jax.random.key(0), 2)
    gradients = jax.vmap(jax.grad(loss), (None, 0))
    np.testing.assert_allclose(gradients(x, keys), jax.vmap(lambda key: jax.random.uniform(key, (3,)))(keys))
    assert ("optimization_barrier" in str(jax.make_jaxpr(gradients)(x, keys))) is held
