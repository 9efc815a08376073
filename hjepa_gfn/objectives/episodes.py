"""What world-model losses look at: exemplary windows of a batch, and exploring walks rolled out from the batch's worlds."""
from typing import Any

import jax
import jax.numpy as jnp

from hjepa_gfn.errors import UserError
from hjepa_gfn.objectives.windows import Window
from hjepa_gfn.worlds.exploring import Starts, explore
from hjepa_gfn.worlds.jitted import GridState

SHOWN = ("view", "direction", "action", "segment", "length")


def check(config: Any, group: int) -> None:
    """Raises UserError where exploring rows are asked for that a group of a batch (`group` rows) cannot give.

    Configurations of older exports and checkpoints have no beliefs, worlds or walks, and no fields of them.
    """
    exploring, worlds = config.jepa.get("exploring", 0), config.data.get("worlds", 0)
    on = bool(config.model.get("belief", {}).get("size", 0))
    b = config.belief if on else None
    if config.schedule.get("every", {}).get("belief", 0) and not on:
        raise UserError("schedule.every.belief needs a belief: model.belief.size above 0")
    walks = {"jepa.exploring": exploring, "belief.walks": b.walks if on else 0}
    for name, rows in {**walks, "belief.rows": b.rows if on else 0}.items():
        if not 0 <= rows <= group:
            raise UserError(f"{name}={rows}: a group has {group} rows (batch_size / microbatches / groups)")
        if rows and name in walks and not worlds:
            raise UserError(f"{name}={rows} needs worlds to explore from: data.worlds above 0")
    if on and b.rows + b.walks < 1:
        raise UserError("belief.rows and belief.walks are both 0: nothing to learn from")
    if on and b.rows and b.steps < config.data.window:
        raise UserError(f"belief.steps={b.steps} must hold a window (data.window={config.data.window})")


def walks(key: jnp.ndarray, worlds: dict[str, jnp.ndarray], steps: int, lead: int, config: Any) -> Window:
    """Exploring walks from a batch's worlds [B]: windows of `steps` actions; see `worlds.exploring.explore`."""
    state = GridState(worlds["grid"], worlds["position"], worlds["heading"], worlds["pocket"])
    return explore(key, Starts(state, worlds["action"], worlds["length"]), steps, lead, config.model.levels[0]["longest"],
                   config.data.get("map", 0), config.data.get("heading", "compass"))


def with_walks(key: jnp.ndarray, batch: Any, config: Any) -> Window:
    """The windows "random" of a group of a batch, the first `config.jepa.exploring` of them exploring walks instead."""
    count = config.jepa.exploring
    some = jax.tree.map(lambda x: x[:count], batch["world"])
    seen = walks(key, some, config.data.window, config.jepa.lead, config)
    names = (*SHOWN, "clause") if "clause" in batch["random"] else SHOWN
    seen = {**seen, "clause": jnp.zeros_like(seen["segment"])}  # a walk serves one purpose throughout
    return {name: jnp.concatenate([seen[name], batch["random"][name][count:]]) for name in names}


def for_belief(key: jnp.ndarray, batch: Any, config: Any) -> Window:
    """`config.belief.rows` exemplary windows, padded to `steps` actions, then `config.belief.walks` exploring walks."""
    b, window = config.belief, batch["random"]
    spare = b.steps - config.data.window
    widen = lambda x: jnp.pad(x[: b.rows], [(0, 0), (0, spare)] + [(0, 0)] * (x.ndim - 2))  # noqa: E731
    parts = [{name: window[name][: b.rows] if name == "length" else widen(window[name]) for name in SHOWN}] if b.rows else []
    if b.walks:
        some = jax.tree.map(lambda x: x[: b.walks], batch["world"])
        parts.append(walks(key, some, b.steps, 0, config))
    return {name: jnp.concatenate([part[name] for part in parts]) for name in SHOWN}
