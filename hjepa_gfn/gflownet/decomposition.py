"""LED-GFlowNet (Jang et al. 2024): where R has no form on partial states, forward-looking losses learn one, phi(z -> z')."""
import chex
import jax
import jax.numpy as jnp

from hjepa_gfn.gflownet.losses import Metrics


def decomposition_loss(
    key: jnp.ndarray, phi: jnp.ndarray, length: jnp.ndarray, log_reward: jnp.ndarray, keep: float = 0.9
) -> tuple[jnp.ndarray, Metrics]:
    """L = mean_B ( log R(z_n) / n - sum_t m_t phi_t / sum_t m_t )^2,   m_t ~ Bernoulli(keep)  (Jang et al. 2024, eq. 8).

    The dropout mask m spreads the reward evenly over the edges. Shapes: phi [B, T] of each edge, length int32 [B] >= 1 (an
    empty trajectory counts nothing), log_reward [B].
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


def partial_log_reward(phi: jnp.ndarray, length: jnp.ndarray) -> jnp.ndarray:
    """The learned log R of every state on a trajectory, sum_{k<t} phi_k, no gradient: [B, T+1]; zero at the root.

    Use it in `losses.forward_looking_flow` and close trajectories with `losses.with_terminal` and the true log R: the STOP
    edge then carries what phi has not learned. (Put in place of the last state's sum, the true log R would give a state two
    flows, one where trajectories stop in it and another where they pass through.) Where every state can stop, the result is
    exact if the sums do not depend on the way to a state, as with phi(z -> z') = psi(z') - psi(z).
    """
    edge = jnp.arange(phi.shape[1]) < length[:, None]
    run = jnp.cumsum(jnp.where(edge, jax.lax.stop_gradient(phi), 0.0), axis=-1)
    return jnp.concatenate([jnp.zeros_like(run[:, :1]), run], axis=-1)
