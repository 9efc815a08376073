"""Indicators of a plan: risk, ambiguity, affective charge; and how the networks that foresee them learn (DESIGN section 4).

Everything is a pure function of plans that somebody sampled. Energies are read through the encoder that the policy uses, as
`agent.modes` does when it chooses among plans.
"""
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from hjepa_gfn.models.agent_network import Context
from hjepa_gfn.models.indicators import Normal
from hjepa_gfn.objectives.cases import stack
from hjepa_gfn.objectives.energy import Ground, energy_of, make_ground, plan_energy
from hjepa_gfn.objectives.jepa import LOG_VARIANCE, gaussian_nll
from hjepa_gfn.objectives.policies import Exploration, roots, sample_plans
from hjepa_gfn.objectives.system import Params, System, sampler_view
from hjepa_gfn.objectives.windows import encode_start, lift
from hjepa_gfn.plans import Plan, coarse_view, edge_exists, tree_edits

Metrics = dict[str, jnp.ndarray]
stop = jax.lax.stop_gradient


class Entropies(NamedTuple):
    """Ambiguity edge by edge, in nats a dimension of the next state."""

    computed: jnp.ndarray  # [B, T, N, S] Gaussian entropy where the edge holds an action, else 0
    acted: jnp.ndarray     # bool [B, T, N, S] where it is computed
    state: jnp.ndarray     # [B, T, N, S, Z] the edge's left end
    vague: jnp.ndarray     # bool [B, T, N, S] edges of the same kind that hold no action, and are not spelled out further


def plan_risk(system: System, params: Params, plan: Plan, context: Context, ground: Ground) -> tuple[jnp.ndarray, jnp.ndarray]:
    """Risk of plans [B, T] in nats, and a decision (its edits and STOP), each [B, T]:

        -log p(z|c) = E(z;c) + log Z(c),    log Z(c) = -E(root;c) - log P_F(STOP|root,c)    (DESIGN section 3),
    exact where the policy balances; the same number without the network's flow being asked for its own opinion of z.
    """
    root = jax.tree.map(lambda x: x[:, None], roots(system, plan.batch_shape[0]))
    both = jax.tree.map(lambda a, b: jnp.concatenate([a, b], axis=1), root, plan)
    features = system.net(params, both, context, None, method="features")
    energy = plan_energy(system, params, both, features, ground)
    log_stop = system.net(params, features[:, :1], root, 0, method="edits").log_stop
    risk = energy[:, 1:] - energy[:, :1] - log_stop
    chex.assert_shape(risk, plan.batch_shape)
    return risk, risk / (tree_edits(plan) + 1)


def action_risk(system: System, params: Params, plan: Plan, context: Context, ground: Ground) -> jnp.ndarray:
    """What each action of plans [B] adds to their risk: [B, N, S], 0 where an edge holds none.

        E(z;c) - E(z with edge (n, d) emptied; c)  =  log p(z without it|c) - log p(z|c).
    """
    batch, n, s = plan.action.shape
    where = jnp.eye(n * s, dtype=bool).reshape(n * s, n, s)
    emptied = jnp.where(where, 0, plan.action[:, None])
    many = jax.tree.map(lambda x: jnp.broadcast_to(x[:, None], (batch, n * s, *x.shape[1:])), plan)._replace(action=emptied)
    many = many._replace(num_edits=tree_edits(many))
    both = jax.tree.map(lambda a, b: jnp.concatenate([a[:, None], b], axis=1), plan, many)
    energy = energy_of(system, params, both, context, ground)
    return jnp.where(plan.action > 0, (energy[:, :1] - energy[:, 1:]).reshape(batch, n, s), 0.0)


