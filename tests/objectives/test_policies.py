"""Sampled trajectories: legal, consistent, distributed as the policies say, in both directions, and evaluated again."""

import functools
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))
import tiny  # noqa: E402

from hjepa_gfn.objectives.cases import take  # noqa: E402
from hjepa_gfn.objectives.policies import (  # noqa: E402
    Exploration,
    at_end,
    evaluate,
    log_prob_of_path,
    sample_paths,
    vocabulary_index,
)
from hjepa_gfn.plans import (  # noqa: E402
    EXPAND,
    INSERT,
    apply_backward,
    apply_forward,
    backward_mask,
    forward_mask,
    root_plan,
    split_site,
)
from hjepa_gfn.plans.enumeration import canonical_keys  # noqa: E402

SYSTEM, SPEC = tiny.system(), tiny.system().spec
N = 500  # rows of each kind: posterior forward, posterior backward, prior forward, prior backward
FORWARD = np.repeat([True, False, True, False], N)
KINDS = {name: slice(i * N, (i + 1) * N) for i, name in enumerate(("told", "told_back", "untold", "untold_back"))}
PLAIN, BOLD = Exploration(), Exploration(temperature=3.0, epsilon=0.5)


def kept(forward, yes, no):
    return jax.tree.map(lambda y, n: jnp.where(forward.reshape(-1, *(1,) * (n.ndim - 1)), y, n), yes, no)


@functools.cache
def setting():
    """(starts, context, text of the first 2N rows) of one situation; the last N rows undo the same full plan."""
    plans = tiny.random_plans(SPEC, jax.random.key(3), 4 * N)
    fullest = int(np.argmax(np.asarray(plans.num_edits)))
    same = np.where(np.arange(4 * N) < 3 * N, np.arange(4 * N), fullest)
    context = jax.tree.map(lambda x: jnp.repeat(x, 4 * N, axis=0), tiny.context(1))
    return kept(FORWARD, root_plan(SPEC, (4 * N,)), take(plans, same)), context, jnp.repeat(
        tiny.words(1, tiny.TEXT, seed=4), 2 * N, axis=0)


@functools.cache
def sampler(explore):
    return jax.jit(lambda p, key, start, forward, context, text, steps: sample_paths(
        SYSTEM, p, key, start, forward, context, text, steps, explore))


@functools.cache
def sampled(partly=False, explore=PLAIN):
    """Trajectories of all rows; with `partly`, those that go back undo half of their edits."""
    start, context, text = setting()
    steps = start.num_edits // 2 if partly else start.num_edits
    paths = sampler(explore)(tiny.params(), jax.random.key(1), start, jnp.asarray(FORWARD), context, text, steps)
    return jax.tree.map(np.asarray, paths)


def names_of(plans):
    """An integer naming each tree."""
    return np.array([hash(name) for name in canonical_keys(plans)])


def assert_consistent(paths):
    """Every real step is a legal forward edit and its label the legal inverse; past the end the last state stands."""
    flat = lambda x: x.reshape(-1, *x.shape[2:])
    before, after = (
        jax.tree.map(lambda x, s=s: flat(x[:, s]), paths.states) for s in (slice(None, -1), slice(1, None)))
    site, code, undo, edge = map(flat, (*paths.action, paths.undo, np.asarray(paths.edge)))
    assert (np.take_along_axis(np.asarray(can(before)), site[:, None], 1)[edge]).all()
    assert (np.take_along_axis(np.asarray(may_undo(after)), undo[:, None], 1)[edge]).all()
    _, scale, kind = split_site(site, SPEC.num_scales)
    size = np.where(kind == INSERT, np.array(SPEC.state_codes)[scale], np.array(SPEC.action_codes)[scale])
    assert ((code >= 0) & (code < np.where(kind == EXPAND, 1, size)))[edge].all()
    old, new = names_of(before), names_of(after)
    np.testing.assert_array_equal(names_of(go(before, site, code)[0])[edge], new[edge])
    np.testing.assert_array_equal(names_of(back(after, undo)[0])[edge], old[edge])
    np.testing.assert_array_equal(new[~edge], old[~edge])
    np.testing.assert_array_equal(np.diff(paths.states.num_edits), np.asarray(paths.edge))


