"""The config of a run as plain JSON, and the check that a resumed run is the run that was begun."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from hjepa_gfn.errors import UserError

# Fields that may differ between a run and its continuation: they do not change the numbers of an iteration
# (total_steps may, by way of a schedule; that is what one asks for by changing it). A name frees the field, or the
# whole section, at any depth.
FREE_FIELDS = (
    "total_steps",
    "workdir",
    "data_dir",
    "out_dir",
    "paths",
    "checkpoint_every",
    "log_every",
    "keep",
    "progress",
    "workers",
    "mesh",
    "sharding",
    "alarm",
)


def plain(config: Any) -> Any:
    """A config (ConfigDict, dataclass-free mapping, lists, scalars) as what JSON gives back: dicts, lists, scalars.

    Raises:
      ValueError: a value that JSON cannot hold.
    """
    if hasattr(config, "to_dict"):
        config = config.to_dict()
    return json.loads(json.dumps(config, allow_nan=False))


def _flat(config: Any, prefix: tuple[str, ...] = ()) -> dict[tuple[str, ...], Any]:
    if not isinstance(config, Mapping) or (prefix and not config):
        return {prefix: config}
    return {path: leaf for name, value in config.items() for path, leaf in _flat(value, (*prefix, str(name))).items()}


def check_same(stored: Any, config: Any, where: str, free: Sequence[str] = FREE_FIELDS) -> None:
    """Compares the config that a run was begun with to the one it is resumed with.

    Raises:
      UserError: naming the first field that differs and both values.
    """
    old, new = _flat(plain(stored)), _flat(plain(config))
    for path in sorted(old.keys() | new.keys()):
        if any(part in free for part in path) or (path in old and path in new and old[path] == new[path]):
            continue
        was = json.dumps(old[path]) if path in old else "absent"
        now = json.dumps(new[path]) if path in new else "absent"
        raise UserError(
            f"config.{'.'.join(path)} is {now}, but the run in {where} was begun with {was}: resume with the same "
            "config, or start in another directory"
        )
