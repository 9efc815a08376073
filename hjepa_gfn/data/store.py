"""All episodes of a split, decoded once and held in memory as flat arrays."""

import dataclasses
import os
from collections.abc import Iterator

import grain
import numpy as np

from hjepa_gfn.data.directory import check_corpus
from hjepa_gfn.data.episodes import PlanCorpus, config_of
from hjepa_gfn.errors import UserError
from hjepa_gfn.exemplary.traces import VIEW_SHAPE
from hjepa_gfn.worlds import egocentric_map
from hjepa_gfn.worlds.heading import placed, stride, turned

_TEXTS = ("level", "mission", "situation", "final", "final_told")
_LISTS = ("drafts", "drafts_told", "critiques", "principles")
_BY_FRAME = ("view", "direction", "action", "segment", "clause")


@dataclasses.dataclass(frozen=True)
class EpisodeStore:
    """N episodes; episode i has T_i actions and T_i + 1 percepts, which lie one after another from `offset[i]` on.

    Attributes:
        view: uint8[S, 7, 7, 3], or maps [S, M, M, 3] (`remembered`), or with a sector more (`headed`); S = sum(T_i + 1).
        direction: int32[S].
        action: int32[S]; 0 where no action follows a percept.
        segment: int32[S], leg indices; 0 where no action follows a percept.
        clause: int32[S], which clause of the plan an action serves; 0 where no action follows a percept.
        offset: int64[N], index of each episode's first percept.
        steps: int64[N], T_i.
        level, mission, situation, final, final_told: N strings each; told: with the simulator's verdict on the plan as a marked
            span (`exemplary.spans`).
        drafts, drafts_told, critiques, principles: N lists of strings, one string a draft (none: the first version was the
            final one).
        seed: int64[N], the episodes' seeds.
        converged: bool[N]; robust: int32[N], 1, 0 or -1 (not tried).
    """

    view: np.ndarray
    direction: np.ndarray
    action: np.ndarray
    segment: np.ndarray
    clause: np.ndarray
    offset: np.ndarray
    steps: np.ndarray
    level: list[str]
    mission: list[str]
    situation: list[str]
    final: list[str]
    final_told: list[str]
    drafts: list[list[str]]
    drafts_told: list[list[str]]
    critiques: list[list[str]]
    principles: list[list[str]]
    seed: np.ndarray
    converged: np.ndarray
    robust: np.ndarray

    def __len__(self) -> int:
        """Number of episodes."""
        return len(self.final)

    def texts(self) -> Iterator[str]:
        """Everything that a tokenizer has to know: missions, final texts, drafts."""
        for mission, final, drafts in zip(self.mission, self.final, self.drafts, strict=True):
            yield from (mission, final, *drafts)

    def remembered(self, size: int) -> "EpisodeStore":
        """The same episodes with maps of `size` cells a side in the place of views: what was seen up to each percept."""
        known, last = egocentric_map.empty_map((len(self),), size), int(self.steps.max())
        view = np.zeros((len(self.view), size, size, 3), np.uint8)
        for t in range(last + 1):
            rows = np.flatnonzero(self.steps >= t)
            frame = self.offset[rows] + t
            some, taken = known[rows], np.full(len(rows), -1)
            if t:
                taken = self.action[frame - 1]
                some = egocentric_map.moved(some, taken)
            known[rows] = egocentric_map.seen(some, self.view[frame], taken).known
            view[frame] = egocentric_map.percept(known[rows], self.view[frame])
        return dataclasses.replace(self, view=view)

    def headed(self, heading: str, moved: np.ndarray, map: int = 0) -> "EpisodeStore":
        """The same episodes with percepts that say the own direction and place as `heading` does (`worlds.heading`).

        Args:
          moved: int [N, 3], (ahead, right, turns) since the mission was given, at each episode's first percept.
          map: the size of the maps that the store holds in the place of views.
        """
        if heading == "compass":
            return self
        frames = lambda x: np.repeat(x, self.steps + 1, axis=0)  # noqa: E731
        turns, view = turned(self.direction, frames(self.direction[self.offset] - moved[:, 2])), self.view
        if heading == "placed":
            moves = stride(view, turns, self.action, map)  # no action follows an episode's last percept: 0 is a turn
            before = np.cumsum(moves, axis=0, dtype=np.int32) - moves
            view = placed(view, before - frames(before[self.offset] - moved[:, :2]), turns, map)
        return dataclasses.replace(self, direction=turns, view=view)

    def only(self, rows: np.ndarray) -> "EpisodeStore":
        """The episodes `rows` int [n] alone, in that order."""
        frames = [np.arange(self.offset[i], self.offset[i] + self.steps[i] + 1) for i in rows]
        flat, count = np.concatenate(frames), self.steps[rows] + 1
        by_frame = {name: getattr(self, name)[flat] for name in _BY_FRAME}
        by_episode = {name: [getattr(self, name)[i] for i in rows] for name in (*_TEXTS, *_LISTS)}
        return dataclasses.replace(
            self, **by_frame, **by_episode, offset=np.cumsum(count) - count, steps=self.steps[rows], seed=self.seed[rows],
            converged=self.converged[rows], robust=self.robust[rows])

    def told(self) -> "EpisodeStore":
        """The same episodes with the texts that hold tool results in the place of those that do not."""
        return dataclasses.replace(self, final=self.final_told, drafts=self.drafts_told)


def load_episodes(data_dir: str | os.PathLike, split: str) -> EpisodeStore:
    """Reads all episodes of a split.

    Args:
        data_dir: a directory that `build` made.
        split: "train" or "validation".

    Raises:
        UserError: missing, half-written or damaged directory, or unknown split.
    """
    info = check_corpus(data_dir)
    builder = PlanCorpus(config=config_of(info.family), data_dir=os.fspath(data_dir))
    if split not in builder.info.splits:
        raise UserError(f"{data_dir} has no split {split!r}: expected one of {', '.join(builder.info.splits)}")
    episodes = grain.MapDataset.source(builder.as_data_source(split)).map(_decode)
    columns: dict[str, list] = {}
    for i in range(len(episodes)):
        for name, value in episodes[i].items():
            columns.setdefault(name, []).append(value)
    frames = np.array([len(view) for view in columns["view"]])
    return EpisodeStore(
        **{name: np.concatenate(columns[name]) for name in _BY_FRAME},
        **{name: columns[name] for name in (*_TEXTS, *_LISTS)},
        offset=np.cumsum(frames) - frames,
        steps=frames - 1,
        seed=np.array(columns["seed"], np.int64),
        converged=np.array(columns["converged"], bool),
        robust=np.array(columns["robust"], np.int32),
    )


def _decode(example: dict) -> dict:
    steps = list(example["steps"])
    return {
        "view": np.stack([step["observation"]["view"] for step in steps]).reshape(-1, *VIEW_SHAPE),
        "direction": np.array([step["observation"]["direction"] for step in steps], np.int32),
        **{
            name: np.array([0 if step["is_last"] else step[name] for step in steps], np.int32)
            for name in ("action", "segment", "clause")
        },
        **{name: example[name].decode() for name in _TEXTS},
        "drafts": _strings(example["drafts"]["text"]),
        "drafts_told": _strings(example["drafts"]["told"]),
        "critiques": _strings(example["drafts"]["critique"]),
        "principles": _strings(example["drafts"]["principle"]),
        **{name: example[name] for name in ("seed", "converged", "robust")},
    }


def _strings(values: list[bytes]) -> list[str]:
    return [value.decode() for value in values]
