"""The builder with the real exemplary actor, by rules."""

import numpy as np
import pytest

from hjepa_gfn.data.builder import build
from hjepa_gfn.data.directory import check_corpus
from hjepa_gfn.data.pipeline import Pipeline, PipelineConfig
from hjepa_gfn.data.store import load_episodes
from hjepa_gfn.data.tokenizer import train_tokenizer
from hjepa_gfn.exemplary.traces import read_traces
from tests.data.corpora import fingerprint


def make(out, family, n_train, **changes):
    return build(family, out, n_train, 2, **{"workers": 1, "progress": False, **changes})


@pytest.fixture(scope="module")
def local(tmp_path_factory):
    return make(tmp_path_factory.mktemp("data") / "c", "BabyAI-GoToLocal-v0", 40)


def test_mixed_corpora_do_not_depend_on_who_makes_them(tmp_path):
    """Each episode by itself: what an actor thought about before leaves no trace in what it thinks next."""
    shares = dict(imagined=0.2, robustness=0.4)
    one = make(tmp_path / "one", "mixed", 24, **shares)
    two = make(tmp_path / "two", "mixed", 24, **shares, workers=2, chunk=3)
    assert fingerprint(one) == fingerprint(two)
    counts = check_corpus(one).counts["train"]
    assert 0 < counts["imagined"] < 12 and counts["robust"] + counts["fragile"] > 0 and len(counts["levels"]) > 10


def test_changed_textbooks_change_the_corpus_in_place(tmp_path):
    out = make(tmp_path / "c", "GoToSeq", 5)
    book = tmp_path / "manners.md"
    text = "---\ndiscipline: manners\norder: 9\n---\n\n# Manners\n\n## say-please\n\nSay please.\n"
    book.write_text(text)
    make(out, "GoToSeq", 5, textbooks=[str(book)])
    assert "manners" in check_corpus(out).textbooks
    assert {e.discipline for trace in read_traces(out / "traces/train.jsonl") for e in trace.entries} >= {"manners"}
    fresh = make(tmp_path / "fresh", "GoToSeq", 5, textbooks=[str(book)])
    assert fingerprint(out) == fingerprint(fresh)


def test_texts_of_small_levels_are_short_in_tokens(local):
    store = load_episodes(local, "train")
    tokenizer = train_tokenizer(store.texts(), 512)
    assert max(len(tokenizer.tokens(mission)) for mission in store.mission) <= 10
    assert np.mean([len(tokenizer.tokens(text)) <= 60 for text in store.texts()]) > 0.98


def test_final_plans_are_what_was_executed(local):
    store = load_episodes(local, "train")
    pipeline = Pipeline(local, "train", train_tokenizer(store.texts(), 512), PipelineConfig(batch_size=40, window=30), 0)
    batch = pipeline.batch(0)
    for key in ("action", "segment", "clause", "length"):
        np.testing.assert_array_equal(batch[f"final_{key}"], batch["start"][key])
