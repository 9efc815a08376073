"""GFlowNet-EM against exact EM: `python -m experiments.gflownet_em --toy=mixture|pcfg [--seeds=3] [--ablate] [--json=path]`.

mixture: the hierarchical mixture of Hu et al. 2023, section 5.1, exact EM by enumeration of the 16 latents.
pcfg: a grammar learned from sentences, exact EM by inside-outside; first, the posterior at a fixed random grammar.
Both start each pair of runs from the same parameters. --ablate takes the countermeasures against collapse away, one at a time.
"""
from __future__ import annotations

import functools
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl import flags

from experiments import cli
from hjepa_gfn.errors import UserError
from hjepa_gfn.gflownet.em import EMOptions, EMState, init_em, joined, log_joint, make_em_step
from hjepa_gfn.gflownet.enumeration import enumerate_graph, terminal_distribution
from hjepa_gfn.gflownet.exact import normalise, total_variation
from hjepa_gfn.gflownet.toys import inside_outside, mixture, pcfg
from hjepa_gfn.training.progress import Progress

# what each variant takes away from the full algorithm
VARIANTS: dict[str, dict[str, Any]] = {
    "full": {},
    "no gate": {"gated": False},
    "no sleep": {"sleep": 0.0},
    "no tempering": {"epsilon": 0.0, "temperature": 1.0, "prior_start": 1.0},
    "no refinement": {"refine": 0},
    "none": {"gated": False, "sleep": 0.0, "epsilon": 0.0, "temperature": 1.0, "prior_start": 1.0, "refine": 0},
}
MIXTURE = EMOptions(
    loss="tb", batch=512, e_steps=20, epsilon=0.1, sleep=1.0, refine=1, gate_start=20.0, gate_end=2.0, gate_half_life=50.0)
MIXTURE_STEPS, MIXTURE_RATES = 300, (3e-3, 0.15)  # of the posterior (Adam) and of the means (SGD, as in the paper)
PCFG = EMOptions(
    loss="tb", batch=128, e_steps=15, epsilon=0.05, temperature=1.1, sleep=0.1, refine=1, prior_start=0.5, prior_half_life=20.0,
    gate_start=2.0, gate_end=0.5, gate_half_life=50.0)
PCFG_STEPS, PCFG_RATES = 300, (1e-2, 0.1)  # Adam both
ENV, CORPUS, VOCABULARY = pcfg.Parsing(nonterminals=3, preterminals=3, words=5), 400, len(inside_outside.VOCABULARY)
MODEL = pcfg.pcfg_model(ENV, VOCABULARY)


def train(
    step: Callable[..., Any], state: EMState, data: jnp.ndarray, steps: int, seed: int, label: str
) -> tuple[EMState, dict[str, float]]:
    """Runs the driver; returns the state, the last metrics and how often the gate was open."""
    progress, opened, metrics = Progress(steps, label=label, show=("wake", "gate_open")), [], {}
    for n in range(steps):
        state, metrics = step(state, jax.random.fold_in(jax.random.key(seed + 10_000), n), data)
        metrics = {name: float(value) for name, value in metrics.items()}
        opened.append(metrics["gate_open"])
        progress.update(n + 1, metrics)
    return state, metrics | {"gate_open_share": float(np.mean(opened))}


def optimizers(rates: tuple[float, float], steps: int, options: EMOptions, sgd: bool) -> tuple[Any, Any]:
    """(of the posterior, of the model), both decaying; a held M-step holds its schedule too."""
    decay = lambda rate, n: optax.cosine_decay_schedule(rate, n, 0.02)  # noqa: E731
    model = decay(rates[1], steps)
    return optax.adam(decay(rates[0], steps * options.e_steps)), (optax.sgd(model) if sgd else optax.adam(model))


