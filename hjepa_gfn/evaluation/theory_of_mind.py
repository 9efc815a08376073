"""Reading another agent's plan from what it says: the posterior policy P_F(z|x,c) as a belief over its plan.

The other agent is the exemplary actor: held-out final texts, whose plans were executed, and its drafts, whose plans are
what they state (`objectives.windows.imagined_plan`). What it plans is known, so the belief can be scored: against the same
agent's belief without the text (the prior P_F(z|c)), and with the text of another situation.
"""
from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from hjepa_gfn.agent.agent import Agent
from hjepa_gfn.data.pipeline import Pipeline
from hjepa_gfn.evaluation.texts import bootstrap
from hjepa_gfn.objectives.cases import Case, encode_context, join, make_told_case, take
from hjepa_gfn.objectives.policies import sample_plans
from hjepa_gfn.objectives.system import Params, System
from hjepa_gfn.plans import Plan

KINDS = ("final", "draft")
NEEDED = ("start", "mission", "final", "draft", "draft_action", "draft_segment", "draft_length")


def first_leg_of(plan: Plan) -> jnp.ndarray:
    """1 + the macro-action's code of a plan's first leg, 0 where it holds none: int32 [...]."""
    return plan.action[..., 0, 0]


def first_step_of(plan: Plan) -> jnp.ndarray:
    """1 + the first primitive action that a plan spells out, 0 where it does not: int32 [...]."""
    return plan.action[..., 0, -1]


def beliefs(
    system: System, params: Params, key: jnp.ndarray, case: Case, text: jnp.ndarray, samples: int
) -> dict[str, jnp.ndarray]:
    """Share of K sampled plans [B] that begin as the other's plan: its first leg, its first step; by what is read.

    text int32 [B, X]. "text": z ~ P_F(z|x,c); "none": z ~ P_F(z|c); "other": z ~ P_F(z|x',c), x' the next situation's text.
    """
    size = text.shape[0]
    rows = np.repeat(np.arange(size), samples)
    context, _ = encode_context(system, params, case)
    k_read, k_guess = jax.random.split(key)
    told = jnp.concatenate([text, jnp.roll(text, 1, axis=0)])[np.concatenate([rows, size + rows])]
    read = sample_plans(system, params, k_read, take(context, np.tile(rows, 2)), told)
    guess = sample_plans(system, params, k_guess, take(context, rows), None)
    plans = {"text": take(read, np.arange(len(rows))), "other": take(read, len(rows) + np.arange(len(rows))), "none": guess}
    return {
        f"{what}_{name}": (of(some).reshape(size, samples) == of(case.observed)[:, None]).mean(-1)
        for name, some in plans.items() for what, of in (("leg", first_leg_of), ("step", first_step_of))}


def measure(system: System, params: Params, key: jnp.ndarray, batch: dict[str, Any], samples: int) -> dict[str, Any]:
    """`beliefs` of one batch's final texts and drafts, and where their plans are known."""
    size = batch["final"].shape[0]
    told = [make_told_case(system, params, batch, jnp.full(size, kind == "final")) for kind in KINDS]
    case, text = (join(*parts) for parts in zip(*told, strict=True))
    found = beliefs(system, params, key, case, text, samples)
    found["known"] = case.known & (first_leg_of(case.observed) > 0)
    part = lambda i: jax.tree.map(lambda x: x[i * size : (i + 1) * size], found)  # noqa: E731
    return {kind: part(i) for i, kind in enumerate(KINDS)}


def evaluate_theory_of_mind(agent: Agent, pipeline: Pipeline, seed: int, samples: int = 4) -> dict[str, Any]:
    """Mean shares over a held-out split by kind of text, with the number of texts and an interval of the text's gain."""
    step = jax.jit(lambda params, key, batch: measure(agent.system, params, key, batch, samples))
    rows: dict[str, list[dict[str, np.ndarray]]] = {kind: [] for kind in KINDS}
    for number, batch in enumerate(pipeline.epoch()):
        mask = batch.pop("mask")
        found = step(agent.params, jax.random.fold_in(jax.random.key(seed), number), {name: batch[name] for name in NEEDED})
        for kind, values in jax.tree.map(np.asarray, found).items():
            chosen = mask & values.pop("known")
            rows[kind].append({name: value[chosen] for name, value in values.items()})
    report: dict[str, Any] = {"samples": samples}
    for kind, some in rows.items():
        table = {name: np.concatenate([row[name] for row in some]) for name in some[0]}
        gain = table["leg_text"] - table["leg_none"]
        report[kind] = {name: float(value.mean()) for name, value in table.items()}
        report[kind] |= {"texts": len(gain), "gain_interval": bootstrap(gain, seed)}
    return report
