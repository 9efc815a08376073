"""Compiles every train step for TPUs that need not be there, on a CPU:

    python -m launch.aot --config=babyai_scale:8b --topology=v5p:8x8x8 --num_slices=2 --mesh=fsdp=64,tensor=8

Writes `launch/reports/<size>_<topology>[_x<slices>].json` and prints a table: does the step fit in memory, what does it move
within and between slices, how much work is it. Needs the extra `tpu`. The figures are the compiler's; nothing is run.
Steps are written as they are done; those of the file that are the same program by the same compiler are not compiled again.
"""
from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from absl import flags

from experiments import cli
from hjepa_gfn.errors import UserError
from launch.generations import GENERATIONS, make_slice

REPORTS = Path(__file__).parent / "reports"
HEAVIEST = ("m_step",)  # the step that takes most memory, in every report so far


def parse_mesh(text: str) -> dict[str, int]:
    """`"fsdp=64,tensor=8"` as a dict."""
    sizes = {}
    for part in filter(None, text.split(",")):
        name, _, size = part.partition("=")
        if name not in ("replica", "data", "fsdp", "tensor") or not size.isdigit() or int(size) < 1:
            raise UserError(f"--mesh={text}: {part!r} is not axis=size; axes are replica, data, fsdp, tensor")
        sizes[name] = int(size)
    return sizes


def full_mesh(sizes: dict[str, int], devices: int, num_slices: int) -> dict[str, int]:
    """Completes a mesh: `replica` is the number of slices unless given, `data` (or, given that, `fsdp`) takes the rest."""
    sizes = {"replica": num_slices, **sizes}
    free = "data" if "data" not in sizes and "fsdp" in sizes else "fsdp" if "fsdp" not in sizes else None
    taken = 1
    for size in sizes.values():
        taken *= size
    if devices % taken or (free is None and taken != devices):
        shown = " x ".join(f"{axis} {size}" for axis, size in sizes.items())
        raise UserError(f"--mesh: {shown} does not lay out {devices} devices")
    if free:
        sizes[free] = devices // taken
    return {axis: sizes.get(axis, 1) for axis in ("replica", "data", "fsdp", "tensor")}


def same_steps(found: dict, settings: dict) -> dict[str, dict]:
    """The steps of an earlier report `found`, if it was made with the same settings; else none."""
    same = all(found.get(name) == value for name, value in settings.items())
    return dict(found.get("steps", {})) if same else {}


def report_all(
    config: Any, topology: str, num_slices: int, mesh_sizes: dict[str, int], steps: list[str], fast: bool,
    known: dict | None = None, save: Callable[[dict], None] = lambda found: None,
) -> dict:
    """Reports of the named train steps (all, if none is named) of the system that `config` describes.

    known: an earlier report, whose steps are kept where their program has not changed. save: called after each step.
    """
    import jax

    from hjepa_gfn.data.pipeline import batch_shapes
    from hjepa_gfn.distributed import ShardingRules, abstract_state, aot, batch_sharding, make_mesh
    from hjepa_gfn.distributed.topology import tpu_devices
    from hjepa_gfn.objectives import train_steps
    from hjepa_gfn.objectives.cost import step_flops
    from hjepa_gfn.objectives.groups import is_copy
    from hjepa_gfn.objectives.system import make_system
    from hjepa_gfn.training.agent_task import NUM_ACTIONS

    name, _, shape = topology.partition(":")
    kind = make_slice(name, shape)
    sizes = full_mesh(mesh_sizes, kind.devices * num_slices, num_slices)
    mesh = make_mesh(**sizes, devices=tpu_devices(name, shape, num_slices))
    # one group, hence the same work, for each batch shard
    shards = aot.batch_shards(mesh)
    config.data.batch_size = config.data.batch_size // config.groups * shards
    config.groups = shards
    rules = ShardingRules(**config.sharding)
    system = make_system(config.model, config.data.vocab, config.data.text_length, NUM_ACTIONS)
    abstract = abstract_state(lambda key: train_steps.init_state(system, config, key), mesh, rules)
    spread = batch_sharding(mesh)
    shape_of = lambda leaf: jax.ShapeDtypeStruct(*leaf, sharding=spread)  # noqa: E731
    batch = jax.tree.map(shape_of, batch_shapes(config.data), is_leaf=lambda x: isinstance(x, tuple))
    registry = train_steps.make_train_steps(system, config)
    if unknown := set(steps) - set(registry):
        raise UserError(f"--steps={','.join(steps)}: no train step {min(unknown)}; there are {', '.join(registry)}")
    trained = {group: tree for group, tree in abstract.params.items() if not is_copy(group)}
    count = lambda tree: sum(leaf.size for leaf in jax.tree.leaves(tree))  # noqa: E731
    stacks = aot.stacks_of(trained, [n for n in (config.model.layers, config.model.context_layers) if n > 1])
    model_flops = step_flops(config)
    settings = {
        "topology": topology, "num_slices": num_slices, "devices": mesh.devices.size, "mesh": sizes,
        "compiler": aot.compiler_version(), "options": aot.FAST if fast else {},
        "batch_size": config.data.batch_size, "remat": config.model.compute.remat, "sampling": rules.sampling}
    earlier = same_steps(known or {}, settings)
    # steps of an earlier report may have been compiled before other groups joined the state: each says for how many parameters
    kept = {step: earlier[step] for step in registry if step in earlier and steps and step not in steps}
    out = {**settings, "parameters": count(trained), "steps": kept}
    print(f"{topology} x {num_slices}: {mesh.devices.size} devices as {sizes}; {count(trained) / 1e9:.3f} billion parameters; "
          f"batch {config.data.batch_size}; {out['compiler']}", flush=True)
    heads = ("peak GiB", "free GiB", "ICI GB", "DCN GB", "TFLOP/dev", "over model", "waste", "compile s")
    wide = max(10, *map(len, registry))
    print(f"{'step':{wide}}" + "".join(f"{head:>11}" for head in heads))
    for step in steps or registry:
        lowered = aot.lower(registry[step], abstract, batch, mesh, rules)
        if step in earlier and earlier[step]["digest"] == lowered.digest:
            out["steps"][step] = earlier[step]
            print(f"{step:{wide}} is the same program as in the report", flush=True)
            continue
        found = aot.report(lowered, mesh, kind.generation.hbm_gib, stacks, aot.FAST if fast else None)
        # of the same work without rematerialisation, by formula
        found["parameters"] = count(trained)
        found["over_model_flops"] = round(found["program_flops"] / model_flops[step], 4)
        done = {**out["steps"], step: found}
        out["steps"] = {name: done[name] for name in registry if name in done}
        save(out)
        print(f"{step:{wide}}{found['peak_hbm_gib']:11.2f}{found['free_gib']:11.2f}{found['ici_bytes'] / 1e9:11.2f}"
              f"{found['dcn_bytes'] / 1e9:11.3f}{found['flops_per_device'] / 1e12:11.2f}"
              f"{found['over_model_flops']:11.3f}{found['partition_waste']:11.3f}"
              f"{found['compile_seconds']:11.1f}", flush=True)
    return out


