"""One back-and-forth Metropolis-Hastings move on plans; target e^-E p(x|z,c) on rows that read a text, e^-E on the others."""
from collections.abc import Callable

import jax
import jax.numpy as jnp

from hjepa_gfn.gflownet import mcmc
from hjepa_gfn.gflownet.rollout import Trajectory
from hjepa_gfn.gflownet.schedules import Schedule, Uniform
from hjepa_gfn.models.agent_network import Context
from hjepa_gfn.objectives.policies import Narrow, evaluate, log_prob_of_path, sample_paths
from hjepa_gfn.objectives.system import Params, System
from hjepa_gfn.plans import Plan


def plan_walker(
    system: System, params: Params, context: Context, rewards: Callable[[Plan, Plan], tuple[jnp.ndarray, jnp.ndarray]],
    text: jnp.ndarray | None = None, narrow: Narrow | None = None,
) -> mcmc.Walker:
    """What `gflownet.mcmc` needs to move over plans [B] by the agent's policies.

    Args:
      rewards: (old [B], new [B]) -> log R of both, each [B].
      text: int32 [R, X], what the first R rows read. narrow: of policies and P_B; the move is exact for whatever they say.
    """
    def sample(key, start, forward, steps):
        return sample_paths(system, params, key, start, forward, context, text, steps, narrow=narrow)

    def evaluate_both(back, forth):
        pair = zip(_evaluate_both(system, params, back, forth, context, text, narrow), (back, forth), strict=True)
        return tuple((path.backward.sum(-1), log_prob_of_path(path, trajectory)) for path, trajectory in pair)

    return mcmc.Walker(lambda plans: plans.num_edits, sample, evaluate_both, rewards)


def back_and_forth(
    system: System, params: Params, key: jnp.ndarray, plan: Plan, context: Context,
    log_reward: Callable[[Plan], jnp.ndarray], text: jnp.ndarray | None = None,
    schedule: Schedule = Uniform(), step: jnp.ndarray | int = 0,  # noqa: B008 (immutable)
) -> tuple[Plan, jnp.ndarray, jnp.ndarray]:
    """K ~ q(K|n, step) edits back with P_B, forward with P_F until STOP, accepted as in `gflownet.mcmc`.

    Args:
      plan: [B], the first R rows read text int32 [R, X]; log_reward: plans [B, 2] -> log R [B, 2].
    Returns: (plans [B] after the test, accepted bool [B], log R [B, 2] of (old, proposed)).
    """
    def rewards(old, new):
        both = log_reward(jax.tree.map(lambda a, b: jnp.stack([a, b], axis=1), old, new))
        return both[:, 0], both[:, 1]

    walker = plan_walker(system, params, context, rewards, text)
    kept, accepted, _, move = mcmc.back_and_forth(key, walker, plan, schedule, step)
    return kept, accepted, jnp.stack([move.log_reward_old, move.log_reward_new], axis=1)


def _evaluate_both(system, params, back, forth, context, text, narrow=None):
    """Log probabilities of both paths in one flat batch: their states laid side by side on the trajectory axis.

    Between the last state of one and the first of the other lies one step that is no edge: a spare column keeps the states
    one longer than the steps.
    """
    steps = back.horizon
    spare = lambda a, b: jnp.concatenate([a, jnp.zeros_like(a[:, :1]), b], axis=1)  # noqa: E731
    joined = Trajectory(
        states=jax.tree.map(lambda a, b: jnp.concatenate([a, b], axis=1), back.states, forth.states),
        action=jax.tree.map(spare, back.action, forth.action), undo=spare(back.undo, forth.undo),
        length=jnp.full(back.length.shape, 2 * steps + 1))
    path = evaluate(system, params, joined, context, text, narrow)

    def part(trajectory, begin):
        cut = jax.tree.map(lambda x: x[:, begin : begin + steps + 1], path)
        edge = trajectory.edge
        return cut._replace(forward=jnp.where(edge, cut.forward[:, :steps], 0.0),
                            backward=jnp.where(edge, cut.backward[:, :steps], 0.0))

    return part(back, 0), part(forth, steps + 1)
