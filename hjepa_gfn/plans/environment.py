"""Plan trees as the state space of a GFlowNet (the protocol `gflownet.environment.Environment`): states are plans."""
import dataclasses
from typing import NamedTuple

import jax.numpy as jnp

from hjepa_gfn.plans.edits import apply_backward, apply_forward
from hjepa_gfn.plans.plan import Plan, root_plan
from hjepa_gfn.plans.spec import PlanSpec


class Action(NamedTuple):
    """A forward edit: where, and with which code."""

    site: jnp.ndarray  # int32 [...]
    code: jnp.ndarray  # int32 [...] within its own vocabulary (0 for EXPAND)


@dataclasses.dataclass(frozen=True)
class PlanEnvironment:
    """Plans of one spec; an undo is a backward site."""

    spec: PlanSpec

    @property
    def horizon(self) -> int:
        return self.spec.max_edits

    def root(self, batch: int) -> Plan:
        return root_plan(self.spec, (batch,))

    def depth(self, plan: Plan) -> jnp.ndarray:
        return plan.num_edits

    def forward(self, plan: Plan, action: Action) -> tuple[Plan, jnp.ndarray]:
        return apply_forward(plan, *action, self.spec)

    def backward(self, plan: Plan, undo: jnp.ndarray) -> tuple[Plan, Action]:
        smaller, site, code = apply_backward(plan, undo, self.spec)
        return smaller, Action(site, code)
