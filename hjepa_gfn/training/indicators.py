"""The indicators' group trained alone, on top of an agent that is otherwise finished: for checkpoints that lack it."""
from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from hjepa_gfn.data.pipeline import Pipeline
from hjepa_gfn.distributed import unbox
from hjepa_gfn.gflownet.gate import init_gate
from hjepa_gfn.objectives.system import Params, System, init_indicators
from hjepa_gfn.objectives.train_steps import TrainState, make_optimizer, make_train_steps


def train_indicators(
    system: System, params: Params, config: Any, pipeline: Pipeline, steps: int, rows: int = 64
) -> tuple[Params, list[dict[str, float]]]:
    """`steps` calls of the registered train step `indicators` from new parameters, at a rate that falls to a tenth.

    Args:
      params: of a trained agent; no other group of it changes.
      config: the agent's; what older ones lack is filled in.
    Returns: the parameters with the group `indicators`, and the metrics of every step.
    """
    config = config.copy_and_resolve_references()
    with config.unlocked():
        config.groups = config.microbatches = 1
        config.em.rows.indicators = min(rows, config.data.batch_size)
        config.schedule.update(dict(jepa_steps=0, ground_steps=0, em_steps=steps))
    key = jax.random.fold_in(jax.random.key(config.seed), 1)
    group = unbox(jax.jit(lambda: init_indicators(system, key))())
    optimizer = {"indicators": make_optimizer(config.optimizer).init(group)}
    state = TrainState(jnp.zeros((), jnp.int32), {**params, "indicators": group}, optimizer, init_gate())
    step = jax.jit(make_train_steps(system, config)["indicators"])
    metrics = []
    for number in range(steps):
        batch = pipeline.batch(number)
        state, found = step(state, {name: batch[name] for name in ("random", "mission")})
        state = state.replace(step=jnp.int32(number + 1))
        metrics.append(found)
    return state.params, [{name: float(np.asarray(value)) for name, value in found.items()} for found in metrics]
