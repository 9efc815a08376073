"""The export directory: `params.msgpack`, `config.json`, `tokenizer.json`, `codebooks.npz` and a manifest with
checksums."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import serialization

from hjepa_gfn.errors import UserError
from hjepa_gfn.files import read_json, write_bytes, write_json

MANIFEST = "export.json"
FORMAT = "hjepa_gfn export"
VERSION = 1


class Export(NamedTuple):
    """What an export directory holds."""

    params: dict[str, Any]  # nested dicts of arrays on one device
    config: dict[str, Any]
    tokenizer_json: str
    codebooks: dict[str, np.ndarray]


def save_export(
    out: str | os.PathLike[str],
    params: Any,
    config: Mapping[str, Any],
    tokenizer_json: str,
    codebooks: Mapping[str, np.ndarray],
) -> Path:
    """Writes an export directory; it appears whole or not at all.

    Args:
      out: the directory; must not exist, be empty, or be an earlier export (which is replaced).
      params: nested mappings of arrays, wherever they lie (shards are gathered).
      config: anything JSON can hold.
      tokenizer_json: the tokenizer, as the `tokenizers` package serialises it.
      codebooks: arrays by name.

    Returns:
      The directory's absolute path.

    Raises:
      UserError: `out` holds something else.
    """
    out = Path(out).absolute()
    if out.exists() and not out.is_dir():
        raise UserError(f"{out}: exists and is not a directory: choose another output directory")
    if out.is_dir() and any(out.iterdir()) and not (out / MANIFEST).is_file():
        raise UserError(f"{out}: holds other files: choose a new or empty output directory")
    files = {
        "params.msgpack": serialization.msgpack_serialize(_to_host(params)),
        "config.json": (json.dumps(config, indent=2, allow_nan=False) + "\n").encode(),
        "tokenizer.json": tokenizer_json.encode(),
        "codebooks.npz": npz_bytes(codebooks),
    }
    fresh = out.with_name(f".{out.name}.{os.getpid()}.tmp")
    shutil.rmtree(fresh, ignore_errors=True)
    try:
        for name, data in files.items():
            write_bytes(fresh / name, data)
        checksums = {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}
        write_json(fresh / MANIFEST, {"format": FORMAT, "version": VERSION, "sha256": checksums})
        _replace_directory(fresh, out)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    return out


def load_export(directory: str | os.PathLike[str]) -> Export:
    """Reads an export directory onto the default device: no mesh, no optimiser state, no training code.

    Raises:
      UserError: it is not an export, or one of its files is missing or damaged.
    """
    directory = Path(directory).absolute()
    if not (directory / MANIFEST).is_file():
        raise UserError(f"{directory}: not an export (no {MANIFEST} in it): make one with python -m experiments.export")
    manifest = read_json(directory / MANIFEST)
    checksums = manifest.get("sha256") if isinstance(manifest, dict) else None
    if not isinstance(checksums, dict) or manifest.get("format") != FORMAT:
        raise UserError(f"{directory / MANIFEST}: not the manifest of an export: export again")
    if manifest.get("version") != VERSION:
        raise UserError(f"{directory}: export version {manifest.get('version')}, but {VERSION} is needed: export again")
    data = {}
    for name in ("params.msgpack", "config.json", "tokenizer.json", "codebooks.npz"):
        try:
            data[name] = (directory / name).read_bytes()
        except OSError as error:
            raise UserError(f"{directory / name}: cannot be read ({error.strerror}): export again") from error
        if hashlib.sha256(data[name]).hexdigest() != checksums.get(name):
            raise UserError(f"{directory / name}: damaged (wrong checksum): export again")
    return Export(
        # jnp.asarray: on the default device once, not sent anew with every call; uncommitted, so any jit may take it.
        params=jax.tree.map(jnp.asarray, serialization.msgpack_restore(data["params.msgpack"])),
        config=json.loads(data["config.json"]),
        tokenizer_json=data["tokenizer.json"].decode(),
        codebooks=read_npz(data["codebooks.npz"]),
    )


def npz_bytes(arrays: Mapping[str, np.ndarray]) -> bytes:
    """Arrays by name as the bytes of an `.npz` file; the same arrays give the same bytes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in sorted(arrays):
            item = io.BytesIO()
            np.lib.format.write_array(item, np.asarray(arrays[name]), allow_pickle=False)
            archive.writestr(zipfile.ZipInfo(f"{name}.npy"), item.getvalue())  # ZipInfo's date is fixed: 1980
    return buffer.getvalue()


def read_npz(data: bytes) -> dict[str, np.ndarray]:
    """The inverse of `npz_bytes`."""
    with np.load(io.BytesIO(data), allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}


def _to_host(params: Any) -> Any:
    """Nested dicts of whole numpy arrays."""
    if isinstance(params, Mapping):
        return {str(name): _to_host(value) for name, value in params.items()}
    if isinstance(params, jax.Array) and not params.is_fully_addressable:
        from jax.experimental import multihost_utils

        return np.asarray(multihost_utils.process_allgather(params, tiled=True))
    if isinstance(params, jax.Array | np.ndarray):
        return np.array(params)
    raise TypeError(f"parameters must be nested mappings of arrays, not {type(params).__name__}")


def _replace_directory(fresh: Path, out: Path) -> None:
    """Puts `fresh` in the place of `out`; a directory cannot be replaced in one step, so the old one moves aside
    first."""
    if not out.exists():
        os.rename(fresh, out)
        return
    old = out.with_name(f".{out.name}.{os.getpid()}.old")
    os.rename(out, old)
    try:
        os.rename(fresh, out)
    except BaseException:
        os.rename(old, out)
        raise
    shutil.rmtree(old)
