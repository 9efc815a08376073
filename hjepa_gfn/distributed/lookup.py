"""Looking rows up in a large table whose width is spread over devices that hold different rows' indices.

Left to itself the partitioner gathers the whole table, or all rows' gradients, on every device: neither stays flat as the mesh
grows. Here each device looks up its part of the width for the indices of all that share it, and the parts are exchanged.
"""
from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec

from hjepa_gfn.distributed.sharding import group_axes, layout, mesh_axes


def take(table: jax.Array, ids: jax.Array) -> jax.Array:
    """table [K, D], ids int32 [...] -> [..., D]; ids out of range are those at its edge."""
    return jnp.take(table, ids, axis=0, mode="clip")


def look_up(table: jax.Array, ids: jax.Array) -> jax.Array:
    """`take` of a table whose D is spread as the logical axis `embed` is; within `in_groups` as described above."""
    return _of_groups(table, ids) if group_axes() else take(table, ids)


@jax.custom_batching.custom_vmap
def _of_groups(table: jax.Array, ids: jax.Array) -> jax.Array:
    return take(table, ids)


@_of_groups.def_vmap
def _spread(size: int, batched: tuple[bool, bool], table: jax.Array, ids: jax.Array) -> tuple[jax.Array, bool]:
    """Of all groups at once: ids [G, ...]."""
    if batched[0]:
        return jax.vmap(take, in_axes=(0, 0 if batched[1] else None))(table, ids), True
    (mesh, rules), over = layout(), group_axes()
    width = tuple(axis for axis in mesh_axes(rules.spec(("embed",), table.shape[1:], mesh, "a table")[0]) if axis in over)
    others = tuple(axis for axis in over if axis not in width)

    def put(x: jax.Array, *spec: Any) -> jax.Array:
        whole = (None,) * (x.ndim - len(spec))
        return jax.lax.with_sharding_constraint(x, NamedSharding(mesh, PartitionSpec(spec[0], *whole, *spec[1:])))

    rows = put(take(table, put(ids, others or None)), others or None, width or None)
    return put(rows, over, None), True
