"""Train states as nested dicts of plain arrays, which is all that goes to disk.

A checkpoint then depends neither on our classes nor on optax's: renaming a NamedTuple breaks nothing, and parameters
can be read without the code that trained them.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


def _name(key: Any) -> str:
    for attribute in ("name", "key", "idx"):
        if hasattr(key, attribute):
            return str(getattr(key, attribute))
    return str(key)


def path_names(path: tuple[Any, ...]) -> tuple[str, ...]:
    """A leaf's path as strings: attribute names, dict keys and list positions."""
    return tuple(_name(key) for key in path)


def to_nested(tree: Any) -> dict[str, Any]:
    """A pytree (arrays or `ShapeDtypeStruct`s) as nested dicts of strings to arrays.

    Arrays without elements are left out: they carry no information and storage refuses them.
    """
    nested: dict[str, Any] = {}
    for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]:
        if not np.prod(leaf.shape, dtype=np.int64):
            continue
        *parents, last = path_names(path) or ("value",)
        place = nested
        for parent in parents:
            place = place.setdefault(parent, {})
        if last in place:
            raise ValueError(f"two leaves of the state are named {jax.tree_util.keystr(path)}")
        place[last] = leaf
    return nested


def from_nested(nested: dict[str, Any], template: Any) -> Any:
    """The inverse of `to_nested`: the template's structure with the arrays of `nested`."""

    def pick(path: tuple[Any, ...], leaf: Any) -> Any:
        if not np.prod(leaf.shape, dtype=np.int64):
            return jax.device_put(np.zeros(leaf.shape, leaf.dtype), leaf.sharding)
        value: Any = nested
        for name in path_names(path) or ("value",):
            value = value[name]
        return value

    return jax.tree_util.tree_map_with_path(pick, template)


def leaves(nested: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested dicts flattened: `{"params/dense/kernel": array}`."""
    flat: dict[str, Any] = {}
    for name, value in nested.items():
        path = f"{prefix}{name}"
        flat.update(leaves(value, path + "/") if isinstance(value, dict) else {path: value})
    return flat


_UNSIGNED = {1: jnp.uint8, 2: jnp.uint16, 4: jnp.uint32, 8: jnp.uint32}


@jax.jit
def _fingerprint(flat: dict[str, jax.Array]) -> dict[str, jax.Array]:
    def one(x: jax.Array) -> jax.Array:
        if x.dtype == jnp.bool_:
            x = x.astype(jnp.uint8)
        bits = jax.lax.bitcast_convert_type(x, _UNSIGNED[x.dtype.itemsize]).astype(jnp.uint32).reshape(-1)
        # Odd weights: any change of one word changes the sum. Sums of integers are the same on every mesh.
        weights = (2 * jnp.arange(bits.size, dtype=jnp.uint32) + 1) * jnp.uint32(2654435761)
        return jnp.sum(bits * weights, dtype=jnp.uint32)

    return {name: one(x) for name, x in flat.items()}


def fingerprint(nested: dict[str, Any]) -> dict[str, int]:
    """A 32-bit checksum of each array's bits, computed where the array lies (no gathering of shards)."""
    return {name: int(value) for name, value in jax.device_get(_fingerprint(leaves(nested))).items()}
