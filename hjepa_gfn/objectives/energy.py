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

    start: tuple[jnp.ndarray, ...]    # (..., z^2_0, z^1_0) by scale, each [B, Z]
    tables: tuple[jnp.ndarray, ...]   # by scale: [codes, Z]
    actions: tuple[jnp.ndarray, ...]  # by scale, the finest left out: [codes, F]

    @property
    def macro(self) -> jnp.ndarray:
        """[codes, F] of the coarsest scale."""
        return self.actions[0]


class Edges(NamedTuple):
    """The edges of one scale, each named by the token of its left end."""

    exists: jnp.ndarray     # bool [B, T, N]
    own: jnp.ndarray        # bool [B, T, N]    the left end has a state of this scale: s_0, or a code
    here: jnp.ndarray       # [B, T, N, Z]      that state
    right: jnp.ndarray      # int32 [B, T, N]   the slot of the right end, -1 where it is open
    ends: jnp.ndarray       # bool [B, T, N]    the right end has a state of this scale
    there: jnp.ndarray      # [B, T, N, Z]      that state
    held: jnp.ndarray       # int32 [B, T, N]   1 + action code, 0 where the edge is empty
    predicted: jnp.ndarray  # [B, T, N, Z]      here + P_l(here, action); means nothing where the edge is empty


def make_ground(system: System, params: Params, *start: jnp.ndarray) -> Ground:
    """The energy's ground for start states z^1_0, z^2_0, ..., each [B, Z]."""
    tables, actions = system.level(params, method="tables")
    return jax.lax.stop_gradient(Ground(start[::-1], tables[::-1], actions[::-1]))


def edges_of(system: System, params: Params, plan: Plan, ground: Ground, scale: int) -> Edges:
    """What the JEPA knows of the edges of `scale` of plans [B, T]."""
    table = ground.tables[scale]
    start = ground.start[scale][:, None, None, :]
    here = jnp.where((plan.position == 0)[..., None], start, table[plan.code % table.shape[0]])
    right = right_neighbour(plan, jnp.full_like(plan.tag, scale))
    slot = jnp.maximum(right, 0)
    right_tag = jnp.take_along_axis(plan.tag, slot, -1, mode="clip")
    there = table[jnp.take_along_axis(plan.code, slot, -1, mode="clip") % table.shape[0]]
    held = plan.action[..., scale]
    own = (plan.position == 0) | (plan.tag == scale)
    code = jnp.maximum(held - 1, 0)
    level = system.spec.num_scales - scale
    predicted = system.level(params, here, code if level == 1 else ground.actions[scale][code], method="predict", level=level)
    ends = (right >= 0) & (right_tag == scale)
    return Edges(edge_exists(plan)[..., scale], own, here, right, ends, there, held, predicted)


def residual(system: System, params: Params, plan: Plan, ground: Ground, scale: int) -> jnp.ndarray:
    """sum over acted edges of `scale` of |z_left + P_l(z_left, a) - z_right|^2 / Z, with both ends given by codes of that
    scale (or s_0). Plan leaves [B, T, ...] -> [B, T]. No gradient: the JEPA learns from percepts only."""
    edges = edges_of(system, params, plan, ground, scale)
    counted = edges.exists & edges.own & edges.ends & (edges.held > 0)
    error = jnp.mean((edges.predicted - edges.there) ** 2, axis=-1)
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
