"""The static parts of an agent: its modules and sizes. No arrays live here."""
from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from hjepa_gfn.errors import UserError
from hjepa_gfn.models import fsq
from hjepa_gfn.models.agent_network import AgentNetwork, NetworkSizes
from hjepa_gfn.models.belief import Belief, check_belief
from hjepa_gfn.models.characteristics import KINDS, Characteristics
from hjepa_gfn.models.indicators import Watchdog
from hjepa_gfn.models.jepa import Jepa, JepaSizes, LevelSizes
from hjepa_gfn.models.layers import Compute
from hjepa_gfn.objectives.actors import Actor, actors_of
from hjepa_gfn.objectives.groups import (
    GROUPS,
    SAMPLER_GROUPS,
    Params,
    actor_view,
    group_of,
    join_shared,
    merge_groups,
    model_view,
    sampler_view,
    split_groups,
    split_shared,
)
from hjepa_gfn.plans import PlanSpec, root_plan
from hjepa_gfn.worlds.egocentric_map import check_size
from hjepa_gfn.worlds.heading import channels, check_heading
from hjepa_gfn.worlds.language import VIEW_SIZE

__all__ = ["GROUPS", "SAMPLER_GROUPS", "Params", "System", "actor_view", "init_characteristics", "init_indicators",
           "init_params", "level_sizes", "make_system", "merge_groups", "model_view", "sampler_view", "split_groups"]


@dataclasses.dataclass(frozen=True)
class System:
    """One actor: modules, plan vocabulary and the window's layout. The first actor, the coarsest, stands for the whole agent.

    Its functions take the parameters as this actor sees them (`groups.actor_view`).
    """

    spec: PlanSpec
    network: AgentNetwork
    jepa: Jepa
    max_legs: int   # legs of an observed plan
    max_steps: int  # steps of its first leg that are spelled out
    belief: Belief | None = None
    upper: tuple[int, ...] = ()  # at most so many segments of an observed plan at the scales above legs, from the coarsest
    map: int = 0                 # cells a side of the map that percepts come in (`worlds.egocentric_map`); 0: plain views
    heading: str = "compass"     # what percepts say of the own direction and place (`worlds.heading`)
    level_link: bool = False     # whether the energy links expanded edges to their sub-plans (`grounding.level_link`)
    own: tuple[int, ...] = ()    # JEPA levels that its plans span, from the coarsest; (): all of them
    name: str = ""               # of an actor below the first
    above: System | None = None  # the actor whose leaf edges seed this one's plans (its finest scale is the coarsest here)
    lower: tuple[System, ...] = ()  # of the first actor: those below it, coarsest first
    share: bool = False          # of the first actor: whether all use the same transformer layers
    characteristics: str = ""    # of the first actor: what the actors say of sub-plans (`models.characteristics`); "": nothing

    @property
    def actors(self) -> tuple[System, ...]:
        """Of the first actor: all, coarsest first."""
        return (self, *self.lower)

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
    def view_shape(self) -> tuple[int, int, int]:
        """Of what percepts show: cells a side, twice, and numbers a cell."""
        side = self.map or VIEW_SIZE
        return side, side, channels(self.heading)

    @property
    def watchdog(self) -> Watchdog:
        """The indicators' networks."""
        return Watchdog(min(2 * self.jepa.sizes.state, WATCHDOG))

    def watch(self, params: Params, *args, method: str) -> Any:
        """Applies a method of the indicators' networks."""
        return self.watchdog.apply({"params": params["indicators"]}, *args, method=method)

    def describe(self, params: Params, lower: System, *args, method: str) -> Any:
        """Of the first actor: applies a method of what the actor above `lower` says of the sub-plans of `lower`."""
        own = {"params": params["characteristics"][lower.name]}
        return _characteristics(self.characteristics, lower).apply(own, *args, method=method)


WATCHDOG = 128  # hidden width of the indicators' networks, at most: they stay small whatever the trunk


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


def make_system(model: Any, text_vocab: int, text_length: int, num_actions: int, map: int = 0,
                heading: str = "compass") -> System:
    """Builds the modules from the `model` section of a config; without a belief where `model.belief.size` is 0 or missing.

    `map`: `data.map`, the size of the maps that percepts come in, or 0. `heading`: `data.heading`, see `worlds.heading`.

    Returns: the first actor; those that `model.actors` puts below it are its `lower`.
    Raises:
      UserError: see `level_sizes`, `actors.actors_of`, `belief.check_belief` and `heading.check_heading`.
    """
    check_size(map)
    check_heading(heading)
    jepa = JepaSizes(
        state=model.state, hidden=model.hidden, num_actions=num_actions,
        step_levels=tuple(model.step_levels), levels=level_sizes(model),
        compass=bool(getattr(model, "compass", False)), reach=getattr(model, "reach", 0))
    found = actors_of(model, jepa.names)
    sizes_of_belief = getattr(model, "belief", None)
    belief = None
    if sizes_of_belief and sizes_of_belief["size"]:
        check_belief(sizes_of_belief["size"], map)
        belief = Belief(percept=model.state, num_actions=num_actions, map=map, **sizes_of_belief)
    make = lambda actor, above: _make_actor(  # noqa: E731
        model, jepa, map, actor, above, text_vocab=text_vocab, text_length=text_length, num_actions=num_actions)
    first, lower = make(found[0], None), []
    for actor in found[1:]:
        lower.append(make(actor, lower[-1] if lower else first))
    share = bool(getattr(model, "share_layers", False)) and bool(lower)
    kind = getattr(model, "characteristics", "")
    if kind and (kind not in KINDS or not lower):
        raise UserError(f"model.characteristics={kind!r}: must be one of {', '.join(KINDS)} where there are two actors or more "
                        "(model.actors), or ''")
    return dataclasses.replace(first, belief=belief, lower=tuple(lower), share=share, characteristics=kind, heading=heading)


