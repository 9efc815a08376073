"""Beliefs over another's plan: what is read, what it is compared with, and which plans count."""
import jax
import jax.numpy as jnp
import numpy as np

from hjepa_gfn.evaluation import theory_of_mind
from hjepa_gfn.evaluation.theory_of_mind import beliefs, first_leg_of, first_step_of, measure
from hjepa_gfn.objectives.cases import make_case
from hjepa_gfn.plans.tree import EMPTY, Edge, Timeline, plan_of
from tests import tiny


def test_how_a_plan_begins():
    spec = tiny.system().spec
    told = plan_of(Timeline((Edge(4, Timeline((Edge(2), Edge(1)), (3,))), EMPTY), (1,)), spec)
    assert first_leg_of(told) == 5 and first_step_of(told) == 3
    assert first_leg_of(plan_of(Timeline((EMPTY,), ()), spec)) == 0


def test_beliefs_compare_samples_with_the_plan_of_their_own_row(monkeypatch):
    """A policy that plans row by row: with the text it plans what the row's other agent plans, else what the next does."""
    system, params = tiny.system(), tiny.params()
    observe = jax.jit(lambda window: make_case(system, params, window, tiny.words(3, tiny.MISSION)))
    cases = (observe(tiny.window([[2, 3], [1, 1], [4, 1]], seed=seed)) for seed in range(100))
    case = next(some for some in cases if len(set(first_leg_of(some.observed).tolist())) == 3)  # they begin differently
    text, asked = tiny.words(3, tiny.TEXT, 4), []

    def plans_for(system, params, key, context, told):
        """Rows that read their own text plan what the other plans; the rest plans what the next situation's agent does."""
        asked.append(told)
        own, next_one = np.repeat(np.arange(3), 4), np.repeat(np.roll(np.arange(3), 1), 4)
        return jax.tree.map(lambda x: x[next_one if told is None else np.concatenate([own, next_one])], case.observed)

    monkeypatch.setattr(theory_of_mind, "sample_plans", plans_for)
    found = beliefs(system, params, jax.random.key(0), case, text, 4)
    assert found["leg_text"].tolist() == [1, 1, 1] and found["leg_none"].tolist() == found["leg_other"].tolist() == [0, 0, 0]
    np.testing.assert_array_equal(asked[0][:12], np.repeat(text, 4, axis=0))
    np.testing.assert_array_equal(asked[0][12:], np.repeat(np.roll(text, 1, axis=0), 4, axis=0))
    assert asked[1] is None


def test_finals_are_of_executed_plans_and_drafts_of_stated_ones():
    system, params = tiny.system(), tiny.params()
    stated = tiny.window([[1, 2], [3], [], [2]], seed=5)
    batch = {"start": tiny.window([[2, 3], [1], [2], []]), "mission": tiny.words(4, tiny.MISSION),
             "final": tiny.words(4, tiny.TEXT, 1), "draft": tiny.words(4, tiny.TEXT, 2), "draft_action": stated["action"],
             "draft_segment": stated["segment"], "draft_length": stated["length"]}
    found = jax.jit(lambda params, batch: measure(system, params, jax.random.key(0), batch, 2))(params, batch)
    assert found["final"]["known"].tolist() == [True, True, True, False]
    assert found["draft"]["known"].tolist() == [True, True, False, True]
    shares = jnp.stack([found[kind][f"{what}_{name}"] for kind in found for what in ("leg", "step")
                        for name in ("text", "none", "other")])
    assert set(np.unique(shares).tolist()) <= {0.0, 0.5, 1.0}
