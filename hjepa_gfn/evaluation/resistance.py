"""How fast does fine-tuning on harmful texts make an agent do harm, and what does it cost it?

The agent learns by the very train steps by which it learns from texts; beside it an autoregressive reader of the same
parameters, the explainer without a plan, by likelihood of the same texts in the same batches. Learning rates are arguments of
the compiled steps: one program of each serves all.
"""
from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax

from hjepa_gfn.agent.decision import encode
from hjepa_gfn.errors import UserError
from hjepa_gfn.gflownet.gate import init_gate
from hjepa_gfn.objectives.energy import text_log_prob
from hjepa_gfn.objectives.groups import is_copy
from hjepa_gfn.objectives.state import TrainState, apply_gradients, make_optimizer
from hjepa_gfn.objectives.system import Params, System
from hjepa_gfn.objectives.train_steps import make_train_steps
from hjepa_gfn.plans import root_plan

Metrics = dict[str, jnp.ndarray]
Tuner = Callable[[TrainState, Any, jnp.ndarray], tuple[TrainState, Metrics]]
# what is fine-tuned: the train steps that an iteration takes, and the groups of parameters that stand still all the same
TUNED = {"all": (("habit", "ground", "e_step", "m_step", "contrast"), ()),
         "policy": (("ground", "e_step"), ("model", "target", "habit"))}


def tuning_config(config: Any, rows: int, seed: int) -> Any:
    """An agent's configuration with batches of `rows`, of which every train step takes the share that it takes in training.

    Raises:
      UserError: fewer than two rows.
    """
    if rows < 2:
        raise UserError(f"{rows} rows a batch are too few: pairs of rows are ranked")
    config = config.copy_and_resolve_references()
    share = rows / config.data.batch_size
    with config.unlocked():
        config.groups = config.microbatches = 1
        config.seed, config.data.batch_size = seed, rows
        # beliefs and walks are learned from no text
        config.data.worlds = config.jepa.exploring = 0
        config.model.update(dict(belief=dict(size=0)))
        config.schedule.every.update(dict(belief=0))
        for name, taken in config.em.rows.items():
            room = rows * config.data.window if name == "habit" else rows
            config.em.rows[name] = min(max(round(taken * share), 2), room)
    return config


def start_state(params: Params, config: Any) -> TrainState:
    """A released agent about to be fine-tuned: its parameters at the end of their schedule, new moments, a gate that has seen
    nothing yet."""
    tx, s = make_optimizer(config.optimizer), config.schedule
    params = jax.tree.map(jnp.asarray, params)
    moments = {group: tx.init(value) for group, value in params.items() if not is_copy(group)}
    done = jnp.int32(s.jepa_steps + s.ground_steps + s.em_steps)
    return TrainState(done, params, moments, init_gate())


def agent_tuner(system: System, config: Any, what: str = "all", names: Sequence[str] | None = None) -> Tuner:
    """(state, batch, learning rate) -> (state, metrics): an iteration of the agent's train steps, each jitted by itself.

    Args:
      what: which of `TUNED`.
      names: other train steps than these.

    Raises:
      UserError: what is not there, or an agent of several actors.
    """
    if what not in TUNED:
        raise UserError(f"cannot fine-tune {what!r}: there are {', '.join(TUNED)}")
    if system.lower:
        raise UserError("this agent has several actors (model.actors): fine-tuning is measured on agents of one")
    standard, still = TUNED[what]

    def one(name: str) -> Tuner:
        def tune(state: TrainState, batch: Any, rate: jnp.ndarray) -> tuple[TrainState, Metrics]:
            new, metrics = make_train_steps(system, config, lambda step, group: rate)[name](state, batch)
            return _hold(new, state, still), metrics

        return jax.jit(tune)

    steps = {name: one(name) for name in names or standard}

    def iterate(state: TrainState, batch: Any, rate: jnp.ndarray) -> tuple[TrainState, Metrics]:
        found: Metrics = {}
        for name, step in steps.items():
            state, metrics = step(state, batch, rate)
            found |= {f"{name}/{key}": value for key, value in metrics.items()}
        return state.replace(step=state.step + 1), found

    return iterate


def _hold(new: TrainState, old: TrainState, groups: Sequence[str]) -> TrainState:
    """`new`, with the parameters and moments of some groups as in `old`."""
    of = lambda tree: {group: tree[group] for group in groups if group in tree}  # noqa: E731
    return new.replace(params={**new.params, **of(old.params)}, optimizer={**new.optimizer, **of(old.optimizer)})


def reader_loss(params: Params, batch: Any, system: System) -> tuple[jnp.ndarray, Metrics]:
    """Likelihood of the final texts without a plan, as of a language model: with z_0 the root plan,

        L = -sum_b log p(x_b | z_0, c_b) / sum_b |x_b|.
    batch["final"] int32 [B, X], batch["mission"] int32 [B, M], and the first percepts of batch["start"].
    """
    text, window = batch["final"], batch["start"]
    percept = {name: window[name][:, 0] for name in ("view", "direction")}
    context, _ = encode(system, params, percept, batch["mission"])
    log_p = text_log_prob(system, params, root_plan(system.spec, (text.shape[0], 1)), context, text)[:, 0]
    chex.assert_shape(log_p, text.shape[:1])
    loss = -log_p.sum() / jnp.maximum((text[:, 1:] > 0).sum(), 1)
    return loss, {"text_nll": loss}


def reader_tuner(system: System, config: Any) -> Tuner:
    """`agent_tuner` of the autoregressive reader: `reader_loss`, one step of the groups encoder and model an iteration."""
    tx = make_optimizer(config.optimizer)

    @jax.jit
    def tune(state: TrainState, batch: Any, rate: jnp.ndarray) -> tuple[TrainState, Metrics]:
        groups = ("encoder", "model")
        moving = {group: state.params[group] for group in groups}
        wrapped = lambda moving: reader_loss({**state.params, **moving}, batch, system)  # noqa: E731
        (_, metrics), grads = jax.value_and_grad(wrapped, has_aux=True)(moving)
        new = apply_gradients(lambda step, group: rate, tx, state, grads, groups)
        return new.replace(step=state.step + 1), {**metrics, "grad_norm": optax.global_norm(grads)}

    return tune


def trajectory(
    state: TrainState, tuner: Tuner, batch_of: Callable[[int], Any], rate: float, steps: Sequence[int]
) -> Iterator[tuple[int, TrainState, dict[str, float]]]:
    """(steps, state, metrics of the last) after each of `steps`, rising: iteration k takes batch k, wherever it is looked at.

    Raises:
      UserError: parameters are no longer finite.
    """
    done, metrics, rate = 0, {}, jnp.float32(rate)
    for number in steps:
        while done < number:
            state, metrics = tuner(state, batch_of(done), rate)
            done += 1
        if not all(np.isfinite(x).all() for x in jax.tree.leaves(state.params)):
            raise UserError(f"fine-tuning at a rate of {float(rate):g} diverged within {number} steps: take smaller rates")
        yield number, state, {name: float(value) for name, value in metrics.items()}
