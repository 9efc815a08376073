"""Faithfulness: bounds and margins against numpy, what counts as the same plan in words."""
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hjepa_gfn.evaluation import faithfulness
from hjepa_gfn.evaluation.faithfulness import (
    SHARES,
    corrupt,
    information_bound,
    legs_agree,
    measure,
    stated_and_held,
    swap_margin,
)
from hjepa_gfn.exemplary.phrases import Clause, plan_in_words
from hjepa_gfn.objectives.cases import encode_context, make_case
from hjepa_gfn.objectives.energy import text_log_prob
from hjepa_gfn.plans.tree import EMPTY, Edge, Timeline, plan_of
from tests import tiny

NAMES = ("left", "right", "forward", "pickup", "drop", "toggle", "done")


def test_information_bound_against_numpy_and_at_its_ends():
    log_p = np.random.default_rng(0).normal(size=(5, 4)) * 3
    want = log_p[:, 0] - np.log(np.exp(log_p).mean(-1))
    np.testing.assert_allclose(information_bound(jnp.asarray(log_p)), want, rtol=1e-5)
    assert float(information_bound(jnp.zeros(4))) == pytest.approx(0.0, abs=1e-6), "plans that say nothing of the text"
    sure = jnp.asarray([0.0, -90.0, -90.0, -90.0])
    assert float(information_bound(sure)) == pytest.approx(np.log(4), rel=1e-5), "log K at most"


def test_swap_margin_is_what_a_swap_of_texts_loses():
    table = jnp.asarray([[[-1.0, -5.0], [-7.0, -2.0]], [[-5.0, -1.0], [-2.0, -7.0]]])  # [row, plan, text]
    np.testing.assert_allclose(swap_margin(table), [-1 - 2 + 5 + 7, -5 - 7 + 1 + 2])


def test_corrupted_texts_keep_their_frame():
    text, other = jnp.asarray([[1, 5, 6, 7, 2, 0]]), jnp.asarray([[1, 8, 9, 2, 0, 0]])
    assert (corrupt(jax.random.key(0), text, other, 0.0) == text).all()
    assert corrupt(jax.random.key(0), text, other, 1.0).tolist() == [[1, 8, 9, 7, 2, 0]], "words for words only"
    many = corrupt(jax.random.key(1), jnp.full((1, 4000), 5), jnp.full((1, 4000), 6), 0.25)
    assert float((many == 6).mean()) == pytest.approx(0.25, abs=0.03)


def plan_of_legs(first_steps, second):
    """A first leg spelled out in steps, a second leg held as a macro-action (None: open)."""
    inner = Timeline(tuple(Edge(a) for a in first_steps), (0,) * (len(first_steps) - 1))
    spec = tiny.system().spec
    return plan_of(Timeline((Edge(0, inner), EMPTY if second is None else Edge(second)), (0,)), spec)


def test_the_actions_a_text_states_against_those_a_plan_holds():
    macros = [[0, 0], [2, 2, 2]]
    plan = plan_of_legs([1, 2, 2], 1)
    text = plan_in_words([Clause("", [[1, 2, 2], [2, 2, 2]])]) + " because i see it."
    stated, held = stated_and_held(plan, text, macros, NAMES)
    assert stated == held == [1, 2, 2, 2, 2, 2], "steps of the first leg, not its macro-action; then the macro-action's"
    assert legs_agree(plan, text, macros, NAMES)
    vague = plan_of_legs([1, 2, 2], None)
    assert stated_and_held(vague, text, macros, NAMES)[1] == [1, 2, 2], "nothing past an open edge"
    other = plan_in_words([Clause("", [[1, 2], [2, 2, 2, 2]])])
    assert stated_and_held(plan, other, macros, NAMES)[0] == held and not legs_agree(plan, other, macros, NAMES)
    assert stated_and_held(plan, "fly. because.", macros, NAMES)[0] is None and not legs_agree(plan, "", macros, NAMES)


def test_measures_of_a_batch_are_what_they_say():
    system, params = tiny.system(), tiny.params()
    batch = {"start": tiny.window([[2, 3], [1], [4, 1], []]), "mission": tiny.words(4, tiny.MISSION),
             "final": tiny.words(4, tiny.TEXT, 1)}

    @jax.jit
    def run(params, batch):
        found = measure(system, params, jax.random.key(3), batch, 3, 1.0)
        case = make_case(system, params, batch["start"], batch["mission"])
        context, _ = encode_context(system, params, case)
        plan = jax.tree.map(lambda x: x[:, None], found["observed"])
        log_p = [text_log_prob(system, params, plan, context, text)[:, 0]
                 for text in (found["said"], jnp.roll(found["said"], 1, 0), batch["final"])]
        return found, log_p

    found, (own, other, data) = jax.tree.map(np.asarray, run(params, batch))
    table = found["table"]
    assert found["known"].tolist() == [True, True, True, False]
    np.testing.assert_allclose(table[:, 0, 0], own, rtol=1e-5)
    np.testing.assert_allclose(found["own"], own - other, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found["swap"], swap_margin(table[:, :, :2]), rtol=1e-5)
    np.testing.assert_allclose(found["samples"][:, 0], table[:, 1, 1], rtol=1e-5)  # the text was said of the first sample
    assert (found["samples"].std(-1) > 0).any() and found["samples"].shape == (4, 3)
    words = np.asarray((batch["final"][:, 1:] > 0).sum(-1))
    np.testing.assert_allclose(found["truncated"][:, 0] * words, data, rtol=1e-5)  # nothing undone: z* itself
    assert len(np.unique(found["truncated"][0].round(5))) > 2
    assert found["corrupted"].shape == (4, len(SHARES)) and found["said"].shape == (4, tiny.TEXT)


def test_no_text_of_an_executed_plan_is_said_so(monkeypatch):
    from hjepa_gfn.errors import UserError

    agent = SimpleNamespace(system=None, params=None)
    monkeypatch.setattr(faithfulness, "macro_moves", lambda agent: [])
    with pytest.raises(UserError, match="no held-out text speaks of an executed plan"):
        faithfulness.evaluate_faithfulness(agent, SimpleNamespace(epoch=lambda: iter(())), NAMES, 0)