def run_mixture(seeds: int, name: str, options: EMOptions) -> list[dict[str, Any]]:
    """One row per seed: exact EM and GFlowNet-EM from the same four data as means."""
    model, rows = mixture.mixture_model(), []
    transforms = optimizers(MIXTURE_RATES, MIXTURE_STEPS, options, sgd=True)
    step = make_em_step(model, options, *transforms)
    for seed in range(seeds):
        x = mixture.sample_data(seed)
        start = mixture.starting_means(seed, x)
        _, history = mixture.exact_em(x, start)
        theta, data = {"means": jnp.asarray(start, jnp.float32)}, jnp.asarray(x, jnp.float32)
        began = time.time()
        state = init_em(mixture.init_posterior(jax.random.key(seed)), theta, *transforms)
        state, last = train(step, state, data, MIXTURE_STEPS, seed, f"{name}, seed {seed}")
        log_p, value = mixture.exact_posterior(x, np.asarray(state.theta["means"]))
        log_q = mixture.posterior_table(state.params, data)
        rows.append({
            "variant": name, "seed": seed, "exact": history[-1], "exact_iterations": len(history) - 1, "gflownet": value,
            "gap": history[-1] - value, "kl": mixture.divergence(log_q, log_p), "effective": mixture.effective_latents(log_q),
            "effective_exact": mixture.effective_latents(log_p), "wake": last["wake"], "gate_open": last["gate_open_share"],
            "seconds": time.time() - began})
    return rows


def grammar_of(theta: Any) -> inside_outside.Grammar:
    """Logits to probabilities, normalised in float64."""
    rules, words = (np.exp(np.asarray(t, np.float64)) for t in pcfg.log_grammar(theta))
    return rules / rules.sum((1, 2), keepdims=True), words / words.sum(-1, keepdims=True)


def padded(sentences: list[list[int]]) -> jnp.ndarray:
    """int32 [N, L], -1 past the end."""
    return jnp.asarray([s + [-1] * (ENV.words - len(s)) for s in sentences], jnp.int32)


@functools.lru_cache
def graph_of(length: int) -> Any:
    """All states of sentences with so many words (words play no part in what is legal)."""
    return enumerate_graph(ENV, ENV.root(jnp.array([length], jnp.int32)))


def compare_posterior(params: Any, theta: Any, sentences: list[list[int]]) -> dict[str, float]:
    """Exact q(z|x) against exact p(z|x) over all parses of each sentence, and log F(root) against the inside algorithm."""
    grammar, rows = grammar_of(theta), []
    for sentence in sentences:
        x, graph = padded([sentence]), graph_of(len(sentence))
        ends, log_q = terminal_distribution(ENV, joined(MODEL), (params, x), graph)
        parses = jax.tree.map(lambda leaf: leaf[ends], graph.states)  # noqa: B023
        log_p, _ = normalise(log_joint(theta, jnp.repeat(x, len(ends), 0), parses, MODEL))
        log_z = float(MODEL.posterior(params, ENV.features(MODEL.root(x)), x).log_flow[0])
        rows.append((total_variation(log_p, log_q), float(np.exp(log_q) @ (log_q - log_p)),
                     abs(log_z - inside_outside.log_marginal(grammar, sentence))))
    tv, kl, log_z = np.array(rows).T
    return {"tv_mean": tv.mean(), "tv_max": tv.max(), "kl": kl.mean(), "log_z_error_mean": log_z.mean(),
            "log_z_error_max": log_z.max()}


def corpus(seed: int) -> tuple[list[list[int]], list[list[int]]]:
    """(sentences of the true grammar, up to eight different ones of three and four words to compare posteriors on)."""
    sentences = inside_outside.sample_sentences(inside_outside.true_grammar(), CORPUS, ENV.words, seed)
    unique = sorted({tuple(s) for s in sentences})
    return sentences, [list(s) for n in (3, 4) for s in [u for u in unique if len(u) == n][::7][:4]]


def fixed_grammar(seed: int, steps: int = 60) -> dict[str, float]:
    """The E-step alone, at a random grammar (broad posteriors: harder than a true one): TV and log Z error per sentence."""
    sentences, held = corpus(seed)
    options = EMOptions(loss="tb", batch=128, e_steps=100, m_batch=1, gate_start=-1.0, gate_end=-1.0)
    transforms = optimizers((2e-2, 0.0), steps, options, sgd=True)
    theta = pcfg.init_grammar(jax.random.key(seed), ENV, VOCABULARY)
    state = init_em(pcfg.init_posterior(jax.random.key(seed + 1), ENV, VOCABULARY), theta, *transforms)
    step = make_em_step(MODEL, options, *transforms)
    state, _ = train(step, state, padded(sentences), steps, seed, "posterior at a fixed grammar")
    return compare_posterior(state.params, theta, held)


