"""The agent's training run as a `Task`: data, system, train steps and their schedule."""
from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from hjepa_gfn.data.pipeline import Pipeline, batch_shapes
from hjepa_gfn.data.store import EpisodeStore, load_episodes
from hjepa_gfn.data.tokenizer import Tokenizer, train_tokenizer
from hjepa_gfn.models import fsq
from hjepa_gfn.objectives import train_steps
from hjepa_gfn.objectives.system import System, system_from

NUM_ACTIONS = 7  # MiniGrid


def corpus_tokenizer(store: EpisodeStore, vocab: int, tool_spans: bool = False) -> Tokenizer:
    """A BPE tokenizer trained on a split's texts and missions (deterministic)."""
    store = store.told() if tool_spans else store
    texts = [*store.mission, *store.final, *(draft for drafts in store.drafts for draft in drafts)]
    return train_tokenizer(texts, vocab)


class AgentTask:
    """A `training.task.Task`. Reads the corpus once; everything it returns is a function of the step."""

    def __init__(self, config: Any, data_dir: str | os.PathLike):
        self.config = config
        store = load_episodes(data_dir, "train")
        self.tokenizer = corpus_tokenizer(store, config.data.vocab, config.data.get("tool_spans", False))
        self.pipeline = Pipeline(Path(data_dir), "train", self.tokenizer, config.data, config.seed, store)
        self.system = system_of(config, self.tokenizer)
        self.train_steps = train_steps.make_train_steps(self.system, config)
        s = config.schedule
        self.total_steps = s.jepa_steps + s.ground_steps + s.em_steps

    def init(self, key: jax.Array) -> train_steps.TrainState:
        return train_steps.init_state(self.system, self.config, key)

    def schedule(self, step: int) -> tuple[str, ...]:
        return train_steps.schedule(self.config, step)

    def batch(self, step: int, shard: Sequence[int] = (0,), num_shards: int = 1) -> Any:
        batch = self.pipeline.batch(step, shard, num_shards)
        return {name: batch[name] for name in batch_shapes(self.config.data)}

    def finish_iteration(self, state: train_steps.TrainState) -> train_steps.TrainState:
        return state.replace(step=state.step + jnp.int32(1))


def system_of(config: Any, tokenizer: Tokenizer) -> System:
    """The modules that a config and a tokenizer describe."""
    return system_from(config, tokenizer.vocab_size, NUM_ACTIONS)


def codebooks(system: System) -> dict[str, np.ndarray]:
    """The grid point of every code, by kind: what a plan's integers stand for (their decoders are parameters)."""
    sizes = system.jepa.sizes
    kinds = {"step_state": sizes.step_levels}
    for n, level in enumerate(sizes.levels):
        # the first level's macro-actions go without its name, as they always did
        kinds |= {f"{level.name}_state": level.code, f"{level.name}_macro_action" if n else "macro_action": level.action}
    return {name: np.asarray(fsq.from_code(jnp.arange(fsq.num_codes(grid)), grid)) for name, grid in kinds.items()}
