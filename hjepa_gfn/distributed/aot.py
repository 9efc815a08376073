"""Ahead-of-time reports: a train step compiled for a mesh that need not exist, and what its program takes and moves.

All figures are the compiler's, of programs that were never run.
"""
from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
from jax.sharding import Mesh

from hjepa_gfn.distributed.compiled_text import collectives, compiled_flops, moved_by_axes, whole_stacks
from hjepa_gfn.distributed.mesh import AXES, BATCH_AXES, SLICES
from hjepa_gfn.distributed.program_flops import count_flops
from hjepa_gfn.distributed.sharding import ShardingRules
from hjepa_gfn.distributed.steps import jit_step

# Compiles in seconds instead of minutes; layouts and memory are the same within a few percent.
FAST = {"exec_time_optimization_effort": -1.0}


class Lowered(NamedTuple):
    """A train step ready to compile."""

    program: Any      # jax.stages.Lowered
    flops: int        # matmul FLOPs of the whole mesh, loops at their longest
    flops_seen: int   # the same without kernels, which the compiled text does not show
    digest: str       # of the program's text: equal digests compile to equal reports


def lower(step: Callable, abstract_state: Any, abstract_batch: Any, mesh: Mesh, rules: ShardingRules) -> Lowered:
    """Traces and lowers `step(state, batch)` for the mesh, from shapes alone."""
    traced = jit_step(step, abstract_state, mesh, rules).trace(abstract_state, abstract_batch)
    program = traced.lower()
    jaxpr = traced.jaxpr.jaxpr
    digest = hashlib.sha256(program.as_text().encode()).hexdigest()[:16]
    return Lowered(program, count_flops(jaxpr), count_flops(jaxpr, kernels=False), digest)


def report(
    lowered: Lowered, mesh: Mesh, hbm_gib: float, stacks: Mapping[int, int], options: dict[str, Any] | None = None
) -> dict[str, Any]:
    """Compiles; memory, traffic and work of one device in one call. Loops that may end early count at their longest.

    stacks: of the system's scanned stacks, of which no parameter may be gathered whole: see `stacks_of`.
    """
    begin = time.monotonic()
    compiled = lowered.program.compile(compiler_options=options)
    seconds = time.monotonic() - begin
    memory, text = compiled.memory_analysis(), compiled.as_text()
    found = collectives(text, AXES, [mesh.shape[axis] for axis in AXES])
    moved = moved_by_axes(found)
    sent = sorted((c for c in found if SLICES in c.axes), key=lambda c: -c.bytes * c.times)
    between = sum(c.bytes * c.times for c in sent)
    peak = memory.peak_memory_in_bytes / 2**30
    devices = mesh.devices.size
    return {
        "fits": bool(peak <= hbm_gib), "peak_hbm_gib": round(peak, 4), "hbm_gib": hbm_gib, "free_gib": round(hbm_gib - peak, 4),
        "arguments_gib": round(memory.argument_size_in_bytes / 2**30, 4),
        "donated_gib": round(memory.alias_size_in_bytes / 2**30, 4),
        "ici_bytes": sum(moved.values()) - between, "dcn_bytes": between, "moved_by_axes": moved,
        "largest_between_slices": [
            {"kind": c.kind, "shape": list(c.shape), "times": c.times, "bytes": c.bytes * c.times} for c in sent[:6]],
        "collectives": len(found), "whole_stacks_gathered": whole_stacks(found, stacks, mesh.shape),
        "program_flops": lowered.flops, "flops_per_device": lowered.flops / devices,
        # matmuls that the partitioner does more than once: what one device's program does over an even share
        "partition_waste": round(compiled_flops(text) * devices / max(lowered.flops_seen, 1), 4),
        "compile_seconds": round(seconds, 1), "digest": lowered.digest,
    }


def stacks_of(params: Any, layers: Sequence[int]) -> dict[int, int]:
    """Of each depth among `layers`, the elements of the smallest parameter [depth, in, out]."""
    kernels = [leaf.shape for leaf in jax.tree.leaves(params) if len(leaf.shape) == 3]
    return {depth: min(math.prod(shape) for shape in kernels if shape[0] == depth)
            for depth in set(layers) & {shape[0] for shape in kernels}}


def batch_shards(mesh: Mesh) -> int:
    """How many parts a batch is spread over."""
    shards = 1
    for axis in BATCH_AXES:
        shards *= mesh.shape[axis]
    return shards


def compiler_version() -> str:
    """Of the TPU compiler and of jax."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return f"libtpu {version('libtpu')}, jax {jax.__version__}"
    except PackageNotFoundError:
        return f"jax {jax.__version__}"
