"""Checkpoints: Orbax behind a small door.

Each step's directory holds `state` (arrays, by Orbax) and `meta` (JSON: the config, checksums, the loop's own state).
Orbax renames a directory into place when all of it is written, so a killed run leaves whole checkpoints only; the
checksums catch what happens to them later.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp

from hjepa_gfn.errors import UserError
from hjepa_gfn.training import pytrees
from hjepa_gfn.training.quiet import quiet

DIRECTORY = "checkpoints"
_SAVING = ".orbax-checkpoint-tmp"
_DELETING = ".deleting"


class Checkpoint(NamedTuple):
    """What a checkpoint holds: the state's arrays and the JSON beside them."""

    step: int
    state: Any
    meta: dict[str, Any]


class _Unreadable(Exception):
    """A checkpoint that is on disk but cannot be read, and why, in one phrase."""


def _anything(meta: dict[str, Any]) -> None:
    """The check that any checkpoint passes."""


class Checkpoints:
    """The checkpoints of one run, under `workdir/checkpoints`; keeps the newest `keep`.

    It deletes none that it cannot read: what is left of one is the user's to judge.
    """

    def __init__(
        self, workdir: str | os.PathLike[str], keep: int = 2, *, create: bool = True, asynchronous: bool | None = None
    ):
        """Opens them.

        Args:
          workdir: the run's working directory, shared by all hosts.
          create: whether this is the run itself, with all its hosts. A reader (False) changes nothing and waits for nobody.
          asynchronous: whether `save` returns while storage is still being written. By default everywhere but on CPU, where
            "device" arrays are host memory that the next step will reuse: there it costs a copy of the state.
        """
        quiet()
        self.path = Path(workdir).absolute() / DIRECTORY
        self._keep, self._create = keep, create
        self._saving = False  # whether a save may still be under way
        self._readable: set[int] = set()  # the steps that this object has written or read
        on_cpu = jax.default_backend() == "cpu"
        asynchronous = create and (not on_cpu if asynchronous is None else asynchronous)
        self._copy_first = asynchronous and on_cpu
        if create and jax.process_index() == 0:
            # What killed runs left behind, in mid-save or mid-deletion: never a whole checkpoint.
            for remains in (*self.path.glob(f"*{_SAVING}*"), *self.path.glob(f"*{_DELETING}")):
                shutil.rmtree(remains, ignore_errors=True)
        self._manager = _manager(self.path, create=create, asynchronous=asynchronous)
        # To look into checkpoints on one host alone: Orbax otherwise waits for all of them at every reading.
        self._reader = _manager(self.path) if create and jax.process_count() > 1 else self._manager

    def steps(self) -> list[int]:
        """The steps on disk, oldest first."""
        # By name, not by Orbax's opinion: a directory that it no longer recognises must be reported, never passed over.
        names = [path.name for path in self.path.iterdir()] if self.path.is_dir() else []
        return sorted(int(name) for name in names if name.isdigit())

    def save(self, step: int, state: Any, meta: dict[str, Any]) -> None:
        """Saves a state; then lets go of the oldest checkpoints beyond `keep`.

        Args:
          step: the number of finished iterations.
          state: any pytree of device arrays.
          meta: JSON beside it (must not hold the key "checksums").
        """
        nested = pytrees.to_nested(state)
        meta = {**meta, "checksums": pytrees.fingerprint(nested)}
        if self._copy_first:
            nested = jax.tree.map(jnp.copy, nested)
        self._manager.save(
            step, args=ocp.args.Composite(state=ocp.args.StandardSave(nested), meta=ocp.args.JsonSave(meta)), force=True
        )
        self._saving = True
        self._readable.add(step)
        self._retain()

    def _retain(self) -> None:
        """Lets go of the oldest checkpoints beyond `keep`, of those that are whole on disk."""
        if jax.process_index() == 0:
            for old in self.steps()[: -self._keep]:
                if old in self._readable or self._can_read(old):
                    self._delete(old)

    def restore_newest(self, abstract: Any, check: Callable[[dict[str, Any]], None] = _anything) -> Checkpoint | None:
        """The newest checkpoint, laid out as `abstract` says (`ShapeDtypeStruct`s with shardings); None where there is
        none.

        Args:
          abstract: what the state must look like.
          check: called with the checkpoint's meta before the arrays are read; raises if it is of another run.

        Raises:
          UserError: it cannot be read, or holds another state than `abstract`. Nothing is deleted.
        """
        steps = self.steps()
        if not steps:
            return None
        try:
            return self._restore(steps[-1], abstract, check)
        except _Unreadable as error:
            good = next((step for step in reversed(steps[:-1]) if self._can_read(step)), None)
            way_out = (
                f"move or delete that directory to go on from step {good}"
                if good is not None
                else "no older checkpoint is readable: start again in another directory"
            )
            raise UserError(f"checkpoint {self.path / str(steps[-1])} is corrupt ({error}); {way_out}") from error

    def close(self) -> None:
        """Waits for saves under way."""
        self._manager.close()
        if self._reader is not self._manager:
            self._reader.close()
        if self._saving:
            self._saving = False
            self._retain()

    def _restore(self, step: int, abstract: Any, check: Callable[[dict[str, Any]], None]) -> Checkpoint:
        meta = self._read_meta(step)
        check(meta)
        wanted = pytrees.to_nested(abstract)
        stored = {name: _describe(leaf) for name, leaf in pytrees.leaves(self._stored_shapes(step)).items()}
        expected = {name: _describe(leaf) for name, leaf in pytrees.leaves(wanted).items()}
        for name in sorted(stored.keys() | expected.keys()):
            was, now = stored.get(name, "absent"), expected.get(name, "absent")
            if was != now:
                place = self.path / str(step)
                raise UserError(f"checkpoint {place} is of another model: {name} is {was} there and {now} in this one")
        nested = self._read_state(self._manager, step, wanted, meta)
        self._readable.add(step)
        return Checkpoint(step, pytrees.from_nested(nested, abstract), meta)

    def read(self, step: int, device: jax.Device | None = None) -> Checkpoint:
        """Reads a checkpoint as nested dicts of arrays on one device, without knowing the state's classes or mesh.

        Raises:
          UserError: it cannot be read.
        """
        sharding = jax.sharding.SingleDeviceSharding(device or jax.local_devices()[0])
        try:
            meta = self._read_meta(step)
            wanted = jax.tree.map(
                lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), self._stored_shapes(step)
            )
            return Checkpoint(step, self._read_state(self._reader, step, wanted, meta), meta)
        except _Unreadable as error:
            raise UserError(f"checkpoint {self.path / str(step)} is corrupt ({error})") from error

    def _can_read(self, step: int) -> bool:
        try:
            self.read(step)
        except UserError:
            return False
        self._readable.add(step)
        return True

    def _delete(self, step: int) -> None:
        # Renamed first: a run killed in mid-deletion must not leave half a checkpoint behind.
        remains = (self.path / str(step)).rename(self.path / f"{step}{_DELETING}")
        shutil.rmtree(remains, ignore_errors=True)

    def _read_meta(self, step: int) -> dict[str, Any]:
        try:
            meta = self._reader.restore(step, args=ocp.args.Composite(meta=ocp.args.JsonRestore()))["meta"]
            if not isinstance(meta["checksums"], dict):
                raise ValueError("meta holds no checksums")
            return meta
        except Exception as error:  # whatever storage makes of damage: it is reported, never swallowed
            raise _Unreadable(_phrase(error)) from error

    def _stored_shapes(self, step: int) -> dict[str, Any]:
        try:
            return dict(self._reader.item_metadata(step)["state"].tree)
        except Exception as error:
            raise _Unreadable(_phrase(error)) from error

    def _read_state(
        self, manager: ocp.CheckpointManager, step: int, wanted: dict[str, Any], meta: dict[str, Any]
    ) -> dict[str, Any]:
        try:
            args = ocp.args.Composite(state=ocp.args.StandardRestore(wanted))
            nested = manager.restore(step, args=args)["state"]
        except Exception as error:
            raise _Unreadable(_phrase(error)) from error
        found = pytrees.fingerprint(nested)
        if bad := [name for name, value in meta["checksums"].items() if found.get(name) != value]:
            raise _Unreadable(f"wrong checksum of {bad[0]}")
        return nested


