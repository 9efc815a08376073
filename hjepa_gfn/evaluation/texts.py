"""What the agent makes of held-out texts: bounds on log Z(x,c), text likelihood with and without a plan, energies of drafts."""
from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from hjepa_gfn.agent.agent import Agent
from hjepa_gfn.data.pipeline import Pipeline
from hjepa_gfn.objectives.cases import encode_context, make_case, stack, take, take_ground
from hjepa_gfn.objectives.energy import energy_of, text_log_prob
from hjepa_gfn.objectives.moves import back_and_forth
from hjepa_gfn.objectives.policies import evaluate, log_prob_of_path, roots, sample_paths
from hjepa_gfn.objectives.system import Params, System
from hjepa_gfn.plans import Plan


def auroc(positive: np.ndarray, negative: np.ndarray) -> float:
    """P(positive > negative) + 1/2 P(equal), over all pairs (Mann-Whitney)."""
    difference = np.asarray(positive, np.float64)[:, None] - np.asarray(negative, np.float64)[None]
    return float(np.mean((difference > 0) + 0.5 * (difference == 0)))


def bootstrap(values: np.ndarray, seed: int = 0, draws: int = 1000) -> tuple[float, float]:
    """95% bootstrap interval of the mean."""
    rng = np.random.default_rng(seed)
    means = values[rng.integers(len(values), size=(draws, len(values)))].mean(1)
    return float(np.quantile(means, 0.025)), float(np.quantile(means, 0.975))


def text_measures(
    system: System, params: Params, key: jnp.ndarray, batch: dict[str, Any], rounds: int
) -> dict[str, jnp.ndarray]:
    """Per-row measures of one batch of held-out texts; arrays [B].

    With tau a trajectory to z, and log w = log R(z;x,c) + log P_B(tau|z) - log P_F(tau|x,c):
      elbo  log w of trajectories of the posterior policy: at most log Z(x,c) on average
      eubo  log w of backward trajectories from plans refined by `rounds` Metropolis-Hastings moves against the target: at least
            log Z(x,c) on average once the chain has mixed
    """
    k_paths, k_chain, k_back = jax.random.split(key, 3)
    case = make_case(system, params, batch["start"], batch["mission"])
    context, ground = encode_context(system, params, case)
    final, draft = batch["final"], batch["draft"]
    size = final.shape[0]
    twice = np.concatenate([np.arange(size)] * 2)
    texts, ahead = jnp.concatenate([final, draft]), jnp.ones(2 * size, bool)
    both = take(context, twice)
    paths = sample_paths(system, params, k_paths, roots(system, 2 * size), ahead, both, texts)
    read = paths.final
    energy = energy_of(system, params, stack(read), both, take_ground(ground, twice))[:, 0]

    def log_reward(plans: Plan) -> jnp.ndarray:
        told = text_log_prob(system, params, plans, context, final)
        return told - energy_of(system, params, plans, context, ground)

    def log_weight(paths):
        path = evaluate(system, params, paths, context, final)
        return log_reward(stack(paths.final))[:, 0] + path.backward.sum(-1) - log_prob_of_path(path, paths)

    mine = take(paths, slice(0, size))
    elbo = log_weight(mine)

    def refine(i, carry):
        plan, accepted = carry
        plan, taken, _ = back_and_forth(
            system, params, jax.random.fold_in(k_chain, i), plan, context, log_reward, final)
        return plan, accepted + taken

    refined, accepted = jax.lax.fori_loop(0, rounds, refine, (mine.final, jnp.zeros(size)))
    eubo = log_weight(sample_paths(system, params, k_back, refined, jnp.zeros(size, bool), context, final))
    three = stack(roots(system, size), case.observed, mine.final)
    log_text = text_log_prob(system, params, three, context, final)
    return {
        "elbo": elbo, "eubo": eubo, "accepted": accepted / rounds, "known": case.known,
        "nll_without": -log_text[:, 0], "nll_with": -log_text[:, 1], "nll_posterior": -log_text[:, 2],
        "words": (final[:, 1:] > 0).sum(-1), "energy_final": energy[:size], "energy_draft": energy[size:],
        "edits_final": read.num_edits[:size], "edits_draft": read.num_edits[size:],
        "read_matches": _same_first_leg(mine.final, case.observed),
    }


def _same_first_leg(read: Plan, observed: Plan) -> jnp.ndarray:
    """bool [B]: the plan read from the text has the macro-action of the observed plan's first leg."""
    return read.action[:, 0, 0] == observed.action[:, 0, 0]


def evaluate_texts(
    agent: Agent, pipeline: Pipeline, seed: int, rounds: int = 4
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Summary for the report, and the per-text arrays, over a whole held-out split."""
    step = jax.jit(lambda params, key, batch: text_measures(agent.system, params, key, batch, rounds))
    rows: list[dict[str, np.ndarray]] = []
    for number, batch in enumerate(pipeline.epoch()):
        mask = batch.pop("mask")
        needed = {name: batch[name] for name in ("start", "mission", "final", "draft")}
        found = step(agent.params, jax.random.fold_in(jax.random.key(seed), number), needed)
        rows.append({name: np.asarray(value)[mask] for name, value in found.items()})
    table = {name: np.concatenate([row[name] for row in rows]) for name in rows[0]}
    known = table["known"]
    words = table["words"][known].sum()
    per_token = lambda name: float(table[name][known].sum() / words)  # noqa: E731
    gain = (table["nll_without"] - table["nll_with"])[known]
    summary = {
        "posterior_elbo": float(table["elbo"].mean()), "posterior_eubo": float(table["eubo"].mean()),
        "text_nll_per_token": {"with_plan": per_token("nll_with"), "without_plan": per_token("nll_without"),
                               "with_posterior_plan": per_token("nll_posterior")},
        "text_gain_nats_interval": bootstrap(gain, seed),
        "energy_auroc_final_vs_draft": auroc(table["energy_draft"], table["energy_final"]),
        "energy_paired_accuracy": float((table["energy_final"] < table["energy_draft"]).mean()),
        "posterior_reads_first_leg": float(table["read_matches"][known].mean()),
        "posterior_chain_acceptance": float(table["accepted"].mean()),
        "texts": int(len(known)),
    }
    return summary, table
