"""Policies over plans as functions: sampling trajectories in both directions, and their log probabilities in one flat batch.

Rows come in two kinds: the first R rows of a batch read a text (int32 [R, X]; posterior policy), the others do not (prior).
"""
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from hjepa_gfn.distributed.sharding import settled
from hjepa_gfn.gflownet.rollout import Choice, Exploration, Trajectory, sample_index, sample_trajectories
from hjepa_gfn.models.agent_network import Context, EditLogits
from hjepa_gfn.models.layers import NEG
from hjepa_gfn.objectives.system import Params, System
from hjepa_gfn.plans import EXPAND, Plan, PlanSpec, backward_mask, root_plan
from hjepa_gfn.plans.environment import Action, PlanEnvironment

# (plans [B, T], what the policies say of them) -> the same of narrower policies, normalised again (see `objectives.appending`)
Narrow = Callable[[Plan, EditLogits], EditLogits]


class PathLogProbs(NamedTuple):
    """What a trajectory loss needs, re-evaluated in one flat batch."""

    forward: jnp.ndarray   # [B, T]    log P_F of each labelled edge (with the factor of not stopping), 0 past the end
    backward: jnp.ndarray  # [B, T]    log P_B of the same edge, 0 past the end
    stop: jnp.ndarray      # [B, T+1]  log P_F(STOP | z_t)
    features: jnp.ndarray  # [B, T+1, N, D] of every state under the row's own policy


def vocabulary_index(spec: PlanSpec, site: jnp.ndarray, code: jnp.ndarray | int) -> jnp.ndarray:
    """Entry of the joint plan vocabulary of a code at a forward site (that of a state code for EXPAND: unused)."""
    scale, kind = site // 3 % spec.num_scales, site % 3
    return code + jnp.asarray(spec.offsets())[jnp.minimum(kind, 1), scale]


def num_readers(text: jnp.ndarray | None) -> int:
    """How many rows read a text."""
    return 0 if text is None else text.shape[0]


def roots(system: System, batch: int) -> Plan:
    """Root plans [B]."""
    return root_plan(system.spec, (batch,))


def at_end(values: jnp.ndarray, trajectory: Trajectory) -> jnp.ndarray:
    """values [B, T+1] at each trajectory's last state: [B]."""
    return jnp.take_along_axis(values, trajectory.length[:, None], axis=1, mode="clip")[:, 0]


def sample_paths(
    system: System, params: Params, key: jnp.ndarray, start: Plan, forward: jnp.ndarray | bool, context: Context,
    text: jnp.ndarray | None = None, steps: jnp.ndarray | None = None,
    explore: Exploration = Exploration(),  # noqa: B008 (immutable)
    narrow: Narrow | None = None,
) -> Trajectory:
    """Samples one trajectory per row of `start` [B], in forward order.

    Rows with `forward` bool [B] (or one bool for all) edit with P_F until STOP; the others undo `steps` int32 [B] edits
    (default: all) with P_B, so their last state is `start`. Both directions share one scan: T passes of the network whatever
    the mix.
    """
    spec, readers = system.spec, num_readers(text)
    memory = system.net(params, context, text, method="read")

    def behave(uniform, plan):
        uniform, plan = settled((uniform, plan))
        seen = jax.tree.map(lambda x: x[:, None], plan)
        features = system.net(params, seen, memory, method="recall")
        logits = system.net(params, features, seen, readers, method="edits")
        logits = jax.tree.map(lambda x: x[:, 0], narrow(seen, logits) if narrow else logits)
        odds = (logits.log_stop - logits.log_go) / explore.temperature
        stop_prob, log_site = jax.nn.sigmoid(odds), logits.log_site / explore.temperature
        if explore.epsilon:
            mixed = uniform[3] < explore.epsilon
            log_site = jnp.where(mixed[:, None], jnp.where(logits.log_site > NEG / 2, 0.0, NEG), log_site)
            stop_prob = jnp.where(mixed, 0.5, stop_prob)
        stop = (uniform[0] < stop_prob) | (logits.log_go < NEG / 2)  # where no edit is legal STOP is certain
        site = settled(sample_index(uniform[1], log_site))
        log_code = system.net(params, features[:, 0], site, readers, method="codes") / explore.temperature
        code = sample_index(uniform[2], log_code) - vocabulary_index(spec, site, 0)
        code = jnp.where(site % 3 == EXPAND, 0, code)
        return settled(Choice(stop, Action(site, code), sample_index(uniform[1], logits.log_back)))

    noise = jax.random.uniform(key, (spec.max_edits, 4, start.batch_shape[0]), minval=1e-7)
    return sample_trajectories(PlanEnvironment(spec), behave, noise, start, forward, steps)


