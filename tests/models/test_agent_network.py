"""The network as a function of the tree: who sees whom, what each head answers, what must make no difference."""

import functools
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parent)]
import tiny  # noqa: E402
from calls import B, T, answers, close, explained, plans, rows  # noqa: E402

from hjepa_gfn.models.layers import NEG  # noqa: E402
from hjepa_gfn.plans import apply_forward, backward_mask, forward_mask, root_plan, site_index  # noqa: E402

# --- the tree, not the buffer ---------------------------------------------------------------------------------------


def test_answers_are_a_function_of_the_tree_not_of_the_buffers_order():
    """Slots 1.. are permuted, differently on every row, half of the rows reading a text."""
    readers, n = 2, tiny.system().spec.capacity
    rng = np.random.default_rng(0)
    order = np.stack([[np.r_[0, 1 + rng.permutation(n - 1)] for _ in range(T)] for _ in range(B)])
    move = lambda x: np.take_along_axis(np.asarray(x), order.reshape(*order.shape, *(1,) * (x.ndim - 3)), axis=2)
    z = plans()
    moved = type(z)(*(move(leaf) for leaf in z[:-1]), z.num_edits)
    assert np.asarray(z.valid).sum(-1).max() > 3 and not np.array_equal(z.valid, moved.valid)
    arguments = tiny.context(B), tiny.words(readers, tiny.TEXT)
    a, b = (answers(readers)(tiny.params(), p, *arguments) for p in (z, moved))
    by_token = lambda x: move(np.asarray(x).reshape(B, T, n, 6, *x.shape[3:]))
    shown = np.asarray(moved.valid)
    for name in ("log_stop", "log_go", "flow", "energy"):
        np.testing.assert_allclose(a[name], b[name], atol=2e-5, err_msg=name)
    for name in ("log_site", "log_back", "codes"):
        expected, found = by_token(a[name]), np.asarray(b[name]).reshape(B, T, n, 6, *b[name].shape[3:])
        np.testing.assert_allclose(expected[shown], found[shown], atol=5e-5, err_msg=name)
    np.testing.assert_allclose(move(a["features"])[shown], np.asarray(b["features"])[shown], atol=5e-5)
    text = jnp.broadcast_to(tiny.words(B, tiny.TEXT)[:, None], (B, T, tiny.TEXT))
    close(*(explained()(tiny.params(), p, arguments[0], text) for p in (z, moved)), atol=5e-5)


def test_what_lies_in_free_slots_makes_no_difference():
    z = plans(1)
    noise = lambda x, top: jnp.where(z.valid, x, jnp.arange(x.shape[-1]) % top)
    dirty = z._replace(code=noise(z.code, 3), tag=noise(z.tag, 2), position=noise(z.position, 4))
    assert not np.asarray(z.valid).all()
    c, p = tiny.context(B), tiny.params()
    a, b = (answers(2)(p, plan, c, tiny.words(2, tiny.TEXT)) for plan in (z, dirty))
    for name in ("log_stop", "log_site", "log_back", "flow", "energy"):
        np.testing.assert_allclose(a[name], b[name], atol=1e-5, err_msg=name)
    text = jnp.broadcast_to(tiny.words(B, tiny.TEXT)[:, None], (B, T, tiny.TEXT))
    close(*(explained()(p, plan, c, text) for plan in (z, dirty)))


def grown(*edits):
    """A plan [B, T, ...] after edits (token, scale, kind, code) from the root."""
    spec, plan = tiny.system().spec, root_plan(tiny.system().spec, (B, T))
    for token, scale, kind, code in edits:
        site = jnp.full((B, T), site_index(token, scale, kind, spec.num_scales))
        assert forward_mask(plan, spec)[0, 0, site[0, 0]], "the test's own edit is illegal"
        plan, _ = apply_forward(plan, site, jnp.full((B, T), code), spec)
    return plan


