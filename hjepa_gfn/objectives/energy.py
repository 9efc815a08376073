"""The plan energy E(z; c): a learned sum over the plan's tokens plus the JEPA's prediction residual along its edges."""
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp

from hjepa_gfn.models.agent_network import Context
from hjepa_gfn.objectives.system import Params, System
from hjepa_gfn.plans import Plan, edge_exists, right_neighbour


class Ground(NamedTuple):
    """What of the JEPA the energy refers to: start states and the state embedding of every code (all stop-gradiented)."""

    start: tuple[jnp.ndarray, jnp.ndarray]    # (z2_0, z1_0) by scale, each [B, Z]
    tables: tuple[jnp.ndarray, jnp.ndarray]   # by scale: [codes, Z]
    macro: jnp.ndarray                        # [codes, F]


def make_ground(system: System, params: Params, z1: jnp.ndarray, z2: jnp.ndarray) -> Ground:
    """The energy's ground for start states z1_0 and z2_0, each [B, Z]."""
    tables = system.level(params, method="tables")
    return jax.lax.stop_gradient(Ground((z2, z1), (tables["leg"], tables["step"]), tables["macro"]))


def residual(system: System, params: Params, plan: Plan, ground: Ground, scale: int) -> jnp.ndarray:
    """sum over acted edges of `scale` of |z_left + P_l(z_left, a) - z_right|^2 / Z, with both ends given by codes of that
    scale (or s_0). Plan leaves [B, T, ...] -> [B, T]. No gradient: the JEPA learns from percepts only."""
    table = ground.tables[scale]
    start = ground.start[scale][:, None, None, :]
    here = jnp.where((plan.position == 0)[..., None], start, table[plan.code % table.shape[0]])
    right = right_neighbour(plan, jnp.full_like(plan.tag, scale))
    slot = jnp.maximum(right, 0)
    right_tag = jnp.take_along_axis(plan.tag, slot, -1, mode="clip")
    there = table[jnp.take_along_axis(plan.code, slot, -1, mode="clip") % table.shape[0]]
    held = plan.action[..., scale]
    own = (plan.position == 0) | (plan.tag == scale)
    counted = edge_exists(plan)[..., scale] & (held > 0) & own & (right >= 0) & (right_tag == scale)
    code = jnp.maximum(held - 1, 0)
    if scale == system.spec.num_scales - 1:
        predicted = system.level(params, here, code, method="predict_1")
    else:
        predicted = system.level(params, here, ground.macro[code], method="predict_2")
    error = jnp.mean((predicted - there) ** 2, axis=-1)
    return jax.lax.stop_gradient(jnp.sum(jnp.where(counted, error, 0.0), axis=-1))


def plan_energy(
    system: System, params: Params, plan: Plan, features: jnp.ndarray, ground: Ground
) -> jnp.ndarray:
    """E(z; c) = sum_n e(token n) + sum_d softplus(w_d) residual_d(z), [B, T], from the prior's features [B, T, N, D]."""
    energy = system.net(params, features, plan, method="energy_terms")
    weights = jax.nn.softplus(system.net(params, method="ground_weights"))
    for scale in range(system.spec.num_scales):
        energy += weights[scale] * residual(system, params, plan, ground, scale)
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