def _manager(path: Path, *, create: bool = False, asynchronous: bool = False) -> ocp.CheckpointManager:
    """Orbax's manager: of the run (`create`), which every host takes part in, or one to read with on this host alone."""
    me = jax.process_index()
    alone = ocp.options.MultiprocessingOptions(primary_host=me, active_processes={me}, barrier_sync_key_prefix=f"reader{me}")
    return ocp.CheckpointManager(
        path,
        options=ocp.CheckpointManagerOptions(
            create=create,
            read_only=not create,
            enable_async_checkpointing=asynchronous,
            multiprocessing_options=ocp.options.MultiprocessingOptions() if create or jax.process_count() == 1 else alone,
        ),
        item_handlers={"state": ocp.StandardCheckpointHandler(), "meta": ocp.JsonCheckpointHandler()},
    )


def _describe(leaf: Any) -> str:
    return f"{leaf.dtype}{list(leaf.shape)}"


def _phrase(error: Exception) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 160 else text[:157] + "..."


def load_checkpoint(path: str | os.PathLike[str], step: int | None = None) -> Checkpoint:
    """Reads a checkpoint for evaluation or export, onto one device, as nested dicts (`state["params"]...`).

    Args:
      path: a run's working directory, its `checkpoints` directory, or one step's directory in there.
      step: which one; the newest by default.

    Raises:
      UserError: there is no checkpoint at `path`, or it is corrupt.
    """
    path = Path(path).absolute()
    if path.parent.name == DIRECTORY and path.name.isdigit():
        workdir, step = path.parent.parent, int(path.name)
    else:
        workdir = path.parent if path.name == DIRECTORY else path
    if not path.is_dir() or not (workdir / DIRECTORY).is_dir():
        raise UserError(f"no checkpoint at {path}: give a run's working directory (the one that holds {DIRECTORY}/)")
    checkpoints = Checkpoints(workdir, create=False)
    try:
        steps = checkpoints.steps()
        if not steps:
            raise UserError(f"no checkpoint in {checkpoints.path}: the run has not saved one yet")
        if step is None:
            step = steps[-1]
        if step not in steps:
            raise UserError(f"no checkpoint {checkpoints.path / str(step)}: there are {', '.join(map(str, steps))}")
        return checkpoints.read(step)
    finally:
        checkpoints.close()


def workdir_of(path: str | os.PathLike[str]) -> Path:
    """The run's working directory, from any path that `load_checkpoint` takes."""
    path = Path(path).absolute()
    if path.parent.name == DIRECTORY and path.name.isdigit():
        return path.parent.parent
    return path.parent if path.name == DIRECTORY else path
