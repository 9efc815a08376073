"""How well an upper actor foresees the sub-plans below it: predicted against actual characteristics in held-out situations."""
from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from hjepa_gfn.agent.agent import Agent
from hjepa_gfn.data.pipeline import Pipeline
from hjepa_gfn.errors import UserError
from hjepa_gfn.models.characteristics import NAMES
from hjepa_gfn.objectives.cases import stack
from hjepa_gfn.objectives.characteristics import foresee, measure
from hjepa_gfn.objectives.groups import actor_view
from hjepa_gfn.objectives.seeds import first_leaf, make
from hjepa_gfn.objectives.system import Params, System
from hjepa_gfn.objectives.windows import encode_start


def judge(
    system: System, params: Params, key: jnp.ndarray, percept: dict[str, jnp.ndarray], mission: jnp.ndarray, temperature: float
) -> dict[str, dict[str, jnp.ndarray]]:
    """Of every pair of actors (by the name of the lower one), in B situations: what the upper plan says of its first leaf edge,
    and two sub-plans that the lower actor made of it.

    Returns: `predicted` and `told` [B, 1 or 4] (read off predicted and true embeddings), `first`, `second` [B, 4] (measured of
      the two; told is of the first), `known` bool [B, 4], `acted` bool [B] (the edge holds an action), `coarse` bool [B] (it is
      coarser than the lower actor's scales).
    """
    start, above, found = encode_start(system, params, percept), None, {}
    for number, actor in enumerate(system.actors):
        keys = jax.random.split(jax.random.fold_in(key, number))
        made = make(actor, params, keys[0], percept, start, mission, above, temperature)
        if above is not None:
            upper = actor.above
            features = upper.net(actor_view(params, upper.name), stack(above.plan), above.context, None, method="features")
            embedding = foresee(system, params, actor, above.plan, features[:, 0])
            again = make(actor, params, keys[1], percept, start, mission, above, temperature)
            first, second = (measure(actor, params, start, one) for one in (made, again))
            true = system.describe(params, actor, first.features, first.values, method="compress")
            read = lambda x, actor=actor: system.describe(params, actor, x, method="decode")  # noqa: E731
            found[actor.name] = {
                "predicted": read(embedding), "told": read(true), "first": first.values, "second": second.values,
                "known": first.known, "acted": made.root.action[:, 0, 0] > 0,
                "coarse": first_leaf(above.plan) < upper.spec.num_scales - 1}
        above = made
    return found


def share_explained(predicted: np.ndarray, actual: np.ndarray) -> float | None:
    """R^2 = 1 - sum (y - p)^2 / sum (y - mean y)^2; None where all y are the same."""
    spread = ((actual - actual.mean()) ** 2).sum() if len(actual) else 0.0
    return float(1 - ((actual - predicted) ** 2).sum() / spread) if spread else None


def correlation(a: np.ndarray, b: np.ndarray) -> float | None:
    """Pearson's; None where one of them does not vary."""
    return float(np.corrcoef(a, b)[0, 1]) if len(a) > 1 and a.std() and b.std() else None


def summary(table: dict[str, np.ndarray]) -> dict[str, Any]:
    """Of `judge`'s arrays of one pair over n situations, by characteristic: `mean`, `deviation`; `correlation` and `r2` of what
    was predicted against the first sub-plan; `told_r2`, of what its own embedding tells; `ceiling`, the correlation of two
    sub-plans of the same edge, which no prediction's R^2 exceeds but by chance; `kind_r2`, of the mean of edges of its kind
    (acted, open, coarse), which knows nothing else."""
    kind = np.where(table["coarse"], 2, np.where(table["acted"], 1, 0))
    found: dict[str, Any] = {
        "n": len(kind), "acted": float(table["acted"].mean()), "coarse": float(table["coarse"].mean())}
    for j, name in enumerate(NAMES[: table["predicted"].shape[1]]):
        rows = table["known"][:, j]
        first, second, predicted, told = (
            table[key][rows, j].astype(np.float64) for key in ("first", "second", "predicted", "told"))
        of_kind = np.zeros_like(first)
        for one in np.unique(kind[rows]):
            of_kind[kind[rows] == one] = first[kind[rows] == one].mean()
        found[name] = {
            "n": int(rows.sum()), "mean": float(first.mean()) if len(first) else None,
            "deviation": float(first.std()) if len(first) else None, "correlation": correlation(predicted, first),
            "r2": share_explained(predicted, first), "told_r2": share_explained(told, first),
            "ceiling": correlation(first, second), "kind_r2": share_explained(of_kind, first)}
    return found


def evaluate_characteristics(agent: Agent, pipeline: Pipeline, seed: int) -> dict[str, dict[str, Any]]:
    """`summary` of every pair of actors (by the name of the lower one) over a held-out split.

    Raises:
      UserError: the agent says nothing of sub-plans.
    """
    if not agent.system.characteristics or "characteristics" not in agent.params:
        raise UserError("this agent has no characteristics of sub-plans (model.characteristics, model.actors)")
    temperature = agent.config.agent.temperature
    step = jax.jit(lambda params, key, percept, mission: judge(agent.system, params, key, percept, mission, temperature))
    parts: dict[str, list[dict[str, np.ndarray]]] = {}
    for number, batch in enumerate(pipeline.epoch()):
        percept = {name: jnp.asarray(batch["random"][name][:, 0]) for name in ("view", "direction")}
        key = jax.random.fold_in(jax.random.key(seed), number)
        for name, table in step(agent.params, key, percept, jnp.asarray(batch["mission"])).items():
            parts.setdefault(name, []).append({part: np.asarray(value)[batch["mask"]] for part, value in table.items()})
    return {name: summary({part: np.concatenate([table[part] for table in tables]) for part in tables[0]})
            for name, tables in parts.items()}


def lines(found: dict[str, dict[str, Any]]) -> list[str]:
    """What `evaluate_characteristics` found, as lines of a table."""
    columns = ("mean", "deviation", "correlation", "r2", "ceiling", "kind_r2", "told_r2")
    shown = lambda value: f"{'-':>12s}" if value is None else f"{value:12.3f}"  # noqa: E731
    out = []
    for pair, one in found.items():
        out.append(f"sub-plans of {pair}, n = {one['n']}, {one['acted']:.2f} acted, {one['coarse']:.2f} coarse")
        out.append(f"{'':9s}" + "".join(f"{column:>12s}" for column in columns))
        out += [f"{name:9s}" + "".join(shown(one[name][column]) for column in columns) for name in NAMES if name in one]
    return out
