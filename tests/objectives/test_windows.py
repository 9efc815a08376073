"""Windows of episodes: their legs, their latents and the plans that they realise."""

import functools
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[1] / "plans")]
import nested  # noqa: E402
import tiny  # noqa: E402

from hjepa_gfn.gflownet.rollout import choose  # noqa: E402
from hjepa_gfn.objectives.windows import (  # noqa: E402
    encode_start,
    encode_window,
    find_legs,
    observed_plan,
    plan_of_codes,
)
from hjepa_gfn.plans import apply_backward, at_capacity, backward_mask  # noqa: E402
from hjepa_gfn.plans.enumeration import canonical_keys  # noqa: E402

# up to 3 legs and 4 steps of the first are spelled out; the window holds 7 steps
LEGS = [[3, 2, 1], [1], [], [4, 2], [2, 2, 2, 1], [5, 1, 1], [7], [1] * 7, [4, 1, 2], [1, 3, 9], [6, 3]]
SYSTEM, SPEC = tiny.system(), tiny.system().spec
W, K, MODEL_LEG = tiny.WINDOW, 4, tiny.MODEL["levels"][0]["longest"]


def cut(legs):
    """The legs that a window of W steps shows."""
    flat = [leg for leg, steps in enumerate(legs) for _ in range(steps)][:W]
    return [flat.count(leg) for leg in range(len(legs)) if leg in flat]


def spelled(legs, action, code_1, code_2, macro):
    """The plan of a window as a nested tree."""
    legs = cut(legs)
    if not legs:
        return nested.ROOT
    shown = min(legs[0], 4)
    held = [int(a) for a in action[:shown]]
    if legs[0] > 4:
        held[-1] = None  # it stands for all the steps that are left
    inside = tuple((a, None) for a in held), tuple(int(c) for c in code_1[1:shown])
    macros = [int(m) for m in macro[: min(len(legs), 3)]]
    if len(legs) > 3:
        macros[-1] = None
    edges = [(m, None) for m in macros]
    edges[0] = (macros[0], inside)
    return tuple(edges), tuple(int(c) for c in code_2[1 : len(macros)])


@pytest.fixture(scope="module")
def coded():
    """(window, legs, made-up codes, the plans they give)."""
    window = tiny.window(LEGS, seed=3)
    legs = find_legs(window, K)
    rng = np.random.default_rng(0)
    codes = tuple(rng.integers(0, top, (len(LEGS), width)) for top, width in ((9, W + 1), (3, K + 1), (9, K)))
    plan = jax.jit(lambda w, l, *c: plan_of_codes(SYSTEM, (l,), c[:2], (w["action"], c[2])))(window, legs, *codes)
    return window, legs, codes, plan


def test_legs_against_a_loop_over_steps(coded):
    window, legs = coded[:2]
    assert np.asarray(window["length"]).tolist() == [sum(cut(legs)) for legs in LEGS]
    for b in range(len(LEGS)):
        steps = [(leg, place) for leg, size in enumerate(cut(LEGS[b])) for place in range(size)]
        assert legs.step[b].tolist() == [t < len(steps) for t in range(W)]
        assert legs.place[b, : len(steps)].tolist() == [place for _, place in steps]
        expected = [[t < len(steps) and steps[t][0] == k for t in range(W)] for k in range(K)]
        assert legs.member[b].tolist() == np.array(expected, float).tolist()
        assert legs.valid[b].tolist() == [k < len(cut(LEGS[b])) for k in range(K)]


def test_legs_past_the_last_are_dropped():
    few = find_legs(tiny.window([[1] * 7]), 2)
    assert few.member.shape == (1, 2, W) and few.member.sum() == 2 and few.valid.all()


def test_the_plan_of_a_window_against_the_tree_spelled_out(coded):
    window, _, codes, plan = coded
    names = canonical_keys(plan)
    for b, legs in enumerate(LEGS):
        tree = spelled(legs, np.asarray(window["action"][b]), *(c[b] for c in codes))
        assert names[b] == nested.key(tree, SPEC), legs
        assert int(plan.num_edits[b]) == nested.size(tree)[1], legs
    assert max(plan.num_edits) == SPEC.max_edits - 1, "the fullest plan leaves one edit to spare"
    assert max(plan.valid.sum(-1)) == SPEC.capacity - 1, "and one slot"
    assert not at_capacity(plan, SPEC).any()


