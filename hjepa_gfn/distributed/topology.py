"""TPU slices that are not there: descriptions of a topology, for which programs compile on any machine that has libtpu."""
from __future__ import annotations

import importlib.util
import os
from collections.abc import Sequence
from typing import Any

from hjepa_gfn.errors import UserError

# libtpu would ask the cloud's metadata service what it runs on, and lock the (absent) chips
QUIET = {"TPU_SKIP_MDS_QUERY": "1", "TPU_WORKER_HOSTNAMES": "localhost", "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
         "TPU_ACCELERATOR_TYPE": "v5litepod-4", "TPU_STDERR_LOG_LEVEL": "3", "TPU_MIN_LOG_LEVEL": "3"}


def tpu_devices(generation: str, topology: str, num_slices: int = 1) -> Sequence[Any]:
    """Descriptions of the devices of `num_slices` slices: `tpu_devices("v5p", "8x8x8", 2)`.

    Raises:
      UserError: libtpu is not installed, or it does not know such a slice.
    """
    if importlib.util.find_spec("libtpu") is None:
        raise UserError("libtpu is not installed: it holds the TPU compiler; pip install -c constraints.txt -e '.[tpu]'")
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    from jax.experimental import topologies

    # megacore: the two TensorCores of a v4 chip work as one device, as they do on real machines
    options = {"chip_config_name": "megacore"} if generation == "v4" else {}
    try:
        return topologies.get_topology_desc(
            platform="tpu", topology_name=f"{generation}:{topology}", num_slices=num_slices, **options).devices
    except Exception as error:  # whatever the compiler's library makes of it
        why = " ".join(str(error).split())[:160]
        raise UserError(f"{generation}:{topology}: libtpu does not know this slice ({why})") from error
