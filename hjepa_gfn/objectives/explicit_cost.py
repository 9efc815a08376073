"""The Cost module that this agent does without, for comparison (LeCun 2022, section 3.2): C(s) = IC(s, a) + TC(s).

The intrinsic cost IC is fixed: effort, 1 a step, and 1 more for handling things. The trainable critic TC foresees the intrinsic
cost still to come. Plans are chosen by model-predictive control in the JEPA's step states: of all action sequences of a
horizon the one whose predicted costs sum to the least.
"""
import itertools
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from hjepa_gfn.models.agent_network import Context
from hjepa_gfn.models.layers import Mlp
from hjepa_gfn.objectives.system import Params, System
from hjepa_gfn.objectives.windows import Window
from hjepa_gfn.worlds.babyai import DONE, PICKUP

Metrics = dict[str, jnp.ndarray]
stop = jax.lax.stop_gradient


class Critic(nn.Module):
    """TC(z, c) [...]: cost still to come from a step state z [..., Z] in the situation features [..., F] (`situation`)."""

    hidden: int

    @nn.compact
    def __call__(self, z: jnp.ndarray, features: jnp.ndarray) -> jnp.ndarray:
        return Mlp((self.hidden, self.hidden), 1, 0.1, first=None, name="mlp")(jnp.concatenate([z, features], -1))[..., 0]


def intrinsic(action: jnp.ndarray) -> jnp.ndarray:
    """IC of actions int32 [...]: 1, and 1 more for pick-up, drop and toggle."""
    return 1.0 + ((action >= PICKUP) & (action < DONE))


def situation(system: System, context: Context) -> jnp.ndarray:
    """What the critic knows of mission and first percept: the context's query tokens [B, queries x D]."""
    return context.tokens[:, : system.network.sizes.queries].reshape(context.tokens.shape[0], -1)


def critic_loss(
    critic: Params, key: jnp.ndarray, window: Window, mission: jnp.ndarray, system: System, params: Params, hidden: int
) -> tuple[jnp.ndarray, Metrics]:
    """Mean over the states of exemplary windows of

        (TC(z_t) - G_t)^2 + [t < L] (TC(z^_t(b)) - (G_t + IC(b)))^2,    G_t = sum_{u=t}^{L-1} IC(a_u),
    z^_t(b) the JEPA's prediction after an action b that the expert did not take: it is taken to bring nothing, so that the
    expert's remaining way is still to go, and what b cost was in vain. window: the episodes' windows [B], to their ends.

    Returns: loss [] and metrics `error` (root mean square on the expert's states) and `margin`, the mean of TC(z^_t(b)) less
    TC(z_{t+1}).
    """
    percept = {name: window[name][:, 0] for name in ("view", "direction")}
    z = stop(system.level(params, window["view"], window["direction"], method="encode"))
    context = system.net(params, percept, z[:, 0], mission, method="context")
    features = stop(situation(system, context))[:, None]
    action, steps = window["action"], window["action"].shape[1]
    real = (jnp.arange(steps) < window["length"][:, None]).astype(jnp.float32)
    seen = jnp.concatenate([(window["length"] > 0)[:, None].astype(jnp.float32), real], axis=1)
    cost = intrinsic(action) * real
    togo = jnp.concatenate([jnp.cumsum(cost[:, ::-1], 1)[:, ::-1], jnp.zeros_like(cost[:, :1])], axis=1)
    other = (action + jax.random.randint(key, action.shape, 1, system.jepa.sizes.num_actions)) % system.jepa.sizes.num_actions
    astray = stop(system.level(params, z[:, :-1], other, method="predict", level=1))
    judge = lambda x: Critic(hidden).apply(  # noqa: E731
        {"params": critic}, x, jnp.broadcast_to(features, (*x.shape[:2], features.shape[-1])))
    of_expert, of_other = judge(z), judge(astray)
    mean = lambda x, w: jnp.sum(x * w) / jnp.maximum(w.sum(), 1.0)  # noqa: E731
    own = mean((of_expert - togo) ** 2, seen)
    loss = own + mean((of_other - togo[:, :-1] - intrinsic(other)) ** 2, real)
    chex.assert_shape(loss, ())
    return loss, {"error": jnp.sqrt(own), "margin": mean(of_other - of_expert[:, 1:], real)}


def sequences(actions: int, horizon: int) -> np.ndarray:
    """All action sequences int32 [actions^H, H]."""
    return np.array(list(itertools.product(range(actions), repeat=horizon)), np.int32)


def sequence_costs(
    system: System, params: Params, critic: Params, z: jnp.ndarray, features: jnp.ndarray, plans: jnp.ndarray, hidden: int
) -> jnp.ndarray:
    """[B, K]: sum of IC over the actions of plans int32 [K, H], and TC of the state that the JEPA predicts at their end, from z
    [B, Z] in the situations features [B, F]."""
    rows, count = z.shape[0], plans.shape[0]

    def step(state: jnp.ndarray, action: jnp.ndarray) -> tuple[jnp.ndarray, None]:
        return system.level(params, state, jnp.broadcast_to(action, (rows, count)), method="predict", level=1), None

    end, _ = jax.lax.scan(step, jnp.broadcast_to(z[:, None], (rows, count, z.shape[-1])), plans.T)
    wide = jnp.broadcast_to(features[:, None], (rows, count, features.shape[-1]))
    return intrinsic(plans).sum(-1) + Critic(hidden).apply({"params": critic}, end, wide)


def init_critic(system: System, key: jnp.ndarray, hidden: int) -> Params:
    """Parameters of the critic."""
    sizes = system.network.sizes
    blank: Any = jnp.zeros((1, system.jepa.sizes.state)), jnp.zeros((1, sizes.queries * sizes.width))
    return nn.unbox(Critic(hidden).init(key, *blank)["params"])
