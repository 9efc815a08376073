"""JEPA diagnostics on held-out windows."""
from __future__ import annotations

from typing import Any

import jax
import numpy as np

from hjepa_gfn.agent.agent import Agent
from hjepa_gfn.data.pipeline import Pipeline
from hjepa_gfn.objectives.jepa import jepa_loss

SHOWN = ("std", "rankme", "sigreg_over_floor", "pred_over_copy", "code")


def evaluate_levels(agent: Agent, pipeline: Pipeline, seed: int) -> dict[str, Any]:
    """Per level: std, RankMe, SIGReg over its floor, prediction over copy error, code reconstruction error; and the share of
    legs whose primitive actions are decoded exactly from their macro-action. One window from each held-out episode."""
    windows = [(batch["random"], batch["mask"]) for batch in pipeline.epoch()]
    window = {name: np.concatenate([w[name][mask] for w, mask in windows]) for name in windows[0][0]}
    _, found = jax.jit(lambda params, key, window: jepa_loss(
        params, key, window, agent.system, agent.config.jepa, diagnostics=True))(
            agent.params, jax.random.key(seed), window)
    found = {name: float(value) for name, value in found.items()}
    levels = {level: {name: found[f"{level}_{name}"] for name in SHOWN} for level in ("step", "subgoal")}
    return levels | {"macro_action_decoded_exactly": found["macro_exact"], "inverse_dynamics_nll": found["step_inverse"]}
