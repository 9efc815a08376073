"""Times every train step on the accelerator that is there, beside the arithmetic that it does:

    python -m experiments.bench_steps --config=babyai_scale:base --config.groups=8 --config.data.batch_size=16 --data_dir=CORPUS

Prints a line for each step: milliseconds (median), TFLOP/s and the share of the peak (model FLOPs utilisation: matmuls by
the cost model's formula, rematerialisation not counted), memory by the compiler's account, and the kernels that take longest by
a profiler's trace. Plans are made as long as they can be (`--longest`), since that is what the formulas count.
"""
from __future__ import annotations

import os
import statistics
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import jax.numpy as jnp
from absl import flags

from experiments import cli
from hjepa_gfn.data.directory import check_corpus
from hjepa_gfn.distributed import ShardingRules, abstract_state, init_state, jit_step, make_mesh, put_batch
from hjepa_gfn.errors import UserError
from hjepa_gfn.files import write_json
from hjepa_gfn.objectives.cost import step_flops
from hjepa_gfn.objectives.groups import is_copy
from hjepa_gfn.objectives.system import system_from
from hjepa_gfn.objectives.train_steps import make_train_steps
from hjepa_gfn.training.agent_task import NUM_ACTIONS, AgentTask
from hjepa_gfn.training.kernels import kernels

PEAK_TFLOPS = {  # dense bfloat16, by the vendors' data sheets
    "NVIDIA H200": 989.0, "NVIDIA H100 80GB HBM3": 989.0, "NVIDIA A100-SXM4-80GB": 312.0,
    "TPU v4": 275.0, "TPU v5 lite": 197.0, "TPU v5p": 459.0, "TPU v6 lite": 918.0}
NEVER = -30.0  # logit of STOP


def never_stop(params: dict) -> dict:
    """Parameters whose policies do not stop of themselves: sampled plans grow to their capacity."""
    policy = dict(params["policy"])
    for name in ("prior_stop", "posterior_stop"):
        policy[name] = {**policy[name], "bias": jnp.full_like(policy[name]["bias"], NEVER)}
    return {**params, "policy": policy}


