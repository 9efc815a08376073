"""Batches of episode windows and texts. What a batch holds is a pure function of (seed, step)."""

import dataclasses
import os
from collections.abc import Iterator, Sequence
from typing import Any

import grain
import numpy as np

from hjepa_gfn.data.store import EpisodeStore, load_episodes
from hjepa_gfn.data.tokenizer import Tokenizer
from hjepa_gfn.data.worlds import moved_before, world_pool, world_shapes
from hjepa_gfn.errors import UserError
from hjepa_gfn.exemplary.phrases import actions_of, legs_of, parse_plan
from hjepa_gfn.worlds import egocentric_map
from hjepa_gfn.worlds.heading import channels, check_heading
from hjepa_gfn.worlds.language import VIEW_SIZE

Batch = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class PipelineConfig:
    """Sizes of a batch. Any object with these attributes will do, e.g. an `ml_collections` ConfigDict."""

    batch_size: int = 64
    window: int = 12  # W, actions in a window
    text_length: int = 48  # X, tokens of a text
    mission_length: int = 12  # M, tokens of a mission
    tool_spans: bool = False  # texts with tool results in them, as marked spans
    map: int = 0  # cells a side of a map of what was seen so far, in the place of views; 0: plain views
    heading: str = "compass"  # what percepts say of the own direction and place: see `worlds.heading`
    worlds: int = 0  # episodes whose initial worlds are kept, for behaviour that is rolled out in training; 0: none
    world_size: int = 8  # cells a side of their grids


