"""What a run carries from one iteration to the next, and how a step's gradients change it."""
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import struct

from hjepa_gfn.gflownet.gate import Gate, init_gate
from hjepa_gfn.objectives.groups import actor_view, group_of, is_copy
from hjepa_gfn.objectives.system import Params, System, init_params

FIRST = "first"  # the first actor's entry, where there are several


@struct.dataclass
class TrainState:
    """Everything a run carries from one iteration to the next."""

    step: jnp.ndarray          # int32 [] finished iterations
    params: Params             # {group: ...}
    optimizer: Params          # {group: optax state}
    gate: Any                  # `Gate`: moving average of the posterior E-step's loss; of several actors {name: Gate}


def gate_of(state: TrainState, actor: str) -> Gate:
    """An actor's gate."""
    return state.gate if isinstance(state.gate, Gate) else state.gate[actor or FIRST]


def with_gate(state: TrainState, actor: str, gate: Gate) -> TrainState:
    """The state with another gate of an actor."""
    return state.replace(gate=gate if isinstance(state.gate, Gate) else {**state.gate, actor or FIRST: gate})


def make_optimizer(config: Any) -> optax.GradientTransformation:
    """Adam with clipping by the group's global norm; the learning rate is applied by `apply_gradients`."""
    return optax.chain(optax.clip_by_global_norm(config.clip), optax.scale_by_adam(b1=0.9, b2=config.b2))


def learning_rate(config: Any, step: jnp.ndarray, group: str) -> jnp.ndarray:
    """Linear warm-up, constant, cosine to a tenth at `total_steps`; JEPA slows down once the plans depend on its codes."""
    total = config.schedule.jepa_steps + config.schedule.ground_steps + config.schedule.em_steps
    base = config.optimizer.learning_rate * jnp.minimum(1.0, (step + 1) / config.optimizer.warmup)
    if group == "jepa":
        # its own cosine, down to zero at the end of its phase: the codes stand still when the plans need them
        phase = jnp.clip(step / max(config.schedule.jepa_steps, 1), 0.0, 1.0)
        return base * config.optimizer.jepa_scale * 0.5 * (1.0 + jnp.cos(jnp.pi * phase))
    begin = config.schedule.jepa_steps
    phase = jnp.clip((step - begin) / max(total - begin, 1), 0.0, 1.0)
    return base * (0.1 + 0.45 * (1.0 + jnp.cos(jnp.pi * phase)))


def accumulate(loss_fn: Callable, params: Params, keys: jnp.ndarray, batch: Any) -> tuple[tuple, Params]:
    """((loss, metrics), gradients) of `loss_fn(params, keys[i], part i)`, means over P = len(keys) microbatches, one after the
    other. Part i holds the rows i, i + P, ...: on a mesh each device gives a part of its own rows to every microbatch.
    """
    gradient, parts = jax.value_and_grad(loss_fn, has_aux=True), keys.shape[0]
    if parts == 1:
        return gradient(params, keys[0], batch)
    batch = jax.tree.map(lambda x: jnp.moveaxis(x.reshape(-1, parts, *x.shape[1:]), 1, 0), batch)

    def add(total, part):
        return jax.tree.map(jnp.add, total, gradient(params, *part)), None

    parts_of = keys, batch
    shapes = jax.eval_shape(gradient, params, *jax.tree.map(lambda x: x[0], parts_of))
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
    total, _ = jax.lax.scan(add, zeros, parts_of)
    return jax.tree.map(lambda x: x / parts, total)


Rate = Callable[[jnp.ndarray, str], jnp.ndarray]  # (step, group) -> learning rate


def apply_gradients(rate_of: Rate, tx, state: TrainState, grads: Params, groups: tuple[str, ...]) -> TrainState:
    """One Adam step of the named groups; the others keep parameters and moments."""
    params, optimizer = dict(state.params), dict(state.optimizer)
    for group in groups:
        updates, optimizer[group] = tx.update(grads[group], state.optimizer[group], state.params[group])
        rate = rate_of(state.step, group)
        params[group] = jax.tree.map(lambda p, u, rate=rate: p - rate * u, state.params[group], updates)
    for name, _, actor in (group.partition("@") for group in groups):
        if name == "model":  # the model is now what this step made it: see `model_view`
            params[group_of("target", actor)] = actor_view(params, actor)["encoder"]
    return state.replace(params=params, optimizer=optimizer)


def init_state(system: System, config: Any, key: jnp.ndarray) -> TrainState:
    """The state at step 0; parameters in their logical-axes boxes."""
    params = init_params(system, key, config.data.mission_length)
    if config.jepa.anti_collapse == "ema":
        params["jepa_slow"] = params["jepa"]
    tx = make_optimizer(config.optimizer)
    moments = {group: tx.init(value) for group, value in params.items() if not is_copy(group)}
    gate = {actor.name or FIRST: init_gate() for actor in system.actors} if system.lower else init_gate()
    return TrainState(jnp.zeros((), jnp.int32), params, moments, gate)
