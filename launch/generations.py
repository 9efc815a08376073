"""TPU generations: one table of what the launchers and the ahead-of-time compiler need to know of each, and slices of them.

Three units are easily mixed up: a *chip*, a *device* (what JAX calls one: half a chip on tpu7x) and a *TensorCore* (what
the number in `v5p-128` counts on generations with two to a chip, whatever JAX makes of them).
"""

from __future__ import annotations

import dataclasses
import itertools
import math
import re

from hjepa_gfn.errors import UserError

_2D = ("1x1", "2x2", "2x4", "4x4", "4x8", "8x8", "8x16", "16x16")
_3D = ("2x2x1", "2x2x2", "2x2x4", "2x4x4")  # below one cube of 4x4x4; from there on, multiples of 4 in rising order


@dataclasses.dataclass(frozen=True)
class Generation:
    """What is the same for every slice of a generation."""

    name: str
    prefix: str  # of the accelerator type, `v5litepod-16`: gcloud's and xpk's spelling
    cores_per_chip: int  # TensorCores a chip: what the accelerator type's number counts
    gke_accelerator: str  # the node label cloud.google.com/gke-tpu-accelerator
    gke_machine: str  # machine type, completed by chips a host: ct5p-hightpu- + 4t
    runtime_version: str | None  # the TPU VM's image; None: not offered as TPU VMs with queued resources
    dims: int  # of the interconnect
    small: tuple[str, ...]  # topologies of less than one 4x4x4 cube; every topology, where dims is 2
    max_chips: int  # of a slice
    devices_per_chip: int
    hbm_gib: float  # usable by a program, per device: the compiler's limit
    peak_tflops_bf16: float  # per chip
    chips_per_host: int = 4  # of a slice of several hosts
    single_host_chips: tuple[int, ...] = (4,)  # slices of one host


GENERATIONS: dict[str, Generation] = {
    generation.name: generation
    for generation in (
        # v4's and v5p's two TensorCores work as one device
        Generation("v4", "v4", 2, "tpu-v4-podslice", "ct4p-hightpu-", "tpu-ubuntu2204-base", 3, _3D, 4096, 1, 30.75, 275),
        Generation("v5e", "v5litepod", 1, "tpu-v5-lite-podslice", "ct5lp-hightpu-", "v2-alpha-tpuv5-lite", 2, _2D, 256,
                   1, 15.75, 197, single_host_chips=(1, 4, 8)),
        Generation("v5p", "v5p", 2, "tpu-v5p-slice", "ct5p-hightpu-", "v2-alpha-tpuv5", 3, _3D, 6144, 1, 95.74, 459),
        Generation("v6e", "v6e", 1, "tpu-v6e-slice", "ct6e-standard-", "v2-alpha-tpuv6e", 2, _2D, 256, 1, 31.25, 918,
                   single_host_chips=(1, 4, 8)),
        Generation("tpu7x", "tpu7x", 2, "tpu7x", "tpu7x-standard-", None, 3, ("1x1x1", *_3D), 9216, 2, 94.75, 2307,
                   single_host_chips=(1, 4)),
    )
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Slice:
    """Chips joined by one interconnect, and the hosts that they sit in."""

    generation: Generation
    topology: str
    chips_per_host: int

    @property
    def shape(self) -> tuple[int, ...]:
        """The topology as numbers."""
        return tuple(map(int, self.topology.split("x")))

    @property
    def chips(self) -> int:
        return math.prod(self.shape)

    @property
    def hosts(self) -> int:
        return self.chips // self.chips_per_host

    @property
    def devices(self) -> int:
        """What `jax.device_count()` says on one slice."""
        return self.chips * self.generation.devices_per_chip

    @property
    def accelerator_type(self) -> str:
        """`v5p-128`: 128 TensorCores, hence 64 chips; `v6e-64`: 64 chips."""
        return f"{self.generation.prefix}-{self.chips * self.generation.cores_per_chip}"

    @property
    def is_usual_shape(self) -> bool:
        """Whether the accelerator type alone means this topology: the most cube-like one of its size."""
        return self.generation.dims == 2 or self.shape in _most_cubic(self.generation, self.chips)

    @property
    def machine_type(self) -> str:
        """The machine type of a GKE node pool's nodes."""
        return f"{self.generation.gke_machine}{self.chips_per_host}t"


def generation(name: str) -> Generation:
    """The generation of a name (`v5p`).

    Raises:
      UserError: there is none of that name.
    """
    if name not in GENERATIONS:
        raise UserError(f"--tpu={name}: must be one of {', '.join(GENERATIONS)}")
    return GENERATIONS[name]


def make_slice(tpu: str, topology: str, chips_per_host: int | None = None) -> Slice:
    """A slice by generation and topology: `make_slice("v5p", "4x4x8")`.

    Args:
      tpu: the generation's name.
      topology: chips along each dimension of the interconnect.
      chips_per_host: by default one host for as many chips as a host can have, 4 to a host beyond. Only a slice that
        both can hold (`2x4` of v5e and v6e: one host of 8 chips, or two of 4) leaves a choice.

    Raises:
      UserError: unknown generation, a topology that it does not have, or hosts that do not come so.
    """
    kind = generation(tpu)
    dims = {2: "two dimensions, as in 4x8", 3: "three dimensions, as in 4x4x8"}[kind.dims]
    if not re.fullmatch(rf"[1-9]\d*(x[1-9]\d*){{{kind.dims - 1}}}", topology):
        raise UserError(f"--topology={topology}: slices of {tpu} have {dims}")
    shape = tuple(map(int, topology.split("x")))
    chips = math.prod(shape)
    if chips > kind.max_chips:
        raise UserError(f"--topology={topology}: {chips} chips, but a slice of {tpu} has {kind.max_chips} at most")
    cubes = kind.dims == 3 and all(size % 4 == 0 for size in shape) and list(shape) == sorted(shape)
    if topology not in kind.small and not cubes:
        beyond = " or multiples of 4 in rising order, as in 4x4x8" if kind.dims == 3 else ""
        raise UserError(f"--topology={topology}: {tpu} has no such slice; it has {', '.join(kind.small)}{beyond}")
    usual = chips if chips in kind.single_host_chips else kind.chips_per_host
    given = chips_per_host or usual
    if given != usual and not (given == kind.chips_per_host and chips % given == 0):
        raise UserError(f"--chips_per_host={given}: a {topology} slice of {tpu} has hosts of {usual} chips")
    return Slice(kind, topology, given)


def _most_cubic(kind: Generation, chips: int) -> list[tuple[int, ...]]:
    shapes = [tuple(map(int, name.split("x"))) for name in kind.small]
    if chips % 64 == 0:
        sizes = [4 * n for n in range(1, chips // 64 + 1) if chips // 64 % n == 0]
        shapes += itertools.combinations_with_replacement(sizes, 3)
    shapes = [shape for shape in shapes if math.prod(shape) == chips]
    return [shape for shape in shapes if sum(shape) == min(map(sum, shapes))]
