"""Reads a compiled program's text (HLO): which collectives run over which mesh axes, and what they move.

The text counts a loop's body once; loops of `jax.lax.scan` compare a counter with a constant in their condition, which says how
often they run (for loops that may end early: at most).
"""
from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from hjepa_gfn.distributed.mesh import SLICES

_BYTES = {"pred": 1, "s8": 1, "u8": 1, "bf16": 2, "f16": 2, "s16": 2, "u16": 2, "f64": 8, "s64": 8, "u64": 8}  # the others: 4
_SHAPE = re.compile(r"\b(pred|bf16|[sufc]\d+)\[([\d,]*)\]")
_REFERENCE = re.compile(r"\b(calls|to_apply|body|condition|branch_computations|called_computations)=(\{[^}]*\}|%?[\w.\-]+)")
_INSTRUCTION = re.compile(r"(?:ROOT )?%?([\w.\-]+) = (.*?) ([a-z\-]+)\(")
COLLECTIVES = ("all-gather", "all-reduce", "reduce-scatter", "collective-permute", "all-to-all", "ragged-all-to-all")
# Between slices TPU programs hold no collective: each device hands its part to the runtime by a `send` to the host.


class Collective(NamedTuple):
    """One collective operation of the program."""

    kind: str
    axes: tuple[str, ...]  # mesh axes along which its participants differ
    bytes: float           # of its result on one device, each time
    times: int             # how often it runs in one call, at most
    shape: tuple[int, ...]  # of its (first) result
    in_loop: bool


def computations(text: str) -> tuple[dict[str, list[str]], str]:
    """Instructions by computation, and the name of the entry."""
    found: dict[str, list[str]] = {}
    current, entry = None, ""
    for line in text.splitlines():
        if line and not line[0].isspace() and line.rstrip().endswith("{") and not line.startswith("HloModule"):
            name = re.match(r"(ENTRY )?%?([\w.\-]+)", line)
            current = name[2]
            found[current] = []
            entry = current if name[1] else entry
        elif line.rstrip() == "}":
            current = None
        elif current is not None:
            found[current].append(line.strip())
    return found, entry


def run_counts(parts: dict[str, list[str]], entry: str) -> Counter:
    """How often each computation runs in one call of the program."""
    counts: Counter = Counter({entry: 1})
    todo = [(entry, 1)]
    while todo:
        name, times = todo.pop()
        for line in parts.get(name, ()):
            references = _REFERENCE.findall(line)
            inner = times
            if " while(" in line:
                inner *= max(_constants(parts, dict(references)["condition"].lstrip("%")), default=1)
            for _, targets in references:
                for target in re.findall(r"[\w.\-]+", targets):
                    if target in parts:
                        counts[target] += inner
                        todo.append((target, inner))
    return counts


def in_loops(parts: dict[str, list[str]]) -> set[str]:
    """Computations that are the body of a loop, or called from one."""
    calls = {name: {target for line in lines for _, targets in _REFERENCE.findall(line)
                    for target in re.findall(r"[\w.\-]+", targets) if target in parts} for name, lines in parts.items()}
    todo = [target for lines in parts.values() for line in lines if " while(" in line
            for kind, target in _REFERENCE.findall(line) if kind == "body" for target in [target.lstrip("%")]]
    found: set[str] = set()
    while todo:
        name = todo.pop()
        if name not in found:
            found.add(name)
            todo += calls.get(name, ())
    return found


def whole_stacks(found: Sequence[Collective], stacks: Mapping[int, int], sizes: Mapping[str, int]) -> int:
    """How many gathers outside of loops bring together a parameter [L, in, out] of all layers of a stack: none should.

    Along `data` alone no parameter is brought together, as none is spread over it: that is the second half of the reduction of
    a gradient. What is smaller than any parameter is none.

    Args:
      stacks: of each depth L, the elements of its smallest parameter of three dimensions. sizes: of the mesh's axes.
    """
    count = 0
    for c in found:
        over = {"fsdp", "tensor"} & set(c.axes)
        if c.kind == "all-gather" and not c.in_loop and over and len(c.shape) == 3 and c.shape[0] in stacks:
            still_spread = math.prod(sizes[axis] for axis in {"fsdp", "tensor"} - over)
            count += math.prod(c.shape) * still_spread >= stacks[c.shape[0]]
    return count


