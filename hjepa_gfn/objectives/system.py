"""The static parts of an agent: its modules and sizes, and how parameters are grouped. No arrays live here."""
import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from hjepa_gfn.errors import UserError
from hjepa_gfn.models import fsq
from hjepa_gfn.models.agent_network import AgentNetwork, NetworkSizes
from hjepa_gfn.models.belief import Belief
from hjepa_gfn.models.indicators import Watchdog
from hjepa_gfn.models.jepa import Jepa, JepaSizes, LevelSizes
from hjepa_gfn.models.layers import Compute
from hjepa_gfn.plans import PlanSpec

Params = dict[str, Any]

# Top-level module names of AgentNetwork -> parameter group. A train step updates whole groups (or nothing of them).
GROUPS = {
    "context_encoder": "encoder", "encoder": "encoder", "edit_embed": "encoder",
    **{f"{kind}_{head}": "policy" for kind in ("prior", "posterior") for head in ("stop", "site", "code", "backward", "flow")},
    "energy_head": "model", "explainer_out": "model", "ground_weight": "model",
    "habit_head": "habit",
}


@dataclasses.dataclass(frozen=True)
class System:
    """Modules, plan vocabulary and the window's layout."""

    spec: PlanSpec
    network: AgentNetwork
    jepa: Jepa
    max_legs: int   # legs of an observed plan
    max_steps: int  # steps of its first leg that are spelled out
    belief: Belief | None = None
    upper: tuple[int, ...] = ()  # at most so many segments of an observed plan at the scales above legs, from the coarsest
    level_link: bool = False     # whether the energy links expanded edges to their sub-plans (`grounding.level_link`)
    own: tuple[int, ...] = ()    # JEPA levels that its plans span, from the coarsest; (): all of them

    def net(self, params: Params, *args, method: str) -> Any:
        """Applies a method of the agent's network to grouped parameters."""
        return self.network.apply({"params": merge_groups(params)}, *args, method=method)

    def level(self, params: Params, *args, method: str, **static: int) -> Any:
        """Applies a method of the JEPA hierarchy; `level=` says at which level (1, 2, ...) where it has several."""
        return self.jepa.apply({"params": params["jepa"]}, *args, method=method, **static)

    @property
    def levels(self) -> tuple[int, ...]:
        """The JEPA level (1, 2, ...) of each scale of its plans, from the coarsest."""
        return self.own or tuple(range(len(self.jepa.sizes.names), 0, -1))

    @property
    def units(self) -> tuple[int, ...]:
        """Of an observed plan, the most units at each JEPA level, from the first."""
        return (self.max_steps, self.max_legs, *self.upper[::-1])

    @property
    def spans(self) -> tuple[int, ...]:
        """Of an observed plan, the most units at each scale, from the coarsest."""
        return tuple(self.units[level - 1] for level in self.levels)

    @property
    def watchdog(self) -> Watchdog:
        """The indicators' networks."""
        return Watchdog(min(2 * self.jepa.sizes.state, WATCHDOG))

    def watch(self, params: Params, *args, method: str) -> Any:
        """Applies a method of the indicators' networks."""
        return self.watchdog.apply({"params": params["indicators"]}, *args, method=method)


def split_groups(network_params: Params) -> Params:
    """{module: ...} -> {group: {module: ...}}."""
    groups: Params = {}
    for name, value in network_params.items():
        groups.setdefault(GROUPS[name], {})[name] = value
    return groups


def merge_groups(params: Params) -> Params:
    """The inverse of `split_groups`; the groups that are no part of the network (`jepa`, copies) are left out."""
    apart = ("jepa", "jepa_slow", "belief", "indicators", "target", "sampler")
    return {name: value for group, modules in params.items() if group not in apart for name, value in modules.items()}


def model_view(params: Params) -> Params:
    """The generative model as it stands: energy and explainer on the encoder that they were last trained with.

    The encoder is shared with the policies. Read through the live encoder, every E-step would move its own target; so rewards
    are read through a copy, `target`, that is renewed by the steps that train the model, and by no other. (In the exact small
    case the posterior's total variation after 800 steps was 0.05 to 0.08 with the copy, 0.13 to 0.22 without.)
    """
    return {**params, "encoder": params["target"]}


WATCHDOG = 128  # hidden width of the indicators' networks, at most: they stay small whatever the trunk
SAMPLER_GROUPS = ("encoder", "policy", "model")


def sampler_view(params: Params) -> Params:
    """What plans and texts are sampled with, without gradient: the copy `sampler` of those groups if a train step made one."""
    return jax.lax.stop_gradient({**params, **params.get("sampler", {})})


