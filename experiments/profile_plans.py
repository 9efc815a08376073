"""What one training step on plan trees costs as plans grow: `python -m experiments.profile_plans --out=runs/profile`.

For each plan length N (tokens) a batch of trajectories is sampled until the buffer is full, re-evaluated, and the prior
policy updated by forward-looking SubTB; the three parts are timed apart. Writes profile.json and profile.svg.
`--window=W` re-evaluates W successive edges of each trajectory instead of all (see `gflownet.rollout.cut`).
"""
from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl import flags

from experiments import cli
from hjepa_gfn.distributed import unbox
from hjepa_gfn.evaluation.drawing_bars import stacked_bars
from hjepa_gfn.files import write_bytes, write_json
from hjepa_gfn.gflownet import losses
from hjepa_gfn.gflownet.rollout import cut
from hjepa_gfn.models.agent_network import AgentNetwork, Context, NetworkSizes
from hjepa_gfn.models.jepa import Jepa, JepaSizes
from hjepa_gfn.objectives.policies import evaluate, roots, sample_paths
from hjepa_gfn.objectives.system import System, init_params
from hjepa_gfn.plans import INSERT, PlanSpec

_OUT = flags.DEFINE_string("out", "runs/profile", "where profile.json and profile.svg go")
_LENGTHS = flags.DEFINE_list("lengths", ["8", "16", "32"], "plan lengths in tokens")
_BATCH = flags.DEFINE_integer("batch", 8, "trajectories a step", lower_bound=1)
_WINDOW = flags.DEFINE_integer("window", 0, "edges re-evaluated of each trajectory; 0: all", lower_bound=0)
_REPEATS = flags.DEFINE_integer("repeats", 5, "timed calls; the fastest counts", lower_bound=1)


def make(length: int, sizes: dict[str, Any]) -> tuple[System, Any]:
    """A system whose buffer has `length` tokens, and parameters under which plans grow until it is full."""
    spec = PlanSpec(state_codes=(75, 125), action_codes=(625, 7), capacity=length, max_edits=2 * length)
    jepa = JepaSizes(state=16, hidden=16)
    system = System(spec, AgentNetwork(spec, NetworkSizes(**sizes)), Jepa(jepa), 4, 5)
    params = unbox(init_params(system, jax.random.key(0), 12))
    # STOP is made improbable and INSERT probable: otherwise random policies end after a few edits, and plans stay short
    policy = params["policy"]
    stop, site = policy["prior_stop"], policy["prior_site"]
    insert = jnp.where(jnp.arange(site["bias"].shape[0]) % 3 == INSERT, 3.0, 0.0)
    policy = {**policy, "prior_stop": {**stop, "bias": stop["bias"] - 12.0},
              "prior_site": {**site, "bias": site["bias"] + insert}}
    return system, {**params, "policy": policy}


def parts(system: System, batch: int, window: int) -> dict[str, Any]:
    """The jitted parts of one step: rollout, gradient of the re-evaluated loss, update; and the whole."""
    groups = ("encoder", "policy")
    tx = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(1e-4))

    def rollout(params, context, key):
        return sample_paths(system, params, key, roots(system, batch), jnp.ones(batch, bool), context)

    def gradient(params, context, paths, key):
        if window:
            paths = cut(paths, key, window)

        def loss(moving):
            path = evaluate(system, {**params, **moving}, paths, context)
            flow = losses.stop_flow(jnp.zeros_like(path.stop), path.stop)
            return losses.subtb(losses.balance_potential(flow, path.forward, path.backward), paths.real, 0.9)[0]

        return jax.grad(loss)({g: params[g] for g in groups})

    def update(params, state, grads):
        updates, state = tx.update(grads, state)
        return {**params, **optax.apply_updates({g: params[g] for g in groups}, updates)}, state

    def whole(params, state, context, key):
        paths = rollout(params, context, key)
        return *update(params, state, gradient(params, context, paths, key)), paths.length

    return {"init": lambda p: tx.init({g: p[g] for g in groups}), "rollout": jax.jit(rollout), "gradient": jax.jit(gradient),
            "update": jax.jit(update), "whole": jax.jit(whole)}


def best_ms(call: Any, repeats: int) -> float:
    """Milliseconds of the fastest of `repeats` calls, the first (compilation) not counted."""
    jax.block_until_ready(call())
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        jax.block_until_ready(call())
        times.append(time.perf_counter() - began)
    return 1e3 * min(times)


def measure(length: int, batch: int, window: int, repeats: int) -> dict[str, Any]:
    """Times of one plan length."""
    sizes = dict(width=64, heads=4, mlp=128, layers=2, context_layers=2, queries=4)
    system, params = make(length, sizes)
    rng = np.random.default_rng(0)
    context = Context(jnp.asarray(rng.normal(size=(batch, 17, sizes["width"])), jnp.float32), jnp.ones((batch, 17), bool))
    key, run = jax.random.key(1), parts(system, batch, window)
    state = run["init"](params)
    paths = run["rollout"](params, context, key)
    grads = run["gradient"](params, context, paths, key)
    row = {
        "tokens": length, "mean_tokens_reached": float(paths.final.valid.sum(-1).mean()),
        "mean_edits": float(paths.length.mean()),
        "rollout_ms": best_ms(lambda: run["rollout"](params, context, key), repeats),
        "reevaluation_ms": best_ms(lambda: run["gradient"](params, context, paths, key), repeats),
        "update_ms": best_ms(lambda: run["update"](params, state, grads), repeats),
        "step_ms": best_ms(lambda: run["whole"](params, state, context, key), repeats),
    }
    return row


def main() -> None:
    """The entry point."""
    rows = []
    print(f"{'tokens':>7s} {'edits':>6s} {'step ms':>9s} {'rollout':>9s} {'re-eval':>9s} {'update':>8s}", flush=True)
    for length in map(int, _LENGTHS.value):
        row = measure(length, _BATCH.value, _WINDOW.value, _REPEATS.value)
        rows.append(row)
        print(f"{length:7d} {row['mean_edits']:6.1f} {row['step_ms']:9.1f} {row['rollout_ms']:9.1f} "
              f"{row['reevaluation_ms']:9.1f} {row['update_ms']:8.1f}", flush=True)
    out = Path(_OUT.value)
    out.mkdir(parents=True, exist_ok=True)
    report = {"batch": _BATCH.value, "window": _WINDOW.value, "device": jax.devices()[0].device_kind, "jax": jax.__version__,
              "rows": rows}
    write_json(out / "profile.json", report)
    names = ("rollout_ms", "reevaluation_ms", "update_ms")
    write_bytes(out / "profile.svg", stacked_bars(
        [str(row["tokens"]) for row in rows], {n.removesuffix("_ms"): [row[n] for row in rows] for n in names},
        title=f"one training step on plan trees, batch {_BATCH.value}", x="plan tokens", unit="ms").encode())
    print(json.dumps({"profile": str(out / "profile.json"), "picture": str(out / "profile.svg")}))


if __name__ == "__main__":
    cli.main(main)
