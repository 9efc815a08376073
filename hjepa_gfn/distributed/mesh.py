"""Device meshes with the four axes that everything is sharded over, and batches placed on them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from hjepa_gfn.distributed.arrange import arrange
from hjepa_gfn.errors import UserError

AXES = ("replica", "data", "fsdp", "tensor")
# Examples are spread over every axis but `tensor`: an fsdp shard holds a part of the parameters *and* of the batch.
BATCH_AXES = ("replica", "data", "fsdp")


def make_mesh(
    replica: int = 1, data: int = 1, fsdp: int = 1, tensor: int = 1, *, devices: Sequence[jax.Device] | None = None
) -> Mesh:
    """The mesh (replica, data, fsdp, tensor); `replica` runs between TPU slices, the others within one.

    One axis may be -1: it takes the devices that the others leave. A mesh of fewer devices than there are uses the
    first.

    Raises:
      UserError: a size that is not a positive integer, or more devices asked for than there are.
    """
    devices = list(jax.devices() if devices is None else devices)
    sizes = dict(zip(AXES, (replica, data, fsdp, tensor)))
    for name, size in sizes.items():
        if isinstance(size, bool) or not isinstance(size, int) or (size < 1 and size != -1):
            raise UserError(f"mesh.{name}={size!r}: must be a positive integer, or -1 for all devices left")
    free = [name for name, size in sizes.items() if size == -1]
    if len(free) > 1:
        raise UserError(f"mesh: only one axis can be -1, not {' and '.join(free)}")
    fixed = math.prod(size for size in sizes.values() if size != -1)
    if free:
        sizes[free[0]] = max(len(devices) // fixed, 1)
    count = math.prod(sizes.values())
    if count > len(devices):
        asked = " x ".join(f"{name} {size}" for name, size in sizes.items())
        raise UserError(f"mesh: {asked} needs {count} devices, but there are {len(devices)} ({devices[0].platform})")
    # Auto: the compiler propagates shardings from the parameters, the batch and our constraints.
    return Mesh(arrange(tuple(sizes.values()), devices[:count]), AXES, axis_types=(AxisType.Auto,) * 4)


def replicated(mesh: Mesh) -> NamedSharding:
    """The sharding of an array that every device holds whole."""
    return NamedSharding(mesh, PartitionSpec())


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """The sharding of an array whose first axis runs over the examples of a batch."""
    return NamedSharding(mesh, PartitionSpec(BATCH_AXES))


def put_batch(batch: Any, mesh: Mesh) -> Any:
    """Places a host batch (any pytree of numpy arrays; leading axis = examples, scalars replicated) on the mesh.

    With several hosts each one passes its own part of the batch, and the result is the global batch.

    Raises:
      UserError: the number of examples is not a multiple of the number of batch shards.
    """
    shards = math.prod(mesh.shape[axis] for axis in BATCH_AXES)
    sharded, whole = batch_sharding(mesh), replicated(mesh)

    def put(path: Any, leaf: Any) -> jax.Array:
        leaf = np.asarray(leaf)
        if leaf.ndim and leaf.shape[0] * jax.process_count() % shards:
            size = leaf.shape[0] * jax.process_count()
            raise UserError(
                f"batch size {size} (array {jax.tree_util.keystr(path)}) is not a multiple of the mesh's {shards} "
                f"batch shards ({' x '.join(BATCH_AXES)}): choose a multiple of {shards} or a smaller mesh"
            )
        sharding = sharded if leaf.ndim else whole
        if jax.process_count() > 1:
            return jax.make_array_from_process_local_data(sharding, leaf)
        return jax.device_put(leaf, sharding)

    return jax.tree_util.tree_map_with_path(put, batch)