def test_the_buffer_holds_leg_states_then_step_states(coded):
    _, _, (code_1, code_2, _), plan = coded
    for b, legs in enumerate(map(cut, LEGS)):
        later, inner = max(min(len(legs), 3) - 1, 0), max(min(legs[0], 4) - 1, 0) if legs else 0
        assert plan.valid[b].tolist() == [True] + [k < later for k in range(2)] + [i < inner for i in range(3)] + [False]
        assert plan.code[b, 1 : 1 + later].tolist() == code_2[b, 1 : 1 + later].tolist()
        assert plan.code[b, 3 : 3 + inner].tolist() == code_1[b, 1 : 1 + inner].tolist()
    for leaf in (plan.code, plan.tag, plan.position, plan.action.any(-1), plan.expanded.any(-1)):
        assert not np.asarray(leaf)[~np.asarray(plan.valid)].any(), "a free slot must look like a fresh one"


def test_every_observed_plan_is_reached_by_legal_edits_from_the_root(coded):
    plan = coded[-1]

    @jax.jit
    def undo(now, key):
        legal = backward_mask(now, SPEC)
        return choose(legal.any(-1), apply_backward(now, tiny.uniform(key, legal), SPEC)[0], now), legal.any(-1)

    for seed in range(5):
        now = plan
        for t in range(SPEC.max_edits):
            left = np.asarray(now.num_edits)
            now, legal = undo(now, jax.random.fold_in(jax.random.key(seed), t))
            assert legal.tolist() == (left > 0).tolist()
        assert set(canonical_keys(now)) == {nested.key(nested.ROOT, SPEC)} and not np.asarray(now.num_edits).any()


@functools.cache
def sharp():
    """Parameters whose codes spread over their grids on these windows (random latents differ too little)."""
    p, window = tiny.params(), tiny.window(LEGS, seed=3)

    @jax.jit
    def inputs(p):
        """Just before each quantiser."""
        quantiser = lambda m, level: m.all_levels[level - 1].dynamics.quantiser
        call = lambda method: SYSTEM.jepa.apply({"params": p["jepa"]}, method=method)
        legs = find_legs(window, K)
        levels = encode_window(SYSTEM, p, window, (legs,))
        ids = window["action"][:, None] * MODEL_LEG + jnp.minimum(legs.place[:, None], MODEL_LEG - 1)
        within = legs.member[..., None]
        bag = lambda m: jnp.sum(m.all_levels[1].actions_below(jnp.broadcast_to(ids, legs.member.shape)) * within, axis=2)
        return (call(lambda m: quantiser(m, 1).down(levels.z[0])), call(lambda m: quantiser(m, 2).down(levels.z[1])),
                call(lambda m: m.all_levels[1].macro_in(bag(m))))

    def spread(mlp, u):
        mean, std = u.reshape(-1, u.shape[-1]).mean(0), u.reshape(-1, u.shape[-1]).std(0)
        return {**mlp, "out": {"kernel": mlp["out"]["kernel"] / std, "bias": (mlp["out"]["bias"] - mean) / std}}

    j, (step, leg, macro) = p["jepa"], inputs(p)

    def down(level, u):
        d = level["dynamics"]
        return {**level, "dynamics": {**d, "quantiser": {**d["quantiser"], "down": spread(d["quantiser"]["down"], u)}}}

    upper = {**down(j["level_2"], leg), "macro_in": spread(j["level_2"]["macro_in"], macro)}
    return {**p, "jepa": {"level_1": down(j["level_1"], step), "level_2": upper}}


@functools.cache
def latents():
    window = tiny.window(LEGS, seed=3)
    encode = lambda p, w: (encode_window(SYSTEM, p, w, (find_legs(w, K),)), observed_plan(SYSTEM, p, w))
    return window, jax.jit(encode), *jax.jit(encode)(sharp(), window)


def gelu(x):
    return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


def dense(layer, x):
    return x @ layer["kernel"] + layer["bias"]


