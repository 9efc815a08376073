"""Finite scalar quantisation (Mentzer et al. 2023, arXiv:2309.15505): a code is a grid point, nothing is learned."""
import jax
import jax.numpy as jnp
import numpy as np


def num_codes(levels: tuple[int, ...]) -> int:
    """Number of points of the grid with `levels` values a dimension."""
    return int(np.prod(levels))


def bound(u: jnp.ndarray, levels: tuple[int, ...]) -> jnp.ndarray:
    """Squashes [..., F] into the grid's range: (L-1)/2 * tanh, levels must be odd (symmetric grids)."""
    half = (jnp.asarray(levels, jnp.float32) - 1.0) / 2.0
    return jnp.tanh(u) * (half + 0.4)  # 0.4: the outermost cells get a fair share of the real line


def quantise(u: jnp.ndarray, levels: tuple[int, ...]) -> jnp.ndarray:
    """Grid point of [..., F], scaled to [-1, 1], with the straight-through gradient of `bound`."""
    half = (jnp.asarray(levels, jnp.float32) - 1.0) / 2.0
    bounded = bound(u, levels)
    rounded = jnp.clip(jnp.round(bounded), -half, half)
    return (bounded + jax.lax.stop_gradient(rounded - bounded)) / half


def to_code(grid: jnp.ndarray, levels: tuple[int, ...]) -> jnp.ndarray:
    """int32 [...] code of grid points [..., F] in [-1, 1]."""
    half = (np.asarray(levels) - 1) / 2
    digits = jnp.round(grid * half + half).astype(jnp.int32)
    place = np.concatenate([[1], np.cumprod(levels[:-1])]).astype(np.int32)
    return jnp.sum(digits * place, axis=-1).astype(jnp.int32)


def from_code(code: jnp.ndarray, levels: tuple[int, ...]) -> jnp.ndarray:
    """Grid points [..., F] in [-1, 1] of codes int32 [...]."""
    half = (np.asarray(levels) - 1) / 2
    place = np.concatenate([[1], np.cumprod(levels[:-1])]).astype(np.int32)
    digits = code[..., None] // place % np.asarray(levels)
    return ((digits - half) / half).astype(jnp.float32)
