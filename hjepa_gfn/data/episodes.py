"""The TFDS dataset of traces: array_record files, RLDS-style steps nested in the episode, no TensorFlow.

Each step holds the percept and the action taken on it, the last step of an episode (`is_last`) a percept only. An
episode without a trajectory is one step that is both first and last.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import tensorflow_datasets as tfds

from hjepa_gfn.data.directory import DATASET
from hjepa_gfn.exemplary.traces import VIEW_SHAPE, Trace, read_traces

NO_ACTION = -1  # in the last step
VERSION = "1.0.0"


class PlanCorpus(tfds.core.GeneratorBasedBuilder):
    """Episodes with plans, explanations, drafts and critiques; made from the JSONL traces in `traces_dir`."""

    name = DATASET
    VERSION = tfds.core.Version(VERSION)
    url_infos: dict = {}  # nothing is downloaded; TFDS's own look-up needs importlib_resources without declaring it

    def __init__(self, *, traces_dir: str | None = None, **kwargs):
        """`traces_dir`: where `train.jsonl` and `validation.jsonl` lie; only needed to build."""
        self._traces_dir = traces_dir
        super().__init__(file_format="array_record", **kwargs)

    def _info(self) -> tfds.core.DatasetInfo:
        text = tfds.features.Text
        step = {
            "observation": {
                "view": tfds.features.Tensor(shape=VIEW_SHAPE, dtype=np.uint8),
                "direction": tfds.features.Scalar(np.int32),
            },
            "action": tfds.features.Scalar(np.int32),
            "segment": tfds.features.Scalar(np.int32),
            "reward": tfds.features.Scalar(np.float32),
            "is_first": tfds.features.Scalar(np.bool_),
            "is_last": tfds.features.Scalar(np.bool_),
            "is_terminal": tfds.features.Scalar(np.bool_),
        }
        return self.dataset_info_from_configs(
            description="Episodes of an exemplary actor: plans with explanations, drafts, critiques, executed steps.",
            features=tfds.features.FeaturesDict(
                {
                    "level": text(),
                    "seed": tfds.features.Scalar(np.int64),
                    "mission": text(),
                    "situation": text(),
                    "success": tfds.features.Scalar(np.bool_),
                    "final": text(),
                    "drafts": tfds.features.Sequence({"text": text(), "critique": text(), "principle": text()}),
                    "subgoals": tfds.features.Sequence(text()),
                    "steps": tfds.features.Dataset(step),
                }
            ),
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict:
        del dl_manager  # nothing is downloaded
        folder = Path(self._traces_dir)
        return {split: self._generate_examples(folder / f"{split}.jsonl") for split in ("train", "validation")}

    def _generate_examples(self, path: Path) -> Iterator[tuple[int, dict]]:
        for index, trace in enumerate(read_traces(path)):
            yield index, example_of(trace)


def example_of(trace: Trace) -> dict:
    """A trace as an example of `PlanCorpus`."""
    moves = trace.trajectory
    last = len(moves.action)
    steps = [
        {
            "observation": {"view": moves.view[t], "direction": moves.direction[t]},
            "action": moves.action[t] if t < last else NO_ACTION,
            "segment": moves.segment[t] if t < last else NO_ACTION,
            "reward": float(trace.success and t == last - 1),
            "is_first": t == 0,
            "is_last": t == last,
            "is_terminal": bool(t == last and last > 0),
        }
        for t in range(last + 1)
    ]
    return {
        "level": trace.level,
        "seed": trace.seed,
        "mission": trace.mission,
        "situation": trace.situation,
        "success": trace.success,
        "final": trace.final.text,
        "drafts": [
            {"text": draft.text, "critique": draft.critique, "principle": draft.principle} for draft in trace.drafts
        ],
        "subgoals": moves.subgoal,
        "steps": steps,
    }
