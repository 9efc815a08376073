"""Parallel chains in one scan; autocorrelation times against processes whose time is known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hjepa_gfn.gflownet.chains import (
    Acceptance,
    autocorrelation,
    effective_sample_size,
    integrated_autocorrelation_time,
    run_chains,
)


def ar1(rho, chains, length, seed=0):
    """x_t = rho x_{t-1} + noise, started in its stationary law: tau = (1 + rho) / (1 - rho)."""
    rng = np.random.default_rng(seed)
    x = np.empty((chains, length))
    x[:, 0] = rng.normal(size=chains) / np.sqrt(1 - rho**2)
    for t in range(1, length):
        x[:, t] = rho * x[:, t - 1] + rng.normal(size=chains)
    return x


@pytest.mark.parametrize("rho", [0.0, 0.5, 0.9, -0.4])
def test_autocorrelation_time_of_an_ar1_process(rho):
    x = ar1(rho, chains=16, length=20_000)
    expected = (1 + rho) / (1 - rho)
    assert integrated_autocorrelation_time(x) == pytest.approx(expected, rel=0.08)
    assert effective_sample_size(x) == pytest.approx(x.size / expected, rel=0.08)
    np.testing.assert_allclose(autocorrelation(x)[:4], rho ** np.arange(4.0), atol=0.02)


def test_the_variance_of_a_mean_is_what_the_effective_sample_size_says():
    means = [ar1(0.8, 1, 4000, seed).mean() for seed in range(200)]
    x = ar1(0.8, 8, 20_000, seed=1000)
    per_series = 4000 / integrated_autocorrelation_time(x)
    assert np.var(means) == pytest.approx(x.var() / per_series, rel=0.25)


def test_one_series_and_a_constant_one():
    x = ar1(0.5, 1, 20_000)[0]
    assert integrated_autocorrelation_time(x) == integrated_autocorrelation_time(x[None])
    assert integrated_autocorrelation_time(np.ones(50)) == 50.0


def test_chains_stuck_in_different_places_count_as_one_draw_each():
    x = np.repeat(np.arange(4.0)[:, None], 100, axis=1) + 1e-3 * ar1(0.0, 4, 100)
    assert integrated_autocorrelation_time(x) > 50


def test_chains_advance_together_and_acceptance_is_counted_by_k():
    """Chain b adds its number at even moves only; K is the chain's number modulo 3."""
    chains, moves = 5, 7
    steps = jnp.arange(chains) % 3

    def step_fn(key, state, number):
        accepted = jnp.broadcast_to(number % 2 == 0, (chains,))
        return {"x": state["x"] + jnp.where(accepted, jnp.arange(chains), 0)}, accepted, steps

    start = {"x": jnp.zeros(chains, jnp.int32)}
    last, seen, trace = jax.jit(lambda keys: run_chains(step_fn, start, keys, 3, lambda s: s["x"]))(
        jax.random.split(jax.random.key(0), moves))
    assert last["x"].tolist() == [4 * b for b in range(chains)]
    assert trace.shape == (moves, chains) and trace[:, 1].tolist() == [1, 1, 2, 2, 3, 3, 4]
    assert seen.proposed.tolist() == [14, 14, 7, 0] and seen.accepted.tolist() == [8, 8, 4, 0]
    np.testing.assert_allclose(seen.overall, 20 / 35)
    assert np.isnan(seen.rate[3])
    assert run_chains(step_fn, start, jax.random.split(jax.random.key(0), 2), 3)[2] is None


def test_every_move_gets_its_own_key():
    step_fn = lambda key, state, number: (jax.random.uniform(key, (2,)), jnp.ones(2, bool), jnp.zeros(2, jnp.int32))
    _, _, trace = run_chains(step_fn, jnp.zeros(2), jax.random.split(jax.random.key(0), 6), 1, lambda s: s)
    assert len(set(np.asarray(trace).ravel().tolist())) == 12


def test_no_moves_have_no_rate():
    assert Acceptance(jnp.zeros(2, jnp.int32), jnp.zeros(2, jnp.int32)).overall == 0.0
