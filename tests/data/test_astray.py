"""Corpora with episodes that begin astray: how many, in which split, and what cannot be known of them."""
import json

import numpy as np
import pytest

from hjepa_gfn.data.builder import build
from hjepa_gfn.data.directory import check_corpus
from hjepa_gfn.data.pipeline import Pipeline, PipelineConfig
from hjepa_gfn.data.store import load_episodes
from hjepa_gfn.errors import UserError
from hjepa_gfn.exemplary.simulation import DIRECTIONS
from hjepa_gfn.worlds import astray
from hjepa_gfn.worlds.babyai import make_env, reset_env
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


@pytest.fixture(scope="module")
def played(tmp_path_factory):
    """A corpus by the exemplary actor itself: what it says of percepts is what the simulator shows."""
    return build("BabyAI-PickupLoc-v0", tmp_path_factory.mktemp("played") / "c", 40, 2, astray=0.5, workers=1, progress=False)


def test_how_far_an_agent_had_got_when_an_episode_began_is_part_of_its_heading(played):
    """Against the simulator: pose where the mission was given and where the episode begins."""
    tokenizer = corpora.shared_tokenizer()
    make = lambda heading, **more: Pipeline(  # noqa: E731
        played, "train", tokenizer, PipelineConfig(batch_size=4, heading=heading, **more), 0).store
    plain, turning, placing = make("compass"), make("turned"), make("placed")
    turned = moved = 0
    for i in range(len(plain)):
        env = make_env(plain.level[i])
        reset_env(env, plain.seed[i] % ASTRAY)
        (x, y), first = env.agent_pos, env.agent_dir
        reset_env(env, plain.seed[i])
        rows = slice(plain.offset[i], plain.offset[i] + plain.steps[i] + 1)
        np.testing.assert_array_equal(turning.direction[rows], (plain.direction[rows] - first) % 4)
        np.testing.assert_array_equal(placing.direction[rows], turning.direction[rows])
        # the sector of the own cell: the offset as seen by one who stands where the mission was given
        gap = np.array([env.agent_pos[0] - x, env.agent_pos[1] - y])
        ahead, right = DIRECTIONS[first], DIRECTIONS[(first + 1) % 4]
        assert placing.view[plain.offset[i], 3, 6, 3] == 3 * (np.sign(gap @ ahead) + 1) + np.sign(gap @ right) + 1
        turned += (env.agent_dir - first) % 4 in (1, 3)
        moved += gap.any()
    assert turned > 3 and moved > 3
    with pytest.raises(UserError, match="data.heading='turned': exploring walks"):
        make("turned", worlds=4)


def test_a_corpus_whose_episodes_begin_otherwise_now_is_found_out(played, monkeypatch):
    monkeypatch.setattr(astray, "LONGEST", 1)
    with pytest.raises(UserError, match="begins otherwise than this corpus has it"):
        Pipeline(played, "train", corpora.shared_tokenizer(), PipelineConfig(batch_size=4, heading="turned"), 0)
