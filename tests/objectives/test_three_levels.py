"""A third level, of clauses: its segments, latents, losses and plans on windows whose clauses are given by hand."""
import functools
import sys
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[1] / "plans")]
import nested  # noqa: E402
import tiny  # noqa: E402
from float64 import dense, gelu, mlp  # noqa: E402

from hjepa_gfn.agent.reading import first_leg  # noqa: E402
from hjepa_gfn.errors import UserError  # noqa: E402
from hjepa_gfn.models import fsq  # noqa: E402
from hjepa_gfn.objectives.jepa import jepa_loss  # noqa: E402
from hjepa_gfn.objectives.windows import encode_window, find_segments, plan_of_codes  # noqa: E402
from hjepa_gfn.plans.enumeration import canonical_keys  # noqa: E402

SYSTEM = tiny.system(clauses=True)
LEGS = [[2, 1, 2], [3, 1], [], [1, 1, 1, 1], [1, 4]]
CLAUSES = [[1, 1, 0], [4, 4], [], [0, 1, 2, 0], [0, 3]]  # of each leg, in the order in which they are carried out
OPTIONS = SimpleNamespace(horizon=2, anti_collapse="none", regularise=0.0, inverse=0.0, variance=0.0, code=0.0, macro=0.0)


def window():
    made = tiny.window(LEGS, seed=4)
    clause = np.zeros(made["action"].shape, np.int32)
    for b, (legs, clauses) in enumerate(zip(LEGS, CLAUSES)):
        flat = [clause for clause, steps in zip(clauses, legs) for _ in range(steps)]
        clause[b, : len(flat)] = flat
    return {**made, "clause": jnp.asarray(clause)}


def grouped(b, most_legs):
    """The legs of each clause of row b, of its first legs."""
    out, before = [], None
    for leg, clause in enumerate(CLAUSES[b][:most_legs]):
        if clause != before:
            out.append([])
        out[-1].append(leg)
        before = clause
    return out


@functools.cache
def segments(extra=0):
    return jax.jit(lambda w: find_segments(SYSTEM, w, extra))(window())


@functools.cache
def params():
    shape = lambda *s: jnp.zeros(s, jnp.int32)
    return tiny.drawn(lambda: SYSTEM.jepa.init(
        jax.random.key(0), jnp.zeros((1, 3, 7, 7, 3), jnp.uint8), shape(1, 3), shape(1, 2), shape(1, 2),
        jnp.ones((1, 2)))["params"])


@functools.cache
def run():
    """(latents, metrics, gradient of the clause level's terms)."""
    w = window()

    def clause_terms(p):
        loss, metrics = jepa_loss({"jepa": p}, jax.random.key(0), w, SYSTEM, OPTIONS)
        terms = [metrics[f"clause_{name}"] for name in ("pred", "inverse", "macro_nll")]
        return sum(terms), (loss, metrics)

    @jax.jit
    def call(p):
        (_, (loss, metrics)), grad = jax.value_and_grad(clause_terms, has_aux=True)(p)
        return encode_window(SYSTEM, {"jepa": p}, w, find_segments(SYSTEM, w)), loss, metrics, grad

    return jax.tree.map(np.asarray, call(params()))


def test_clauses_group_legs_where_the_clause_changes():
    legs, clauses = segments()
    assert legs.member.shape == (5, 3, 7) and clauses.member.shape == (5, 3, 3)
    for b in range(len(LEGS)):
        found = [np.flatnonzero(row).tolist() for row in np.asarray(clauses.member[b]) if row.any()]
        assert found == grouped(b, 3)
        places = [int(clauses.place[b, leg]) for legs_of in found for leg in legs_of]
        assert places == [place for legs_of in found for place in range(len(legs_of))]
    np.testing.assert_array_equal(clauses.step, legs.valid)
    wider = segments(1)[1]
    assert wider.valid.sum(1).tolist() == [2, 1, 0, 4, 2], "one leg and one clause more"


def test_latents_and_losses_of_the_clause_level_against_float64():
    levels, loss, metrics, _ = run()
    p = jax.tree.map(lambda x: np.asarray(x, np.float64), params()["level_3"])
    z2, macro2 = levels.z[1].astype(np.float64), levels.macro[0]
    errors, ahead, inverse, nll = [], [], [], []
    for b in range(len(LEGS)):
        clauses = grouped(b, 3)
        encode = lambda legs, b=b: mlp(p["encoder"], gelu(dense(p["segment_in"], z2[b, legs])).mean(0))
        z = [encode([0])] + [encode([leg + 1 for leg in legs]) for legs in clauses]
        codes = [int(fsq.to_code(macro2[b, leg], (3, 3))) for leg in range(3)]
        macros = []
        for legs in clauses:
            ids = [codes[leg] * 3 + place for place, leg in enumerate(legs)]
            m = np.clip(np.round(1.4 * np.tanh(mlp(p["macro_in"], p["actions_below"]["table"][ids].sum(0)))), -1, 1)
            macros.append(m)
            logits = mlp(p["macro_out"], m).reshape(3, 10)
            log_p = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
            target = [codes[leg] for leg in legs] + [9] * (3 - len(legs))
            nll.append(-sum(log_p[i, code] for i, code in enumerate(target)))
        step = lambda x, m: x + mlp(p["dynamics"]["predictor"], np.concatenate([x, m]))
        for k, m in enumerate(macros):
            np.testing.assert_allclose(levels.macro[1][b, k], m, atol=1e-5)
            errors.append(np.mean((step(z[k], m) - z[k + 1]) ** 2))
            inverse.append(np.mean((np.tanh(mlp(p["dynamics"]["inverse"], np.concatenate([z[k], z[k + 1]]))) - m) ** 2))
            if k:
                ahead.append(np.mean((step(step(z[k - 1], macros[k - 1]), m) - z[k + 1]) ** 2))
        np.testing.assert_allclose(levels.z[2][b, : len(z)], z, rtol=1e-3, atol=1e-4)
    assert len(errors) == 8 and len(ahead) == 4
    for name, values in (("pred", errors), ("inverse", inverse), ("macro_nll", nll)):
        np.testing.assert_allclose(metrics[f"clause_{name}"], np.mean(values), rtol=1e-3, err_msg=name)
    # with all weights 0 the loss is each level's mean over horizons: of the two others, more than half of the first
    own = (np.mean(errors) + np.mean(ahead)) / 2
    assert loss > own + (metrics["step_pred"] + metrics["subgoal_pred"]) / 2
    assert {name.rsplit("_", 1)[0] for name in metrics if name.endswith("_std")} == {"step", "subgoal", "clause"}


