"""Whether an agent aims at what experts go for, and would act as they do: in held-out episodes, at every step."""
from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from hjepa_gfn.agent.agent import Agent
from hjepa_gfn.data.pipeline import Pipeline
from hjepa_gfn.objectives.aims import UNKNOWN, aims_of, pointed_at
from hjepa_gfn.objectives.system import Params, System
from hjepa_gfn.objectives.windows import encode_start


def agreement(system: System, params: Params, window: dict[str, jnp.ndarray], mission: jnp.ndarray) -> dict[str, jnp.ndarray]:
    """For each step of windows [B, W], arrays [B * W]: `real`, whether there is one; `acts`, whether the habit's likeliest
    action is the expert's; of agents with a pointer also `known`, whether what the expert aims at is (`objectives.aims`),
    `seen`, whether it is in view, `aims`, whether the likeliest cell is such a one, and `nll` of these in nats."""
    steps = window["action"].shape[1]
    percept = {name: window[name][:, :-1].reshape(-1, *window[name].shape[2:]) for name in ("view", "direction")}
    rows = np.repeat(np.arange(len(mission)), steps)
    context, aim = system.net(params, percept, encode_start(system, params, percept)[0], mission[rows], method="pointed")
    likeliest = system.net(params, context, method="habit").argmax(-1)
    real = (jnp.arange(steps) < window["length"][:, None]).reshape(-1)
    found = {"real": real, "acts": likeliest == window["action"].reshape(-1)}
    if aim is None:
        return found
    cells = aims_of(window, system.map).reshape(len(real), -1)
    log_p, aims, known = pointed_at(aim, cells)
    seen = ((cells != UNKNOWN) & (cells < aim.shape[-1] - 1)).any(-1)
    return found | {"known": real & known, "seen": seen, "aims": aims, "nll": -log_p}


def evaluate_aims(agent: Agent, pipeline: Pipeline) -> dict[str, Any]:
    """Over a whole held-out split, windows from each episode's first step on: `habit_accuracy` of `situations`; and of agents
    with a pointer `aim_accuracy` and `aim_nll` (nats) of `aims` in all, and the former of those in view."""
    step = jax.jit(lambda params, window, mission: agreement(agent.system, params, window, mission))
    rows = []
    for batch in pipeline.epoch():
        found = step(agent.params, batch["start"], batch["mission"])
        kept = np.repeat(np.asarray(batch["mask"]), batch["start"]["action"].shape[1])
        rows.append({name: np.asarray(value)[kept] for name, value in found.items()})
    table = {name: np.concatenate([row[name] for row in rows]) for name in rows[0]}
    real = table["real"]
    out = {"situations": int(real.sum()), "habit_accuracy": float(table["acts"][real].mean())}
    if "aims" in table:
        known, seen = table["known"], table["known"] & table["seen"]
        out |= {"aims": int(known.sum()), "aim_accuracy": float(table["aims"][known].mean()),
                "aim_accuracy_in_view": float(table["aims"][seen].mean()), "aim_nll": float(table["nll"][known].mean())}
    return out
