"""LED-GFlowNet (Jang et al. 2024): where R has no form on partial states, learn one, phi(z -> z'), for forward-looking losses."""
import chex
import jax
import jax.numpy as jnp

from hjepa_gfn.gflownet.losses import Metrics


def decomposition_loss(
    key: jnp.ndarray, phi: jnp.ndarray, length: jnp.ndarray, log_reward: jnp.ndarray, keep: float = 0.9
) -> tuple[jnp.ndarray, Metrics]:
    """L = mean_B ( log R(z_n) / n - sum_t m_t phi_t / sum_t m_t )^2,   m_t ~ Bernoulli(keep)  (Jang et al. 2024, eq. 8).

    The dropout mask m spreads the reward evenly over the edges. Shapes: phi [B, T] of each edge, length int32 [B] >= 1 (an empty
    trajectory counts nothing), log_reward [B].
    """
    chex.assert_equal_shape([length, log_reward])
    edge = jnp.arange(phi.shape[1]) < length[:, None]
    kept = edge & jax.random.bernoulli(key, keep, phi.shape)
    kept = jnp.where(kept.any(-1, keepdims=True), kept, edge)  # a mask that drops all edges is no mask
    estimate = jnp.sum(jnp.where(kept, phi, 0.0), -1) / jnp.maximum(kept.sum(-1), 1)
    error = jnp.where(length > 0, log_reward / jnp.maximum(length, 1) - estimate, 0.0)
    loss = jnp.sum(error**2) / jnp.maximum((length > 0).sum(), 1)
    chex.assert_shape(loss, ())
    return loss, {"residual_rms": jnp.sqrt(jax.lax.stop_gradient(loss))}


def partial_log_reward(phi: jnp.ndarray, length: jnp.ndarray, log_reward: jnp.ndarray) -> jnp.ndarray:
    """The learned log R of every state on a trajectory, sum_{k<t} phi_k, no gradient: [B, T+1].

    The last state has the true log R (so that the terminal condition stays exact while phi is being learned).
    """
    edge = jnp.arange(phi.shape[1]) < length[:, None]
    run = jnp.cumsum(jnp.where(edge, jax.lax.stop_gradient(phi), 0.0), axis=-1)
    run = jnp.concatenate([jnp.zeros_like(run[:, :1]), run], axis=-1)
    return jnp.where(jnp.arange(run.shape[1]) == length[:, None], log_reward[:, None], run)
