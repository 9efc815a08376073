"""What a builder needs of the exemplary actor: four functions, looked up when they are first called.

Worker processes and Beam workers get a `Workshop` by pickling: its fields must be functions of importable modules.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

from hjepa_gfn.exemplary.protocol import Backend
from hjepa_gfn.exemplary.textbooks import Textbook
from hjepa_gfn.exemplary.traces import Trace


class Actor(Protocol):
    """An exemplary actor of one level; a trace is a function of (level, seed, textbooks, back end, episode seed)."""

    def trace(self, episode_seed: int, split: str, family: str = "") -> Trace | None:
        """The trace of an episode, or None where no plan was found that fulfils the mission."""
        ...

    def imagine(self, episode_seed: int, split: str, family: str = "") -> Trace | None:
        """A trace of a sampled situation, in text only: never executed."""
        ...

    def predict(self, episode_seed: int, split: str, family: str = "") -> Trace | None:
        """The trace of a prediction of what one of the episode's plans comes to, or None. Asked for if there is a trace."""
        ...


class Workshop(NamedTuple):
    """How actors, back ends, recordings and textbooks are made.

    Attributes:
        make_actor: (level, seed, textbooks, backend, robustness) -> an `Actor`; `robustness`: whether it makes the converse
            check.
        make_backend: (spec, settings, seed) -> who thinks, e.g. of "rules".
        replay: (traces, fallback) -> a back end that answers what the traces answer already, and asks `fallback` the rest.
        textbooks: (paths) -> the textbooks that come with the project, and those in `paths`.
    """

    make_actor: Callable[[str, int, tuple[Textbook, ...], Backend, bool], Actor]
    make_backend: Callable[[str, dict[str, Any], int], Backend]
    replay: Callable[[Sequence[Trace], Backend], Backend]
    textbooks: Callable[[Sequence[str]], tuple[Textbook, ...]]


def _make_actor(level: str, seed: int, textbooks: tuple[Textbook, ...], backend: Backend, robustness: bool) -> Actor:
    from hjepa_gfn.exemplary.actor import ExemplaryActor

    return ExemplaryActor(level, seed, textbooks, backend, robustness=robustness)


def _make_backend(spec: str, settings: dict[str, Any], seed: int) -> Backend:
    from hjepa_gfn.exemplary.backends import make_backend

    return make_backend(spec, **({"seed": seed, **settings} if spec == "rules" else settings))


def _replay(traces: Sequence[Trace], fallback: Backend) -> Backend:
    from hjepa_gfn.exemplary.backends.replay import Replay

    return Replay(traces, fallback)


def _textbooks(paths: Sequence[str]) -> tuple[Textbook, ...]:
    from hjepa_gfn.exemplary.knowledge import load_textbooks

    return load_textbooks(paths) if paths else load_textbooks()


# Settings of a back end that say where and how patiently it is asked, not what it answers.
_MANNER = frozenset(
    "base_url api_key_env timeout retries backoff max_wait requests_per_minute max_concurrent input_price output_price "
    "max_cost record".split()
)


def shaping(settings: dict[str, Any]) -> dict[str, Any]:
    """Those settings of a back end that its answers depend on."""
    return {name: value for name, value in sorted(settings.items()) if name not in _MANNER}


WORKSHOP = Workshop(_make_actor, _make_backend, _replay, _textbooks)
