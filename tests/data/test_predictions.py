"""Predictions in a corpus: beside the plans' traces in the JSONL, counted by themselves, and in nothing else."""

import json
from itertools import pairwise

import numpy as np
import pytest

from hjepa_gfn.data.builder import build
from hjepa_gfn.data.directory import check_corpus
from hjepa_gfn.data.store import load_episodes
from hjepa_gfn.errors import UserError
from hjepa_gfn.exemplary.traces import read_traces
from tests.data import corpora


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return corpora.make(tmp_path_factory.mktemp("data") / "c", predictions=0.4)


def lines(out, split="train"):
    return (out / f"traces/{split}.jsonl").read_text().splitlines()


def test_plans_and_dataset_are_as_without_predictions(corpus):
    plain = corpora.shared()
    for split in ("train", "validation"):
        plans = [line for line in lines(corpus, split) if "product" not in json.loads(line)]
        assert plans == lines(plain, split)
    mine, theirs = (corpora.fingerprint(out / "plan_corpus") for out in (corpus, plain))
    assert mine == theirs != {}
    assert load_episodes(corpus, "train").final == load_episodes(plain, "train").final
    assert "predictions" not in json.loads((plain / "corpus.json").read_text())  # bytes of corpora that have none


def test_predictions_follow_the_plans_of_their_episode(corpus):
    traces = list(read_traces(corpus / "traces/train.jsonl"))
    found = [trace for trace in traces if trace.product == "prediction"]
    for before, trace in pairwise(traces):
        if trace.product == "prediction":
            assert before.product == "plan" and (before.level, before.seed) == (trace.level, trace.seed)
    assert traces[0].product == "plan" and 0.2 < len(found) / corpora.N_TRAIN < 0.6
    info = check_corpus(corpus)
    counts = info.counts["train"]
    assert info.predictions == 0.4 and counts["episodes"] == corpora.N_TRAIN
    assert counts["predictions"] == {
        "traces": len(found), "converged": len(found), "true": sum(trace.success for trace in found), "answers": 2 * len(found),
    }  # fmt: skip
    assert counts["answers"] == check_corpus(corpora.shared()).counts["train"]["answers"]


def test_the_share_is_kept_whatever_the_chunks_and_the_size(tmp_path, corpus):
    again = corpora.make(tmp_path / "again", predictions=0.4, chunk=3, workers=2)
    assert corpora.fingerprint(again) == corpora.fingerprint(corpus)
    smaller = lines(corpora.make(tmp_path / "smaller", predictions=0.4, n_train=25))
    assert smaller == lines(corpus)[: len(smaller)]
    assert sum("product" not in json.loads(line) for line in smaller) == 25
    everything = lines(corpora.make(tmp_path / "all", predictions=1.0, n_train=9))
    assert [json.loads(line).get("product", "plan") for line in everything] == ["plan", "prediction"] * 9


def test_another_share_is_another_corpus(corpus):
    with pytest.raises(UserError, match="predictions is 0.4, not 0.0"):
        corpora.make(corpus)
    with pytest.raises(UserError, match="predictions must be between 0 and 1"):
        corpora.make(corpus, predictions=1.5)


def test_the_real_actor_predicts(tmp_path):
    out = build("BabyAI-GoToLocal-v0", tmp_path / "c", 6, 1, workers=1, progress=False, predictions=0.5, robustness=0.5)
    traces = list(read_traces(out / "traces/train.jsonl"))
    found = [trace for trace in traces if trace.product == "prediction"]
    assert len(traces) == 6 + len(found) and found
    assert all(trace.converged and trace.success for trace in found)
    assert np.mean([trace.drafts != [] for trace in found]) == 1
