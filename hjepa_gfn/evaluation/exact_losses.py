"""Every loss of `gflownet`, put together for plans in tables: what `experiments.exactness` trains one by one.

Half of a batch's trajectories are forward (epsilon-explored), half are fresh backward ones from plans drawn uniformly.
"""
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from hjepa_gfn.evaluation.plan_tables import Situated, TabledPlans, TableParams
from hjepa_gfn.gflownet import decomposition, losses, mcmc
from hjepa_gfn.gflownet.exact import elbo, log_sum
from hjepa_gfn.gflownet.policy import Path, behaviour, evaluate, noise_of
from hjepa_gfn.gflownet.rollout import Exploration, Trajectory, choose, sample_trajectories


class Sampling(NamedTuple):
    """How trajectories are gathered."""

    rows: int = 16        # forward trajectories of each context a step; as many backward ones
    epsilon: float = 0.1  # share of uniform choice in forward ones
    lam: float = 0.9      # of SubTB
    keep: float = 0.9     # share of edges that the decomposition loss keeps


class Visit(NamedTuple):
    """A batch of trajectories, re-evaluated."""

    states: Situated         # [B, T+1]
    path: Path
    log_reward: jnp.ndarray  # [B, T+1] of every state visited
    potential: jnp.ndarray   # [B, T+1] its learned stand-in (decomposition losses)

    @property
    def log_reward_end(self) -> jnp.ndarray:
        return jnp.take_along_axis(self.log_reward, self.path.length[:, None], axis=1, mode="clip")[:, 0]


Loss = Callable[[TabledPlans, TableParams, jnp.ndarray, Sampling], jnp.ndarray]  # (env, params, key, options) -> loss
fixed = jax.lax.stop_gradient


def visit(env: TabledPlans, params: TableParams, key: jnp.ndarray, options: Sampling) -> Visit:
    """2 * rows trajectories of each context, with gradients to `params` in their log probabilities."""
    k_plan, k_noise = jax.random.split(key)
    half = options.rows * env.contexts
    roots = env.root(2 * half)
    forward = jnp.arange(2 * half) < half
    number = jax.random.randint(k_plan, (2 * half,), 0, env.log_rewards.shape[1])
    start = choose(forward, roots, env.plans(number, roots.context))
    behave = behaviour(env, env.network, fixed(params), Exploration(epsilon=options.epsilon))
    walked = sample_trajectories(env, behave, noise_of(env, k_noise, 2 * half), start, forward)
    return revisit(env, params, walked)


def revisit(env: TabledPlans, params: TableParams, walked: Trajectory) -> Visit:
    """Trajectories evaluated under `params`."""
    path, states = evaluate(env, env.network, params, walked), walked.states
    return Visit(states, path, env.log_reward(states), env.value(params.potential, states))


def closed(log_flow: jnp.ndarray, seen: Visit) -> tuple[jnp.ndarray, jnp.ndarray]:
    """Head form: potentials [B, T+2] with the terminal node, and lengths + 1."""
    path = seen.path
    terminal = losses.terminal_potential(path.log_pf, path.log_pb, path.stop_at_end, seen.log_reward_end)
    return losses.with_terminal(losses.balance_potential(log_flow, path.log_pf, path.log_pb), terminal, path.length)


def stopped(seen: Visit) -> jnp.ndarray:
    """Stop form: potentials [B, T+1]."""
    flow = losses.stop_flow(seen.log_reward, seen.path.log_stop)
    return losses.balance_potential(flow, seen.path.log_pf, seen.path.log_pb)


def tilted(seen: Visit) -> jnp.ndarray:
    """log F = log R + log F~, the head as F~ [B, T+1]."""
    return losses.forward_looking_flow(seen.log_reward, seen.path.log_flow)


def _subtb(potential, length, options):
    return losses.subtb(potential, losses.is_present(potential, length), options.lam)[0]


def tb(env, seen, key, options) -> jnp.ndarray:
    """TB in head form: the flow at the root is log Z(c), other flows play no part."""
    return losses.trajectory_balance(*closed(seen.path.log_flow, seen))[0]


def tb_stop(env, seen, key, options) -> jnp.ndarray:
    """TB between the root and the end of each trajectory, both flows read off the stop probability."""
    return losses.trajectory_balance(stopped(seen), seen.path.length)[0]


def vargrad(env, seen, key, options) -> jnp.ndarray:
    """VarGrad-TB: log Z(c) estimated from the batch."""
    path = seen.path
    terminal = losses.terminal_potential(path.log_pf, path.log_pb, path.stop_at_end, seen.log_reward_end)
    return losses.log_partition_variance(terminal, seen.states.context[:, 0], env.contexts)[0]


def db(env, seen, key, options) -> jnp.ndarray:
    """DB in head form, the STOP edge included."""
    return losses.detailed_balance(*closed(seen.path.log_flow, seen))[0]