def edge_entropies(system: System, params: Params, plan: Plan, ground: Ground) -> Entropies:
    """Entropy of the state that each edge of plans [B, T] leads to, given its left end and its action (Barp et al. 2022):

        H = (1 / 2Z) sum_i (log 2 pi e + log v_i),   log v = log_variance_l(z, action of level l).
    Only edges whose left end has a state of their own scale (s_0, or a code of it) count.
    """
    found = []
    for scale in range(system.spec.num_scales):
        table, level = ground.tables[scale], system.levels[scale]
        start = ground.start[scale][:, None, None, :]
        here = jnp.where((plan.position == 0)[..., None], start, table[plan.code % table.shape[0]])
        held = plan.action[..., scale]
        code = jnp.maximum(held - 1, 0)
        control = code if level == 1 else ground.actions[scale][code]
        log_variance = system.level(params, here, control, method="log_variance", level=level)
        entropy = 0.5 * jnp.mean(np.log(2 * np.pi * np.e) + jnp.clip(log_variance, *LOG_VARIANCE), -1)
        own = edge_exists(plan)[..., scale] & ((plan.position == 0) | (plan.tag == scale))
        acted, vague = own & (held > 0), own & (held == 0) & ~plan.expanded[..., scale]
        found.append((jnp.where(acted, entropy, 0.0), acted, here, vague))
    axes = (-1, -1, -2, -1)
    return stop(Entropies(*(jnp.stack(part, axis) for part, axis in zip(zip(*found, strict=True), axes, strict=True))))


def ambiguity(system: System, params: Params, plan: Plan, ground: Ground) -> jnp.ndarray:
    """Mean entropy [B, T] over the edges of plans [B, T]: computed where they hold an action, foreseen by the trained
    estimator where they hold none."""
    edges = edge_entropies(system, params, plan, ground)
    foreseen = system.watch(params, edges.state, _one_hots(edges.state), method="ambiguity").mean
    total = jnp.sum(edges.computed + jnp.where(edges.vague, foreseen, 0.0), (-2, -1))
    return total / jnp.maximum((edges.acted | edges.vague).sum((-2, -1)), 1)


def affective_charge(log_before: jnp.ndarray, log_reward: jnp.ndarray) -> jnp.ndarray:
    """What deliberation changes for the better over K plans (Hesp et al. 2021, with log R in the place of -G): [B] of [B, K],

        (pi_after - pi_before) . log R,   pi_before = softmax(log_before),  pi_after = softmax(log R).
    log_before: unnormalised log weights of the plans before deliberation, e.g. of the habit for their first action.
    It is negative where habit already prefers better plans than their rewards alone would.
    """
    chex.assert_equal_shape([log_before, log_reward])
    return jnp.sum((jax.nn.softmax(log_reward) - jax.nn.softmax(log_before)) * log_reward, axis=-1)


def percept_charge(
    system: System, params: Params, rest: Plan, percept: dict[str, jnp.ndarray], mission: jnp.ndarray, expected: jnp.ndarray
) -> jnp.ndarray:
    """log R(s_0', rest) - log R(s_0, rest) [B]: whether the rest [B] of a plan is worth more from the state s_0' that is
    perceived than from the state s_0 that was expected, a step-state code int32 [B] (0 where that is -1: nothing was).

    The percept itself cannot be expected: both sides see the same cells; what differs is the JEPA's state, in the context and
    as the start of the prediction residuals.
    """
    found = encode_start(system, params, percept)
    of_codes = system.level(params, method="tables")[0][0][jnp.maximum(expected, 0)]
    seen = jax.tree.map(lambda x: x[:, None], rest)

    def log_reward(start):
        context = system.net(params, percept, start[0], mission, method="context")
        return -energy_of(system, params, seen, context, make_ground(system, params, *start))[:, 0]

    return jnp.where(expected >= 0, log_reward(found) - log_reward(lift(system, params, of_codes)), 0.0)


def subplan_risk(system: System, params: Params, plan: Plan, context: Context, ground: Ground) -> jnp.ndarray:
    """What the sub-plans of plans [B] add to their risk, [B]: -log p(z|c) + log p(coarse view of z|c) = E(z) - E(coarse)."""
    energy = energy_of(system, params, stack(plan, coarse_view(plan)), context, ground)
    return energy[:, 0] - energy[:, 1]


