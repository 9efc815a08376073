"""How layers are laid out on a mesh with a `tensor` axis: no device does what another does, and they say the same there."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from hjepa_gfn.distributed import ShardingRules, make_mesh
from hjepa_gfn.distributed.compiled_text import compiled_flops
from hjepa_gfn.distributed.program_flops import program_flops
from hjepa_gfn.distributed.sharding import logical_axes, unbox, use_mesh
from hjepa_gfn.models.layers import Mlp
from hjepa_gfn.models.shared_encoder import PlanEmbed
from hjepa_gfn.plans import PlanSpec, root_plan


def check_layout(module, inputs):
    """Asserts both of `module` on fsdp 2 x tensor 4, inputs [B, ...]; returns the parameters' partitions."""
    mesh = make_mesh(fsdp=2, tensor=4)
    boxed = module.init(jax.random.key(0), inputs)
    weights = unbox(boxed)
    place = lambda axes, leaf: NamedSharding(mesh, ShardingRules().spec(axes, leaf.shape, mesh))
    spread = jax.tree.map(lambda leaf, axes: jax.device_put(leaf, place(axes, leaf)), weights, logical_axes(boxed))
    rows = jax.tree.map(lambda leaf: jax.device_put(leaf, NamedSharding(mesh, PartitionSpec("fsdp"))), inputs)

    def on_mesh(weights, inputs):
        with use_mesh(mesh):
            return module.apply(weights, inputs)

    compiled = jax.jit(on_mesh).lower(spread, rows).compile()
    found, expected = compiled(spread, rows), module.apply(weights, inputs)
    assert found.sharding.is_equivalent_to(NamedSharding(mesh, PartitionSpec("fsdp")), found.ndim), "whole over tensor"
    asked = program_flops(module.apply, weights, inputs)
    assert asked > 0 and compiled_flops(compiled.as_text()) * mesh.devices.size == asked
    assert float(jnp.abs(expected).max()) > 0
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    return jax.tree.map(lambda leaf: leaf.sharding.spec, spread["params"])


def test_the_map_of_a_plans_edges():
    spec = PlanSpec((3, 4), (4, 5), capacity=6, max_edits=8)
    plans = root_plan(spec, (4, 2))
    specs = check_layout(PlanEmbed(spec, 16), plans._replace(action=plans.action + 1))
    assert specs["edges"]["kernel"] == PartitionSpec("fsdp", "tensor")


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_perceptrons_of_any_depth(depth):
    specs = check_layout(Mlp((16,) * depth, 8), jax.random.normal(jax.random.key(1), (4, 3, 8)))
    assert specs["out"]["kernel"] == PartitionSpec("tensor", None)
    assert all(specs[f"hidden_{i}"]["kernel"] == PartitionSpec("fsdp", "tensor") for i in range(depth))
