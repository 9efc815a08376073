"""Ranking of plans by energy: against explicit loops in float64, and the direction in which it moves energies."""
import functools
import sys
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))
import tiny  # noqa: E402

from hjepa_gfn.objectives import ranking  # noqa: E402
from hjepa_gfn.objectives.cases import Case, encode_context, stack  # noqa: E402
from hjepa_gfn.objectives.energy import energy_of  # noqa: E402
from hjepa_gfn.objectives.windows import encode_start  # noqa: E402

ROWS = 6
OPTIONS = SimpleNamespace(partial=0.0, energy_decay=0.0)


def test_all_pairs_is_the_mean_over_every_known_pair():
    rng = np.random.default_rng(0)
    low, high = rng.normal(size=(2, 7)) * 3
    known = np.array([1, 1, 0, 1, 1, 0, 1], bool)
    told = np.array([1, 0, 1, 1, 1, 1, 0], bool)
    terms = [np.logaddexp(0.0, low[i] - high[j]) for i in range(7) for j in range(7) if known[i] and told[j]]
    found = ranking.all_pairs(*(jnp.asarray(x, jnp.float32) for x in (low, high)), jnp.asarray(known), jnp.asarray(told))
    np.testing.assert_allclose(found, np.mean(terms), rtol=1e-5)
    nothing = jnp.zeros(7, bool)
    assert float(ranking.all_pairs(jnp.asarray(low), jnp.asarray(high), nothing, jnp.asarray(told))) == 0.0


@functools.cache
def situations():
    system, params = tiny.system(), tiny.params()
    percept = tiny.percepts(ROWS)
    plans = [tiny.random_plans(system.spec, jax.random.key(seed), ROWS) for seed in (1, 2)]
    known = jnp.asarray([True, True, False, True, True, True]), jnp.asarray([True, False, True, True, True, True])
    start, mission = encode_start(system, params, percept), tiny.words(ROWS, tiny.MISSION)
    return [Case(percept, start, mission, plan, some) for plan, some in zip(plans, known)]


def test_rank_loss_equals_its_equation_and_pushes_energies_apart():
    system, params = tiny.system(), tiny.params()
    told, of_draft = situations()
    loss_fn = jax.jit(lambda p: ranking.rank_loss(p, jax.random.key(0), told, of_draft, system, OPTIONS))

    @jax.jit
    def energies(p):
        context, ground = encode_context(system, p, told)
        return energy_of(system, p, stack(told.observed, of_draft.observed), context, ground)

    e = np.asarray(energies(params), np.float64)
    known, both = np.asarray(told.known), np.asarray(told.known & of_draft.known)
    own = np.mean([np.logaddexp(0, e[i, 0] - e[i, 1]) for i in range(ROWS) if both[i]])
    other = np.asarray(of_draft.known)
    every = np.mean([np.logaddexp(0, e[i, 0] - e[j, 1]) for i in range(ROWS) for j in range(ROWS) if known[i] and other[j]])
    loss, metrics = loss_fn(params)
    np.testing.assert_allclose(loss, 0.5 * (own + every), rtol=1e-4)
    np.testing.assert_allclose(metrics["accuracy_imagined"], np.mean(e[both, 0] < e[both, 1]), rtol=1e-6)

    grads = jax.jit(jax.grad(lambda p: loss_fn(p)[0]))(params)
    moved = {**params, "model": jax.tree.map(lambda p, g: p - 0.05 * g, params["model"], grads["model"])}
    after = np.asarray(energies(moved), np.float64)
    gap = lambda x: (x[other, 1].mean() - x[known, 0].mean())  # noqa: E731
    assert gap(after) > gap(e), "executed plans must come to lie lower than drafts' plans"
