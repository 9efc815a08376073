"""Arrays as bytes: parameters by flat names in a safetensors file, other arrays by name in an npz."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from safetensors.numpy import save


def flatten(params: Any, prefix: str = "") -> dict[str, np.ndarray]:
    """Nested mappings of arrays, wherever they lie, as whole numpy arrays by name: `{"group/module/kernel": array}`.

    Raises:
      TypeError: something else is among them.
      ValueError: a name has a slash in it.
    """
    flat: dict[str, np.ndarray] = {}
    for name, value in params.items():
        if "/" in str(name):
            raise ValueError(f"parameter name {name!r}: a slash would be read as nesting")
        path = f"{prefix}{name}"
        flat |= flatten(value, f"{path}/") if isinstance(value, Mapping) else {path: _whole(value)}
    return flat


def unflatten(flat: Mapping[str, Any]) -> dict[str, Any]:
    """The inverse of `flatten`."""
    nested: dict[str, Any] = {}
    for path, value in flat.items():
        *parents, last = path.split("/")
        place = nested
        for parent in parents:
            place = place.setdefault(parent, {})
        place[last] = value
    return nested


def safetensors_bytes(flat: Mapping[str, np.ndarray]) -> bytes:
    """Arrays by name as the bytes of a safetensors file (`loader.read_safetensors` is the inverse)."""
    return save({name: np.array(array, order="C") for name, array in flat.items()})


def npz_bytes(arrays: Mapping[str, np.ndarray]) -> bytes:
    """Arrays by name as the bytes of an `.npz` file; the same arrays give the same bytes."""
    files = {}
    for name in sorted(arrays):
        item = io.BytesIO()
        np.lib.format.write_array(item, np.asarray(arrays[name]), allow_pickle=False)
        files[f"{name}.npy"] = item.getvalue()
    return zip_bytes(files)


def read_npz(data: bytes) -> dict[str, np.ndarray]:
    """The inverse of `npz_bytes`."""
    with np.load(io.BytesIO(data), allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}


def zip_bytes(files: Mapping[str, bytes]) -> bytes:
    """Files by name as the bytes of a zip archive; the same files in the same order give the same bytes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in files.items():
            archive.writestr(zipfile.ZipInfo(name), data)  # ZipInfo's date is fixed: 1980
    return buffer.getvalue()


def _whole(value: Any) -> np.ndarray:
    if isinstance(value, jax.Array) and not value.is_fully_addressable:
        from jax.experimental import multihost_utils

        return np.asarray(multihost_utils.process_allgather(value, tiled=True))
    if isinstance(value, jax.Array | np.ndarray):
        return np.array(value)
    raise TypeError(f"parameters must be nested mappings of arrays, not {type(value).__name__}")
