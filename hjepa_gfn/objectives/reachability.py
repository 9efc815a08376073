"""The reachability head of a level: which states follow a state within a segment, learned by contrast."""
import chex
import jax
import jax.numpy as jnp

from hjepa_gfn.objectives.segments import Segments
from hjepa_gfn.objectives.system import Params, System

OTHERS = 4  # rows of the batch that each pair is held against, at most


def mean_over(x: jnp.ndarray, mask: jnp.ndarray) -> jnp.ndarray:
    """Mean of x [..., Z] over the last axis and the masked positions."""
    return jnp.sum(jnp.mean(x, -1) * mask) / jnp.maximum(mask.sum(), 1.0)


def last_of_segment(valid: jnp.ndarray, above: Segments | None) -> tuple[jnp.ndarray, jnp.ndarray]:
    """Of units valid bool [B, n]: (the last unit int32 [B, n] of each unit's segment, whether it has one bool [B, n]).

    above: the segments that the units form; None: all valid units of a row are one.
    """
    member = valid[:, None] if above is None else above.member > 0
    end = jnp.max(jnp.where(member, jnp.arange(valid.shape[1]), -1), -1, keepdims=True)  # [B, K, 1]
    return jnp.max(jnp.where(member, end, -1), 1), valid & member.any(1)


def reach_loss(
    system: System, params: Params, key: jnp.ndarray, z: jnp.ndarray, decoded: jnp.ndarray, valid: jnp.ndarray,
    above: Segments | None, level: int,
) -> tuple[jnp.ndarray, dict[str, jnp.ndarray]]:
    """Noise-contrastive estimation (Gutmann & Hyvarinen 2010) of whether a state follows another within its segment:

        L = mean softplus(-r(z_t, z_t')) + mean softplus(r(z_t, z~)),
    t' a later unit's end in the segment of t, drawn uniformly; z~ the same states of other rows. At the optimum r is the log of
    how much likelier than by chance z_t' is after z_t (for as many z~ as z_t'). As the energy asks about codes, the states are
    those that codes stand for, save a window's first. Detached: the head alone learns.

    Args:
      z, decoded: [B, n+1, Z] states of a level and what their codes stand for.
      valid: bool [B, n]. above: see `last_of_segment`.

    Returns: loss [] and metrics reach (the loss) and reach_accuracy (share of pairs on the right side of 0, both kinds alike).
    """
    chex.assert_equal_shape([z, decoded])
    last, counted = last_of_segment(valid, above)
    t = jnp.arange(valid.shape[1])
    later = t + 1 + jnp.floor(jax.random.uniform(key, valid.shape) * (last - t + 1)).astype(jnp.int32)
    seen = jax.lax.stop_gradient(jnp.concatenate([z[:, :1], decoded[:, 1:]], axis=1))
    left = seen[:, :-1]
    right = jnp.take_along_axis(seen, later[..., None], axis=1, mode="clip")
    ask = lambda after: system.level(params, left, after, method="reach", level=level)[..., None]  # noqa: E731
    mask = counted.astype(jnp.float32)
    hit = ask(right)
    loss, good = mean_over(jax.nn.softplus(-hit), mask), mean_over(1.0 * (hit > 0), mask)
    count = min(OTHERS, z.shape[0] - 1)
    for shift in range(1, count + 1):
        both = mask * jnp.roll(mask, shift, axis=0)
        miss = ask(jnp.roll(right, shift, axis=0))
        loss += mean_over(jax.nn.softplus(miss), both) / count
        good += mean_over(1.0 * (miss < 0), both) / count
    chex.assert_shape(loss, ())
    return loss, {"reach": loss, "reach_accuracy": good / (2 if count else 1)}