can, may_undo = (jax.jit(lambda plan, f=f: f(plan, SPEC)) for f in (forward_mask, backward_mask))
go, back = jax.jit(lambda *a: apply_forward(*a, SPEC)), jax.jit(lambda *a: apply_backward(*a, SPEC))
FEW = np.arange(0, 4 * N, 25)


@pytest.mark.parametrize("partly", [False, True])
def test_trajectories_are_legal_edit_by_edit_in_both_directions(partly):
    start, ahead = take(jax.tree.map(np.asarray, setting()[0]), FEW), FORWARD[FEW]
    paths = take(sampled(partly), FEW)
    assert_consistent(paths)
    length, edits = np.asarray(paths.length), start.num_edits
    expected = edits[~ahead] // 2 if partly else edits[~ahead]
    assert length[~ahead].tolist() == expected.tolist() and expected.max() > 3
    # those that go forward begin at their start, the root; those that go back end in theirs
    jax.tree.map(np.testing.assert_array_equal, take(paths.first, ahead), take(start, ahead))
    jax.tree.map(np.testing.assert_array_equal, take(paths.final, ~ahead), take(start, ~ahead))
    assert (paths.first.num_edits == edits - np.where(ahead, 0, length)).all()
    assert len(set(length[ahead].tolist())) > 3
    if not partly:
        assert len(set(names_of(paths.first))) == 1


def test_exploration_never_leaves_what_is_legal():
    assert_consistent(take(sampled(explore=BOLD), FEW))


def test_log_probabilities_of_a_path_equal_those_of_its_steps_one_by_one():
    """Two kinds of rows, each with its own situation and text, both directions of sampling."""
    some = np.concatenate([np.arange(4) + kind.start for kind in KINDS.values()])
    paths, p, rows, readers = take(sampled(), some), tiny.params(), 16, 8
    context, text = tiny.context(rows, seed=2), tiny.words(readers, tiny.TEXT, seed=2)

    @jax.jit
    def one(plan):
        """Everything about one state a row, from one network call."""
        seen = jax.tree.map(lambda x: x[:, None], plan)
        features = SYSTEM.net(p, seen, context, text, method="features")
        sites = jnp.broadcast_to(jnp.arange(SPEC.num_sites), (rows, SPEC.num_sites))
        codes = jax.vmap(lambda s: SYSTEM.net(p, features[:, 0], s, readers, method="codes"), 1, 1)(sites)
        return jax.tree.map(lambda x: x[:, 0], SYSTEM.net(p, features, seen, readers, method="edits")), codes

    path = jax.tree.map(np.asarray, jax.jit(lambda z: evaluate(SYSTEM, p, z, context, text))(paths))
    expected = {"forward": np.zeros((rows, SPEC.max_edits)), "backward": np.zeros((rows, SPEC.max_edits)),
                "stop": np.zeros((rows, SPEC.max_edits + 1))}
    for t in range(SPEC.max_edits + 1):
        logits, codes = jax.tree.map(np.asarray, one(jax.tree.map(lambda x, t=t: x[:, t], paths.states)))
        expected["stop"][:, t] = logits.log_stop
        for b in np.flatnonzero(paths.length > t):
            site, code = paths.action.site[b, t], paths.action.code[b, t]
            _, scale, kind = split_site(int(site), SPEC.num_scales)
            coded = 0.0 if kind == EXPAND else codes[b, site, SPEC.offsets()[kind, scale] + code]
            expected["forward"][b, t] = logits.log_go[b] + logits.log_site[b, site] + coded
        for b in np.flatnonzero((paths.length >= t) & (t > 0)):
            expected["backward"][b, t - 1] = logits.log_back[b, paths.undo[b, t - 1]]
    for name, value in expected.items():
        np.testing.assert_allclose(getattr(path, name), value, atol=1e-4, err_msg=name)
    total = [expected["forward"][b].sum() + expected["stop"][b, paths.length[b]] for b in range(rows)]
    np.testing.assert_allclose(log_prob_of_path(path, paths), total, atol=1e-4)
    assert path.forward.min() > -100 and (path.forward[paths.edge] < 0).all()


def test_values_at_the_end_are_taken_at_each_length():
    paths = sampled()
    values = np.arange(4 * N)[:, None] * 100 + np.arange(SPEC.max_edits + 1)
    assert at_end(values, paths).tolist() == (np.arange(4 * N) * 100 + paths.length).tolist()


