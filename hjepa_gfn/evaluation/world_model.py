"""What the step level's world model knows of held-out behaviour, on windows of experts and of exploring walks alike:
prediction by horizon, inverse dynamics, the rank of the true action, calibration of variances; what probes read off its states.
"""
from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from hjepa_gfn.evaluation.probes import probe_accuracy, probe_r2
from hjepa_gfn.evaluation.walks import Walks
from hjepa_gfn.objectives.jepa import LOG_VARIANCE
from hjepa_gfn.objectives.system import Params, System
from hjepa_gfn.worlds.language import AGENT_CELL, DOOR


class Steps(NamedTuple):
    """What the step level makes of windows of W actions, B windows. Errors are means over dimensions.

    Attributes:
        z: float [B, W+1, Z].
        error: float [H, B, W] of h-step open-loop predictions from each step, copy: of predicting no change; NaN past the end.
        inverse: int [B, W], the action that inverse dynamics names.
        rank: int [B, W], 1 where the true action predicts the next state best of all actions.
        residual2, variance: float [B, W, Z] of the next state.
        real: bool [B, W].
    """

    z: np.ndarray
    error: np.ndarray
    copy: np.ndarray
    inverse: np.ndarray
    rank: np.ndarray
    residual2: np.ndarray
    variance: np.ndarray
    real: np.ndarray


def as_window(walks: Walks) -> dict[str, np.ndarray]:
    """Walks as windows: all steps are real."""
    rows, steps = walks.action.shape
    return {**walks.seen, "action": walks.action, "length": np.full(rows, steps, np.int32)}


def read_steps(system: System, params: Params, window: dict[str, np.ndarray], horizons: int) -> Steps:
    """Runs the step level over windows: view [B, W+1, 7, 7, 3], direction [B, W+1], action [B, W], length [B]."""
    actions = system.jepa.sizes.num_actions

    @jax.jit
    def run(window: dict[str, jnp.ndarray]) -> Steps:
        apply = lambda *args, **how: system.level(params, *args, **how)  # noqa: E731
        z, action = apply(window["view"], window["direction"], method="encode"), window["action"]
        steps = action.shape[1]
        real = jnp.arange(steps) < window["length"][:, None]
        errors, copies, current = [], [], z
        for h in range(1, horizons + 1):
            current = apply(current[:, : steps - h + 1], action[:, h - 1 :], method="predict", level=1)
            pad = lambda x, h=h: jnp.pad(jnp.where(real[:, h - 1 :], x, jnp.nan), [(0, 0), (0, h - 1)],  # noqa: E731
                                         constant_values=jnp.nan)
            errors.append(pad(jnp.mean((current - z[:, h:]) ** 2, -1)))
            copies.append(pad(jnp.mean((z[:, :-h] - z[:, h:]) ** 2, -1)))
        every = jnp.broadcast_to(jnp.arange(actions), (*action.shape, actions))
        ahead = apply(jnp.broadcast_to(z[:, :-1, None], (*every.shape, z.shape[-1])), every, method="predict", level=1)
        gap = jnp.mean((ahead - z[:, 1:, None]) ** 2, -1)
        own = jnp.take_along_axis(gap, action[..., None], -1)
        variance = jnp.exp(jnp.clip(apply(z[:, :-1], action, method="log_variance", level=1), *LOG_VARIANCE))
        residual2 = (apply(z[:, :-1], action, method="predict", level=1) - z[:, 1:]) ** 2
        inverse = jnp.argmax(apply(z[:, :-1], z[:, 1:], method="invert", level=1), -1)
        return Steps(z, jnp.stack(errors), jnp.stack(copies), inverse, 1 + jnp.sum(gap < own, -1), residual2, variance, real)

    return jax.tree.map(np.asarray, run({name: window[name] for name in ("view", "direction", "action", "length")}))


def calibration(residual2: np.ndarray, variance: np.ndarray) -> dict[str, float]:
    """r^2/sigma^2 (1 where variances are right), and over steps the correlation of log mean r^2 with log mean sigma^2;
    [N, Z] each."""
    r, v = residual2.mean(-1), variance.mean(-1)
    return {"calibration": float((residual2 / variance).mean()),
            "calibration_log_correlation": float(np.corrcoef(np.log(r + 1e-9), np.log(v + 1e-9))[0, 1])}


def dynamics_table(steps: Steps, action: np.ndarray) -> dict[str, float]:
    """Of windows with the actions int [B, W]: prediction over copy error at the first and the farthest horizon, accuracy of
    inverse dynamics, share of steps at which the true action predicts the next state best and its mean rank, calibration."""
    real = steps.real
    over = lambda h: float(np.nanmean(steps.error[h]) / max(np.nanmean(steps.copy[h]), 1e-9))  # noqa: E731
    return {
        "pred_over_copy": over(0), f"pred_over_copy_{len(steps.error)}": over(-1),
        "inverse_accuracy": float((steps.inverse == action)[real].mean()),
        "true_action_best": float((steps.rank == 1)[real].mean()), "true_action_mean_rank": float(steps.rank[real].mean()),
        **calibration(steps.residual2[real], steps.variance[real])}


def reliability(residual2: np.ndarray, variance: np.ndarray, bins: int = 10) -> list[tuple[float, float]]:
    """(mean predicted variance, mean squared residual) of equally large bins of steps, by predicted variance; [N, Z] each."""
    order = np.argsort(variance.mean(-1))
    return [(float(variance[part].mean()), float(residual2[part].mean())) for part in np.array_split(order, bins) if len(part)]


def nearest_door(view: np.ndarray) -> np.ndarray:
    """State (0 open, 1 closed, 2 locked) of the nearest door that percepts uint8 [N, 7, 7, 3] show, -1 where none: int [N]."""
    i, j = np.meshgrid(np.arange(view.shape[1]), np.arange(view.shape[2]), indexing="ij")
    far = np.abs(i - AGENT_CELL[0]) + np.abs(j - AGENT_CELL[1])
    distance = np.where(view[..., 0] == DOOR, far, 999).reshape(len(view), -1)
    best = distance.argmin(-1)
    state = view[..., 2].reshape(len(view), -1)[np.arange(len(view)), best].astype(int)
    return np.where(distance.min(-1) < 999, state, -1)


def probe_walks(z: np.ndarray, walks: Walks) -> dict[str, float | None]:
    """What ridge probes read off states [B, T+1, Z] on walks, fitted on half of them, tested on the other: own position (R^2),
    direction, what is carried, state of the nearest visible door (accuracies; None where the walks show one class only)."""
    rows = np.broadcast_to(np.arange(len(z))[:, None] < len(z) // 2, z.shape[:2])
    pocket = walks.state.pocket[..., 0].astype(int) * 16 + walks.state.pocket[..., 1]
    door = nearest_door(walks.seen["view"].reshape(-1, *walks.seen["view"].shape[2:])).reshape(z.shape[:2])
    everywhere = np.ones(z.shape[:2], bool)
    table: dict[str, float | None] = {}
    for name, target, where, probe in (
            ("position", walks.state.position.astype(float), everywhere, probe_r2),
            ("direction", walks.seen["direction"], everywhere, probe_accuracy), ("carried", pocket, everywhere, probe_accuracy),
            ("door", door, door >= 0, probe_accuracy)):
        fit, test = where & rows, where & ~rows
        enough = fit.sum() > 1 and test.any() and len(np.unique(target[fit])) > 1
        table[name] = probe((z[fit], target[fit]), (z[test], target[test])) if enough else None
    return table