class Pipeline:
    """Random access to batches of one split, decoded once and kept in memory.

    A batch of B rows holds, for window w in ("start", "random"), from the first or from a uniformly drawn step on:
        batch[w]["view"]       uint8[B, W+1, 7, 7, 3]   percepts, zero beyond the window's end; with
                               `config.map` of M cells maps of what was seen up to there, [B, W+1, M, M, 3];
                               with `config.heading` "placed" a fourth number a cell
        batch[w]["direction"]  int32[B, W+1]            see `config.heading`
        batch[w]["action"]     int32[B, W]              zero beyond the window's end
        batch[w]["segment"]    int32[B, W]              leg indices, counted from the first action's leg
        batch[w]["clause"]     int32[B, W]              clause indices, counted from the first action's clause
        batch[w]["length"]     int32[B]                 valid actions; 0: no trajectory, only the first percept is valid
    and
        batch["mission"]       int32[B, M]              token ids
        batch[v]               int32[B, X]              v in ("final", "draft"): token ids of a text
        batch[v + "_action"]   int32[B, W]              the plan that the text states, all legs in a row
        batch[v + "_segment"]  int32[B, W]
        batch[v + "_clause"]   int32[B, W]
        batch[v + "_length"]   int32[B]
        batch["index"]         int32[B]                 which episode of the split
and, with `config.worlds`, an initial world a row, of an episode drawn among the split's first so many (see `data.worlds`):
        batch["world"]         grid uint8[B, H, H, 2], position int32[B, 2], heading int32[B], pocket uint8[B, 2]; action
                               int32[B, W] and length int32[B] of that episode's first actions

    An episode whose first version was its final one has no draft: its final text stands in, with a plan of length 0, so that
    no loss takes it for the plan of a draft.

    Attributes:
        store: the episodes behind the batches.
        truncated: how many texts and missions were too long for their arrays.
    """

    def __init__(
        self, data_dir: str | os.PathLike, split: str, tokenizer: Tokenizer, config: Any, seed: int,
        store: EpisodeStore | None = None,
    ):
        """Reads the split, unless it was read already (`store`). `config`: see `PipelineConfig`. Raises UserError for bad data
        or sizes."""
        self.store = store or load_episodes(data_dir, split)
        if getattr(config, "tool_spans", False):
            self.store = self.store.told()
        if getattr(config, "map", 0):
            egocentric_map.check_size(config.map)
            self.store = self.store.remembered(int(config.map))
        heading = check_heading(getattr(config, "heading", "compass"))
        if heading != "compass":
            moved = moved_before(self.store)
            if moved.any() and getattr(config, "worlds", 0):
                raise UserError(f"data.heading={heading!r}: exploring walks (data.worlds={config.worlds}) do not know what was "
                                "done before the episodes of this corpus that begin astray (data.astray): take 'compass'")
            self.store = self.store.headed(heading, moved, int(getattr(config, "map", 0)))
        self._batch_size, self._window = int(config.batch_size), int(config.window)
        for name in ("batch_size", "window", "text_length", "mission_length"):
            if getattr(config, name) < (3 if name.endswith("_length") else 1):
                raise UserError(f"{name}={getattr(config, name)} is too small")
        self._seed = seed
        before = tokenizer.truncated
        self._mission = _encode(tokenizer, self.store.mission, config.mission_length)
        self._final = _TextTable(tokenizer, self.store.final, config.text_length, self._window)
        drafts = [episode or [final] for episode, final in zip(self.store.drafts, self.store.final, strict=True)]
        flat = [draft for episode in drafts for draft in episode]
        real = [bool(own) for own, episode in zip(self.store.drafts, drafts, strict=True) for _ in episode]
        self._draft = _TextTable(tokenizer, flat, config.text_length, self._window, real)
        self._draft_count = np.array([len(episode) for episode in drafts])
        self._first_draft = np.cumsum(self._draft_count) - self._draft_count
        self.truncated = tokenizer.truncated - before
        self._worlds = None
        if getattr(config, "worlds", 0):
            self._worlds = world_pool(self.store, int(config.worlds), int(config.world_size), self._window)
        # Reshuffled for every pass over the data; element k is computed, not remembered.
        self._order = grain.MapDataset.range(len(self.store)).shuffle(seed=seed).repeat()

    def __len__(self) -> int:
        """Number of batches in one pass over the split, the last one perhaps not full."""
        return -(-len(self.store) // self._batch_size)

    def batch(self, step: int, shard: int | Sequence[int] = 0, num_shards: int = 1) -> Batch:
        """The batch of a step, or one or more of its equal shards (rows of the same global batch, in the order of `shard`).

        Raises:
            UserError: the batch size is no multiple of `num_shards`, or no such shard.
        """
        shards = np.atleast_1d(np.asarray(shard))
        if self._batch_size % num_shards or not ((0 <= shards) & (shards < num_shards)).all():
            raise UserError(f"cannot take shard {shard} of {num_shards} from batch_size={self._batch_size}")
        rng = np.random.default_rng([self._seed, step])
        mine = np.arange(self._batch_size).reshape(num_shards, -1)[shards].reshape(-1)
        draws = rng.random((2, self._batch_size))  # drawn for the whole batch, so that shards add up to it
        index = np.array([self._order[step * self._batch_size + row] for row in mine.tolist()])
        batch = self._assemble(index, *draws[:, mine])
        if self._worlds is not None:
            pool = len(self._worlds["length"])
            row = (rng.random(self._batch_size)[mine] * pool).astype(np.int64)
            batch["world"] = {name: leaf[row] for name, leaf in self._worlds.items()}
        return batch

    def epoch(self) -> Iterator[Batch]:
        """The whole split once, in order, with each episode's first draft.

        The last batch is filled up with episode 0; batch["mask"], bool[B], is False there.
        """
        n = len(self.store)
        for step in range(len(self)):
            index = np.arange(step * self._batch_size, (step + 1) * self._batch_size)
            starts = np.random.default_rng([self._seed, 0, step]).random(self._batch_size)
            batch = self._assemble(np.where(index < n, index, 0), starts, np.zeros(self._batch_size))
            yield {**batch, "mask": index < n}

    def _assemble(self, index: np.ndarray, start_draw: np.ndarray, draft_draw: np.ndarray) -> Batch:
        """A batch of the episodes `index`; the draws are uniform in [0, 1)."""
        start = (start_draw * self.store.steps[index]).astype(np.int64)
        draft = self._first_draft[index] + (draft_draw * self._draft_count[index]).astype(np.int64)
        return {
            "start": cut_windows(self.store, index, np.zeros_like(start), self._window),
            "random": cut_windows(self.store, index, start, self._window),
            "mission": self._mission[index],
            **self._final.rows(index, "final"),
            **self._draft.rows(draft, "draft"),
            "index": index.astype(np.int32),
        }


def batch_shapes(config: Any) -> dict[str, Any]:
    """(shape, dtype) of every array of a batch that `training.agent_task` hands to training: see `Pipeline`."""
    b, w, x = config.batch_size, config.window, config.text_length
    side, numbers = getattr(config, "map", 0) or VIEW_SIZE, channels(getattr(config, "heading", "compass"))
    window = {
        "view": ((b, w + 1, side, side, numbers), np.uint8), "direction": ((b, w + 1), np.int32), "action": ((b, w), np.int32),
        "segment": ((b, w), np.int32), "clause": ((b, w), np.int32), "length": ((b,), np.int32)}
    text = ((b, x), np.int32)
    stated = {
        "draft_action": ((b, w), np.int32), "draft_segment": ((b, w), np.int32), "draft_clause": ((b, w), np.int32),
        "draft_length": ((b,), np.int32)}
    world = {"world": world_shapes(b, config.world_size, w)} if getattr(config, "worlds", 0) else {}
    return {"start": window, "random": window, "mission": ((b, config.mission_length), np.int32), "final": text, "draft": text,
            **stated, **world}


def cut_windows(store: EpisodeStore, index: np.ndarray, start: np.ndarray, window: int) -> dict[str, np.ndarray]:
    """Windows of up to `window` actions of the episodes `index` from the steps `start` on; arrays: see `Pipeline`."""
    length = np.minimum(store.steps[index] - start, window)
    first = store.offset[index] + start
    t = np.arange(window + 1)
    frame = np.minimum(first[:, None] + t, len(store.view) - 1)
    seen, acted = t <= length[:, None], t[:-1] < length[:, None]
    return {
        "view": store.view[frame] * seen[:, :, None, None, None].astype(np.uint8),
        "direction": store.direction[frame] * seen,
        "action": store.action[frame[:, :-1]] * acted,
        "segment": (store.segment[frame[:, :-1]] - store.segment[first][:, None]) * acted,
        "clause": (store.clause[frame[:, :-1]] - store.clause[first][:, None]) * acted,
        "length": length.astype(np.int32),
    }


class _TextTable:
    """Texts as token ids, beside the plans that they state (no plan, of length 0, where `stated` is False)."""

    def __init__(
        self, tokenizer: Tokenizer, texts: list[str], text_length: int, window: int, stated: list[bool] | None = None
    ):
        self._columns = {
            "": _encode(tokenizer, texts, text_length),
            "_action": np.zeros((len(texts), window), np.int32),
            "_segment": np.zeros((len(texts), window), np.int32),
            "_clause": np.zeros((len(texts), window), np.int32),
            "_length": np.zeros(len(texts), np.int32),
        }
        for row, text in enumerate(texts):
            if stated and not stated[row]:
                continue
            plan = parse_plan(text)
            actions = actions_of(plan)[:window]
            legs = [leg for leg, steps in enumerate(legs_of(plan)) for _ in steps][:window]
            clauses = [number for number, clause in enumerate(plan) for leg in clause.legs for _ in leg][:window]
            self._columns["_action"][row, : len(actions)] = actions
            self._columns["_segment"][row, : len(legs)] = legs
            self._columns["_clause"][row, : len(clauses)] = clauses
            self._columns["_length"][row] = len(actions)

    def rows(self, index: np.ndarray, name: str) -> dict[str, np.ndarray]:
        return {name + suffix: column[index] for suffix, column in self._columns.items()}


def _encode(tokenizer: Tokenizer, texts: list[str], length: int) -> np.ndarray:
    return np.stack([tokenizer.encode_text(text, length) for text in texts])
