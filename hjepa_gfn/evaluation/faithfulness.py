"""Do the agent's explanations say what its plans are? Texts and plans of held-out situations, each read through the other.

All on situations that training never saw. z* is the plan that the exemplary actor's episode realised, x ~ p(x|z*,c) what the
agent says of it.

    round trip    z* -> x -> z: the actions that x states against those that z* holds, and z ~ P_F(z|x,c) against z*
    own text      log p(x|z*,c) - log p(x'|z*,c), x' the text of another situation's plan
    swap margin   log p(x|z*) + log p(x_1|z_1) - log p(x|z_1) - log p(x_1|z*): z_1 ~ P_F(z|c) another plan of the same situation
    information   log p(x|z_0) - log (1/K) sum_k p(x|z_k), z_k ~ P_F(z|c), x ~ p(x|z_0,c): at most I(z; x|c) on average
    truncation    log p(x_data|z): what the exemplary text loses when a share of z*'s edits is undone
    corruption    how often z ~ P_F(z|x,c) has z*'s first leg when a share of x's words is replaced by another text's
"""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from hjepa_gfn.agent.agent import Agent
from hjepa_gfn.data.pipeline import Pipeline
from hjepa_gfn.errors import UserError
from hjepa_gfn.evaluation.texts import bootstrap
from hjepa_gfn.evaluation.views import edges_of, macro_moves
from hjepa_gfn.exemplary.phrases import actions_of, legs_of, parse_plan
from hjepa_gfn.models.agent_network import Context
from hjepa_gfn.objectives.cases import at_time, encode_context, join, make_case, stack, take
from hjepa_gfn.objectives.em import sample_text
from hjepa_gfn.objectives.energy import text_log_prob
from hjepa_gfn.objectives.policies import sample_plans, undo_at_random
from hjepa_gfn.objectives.system import Params, System
from hjepa_gfn.plans import Plan
from hjepa_gfn.plans.distance import plan_distance

SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)


def pairwise_log_prob(
    system: System, params: Params, plans: Plan, context: Context, texts: Sequence[jnp.ndarray]
) -> jnp.ndarray:
    """log p(x_j|z_i,c) [B, I, J] of plans [B, I] and J texts int32 [B, X]."""
    return jnp.stack([text_log_prob(system, params, plans, context, text) for text in texts], axis=-1)


def information_bound(log_prob: jnp.ndarray) -> jnp.ndarray:
    """log p(x|z_0) - log mean_k p(x|z_k) of log_prob [..., K]; x was said of z_0, the others are drawn alike.

    Its mean is a lower bound of I(z; x|c), and no larger than log K (van den Oord et al. 2018; Poole et al. 2019, eq. 10).
    """
    return log_prob[..., 0] - (jax.nn.logsumexp(log_prob, axis=-1) - jnp.log(log_prob.shape[-1]))


def swap_margin(table: jnp.ndarray) -> jnp.ndarray:
    """log p(x_0|z_0) + log p(x_1|z_1) - log p(x_0|z_1) - log p(x_1|z_0) of a table [..., plan, text]."""
    return table[..., 0, 0] + table[..., 1, 1] - table[..., 1, 0] - table[..., 0, 1]


def corrupt(key: jnp.ndarray, text: jnp.ndarray, other: jnp.ndarray, share: float) -> jnp.ndarray:
    """A text int32 [B, X] with each word (not its begin, end and padding) replaced with probability `share` by the other's."""
    inside = (text > 2) & (other > 2)
    return jnp.where(inside & (jax.random.uniform(key, text.shape) < share), other, text)


