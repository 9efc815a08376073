"""How the embedding of plans is laid out on a mesh, and that it says the same there."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from hjepa_gfn.distributed import ShardingRules, make_mesh
from hjepa_gfn.distributed.compiled_text import compiled_flops
from hjepa_gfn.distributed.program_flops import program_flops
from hjepa_gfn.distributed.sharding import logical_axes, unbox, use_mesh
from hjepa_gfn.models.shared_encoder import PlanEmbed
from hjepa_gfn.plans import PlanSpec, root_plan


def test_no_device_of_a_tensor_axis_does_what_another_does():
    spec, mesh = PlanSpec((3, 4), (4, 5), capacity=6, max_edits=8), make_mesh(fsdp=2, tensor=4)
    embed, plans = PlanEmbed(spec, 16), root_plan(spec, (4, 2))
    plans = plans._replace(action=plans.action + 1)
    boxed = embed.init(jax.random.key(0), plans)
    weights = unbox(boxed)
    place = lambda axes, leaf: NamedSharding(mesh, ShardingRules().spec(axes, leaf.shape, mesh))
    spread = jax.tree.map(lambda leaf, axes: jax.device_put(leaf, place(axes, leaf)), weights, logical_axes(boxed))
    rows = jax.tree.map(lambda leaf: jax.device_put(leaf, NamedSharding(mesh, PartitionSpec("fsdp"))), plans)

    def on_mesh(weights, plans):
        with use_mesh(mesh):
            return embed.apply(weights, plans)

    compiled = jax.jit(on_mesh).lower(spread, rows).compile()
    assert spread["params"]["edges"]["kernel"].sharding.spec == PartitionSpec("fsdp", "tensor")
    assert compiled(spread, rows).sharding.is_equivalent_to(NamedSharding(mesh, PartitionSpec("fsdp")), 4), "whole over tensor"
    asked = program_flops(embed.apply, weights, plans)
    assert asked > 0 and compiled_flops(compiled.as_text()) * mesh.devices.size == asked
    expected = embed.apply(weights, plans)
    assert float(jnp.abs(expected).max()) > 0
    np.testing.assert_allclose(compiled(spread, rows), expected, rtol=1e-5, atol=1e-6)
