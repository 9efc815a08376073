"""GFlowNet losses over padded trajectories, as functions of log flows and log policies only.

Conventions: a trajectory visits states t = 0..n (n <= T), `length` = n, and STOPs in z_n, which leads to the terminal copy of
z_n with P_B = 1. `log_flow` [B, T+1] holds log F(z_t), `log_pf` [B, T] the forward policy at (z_t -> z_{t+1}), `log_pb` [B, T]
the backward policy of the same labelled edge, `log_stop` log P_F(STOP|z). Entries past n are ignored. All losses are written on
the *potential*

    a_t = log F(z_t) - sum_{k<t} (log P_F - log P_B),

for which the residual of the sub-trajectory i..j is a_i - a_j. There are two forms of it:

    stop form   every state can STOP, so the flow is read off the reward, log F(z) = log R(z) - log P_F(STOP|z) (`stop_flow`):
                no flow network, forward-looking by construction (Pan et al. 2023), no terminal node: a_0..a_n balance alone;
    head form   log F is a network's (or F~ with the reward of partial states, `forward_looking_flow`), and the terminal copy
                closes the trajectory as node n+1 (`with_terminal`): that anchors log F~(terminal) = 0.

Everything is conditional: log Z is log F(root) in each row's context, never one scalar.
"""
import chex
import jax
import jax.numpy as jnp

Metrics = dict[str, jnp.ndarray]


def stop_flow(log_reward: jnp.ndarray, log_stop: jnp.ndarray) -> jnp.ndarray:
    """log F(z) = log R(z) - log P_F(STOP|z), elementwise; exact wherever STOP is legal."""
    chex.assert_equal_shape([log_reward, log_stop])
    return log_reward - log_stop


def forward_looking_flow(log_partial_reward: jnp.ndarray, log_flow_tilde: jnp.ndarray) -> jnp.ndarray:
    """log F(z) = log R(z) + log F~(z), R(z) = e^-E(z) also on partial states (Pan et al. 2023, eq. 6), elementwise."""
    chex.assert_equal_shape([log_partial_reward, log_flow_tilde])
    return log_partial_reward + log_flow_tilde


def balance_potential(log_flow: jnp.ndarray, log_pf: jnp.ndarray, log_pb: jnp.ndarray) -> jnp.ndarray:
    """a_t = log F(z_t) - sum_{k<t} (log P_F,k - log P_B,k), so that the residual of sub-trajectory i..j is a_i - a_j.

    Shapes: log_flow [B, T+1], log_pf and log_pb [B, T] (zero past the end) -> [B, T+1].
    """
    batch, states = log_flow.shape
    chex.assert_shape([log_pf, log_pb], (batch, states - 1))
    spent = jnp.cumsum(log_pf - log_pb, axis=-1)
    return log_flow - jnp.concatenate([jnp.zeros((batch, 1)), spent], axis=-1)


def terminal_potential(
    log_pf: jnp.ndarray, log_pb: jnp.ndarray, log_stop_end: jnp.ndarray, log_reward: jnp.ndarray
) -> jnp.ndarray:
    """a of the terminal copy: log R(z_n) - sum_t (log P_F - log P_B) - log P_F(STOP|z_n), an unbiased look at log Z. [B]."""
    chex.assert_equal_shape([log_stop_end, log_reward])
    return log_reward - jnp.sum(log_pf - log_pb, axis=-1) - log_stop_end


def with_terminal(potential: jnp.ndarray, terminal: jnp.ndarray, length: jnp.ndarray) -> tuple[jnp.ndarray, jnp.ndarray]:
    """Closes each trajectory with its terminal node: ([B, T+2], length + 1).

    potential [B, T+1], terminal [B] (of `terminal_potential`), length int32 [B].
    """
    chex.assert_shape([terminal, length], potential.shape[:1])
    longer = jnp.concatenate([potential, jnp.zeros_like(potential[:, :1])], axis=-1)
    at_end = jnp.arange(longer.shape[1]) == (length + 1)[:, None]
    return jnp.where(at_end, terminal[:, None], longer), length + 1


def is_present(potential: jnp.ndarray, length: jnp.ndarray) -> jnp.ndarray:
    """bool, shape of `potential`: the nodes 0..length."""
    return jnp.arange(potential.shape[1]) <= length[:, None]


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


def log_partition_variance(terminal: jnp.ndarray, context: jnp.ndarray, contexts: int) -> tuple[jnp.ndarray, Metrics]:
    """VarGrad-TB (Richter et al. 2020; Zhang et al. 2023): TB with log Z(c) replaced by the batch's own estimate,

        L = mean_B (a_b - mean_{b' in the same context} a_b')^2,   a = `terminal_potential`.
    Shapes: terminal [B], context int32 [B] in [0, contexts). A context with a single row contributes nothing.
    """
    chex.assert_equal_shape([terminal, context])
    count = jnp.zeros(contexts).at[context].add(1.0)
    mean = jnp.zeros(contexts).at[context].add(terminal) / jnp.maximum(count, 1.0)
    loss = jnp.mean((terminal - mean[context]) ** 2)
    return loss, {"residual_rms": jnp.sqrt(jax.lax.stop_gradient(loss)), "log_z": jax.lax.stop_gradient(mean)}


def modified_detailed_balance(
    log_reward: jnp.ndarray, log_stop: jnp.ndarray, log_pf: jnp.ndarray, log_pb: jnp.ndarray, length: jnp.ndarray
) -> tuple[jnp.ndarray, Metrics]:
    """Modified DB (Deleu et al. 2022, eq. 9), where every state can STOP:

        log R(z') + log P_B(z|z') + log P_F(STOP|z) - log R(z) - log P_F(z'|z) - log P_F(STOP|z') = 0 for each edge,
    which is detailed balance in the stop form. Shapes: log_reward, log_stop [B, T+1]; log_pf, log_pb [B, T].
    """
    return detailed_balance(balance_potential(stop_flow(log_reward, log_stop), log_pf, log_pb), length)


def trajectory_nll(log_pf: jnp.ndarray, log_stop_end: jnp.ndarray, weight: jnp.ndarray) -> tuple[jnp.ndarray, Metrics]:
    """L = -sum_B w log P_F(trajectory, STOP) / sum_B w: sleep phase, and grounding in observed plans.

    Shapes: log_pf [B, T] (zero past the end), log_stop_end [B], weight [B].
    """
    chex.assert_equal_shape([log_stop_end, weight])
    log_prob = log_pf.sum(-1) + log_stop_end
    loss = -jnp.sum(weight * log_prob) / jnp.maximum(weight.sum(), 1e-9)
    chex.assert_shape(loss, ())
    return loss, {"nll": jax.lax.stop_gradient(loss)}
