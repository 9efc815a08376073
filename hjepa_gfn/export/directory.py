"""The export directory: parameters, config, tokenizer and codebooks, programs, and a manifest with checksums.

    params.safetensors  config.json  tokenizer.json  codebooks.npz      what `load_export` reads
    orbax/                                                              the same parameters as an Orbax checkpoint
    loader.py  programs/                                                runs the agent without this package (`export.loader`)
    export.json                                                         the manifest: format, version, SHA-256 of every file
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from hjepa_gfn.errors import UserError
from hjepa_gfn.export import loader
from hjepa_gfn.export.arrays import flatten, npz_bytes, read_npz, safetensors_bytes, unflatten
from hjepa_gfn.export.loader import FORMAT, MANIFEST, VERSION
from hjepa_gfn.files import read_json, write_bytes, write_json

_FILES = ("params.safetensors", "config.json", "tokenizer.json", "codebooks.npz")


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
    programs: Mapping[str, bytes] | None = None,
) -> Path:
    """Writes an export directory; it appears whole or not at all.

    Args:
      out: the directory; must not exist, be empty, or be an earlier export (which is replaced).
      params: nested mappings of arrays, wherever they lie (shards are gathered).
      config: anything JSON can hold; its section `mesh` is left out: an export belongs to no mesh.
      tokenizer_json: the tokenizer, as the `tokenizers` package serialises it.
      codebooks: arrays by name.
      programs: `programs.program_files`, or none.

    Returns:
      The directory's absolute path.

    Raises:
      UserError: `out` holds something else.
    """
    from hjepa_gfn.export.orbax_copy import write_orbax  # here, since reading an export needs no Orbax

    out = Path(out).absolute()
    if out.exists() and not out.is_dir():
        raise UserError(f"{out}: exists and is not a directory: choose another output directory")
    if out.is_dir() and any(out.iterdir()) and not (out / MANIFEST).is_file():
        raise UserError(f"{out}: holds other files: choose a new or empty output directory")
    flat = flatten(params)
    files = {
        "params.safetensors": safetensors_bytes(flat),
        "config.json": (json.dumps(_without_mesh(config), indent=2, allow_nan=False) + "\n").encode(),
        "tokenizer.json": tokenizer_json.encode(),
        "codebooks.npz": npz_bytes(codebooks),
        "loader.py": Path(loader.__file__).read_bytes(),
        **(programs or {}),
    }
    fresh = out.with_name(f".{out.name}.{os.getpid()}.tmp")
    shutil.rmtree(fresh, ignore_errors=True)
    try:
        for name, data in files.items():
            write_bytes(fresh / name, data)
        write_orbax(fresh / "orbax", flat)
        write_json(fresh / MANIFEST, {"format": FORMAT, "version": VERSION, "sha256": checksums(fresh)})
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
    expected = manifest.get("sha256") if isinstance(manifest, dict) else None
    if not isinstance(expected, dict) or manifest.get("format") != FORMAT:
        raise UserError(f"{directory / MANIFEST}: not the manifest of an export: export again")
    if manifest.get("version") != VERSION:
        raise UserError(f"{directory}: export version {manifest.get('version')}, but {VERSION} is needed: export again")
    data = {}
    for name in _FILES:
        try:
            data[name] = (directory / name).read_bytes()
        except OSError as error:
            raise UserError(f"{directory / name}: cannot be read ({error.strerror}): export again") from error
        if hashlib.sha256(data[name]).hexdigest() != expected.get(name):
            raise UserError(f"{directory / name}: damaged (wrong checksum): export again")
    # jnp.asarray: on the default device once, not sent anew with every call; uncommitted, so any jit may take it.
    flat = {name: jnp.asarray(array) for name, array in loader.read_safetensors(data["params.safetensors"]).items()}
    return Export(
        params=unflatten(flat),
        config=json.loads(data["config.json"]),
        tokenizer_json=data["tokenizer.json"].decode(),
        codebooks=read_npz(data["codebooks.npz"]),
    )


def checksums(directory: Path) -> dict[str, str]:
    """SHA-256 of every file in a directory and below, by its path from there, with slashes; but of the manifest."""
    found = {}
    for path in sorted(path for path in directory.rglob("*") if path.is_file()):
        if (name := path.relative_to(directory).as_posix()) != MANIFEST:
            with path.open("rb") as file:
                found[name] = hashlib.file_digest(file, "sha256").hexdigest()
    return found


def _without_mesh(config: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in config.items() if name != "mesh"}


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
