"""Acting after being told something: a text reaches the agent at the first step of an episode, as its posterior's evidence; and
a speaker that acts on its own words alone, the autoregressive reader it is compared with.
"""
from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from hjepa_gfn.agent.agent import Agent
from hjepa_gfn.agent.decision import Decision, Percept, encode, passes_to_build
from hjepa_gfn.agent.following import CHUNK, PlanFollower, in_chunks
from hjepa_gfn.agent.reading import first_leg
from hjepa_gfn.errors import UserError
from hjepa_gfn.exemplary.phrases import actions_of, parse_plan
from hjepa_gfn.objectives.policies import Exploration, sample_plans
from hjepa_gfn.objectives.system import Params, System
from hjepa_gfn.plans import Plan, root_plan
from hjepa_gfn.worlds.protocol import Observation


def read_and_plan(
    system: System, params: Params, key: jnp.ndarray, percept: Percept, mission: jnp.ndarray, temperature: float
) -> Decision:
    """One plan in each of B situations: z ~ P_F(z|x,c) where percept["text"], int32 [B, X], holds a text, else z ~ P_F(z|c)."""
    text = percept["text"]
    context, _ = encode(system, params, percept, mission)
    k_read, k_guess = jax.random.split(key)
    read = sample_plans(system, params, k_read, context, text, Exploration(temperature))
    guess = sample_plans(system, params, k_guess, context, None, Exploration(temperature))
    told = (text > 0).any(-1)
    plans = jax.tree.map(lambda r, g: jnp.where(told.reshape(-1, *(1,) * (r.ndim - 1)), r, g), read, guess)
    return _decided(system, params, plans)


def only_plan(
    system: System, params: Params, key: jnp.ndarray, percept: Percept, mission: jnp.ndarray, temperature: float
) -> Decision:
    """`read_and_plan` where nobody was told anything: the same decisions with the same key; the posterior is not sampled."""
    context, _ = encode(system, params, percept, mission)
    _, k_guess = jax.random.split(key)
    return _decided(system, params, sample_plans(system, params, k_guess, context, None, Exploration(temperature)))


def _decided(system: System, params: Params, plans: Plan) -> Decision:
    zero = jnp.zeros(plans.batch_shape)
    passes = 1 + passes_to_build(system, plans.num_edits)
    return Decision(plans, zero, zero[:, None], first_leg(system, params, plans), passes)


class ToldMode:
    """Planning mode whose first plan of each episode is drawn from the posterior, given that episode's text (see `choose`)."""

    def __init__(self, agent: Agent, seed: int, texts: np.ndarray):
        """texts: int32 [B, X], zeros where nothing is said. Raises UserError for an agent of several actors."""
        if getattr(agent.system, "lower", ()):
            raise UserError("texts are read by the plans of one actor: this agent has several (model.actors)")
        system, temperature = agent.system, agent.config.agent.temperature
        read = jax.jit(lambda *inputs: read_and_plan(system, *inputs, temperature))
        unread = jax.jit(lambda *inputs: only_plan(system, *inputs, temperature))

        def decide(params: Params, key: jnp.ndarray, percept: Percept, mission: jnp.ndarray) -> Decision:
            return (read if np.any(percept["text"]) else unread)(params, key, percept, mission)

        self.texts, self.follower = texts, PlanFollower(agent, seed, decide)

    def __call__(self, observation: Observation, running: np.ndarray) -> np.ndarray:
        percept = {**observation.percept, "text": self.texts}
        actions = self.follower(observation._replace(percept=percept), running)
        self.texts = np.zeros_like(self.texts)
        return actions


class SpeakingMode:
    """Writes a text of what to do, x ~ p(x|c), without a plan, and carries out all that it states; then the next text.

    The texts come from the agent's own explainer, which sees the root plan only: an autoregressive model of the same size and
    data. What it is told is a prefix that its first text of an episode begins with; it completes it. Where a text states no
    plan it acts by habit.
    """

    def __init__(self, agent: Agent, seed: int, prefixes: np.ndarray):
        """prefixes: int32 [B, X], as texts are laid out, zeros from where the model goes on by itself."""
        self.agent, self.key, self.tick, self.prefixes = agent, jax.random.key(seed), 0, prefixes
        self.queue: list[list[int]] = [[] for _ in prefixes]

    def __call__(self, observation: Observation, running: np.ndarray) -> np.ndarray:
        self.tick += 1
        agent, key = self.agent, jax.random.fold_in(self.key, self.tick)
        percept = {name: np.asarray(value) for name, value in observation.percept.items()}
        mission = agent.missions(observation.mission)
        empty = root_plan(agent.system.spec, (CHUNK,))
        silent = np.flatnonzero(running & np.array([not queue for queue in self.queue]))
        for number, (index, count) in enumerate(in_chunks(silent, CHUNK)):
            seen = {name: value[index] for name, value in percept.items()}
            said = np.asarray(agent.act["explain"](
                agent.params, jax.random.fold_in(key, number), seen, mission[index], empty, self.prefixes[index]))
            for words, i in zip(said[:count], index[:count], strict=True):
                self.queue[i] = stated(agent, words)
        self.prefixes = np.zeros_like(self.prefixes)
        actions = np.zeros(len(running), np.int64)
        if any(running[i] and not queue for i, queue in enumerate(self.queue)):
            actions = np.asarray(agent.act["habitual"](agent.params, key, percept, mission)).astype(np.int64)
        for i in np.flatnonzero(running):
            if self.queue[i]:
                actions[i] = self.queue[i].pop(0)
        return actions


def stated(agent: Agent, words: np.ndarray) -> list[int]:
    """The actions that a text int32 [X] states; none where it cannot be read."""
    try:
        return actions_of(parse_plan(agent.tokenizer.decode_text(words.tolist())))
    except UserError:
        return []


def prefix_of(text: np.ndarray, share: float) -> np.ndarray:
    """Texts int32 [B, X] cut after a share of their words (begin and end not counted), zeros after it."""
    length = np.maximum((text > 2).sum(-1), 0)
    kept = np.arange(text.shape[-1]) <= np.floor(share * length)[:, None]
    return np.where(kept, text, 0).astype(np.int32)


def tokens(agent: Agent, texts: list[str]) -> np.ndarray:
    """Token ids int32 [B, X] of texts."""
    length: Any = agent.config.data.text_length
    return np.stack([agent.tokenizer.encode_text(text, length) for text in texts])
