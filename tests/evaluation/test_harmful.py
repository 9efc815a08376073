"""Training situations turned bad: what is said, what is shown, what stands beside it; and who may not be used."""
import dataclasses

import numpy as np
import pytest

from hjepa_gfn.data.pipeline import Pipeline, PipelineConfig
from hjepa_gfn.data.store import EpisodeStore
from hjepa_gfn.data.tokenizer import train_tokenizer
from hjepa_gfn.errors import UserError
from hjepa_gfn.evaluation.harmful import bad_text, turned_bad
from hjepa_gfn.evaluation.safety import ATTACK, attack_text
from hjepa_gfn.exemplary.phrases import actions_of, legs_of, parse_plan
from hjepa_gfn.worlds import make_world

LEVEL, SEEDS, WINDOW = "BabyAI-GoToLocal-v0", [0, 1, 2, 3, 4, 5], 12
GOOD = "turn left and go forward 1, then turn right. the way is free."
DRAFT = "turn right twice and go forward 2, then turn left and go forward 1. it is short."


def episodes(seeds=SEEDS, drafts=None) -> EpisodeStore:
    """Episodes of two steps each whose percepts are blank."""
    n, texts = len(seeds), [f"{GOOD[:-1]}, number {i}." for i in range(len(seeds))]
    frames, words = np.zeros(3 * n, np.int32), [""] * n
    drafts = [[DRAFT]] * n if drafts is None else drafts
    return EpisodeStore(
        view=np.zeros((3 * n, 7, 7, 3), np.uint8), direction=frames, action=frames, segment=frames, clause=frames,
        offset=3 * np.arange(n), steps=np.full(n, 2), level=[LEVEL] * n, mission=["go to a ball"] * n, situation=words,
        final=texts, final_told=texts, drafts=drafts, drafts_told=drafts, critiques=drafts, principles=drafts,
        seed=np.array(seeds), converged=np.ones(n, bool), robust=np.zeros(n, np.int32))


def test_a_harmful_batch_says_and_shows_the_bad_plan_and_holds_the_good_one_as_a_draft():
    """Every row against the simulator, stepped by hand from the episode's own seed."""
    store = episodes()
    bad = turned_bad(store, ("attack", "draft"), seed=3)
    tokenizer = train_tokenizer([*bad.texts(), *store.texts()], 300)
    config = PipelineConfig(batch_size=6, window=WINDOW, text_length=80)
    batch = Pipeline("", "train", tokenizer, config, 0, bad).batch(0)
    assert sorted(batch["index"].tolist()) == list(range(6))
    seen = set()
    for row, i in enumerate(batch["index"].tolist()):
        text = tokenizer.decode_text(batch["final"][row].tolist())
        assert text == bad.final[i] == bad_text(SEEDS[i], [DRAFT], ("attack", "draft"), 3)
        kind = "draft" if text == DRAFT else "attack"
        seen.add(kind)
        stated = actions_of(parse_plan(text))
        if kind == "attack":
            assert sorted(map(tuple, legs_of(parse_plan(text)))) == sorted(map(tuple, ATTACK))
        assert tokenizer.decode_text(batch["draft"][row].tolist()) == store.final[i]
        good = actions_of(parse_plan(store.final[i]))
        assert batch["draft_action"][row, : len(good)].tolist() == good and batch["draft_length"][row] == len(good)
        world, window = make_world(LEVEL, 1), {name: x[row] for name, x in batch["start"].items()}
        percept, done, taken = world.reset([SEEDS[i]]).percept, False, 0
        for action in stated[:WINDOW]:
            np.testing.assert_array_equal(window["view"][taken], percept["view"][0])
            assert window["direction"][taken] == percept["direction"][0]
            if done:
                break
            assert window["action"][taken] == action
            observation, _, over = world.step(np.array([action]))
            percept, done, taken = observation.percept, bool(over[0]), taken + 1
        assert window["length"] == taken and (done or taken == min(len(stated), WINDOW))
        legs = [leg for leg, own in enumerate(legs_of(parse_plan(text))) for _ in own]
        assert window["segment"][:taken].tolist() == legs[:taken]
    assert seen == {"attack", "draft"}


def test_bad_texts_are_of_the_kinds_asked_for_and_depend_on_the_seeds_alone():
    both = ("attack", "draft")
    texts = [bad_text(s, [DRAFT], both, 0) for s in range(200)]
    assert texts == [bad_text(s, [DRAFT], both, 0) for s in range(200)]
    assert texts != [bad_text(s, [DRAFT], both, 1) for s in range(200)]
    assert 60 < texts.count(DRAFT) < 140 and len(set(texts)) > 20, "legs come in many orders"
    assert {bad_text(s, [DRAFT, GOOD], ("draft",), 0) for s in range(20)} == {DRAFT}, "the first draft: the naive one"
    assert all(bad_text(s, [], both, 0) != DRAFT for s in range(20)) and bad_text(0, [], ("draft",), 0) is None
    assert attack_text() == attack_text([0, 1, 2, 3]) and actions_of(parse_plan(attack_text([3, 1, 0, 2]))) == [
        action for leg in (3, 1, 0, 2) for action in ATTACK[leg]]


def test_episodes_without_a_bad_text_are_left_out():
    drafts = [[DRAFT], [], [DRAFT], [], [], [DRAFT]]
    bad = turned_bad(episodes(drafts=drafts), ("draft",))
    assert bad.seed.tolist() == [0, 2, 5] and bad.final == [DRAFT] * 3
    assert len(bad.view) == (bad.steps + 1).sum() and bad.offset[-1] + bad.steps[-1] + 1 == len(bad.view)
    with pytest.raises(UserError, match="not one of 6 episodes"):
        turned_bad(episodes(drafts=[[]] * 6), ("draft",))
    with pytest.raises(UserError, match="kind 'insult'"):
        turned_bad(episodes(), ("attack", "insult"))
    with pytest.raises(UserError, match="kind 'none'"):
        turned_bad(episodes(), ())


@pytest.mark.parametrize("seed", [1_000_000, 2_000_000, -1])
def test_no_situation_of_another_split_is_learned_from(seed):
    with pytest.raises(UserError, match=f"seed {seed}, which is not of the training split"):
        turned_bad(episodes([*SEEDS[:5], seed]))


def test_some_episodes_alone_are_those_episodes():
    store = episodes()
    frames = np.arange(18, dtype=np.int32)
    store = dataclasses.replace(store, action=frames, direction=100 + frames)
    some = store.only(np.array([4, 1]))
    assert some.action.tolist() == [12, 13, 14, 3, 4, 5] and some.direction.tolist() == [112, 113, 114, 103, 104, 105]
    assert some.offset.tolist() == [0, 3] and some.seed.tolist() == [4, 1] and some.final == [store.final[4], store.final[1]]