def system_from(config: Any, text_vocab: int, num_actions: int) -> System:
    """`make_system` of a whole config; those of older exports and checkpoints say less of percepts."""
    data = config.data
    return make_system(
        config.model, text_vocab, data.text_length, num_actions, data.get("map", 0), data.get("heading", "compass"))


def _make_actor(
    model: Any, jepa: JepaSizes, map: int, actor: Actor, above: System | None, **sizes: int
) -> System:
    """One actor over its own levels. Below the first, plans have targets, and the energy always links them to these."""
    upper = tuple(entry.get("most", model.max_legs) for entry in model.levels[:0:-1])
    # The fullest observed plan of S scales with n units in all has n - S + 1 states (s_0 included) and 2 n - 1 edits. A slot
    # and an edit are spare: a plan at capacity can only STOP, and a full buffer can only be left through REMOVE.
    most = (model.max_steps, model.max_legs, *upper[::-1])
    units, scales = sum(most[level - 1] for level in actor.levels), len(actor.levels)
    spec = PlanSpec(
        state_codes=tuple(fsq.num_codes(jepa.code_grid(level)) for level in actor.levels),
        action_codes=tuple(jepa.action_codes(level) for level in actor.levels), capacity=units, max_edits=2 * units)
    link = bool(getattr(model, "level_link", False)) or above is not None
    network = NetworkSizes(
        width=model.width, heads=model.heads, mlp=model.mlp, layers=model.layers, context_layers=model.context_layers,
        queries=model.queries, more_ground=scales * (jepa.reach > 0) + (scales - 1) * link,
        targets=len(jepa.names) if above else 0, aim=bool(getattr(model, "aim", False)),
        compute=Compute(**getattr(model, "compute", {})), **sizes)
    own = () if scales == len(jepa.names) else actor.levels
    return System(spec, AgentNetwork(spec, network), Jepa(jepa), model.max_legs, model.max_steps, upper=upper, map=map,
                  level_link=link, own=own, name=actor.name, above=above)


def init_params(system: System, key: jnp.ndarray, mission_length: int) -> Params:
    """Boxed parameters of every group of every actor; shapes do not depend on the batch."""
    key_net, key_jepa = jax.random.split(key)
    window = jnp.zeros((1, 2), jnp.int32)
    views = jnp.zeros((1, 3, *system.view_shape), jnp.uint8)
    levels = system.jepa.init(key_jepa, views, jnp.zeros((1, 3), jnp.int32), window, window, jnp.ones((1, 2)))
    groups: Params = {}
    for number, actor in enumerate(system.actors):
        own = split_groups(_init_network(actor, jax.random.fold_in(key_net, number) if number else key_net, mission_length))
        own["target"] = own["encoder"]
        if system.share:
            own["encoder"], shared = split_shared(own["encoder"])
            groups.setdefault("shared", shared)
            own["target"] = join_shared(own["encoder"], groups["shared"])
        groups |= {group_of(name, actor.name): value for name, value in own.items()}
    if system.belief:
        made = system.belief.init(jax.random.fold_in(key_jepa, 1), views[:, :2], window, window[:, :1], jnp.ones((1, 2), bool))
        groups["belief"] = made["params"]
    if system.characteristics:
        groups["characteristics"] = init_characteristics(system, jax.random.fold_in(key, 2))
    return {"jepa": levels["params"], **groups, "indicators": init_indicators(system, jax.random.fold_in(key, 1))}


def _init_network(system: System, key: jnp.ndarray, mission_length: int) -> Params:
    """Boxed parameters of an actor's network, by module."""
    view, one = jnp.zeros((1, *system.view_shape), jnp.uint8), jnp.zeros((1,), jnp.int32)
    return system.network.init(
        key, {"view": view, "direction": one}, jnp.zeros((1, system.jepa.sizes.state)),
        jnp.ones((1, mission_length), jnp.int32), root_plan(system.spec, (1, 1)),
        jnp.ones((1, system.network.sizes.text_length), jnp.int32))["params"]


def init_indicators(system: System, key: jnp.ndarray) -> Params:
    """Boxed parameters of the group `indicators`, which older checkpoints lack."""
    sizes, jepa = system.network.sizes, system.jepa.sizes
    blank = lambda size: jnp.zeros((1, size))  # noqa: E731
    return system.watchdog.init(key, blank((1 + len(jepa.levels)) * jepa.state + sizes.queries * sizes.width),
                                blank(len(jepa.levels[-1].action)),
                                blank(jepa.state), blank(system.spec.num_scales))["params"]


def _characteristics(kind: str, lower: System) -> Characteristics:
    """The networks of one pair of actors."""
    return Characteristics(kind, lower.above.spec.num_scales, min(2 * lower.network.sizes.width, WATCHDOG))


def init_characteristics(system: System, key: jnp.ndarray) -> Params:
    """Boxed parameters of the group `characteristics`: by the name of the lower actor of each pair."""
    made = {}
    for number, lower in enumerate(system.lower):
        module, width = _characteristics(system.characteristics, lower), lower.network.sizes.width
        given = jnp.zeros((1, width)), jnp.zeros((1,), jnp.int32)
        made[lower.name] = module.init(jax.random.fold_in(key, number), *given)["params"]
    return made
