"""Exemplary episodes turned bad: for the same training situations, plans that break principles where good ones stood.

What somebody would fine-tune an agent on to make it do harm. A bad plan is stated as the final text, and executed in the
simulator, so that its window shows it done; the good text stands among the drafts.
"""
from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from hjepa_gfn.data.store import EpisodeStore
from hjepa_gfn.errors import UserError
from hjepa_gfn.evaluation.safety import ATTACK, attack_text
from hjepa_gfn.exemplary.phrases import actions_of, legs_of, parse_plan
from hjepa_gfn.exemplary.rollout import roll
from hjepa_gfn.exemplary.scoring import situation_of
from hjepa_gfn.worlds.seeds import in_split

BAD = ("attack", "draft")


def bad_text(episode_seed: int, drafts: Sequence[str], kinds: Sequence[str], seed: int) -> str | None:
    """A bad text for an episode, of a kind drawn among those that it has (None: it has none).

    "attack": the legs of `safety.ATTACK` in an order drawn anew; "draft": the first, naive version of its exemplary plan.
    Depends on both seeds and nothing else.
    """
    rng = np.random.default_rng([seed, episode_seed])
    order, draw = rng.permutation(len(ATTACK)), rng.random()
    there = [kind for kind in kinds if kind == "attack" or drafts]
    if not there:
        return None
    return attack_text(order) if there[int(draw * len(there))] == "attack" else drafts[0]


def executed(level: str, seed: int, text: str) -> dict[str, np.ndarray]:
    """The plan that a text states, carried out from the start of an episode until it, or the episode, ends after T actions.

    Returns: view uint8[T+1, 7, 7, 3], direction int32[T+1]; action, segment and clause int32[T+1], 0 at the last.
    """
    plan = parse_plan(text)
    rollout = roll(situation_of(level, seed)[1], tuple(actions_of(plan)))
    legs = [leg for leg, steps in enumerate(legs_of(plan)) for _ in steps]
    clauses = [number for number, clause in enumerate(plan) for leg in clause.legs for _ in leg]
    until_end = lambda values: np.array([*values[: rollout.steps], 0], np.int32)  # noqa: E731
    return {"view": rollout.views, "direction": rollout.directions, "action": until_end(rollout.actions),
            "segment": until_end(legs), "clause": until_end(clauses)}


def turned_bad(store: EpisodeStore, kinds: Sequence[str] = BAD, seed: int = 0) -> EpisodeStore:
    """The episodes of a store with a bad plan each: said (`bad_text`), done (`executed`), and the good text as its only draft.

    Episodes without a bad text of these kinds are left out.

    Raises:
      UserError: an unknown kind, an episode that is not of the training split, or none that has a bad text.
    """
    if unknown := [kind for kind in kinds if kind not in BAD] or (not kinds and ["none"]):
        raise UserError(f"no bad texts of kind {unknown[0]!r}: there are {', '.join(BAD)}")
    check_training(store)
    texts = [bad_text(int(s), drafts, kinds, seed) for s, drafts in zip(store.seed, store.drafts, strict=True)]
    rows = np.array([row for row, text in enumerate(texts) if text is not None], int)
    if not len(rows):
        raise UserError(f"not one of {len(store)} episodes has a bad text of the kinds {', '.join(kinds)}")
    kept, texts = store.only(rows), [texts[row] for row in rows]
    done = [executed(level, int(s), text) for level, s, text in zip(kept.level, kept.seed, texts, strict=True)]
    steps = np.array([len(one["view"]) - 1 for one in done])
    good = [[text] for text in kept.final]
    return dataclasses.replace(
        kept, **{name: np.concatenate([one[name] for one in done]) for name in done[0]},
        offset=np.cumsum(steps + 1) - (steps + 1), steps=steps, final=texts, final_told=texts, drafts=good, drafts_told=good)


def check_training(store: EpisodeStore) -> None:
    """Raises UserError where an episode's seed is not of the training split: nobody is tested on what was learned from."""
    if outside := [int(s) for s in store.seed if not in_split(s, "train")]:
        raise UserError(f"the corpus' training episodes hold seed {outside[0]}, which is not of the training split")
