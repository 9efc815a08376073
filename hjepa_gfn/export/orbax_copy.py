"""The parameters once more, as an Orbax checkpoint that holds nothing else: for those whose tools read Orbax."""

from __future__ import annotations

import os
from collections.abc import Mapping

import numpy as np
import orbax.checkpoint as ocp

from hjepa_gfn.export.arrays import unflatten


def write_orbax(path: str | os.PathLike[str], flat: Mapping[str, np.ndarray]) -> None:
    """Writes parameters by flat name as nested dicts; `ocp.StandardCheckpointer().restore(path)` reads them.

    Arrays on the host carry no sharding, so nothing of the mesh that trained them is written.
    """
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(os.fspath(path), unflatten(flat))
