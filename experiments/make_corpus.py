"""Builds a corpus of a family of BabyAI levels, or of one level:

python -m experiments.make_corpus --family=mixed --out=runs/corpus --train=10000 --validation=500

Stopped or killed, the same command goes on where it was. With other textbooks, it asks again only what they change.
"""

import itertools
import json
import os
from pathlib import Path
from typing import Any

from absl import flags

from experiments import cli
from hjepa_gfn.data.builder import build
from hjepa_gfn.data.directory import TRACES
from hjepa_gfn.errors import UserError
from hjepa_gfn.exemplary.prediction_quality import prediction_quality, print_prediction_quality
from hjepa_gfn.exemplary.products import PLAN, PREDICTION
from hjepa_gfn.exemplary.quality import print_quality, quality
from hjepa_gfn.exemplary.traces import read_traces

_QUALITY_SAMPLE = 2000  # traces

_FAMILY = flags.DEFINE_string("family", "BabyAI-GoToLocal-v0", "a family of levels, mixed, or gym id of a BabyAI level")
_LEVEL = flags.DEFINE_string("level", None, "the same as --family")
_OUT = flags.DEFINE_string("out", None, "directory to make")
_TRAIN = flags.DEFINE_integer("train", 4000, "training episodes")
_VALIDATION = flags.DEFINE_integer("validation", 500, "validation episodes")
_SEED = flags.DEFINE_integer("seed", 0, "which episodes, which mistakes in drafts, which wording")
_WORKERS = flags.DEFINE_integer("workers", os.cpu_count() or 1, "processes; without effect on the result")
_IMAGINED = flags.DEFINE_float("imagined", 0.1, "share of samples in text only, of situations that are never executed")
_ROBUSTNESS = flags.DEFINE_float("robustness", 0.1, "share of final plans that are tried with another explanation")
_ASTRAY = flags.DEFINE_float("astray", 0.0, "share of training episodes that begin where an agent has gone astray")
_PREDICTIONS = flags.DEFINE_float("predictions", 0.0, "share of episodes that also give a prediction: what comes of a plan?")
_TEXTBOOKS = flags.DEFINE_multi_string("textbooks", [], "a textbook or a folder of them, beside the project's own; repeatable")
_BACKEND = flags.DEFINE_string("backend", "rules", "who thinks: rules, openai:NAME, anthropic:NAME, replay:FILE")
_SETTING = flags.DEFINE_multi_string("backend_setting", [], "name=value, a setting of the back end; repeatable")
_REUSE = flags.DEFINE_string("reuse", "", "a corpus whose answers are used again where the question is the same")
_OVERWRITE = flags.DEFINE_bool("overwrite", False, "replace an existing corpus, whole or not")
_CHUNK = flags.DEFINE_integer("chunk", 0, "episodes that a worker takes at a time; 0: 25 with rules, else 1")
_BEAM = flags.DEFINE_string("beam_runner", "", "run the chunks by Apache Beam, e.g. DirectRunner; needs the extra beam")
_BEAM_OPTION = flags.DEFINE_multi_string("beam_option", [], "a flag of Beam's own, e.g. --direct_num_workers=2; repeatable")
_QUALITY = flags.DEFINE_bool("quality", True, "print a table of the traces' quality")


def run() -> None:
    """Builds the corpus that the flags describe and prints where it is."""
    if _LEVEL.value and flags.FLAGS["family"].present:
        raise UserError(f"--level={_LEVEL.value} and --family={_FAMILY.value} mean the same: give one of them")
    out = build(
        _LEVEL.value or _FAMILY.value,
        _OUT.value,
        _TRAIN.value,
        _VALIDATION.value,
        _SEED.value,
        _WORKERS.value,
        imagined=_IMAGINED.value,
        robustness=_ROBUSTNESS.value,
        predictions=_PREDICTIONS.value,
        astray=_ASTRAY.value,
        textbooks=_TEXTBOOKS.value,
        backend=_BACKEND.value,
        settings=settings_of(_SETTING.value),
        reuse=_REUSE.value,
        overwrite=_OVERWRITE.value,
        chunk=_CHUNK.value,
        beam_runner=_BEAM.value,
        beam_options=_BEAM_OPTION.value,
    )
    if _QUALITY.value:
        report_quality(out)
    print(out)


def settings_of(given: list[str]) -> dict[str, Any]:
    """Settings of a back end from "name=value" texts; a value that is JSON (a number, true, null) is read as such."""
    settings = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not name or not equals:
            raise UserError(f"--backend_setting={text}: write name=value, e.g. temperature=0.5")
        try:
            settings[name] = json.loads(value)
        except ValueError:
            settings[name] = value
    return settings


def report_quality(out: Path) -> None:
    """Prints the quality of the first training traces as a table, and of the predictions among them as another."""
    traces = list(itertools.islice(read_traces(out / TRACES / "train.jsonl"), _QUALITY_SAMPLE))
    plans = [trace for trace in traces if trace.product == PLAN.name]
    predictions = [trace for trace in traces if trace.product == PREDICTION.name]
    print(f"quality of {len(plans)} training traces:")
    print_quality(quality(plans))
    if predictions:
        print(f"\nquality of {len(predictions)} predictions:")
        print_prediction_quality(prediction_quality(predictions))


if __name__ == "__main__":
    cli.main(run, required=("out",))