def test_latents_of_a_window_leg_by_leg():
    window, _, levels, _ = latents()
    p = jax.tree.map(lambda w: np.asarray(w, np.float64), sharp()["jepa"]["level_2"])
    mlp = lambda name, x: dense(p[name]["out"], gelu(dense(p[name]["hidden_0"], x)))
    z1 = np.asarray(SYSTEM.level(sharp(), window["view"], window["direction"], method="encode"), np.float64)
    np.testing.assert_allclose(levels.z[0], z1, atol=1e-5)
    for b, legs in enumerate(LEGS):
        within = gelu(dense(p["segment_in"], z1[b]))
        np.testing.assert_allclose(levels.z[1][b, 0], mlp("encoder", within[0]), atol=1e-5)
        begin = 0
        for k, size in enumerate(cut(legs)[:K]):
            np.testing.assert_allclose(
                levels.z[1][b, k + 1], mlp("encoder", within[begin + 1 : begin + size + 1].mean(0)), atol=1e-5)
            place = np.minimum(np.arange(size), MODEL_LEG - 1)
            ids = np.asarray(window["action"][b, begin : begin + size]) * MODEL_LEG + place
            u = mlp("macro_in", p["actions_below"]["table"][ids].sum(0))
            np.testing.assert_allclose(levels.macro[0][b, k], np.clip(np.round(1.4 * np.tanh(u)), -1, 1), atol=1e-5)
            begin += size


def test_the_start_of_a_window_is_what_the_agent_has_when_it_plans():
    window, _, levels, _ = latents()
    percept = {name: window[name][:, 0] for name in ("view", "direction")}
    z1, z2 = encode_start(SYSTEM, sharp(), percept)
    np.testing.assert_allclose(z1, levels.z[0][:, 0], atol=1e-5)
    np.testing.assert_allclose(z2, levels.z[1][:, 0], atol=1e-5)


def test_the_observed_plan_holds_the_codes_of_its_latents():
    window, _, levels, (plan, known) = latents()
    p = sharp()
    assert known.tolist() == [bool(legs) for legs in LEGS]
    code_1 = np.asarray(SYSTEM.level(p, levels.z[0], method="code", level=1))
    code_2 = np.asarray(SYSTEM.level(p, levels.z[1], method="code", level=2))
    table = np.asarray(SYSTEM.level(p, method="tables")[1][0])
    macro = np.abs(np.asarray(levels.macro[0])[:, :, None] - table).sum(-1).argmin(-1)
    assert min(len(set(codes.ravel().tolist())) for codes in (code_1, code_2, macro)) > 2, "the check would be empty"
    names = canonical_keys(plan)
    for b, legs in enumerate(LEGS):
        tree = spelled(legs, np.asarray(window["action"][b]), code_1[b], code_2[b], macro[b])
        assert names[b] == nested.key(tree, SPEC), legs


def test_what_lies_past_the_end_of_a_window_is_not_read():
    window, encode, _, (plan, _) = latents()
    past = ~np.asarray(find_legs(window, K).step)
    after = np.concatenate([np.zeros_like(past[:, :1]), past], axis=1)
    noise = tiny.window([[2, 2, 3]] * len(LEGS), seed=9)
    mixed = {name: jnp.where(jnp.expand_dims(where, range(2, window[name].ndim)), noise[name], window[name])
             for name, where in (("action", past), ("segment", past), ("view", after), ("direction", after))}
    again, _ = encode(sharp(), {**mixed, "length": window["length"]})[1]
    assert canonical_keys(again) == canonical_keys(plan)


def test_no_gradient_reaches_the_hierarchy_through_an_observed_plan_or_the_upper_level_into_the_lower():
    window = latents()[0]

    def upper(jepa):
        levels = encode_window(SYSTEM, {"jepa": jepa}, window, (find_legs(window, K),))
        return jnp.sum(levels.z[1]**2) + jnp.sum(levels.macro[0] * jnp.arange(2.0))

    grads = jax.jit(jax.grad(upper))(sharp()["jepa"])
    sizes = lambda tree: {k: sum(float(jnp.abs(g).sum()) for g in jax.tree.leaves(v)) for k, v in tree.items()}
    assert sizes(grads)["level_1"] == 0.0
    size = sizes(grads["level_2"])
    assert min(size[name] for name in ("segment_in", "encoder", "actions_below", "macro_in")) > 1e-3