def test_vocabulary_entries_of_codes():
    sites = np.arange(SPEC.num_sites)
    scale, kind = sites // 3 % 2, sites % 3
    assert SPEC.offsets().tolist() == [[0, 3], [12, 21]]
    expected = [((0, 3), (12, 21), (0, 0))[k][d] + 1 for d, k in zip(scale, kind)]
    found = np.asarray(vocabulary_index(SPEC, jnp.asarray(sites), 1))
    assert (found == expected)[kind < 2].all() and (found < SPEC.vocabulary).all()


# --- frequencies ----------------------------------------------------------------------------------------------------


def agree(counts, probs):
    """Pearson's statistic of counts against probabilities stays within five deviations of its mean."""
    counts, probs = np.asarray(counts, np.float64), np.asarray(probs, np.float64)
    assert not counts[probs < 1e-12].any(), "something impossible was drawn"
    np.testing.assert_allclose(probs.sum(), 1.0, atol=1e-4)
    expected = probs * counts.sum()
    rare = expected < 4
    pool = lambda x: np.append(x[~rare], x[rare].sum())
    counts, expected = pool(counts), np.maximum(pool(expected), 1e-9)
    statistic = np.sum((counts - expected) ** 2 / np.maximum(expected, 1.0))
    degrees = len(counts) - 1
    assert degrees > 3 and statistic < degrees + 5 * np.sqrt(2 * degrees)


@functools.cache
def first_decision():
    """Probabilities at the first decision of each kind of row: (EditLogits [4, ...], codes [4, sites, vocabulary])."""
    start, context, text = setting()

    @jax.jit
    def call(p, z, c, x):
        seen = jax.tree.map(lambda s: s[:, None], z)
        features = SYSTEM.net(p, seen, c, x, method="features")
        sites = jnp.broadcast_to(jnp.arange(SPEC.num_sites), (4, SPEC.num_sites))
        codes = jax.vmap(lambda s: SYSTEM.net(p, features[:, 0], s, 2, method="codes"), 1, 1)(sites)
        return jax.tree.map(lambda s: s[:, 0], SYSTEM.net(p, features, seen, 2, method="edits")), codes

    firsts = np.array([kind.start for kind in KINDS.values()])
    return jax.tree.map(np.asarray, call(tiny.params(), take(start, firsts), take(context, firsts), text[:2]))


def first_edits(paths, rows):
    """Counts of (site, code in the joint vocabulary) of the first edit of some rows, and how many stopped at once."""
    moved = paths.length[rows] > 0
    site, code = paths.action.site[rows, 0][moved], paths.action.code[rows, 0][moved]
    table = np.zeros((SPEC.num_sites, SPEC.vocabulary))
    np.add.at(table, (site, np.where(site % 3 == EXPAND, 0, vocabulary_index(SPEC, site, code))), 1)
    return np.append(table.ravel(), (~moved).sum())


def tempered(log_p, temperature):
    with np.errstate(under="ignore"):
        p = np.exp((log_p - log_p.max(-1, keepdims=True)) / temperature)
    return p / p.sum(-1, keepdims=True)


@pytest.mark.parametrize("explore", [PLAIN, BOLD], ids=["plain", "bold"])
@pytest.mark.parametrize("kind", ["told", "untold"])
def test_first_edits_follow_the_policy(explore, kind):
    logits, codes = first_decision()
    row = list(KINDS).index(kind)
    odds = (logits.log_stop[row] - logits.log_go[row]) / explore.temperature
    stop, site = 1 / (1 + np.exp(-odds)), tempered(logits.log_site[row], explore.temperature)
    legal = logits.log_site[row] > -1e8
    code = tempered(codes[row], explore.temperature)
    code[2::3] = np.arange(SPEC.vocabulary) == 0  # EXPAND has no code
    share = lambda stop, site: np.append(((1 - stop) * site[:, None] * code).ravel(), stop)
    expected = (1 - explore.epsilon) * share(stop, site) + explore.epsilon * share(0.5, legal / legal.sum())
    agree(first_edits(sampled(explore=explore), KINDS[kind]), expected)


def test_first_undone_edits_follow_the_backward_policy():
    kind = KINDS["untold_back"]
    length = sampled().length[kind]
    undone = sampled().undo[kind][np.arange(N), length - 1]
    probs = np.exp(first_decision()[0].log_back[3])
    assert (probs > 0.02).sum() > 4, "there should be a choice"
    agree(np.bincount(undone, minlength=SPEC.num_sites), probs)
