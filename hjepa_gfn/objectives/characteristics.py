"""Characteristics of sub-plans: what of a lower actor's sub-plan matters above, and how an upper actor learns to foresee it.

The edge is the first leaf of the upper plan, which seeds the lower actor's plan (`seeds.begin_from`). All of it reads the
policies' features without gradient: only the group `characteristics` learns.
"""
from __future__ import annotations

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp

from hjepa_gfn.models.characteristics import NAMES
from hjepa_gfn.objectives.cases import stack
from hjepa_gfn.objectives.energy import Ground, make_ground, plan_energy
from hjepa_gfn.objectives.grounding import link_errors
from hjepa_gfn.objectives.groups import actor_view
from hjepa_gfn.objectives.seeds import Made, first_leaf, make
from hjepa_gfn.objectives.system import Params, System
from hjepa_gfn.objectives.windows import encode_start
from hjepa_gfn.plans import Plan

Metrics = dict[str, jnp.ndarray]
stop = jax.lax.stop_gradient


class Measured(NamedTuple):
    """What became known of sub-plans [B]."""

    values: jnp.ndarray    # [B, 4] by `NAMES`
    known: jnp.ndarray     # bool [B, 4]
    features: jnp.ndarray  # [B, D] of the sub-plan, its tokens' mean


def measure(actor: System, params: Params, start: tuple[jnp.ndarray, ...], made: Made) -> Measured:
    """Of sub-plans [B] of an actor below the first, by name (risk and length of all; the rest as said):

        risk     (E(z;c) - E(seed;c) - log P_F(STOP|seed,c)) / (n + 1), in nats a decision: `indicators.plan_risk` from a seed
        length   log(1 + n), n the actor's own edits
        success  exp(-|E_l(its states) - s_T|^2 / Z), of the last edge of its coarsest scale, that leads to the target (see
                 `grounding.link_errors`); 0 where it does not spell out the whole way. Known where s_T is of that edge's level
        effort   log(1 + the actions of its finest scale)
    """
    view = actor_view(params, actor.name)
    ground: Ground = make_ground(actor, view, *start, target=made.target)
    both = stack(made.root, made.plan)
    features = actor.net(view, both, made.context, None, method="features")
    energy = plan_energy(actor, view, both, features, ground)
    log_stop = actor.net(view, features[:, :1], stack(made.root), 0, method="edits").log_stop[:, 0]
    edits = made.plan.num_edits
    risk = (energy[:, 1] - energy[:, 0] - log_stop) / (edits + 1)

    error, counted, edges = link_errors(actor, view, stack(made.plan), ground, 0)
    last = counted & (edges.right < 0)
    success = jnp.sum(jnp.where(last, jnp.exp(-error), 0.0), -1)[:, 0]
    effort = jnp.sum(made.plan.action[..., -1] > 0, -1)
    values = jnp.stack([risk, jnp.log1p(edits), success, jnp.log1p(effort)], -1)
    aimed = made.target.level == actor.levels[0]
    known = jnp.ones(values.shape, bool).at[:, NAMES.index("success")].set(aimed)
    chex.assert_shape(values, (*edits.shape, len(NAMES)))
    weight = made.plan.valid / made.plan.valid.sum(-1, keepdims=True)
    return stop(Measured(values, known, jnp.einsum("bnd,bn->bd", features[:, 1], weight)))


def foresee(system: System, params: Params, lower: System, plan: Plan, features: jnp.ndarray) -> jnp.ndarray:
    """Predicted embeddings [..., E] of the first leaf edges of the plans [...] of the actor above `lower`, from these plans'
    features [..., N, D]: the leaf leaves s_0, which is slot 0."""
    return system.describe(params, lower, stop(features[..., 0, :]), first_leaf(plan), method="predict")


def risk_of(system: System, params: Params, lower: System, embedding: jnp.ndarray) -> jnp.ndarray:
    """The risk [...] that embeddings [..., E] tell of."""
    return system.describe(params, lower, embedding, method="decode")[..., NAMES.index("risk")]


def pair_loss(
    system: System, params: Params, lower: System, predicted: jnp.ndarray, measured: Measured
) -> tuple[jnp.ndarray, Metrics]:
    """Of one pair of actors: measured values y [B, 4] (known k) and features h of sub-plans, and predicted embeddings p [B, E]:

        L = 1/4 sum_j sum_b k_bj (D(C(h_b))_j - y_bj)^2 / max(sum_b k_bj, 1)  +  mean_b |p_b - stop(C(h_b))|^2 / E,
    C compresses, D decodes. Of the kind "risk" C(h_b) is y_b's risk, and the first term is zero: it is left out.
    """
    true = system.describe(params, lower, measured.features, measured.values, method="compress")
    chex.assert_equal_shape([true, predicted])
    told = jnp.zeros(())
    if system.characteristics != "risk":
        error = (system.describe(params, lower, true, method="decode") - measured.values) ** 2
        told = jnp.mean(jnp.sum(jnp.where(measured.known, error, 0.0), 0) / jnp.maximum(measured.known.sum(0), 1))
    foreseen = jnp.mean((predicted - stop(true)) ** 2)
    risk = measured.values[:, NAMES.index("risk")]
    missed = jnp.mean((risk_of(system, params, lower, predicted) - risk) ** 2)
    chex.assert_shape((told, foreseen), ())
    return told + foreseen, stop({"compressed": told, "predicted": foreseen, "risk": risk.mean(), "risk_variance": risk.var(),
                                  "risk_error": missed, "success": measured.values[:, NAMES.index("success")].mean()})


def characteristics_loss(
    params: Params, key: jnp.ndarray, percept: dict[str, jnp.ndarray], mission: jnp.ndarray, system: System,
    temperature: float = 1.0,
) -> tuple[jnp.ndarray, Metrics]:
    """The sum of `pair_loss` over neighbouring actors, of plans that each samples in B situations as the agent does it, from
    the coarsest down: z_1 ~ P_F(z|c), then each from the first leaf edge of the plan above.

    Args:
      params: of all actors (not one's view). Only their group `characteristics` has a gradient.
      percept, mission: [B, ...]. system: the first of the actors.
    Returns: loss [], and metrics by the name of the lower actor.
    """
    fixed = stop(params)
    start = encode_start(system, fixed, percept)
    loss, metrics, above = jnp.zeros(()), {}, None
    for number, actor in enumerate(system.actors):
        made = make(actor, fixed, jax.random.fold_in(key, number), percept, start, mission, above, temperature)
        if above is not None:
            upper = actor.above
            features = upper.net(actor_view(fixed, upper.name), stack(above.plan), above.context, None, method="features")
            predicted = foresee(system, params, actor, above.plan, features[:, 0])
            one, found = pair_loss(system, params, actor, predicted, measure(actor, fixed, start, made))
            loss, metrics = loss + one, metrics | {f"{actor.name}_{name}": value for name, value in found.items()}
        above = made
    chex.assert_shape(loss, ())
    return loss, metrics
