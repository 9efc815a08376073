"""Gradients over several TPU slices: added up within each, reduced once between them.

Left to itself the partitioner reduces a gradient between slices wherever a parameter is used: two and a half times for the
parameters that the grounding step uses in several places. The network between slices is the slow one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from hjepa_gfn.distributed.mesh import BATCH_AXES, SLICES
from hjepa_gfn.distributed.sharding import MeshAxes, batch_over, layout, mesh_axes


def num_slices() -> int:
    """Over how many slices `batch` is spread; 1 outside `use_mesh`."""
    here = layout()
    return here[0].shape[SLICES] if here and SLICES in mesh_axes(here[1].batch) else 1


def mean_over_slices(
    fn: Callable[[jax.Array, Any], tuple[Any, Any]], axes: Any, dtype: str, keys: jax.Array, batch: Any
) -> tuple[Any, Any]:
    """The mean over slices of `fn(keys, part) -> (values, gradients)`, each slice on its own part of the batch.

    Args:
      fn: values are averaged as they are, gradients of parameters with the logical axes `axes` (see `logical_axes`) by one
        reduction between slices, spread over each slice's devices.
      dtype: in which gradients go between slices: what the layers compute in.
      keys: [S, ...] of the slices; batch: rows in the slices' order.
    """
    mesh, rules = layout()
    slices = mesh.shape[SLICES]
    batch = jax.tree.map(lambda x: x.reshape(slices, x.shape[0] // slices, *x.shape[1:]), batch)
    with batch_over(tuple(axis for axis in mesh_axes(rules.batch) if axis != SLICES)):
        values, grads = jax.vmap(fn, spmd_axis_name=SLICES)(keys, batch)
    put = lambda x, *spec: jax.lax.with_sharding_constraint(x, NamedSharding(mesh, PartitionSpec(*spec)))  # noqa: E731

    def reduce(grad: jax.Array, names: tuple[str | None, ...] | None) -> jax.Array:
        names = names or (None,) * (grad.ndim - 1)
        held = list(rules.spec(names, grad.shape[1:], mesh, "a gradient"))
        spread = spread_further(held, grad.shape[1:], mesh)
        total = put(grad.astype(dtype), SLICES, *spread).sum(0)
        return put(put(total, *spread).astype(grad.dtype) / slices, *held)

    grads = jax.tree.map(reduce, grads, axes, is_leaf=lambda node: node is None)
    return jax.tree.map(lambda x: x.mean(0), values), grads


def spread_further(spec: Sequence[MeshAxes], shape: Sequence[int], mesh: Mesh) -> list[MeshAxes]:
    """A partition of a gradient over the batch axes within a slice too that `spec` leaves unused, where a dimension divides."""
    free = [axis for axis in BATCH_AXES if axis != SLICES and all(axis not in mesh_axes(over) for over in spec)]
    for i, size in enumerate(shape):
        over = (*mesh_axes(spec[i]), *free)
        if free and size % math.prod(mesh.shape[axis] for axis in over) == 0:
            return [*spec[:i], over, *spec[i + 1 :]]
    return list(spec)
