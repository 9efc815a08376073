"""Logical axes to mesh axes: one declaration of a parameter yields its sharding on any mesh.

Linen modules declare `nn.with_logical_partitioning(init, ("embed", "mlp"))`; `ShardingRules` says which mesh axis each
name is spread over. A dimension that its mesh axes do not divide is an error, or stays whole (`uneven="whole"`: small models
run on any mesh).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import jax
from flax import linen as nn
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from hjepa_gfn.distributed.mesh import AXES, BATCH_AXES
from hjepa_gfn.errors import UserError

MeshAxes = str | tuple[str, ...] | None
_CHOICES = {"uneven": ("error", "whole"), "sampling": ("spread", "gathered")}  # fields of the rules that are no logical axis


@dataclasses.dataclass(frozen=True)
class ShardingRules:
    """For each logical axis, the mesh axis (or axes) that it is spread over; None keeps it whole.

    The defaults are fully sharded data parallelism (`embed` over `fsdp`) with Megatron-style tensor parallelism
    (`mlp`, `heads`, `vocab` over `tensor`).
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
    uneven: str = "error"  # what to do with a dimension that does not divide: "error", or "whole" to leave it unsharded
    # the parameters that plans and texts are sampled with: "spread" as they are held, gathered anew for every edit and word;
    # or "gathered" once a step, a copy on every device (`tensor` still spreads it)
    sampling: str = "spread"

    def __post_init__(self) -> None:
        for name, allowed in _CHOICES.items():
            if getattr(self, name) not in allowed:
                raise UserError(f"sharding.{name}={getattr(self, name)!r}: must be {' or '.join(map(repr, allowed))}")
        for name in _logical_axes():
            for axis in mesh_axes(getattr(self, name)):
                if axis not in AXES:
                    raise UserError(f"sharding.{name}: no mesh axis {axis!r}; there are {', '.join(AXES)}")

    def spec(
        self, logical_axes: Sequence[str | None], shape: Sequence[int], mesh: Mesh, what: str = "an array"
    ) -> PartitionSpec:
        """The partition of an array with these logical axes; `what` names it in errors.

        Raises:
          UserError: two of its dimensions would be spread over one mesh axis, or a dimension does not divide.
          ValueError: an unknown logical axis, or not one name for each dimension.
        """
        if len(logical_axes) != len(shape):
            raise ValueError(f"logical axes {tuple(logical_axes)} do not fit {what} of shape {tuple(shape)}")
        known = _logical_axes()
        taken: dict[str, str] = {}
        spec: list[MeshAxes] = []
        for name, size in zip(logical_axes, shape):
            if name is not None and name not in known:
                raise ValueError(f"unknown logical axis {name!r}: ShardingRules knows {', '.join(sorted(known))}")
            axes = mesh_axes(getattr(self, name)) if name else ()
            # mesh axes of size 1 spread nothing: the first dimension takes them
            axes = tuple(axis for axis in axes if axis not in taken or mesh.shape[axis] > 1)
            for axis in axes:
                if axis in taken:
                    raise UserError(
                        f"sharding rules collide on {what} {tuple(logical_axes)}: both {taken[axis]!r} and {name!r} are spread "
                        f"over the mesh axis {axis!r}; give one of them another axis, or none")
                taken[axis] = name
            parts = math.prod(mesh.shape[axis] for axis in axes)
            if size % parts:
                if self.uneven == "error":
                    raise UserError(
                        f"{what} of shape {tuple(shape)}: dimension {name!r} ({size}) is not a multiple of the {parts} shards "
                        f"of mesh axes {' x '.join(axes)}; change the size or the mesh, or set sharding.uneven='whole' to "
                        "leave such dimensions unsharded")
                axes = ()
            spec.append(axes if len(axes) > 1 else axes[0] if axes else None)
        return PartitionSpec(*spec)


def _logical_axes() -> tuple[str, ...]:
    return tuple(field.name for field in dataclasses.fields(ShardingRules) if field.name not in _CHOICES)


def mesh_axes(axes: MeshAxes) -> tuple[str, ...]:
    """What a rule, or an entry of a partition, is spread over, as a tuple."""
    return (axes,) if isinstance(axes, str) else tuple(axes or ())