@pytest.mark.parametrize("one, other", [
    pytest.param([(0, 0, 0, 1), (1, 0, 0, 2)], [(0, 0, 0, 2), (1, 0, 0, 1)], id="order of two states"),
    pytest.param([(0, 0, 0, 1), (0, 0, 1, 2)], [(0, 0, 0, 1), (1, 0, 1, 2)], id="edge that an action is on"),
    pytest.param([(0, 0, 2, 0), (0, 0, 1, 1)], [(0, 0, 2, 0), (0, 1, 1, 1)], id="scale of an action"),
    pytest.param([(0, 0, 1, 0)], [(0, 0, 1, 1)], id="code of an action"),
    pytest.param([(0, 0, 0, 0), (0, 0, 2, 0)], [(0, 0, 0, 0), (1, 0, 2, 0)], id="edge that is expanded"),
    pytest.param([(0, 0, 2, 0), (0, 1, 0, 1)], [(0, 0, 2, 0), (0, 1, 0, 2)], id="code of a fine state"),
])
def test_different_trees_get_different_answers(one, other):
    arguments = tiny.context(B), tiny.words(2, tiny.TEXT)
    a, b = (answers(2)(tiny.params(), grown(*edits), *arguments) for edits in (one, other))
    for name in ("log_stop", "energy", "flow"):
        assert np.abs(a[name] - b[name]).max() > 1e-3, name


# --- readers and others ---------------------------------------------------------------------------------------------


def test_a_mixed_batch_equals_separate_calls():
    """The first rows are those of a batch of readers, the others those of a batch without any text."""
    z, c, x, p = plans(2), tiny.context(B), tiny.words(B, tiny.TEXT), tiny.params()
    mixed = answers(2)(p, z, c, x[:2])
    close(rows(mixed, slice(0, 2)), rows(answers(B)(p, z, c, x), slice(0, 2)))
    close(rows(mixed, slice(2, B)), rows(answers(0)(p, z, c, None), slice(2, B)))


def test_only_the_readers_depend_on_the_text_each_on_its_own():
    readers = 2
    z, c, x = plans(3), tiny.context(B), tiny.words(readers, tiny.TEXT, full=True)
    call = functools.partial(answers(readers), tiny.params(), z, c)
    before, after = call(x), call(x.at[0, 3].set(3 + x[0, 3] % 5))
    change = np.abs(before["features"] - after["features"]).max((-1, -2))
    assert (change[0] > 1e-3).all() and not change[1:].any()


def test_steps_of_a_trajectory_do_not_see_each_other():
    z, other, c, x = plans(4), plans(40), tiny.context(B), tiny.words(2, tiny.TEXT)
    swapped = jax.tree.map(lambda u, v: v.at[:, 1].set(u[:, 1]), z, other)
    before, after = (answers(2)(tiny.params(), plan, c, x) for plan in (z, swapped))
    close(*(jax.tree.map(lambda y: y[:, 1], out) for out in (before, after)), atol=0)
    assert np.abs(before["features"] - after["features"])[:, 0].max() > 1e-3


def test_rows_do_not_see_each_other():
    z, c, x = plans(5), tiny.context(B), tiny.words(2, tiny.TEXT)
    other_z, other_c = plans(6), tiny.context(B, seed=1)
    swap = lambda a, b: jax.tree.map(lambda u, v: u.at[1].set(v[1]).at[2].set(v[2]), a, b)
    before = answers(2)(tiny.params(), z, c, x)
    after = answers(2)(tiny.params(), swap(z, other_z), swap(c, other_c), x)
    for b in (0, 3):
        close(rows(before, b), rows(after, b), atol=0)


def test_padding_of_the_text_is_not_read():
    """Another embedding of the padding word changes nothing; another one of a word that is read does."""
    z, c, p = plans(7), tiny.context(B), tiny.params()
    x = tiny.words(2, tiny.TEXT, full=True).at[:, 5:].set(0)
    encoder = p["encoder"]["encoder"]

    def embedded(word):
        table = encoder["word"]["table"].at[word].add(jnp.cos(jnp.arange(16.0)))
        return {**p, "encoder": {**p["encoder"], "encoder": {**encoder, "word": {"table": table}}}}

    base, padding, begin = (answers(2)(q, z, c, x) for q in (p, embedded(0), embedded(1)))
    close(base, padding)
    assert np.abs(base["features"] - begin["features"])[:2].max((1, 2, 3)).min() > 1e-3


def test_posterior_and_prior_have_heads_of_their_own():
    z, c, x = plans(8), tiny.context(B), tiny.words(2, tiny.TEXT)
    p = tiny.params()
    before = answers(2)(p, z, c, x)

    def shake(kind):
        turn = lambda v: jax.tree.map(lambda w: w + jnp.cos(jnp.arange(w.size)).reshape(w.shape), v)
        return {**p, "policy": {name: turn(v) if name.startswith(kind) else v for name, v in p["policy"].items()}}

    for kind, moved, kept in (("prior", slice(2, None), slice(0, 2)), ("posterior", slice(0, 2), slice(2, None))):
        after = answers(2)(shake(kind), z, c, x)
        close(rows(before, kept), rows(after, kept), atol=0)
        for name in ("log_stop", "log_site", "log_back", "codes", "flow"):
            assert np.abs(np.asarray(rows(before[name], moved)) - rows(after[name], moved)).max() > 1e-3, (kind, name)


