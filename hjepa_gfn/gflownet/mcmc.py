"""Back-and-forth Metropolis-Hastings over terminal states (Zhang et al. 2022; DESIGN section 5).

A move undoes K edits with P_B, then edits forward with P_F until STOP. On the space of the path it takes, with the
number of steps K drawn from q(K|z) (`schedules`), the move z -> u -> z' is accepted with probability min(1, exp(log_ratio)):

    log_ratio = log R(z') + log q(K'|z') + log P_B(z' ~> u) + log P_F(u ~> z, STOP)
              - log R(z)  - log q(K|z)   - log P_B(z  ~> u) - log P_F(u ~> z', STOP),       K' = n' - (n - K).

Leaving out q where K depends on the length is wrong (measured: total variation 0.117).
"""
from collections.abc import Callable
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp

from hjepa_gfn.gflownet.environment import FlatEnvironment
from hjepa_gfn.gflownet.policy import Network, behaviour, evaluate, noise_of
from hjepa_gfn.gflownet.rollout import Trajectory, sample_trajectories
from hjepa_gfn.gflownet.schedules import Schedule, Uniform


class Move(NamedTuple):
    """One proposed move; all leaves [B]."""

    log_reward_old: jnp.ndarray
    log_reward_new: jnp.ndarray
    log_back: jnp.ndarray           # log P_B(z ~> u)
    log_forth: jnp.ndarray          # log P_F(u ~> z', STOP)
    log_back_reverse: jnp.ndarray   # log P_B(z' ~> u)
    log_forth_reverse: jnp.ndarray  # log P_F(u ~> z, STOP)
    log_k: jnp.ndarray              # log q(K|z)
    log_k_reverse: jnp.ndarray      # log q(K'|z')


PathLogProbs = tuple[jnp.ndarray, jnp.ndarray]  # (log P_B of a path undone, log P_F of it taken, STOP included), each [B]


class Walker(NamedTuple):
    """What a move needs of an environment and its policies."""

    depth: Callable[[Any], jnp.ndarray]
    """states -> int32 [B], edges from the root."""
    sample: Callable[[jnp.ndarray, Any, bool, jnp.ndarray | None], Trajectory]
    """(key, start, forward, steps) -> trajectories: until STOP, or `steps` back. No gradient."""
    evaluate: Callable[[Trajectory, Trajectory], tuple[PathLogProbs, PathLogProbs]]
    """Log probabilities of two batches of trajectories, together (one call of the network)."""
    log_reward: Callable[[Any, Any], tuple[jnp.ndarray, jnp.ndarray]]
    """(old, new) terminals -> log R of both."""


def flat_walker(env: FlatEnvironment, network: Network, params: Any) -> Walker:
    """The walker of a flat environment; gradients flow to `params` through `evaluate` only."""
    behave = behaviour(env, network, jax.lax.stop_gradient(params))

    def sample(key, start, forward, steps):
        noise = noise_of(env, key, jax.tree.leaves(start)[0].shape[0])
        return sample_trajectories(env, behave, noise, start, forward, steps)

    def evaluate_both(back, forth):
        batch = back.length.shape[0]
        both = jax.tree.map(lambda a, b: jnp.concatenate([a, b]), back, forth)
        path = evaluate(env, network, params, both)
        undone, taken = path.log_pb.sum(-1), path.log_pf.sum(-1) + path.stop_at_end
        return (undone[:batch], taken[:batch]), (undone[batch:], taken[batch:])

    return Walker(env.depth, sample, evaluate_both, lambda old, new: (env.log_reward(old), env.log_reward(new)))


def propose(
    key: jnp.ndarray, walker: Walker, state: Any, schedule: Schedule = Uniform(),  # noqa: B008 (immutable)
    step: jnp.ndarray | int = 0,
) -> tuple[Any, Move, jnp.ndarray]:
    """Undoes K ~ q(K|n, step) edges of each row of `state` [B, ...], then goes forward: (new states, the move, K int32 [B])."""
    k_steps, k_back, k_forth = jax.random.split(key, 3)
    length = walker.depth(state)
    steps = schedule.draw(jax.random.uniform(k_steps, length.shape), length, step)
    back = walker.sample(k_back, state, False, steps)
    forth = walker.sample(k_forth, back.first, True, None)
    new = forth.final
    (log_back, log_forth_reverse), (log_back_reverse, log_forth) = walker.evaluate(back, forth)
    log_reward_old, log_reward_new = walker.log_reward(state, new)
    move = Move(log_reward_old, log_reward_new, log_back, log_forth, log_back_reverse, log_forth_reverse,
                schedule.log_prob(steps, length, step), schedule.log_prob(forth.length, walker.depth(new), step))
    return new, move, steps


def back_and_forth(
    key: jnp.ndarray, walker: Walker, state: Any, schedule: Schedule = Uniform(),  # noqa: B008 (immutable)
    step: jnp.ndarray | int = 0,
) -> tuple[Any, jnp.ndarray, jnp.ndarray, Move]:
    """One Metropolis-Hastings move: (states after it, accepted bool [B], K int32 [B], what was proposed)."""
    k_propose, k_accept = jax.random.split(key)
    new, move, steps = propose(k_propose, walker, state, schedule, step)
    kept, accepted = accept(k_accept, move, new, state)
    return kept, accepted, steps, move


def log_accept_ratio(move: Move) -> jnp.ndarray:
    """The log ratio above, float32 [B]."""
    chex.assert_equal_shape(list(move))
    ahead = move.log_reward_new + move.log_k_reverse + move.log_back_reverse + move.log_forth_reverse
    behind = move.log_reward_old + move.log_k + move.log_back + move.log_forth
    return ahead - behind


def accept(key: jnp.ndarray, move: Move, new: Any, old: Any) -> tuple[Any, jnp.ndarray]:
    """(state after the Metropolis-Hastings test, accepted bool [B]); leaves of new and old are [B, ...]."""
    ratio = log_accept_ratio(move)
    taken = jnp.log(jax.random.uniform(key, ratio.shape, minval=1e-12)) < ratio
    pick = lambda n, o: jnp.where(taken.reshape(taken.shape + (1,) * (n.ndim - 1)), n, o)  # noqa: E731
    return jax.tree.map(pick, new, old), taken


def back_and_forth_loss(move: Move) -> tuple[jnp.ndarray, dict[str, jnp.ndarray]]:
    """The Z-free loss: the acceptance ratio of Zhang et al. 2022 at equality. Both directions of a move balance for any Z(c),

        L = mean_B [   log R(z)  + log P_B(z ~> u)  + log P_F(u ~> z', STOP)
                     - log R(z') - log P_B(z' ~> u) - log P_F(u ~> z, STOP) ]^2
    (the choice of K is no part of it). Moves that come back the way they went contribute nothing.
    """
    chex.assert_equal_shape(list(move))
    ahead = move.log_reward_new + move.log_back_reverse + move.log_forth_reverse
    behind = move.log_reward_old + move.log_back + move.log_forth
    loss = jnp.mean((ahead - behind) ** 2)
    return loss, {"residual_rms": jnp.sqrt(jax.lax.stop_gradient(loss))}
