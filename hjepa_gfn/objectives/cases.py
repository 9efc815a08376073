"""Situations to plan in, as batches, and how losses lay several kinds of rows into one batch."""
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from hjepa_gfn.gflownet.rollout import choose
from hjepa_gfn.models.agent_network import Context
from hjepa_gfn.models.context import Target
from hjepa_gfn.objectives.energy import Ground, make_ground
from hjepa_gfn.objectives.seeds import seeded
from hjepa_gfn.objectives.system import Params, System
from hjepa_gfn.objectives.windows import Window, encode_start, imagined_codes, observed_codes
from hjepa_gfn.plans import Plan, root_plan


class Case(NamedTuple):
    """What the agent knows when it plans, and the plan that was observed to be executed from there (where `known`)."""

    percept: dict[str, jnp.ndarray]         # view uint8 [B,7,7,3], direction int32 [B]
    start: tuple[jnp.ndarray, ...]          # (z^1_0, z^2_0, ...), each [B, Z]
    mission: jnp.ndarray                    # int32 [B, M]
    observed: Plan                          # [B]
    known: jnp.ndarray                      # bool [B]
    root: Plan | None = None                # [B] what plans begin from; None: the root
    target: Target | None = None            # [B] the state that they are to lead to; None: the actor has no targets


def make_case(
    system: System, params: Params, window: Window, mission: jnp.ndarray, key: jnp.ndarray | None = None, plain: float = 0.0
) -> Case:
    """The situation at the first step of a window, with the plan the window realises. No gradient reaches the JEPA.

    Of an actor below the first, plans begin from the seed that the actor above would give (`seeds.seeded`: key, plain).
    """
    percept = {"view": window["view"][:, 0], "direction": window["direction"][:, 0]}
    coded = observed_codes(system, params, window)
    plan, root, target = seeded(system, params, coded, key, plain)
    start = encode_start(system, params, percept)
    return jax.lax.stop_gradient(Case(percept, start, mission, plan, coded.known, root, target))


def make_told_case(
    system: System, params: Params, batch: Any, is_final: jnp.ndarray, key: jnp.ndarray | None = None, plain: float = 0.0
) -> tuple[Case, jnp.ndarray]:
    """Cases [B] with a text each, final or draft by `is_final` bool [B], and those texts int32 [B, X]; see `make_case`.

    A final text speaks of the executed plan; a draft of a plan that the agent's world model imagines.
    """
    case = make_case(system, params, batch["start"], batch["mission"], key, plain)
    coded = imagined_codes(
        system, params, case.percept, batch["draft_action"], batch["draft_segment"], batch["draft_length"],
        batch.get("draft_clause"))
    executed = case.observed, case.root, case.target, case.known
    imagined = *jax.lax.stop_gradient(seeded(system, params, coded, key, plain)), coded.known
    observed, root, target, known = choose(is_final, executed, imagined)
    case = case._replace(observed=observed, root=root, target=target, known=known)
    return case, jnp.where(is_final[:, None], batch["final"], batch["draft"])


def roots_of(system: System, case: Case) -> Plan:
    """Plans [B] that trajectories of a case begin from."""
    return root_plan(system.spec, case.known.shape) if case.root is None else case.root


def encode_context(system: System, params: Params, case: Case) -> tuple[Context, Ground]:
    """Context tokens (with gradient) and the JEPA tables the energy refers to (without)."""
    context = system.net(params, case.percept, case.start[0], case.mission, case.target, method="context")
    return context, make_ground(system, params, *case.start, target=case.target)


def take(tree: Any, rows: jnp.ndarray) -> Any:
    """Rows of every leaf [B, ...]. `rows` is a static index array."""
    return jax.tree.map(lambda x: x[rows], tree)


def join(*trees: Any) -> Any:
    """Concatenates leaves along the batch axis."""
    return jax.tree.map(lambda *xs: jnp.concatenate(xs), *trees)


def take_ground(ground: Ground, rows: jnp.ndarray) -> Ground:
    """The start states and targets of some rows; tables are shared."""
    return ground._replace(start=take(ground.start, rows), target=take(ground.target, rows))


def at_time(states: Plan, when: jnp.ndarray) -> Plan:
    """Plans at times `when` int32 [B, A] of states [B, T+1] -> [B, A]."""
    def one(x):
        index = when.reshape(when.shape + (1,) * (x.ndim - 2))
        return jnp.take_along_axis(x, index, axis=1, mode="clip")

    return jax.tree.map(one, states)


def stack(*plans: Plan) -> Plan:
    """Plans [B] side by side on the trajectory axis: [B, k]."""
    return jax.tree.map(lambda *xs: jnp.stack(xs, axis=1), *plans)
