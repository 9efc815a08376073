"""Device meshes with the four axes that everything is sharded over, and batches placed on them."""

from __future__ import annotations

import functools
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
SLICES = "replica"  # the axis between slices


def make_mesh(
    replica: int = 1, data: int = 1, fsdp: int = 1, tensor: int = 1, *, devices: Sequence[jax.Device] | None = None
) -> Mesh:
    """The mesh (replica, data, fsdp, tensor); `replica` runs between TPU slices, the others within one.

    One axis may be -1: it takes the devices that the others leave. A mesh of fewer devices than there are uses the
    first.

    Raises:
      UserError: a size that is not a positive integer, more devices asked for than there are, or so few that some host would
        have none.
    """
    given = devices is not None
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
    if not given and (idle := {d.process_index for d in devices} - {d.process_index for d in devices[:count]}):
        raise UserError(
            f"mesh: {count} of {len(devices)} devices leave host {min(idle)} without any: use all devices, or fewer hosts"
        )
    # Auto: the compiler propagates shardings from the parameters, the batch and our constraints.
    return Mesh(arrange(tuple(sizes.values()), devices[:count]), AXES, axis_types=(AxisType.Auto,) * 4)


def replicated(mesh: Mesh) -> NamedSharding:
    """The sharding of an array that every device holds whole."""
    return NamedSharding(mesh, PartitionSpec())


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """The sharding of an array whose first axis runs over the examples of a batch."""
    return NamedSharding(mesh, PartitionSpec(BATCH_AXES))


@functools.lru_cache(maxsize=8)
def host_shards(mesh: Mesh, process: int | None = None) -> tuple[tuple[int, ...], int]:
    """Which rows of a batch the devices of a process (this one by default) hold.

    A mesh may order devices by their place in the machine rather than by host, and hosts that differ only along `tensor` hold
    the same rows: so the rows are asked of the mesh, not of `jax.process_index()`.

    Returns:
      `mine, of`: the batch cut into `of` equal shards, those numbered `mine` (ascending) are held here; `(0,), 1` for all.
    """
    process = jax.process_index() if process is None else process
    shards = math.prod(mesh.shape[axis] for axis in BATCH_AXES)
    held = batch_sharding(mesh).devices_indices_map((shards,))
    mine = tuple(sorted({rows.start or 0 for device, (rows,) in held.items() if device.process_index == process}))
    return ((0,), 1) if len(mine) == shards else (mine, shards)


def put_batch(batch: Any, mesh: Mesh) -> Any:
    """Places a host batch (any pytree of numpy arrays; leading axis = examples, scalars replicated) on the mesh.

    With several hosts each one passes the rows of its `host_shards`, in order; the result is the global batch, its rows in the
    same order however many hosts there are.

    Raises:
      UserError: the number of examples is not a multiple of the number of batch shards.
    """
    shards = math.prod(mesh.shape[axis] for axis in BATCH_AXES)
    mine, of = host_shards(mesh)
    sharded, whole = batch_sharding(mesh), replicated(mesh)

    def put(path: Any, leaf: Any) -> jax.Array:
        leaf = np.asarray(leaf)
        size = leaf.shape[0] * of // len(mine) if leaf.ndim else 0
        if size % shards:
            raise UserError(
                f"batch size {size} (array {jax.tree_util.keystr(path)}) is not a multiple of the mesh's {shards} "
                f"batch shards ({' x '.join(BATCH_AXES)}): choose a multiple of {shards} or a smaller mesh"
            )
        if jax.process_count() == 1:
            return jax.device_put(leaf, sharded if leaf.ndim else whole)
        if not leaf.ndim:
            return jax.make_array_from_callback((), whole, lambda index: leaf)
        share = size // of

        def rows(index: tuple[slice, ...]) -> np.ndarray:
            first, last, _ = index[0].indices(size)
            here = mine.index(first // share) * share + first % share
            return leaf[here : here + last - first]

        return jax.make_array_from_callback((size, *leaf.shape[1:]), sharded, rows)

    return jax.tree_util.tree_map_with_path(put, batch)