def test_texts_are_read_without_a_look_at_the_plan():
    """What is read is computed once for all plans: the text stream's look at the plan is no part of it."""
    z, c, x, p = plans(9), tiny.context(B), tiny.words(B, tiny.TEXT), tiny.params()
    stack = p["encoder"]["encoder"]["stack"]
    text = {**stack["text_block"], "kv_plan": jax.tree.map(lambda w: -2 * w, stack["text_block"]["kv_plan"])}
    encoder = {**p["encoder"]["encoder"], "stack": {**stack, "text_block": text}}
    turned = {**p, "encoder": {**p["encoder"], "encoder": encoder}}
    close(*(answers(B)(q, z, c, x)["features"] for q in (p, turned)), atol=0)


# --- heads ----------------------------------------------------------------------------------------------------------


def test_edit_probabilities_are_normalised_over_what_is_legal():
    spec, z = tiny.system().spec, plans(10)
    can, undo = np.asarray(forward_mask(z, spec)), np.asarray(backward_mask(z, spec))
    assert not can.any(-1).all() and can.any(-1).any(), "some plans can go on, some cannot"
    out = jax.tree.map(np.asarray, answers(2)(tiny.params(), z, tiny.context(B), tiny.words(2, tiny.TEXT)))
    go = can.any(-1)
    for name, mask in (("log_site", can), ("log_back", undo)):
        some = mask.any(-1)
        np.testing.assert_allclose(np.exp(out[name])[some].sum(-1), 1.0, atol=1e-5)
        assert (np.exp(out[name][some])[~mask[some]] == 0).all() and (out[name][some][mask[some]] > NEG / 2).all()
    np.testing.assert_allclose((np.exp(out["log_stop"]) + np.exp(out["log_go"]))[go], 1.0, atol=1e-5)
    assert (out["log_stop"][go] < 0).all()
    assert (out["log_stop"][~go] == 0).all() and (out["log_go"][~go] < NEG / 2).all()


def test_codes_are_drawn_from_the_vocabulary_of_the_site():
    spec, z = tiny.system().spec, plans(11)
    codes = np.asarray(answers(2)(tiny.params(), z, tiny.context(B), tiny.words(2, tiny.TEXT))["codes"])
    for site in range(spec.num_sites):
        scale, kind = site // 3 % spec.num_scales, site % 3
        if kind < 2:
            size = (spec.state_codes, spec.action_codes)[kind][scale]
            begin = int(spec.offsets()[kind, scale])
            p = np.exp(codes[..., site, :])
            np.testing.assert_allclose(p[..., begin : begin + size].sum(-1), 1.0, atol=1e-5)
            assert (np.delete(p, np.arange(begin, begin + size), axis=-1) == 0).all()
            assert p[..., begin : begin + size].std() > 1e-4


def test_code_probabilities_depend_on_the_token_and_on_the_kind_of_site():
    assert tiny.system().spec.offsets().tolist() == [[0, 3], [12, 21]]
    p, call = tiny.params(), lambda p: np.asarray(answers(0)(p, plans(12), tiny.context(B), None)["codes"])
    codes = call(p)
    insert, act = codes[..., 0::6, :3], codes[..., 1::6, 12:21]  # at every token's edge of scale 0
    for some in (insert, act):
        assert np.abs(some[..., 0, :] - some[..., 1, :]).max() > 1e-3
    table = p["encoder"]["edit_embed"]["table"].at[1].add(jnp.cos(jnp.arange(16.0)))  # ACT at scale 0
    change = np.abs(call({**p, "encoder": {**p["encoder"], "edit_embed": {"table": table}}}) - codes)
    own = np.arange(codes.shape[-2]) % 6 == 1
    assert change[..., own, 12:21].max() > 1e-3 and not change[..., ~own, :].any()


def test_habit_reads_the_situation():
    net, p = tiny.system().net, tiny.params()
    logits = net(p, tiny.context(B), method="habit")
    assert logits.shape == (B, tiny.ACTIONS)
    assert np.abs(np.diff(np.asarray(logits), axis=0)).max(-1).min() > 1e-3
