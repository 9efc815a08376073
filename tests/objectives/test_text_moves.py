"""The move of explanations: its exact transition matrix over all texts of a tiny vocabulary, and the sampler against it."""

import functools
import itertools
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))
import few  # noqa: E402
import tiny  # noqa: E402

from hjepa_gfn.gflownet.exact import normalise  # noqa: E402
from hjepa_gfn.gflownet.schedules import Halving, Uniform  # noqa: E402
from hjepa_gfn.objectives.text_moves import Said, num_words, rewrite, said, text_log_ratio  # noqa: E402


@functools.cache
def spoken():
    """What the explainer says of all texts about one plan: Said [texts, X-1]."""
    plan = few.repeated(5, 1)
    context = tiny.context(1)
    system, params, _ = few.small()
    pair = jax.tree.map(lambda x: jnp.repeat(x[:, None], len(few.TEXTS), axis=1), plan)
    out = jax.jit(lambda texts: said(system, params, pair, context, texts))(few.TEXTS[None])
    return jax.tree.map(lambda x: np.asarray(x[0]), out)


def every_move(schedule, step):
    """(from, to, K, log probability of proposing it) of every text, number of words taken back, and text that can follow."""
    lengths, about = np.asarray(num_words(few.TEXTS)), spoken()
    rows = []
    for i, j in itertools.product(range(len(few.TEXTS)), repeat=2):
        for k in range(lengths[i] + 1):
            kept = lengths[i] - k
            closed = kept == few.LENGTH - 1 or (kept > 0 and few.TEXTS[i, kept] == 2)  # nothing can follow
            same = (few.TEXTS[i, : kept + 1] == few.TEXTS[j, : kept + 1]).all()
            if same and (lengths[j] == kept if closed else lengths[j] > kept):
                log_q = float(schedule.log_prob(jnp.int32(k), jnp.int32(lengths[i]), step))
                rows.append((i, j, k, log_q + about.written[j, kept:].sum()))
    old, new, steps, proposed = (np.array(x) for x in zip(*rows, strict=True))
    return old, new, steps, proposed


def drift(schedule, tau, ratio=text_log_ratio, step=1):
    """Largest change of p(x|z)^(1/tau) over its sum under one move."""
    lengths, about = num_words(few.TEXTS), spoken()
    old, new, steps, proposed = every_move(schedule, step)
    of = lambda i: Said(about.target[i], about.written[i])  # noqa: E731
    log_ratio = ratio(of(old), of(new), lengths[old], lengths[new], jnp.asarray(steps), schedule, step, tau)
    matrix = np.zeros((len(few.TEXTS),) * 2)
    np.add.at(matrix, (old, old), np.exp(proposed))
    np.testing.assert_allclose(matrix.diagonal(), 1.0, atol=1e-5)  # every proposal was found
    matrix[:] = 0
    np.add.at(matrix, (old, new), np.exp(proposed + np.minimum(log_ratio, 0.0)))
    matrix[np.diag_indices(len(matrix))] += 1.0 - matrix.sum(1)
    p = np.exp(normalise(about.target.sum(-1) / tau)[0])
    return np.abs(p @ matrix - p).max()


@pytest.mark.parametrize("schedule", [Uniform(), Halving(0.3)], ids=str)
@pytest.mark.parametrize("tau", [1.0, 0.5])
def test_texts_are_stationary_in_the_exact_transition_matrix(schedule, tau):
    assert drift(schedule, tau) < 1e-6


class Forgotten(Uniform):
    """A ratio without q(K|n)."""

    def log_prob(self, k, length, step=0):
        return jnp.zeros_like(super().log_prob(k, length, step))


@pytest.mark.parametrize("wrong", ["no q", "no w", "no p", "sign", "shifted cut"])
def test_every_part_of_the_ratio_is_needed(wrong):
    def ratio(old, new, n_old, n_new, steps, schedule, step, tau):
        if wrong == "no q":
            schedule = Forgotten()
        if wrong == "no w":
            old, new = (x._replace(written=jnp.zeros_like(x.written)) for x in (old, new))
        if wrong == "no p":
            old, new = (x._replace(target=jnp.zeros_like(x.target)) for x in (old, new))
        if wrong == "shifted cut":
            old, new = (x._replace(written=jnp.roll(x.written, 1, -1)) for x in (old, new))
        value = text_log_ratio(old, new, n_old, n_new, steps, schedule, step, tau)
        return -value if wrong == "sign" else value

    assert drift(Uniform(), 0.5, ratio) > 1e-3


def test_the_sampler_keeps_the_exact_distribution_and_leaves_another():
    system, params, _ = few.small()
    chains = 3000
    plan, context = few.repeated(5, chains), few.contexts(chains)
    move = jax.jit(lambda key, text, step: rewrite(system, params, key, plan, context, text, Uniform(), step, 2.0))
    target = spoken().target.sum(-1)
    p = np.exp(normalise(target / 2.0)[0])
    start = where = np.random.default_rng(0).choice(len(p), chains, p=p)
    for seed in range(4):
        text, log_text, accepted, written = move(jax.random.key(seed), few.TEXTS[where], seed)
        after = few.number_of(text)
        np.testing.assert_allclose(log_text, target[after], atol=1e-4)
        assert (after[~np.asarray(accepted)] == where[~np.asarray(accepted)]).all()
        assert written.min() == 0 and written.max() == few.LENGTH - 1
        where = after
    assert (where != start).mean() > 0.2
    assert few.far(np.bincount(where, minlength=len(p)), p) < 5
    even = np.random.default_rng(1).choice(len(p), chains)
    drifted = few.number_of(move(jax.random.key(9), few.TEXTS[even], 0)[0])
    assert few.far(np.bincount(drifted, minlength=len(p)), p) < 0.8 * few.far(np.bincount(even, minlength=len(p)), p)
