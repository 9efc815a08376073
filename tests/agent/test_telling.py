"""Explaining with tools: what was stated and what the tool said stay in the text, and the explainer goes on from there."""

import functools
import sys
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))
import tiny  # noqa: E402

from hjepa_gfn.agent.telling import explain_with_tool  # noqa: E402
from hjepa_gfn.data.tokenizer import train_tokenizer  # noqa: E402
from hjepa_gfn.exemplary.spans import spans_in, strip_spans  # noqa: E402
from hjepa_gfn.objectives.em import sample_text  # noqa: E402

TEXTS = ["turn left and go forward 2. because the red ball is there.", "go forward 3. i see it.", "go forward"]


def test_given_words_stay_and_what_follows_is_said_in_their_light():
    """Greedy words after a given beginning are the most probable ones of the explainer that reads that beginning."""
    system, params = tiny.system(), tiny.params()
    plans = tiny.random_plans(system.spec, jax.random.key(1), 4)
    context = tiny.context(4)
    given = np.zeros((4, tiny.TEXT), np.int32)
    given[:, 0], given[0, 1:3], given[1, 1:2], given[3, 1:5] = 1, [5, 7], [6], [8, 3, 3, 4]
    write = jax.jit(functools.partial(sample_text, system, temperature=0.0))
    free = write(params, jax.random.key(0), plans, context)
    text = np.asarray(write(params, jax.random.key(0), plans, context, given=jnp.asarray(given)))
    assert np.array_equal(text[given > 0], given[given > 0]) and not np.array_equal(text, free)
    assert np.array_equal(text[2], free[2])
    wide = jax.tree.map(lambda leaf: leaf[:, None], plans)
    log_p = jax.jit(lambda text: system.net(params, wide, context, text[:, None], method="explain"))(jnp.asarray(text))
    best = np.asarray(log_p[:, 0]).copy()
    best[..., :2] = -np.inf
    compared = 0
    for row in range(4):
        for i in range(1, tiny.TEXT):
            if text[row, i - 1] in (0, 2):
                break
            if given[row, i] == 0:
                assert text[row, i] == best[row, i - 1].argmax()
                compared += 1
    assert compared > 5


class Scribe:
    """Stands in for the explainer: writes TEXTS, and, given a beginning, adds "so it is." to it."""

    def __init__(self, tokenizer, length):
        self.tokenizer, self.length, self.given = tokenizer, length, None

    def __call__(self, params, key, percept, mission, plans, given=None):
        if given is None:
            return np.stack([self.tokenizer.encode_text(text, self.length) for text in TEXTS])
        self.given = np.asarray(given)
        begun = [self.tokenizer.decode_text(row) for row in self.given]
        return np.stack([self.tokenizer.encode_text(f"{text} so it is.", self.length) for text in begun])


def test_results_stand_between_plan_and_explanation():
    tokenizer = train_tokenizer([*TEXTS, "<tool>roll_forward: fulfils the mission in 3 steps.</tool> so it is."], 400)
    scribe = Scribe(tokenizer, 90)
    agent = SimpleNamespace(act={"explain": scribe}, params=None, tokenizer=tokenizer,
                            config=SimpleNamespace(data=SimpleNamespace(text_length=90)))
    asked = []

    def tool(plan):
        asked.append(plan)
        return f"fulfils the mission in {len(asked)} steps."

    told = explain_with_tool(agent, jax.random.key(0), None, None, None, "roll_forward", [tool] * 3)
    assert asked == ["turn left and go forward 2.", "go forward 3."]  # the third text states no plan
    assert told[0].text == "turn left and go forward 2. <tool>roll_forward: fulfils the mission in 1 steps.</tool> so it is."
    assert [span.result for span in spans_in(told[1].text)] == ["fulfils the mission in 2 steps."]
    assert strip_spans(told[1].text) == "go forward 3. so it is."
    assert told[2] == ("go forward", "", "go forward")
    assert scribe.given[0, 0] == 1 and 2 not in scribe.given[0], "the text begun is not ended"
