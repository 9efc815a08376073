"""GFlowNet losses over padded trajectories, as functions of log flows and log policies only.

Conventions: a trajectory visits states t = 0..n (n <= T), `length` = n. `log_flow` [B, T+1] holds log F(z_t),
`log_pf` [B, T] the forward policy at (z_t -> z_{t+1}) and `log_pb` [B, T] the backward policy of the same labelled
edge. Entries past n are ignored. Every state can stop, so the flow is read off the reward and the stop probability,
    log F(z) = log R(z) - log P_F(STOP | z),                                          (DESIGN section 3)
which makes the losses forward-looking (Pan et al. 2023): intermediate rewards enter every transition.
"""
import chex
import jax
import jax.numpy as jnp

Metrics = dict[str, jnp.ndarray]


def stop_flow(log_reward: jnp.ndarray, log_stop: jnp.ndarray) -> jnp.ndarray:
    """log F(z) = log R(z) - log P_F(STOP|z), elementwise; exact wherever STOP is legal."""
    chex.assert_equal_shape([log_reward, log_stop])
    return log_reward - log_stop


def balance_potential(log_flow: jnp.ndarray, log_pf: jnp.ndarray, log_pb: jnp.ndarray) -> jnp.ndarray:
    """a_t = log F(z_t) - sum_{k<t} (log P_F,k - log P_B,k), so that the residual of sub-trajectory i..j is a_i - a_j.

    Shapes: log_flow [B, T+1], log_pf and log_pb [B, T] (zero past the end) -> [B, T+1].
    """
    batch, states = log_flow.shape
    chex.assert_shape([log_pf, log_pb], (batch, states - 1))
    spent = jnp.cumsum(log_pf - log_pb, axis=-1)
    return log_flow - jnp.concatenate([jnp.zeros((batch, 1)), spent], axis=-1)


def subtb(potential: jnp.ndarray, present: jnp.ndarray, lam: float = 0.9) -> tuple[jnp.ndarray, Metrics]:
    """SubTB(lambda) (Madan et al. 2022, eq. 10) as a linear recursion.

        L = mean_B  sum_{i<j} lambda^{rank j - rank i} (a_i - a_j)^2 / sum_{i<j} lambda^{rank j - rank i}
    over the states that are `present`. With S0_j = sum_{i<j} lambda^{j-i}, S1_j = sum lambda^{j-i} a_i and S2_j
    likewise with a_i^2, the inner sum is S0_j a_j^2 - 2 S1_j a_j + S2_j: O(T) instead of O(T^2).

    Args:
      potential: [B, A] values a_t of `balance_potential` at the states taken as ends of sub-trajectories.
      present: bool [B, A] which of them exist; at least two a row, or the row counts nothing.
    """
    chex.assert_equal_shape([potential, present])
    # residuals are differences: centring keeps the squares small in float32
    first = jax.lax.stop_gradient(jnp.sum(jnp.where(present, potential, 0.0), -1) / jnp.maximum(present.sum(-1), 1))
    a = jnp.where(present, potential - first[:, None], 0.0)

    def step(carry, column):
        s0, s1, s2 = carry
        a_j, here = column
        total = s0 * a_j**2 - 2.0 * s1 * a_j + s2
        grown = (lam * (s0 + 1.0), lam * (s1 + a_j), lam * (s2 + a_j**2))
        carry = jax.tree.map(lambda new, old: jnp.where(here, new, old), grown, carry)
        return carry, (jnp.where(here, total, 0.0), jnp.where(here, s0, 0.0))

    zeros = (jnp.zeros(a.shape[0]),) * 3
    _, (terms, weights) = jax.lax.scan(step, zeros, (a.T, present.T))
    weight = weights.sum(0)
    per_row = terms.sum(0) / jnp.maximum(weight, 1e-9)
    loss = jnp.sum(jnp.where(weight > 0, per_row, 0.0)) / jnp.maximum((weight > 0).sum(), 1)
    chex.assert_shape(loss, ())
    return loss, {"residual_rms": jnp.sqrt(jax.lax.stop_gradient(loss))}


def trajectory_balance(potential: jnp.ndarray, length: jnp.ndarray) -> tuple[jnp.ndarray, Metrics]:
    """TB (Malkin et al. 2022): L = mean_B (a_0 - a_n)^2. Shapes: potential [B, T+1], length int32 [B]."""
    chex.assert_shape(length, potential.shape[:1])
    last = jnp.take_along_axis(potential, length[:, None], axis=-1, mode="clip")[:, 0]
    loss = jnp.mean((potential[:, 0] - last) ** 2)
    return loss, {"residual_rms": jnp.sqrt(jax.lax.stop_gradient(loss))}


def detailed_balance(potential: jnp.ndarray, length: jnp.ndarray) -> tuple[jnp.ndarray, Metrics]:
    """DB (Bengio et al. 2023) over visited edges: L = mean over edges of (a_t - a_{t+1})^2. Shapes as above."""
    chex.assert_shape(length, potential.shape[:1])
    edge = jnp.arange(potential.shape[1] - 1) < length[:, None]
    squared = jnp.where(edge, (potential[:, :-1] - potential[:, 1:]) ** 2, 0.0)
    loss = squared.sum() / jnp.maximum(edge.sum(), 1)
    return loss, {"residual_rms": jnp.sqrt(jax.lax.stop_gradient(loss))}


def trajectory_nll(log_pf: jnp.ndarray, log_stop_end: jnp.ndarray, weight: jnp.ndarray) -> tuple[jnp.ndarray, Metrics]:
    """L = -sum_B w log P_F(trajectory, STOP) / sum_B w: sleep phase, and grounding in observed plans.

    Shapes: log_pf [B, T] (zero past the end), log_stop_end [B], weight [B].
    """
    chex.assert_equal_shape([log_stop_end, weight])
    log_prob = log_pf.sum(-1) + log_stop_end
    loss = -jnp.sum(weight * log_prob) / jnp.maximum(weight.sum(), 1e-9)
    chex.assert_shape(loss, ())
    return loss, {"nll": jax.lax.stop_gradient(loss)}
