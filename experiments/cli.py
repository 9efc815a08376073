"""What every entry point shares: absl flags, `--config` files with overrides, and errors as one line and exit code
2."""

from __future__ import annotations

import difflib
import re
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from absl import app, flags
from ml_collections import config_dict, config_flags

from hjepa_gfn.errors import UserError
from hjepa_gfn.training.quiet import quiet

CONFIGS = Path(__file__).parent / "configs"


def main(
    fn: Callable[..., Any],
    *,
    config: str | None = None,
    required: Sequence[str] = (),
    argv: Sequence[str] | None = None,
) -> None:
    """Parses the command line and calls `fn(config)` (or `fn()` where there is no `config`); does not return.

    `--config` takes a path, or the name of a file in `experiments/configs`; `--config.x.y=value` overrides a field.
    Exit code 0, or 2 after `error: ...` on stderr for anything that the user can put right.

    Args:
      fn: the entry point. Its other flags are absl flags that its module defines.
      config: the default of `--config`; None for an entry point without a config.
      required: names of flags that must be given.
      argv: the command line; `sys.argv` by default.
    """
    argv = list(sys.argv if argv is None else argv)
    try:
        app.run(
            lambda _: fn(flags.FLAGS["config"].value) if config else fn(),
            argv=argv,
            flags_parser=lambda args: _parse(args, config, required),
        )
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


def _parse(argv: list[str], config: str | None, required: Sequence[str]) -> list[str]:
    overrides: dict[str, Any] = {}
    try:
        if config:
            argv, overrides = _define_config(argv, config)
        rest = flags.FLAGS(argv)
    except UserError:
        raise
    except (flags.Error, ValueError, TypeError, AttributeError, KeyError, OSError) as error:
        raise UserError(_sentence(error, overrides)) from error
    for path, default in overrides.items():
        _check_elements(path, flags.FLAGS[f"config.{path}"].value, default)
    if rest[1:]:
        raise UserError(f"unexpected argument {rest[1]!r}: flags begin with --, as in --name=value")
    for name in required:
        if flags.FLAGS[name].value is None:
            raise UserError(f"--{name} is required: {flags.FLAGS[name].help}")
    if not flags.FLAGS["verbosity"].present:
        quiet()
    return rest


def _define_config(argv: list[str], default: str) -> tuple[list[str], dict[str, Any]]:
    """Defines `--config`, after checking its file and the fields that the command line overrides.

    Returns:
      `argv` with the config's path in place of its name; the defaults of the overridden fields by dotted path.
    """
    given = default
    for i, arg in enumerate(argv):
        if match := re.fullmatch(r"--?config=(.*)", arg):
            given = match[1]
            argv = [*argv[:i], f"--config={config_path(given)}", *argv[i + 1 :]]
        elif re.fullmatch(r"--?config", arg) and i + 1 < len(argv):
            given = argv[i + 1]
            argv = [*argv[: i + 1], config_path(given), *argv[i + 2 :]]
    loaded = load_config(given)
    overridden = [match[1] for arg in argv if (match := re.match(r"--?(?:no)?config\.([^=]+)", arg))]
    overrides = {path: _default_of(loaded, path, given) for path in overridden}
    if "config" not in flags.FLAGS:
        config_flags.DEFINE_config_file("config", config_path(default), "Config file, or its name.", sys_argv=argv)
    return argv, overrides


def config_path(name: str) -> str:
    """The path of a config file given by path or by name, with any `:argument` kept.

    Raises:
      UserError: there is no such file.
    """
    base, colon, argument = name.partition(":")
    for candidate in (Path(base), CONFIGS / f"{base}.py", CONFIGS / base):
        if base and candidate.is_file():
            return f"{candidate.absolute()}{colon}{argument}"
    known = sorted(path.stem for path in CONFIGS.glob("*.py") if path.stem != "__init__")
    raise UserError(f"--config={name}: no such file; in experiments/configs there are: {', '.join(known) or 'none'}")


def load_config(name: str) -> config_dict.ConfigDict:
    """The config of a file (path, name, or either with `:argument`), locked.

    Raises:
      UserError: there is no such file, or it does not make a config.
    """
    path = config_path(name)
    try:
        # The parser that --config itself uses, so that both see the same.
        loaded = config_flags.config_flags.ConfigFileFlagParser("config").parse(path)
    except Exception as error:  # a config file is code: it can raise anything
        cause = traceback.format_exception_only(error)[-1].strip().split("\n")[-1]
        raise UserError(f"--config={name}: {path} cannot be loaded: {cause}") from error
    if not isinstance(loaded, config_dict.ConfigDict):
        raise UserError(f"--config={name}: get_config() in {path} must return an ml_collections.ConfigDict")
    return loaded


def _default_of(config: config_dict.ConfigDict, path: str, source: str) -> Any:
    """The value of the field that `path` (`model.width`) names, in the config of the file `source`."""
    value: Any = config
    names = path.split("[")[0].split(".")
    for depth, name in enumerate(names):
        parent = ".".join(["config", *names[:depth]])
        if not isinstance(value, config_dict.ConfigDict):
            raise UserError(f"--config.{path}: {parent} of {source} is {value!r} and has no fields")
        if name not in value:
            close = difflib.get_close_matches(name, value.keys(), n=3)
            hint = f"did you mean {' or '.join(close)}?" if close else f"it has {', '.join(sorted(value.keys()))}"
            raise UserError(f"--config.{path}: {parent} of {source} has no field {name!r}; {hint}")
        value = value[name]
    return value


def _check_elements(path: str, value: Any, default: Any) -> None:
    """Refuses `--config.dims=x` where the default is a tuple of integers: absl would take it as `("x",)`."""
    if not isinstance(default, tuple | list) or not default or not isinstance(value, tuple | list):
        return
    kinds = {type(element) for element in default} | ({int} if float in map(type, default) else set())
    for element in value:
        if type(element) not in kinds:
            raise UserError(f"--config.{path}: {element!r} is not {_names(kinds)}; a right value is {default!r}")


def _names(kinds: set[type]) -> str:
    return " or ".join(sorted(f"of type {kind.__name__}" for kind in kinds))


def _sentence(error: BaseException, overrides: dict[str, Any]) -> str:
    """What a parser's exception says, in one clear sentence."""
    text = str(error.args[0] if isinstance(error, KeyError) and error.args else error).removeprefix("flag ")
    if match := re.match(r"--config\.([^=]+)=(.*?): ", text, re.DOTALL):
        default = overrides.get(match[1])
        if isinstance(default, bool | int | float | str | tuple):
            return f"--config.{match[1]}={match[2]}: must be of type {type(default).__name__}, such as {default!r}"
    return text or type(error).__name__
