"""The plan energy E(z; c): a learned sum over the plan's tokens plus what the JEPA knows of its edges (`grounding`)."""
import chex
import jax
import jax.numpy as jnp

from hjepa_gfn.models.agent_network import Context
from hjepa_gfn.objectives.grounding import Ground, ground_terms, make_ground, residual
from hjepa_gfn.objectives.system import Params, System
from hjepa_gfn.plans import Plan

__all__ = ["Ground", "energy_of", "make_ground", "plan_energy", "residual", "text_log_prob"]


def plan_energy(
    system: System, params: Params, plan: Plan, features: jnp.ndarray, ground: Ground
) -> jnp.ndarray:
    """E(z; c) = sum_n e(token n) + sum_k softplus(w_k) term_k(z), [B, T], from the prior's features [B, T, N, D]: the terms of
    `ground_terms`, of which the JEPA's residuals by scale are always there."""
    energy = system.net(params, features, plan, method="energy_terms")
    weights = jax.nn.softplus(system.net(params, method="ground_weights"))
    terms = ground_terms(system, params, plan, ground)
    chex.assert_shape(weights, (len(terms),))
    for k, term in enumerate(terms):
        energy += weights[k] * term
    chex.assert_shape(energy, plan.batch_shape)
    return energy


def energy_of(system: System, params: Params, plan: Plan, context: Context, ground: Ground) -> jnp.ndarray:
    """E(z; c) [B, T] of plans [B, T], computing the features."""
    return plan_energy(system, params, plan, system.net(params, plan, context, None, method="features"), ground)


def text_log_prob(
    system: System, params: Params, plan: Plan, context: Context, text: jnp.ndarray
) -> jnp.ndarray:
    """log p(x|z,c) [B, T] of text int32 [B, X] (or [B, T, X]) under plans [B, T]; pad tokens (0) count nothing."""
    if text.ndim == 2:
        text = jnp.broadcast_to(text[:, None], (*plan.batch_shape, text.shape[-1]))
    log_p = system.net(params, plan, context, text, method="explain")
    words = text[..., 1:]
    picked = jnp.take_along_axis(log_p, words[..., None], -1, mode="clip")[..., 0]
    return jnp.sum(jnp.where(words > 0, picked, 0.0), axis=-1)
