"""JEPA diagnostics on held-out windows."""
from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from hjepa_gfn.agent.agent import Agent
from hjepa_gfn.data.pipeline import Pipeline
from hjepa_gfn.evaluation.probes import probe_accuracy
from hjepa_gfn.objectives.jepa import jepa_loss
from hjepa_gfn.objectives.system import Params, System
from hjepa_gfn.objectives.windows import encode_window, find_segments
from hjepa_gfn.worlds.egocentric_map import own_cell
from hjepa_gfn.worlds.language import KEY

SHOWN = ("std", "rankme", "sigreg_over_floor", "pred_over_copy", "pred_over_copy_far", "calibration", "codes_used", "code")


def held_out_windows(pipeline: Pipeline) -> dict[str, np.ndarray]:
    """One window from each episode of the pipeline's split, from a uniformly drawn step on."""
    windows = [(batch["random"], batch["mask"]) for batch in pipeline.epoch()]
    return {name: np.concatenate([w[name][mask] for w, mask in windows]) for name in windows[0][0]}


def level_table(params: Params, system: System, options: Any, pipeline: Pipeline, seed: int) -> dict[str, Any]:
    """Per level: std, RankMe, SIGReg over its floor, prediction over copy error (one step; the farthest horizon), calibration
    r^2/sigma^2, share of codes in use, code reconstruction error; and the share of legs whose primitive actions are decoded
    exactly from their macro-action. With reachability heads, the share of pairs of states that they judge rightly."""
    window = held_out_windows(pipeline)
    _, found = jax.jit(lambda params, key, window: jepa_loss(
        params, key, window, system, options, diagnostics=True))(params, jax.random.key(seed), window)
    found = {name: float(value) for name, value in found.items()}
    shown = (*SHOWN, *(("reach_accuracy",) if system.jepa.sizes.reach else ()))
    levels = {level: {name: found[f"{level}_{name}"] for name in shown} for level in system.jepa.sizes.names}
    return levels | {"macro_action_decoded_exactly": found["macro_exact"], "inverse_dynamics_nll": found["step_inverse"]}


def evaluate_levels(agent: Agent, pipeline: Pipeline, seed: int) -> dict[str, Any]:
    """`level_table` of an agent, with what linear probes (`probe_table`) and own heads (`read_heads`) read off its states."""
    table = level_table(agent.params, agent.system, agent.config.jepa, pipeline, seed)
    probes = probe_table(agent.params, agent.system, pipeline)
    table |= {level: table[level] | probes[level] for level in agent.system.jepa.sizes.names}
    if agent.system.jepa.sizes.compass:
        table["step"] |= read_heads(agent.params, agent.system, held_out_windows(pipeline))
    return table


def read_heads(params: Params, system: System, window: dict[str, np.ndarray]) -> dict[str, float]:
    """What the linear heads of `model.compass`, which learned on the training episodes, read off the step states of windows:
    accuracy for the own direction, for what is carried (kind and colour), and for the latter where there is something."""
    @jax.jit
    def read(params: Params, window: dict[str, jnp.ndarray]) -> tuple[jnp.ndarray, ...]:
        z = system.level(params, window["view"], window["direction"], method="encode")
        logits = system.level(params, z, method="heading"), *system.level(params, z, method="load")
        return tuple(jnp.argmax(x, -1) for x in logits)

    direction, kind, colour = map(np.asarray, read(params, {name: window[name] for name in ("view", "direction")}))
    own = window["view"][:, :, *own_cell(system.map)]
    real = np.arange(direction.shape[1]) <= window["length"][:, None]
    held = real & (own[..., 0] >= KEY)
    right = (kind == own[..., 0]) & (colour == own[..., 1])
    found = {"direction_read": (direction == window["direction"])[real], "load_read": right[real],
             **({"load_read_where_held": right[held]} if held.any() else {})}
    return {name: float(hits.mean()) for name, hits in found.items()}


def probe_table(params: Params, system: System, pipeline: Pipeline) -> dict[str, dict[str, float]]:
    """Per level, the accuracy of ridge probes for the own compass direction, what is carried and what lies straight ahead.

    Fitted on the first half of the held-out episodes, tested on the second. Above the steps, states are those at the ends of
    segments, hence fewer.
    """
    window = held_out_windows(pipeline)

    @jax.jit
    def encode(params: Params, window: dict[str, jnp.ndarray]) -> tuple[jnp.ndarray, list]:
        segments = find_segments(system, window)
        states, steps = encode_window(system, params, window, segments).z, window["action"].shape[1]
        after = jnp.broadcast_to(jnp.arange(1, steps + 1), window["action"].shape)  # the percept after each unit
        upper = []
        for one, z in zip(segments, states[1:], strict=True):
            after = jnp.max(jnp.where(one.member > 0, after[:, None], 0), -1)
            upper.append((z[:, 1:], one.valid, after))
        return states[0], upper

    z1, upper = jax.tree.map(np.asarray, encode(params, window))
    rows, times = np.nonzero(np.arange(z1.shape[1]) <= window["length"][:, None])
    seen = {"step": (z1[rows, times], rows, times)}
    for name, (z, valid, after) in zip(system.jepa.sizes.names[1:], upper, strict=True):
        episode, k = np.nonzero(valid)
        seen[name] = z[episode, k], episode, after[episode, k]
    table = {}
    for level, (states, row, time) in seen.items():
        view, fit = window["view"][row, time], row < len(z1) // 2
        kind = lambda cell, view=view: view[:, cell[0], cell[1], 0].astype(int) * 8 + view[:, cell[0], cell[1], 1]
        own = own_cell(system.map)
        labels = {"direction": window["direction"][row, time], "carried": kind(own),
                  "ahead": kind((own[0], own[1] - 1))}
        table[level] = {
            name: probe_accuracy((states[fit], label[fit]), (states[~fit], label[~fit])) for name, label in labels.items()}
    return table
