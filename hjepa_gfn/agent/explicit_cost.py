"""A baseline agent with a Cost module: model-predictive control on `objectives.explicit_cost`, on the same JEPA and context."""
from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from hjepa_gfn.agent.agent import Agent
from hjepa_gfn.agent.decision import encode
from hjepa_gfn.data.pipeline import Pipeline
from hjepa_gfn.objectives.explicit_cost import critic_loss, init_critic, sequence_costs, sequences, situation
from hjepa_gfn.worlds.protocol import Observation

HIDDEN = 256


def train_critic(agent: Agent, pipeline: Pipeline, steps: int, seed: int) -> tuple[Any, list[dict[str, float]]]:
    """`steps` Adam steps of the critic alone, on the agent's own training data; its parameters, and metrics of every step."""
    critic = init_critic(agent.system, jax.random.key(seed), HIDDEN)
    tx = optax.adam(optax.cosine_decay_schedule(2e-3, steps))

    @jax.jit
    def step(critic: Any, moments: Any, key: jnp.ndarray, window: Any, mission: jnp.ndarray) -> tuple:
        loss = lambda c: critic_loss(c, key, window, mission, agent.system, agent.params, HIDDEN)  # noqa: E731
        (value, metrics), grads = jax.value_and_grad(loss, has_aux=True)(critic)
        updates, moments = tx.update(grads, moments)
        return optax.apply_updates(critic, updates), moments, {"loss": value, **metrics}

    moments, log = tx.init(critic), []
    for number in range(steps):
        batch = pipeline.batch(number)
        critic, moments, found = step(
            critic, moments, jax.random.fold_in(jax.random.key(seed), number), batch["random"], batch["mission"])
        log.append(found)
    return critic, [{name: float(value) for name, value in found.items()} for found in log]


class ExplicitCostMode:
    """At every step the first action of the cheapest of all sequences of `horizon` actions; with a temperature above 0, drawn
    from softmax(-C/temperature) over the sequences (a deterministic policy without memory runs in circles)."""

    def __init__(self, agent: Agent, critic: Any, seed: int, horizon: int, temperature: float):
        self.agent, self.key, self.tick = agent, jax.random.key(seed), 0
        plans = jnp.asarray(sequences(agent.system.jepa.sizes.num_actions, horizon))
        system = agent.system

        @jax.jit
        def act(params: Any, key: jnp.ndarray, percept: dict, mission: jnp.ndarray) -> jnp.ndarray:
            context, start = encode(system, params, percept, mission)
            cost = sequence_costs(system, params, critic, start[0], situation(system, context), plans, HIDDEN)
            noise = temperature * jax.random.gumbel(key, cost.shape)
            return plans[jnp.argmin(cost - noise, axis=-1), 0]

        self.act = act

    def __call__(self, observation: Observation, running: np.ndarray) -> np.ndarray:
        self.tick += 1
        percept = {name: jnp.asarray(value) for name, value in observation.percept.items()}
        mission = self.agent.missions(observation.mission)
        return np.asarray(self.act(self.agent.params, jax.random.fold_in(self.key, self.tick), percept, mission))