def _is_box(leaf: Any) -> bool:
    return isinstance(leaf, nn.meta.AxisMetadata)


def unbox(tree: Any) -> Any:
    """The same pytree with Linen's axis metadata boxes replaced by the arrays in them."""
    # Not nn.unbox: that one also adds a sharding constraint by Linen's own global rules.
    return jax.tree.map(lambda leaf: leaf.value if _is_box(leaf) else leaf, tree, is_leaf=_is_box)


def logical_axes(boxed: Any) -> Any:
    """The pytree of `unbox(boxed)` with a tuple of logical axes, or None, for each leaf."""
    return jax.tree.map(lambda leaf: tuple(leaf.names) if _is_box(leaf) else None, boxed, is_leaf=_is_box)


def param_shardings(boxed: Any, mesh: Mesh, rules: ShardingRules = ShardingRules()) -> Any:  # noqa: B008 (frozen)
    """A NamedSharding for each leaf of a pytree that has Linen's axis metadata boxes in it.

    Args:
      boxed: the result of `jax.eval_shape(init, ...)`: parameters, or a whole train state (optax's moments keep the
        boxes of the parameters they belong to). Leaves without a box are replicated.

    Returns:
      The pytree of `unbox(boxed)`, with shardings as leaves.
    """

    def sharding(path: Any, leaf: Any) -> NamedSharding:
        if not _is_box(leaf):
            return NamedSharding(mesh, PartitionSpec())
        names = leaf.get_partition_spec() if not hasattr(leaf, "names") else leaf.names
        return NamedSharding(mesh, rules.spec(tuple(names), leaf.value.shape, mesh, jax.tree_util.keystr(path)))

    return jax.tree_util.tree_map_with_path(sharding, boxed, is_leaf=_is_box)


# A jit-cache-sensitive context: a function traced without a mesh is traced anew with one, never silently reused.
_layout = jax.make_user_context(default_value=None)
_group_axes = jax.make_user_context(default_value=())


@contextmanager
def use_mesh(mesh: Mesh, rules: ShardingRules = ShardingRules()) -> Iterator[None]:  # noqa: B008 (frozen)
    """Within it (while tracing), `constrain` refers to this mesh and these rules."""
    with _layout((mesh, rules)):
        yield


def layout() -> tuple[Mesh, ShardingRules] | None:
    """The mesh and the rules in use."""
    return _layout.value


def group_axes() -> tuple[str, ...]:
    """The mesh axes that the groups of `in_groups` are spread over, within its function; () elsewhere."""
    return _group_axes.value


@contextmanager
def batch_over(axes: MeshAxes) -> Iterator[None]:
    """Within it (while tracing), the logical axis `batch` is spread over these mesh axes only."""
    layout = _layout.value
    with _layout(layout and (layout[0], dataclasses.replace(layout[1], batch=axes))):
        yield


@contextmanager
def rows_whole() -> Iterator[None]:
    """Within it (while tracing), the logical axis `batch` is not spread: for tables, and for rows that are spread already."""
    with batch_over(None):
        yield


@contextmanager
def no_mesh() -> Iterator[None]:
    """Within it (while tracing), `constrain` does nothing: for shapes alone."""
    with _layout(None):
        yield


def constrain(x: jax.Array, logical_axes: Sequence[str | None]) -> jax.Array:
    """States how an activation is spread, at a block boundary: `constrain(h, ("batch", "length", "features"))`.

    Does nothing outside `use_mesh` (evaluation, export, tests on one device).
    """
    layout = _layout.value
    if layout is None:
        return x
    mesh, rules = layout
    spec = rules.spec(logical_axes, x.shape, mesh, "an activation")
    return jax.lax.with_sharding_constraint(x, NamedSharding(mesh, spec))