def candidates(parameters: int, hbm_gib: float, devices: int, num_slices: int) -> list[tuple[str, dict[str, int]]]:
    """(remat policy, mesh) from what should be fastest to what needs least memory: little is computed again before much, little
    tensor parallelism before much; parameters over as few devices as hold their state in a third of the memory."""
    state = 16 * parameters / 2**30  # float32: parameters, the encoder's copy, two moments
    found = []
    for remat in ("none", "dots", "full"):
        for tensor in (1, 2, 4, 8):
            fsdp = 1
            while fsdp * tensor * num_slices < devices and state / (fsdp * tensor) > hbm_gib / 3:
                fsdp *= 2
            if devices % (fsdp * tensor * num_slices) == 0:
                found.append((remat, {"replica": num_slices, "fsdp": fsdp, "tensor": tensor}))
    return found


def suggest(config: Any, topology: str, num_slices: int, steps: list[str], fast: bool) -> str:
    """The flags of the first candidate with which the given steps fit.

    Raises:
      UserError: none fits.
    """
    from launch.cost import parameter_count

    name, _, shape = topology.partition(":")
    kind = make_slice(name, shape)
    tried = candidates(parameter_count(config), kind.generation.hbm_gib, kind.devices * num_slices, num_slices)
    for remat, mesh in tried:
        config.model.compute.remat = remat
        try:
            found = report_all(config, topology, num_slices, mesh, steps, fast)
        except UserError as error:
            print(f"  {mesh}: {error}", flush=True)
            continue
        if all(step["fits"] for step in found["steps"].values()):
            shown = ",".join(f"{axis}={size}" for axis, size in found["mesh"].items())
            return f"--mesh={shown} --config.model.compute.remat={remat}"
    raise UserError(f"--suggest: none of {len(tried)} meshes and remat policies fits on {topology} x {num_slices}: take more "
                    "devices, or smaller rows or windows")


def main(config: Any) -> None:
    """The entry point."""
    from hjepa_gfn.files import read_json, write_json

    f = flags.FLAGS
    if f.topology.partition(":")[0] not in GENERATIONS:
        raise UserError(f"--topology={f.topology}: must be generation:shape, as v5p:8x8x8, of {', '.join(GENERATIONS)}")
    if f.suggest:
        with config.unlocked():
            print(f"suggested: {suggest(config, f.topology, f.num_slices, f.steps or list(HEAVIEST), f.fast)}")
        return
    size = next((arg.split("=", 1)[1] for arg in sys.argv if arg.startswith("--config=")), "babyai_gotolocal").split(":")[-1]
    slices = f"_x{f.num_slices}" if f.num_slices > 1 else ""
    out = Path(f.out) if f.out else REPORTS / f"{size}_{f.topology.replace(':', '_')}{slices}.json"
    # steps that are added to a report belong to the command that makes it whole
    words = [word for word in sys.argv[1:] if not (out.exists() and word.startswith("--steps"))]
    command = "python -m launch.aot " + " ".join(words)
    with config.unlocked():
        found = report_all(
            config, f.topology, f.num_slices, parse_mesh(f.mesh), f.steps, f.fast, read_json(out) if out.exists() else None,
            lambda found: write_json(out, {"command": command, **found}))
    write_json(out, {"command": command, **found})
    fits = all(step["fits"] for step in found["steps"].values())
    print(f"{'fits' if fits else 'DOES NOT FIT'}; written to {out}")


def define_flags() -> None:
    """The command line; defined on running only, so that other entry points can import this one."""
    flags.DEFINE_string("topology", "v5e:4x4", "generation:shape of one slice")
    flags.DEFINE_integer("num_slices", 1, "how many slices", lower_bound=1)
    flags.DEFINE_string("mesh", "", "axis=size,...; replica is the number of slices, what is left out takes the rest")
    flags.DEFINE_list("steps", [], "train steps to compile; all by default")
    flags.DEFINE_bool("fast", True, "compile with little optimisation of run time (seconds instead of minutes)")
    flags.DEFINE_bool("suggest", False, "try meshes and remat policies on --steps (default: the heaviest), name one that fits")
    flags.DEFINE_string("out", "", "the report's file; by default in launch/reports")


if __name__ == "__main__":
    os.environ["JAX_PLATFORMS"] = "cpu"  # before jax is imported: the TPU is only described
    define_flags()
    cli.main(main, config="babyai_scale:8b")
