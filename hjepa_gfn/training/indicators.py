"""Groups that nothing else depends on, trained alone, on top of an agent that is otherwise finished: for checkpoints that lack
them."""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from hjepa_gfn.data.pipeline import Pipeline
from hjepa_gfn.distributed import unbox
from hjepa_gfn.gflownet.gate import init_gate
from hjepa_gfn.objectives.system import Params, System, init_characteristics, init_indicators
from hjepa_gfn.objectives.train_steps import TrainState, make_optimizer, make_train_steps


def train_indicators(
    system: System, params: Params, config: Any, pipeline: Pipeline, steps: int, rows: int = 64
) -> tuple[Params, list[dict[str, float]]]:
    """`train_group` of the indicators' networks."""
    return train_group("indicators", init_indicators, system, params, config, pipeline, steps, rows)


def train_characteristics(
    system: System, params: Params, config: Any, pipeline: Pipeline, steps: int, rows: int = 64
) -> tuple[Params, list[dict[str, float]]]:
    """`train_group` of what the actors say of sub-plans: `system` says of which kind."""
    return train_group("characteristics", init_characteristics, system, params, config, pipeline, steps, rows)


def train_group(
    name: str, init: Callable[[System, jnp.ndarray], Params], system: System, params: Params, config: Any, pipeline: Pipeline,
    steps: int, rows: int,
) -> tuple[Params, list[dict[str, float]]]:
    """`steps` calls of the registered train step `name` from new parameters of the group of that name, at a rate that falls to
    a tenth.

    Args:
      init: (system, key) -> boxed parameters of the group.
      params: of a trained agent; no other group of it changes.
      config: the agent's; what older ones lack is filled in. rows: of a batch, at most.
    Returns: the parameters with the group, and the metrics of every step.
    """
    config = config.copy_and_resolve_references()
    with config.unlocked():
        config.groups = config.microbatches = 1
        config.em.rows[name] = min(rows, config.data.batch_size)
        config.schedule.update(dict(jepa_steps=0, ground_steps=0, em_steps=steps))
    key = jax.random.fold_in(jax.random.key(config.seed), 1)
    group = unbox(jax.jit(lambda: init(system, key))())
    optimizer = {name: make_optimizer(config.optimizer).init(group)}
    state = TrainState(jnp.zeros((), jnp.int32), {**params, name: group}, optimizer, init_gate())
    step = jax.jit(make_train_steps(system, config)[name])
    metrics = []
    for number in range(steps):
        batch = pipeline.batch(number)
        state, found = step(state, {part: batch[part] for part in ("random", "mission")})
        state = state.replace(step=jnp.int32(number + 1))
        metrics.append(found)
    return state.params, [{key: float(np.asarray(value)) for key, value in found.items()} for found in metrics]