def per_device(fn: Callable[..., jax.Array], axes: Sequence[Sequence[str | None]]) -> Callable[..., jax.Array]:
    """`fn` of arrays with these logical axes, as each device runs it on its own shards: for kernels, which the partitioner
    cannot divide. The result has the axes of the first argument. Outside `use_mesh`: `fn` itself.

    Raises (when called):
      UserError: see `ShardingRules.spec`.
    """
    layout = _layout.value
    if layout is None:
        return fn
    mesh, rules = layout

    def call(*args: jax.Array) -> jax.Array:
        specs = tuple(rules.spec(names, x.shape, mesh, "an activation") for names, x in zip(axes, args, strict=True))
        # check_vma: Pallas kernels do not say over which axes their results vary
        return jax.shard_map(fn, mesh=mesh, in_specs=specs, out_specs=specs[0], check_vma=False)(*args)

    return call


def platform() -> str:
    """What programs are traced for: the platform of the mesh in use ("tpu" also where it is only described), or JAX's own."""
    layout = _layout.value
    return layout[0].devices.flat[0].platform if layout else jax.default_backend()


def settled(values: Any) -> Any:
    """The values themselves, computed once and before anything that uses them; but for GPUs that is left to the compiler.

    XLA's GPU compiler fuses what is cheap to compute (random draws, the integers of plans) into every use, and use of a use:
    kernels of a train step then took many minutes to compile.
    """
    return jax.lax.optimization_barrier(values) if platform() in ("gpu", "cuda") else values


def gather_for_sampling(params: Any, axes: Any, dtype: str) -> Any:
    """The copy of parameters that `sampling="gathered"` asks for; None where the rules ask for none (or outside `use_mesh`).

    A sampler passes through the layers once for every edit and word. Weights that are spread over batch axes are sent around
    the pod in each pass; gathered before the loop, they are sent once.

    Args:
      params: unboxed parameters. axes: their `logical_axes`.
      dtype: of the copy of the scanned layers, which is nearly all of it: what they compute in anyway.
    """
    layout = _layout.value
    if layout is None or layout[1].sampling == "spread":
        return None
    mesh, rules = layout

    def copy(leaf: jax.Array, names: tuple[str | None, ...] | None) -> jax.Array:
        names = names or (None,) * leaf.ndim
        held = rules.spec(names, leaf.shape, mesh, "a parameter")
        kept = [tuple(axis for axis in mesh_axes(over) if axis not in BATCH_AXES) or None for over in held]
        leaf = leaf.astype(dtype) if "layers" in names else leaf
        return jax.lax.with_sharding_constraint(leaf, NamedSharding(mesh, PartitionSpec(*kept)))

    # the barrier: compilers for some TPUs (tpu7x) otherwise moved the gathering back into the loop
    return jax.lax.optimization_barrier(jax.tree.map(copy, params, axes, is_leaf=lambda node: node is None))


def in_groups(fn: Callable[[jax.Array, Any], Any], keys: jax.Array, batch: Any) -> Any:
    """`fn(key, part)` for each of keys [G] and of G equal parts of the batch's leading axis; results get an axis [G] in front.

    On a mesh whose batch shards divide G, each device works on whole groups: whatever `fn` does with the rows of its
    group (slice, concatenate, gather, sort) stays on the device, where the same over the whole batch would send activations
    around the pod. What `fn` computes depends on the number of groups, never on the mesh.

    Raises:
      UserError: the groups do not divide the batch.
    """
    groups = keys.shape[0]

    def split(x: jax.Array) -> jax.Array:
        if x.shape[0] % groups:
            raise UserError(f"groups={groups} does not divide the {x.shape[0]} rows of a batch")
        return x.reshape(groups, x.shape[0] // groups, *x.shape[1:])

    if groups == 1:  # nothing to keep apart: the rows of the one group are spread, and loops that end early copy no state
        return jax.tree.map(lambda x: x[None], fn(keys[0], batch))
    batch = jax.tree.map(split, batch)
    layout = _layout.value
    if layout is None:
        return jax.vmap(fn)(keys, batch)
    mesh, rules = layout
    over = rules.spec(("batch",), (groups,), mesh, "the groups of a batch")[0]
    batch = jax.tree.map(lambda x: constrain(x, ("batch",) + (None,) * (x.ndim - 1)), batch)
    with rows_whole(), _group_axes(mesh_axes(over)):  # the mesh's batch axes are taken by the groups
        return jax.vmap(fn, spmd_axis_name=over)(keys, batch)
