"""Logical axes to mesh axes: one declaration of a parameter yields its sharding on any mesh.

Linen modules declare `nn.with_logical_partitioning(init, ("embed", "mlp"))`; `ShardingRules` says which mesh axis each
name is spread over. A dimension that its mesh axes do not divide stays whole: small models run on any mesh.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import jax
from flax import linen as nn
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from hjepa_gfn.distributed.mesh import BATCH_AXES

MeshAxes = str | tuple[str, ...] | None


@dataclasses.dataclass(frozen=True)
class ShardingRules:
    """For each logical axis, the mesh axis (or axes) that it is spread over; None keeps it whole.

    The defaults are fully sharded data parallelism (`embed` over `fsdp`) with Megatron-style tensor parallelism
    (`mlp`, `heads`, `vocab` over `tensor`). Where two axes of one array name the same mesh axis, the first takes it.
    """

    batch: MeshAxes = BATCH_AXES
    length: MeshAxes = None  # time steps, words, plan tokens
    embed: MeshAxes = "fsdp"  # the width of the residual stream, in parameters
    features: MeshAxes = None  # the same width in activations, whose batch already uses fsdp
    mlp: MeshAxes = "tensor"
    heads: MeshAxes = "tensor"
    head_dim: MeshAxes = None
    vocab: MeshAxes = "tensor"  # words
    codes: MeshAxes = None  # state and action codes of plans
    layers: MeshAxes = None  # scanned blocks

    def spec(self, logical_axes: Sequence[str | None], shape: Sequence[int], mesh: Mesh) -> PartitionSpec:
        """The partition of an array with these logical axes.

        Raises:
          ValueError: an unknown logical axis, or not one name for each dimension.
        """
        if len(logical_axes) != len(shape):
            raise ValueError(f"logical axes {tuple(logical_axes)} do not fit an array of shape {tuple(shape)}")
        known = {field.name for field in dataclasses.fields(self)}
        taken: set[str] = set()
        spec = []
        for name, size in zip(logical_axes, shape):
            if name is not None and name not in known:
                raise ValueError(f"unknown logical axis {name!r}: ShardingRules knows {', '.join(sorted(known))}")
            axes = getattr(self, name) if name else None
            axes = (axes,) if isinstance(axes, str) else tuple(axes or ())
            axes = tuple(axis for axis in axes if axis not in taken)
            if not axes or size % math.prod(mesh.shape[axis] for axis in axes):
                spec.append(None)
                continue
            taken.update(axes)
            spec.append(axes if len(axes) > 1 else axes[0])
        return PartitionSpec(*spec)


def _is_box(leaf: Any) -> bool:
    return isinstance(leaf, nn.meta.AxisMetadata)


def unbox(tree: Any) -> Any:
    """The same pytree with Linen's axis metadata boxes replaced by the arrays in them."""
    # Not nn.unbox: that one also adds a sharding constraint by Linen's own global rules.
    return jax.tree.map(lambda leaf: leaf.value if _is_box(leaf) else leaf, tree, is_leaf=_is_box)


def param_shardings(boxed: Any, mesh: Mesh, rules: ShardingRules = ShardingRules()) -> Any:  # noqa: B008 (frozen)
    """A NamedSharding for each leaf of a pytree that has Linen's axis metadata boxes in it.

    Args:
      boxed: the result of `jax.eval_shape(init, ...)`: parameters, or a whole train state (optax's moments keep the
        boxes of the parameters they belong to). Leaves without a box are replicated.

    Returns:
      The pytree of `unbox(boxed)`, with shardings as leaves.
    """

    def sharding(leaf: Any) -> NamedSharding:
        if not _is_box(leaf):
            return NamedSharding(mesh, PartitionSpec())
        names = leaf.get_partition_spec() if not hasattr(leaf, "names") else leaf.names
        return NamedSharding(mesh, rules.spec(tuple(names), leaf.value.shape, mesh))

    return jax.tree.map(sharding, boxed, is_leaf=_is_box)


# A jit-cache-sensitive context: a function traced without a mesh is traced anew with one, never silently reused.
_layout = jax.make_user_context(default_value=None)


@contextmanager
def use_mesh(mesh: Mesh, rules: ShardingRules = ShardingRules()) -> Iterator[None]:  # noqa: B008 (frozen)
    """Within it (while tracing), `constrain` refers to this mesh and these rules."""
    with _layout((mesh, rules)):
        yield


def constrain(x: jax.Array, logical_axes: Sequence[str | None]) -> jax.Array:
    """States how an activation is spread, at a block boundary: `constrain(h, ("batch", "length", "features"))`.

    Does nothing outside `use_mesh` (evaluation, export, tests on one device).
    """
    layout = _layout.value
    if layout is None:
        return x
    mesh, rules = layout
    return jax.lax.with_sharding_constraint(x, NamedSharding(mesh, rules.spec(logical_axes, x.shape, mesh)))