def sample_plans(
    system: System, params: Params, key: jnp.ndarray, context: Context, text: jnp.ndarray | None = None,
    explore: Exploration = Exploration(),  # noqa: B008 (immutable)
    start: Plan | None = None,
) -> Plan:
    """Plans [B] from the root (or from `start` [B]): z ~ P_F(z|c), or z ~ P_F(z|x,c) on the rows that read a text."""
    batch = context.tokens.shape[0]
    start = roots(system, batch) if start is None else start
    return sample_paths(system, params, key, start, jnp.ones(batch, bool), context, text, None, explore).final


def undo_at_random(spec: PlanSpec, key: jnp.ndarray, end: Plan) -> Trajectory:
    """Undoes all edits of `end` [B], each time a uniformly drawn legal one: no network, a fraction of the cost of P_B."""

    def behave(uniform, plan):
        uniform, plan = settled((uniform, plan))
        legal = backward_mask(plan, spec)
        return Choice(None, None, sample_index(uniform, jnp.where(legal, 0.0, NEG)))

    noise = jax.random.uniform(key, (spec.max_edits, end.batch_shape[0]), minval=1e-7)
    return sample_trajectories(PlanEnvironment(spec), behave, noise, end, False)


def evaluate(
    system: System, params: Params, trajectory: Trajectory, context: Context, text: jnp.ndarray | None = None,
    narrow: Narrow | None = None,
) -> PathLogProbs:
    """Log probabilities of trajectories under each row's policy and P_B, in one flat batch."""
    trajectory = settled(trajectory)
    plans, edge, (site, code), readers = trajectory.states, trajectory.edge, trajectory.action, num_readers(text)
    features = system.net(params, plans, context, text, method="features")
    logits = system.net(params, features, plans, readers, method="edits")
    logits = narrow(plans, logits) if narrow else logits
    pick = lambda table, index: jnp.take_along_axis(table, index[..., None], axis=-1, mode="clip")[..., 0]  # noqa: E731
    log_code = system.net(params, features[:, :-1], site, readers, method="codes")
    coded = pick(log_code, vocabulary_index(system.spec, site, code))
    coded = jnp.where(site % 3 == EXPAND, 0.0, coded)
    forward = logits.log_go[:, :-1] + pick(logits.log_site[:, :-1], site) + coded
    backward = pick(logits.log_back[:, 1:], trajectory.undo)
    return PathLogProbs(jnp.where(edge, forward, 0.0), jnp.where(edge, backward, 0.0), logits.log_stop, features)


def log_prob_of_path(path: PathLogProbs, trajectory: Trajectory) -> jnp.ndarray:
    """log P_F(trajectory, STOP) [B]."""
    return path.forward.sum(-1) + at_end(path.stop, trajectory)


def decision_log_probs(
    system: System, params: Params, trajectory: Trajectory, when: jnp.ndarray, context: Context,
    text: jnp.ndarray | None = None,
) -> jnp.ndarray:
    """log probability [B, S] of the decision taken at times `when` int32 [B, S], 0 <= when <= length: the edit, or STOP at the
    end. For sums over a trajectory estimated from a few of its states (likelihoods; balance losses need them all)."""
    readers, last = num_readers(text), jnp.minimum(when, trajectory.horizon - 1)
    pick = lambda table, index: jnp.take_along_axis(table, index[..., None], axis=-1, mode="clip")[..., 0]  # noqa: E731
    at = lambda x: jnp.take_along_axis(x, last, axis=1, mode="clip")  # noqa: E731
    plans = jax.tree.map(
        lambda x: jnp.take_along_axis(x, when.reshape(when.shape + (1,) * (x.ndim - 2)), axis=1, mode="clip"),
        trajectory.states)
    plans, last, when = settled((plans, last, when))
    features = system.net(params, plans, context, text, method="features")
    logits = system.net(params, features, plans, readers, method="edits")
    site, code = settled((at(trajectory.action.site), at(trajectory.action.code)))
    log_code = system.net(params, features, site, readers, method="codes")
    coded = jnp.where(site % 3 == EXPAND, 0.0, pick(log_code, vocabulary_index(system.spec, site, code)))
    edit = logits.log_go + pick(logits.log_site, site) + coded
    return jnp.where(when < trajectory.length[:, None], edit, logits.log_stop)