def measure(
    system: System, params: Params, key: jnp.ndarray, batch: dict[str, Any], samples: int, temperature: float
) -> dict[str, Any]:
    """One batch: arrays [B, ...], plans `observed`, `read`, and the texts `said` int32 [B, X].

    `table` [B, 2, 3]: log p of the texts of z*, of z_1 and of another situation's plan, under z* and z_1; `samples` [B, K]:
    log p of the text of z_1 under K plans of the prior, z_1 first.
    """
    k_prior, k_said, k_read, k_undo, k_break = jax.random.split(key, 5)
    case = make_case(system, params, batch["start"], batch["mission"])
    context, _ = encode_context(system, params, case)
    size = case.mission.shape[0]
    rows = np.arange(size)
    wide = take(context, np.repeat(rows, samples))
    prior = jax.tree.map(lambda x: x.reshape(size, samples, *x.shape[1:]), sample_plans(system, params, k_prior, wide))
    first = jax.tree.map(lambda x: x[:, 0], prior)
    # of z_1 at temperature 1: what the bound on I(z; x) is about
    warm = jnp.repeat(jnp.asarray([temperature, 1.0]), size)[:, None]
    texts = sample_text(system, params, k_said, join(case.observed, first), take(context, np.tile(rows, 2)), warm)
    said, of_first = texts[:size], texts[size:]
    shifted = jnp.roll(said, 1, axis=0)
    own = pairwise_log_prob(system, params, stack(case.observed, first), context, (said, of_first, shifted))
    others = text_log_prob(system, params, prior, context, of_first)

    undone = undo_at_random(system.spec, k_undo, case.observed)
    kept = jnp.floor(undone.length[:, None] * (1.0 - jnp.asarray(SHARES))).astype(jnp.int32)
    truncated = text_log_prob(system, params, at_time(undone.states, kept), context, batch["final"])

    broken = [corrupt(jax.random.fold_in(k_break, i), said, shifted, share) for i, share in enumerate(SHARES)]
    read = sample_plans(system, params, k_read, take(context, np.tile(rows, len(SHARES))), jnp.concatenate(broken))
    leg = case.observed.action[:, 0, 0]
    return {
        "known": case.known, "observed": case.observed, "read": take(read, rows), "said": said,
        "table": own, "samples": others,
        "own": own[:, 0, 0] - own[:, 0, 2], "swap": swap_margin(own[:, :, :2]), "information": information_bound(others),
        "truncated": truncated / (batch["final"][:, 1:] > 0).sum(-1, keepdims=True),
        "corrupted": (read.action[:, 0, 0].reshape(len(SHARES), size) == leg).T,
        "guessed": (prior.action[:, :, 0, 0] == leg[:, None]).mean(-1),
    }


def stated_and_held(plan: Plan, text: str, macros: list[list[int]], names: Sequence[str]) -> tuple[list[int] | None, list[int]]:
    """The actions that a text states (None: it states no plan) and those that a plan holds, up to its first open edge."""
    held: list[int] = []
    for edge in edges_of(plan, macros, names):
        if not edge.moves:
            break
        held += edge.moves
    try:
        return actions_of(parse_plan(text)), held
    except UserError:
        return None, held


def legs_agree(plan: Plan, text: str, macros: list[list[int]], names: Sequence[str]) -> bool:
    """Whether the text's first leg is the plan's first leg, action by action."""
    edges = edges_of(plan, macros, names)
    try:
        return bool(edges) and legs_of(parse_plan(text))[0] == edges[0].moves
    except UserError:
        return False


def evaluate_faithfulness(
    agent: Agent, pipeline: Pipeline, names: Sequence[str], seed: int, samples: int = 8, temperature: float = 0.3
) -> dict[str, Any]:
    """All measures over a held-out split; every mean with its number of texts, intervals by bootstrap over texts."""
    step = jax.jit(lambda params, key, batch: measure(agent.system, params, key, batch, samples, temperature))
    rows: dict[str, list[Any]] = {}
    macros = macro_moves(agent)
    for number, batch in enumerate(pipeline.epoch()):
        mask = batch.pop("mask")
        needed = {name: batch[name] for name in ("start", "mission", "final")}
        found = jax.tree.map(np.asarray, step(agent.params, jax.random.fold_in(jax.random.key(seed), number), needed))
        for i in np.flatnonzero(mask & found["known"]):
            observed, read = take(found["observed"], i), take(found["read"], i)
            text = agent.tokenizer.decode_text(found["said"][i])
            stated, held = stated_and_held(observed, text, macros, names)
            row = {
                "reads_as_a_plan": stated is not None, "same_actions": stated == held,
                "begins_alike": stated is not None and stated[: len(held)] == held[: len(stated)],
                "same_first_leg": legs_agree(observed, text, macros, names), "distance": plan_distance(read, observed),
                "same_plan": plan_distance(read, observed) == 0, "edits": float(observed.num_edits),
                **{name: found[name][i] for name in ("own", "swap", "information", "truncated", "corrupted", "guessed")}}
            for name, value in row.items():
                rows.setdefault(name, []).append(value)
    table = {name: np.asarray(values, np.float64) for name, values in rows.items()}
    if not table:
        raise UserError("no held-out text speaks of an executed plan: faithfulness cannot be measured")
    mean = lambda name: float(table[name].mean())  # noqa: E731
    return {
        "texts": len(table["own"]),
        "round_trip": {name: mean(name) for name in (
            "reads_as_a_plan", "same_actions", "begins_alike", "same_first_leg", "same_plan", "distance", "edits")},
        "own_text_nats": mean("own"), "own_text_interval": bootstrap(table["own"], seed),
        "swap_margin_nats": mean("swap"), "swap_margin_interval": bootstrap(table["swap"], seed),
        "information_nats": mean("information"), "information_interval": bootstrap(table["information"], seed),
        "information_at_most": float(np.log(samples)),
        "truncation": {"share_undone": list(SHARES), "log_prob_per_token": table["truncated"].mean(0).tolist()},
        "corruption": {"share_replaced": list(SHARES), "first_leg_read": table["corrupted"].mean(0).tolist(),
                       "first_leg_without_text": mean("guessed")},
    }