def level_sizes(model: Any) -> tuple[LevelSizes, ...]:
    """The entries of `model.levels`, one a level above the first: the fields of `LevelSizes`, and `most` (segments of a plan;
    `model.max_legs` unless given, and at the first of them always).

    Raises:
      UserError: there is none, one has an unknown field, two have one name, or segments are cut by anything but legs (the
        first entry), clauses or a number of units.
    """
    grids, known = ("code", "action"), {"most", *(field.name for field in dataclasses.fields(LevelSizes))}
    if unknown := {k for entry in model.levels for k in entry} - known:
        raise UserError(f"model.levels: no field {min(unknown)!r}; there are {', '.join(sorted(known))}")
    levels = tuple(LevelSizes(**{k: tuple(v) if k in grids else v for k, v in entry.items() if k != "most"})
                   for entry in model.levels)
    names = [level.name for level in levels]
    if not levels or len({"step", *names}) < 1 + len(names):
        raise UserError(f"model.levels: needs one entry or more, with names of their own besides 'step': {names}")
    for n, level in enumerate(levels):
        by = level.segments
        if not (by == "clauses" or (by == "legs" and n == 0) or (isinstance(by, int) and by > 0)):
            raise UserError(f"model.levels: level {level.name!r} has segments={by!r}: must be 'legs' (the first entry only), "
                            "'clauses' or a number of units")
    return levels


def make_system(model: Any, text_vocab: int, text_length: int, num_actions: int) -> System:
    """Builds the modules from the `model` section of a config; without a belief where `model.belief.size` is 0 or missing."""
    jepa = JepaSizes(
        state=model.state, hidden=model.hidden, num_actions=num_actions,
        step_levels=tuple(model.step_levels), levels=level_sizes(model), reach=getattr(model, "reach", 0))
    upper = tuple(entry.get("most", model.max_legs) for entry in model.levels[:0:-1])
    # The fullest observed plan of S scales with n units in all has n - S + 1 states (s_0 included) and 2 n - 1 edits. A slot
    # and an edit are spare: a plan at capacity can only STOP, and a full buffer can only be left through REMOVE.
    units = sum(upper) + model.max_legs + model.max_steps
    coarsest_first = range(len(jepa.levels) + 1, 0, -1)
    spec = PlanSpec(
        state_codes=tuple(fsq.num_codes(jepa.code_grid(level)) for level in coarsest_first),
        action_codes=tuple(jepa.action_codes(level) for level in coarsest_first), capacity=units, max_edits=2 * units)
    link = bool(getattr(model, "level_link", False))
    more = spec.num_scales * (jepa.reach > 0) + (spec.num_scales - 1) * link
    sizes = NetworkSizes(
        width=model.width, heads=model.heads, mlp=model.mlp, layers=model.layers, context_layers=model.context_layers,
        queries=model.queries, text_vocab=text_vocab, text_length=text_length, num_actions=num_actions, more_ground=more,
        compute=Compute(**getattr(model, "compute", {})))
    sizes_of_belief = getattr(model, "belief", None)
    belief = None
    if sizes_of_belief and sizes_of_belief["size"]:
        belief = Belief(percept=model.state, num_actions=num_actions, **sizes_of_belief)
    return System(spec, AgentNetwork(spec, sizes), Jepa(jepa), model.max_legs, model.max_steps, belief, upper, link)


def init_params(system: System, key: jnp.ndarray, mission_length: int) -> Params:
    """Boxed parameters of every group; shapes do not depend on the batch."""
    from hjepa_gfn.plans import root_plan

    sizes, jepa = system.network.sizes, system.jepa.sizes
    view, one = jnp.zeros((1, 7, 7, 3), jnp.uint8), jnp.zeros((1,), jnp.int32)
    key_net, key_jepa = jax.random.split(key)
    network = system.network.init(
        key_net, {"view": view, "direction": one}, jnp.zeros((1, jepa.state)), jnp.ones((1, mission_length), jnp.int32),
        root_plan(system.spec, (1, 1)), jnp.ones((1, sizes.text_length), jnp.int32))["params"]
    window = jnp.zeros((1, 2), jnp.int32)
    levels = system.jepa.init(
        key_jepa, jnp.zeros((1, 3, 7, 7, 3), jnp.uint8), jnp.zeros((1, 3), jnp.int32), window, window, jnp.ones((1, 2)))
    groups = split_groups(network)
    if system.belief:
        z = jnp.zeros((1, 2, jepa.state))
        made = system.belief.init(jax.random.fold_in(key_jepa, 1), z, window[:, :1], jnp.ones((1, 2), bool))
        groups["belief"] = made["params"]
    indicators = init_indicators(system, jax.random.fold_in(key, 1))
    return {"jepa": levels["params"], **groups, "indicators": indicators, "target": groups["encoder"]}


def init_indicators(system: System, key: jnp.ndarray) -> Params:
    """Boxed parameters of the group `indicators`, which older checkpoints lack."""
    sizes, jepa = system.network.sizes, system.jepa.sizes
    blank = lambda size: jnp.zeros((1, size))  # noqa: E731
    return system.watchdog.init(key, blank((1 + len(jepa.levels)) * jepa.state + sizes.queries * sizes.width),
                                blank(len(jepa.levels[-1].action)),
                                blank(jepa.state), blank(system.spec.num_scales))["params"]
