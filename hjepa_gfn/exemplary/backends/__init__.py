"""Back ends: whoever thinks for the exemplary actor. One is made from a short text, e.g. of a command line."""

import os
from typing import Any

from hjepa_gfn.errors import UserError
from hjepa_gfn.exemplary.protocol import Backend

CHOICES = "rules, openai:NAME, anthropic:NAME, replay:FILE"


def make_backend(spec: str, record: str | os.PathLike | None = None, **settings: Any) -> Backend:
    """The back end that a text names.

    Args:
        spec: "rules" (settings: `seed`); "openai:NAME" or "anthropic:NAME" (settings: `settings.Settings`);
            "replay:FILE", recorded answers or traces (settings: `fallback`, the spec of who answers what is not recorded,
            and the settings of that one).
        record: JSONL file to which every answer is appended as it comes, so that a run that was killed can be replayed.
        **settings: depend on the back end.

    Raises:
        UserError: an unknown spec or setting.
    """
    backend = _make(spec, settings)
    if record is None:
        return backend
    from hjepa_gfn.exemplary.backends.recorder import Recorder

    return Recorder(backend, record)


def _make(spec: str, settings: dict[str, Any]) -> Backend:
    kind, _, rest = spec.partition(":")
    if spec == "rules":
        unknown = settings.keys() - {"seed"}
        if unknown:
            raise UserError(f"{min(unknown)!r} is no setting of the back end 'rules': it has seed only")
        from hjepa_gfn.exemplary.rules.backend import RuleBackend

        return RuleBackend(**settings)
    if kind in ("openai", "anthropic") and rest:
        from hjepa_gfn.exemplary.backends.language_model import LanguageModel

        return LanguageModel(spec, **settings)
    if kind == "replay" and rest:
        from hjepa_gfn.exemplary.backends.replay import Replay

        fallback = settings.pop("fallback", None)
        if fallback is None and settings:
            raise UserError(f"{min(settings)!r} is no setting of a replay without fallback: name who answers the rest")
        return Replay(rest, _make(fallback, settings) if fallback else None)
    raise UserError(f"unknown back end {spec!r}: choose from {CHOICES}")