def modified_db(env, seen, key, options) -> jnp.ndarray:
    """Modified DB: no flow is learned."""
    path = seen.path
    return losses.modified_detailed_balance(seen.log_reward, path.log_stop, path.log_pf, path.log_pb, path.length)[0]


def subtb(env, seen, key, options) -> jnp.ndarray:
    """SubTB(lambda) in head form."""
    return _subtb(*closed(seen.path.log_flow, seen), options)


def subtb_stop(env, seen, key, options) -> jnp.ndarray:
    """SubTB(lambda) in stop form: the default of the agent."""
    return _subtb(stopped(seen), seen.path.length, options)


def fl_db(env, seen, key, options) -> jnp.ndarray:
    """Forward-looking DB with a head for log F~, anchored by the terminal node."""
    return losses.detailed_balance(*closed(tilted(seen), seen))[0]


def fl_subtb(env, seen, key, options) -> jnp.ndarray:
    """Forward-looking SubTB(lambda) with a head for log F~, anchored by the terminal node."""
    return _subtb(*closed(tilted(seen), seen), options)


def led(env, seen, key, options) -> jnp.ndarray:
    """SubTB on a learned log R of partial plans; the terminal rewards alone are given.

    phi(z -> z') is a difference of a potential: then what is learned is a function of the plan, not of the way to it, as it
    must be where every plan can stop.
    """
    phi = jnp.diff(seen.potential, axis=-1)
    learn, _ = decomposition.decomposition_loss(key, phi, seen.path.length, seen.log_reward_end, options.keep)
    partial = decomposition.partial_log_reward(phi, seen.path.length)
    return learn + _subtb(*closed(losses.forward_looking_flow(partial, seen.path.log_flow), seen), options)


OF_TRAJECTORIES = {
    "TB": tb, "TB, stop form": tb_stop, "VarGrad-TB": vargrad, "DB": db, "modified DB": modified_db, "SubTB": subtb,
    "SubTB, stop form": subtb_stop, "FL-DB": fl_db, "FL-SubTB": fl_subtb, "LED-SubTB": led}


def _of_trajectories(loss) -> Loss:
    def visited(env, params, key, options):
        k_visit, k_loss = jax.random.split(key)
        return loss(env, visit(env, params, k_visit, options), k_loss, options)

    return visited


def back_and_forth(env, params, key, options) -> jnp.ndarray:
    """The Z-free loss on moves from uniformly drawn plans, K uniform."""
    k_plan, k_move = jax.random.split(key)
    rows = 2 * options.rows * env.contexts
    number = jax.random.randint(k_plan, (rows,), 0, env.log_rewards.shape[1])
    start = env.plans(number, env.root(rows).context)
    _, move, _ = mcmc.propose(k_move, mcmc.flat_walker(env, env.network, params), start)
    return mcmc.back_and_forth_loss(move)[0]


def sleep(env, params, key, options) -> jnp.ndarray:
    """-E log P_F(tau) over z ~ R/Z exactly (every plan, weighted) and tau ~ P_B(tau|z), P_B as it was drawn."""
    nodes = env.log_rewards.shape[1]
    number, context = (x.reshape(-1) for x in np.meshgrid(np.arange(nodes), np.arange(env.contexts)))
    behave = behaviour(env, env.network, fixed(params))
    walked = sample_trajectories(env, behave, noise_of(env, key, len(number)), env.plans(number, jnp.asarray(context)), False)
    path = evaluate(env, env.network, params, walked)
    weight = jax.nn.softmax(env.log_rewards, axis=-1).reshape(-1)
    return losses.trajectory_nll(path.log_pf, path.stop_at_end, weight)[0]


LOSSES: dict[str, Loss] = {
    **{name: _of_trajectories(loss) for name, loss in OF_TRAJECTORIES.items()},
    "back-and-forth": back_and_forth, "sleep": sleep}


def log_partition(name: str, env: TabledPlans, params: TableParams) -> np.ndarray:
    """log Z [contexts] as each loss knows it: its flow at the root, in stop form log R - log P_F(STOP) there; of losses
    without a flow, the mean log weight of forward trajectories (the ELBO)."""
    reward, flow = (np.asarray(x, np.float64)[:, 0] for x in (env.log_rewards, params.log_flow))
    if name in ("TB", "DB", "SubTB", "LED-SubTB"):  # the learned log R of the root is zero
        return flow
    if name in ("FL-DB", "FL-SubTB"):
        return reward + flow
    log_pf, log_pb, log_stop = env.edge_log_probs(params)
    if name in ("VarGrad-TB", "back-and-forth", "sleep"):
        return elbo(env.graph.parent, env.graph.child, log_pf, log_pb, log_stop, env.log_rewards)
    return reward - log_stop[:, 0]


def exact_log_partition(env: TabledPlans) -> np.ndarray:
    """log Z [contexts]."""
    return log_sum(np.asarray(env.log_rewards))
