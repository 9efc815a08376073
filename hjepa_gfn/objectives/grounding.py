"""What the JEPA knows of a plan, as terms of its energy: residuals along acted edges, reachability along empty ones, and
the link between an expanded edge and its sub-plan. Functions of plan and ground, without gradient: the JEPA learns
from percepts."""
from typing import NamedTuple

import jax
import jax.numpy as jnp

from hjepa_gfn.models.context import Target
from hjepa_gfn.objectives.system import Params, System
from hjepa_gfn.plans import Plan, edge_exists, right_neighbour


class Ground(NamedTuple):
    """What of the JEPA the energy refers to: start states and the state embedding of every code (all stop-gradiented)."""

    start: tuple[jnp.ndarray, ...]    # (..., z^2_0, z^1_0) by scale, each [B, Z]
    tables: tuple[jnp.ndarray, ...]   # by scale: [codes, Z]
    actions: tuple[jnp.ndarray, ...]  # by scale, the steps left out: [codes, F]
    target: Target | None = None      # [B] the state that the open end of the plan stands for; None: none in any row

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


def make_ground(system: System, params: Params, *start: jnp.ndarray, target: Target | None = None) -> Ground:
    """The energy's ground for start states z^1_0, z^2_0, ..., each [B, Z], of all JEPA levels, and a target, or none."""
    tables, actions = system.level(params, method="tables")
    own = system.levels
    return jax.lax.stop_gradient(Ground(
        tuple(start[level - 1] for level in own), tuple(tables[level - 1] for level in own),
        tuple(actions[level - 2] for level in own if level > 1), target))


def edges_of(system: System, params: Params, plan: Plan, ground: Ground, scale: int) -> Edges:
    """What the JEPA knows of the edges of `scale` of plans [B, T]; the plan's open end is the target where that is a state of
    the same level."""
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
    level = system.levels[scale]
    predicted = system.level(params, here, code if level == 1 else ground.actions[scale][code], method="predict", level=level)
    ends = (right >= 0) & (right_tag == scale)
    if ground.target is not None:
        open_end = right < 0
        ends |= open_end & (ground.target.level == level)[:, None, None]
        there = jnp.where(open_end[..., None], ground.target.state[:, None, None], there)
    return Edges(edge_exists(plan)[..., scale], own, here, right, ends, there, held, predicted)


def residual(system: System, params: Params, plan: Plan, ground: Ground, scale: int) -> jnp.ndarray:
    """sum over acted edges of `scale` of |z_left + P_l(z_left, a) - z_right|^2 / Z, with both ends given by codes of that
    scale (or s_0). Plan leaves [B, T, ...] -> [B, T]. No gradient: the JEPA learns from percepts only."""
    edges = edges_of(system, params, plan, ground, scale)
    counted = edges.exists & edges.own & edges.ends & (edges.held > 0)
    error = jnp.mean((edges.predicted - edges.there) ** 2, axis=-1)
    return jax.lax.stop_gradient(jnp.sum(jnp.where(counted, error, 0.0), axis=-1))


def unreachable(system: System, params: Params, plan: Plan, ground: Ground, scale: int) -> jnp.ndarray:
    """sum over empty edges of `scale` of -log sigmoid r_l(z_left, z_right), r_l the reachability head of `reachability`, with
    both ends given by codes of that scale (or s_0). Plan leaves [B, T, ...] -> [B, T]."""
    edges = edges_of(system, params, plan, ground, scale)
    counted = edges.exists & edges.own & edges.ends & (edges.held == 0)
    logit = system.level(params, edges.here, edges.there, method="reach", level=system.levels[scale])
    return jax.lax.stop_gradient(jnp.sum(jnp.where(counted, jax.nn.softplus(-logit), 0.0), axis=-1))


def level_link(system: System, params: Params, plan: Plan, ground: Ground, scale: int) -> jnp.ndarray:
    """sum over expanded edges of `scale`, whose level is l, of |E_l(states of the sub-plan) - z_right|^2 / Z [B, T], where
    `link_errors` counts them. Plan leaves [B, T, ...] -> [B, T]."""
    error, counted, _ = link_errors(system, params, plan, ground, scale)
    return jax.lax.stop_gradient(jnp.sum(jnp.where(counted, error, 0.0), axis=-1))


def link_errors(
    system: System, params: Params, plan: Plan, ground: Ground, scale: int
) -> tuple[jnp.ndarray, jnp.ndarray, Edges]:
    """Edge by edge what `level_link` adds up: (error, counted bool) [B, T, N], and the edges of `scale`.

    The sub-plan's states are those that its codes name and, last, the one that level l-1 predicts from its last state and
    action: the end of a sub-plan has a code of the coarser scale only. Counted are edges whose right end has a code of
    `scale`, and whose sub-plan holds an action on every edge (a sub-plan with a gap is not the whole segment) and begins its
    last edge in a state of its own scale.
    """
    upper, lower = (edges_of(system, params, plan, ground, d) for d in (scale, scale + 1))
    here, there = plan.position[..., :, None], plan.position[..., None, :]
    limit = jnp.take_along_axis(plan.position, jnp.maximum(upper.right, 0), -1, mode="clip")
    limit = jnp.where(upper.right < 0, plan.tag.shape[-1], limit)[..., None]
    tagged = plan.valid & (plan.tag == scale + 1)
    inside = tagged[..., None, :] & (there > here) & (there < limit)             # [B, T, N, N]: state m is in the sub-plan of n
    own = jnp.eye(plan.tag.shape[-1], dtype=bool)
    begins = inside | own                                                        # states that begin its edges
    last = begins & (there == jnp.max(jnp.where(begins, there, -1), -1, keepdims=True))
    acted = ~(begins & (lower.held == 0)[..., None, :]).any(-1)
    counted = upper.exists & upper.ends & plan.expanded[..., scale] & acted & (last & lower.own[..., None, :]).any(-1)
    states = jnp.concatenate([lower.here, lower.predicted], -2)[..., None, :, :]  # [B, T, 1, 2N, Z]
    weight = jnp.concatenate([inside, last], -1).astype(jnp.float32)
    found = system.level(params, states, weight, method="encode_segment", level=system.levels[scale])
    return jnp.mean((found - upper.there) ** 2, axis=-1), counted, upper


def ground_terms(system: System, params: Params, plan: Plan, ground: Ground) -> list[jnp.ndarray]:
    """The terms [B, T] that the energy weighs, in the order of its weights: residuals by scale; where the JEPA has
    reachability heads, `unreachable` by scale; with `system.level_link`, `level_link` of every scale but the finest."""
    scales = system.spec.num_scales
    kinds = [(residual, scales)] + [(unreachable, scales)] * bool(system.jepa.sizes.reach)
    kinds += [(level_link, scales - 1)] * system.level_link
    return [term(system, params, plan, ground, scale) for term, count in kinds for scale in range(count)]