def _constants(parts: dict[str, list[str]], name: str) -> list[int]:
    """Integer constants in a computation and in those that it calls; of arrays (`{128}`, `{ {128} }`) of one element too."""
    rows = parts.get(name, ())
    found = [int(n) for row in rows for n in re.findall(r" [su]32\[[^\]]*\]\S* constant\([{ ]*(\d+)[} ]*\)", row)]
    for row in rows:
        for _, targets in _REFERENCE.findall(row):
            for target in re.findall(r"[\w.\-]+", targets):
                found += _constants(parts, target) if target in parts else []
    return found


def collectives(text: str, axes: Sequence[str], sizes: Sequence[int]) -> list[Collective]:
    """The collectives of a program compiled for a mesh of these axes (in the mesh's order) and sizes."""
    parts, entry = computations(text)
    counts, looped = run_counts(parts, entry), in_loops(parts)
    found: dict[tuple[str, str], Collective] = {}
    for name, lines in parts.items():
        for line in lines if counts[name] else ():
            match = _INSTRUCTION.match(line)
            kind = match[3].removesuffix("-start") if match else ""
            between_slices = kind == "send" and "xla_megascale" in line
            if kind not in COLLECTIVES and not between_slices:
                continue
            pieces = [(_size(kind_, shape), shape) for kind_, shape in _SHAPE.findall(match[2])]
            # the result of a -start holds operand and result: the larger is what moves; else a tuple of results
            part = between_slices or match[3].endswith("-start")
            moved = max(p[0] for p in pieces) if part else sum(p[0] for p in pieces)
            shape = max(pieces)[1]
            channel = re.search(r"channel_id=(\d+)", line)
            over = (SLICES,) if between_slices else _axes_of(line, axes, sizes)
            shape = tuple(int(n) for n in shape.split(",") if n)
            one = Collective(kind, over, moved, counts[name], shape, name in looped)
            key = (kind, channel[1] if channel else match[1])  # pieces of one fused collective share a channel
            if key not in found or one.times * one.bytes > found[key].times * found[key].bytes:
                found[key] = one
    return list(found.values())


def moved_by_axes(found: Sequence[Collective]) -> dict[str, float]:
    """Bytes a device and call by mesh axes ("fsdp", "data+fsdp"), in falling order."""
    total: Counter = Counter()
    for c in found:
        total["+".join(c.axes) or "none"] += c.bytes * c.times
    return dict(total.most_common())


def compiled_flops(text: str) -> float:
    """Matmul FLOPs of one device, loops counted as often as they run at most. TPU programs fuse matmuls into convolutions."""
    parts, entry = computations(text)
    counts = run_counts(parts, entry)
    shapes = {name: dims for lines in parts.values() for name, dims in _shapes(lines)}
    total = 0.0
    for name, lines in parts.items():
        local = {**shapes, **dict(_shapes(lines))}
        for line in lines if counts[name] else ():
            match = re.match(r"(?:ROOT )?%?([\w.\-]+) = (\S+) (dot|convolution)\((.*?)\)", line)
            if not match:
                continue
            operands = re.findall(r"%([\w.\-]+)", match[4])
            if match[3] == "dot":
                contract = re.search(r"lhs_contracting_dims=\{([\d,]*)\}", line)[1]
                inner = math.prod(local[operands[0]][int(i)] for i in contract.split(",") if i)
                products = math.prod(local[match[1]]) * inner
            else:
                products = _convolved(line, local[operands[0]], local[operands[1]], local[match[1]])
            total += 2.0 * products * counts[name]
    return total


def _convolved(line: str, lhs: Sequence[int], rhs: Sequence[int], out: Sequence[int]) -> int:
    """Multiplications in a convolution. Products in batches are written as one over a padded or dilated batch, in which most
    places of a window meet nothing: those that meet a number are counted."""
    labels = re.search(r"dim_labels=(\w+)_(\w+)->(\w+)", line)
    left, right, result = (dict(zip(names, sizes, strict=True)) for names, sizes in zip(labels.groups(), (lhs, rhs, out)))
    window = dict(re.findall(r"(\w+)=([\d_x\-]+)", (re.search(r"window=\{(.*?)\}", line) or ("", ""))[1]))
    spatial = [name for name in labels[2] if name.isdigit()]
    products = result["b"] * result["f"] * right["i"]
    for name in spatial:
        at = lambda field, default, i=int(name): window[field].split("x")[i] if field in window else default  # noqa: E731
        stride, dilate, spread = int(at("stride", 1)), int(at("lhs_dilate", 1)), int(at("rhs_dilate", 1))
        low = int(at("pad", "0_0").split("_")[0])
        place = np.arange(result[name])[:, None] * stride + np.arange(right[name])[None] * spread - low
        products *= int(((place >= 0) & (place < left[name] * dilate) & (place % dilate == 0)).sum())
    return products