def has_subplan(plan: Plan) -> jnp.ndarray:
    """bool [...]: the first leg has a macro-action and is spelled out."""
    return plan.expanded[..., 0, 0] & (plan.action[..., 0, 0] > 0)


def situation(system: System, context: Context, start: tuple[jnp.ndarray, ...]) -> jnp.ndarray:
    """What the watchdog reads of a situation, detached: [B, F] of context and (z1, z2, ...)."""
    queries = context.tokens[:, : system.network.sizes.queries]
    return stop(jnp.concatenate([*start, queries.reshape(queries.shape[0], -1)], -1))


def standardise(value: jnp.ndarray, foreseen: Normal) -> jnp.ndarray:
    """(value - mean) / deviation."""
    return (value - foreseen.mean) * jnp.exp(-0.5 * jnp.clip(foreseen.log_variance, *LOG_VARIANCE))


def indicators_loss(
    params: Params, key: jnp.ndarray, percept: dict[str, jnp.ndarray], mission: jnp.ndarray, system: System,
    temperature: float = 1.0,
) -> tuple[jnp.ndarray, Metrics]:
    """Gaussian negative log-likelihood of three targets, of plans z ~ P_F(z|c) in B situations, sampled as the agent does it:

        L = NLL(risk a decision | z1, z2, c) + NLL(sub-plan's risk | z1, z2, c, macro) + NLL(entropy of acted edges | z_left),
    NLL(y) = 0.5 (log v + (y - m)^2 / v). Targets and inputs are detached: only the group `indicators` learns.
    """
    fixed = stop(params)
    start = encode_start(system, fixed, percept)
    context = system.net(fixed, percept, start[0], mission, method="context")
    ground = make_ground(system, fixed, *start)
    plan = sample_plans(system, sampler_view(params), key, context, None, Exploration(temperature))
    coarse = coarse_view(plan)
    # one pass over (root, coarse view, plan): `plan_risk` and `subplan_risk` of the same plans
    three = stack(roots(system, mission.shape[0]), coarse, plan)
    features = system.net(fixed, three, context, None, method="features")
    energy = plan_energy(system, fixed, three, features, ground)
    root = jax.tree.map(lambda x: x[:, :1], three)
    log_stop = system.net(fixed, features[:, :1], root, 0, method="edits").log_stop[:, 0]
    risk = (energy[:, 2] - energy[:, 0] - log_stop) / (tree_edits(plan) + 1)
    spelled_out = energy[:, 2] - energy[:, 1]
    edges = edge_entropies(system, fixed, stack(plan), ground)

    features = situation(system, context, start)
    macro = ground.macro[jnp.maximum(plan.action[:, 0, 0] - 1, 0)]
    of_risk = system.watch(params, features, method="risk")
    of_subplan = system.watch(params, features, macro, method="subplan")
    of_entropy = system.watch(params, edges.state, _one_hots(edges.state), method="ambiguity")

    def nll(value, foreseen, known):
        return gaussian_nll((stop(value) - foreseen.mean)[..., None], foreseen.log_variance[..., None], known)

    ones, known = jnp.ones_like(risk), has_subplan(plan).astype(jnp.float32)
    parts = {"risk_nll": nll(risk, of_risk, ones), "subplan_nll": nll(spelled_out, of_subplan, known),
             "ambiguity_nll": nll(edges.computed, of_entropy, edges.acted.astype(jnp.float32))}
    loss = sum(parts.values())
    chex.assert_shape(loss, ())
    surprise = standardise(risk, of_risk)
    return loss, stop({**parts, "risk": risk.mean(), "surprise_mean": surprise.mean(), "surprise_square": (surprise**2).mean(),
                       "subplans": known.mean(), "ambiguity": edges.computed.sum() / jnp.maximum(edges.acted.sum(), 1)})


def _one_hots(state: jnp.ndarray) -> jnp.ndarray:
    """The scale of each edge of state [..., S, Z], one-hot [..., S, S]."""
    scales = state.shape[-2]
    return jnp.broadcast_to(jnp.eye(scales), (*state.shape[:-1], scales))