def run_pcfg(seeds: int, name: str, options: EMOptions) -> list[dict[str, Any]]:
    """One row per seed: inside-outside EM and GFlowNet-EM from the same random grammar."""
    rows = []
    transforms = optimizers(PCFG_RATES, PCFG_STEPS, options, sgd=False)
    step = make_em_step(MODEL, options, *transforms)
    for seed in range(seeds):
        sentences, held = corpus(seed)
        theta = pcfg.init_grammar(jax.random.key(seed), ENV, VOCABULARY)
        exact, history = inside_outside.exact_em(grammar_of(theta), sentences)
        began = time.time()
        state = init_em(pcfg.init_posterior(jax.random.key(seed + 1), ENV, VOCABULARY), theta, *transforms)
        state, last = train(step, state, padded(sentences), PCFG_STEPS, seed, f"{name}, seed {seed}")
        seconds, learned = time.time() - began, grammar_of(state.theta)
        value = inside_outside.corpus_counts(learned, sentences)[2]
        _, polished = inside_outside.exact_em(learned, sentences, 100)
        rows.append({
            "variant": name, "seed": seed, "exact": history[-1], "exact_iterations": len(history) - 1, "gflownet": value,
            "gap": history[-1] - value, "own_optimum_gap": polished[-1] - value,
            "effective": effective_rules(learned, sentences), "effective_exact": effective_rules(exact, sentences),
            "true": inside_outside.corpus_counts(inside_outside.true_grammar(), sentences)[2],
            "wake": last["wake"], "gate_open": last["gate_open_share"], "seconds": seconds,
            **compare_posterior(state.params, state.theta, held)})
    return rows


def effective_rules(grammar: inside_outside.Grammar, sentences: list[list[int]]) -> float:
    """exp of the entropy of how often each rule A -> B C is expected in the parses of the corpus."""
    total, _, _ = inside_outside.corpus_counts(grammar, sentences)
    share = total / total.sum()
    share = share[share > 0]  # after the division: a denormal count becomes 0 there
    return float(np.exp(-(share * np.log(share)).sum()))


def print_table(rows: list[dict[str, Any]]) -> None:
    """One line per run, on standard output."""
    columns = ["exact", "gflownet", "gap", "own_optimum_gap", "kl", "tv_max", "log_z_error_max", "effective", "effective_exact",
               "gate_open", "seconds"]
    columns = [c for c in columns if c in rows[0]]
    print("  " + " ".join([f"{'variant':16s} seed", *(f"{c:>15s}" for c in columns)]))
    for row in rows:
        print("  " + " ".join([f"{row['variant']:16s} {row['seed']:4d}", *(f"{row[c]:15.5f}" for c in columns)]), flush=True)


def main() -> None:
    """The entry point."""
    f = flags.FLAGS
    if f.json and not Path(f.json).absolute().parent.is_dir():
        raise UserError(f"--json={f.json}: {Path(f.json).parent} is no directory")
    base, run = (MIXTURE, run_mixture) if f.toy == "mixture" else (PCFG, run_pcfg)
    began, rows, result = time.time(), [], {"toy": f.toy, "options": base.__dict__}
    if f.toy == "pcfg":
        result["fixed_grammar"] = fixed_grammar(0)
        found = ", ".join(f"{k} {v:.4f}" for k, v in result["fixed_grammar"].items())
        print(f"posterior at a fixed grammar: {found}", flush=True)
    for name in VARIANTS if f.ablate else ("full",):
        rows += run(f.seeds, name, EMOptions(**(base.__dict__ | VARIANTS[name])))
        if f.ablate:
            print_table(rows[-f.seeds :])
        result |= {"rows": rows, "wall_seconds": round(time.time() - began, 1)}
        if f.json:  # what is done is kept if the rest is stopped
            Path(f.json).write_text(json.dumps(result, indent=1) + "\n")
    print("\nmean log-likelihood per datum, in nats:")
    print_table(rows)
    if f.json:
        print(f"written: {f.json}")


def define_flags() -> None:
    """The command line; defined on running only, so that other entry points can import this one."""
    flags.DEFINE_enum("toy", "mixture", ["mixture", "pcfg"], "which latent variable model")
    flags.DEFINE_string("json", "", "where the numbers go")
    flags.DEFINE_integer("seeds", 3, "runs of each variant, seeds 0, 1, ...", lower_bound=1)
    flags.DEFINE_bool("ablate", False, "also without each countermeasure against collapse, and without all of them")


if __name__ == "__main__":
    define_flags()
    cli.main(main)
