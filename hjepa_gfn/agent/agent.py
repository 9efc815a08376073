"""An agent ready to act: an export (parameters, config, tokenizer), its modules, and its compiled modes."""
from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from hjepa_gfn.agent import modes
from hjepa_gfn.agent.filling import Filling
from hjepa_gfn.agent.options import changed
from hjepa_gfn.data.tokenizer import Tokenizer
from hjepa_gfn.errors import UserError
from hjepa_gfn.export import load_export
from hjepa_gfn.objectives.groups import unshared
from hjepa_gfn.objectives.system import System, system_from
from hjepa_gfn.worlds import World, make_world
from hjepa_gfn.worlds.kinds import PERCEPT_KINDS
from hjepa_gfn.worlds.missing import Missing
from hjepa_gfn.worlds.remembering import Remembering

NUM_ACTIONS = 7  # MiniGrid


class Agent(NamedTuple):
    """Everything needed to act; made by `load_agent`."""

    system: System
    params: Any
    tokenizer: Tokenizer
    config: Any
    act: dict[str, Any]  # `modes.compiled`
    kinds: np.ndarray | None = None  # `worlds.kinds.count_kinds` of what it was trained on; None: not known (older exports)

    def missions(self, missions: list[str]) -> jnp.ndarray:
        """Token ids int32 [B, M]."""
        return jnp.asarray(np.stack([
            self.tokenizer.encode_text(mission, self.config.data.mission_length) for mission in missions]))


def world_for(agent: Agent, level: str, batch_size: int, missing: float = 0.0) -> World:
    """A level's world as the agent perceives it: the views or, where it was trained with one, the map of what it has seen; its
    compass, or how far it has turned; and whether what it sees contradicts what it saw before. `missing`: share of views that
    it does not get (`worlds.missing`); what it perceives instead is `agent.fill`.

    Raises:
      UserError: see `filling.check_fill` and `missing.check_share`.
    """
    world = make_world(level, batch_size)
    world = Remembering(Missing(world, missing) if missing else world, agent.system.map, agent.system.heading)
    fill = agent.config.agent.get("fill", "")
    return Filling(world, fill, agent.system.belief, agent.params.get("belief")) if fill else world


def several_actors(agent: Agent) -> bool:
    """Whether a hierarchy of actors plans: only then is there something for those above the finest to hold."""
    return "blank" in agent.act


def load_agent(directory: str | os.PathLike) -> Agent:
    """The agent of an export directory, on one device.

    Raises:
      UserError: the directory is missing, incomplete or of another format.
    """
    export = load_export(directory)
    try:
        config = ConfigDict(export.config)
        tokenizer = Tokenizer.from_json(export.tokenizer_json, str(directory))
        system = system_from(config, tokenizer.vocab_size, NUM_ACTIONS)
    except (AttributeError, KeyError) as error:
        raise UserError(f"{directory}: config.json is not of an agent of this version ({error})") from error
    return Agent(system, unshared(export.params), tokenizer, config, modes.compiled(system, config.agent),
                 export.codebooks.get(PERCEPT_KINDS))


def with_options(agent: Agent, changes: Sequence[str]) -> Agent:
    """The agent as it acts with other values of some fields of `config.agent`: see `options.changed`."""
    if not changes:
        return agent
    config = agent.config.copy_and_resolve_references()
    with config.unlocked():
        config.agent = changed(config.agent, changes)
    return agent._replace(config=config, act=modes.compiled(agent.system, config.agent))