def compile_all(steps: dict[str, Any], state: Any, batch: Any) -> dict[str, Any]:
    """The steps, compiled side by side (tracing holds the interpreter, compiling does not)."""
    with ThreadPoolExecutor(max(1, (os.cpu_count() or 1) // 2)) as pool:
        waiting = {name: pool.submit(step.lower(state, batch).compile) for name, step in steps.items()}
        return {name: future.result() for name, future in waiting.items()}


def timed(step: Any, state: Any, batch: Any, repeats: int) -> tuple[list[float], Any, Any]:
    """Seconds of each of `repeats` calls after one to warm up; the last state and metrics."""
    state, metrics = step(state, batch)
    jax.block_until_ready(metrics)
    seconds = []
    for _ in range(repeats):
        begun = time.perf_counter()
        state, metrics = step(state, batch)
        jax.block_until_ready((state, metrics))
        seconds.append(time.perf_counter() - begun)
    return seconds, state, metrics


def bench(config: Any, data_dir: str, names: list[str], repeats: int, longest: bool, top: int) -> dict[str, Any]:
    """Times the named train steps (all, if none is named); see the module's docstring."""
    check_corpus(data_dir)
    task = AgentTask(config, data_dir)
    # a small corpus has fewer words than the configuration says: the network is as large as it would be
    task.system = system_from(config, config.data.vocab, NUM_ACTIONS)
    task.train_steps = make_train_steps(task.system, config)
    if unknown := set(names) - set(task.train_steps):
        raise UserError(f"--steps: no train step {min(unknown)}; there are {', '.join(task.train_steps)}")
    mesh, rules = make_mesh(**config.mesh), ShardingRules(**config.sharding)
    abstract = abstract_state(task.init, mesh, rules)
    state = abstract  # shapes are all that compiling needs: several processes can compile beside each other on one GPU
    if repeats:
        state = init_state(task.init, jax.random.key(config.seed), abstract)
    if repeats and longest:
        state = state.replace(params=never_stop(state.params))
    batch = put_batch(task.batch(0), mesh)
    flops, kind = step_flops(config), jax.devices()[0].device_kind
    peak = PEAK_TFLOPS.get(kind, 0.0) * mesh.devices.size
    trained = sum(x.size for group, tree in abstract.params.items() if not is_copy(group) for x in jax.tree.leaves(tree))
    out = {"device": kind, "devices": mesh.devices.size, "jax": jax.__version__, "parameters": trained,
           "batch_size": config.data.batch_size, "groups": config.groups, "compute": dict(config.model.compute),
           "longest_plans": longest, "peak_tflops": peak, "steps": {}}
    print(f"{kind} x {mesh.devices.size}, jax {jax.__version__}: {trained / 1e6:.1f} million parameters, batch "
          f"{config.data.batch_size}, {config.groups} groups, {config.model.compute.dtype}, remat {config.model.compute.remat}")
    print(f"{'step':14}{'ms':>10}{'spread':>8}{'TFLOP':>9}{'TFLOP/s':>9}{'MFU':>7}{'GiB':>7}", flush=True)
    begun = time.perf_counter()
    jitted = {name: jit_step(task.train_steps[name], abstract, mesh, rules) for name in names or task.train_steps}
    steps = compile_all(jitted, state, batch)
    out["compile_seconds"] = time.perf_counter() - begun
    for name, step in steps.items() if repeats else ():
        memory = step.memory_analysis()
        held = (memory.argument_size_in_bytes + memory.output_size_in_bytes - memory.alias_size_in_bytes
                + memory.temp_size_in_bytes) / 2**30 if memory else 0.0
        seconds, state, metrics = timed(step, state, batch, repeats)
        middle = statistics.median(seconds)
        rate = flops[name] / middle / 1e12
        found = {
            "seconds": middle, "slowest": max(seconds), "fastest": min(seconds), "model_flops": flops[name],
            "tflops": rate, "mfu": rate / peak if peak else None, "gib": held, "loss": float(metrics["loss"])}
        print(f"{name:14}{1e3 * middle:10.2f}{max(seconds) / min(seconds):8.2f}{flops[name] / 1e12:9.3f}{rate:9.2f}"
              f"{found['mfu'] or 0.0:7.3f}{held:7.2f}", flush=True)
        if top:
            with tempfile.TemporaryDirectory() as folder:
                with jax.profiler.trace(folder):
                    state, metrics = step(state, batch)
                    jax.block_until_ready((state, metrics))
                seen = kernels(folder)
            total = sum(k.seconds for k in seen)
            found |= {"kernel_seconds": total, "kernel_calls": sum(k.calls for k in seen),
                      "kernels": [k._asdict() for k in seen[:top]]}
            for k in seen[:top]:
                print(f"    {100 * k.seconds / max(total, 1e-12):5.1f} %  {k.calls:6d} x {1e6 * k.seconds / k.calls:9.1f} us  "
                      f"{k.name[:90]}")
            print(f"    kernels {1e3 * total:.2f} ms in {found['kernel_calls']} calls", flush=True)
        out["steps"][name] = found
    stats = jax.devices()[0].memory_stats() or {}
    out["peak_bytes_in_use"] = stats.get("peak_bytes_in_use")
    if out["peak_bytes_in_use"]:
        print(f"most memory in use: {out['peak_bytes_in_use'] / 2**30:.2f} GiB")
    return out


def main(config: Any) -> None:
    """The entry point."""
    f = flags.FLAGS
    with config.unlocked():
        found = bench(config, f.data_dir, f.steps, f.repeats, f.longest, f.kernels)
    if f.out:
        write_json(f.out, found)


def define_flags() -> None:
    """The command line; defined on running only, so that other entry points can import this one."""
    flags.DEFINE_string("data_dir", None, "the corpus whose batches the steps get")
    flags.DEFINE_list("steps", [], "train steps to time; all by default")
    flags.DEFINE_integer("repeats", 5, "timed calls of each step; 0: compiles only, for the compilation cache", lower_bound=0)
    flags.DEFINE_bool("longest", True, "let sampled plans grow to their capacity, as the formulas count")
    flags.DEFINE_integer("kernels", 8, "kernels to list of each step; 0: no trace is made", lower_bound=0)
    flags.DEFINE_string("out", "", "a JSON file for all figures")


if __name__ == "__main__":
    define_flags()
    cli.main(main, config="babyai_scale:base", required=("data_dir",))
