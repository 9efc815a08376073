"""Trains tabular policies on enumerable plan trees with one loss, and compares them with the exact distributions."""
import functools
from typing import Any, NamedTuple

import jax
import numpy as np
import optax

from hjepa_gfn.evaluation.exact_losses import LOSSES, Sampling, exact_log_partition, log_partition
from hjepa_gfn.evaluation.plan_tables import TabledPlans, TableParams
from hjepa_gfn.gflownet import exact


class Training(NamedTuple):
    """Settings of one training."""

    steps: int
    rate: float           # Adam's, decaying to zero as a cosine
    sampling: Sampling = Sampling()


def random_rewards(seeds: int, contexts: int, nodes: int, scale: float = 1.0) -> np.ndarray:
    """log R = scale * N(0, 1), independent for every seed, context and plan: float32 [seeds * contexts, Z]."""
    return np.concatenate([
        scale * np.random.default_rng(seed).normal(size=(contexts, nodes)) for seed in range(seeds)]).astype(np.float32)


def train(name: str, env: TabledPlans, training: Training, seed: int = 0) -> TableParams:
    """Trains fresh tables of every context (seeds are contexts too: their tables share nothing) in one scan."""
    optimizer = optax.adam(optax.cosine_decay_schedule(training.rate, training.steps))
    loss_fn = functools.partial(LOSSES[name], env)

    def step(carry, key):
        params, state = carry
        grads = jax.grad(loss_fn)(params, key, training.sampling)
        updates, state = optimizer.update(grads, state)
        return (optax.apply_updates(params, updates), state), None

    @jax.jit
    def run(key):
        k_init, k_steps = jax.random.split(key)
        params = env.init(k_init)
        return jax.lax.scan(step, (params, optimizer.init(params)), jax.random.split(k_steps, training.steps))[0][0]

    return jax.block_until_ready(run(jax.random.key(seed)))


def measure(name: str, env: TabledPlans, params: TableParams) -> dict[str, np.ndarray]:
    """Exact figures against enumeration, each float64 [contexts]."""
    parent, child = env.graph.parent, env.graph.child
    log_pf, log_pb, log_stop = env.edge_log_probs(params)
    log_r, log_z = np.asarray(env.log_rewards, np.float64), exact_log_partition(env)
    target, found = log_r - log_z[:, None], exact.terminal_log_probs(parent, child, log_pf, log_stop)
    bounds = {kind: of(parent, child, log_pf, log_pb, log_stop, log_r)
              for kind, of in (("elbo", exact.elbo), ("eubo", exact.eubo))}
    return {
        "total_variation": exact.total_variation(target, found), "jensen_shannon": exact.jensen_shannon(target, found),
        "log_z_error": np.abs(log_partition(name, env, params) - log_z), "log_z": log_z, **bounds}


def summary(figures: dict[str, np.ndarray]) -> dict[str, Any]:
    """Mean and worst over contexts and seeds; the bounds as their distance from log Z."""
    gap = {"log_z_minus_elbo": figures["log_z"] - figures["elbo"], "eubo_minus_log_z": figures["eubo"] - figures["log_z"]}
    rows = {**{k: figures[k] for k in ("total_variation", "jensen_shannon", "log_z_error")}, **gap}
    return {k: {"mean": float(v.mean()), "worst": float(v.max())} for k, v in rows.items()}
