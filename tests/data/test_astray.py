"""Corpora with episodes that begin astray: how many, in which split, and what cannot be known of them."""
import json

import numpy as np
import pytest

from hjepa_gfn.data.directory import check_corpus
from hjepa_gfn.data.pipeline import Pipeline, PipelineConfig
from hjepa_gfn.data.store import load_episodes
from hjepa_gfn.errors import UserError
from hjepa_gfn.worlds.seeds import ASTRAY
from tests.data import corpora


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return corpora.make(tmp_path_factory.mktemp("data") / "c", astray=0.5)


def test_a_share_of_the_training_episodes_begins_astray_and_none_that_is_held_out(corpus):
    train, held_out = load_episodes(corpus, "train"), load_episodes(corpus, "validation")
    share = np.mean(train.seed >= ASTRAY)
    assert 0.3 < share < 0.7 and (held_out.seed < ASTRAY).all()
    plain = load_episodes(corpora.shared(), "train")
    assert (plain.seed < ASTRAY).all() and set(train.seed % ASTRAY) & set(plain.seed), "of the same episodes"


def test_the_share_is_part_of_what_a_corpus_is(corpus):
    assert check_corpus(corpus).astray == 0.5
    assert "astray" not in json.loads((corpora.shared() / "corpus.json").read_text()), "bytes of corpora that have none"
    with pytest.raises(UserError, match="astray is 0.5, not 0.0"):
        corpora.make(corpus)
    with pytest.raises(UserError, match="astray must be between 0 and 1, not 2"):
        corpora.make(corpus, astray=2)


def test_how_far_an_agent_has_turned_since_the_mission_is_not_known_there(corpus):
    tokenizer = corpora.shared_tokenizer()
    for heading in ("turned", "placed"):
        with pytest.raises(UserError, match=f"data.heading='{heading}': this corpus has episodes that begin astray"):
            Pipeline(corpus, "train", tokenizer, PipelineConfig(batch_size=4, heading=heading), 0)
    Pipeline(corpus, "validation", tokenizer, PipelineConfig(batch_size=4, heading="turned"), 0)
