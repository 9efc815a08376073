"""Matmul FLOPs of a traced program: what the chips are asked to do, before any compiler."""
from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.extend import core


def program_flops(fn: Callable[..., Any], *args: Any) -> int:
    """FLOPs (2 a multiply-add) of all matrix products in `fn(*args)`; args may be `ShapeDtypeStruct`s.

    A scan counts as often as it is long; a loop that may end early as often as it can at most: the largest constant that its
    condition compares with. Branches of a conditional count as the dearest of them. Elementwise work counts nothing. Kernels
    count as often as their grid has cells, blocks that a mask would let them skip included; what each device does by itself
    (`shard_map`), as often as there are devices.
    """
    return count_flops(jax.make_jaxpr(fn)(*args).jaxpr)


def count_flops(jaxpr: Any, kernels: bool = True) -> int:
    """`program_flops` of a jaxpr, without what is inside of kernels if not `kernels` (compiled programs do not show it)."""
    total = 0
    for eqn in jaxpr.eqns:
        if eqn.primitive.name == "dot_general":
            total += _dot(eqn)
        elif eqn.primitive.name == "scan":
            total += eqn.params["length"] * count_flops(eqn.params["jaxpr"].jaxpr, kernels)
        elif eqn.primitive.name == "while":
            total += loop_bound(eqn) * count_flops(eqn.params["body_jaxpr"].jaxpr, kernels)
        elif eqn.primitive.name == "cond":
            total += max(count_flops(branch.jaxpr, kernels) for branch in eqn.params["branches"])
        elif eqn.primitive.name == "pallas_call":
            total += kernels * math.prod(eqn.params["grid_mapping"].grid) * count_flops(eqn.params["jaxpr"], kernels)
        elif eqn.primitive.name == "shard_map":
            devices = math.prod(eqn.params["mesh"].shape[axis] for axis in eqn.params["newly_manual_axes"])
            total += devices * count_flops(eqn.params["jaxpr"], kernels)
        else:
            inner = jax.tree.leaves(list(eqn.params.values()), is_leaf=_is_jaxpr)
            total += sum(count_flops(getattr(j, "jaxpr", j), kernels) for j in inner if _is_jaxpr(j))
    return total


def loop_bound(eqn: Any) -> int:
    """The most iterations of a `while` whose counter runs from 0: the largest integer that its condition compares with (1 if
    it compares with none)."""
    closed = eqn.params["cond_jaxpr"]
    known = dict(zip(closed.jaxpr.constvars, closed.consts, strict=True))
    found = [1]
    for inner in _all_eqns(closed.jaxpr):
        if inner.primitive.name in ("lt", "le", "gt", "ge"):
            for var in inner.invars:
                value = np.asarray(var.val if isinstance(var, core.Literal) else known.get(var, 0.0))
                if value.dtype.kind in "iu":
                    found.append(int(value.max()))
    return max(found)


def _all_eqns(jaxpr: Any) -> list[Any]:
    eqns = list(jaxpr.eqns)
    for eqn in jaxpr.eqns:
        for inner in jax.tree.leaves(list(eqn.params.values()), is_leaf=_is_jaxpr):
            if _is_jaxpr(inner):
                eqns += _all_eqns(getattr(inner, "jaxpr", inner))
    return eqns


def _is_jaxpr(x: Any) -> bool:
    return hasattr(x, "eqns") or hasattr(x, "jaxpr")


def _dot(eqn: Any) -> int:
    (contract, _), _ = eqn.params["dimension_numbers"]
    left, out = eqn.invars[0].aval.shape, eqn.outvars[0].aval.shape
    return 2 * math.prod(out) * math.prod(left[i] for i in contract)
