"""Which device stands where in a mesh: neighbours of the mesh are neighbours in the machine."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from jax.experimental import mesh_utils

from hjepa_gfn.errors import UserError


def arrange(sizes: Sequence[int], devices: Sequence[Any]) -> np.ndarray:
    """The devices as an array of shape `sizes`: (replica, data, fsdp, tensor).

    TPUs are laid out along their interconnect, with the outer part of `replica` between slices and everything else within
    one. Other devices keep their order, host after host, so that the inner axes stay within a host where they fit.

    Raises:
      UserError: slices of unequal numbers of devices, or a `replica` that they do not divide.
    """
    devices = list(devices)[: math.prod(sizes)]
    if devices[0].platform != "tpu":
        return np.array(devices, dtype=object).reshape(sizes)
    slices = Counter(getattr(device, "slice_index", 0) for device in devices)
    # jax.make_mesh refuses several slices, and physical axes that have to be split (tensor 2 on a 4x4x4 slice)
    if len(slices) == 1:
        return mesh_utils.create_device_mesh(sizes, devices, allow_split_physical_axes=True)
    if len(set(slices.values())) > 1:
        raise UserError(f"mesh: {len(devices)} devices would come from {len(slices)} slices unequally: use whole slices")
    if sizes[0] % len(slices):
        raise UserError(f"mesh.replica={sizes[0]}: must be a multiple of the {len(slices)} slices, between which it runs")
    within = (sizes[0] // len(slices), *sizes[1:])
    between = (len(slices), *(1 for _ in sizes[1:]))
    return mesh_utils.create_hybrid_device_mesh(within, between, devices, allow_split_physical_axes=True)
