"""Finite scalar quantisation: codes, grid points and the straight-through gradient."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hjepa_gfn.models import fsq

GRIDS = [(5, 5, 3), (3,), (7, 3, 5, 3)]


@pytest.mark.parametrize("levels", GRIDS)
def test_every_code_names_its_own_grid_point(levels):
    codes = jnp.arange(fsq.num_codes(levels))
    grid = np.asarray(fsq.from_code(codes, levels))
    expected = np.array(list(itertools.product(*(np.linspace(-1, 1, n) for n in levels))))
    np.testing.assert_allclose(sorted(grid.round(5).tolist()), sorted(expected.round(5).tolist()), atol=1e-5)
    np.testing.assert_array_equal(fsq.to_code(grid, levels), codes)


@pytest.mark.parametrize("levels", GRIDS)
def test_grid_points_of_real_vectors_are_those_of_their_codes(levels):
    u = jax.random.normal(jax.random.key(0), (500, len(levels))) * 2
    grid = fsq.quantise(u, levels)
    np.testing.assert_allclose(fsq.from_code(fsq.to_code(grid, levels), levels), grid, atol=1e-6)


def test_quantise_rounds_the_squashed_value_to_the_nearest_grid_point():
    u = np.linspace(-4, 4, 401)
    squashed = np.tanh(u) * 2.4  # five levels: -2 .. 2, and 0.4 of room at both ends
    np.testing.assert_allclose(fsq.quantise(jnp.asarray(u)[:, None], (5,))[:, 0],
                               np.clip(np.round(squashed), -2, 2) / 2, atol=1e-6)
    np.testing.assert_allclose(fsq.bound(jnp.asarray(u)[:, None], (5,))[:, 0], squashed, atol=1e-5)


def test_every_level_is_reached():
    u = jnp.linspace(-4, 4, 2001)[:, None]
    assert sorted(set(np.asarray(fsq.to_code(fsq.quantise(u, (7,)), (7,))).tolist())) == list(range(7))


def test_the_gradient_is_that_of_the_squashing():
    levels = (5, 3)
    u = jnp.array([[0.3, -0.7], [2.0, 0.01]])
    grad = jax.grad(lambda u: (fsq.quantise(u, levels) * jnp.array([1.0, 10.0])).sum())(u)
    half = (np.array(levels) - 1) / 2
    np.testing.assert_allclose(grad, (1 - np.tanh(u) ** 2) * (half + 0.4) / half * [1.0, 10.0], rtol=1e-5)
