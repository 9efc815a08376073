"""The TFDS dataset of plans' traces: array_record files, RLDS-style steps nested in the episode, no TensorFlow.

Predictions are left out: they hold no episode, and their texts belong to another question. Who wants them reads the JSONL.

Each step holds the percept and the action taken on it, the last step of an episode (`is_last`) a percept only. An
episode without a trajectory (an imagined situation) is one step that is both first and last. One configuration a family
of levels: `plan_corpus/mixed`, `plan_corpus/GoTo`, ..., and `plan_corpus/BabyAI-GoToLocal-v0` for a level by itself.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import tensorflow_datasets as tfds

from hjepa_gfn.data.directory import DATASET
from hjepa_gfn.exemplary.products import PLAN
from hjepa_gfn.exemplary.traces import VIEW_SHAPE, Trace, read_traces
from hjepa_gfn.worlds.families import check_family, family_names

NO_ACTION = -1  # in the last step; its segment and clause too
NOT_TRIED = -1  # `robust` where the converse check was not made
VERSION = "2.1.0"


def config_of(family: str) -> tfds.core.BuilderConfig:
    """The configuration of a family or a level. Raises UserError for a name that is neither."""
    check_family(family)
    known = {config.name: config for config in PlanCorpus.BUILDER_CONFIGS}
    return known.get(family) or tfds.core.BuilderConfig(name=family, description=f"the level {family}")


class PlanCorpus(tfds.core.GeneratorBasedBuilder):
    """Episodes with plans, explanations, drafts and critiques; made from the JSONL traces in `traces_dir`."""

    name = DATASET
    VERSION = tfds.core.Version(VERSION)
    BUILDER_CONFIGS = [tfds.core.BuilderConfig(name=name, description=f"family {name}") for name in family_names()]
    url_infos: dict = {}  # nothing is downloaded; TFDS's own look-up needs importlib_resources without declaring it

    def __init__(self, *, traces_dir: str | None = None, **kwargs):
        """`traces_dir`: where `train.jsonl` and `validation.jsonl` lie; only needed to build."""
        self._traces_dir = traces_dir
        super().__init__(file_format="array_record", **kwargs)

    def _info(self) -> tfds.core.DatasetInfo:
        f = tfds.features
        text, number, flag = f.Text, lambda: f.Scalar(np.int32), lambda: f.Scalar(np.bool_)
        version = {
            "text": text(), "critique": text(), "principle_ids": text(), "discipline": text(), "textbook_sha": text(),
            "verdict": text(), "accepted": flag(), "reason": text(), "version": number(), "sweep": number(),
            "backend": text(),
        }  # fmt: skip
        step = {
            "observation": {"view": f.Tensor(shape=VIEW_SHAPE, dtype=np.uint8), "direction": number()},
            "action": number(), "segment": number(), "clause": number(), "reward": f.Scalar(np.float32),
            "is_first": flag(), "is_last": flag(), "is_terminal": flag(),
        }  # fmt: skip
        return self.dataset_info_from_configs(
            description="Episodes of an exemplary actor: plans with explanations, drafts, critiques, executed steps.",
            features=f.FeaturesDict(
                {
                    "level": text(), "family": text(), "seed": f.Scalar(np.int64), "mission": text(), "situation": text(),
                    "success": flag(), "converged": flag(), "robust": number(),
                    "final": text(), "final_told": text(),
                    "drafts": f.Sequence({"text": text(), "told": text(), "critique": text(), "principle": text()}),
                    "versions": f.Sequence(version),
                    "goals": f.Sequence(text()),
                    "subgoals": f.Sequence(text()),
                    "clause": f.Sequence(number()),
                    "steps": f.Dataset(step),
                }  # fmt: skip
            ),
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict:
        del dl_manager  # nothing is downloaded
        folder = Path(self._traces_dir)
        return {split: self._generate_examples(folder / f"{split}.jsonl") for split in ("train", "validation")}

    def _generate_examples(self, path: Path) -> Iterator[tuple[int, dict]]:
        plans = (trace for trace in read_traces(path) if trace.product == PLAN.name)
        for index, trace in enumerate(plans):
            yield index, example_of(trace)


def example_of(trace: Trace) -> dict:
    """A trace as an example of `PlanCorpus`. `principle_ids` of a version: joined by spaces."""
    moves, final = trace.trajectory, trace.final
    last = len(moves.action)
    steps = [
        {
            "observation": {"view": moves.view[t], "direction": moves.direction[t]},
            "action": moves.action[t] if t < last else NO_ACTION,
            "segment": moves.segment[t] if t < last else NO_ACTION,
            "clause": moves.clause[moves.segment[t]] if t < last else NO_ACTION,
            "reward": float(trace.success and t == last - 1),
            "is_first": t == 0,
            "is_last": t == last,
            "is_terminal": bool(t == last and last > 0),
        }
        for t in range(last + 1)
    ]
    versions = [
        {
            "text": entry.text, "critique": entry.critique, "principle_ids": " ".join(entry.principle_ids),
            "discipline": entry.discipline, "textbook_sha": entry.textbook_sha, "verdict": entry.verdict,
            "accepted": entry.accepted, "reason": entry.reason or entry.failure, "version": entry.version,
            "sweep": entry.sweep, "backend": entry.backend,
        }
        for entry in trace.entries
    ]  # fmt: skip
    drafts = [
        {"text": draft.text, "told": draft.told, "critique": draft.critique, "principle": draft.principle}
        for draft in trace.drafts
    ]
    return {
        "level": trace.level, "family": trace.family, "seed": trace.seed, "mission": trace.mission,
        "situation": trace.situation.text, "success": trace.success, "converged": trace.converged,
        "robust": NOT_TRIED if trace.robust is None else int(trace.robust), "final": final.text,
        "final_told": final.told, "drafts": drafts,
        "versions": versions, "goals": [clause.goal for clause in final.plan], "subgoals": moves.subgoal,
        "clause": moves.clause, "steps": steps,
    }  # fmt: skip
