"""K schedules: what is drawn has the probability that log_prob says, and log_prob is a distribution over 0..n."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hjepa_gfn.gflownet.schedules import Fixed, Geometric, Halving, Uniform

LENGTHS = np.array([0, 1, 2, 5, 8])
SCHEDULES = [(Uniform(), 0), (Geometric(0.6), 0), (Fixed(3), 0), (Fixed(3, 0.2), 0), (Halving(0.0), 0), (Halving(0.3), 1)]
ids = lambda x: str(x)


def table(schedule, step):
    """q(k|n) [lengths, k = -1..10]."""
    k = jnp.arange(-1, 11)
    return np.exp(np.asarray(schedule.log_prob(k[None], jnp.asarray(LENGTHS)[:, None], step)))


@pytest.mark.parametrize("schedule, step", SCHEDULES, ids=ids)
def test_probabilities_sum_to_one_over_what_is_possible(schedule, step):
    q = table(schedule, step)
    np.testing.assert_allclose(q.sum(1), 1.0, rtol=1e-5)
    for row, n in zip(q, LENGTHS):
        assert row[0] == 0 and not row[n + 2:].any()


@pytest.mark.parametrize("schedule, step", SCHEDULES, ids=ids)
def test_draws_follow_the_probabilities(schedule, step):
    grid = (np.arange(20_000) + 0.5) / 20_000  # every part of the unit interval: no luck needed
    length = jnp.broadcast_to(jnp.asarray(LENGTHS), (len(grid), len(LENGTHS)))
    drawn = np.asarray(schedule.draw(jnp.broadcast_to(jnp.asarray(grid, jnp.float32)[:, None], length.shape), length, step))
    assert drawn.dtype == np.int32
    q = table(schedule, step)
    for i in range(len(LENGTHS)):
        share = np.bincount(drawn[:, i], minlength=11) / len(grid)
        np.testing.assert_allclose(share, q[i, 1:], atol=3e-4)


@pytest.mark.parametrize("schedule, step", SCHEDULES, ids=ids)
def test_the_ends_of_the_unit_interval_stay_in_range(schedule, step):
    for u in (0.0, 1e-7, 1 - 2.0**-24):
        drawn = np.asarray(schedule.draw(jnp.full(len(LENGTHS), u), jnp.asarray(LENGTHS), step))
        assert (drawn >= 0).all() and (drawn <= LENGTHS).all()


def test_fixed_is_capped_and_halving_halves():
    length = jnp.asarray(LENGTHS)
    assert Fixed(3).aim(length, 0).tolist() == [0, 1, 2, 3, 3]
    assert [Halving(0.0).aim(length, s).tolist() for s in range(4)] == [
        [0, 1, 1, 2, 4], [0, 1, 1, 1, 2], [0, 1, 1, 1, 1], [0, 1, 1, 1, 1]]


def test_what_cannot_be_given_back_has_no_probability():
    assert Fixed(2).log_prob(jnp.int32(3), jnp.int32(5)) == -jnp.inf
    assert Fixed(2, mix=0.1).log_prob(jnp.int32(3), jnp.int32(5)) > -jnp.inf
    assert jax.jit(Halving(0.0).log_prob)(jnp.int32(2), jnp.int32(8), jnp.int32(0)) == -jnp.inf