def test_the_clause_level_learns_by_itself():
    grad = run()[-1]
    size = lambda tree: max(np.abs(g).max() for g in jax.tree.leaves(tree))
    assert size(grad["level_1"]) == size(grad["level_2"]) == 0.0
    assert min(size(grad["level_3"][name]) for name in (
        "encoder", "segment_in", "actions_below", "macro_in", "macro_out")) > 1e-4


def test_an_observed_plan_has_three_scales():
    """All clauses, the legs of the first of them, the steps of the first of those: against the tree spelled out."""
    w, spec = window(), SYSTEM.spec
    assert (spec.state_codes, spec.action_codes, spec.capacity) == ((9, 3, 9), (3, 9, 3), 10)
    rng = np.random.default_rng(0)
    draw = lambda top, n: rng.integers(0, top, (len(LEGS), n))
    codes = tuple(draw(top, n) for top, n in ((9, 8), (3, 5), (9, 5)))
    actions = np.asarray(w["action"]), draw(9, 4), draw(3, 4)
    plan = jax.jit(lambda s, c, a: plan_of_codes(SYSTEM, s, c, a))(segments(1), codes, actions)
    for b, name in enumerate(canonical_keys(plan)):
        tree = nested.ROOT
        if LEGS[b]:
            counts = LEGS[b][0], len(grouped(b, 4)[0]), len(grouped(b, 4))
            inside = None
            for count, span, code, action in zip(counts, SYSTEM.spans[::-1], codes, actions):
                held = [int(a) for a in action[b][: min(count, span)]]
                if count > span:
                    held[-1] = None
                edges = [(a, inside if i == 0 else None) for i, a in enumerate(held)]
                inside = tuple(edges), tuple(int(c) for c in code[b][1 : len(held)])
            tree = inside
        assert name == nested.key(tree, spec), LEGS[b]
    assert plan.expanded[0, 0].tolist() == [True, True, False]
    begins_with = jax.jit(lambda p, z: first_leg(SYSTEM, {"jepa": p}, z))
    leg = begins_with(params(), plan)
    assert leg.count[:4].tolist() == [2, 3, 0, 1] and leg.action[1, :3].tolist() == actions[0][1, :3].tolist()
    assert leg.expected[1, :3].tolist() == [*codes[0][1, 1:3].tolist(), -1]
    # of a plan that only says what the first clause does: the first leg is what that clause's macro-action begins with
    bare = plan._replace(action=plan.action.at[..., 1:].set(0), expanded=jnp.zeros_like(plan.expanded))
    read = begins_with(params(), bare)
    table = lambda grid, level: np.asarray(jax.jit(lambda p: SYSTEM.level(
        {"jepa": p}, fsq.from_code(jnp.arange(fsq.num_codes(grid)), grid), method="decode_macro", level=level))(
            params())).argmax(-1)
    clauses, legs = table((3,), 3), table((3, 3), 2)
    for b in (0, 1, 3):
        begins = int(clauses[actions[2][b, 0], 0])
        steps = legs[begins].tolist() if begins < 9 else [3]
        until = steps.index(3) if 3 in steps else 4
        assert int(read.count[b]) == until and read.action[b, :until].tolist() == steps[:until]


def test_a_fixed_stride_cuts_any_level():
    pair = dict(code=(3,), action=(3,), longest=2, segments=2)
    levels = ({**pair, "action": (3, 3)}, {**pair, "name": "far"})
    made = tiny.make_system(SimpleNamespace(**{**tiny.MODEL, "levels": levels}), tiny.WORDS, tiny.TEXT, tiny.ACTIONS)
    pairs, fours = jax.jit(lambda w: find_segments(made, w))(tiny.window([[5], [7]]))
    assert [np.flatnonzero(row).tolist() for row in np.asarray(pairs.member[0])] == [[0, 1], [2, 3], [4]]
    assert [np.flatnonzero(row).tolist() for row in np.asarray(fours.member[1])] == [[0, 1], [2], []]


@pytest.mark.parametrize(("levels", "message"), [
    ((dict(segments="clause"),), "level 'subgoal' has segments='clause': must be"),
    ((dict(), dict(name="clause", segments="legs")), "level 'clause' has segments='legs'"),
    ((dict(lngest=3),), "no field 'lngest'; there are action, code"),
    ((dict(), dict(segments="clauses")), "with names of their own"), ((), "needs one entry or more")])
def test_levels_that_make_no_sense_are_refused(levels, message):
    with pytest.raises(UserError, match=message):
        tiny.make_system(SimpleNamespace(**{**tiny.MODEL, "levels": levels}), 9, 7, 3)


def test_a_batch_without_clauses_is_refused():
    with pytest.raises(UserError, match="level 'clause' is cut by clauses, but the batch has no 'clause'"):
        find_segments(SYSTEM, tiny.window(LEGS))