def _shapes(lines: Sequence[str]) -> Iterator[tuple[str, list[int]]]:
    for line in lines:
        match = re.match(r"(?:ROOT )?%?([\w.\-]+) = (\S+)", line)
        shape = _SHAPE.search(match[2]) if match else None
        if shape:
            yield match[1], [int(n) for n in shape[2].split(",") if n]


def _size(kind: str, shape: str) -> float:
    return _BYTES.get(kind, 4) * math.prod(int(n) for n in shape.split(",") if n)


def _groups_of_mesh(mesh: str, order: str | None, axes: str) -> np.ndarray:
    """Groups [G, size] of `mesh['a'=2,'b'=4], device_ids=([4,2]T(1,0)) {'b'}`: those that differ along the named axes. A part
    of an axis is written `'b':(2)2`: of b = 2 x 2, the part of size 2 after one of size 2."""
    sizes = {name: int(size) for name, size in re.findall(r"'(\w+)'=(\d+)", mesh)}
    ids = np.arange(math.prod(sizes.values()))
    if order:
        dims = [int(n) for n in re.match(r"\[([\d,]*)\]", order)[1].split(",")]
        turn = re.search(r"T\(([\d,]*)\)", order)
        ids = ids.reshape(dims)
        ids = ids.transpose([int(n) for n in turn[1].split(",")]) if turn else ids
    shape, chosen = [], []
    parts = {name: (int(before or 1), int(size or sizes[name]))
             for name, before, size in re.findall(r"'(\w+)'(?::\((\d+)\)(\d+))?", axes)}
    for name, size in sizes.items():
        before, own = parts.get(name, (size, 1))
        shape += [before, own, size // (before * own)]
        chosen += [False, name in parts, False]
    ids = ids.reshape(shape)
    inner = [i for i, some in enumerate(chosen) if some]
    outer = [i for i, some in enumerate(chosen) if not some]
    return ids.transpose(outer + inner).reshape(-1, math.prod(shape[i] for i in inner))


def _axes_of(line: str, axes: Sequence[str], sizes: Sequence[int]) -> tuple[str, ...]:
    """Mesh axes along which the participants of a collective differ. Participants are numbered in the mesh's order."""
    if pairs := re.search(r"source_target_pairs=\{(.*?)\}\}", line):
        groups = np.array([[int(n) for n in pair.split(",")] for pair in re.findall(r"\{?(\d+,\d+)", pairs[1])])
    elif named := re.search(r"replica_groups=mesh\[(.*?)\](?:, device_ids=\((\[.*?)\))? \{(.*?)\}", line):
        groups = _groups_of_mesh(*named.groups())
    elif iota := re.search(r"replica_groups=\[([\d,]+)\]<=\[([\d,]+)\](?:T\(([\d,]+)\))?", line):
        shape, dims = ([int(n) for n in text.split(",")] for text in (iota[1], iota[2]))
        ids = np.arange(math.prod(dims)).reshape(dims)
        groups = (ids.transpose([int(n) for n in iota[3].split(",")]) if iota[3] else ids).reshape(shape)
    elif listed := re.search(r"replica_groups=\{(\{[\d,{} ]*\})\}", line):
        groups = [[int(n) for n in group.split(",")] for group in re.findall(r"\{([\d, ]+)\}", listed[1])]
    else:
        groups = np.arange(math.prod(sizes))[None]  # no groups: everybody
    moving = np.zeros(len(sizes), bool)
    for group in groups:
        place = np.stack(np.unravel_index(np.asarray(group), tuple(sizes)))
        moving |= (place != place[:, :1]).any(1)
    return tuple(axis for axis, moves in zip(axes, moving) if moves)
