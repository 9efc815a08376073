"""The loss of the JEPA of pixels against numpy, and what each of its weights does."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hjepa_gfn.distributed import unbox
from hjepa_gfn.models.pixel_jepa import PixelJepa, PixelSizes, init_pixel_jepa
from hjepa_gfn.objectives.pixel_jepa import PixelWeights, pixel_jepa_loss

MODEL = PixelJepa(PixelSizes(state=5, patch=4, channels=4, hidden=8))
B, K = 6, 3


@pytest.fixture(scope="module")
def case():
    """(params, pixels, action, what the networks say, as float64): z [B, K+1, Z], one step on, actions."""
    params = unbox(init_pixel_jepa(MODEL, jax.random.key(0), (8, 8, 2)))
    pixels = jax.random.uniform(jax.random.key(1), (B, K + 1, 8, 8, 2))
    action = jax.random.normal(jax.random.key(2), (B, K, 2))
    return params, pixels, action


@functools.partial(jax.jit, static_argnames="method")
def apply(params, *args, method):
    return MODEL.apply({"params": params}, *args, method=method)


def reference(params, pixels, action, weights):
    """The terms in float64, step by step, from the networks' outputs."""
    z = np.asarray(apply(params, pixels, method="encode"), np.float64)
    errors = []
    for h in range(1, K + 1):
        of_h = []
        for t in range(K + 1 - h):
            ahead = jnp.asarray(z[:, t], jnp.float32)
            for s in range(h):
                ahead = apply(params, ahead, action[:, t + s], method="predict")
            of_h.append(((np.asarray(ahead, np.float64) - z[:, t + h]) ** 2).mean())
        errors.append(np.mean(of_h))
    flat = z.reshape(-1, z.shape[-1])
    c = np.cov(flat.T, bias=True)
    inverted = np.asarray(apply(params, z[:, :-1].astype(np.float32), z[:, 1:].astype(np.float32), method="invert"), np.float64)
    terms = {
        "prediction": np.mean(errors), "variance": np.maximum(0, 1 - np.sqrt(np.diag(c) + 1e-4)).mean(),
        "covariance": (c[~np.eye(len(c), dtype=bool)] ** 2).mean(), "similarity": ((z[:, 1:] - z[:, :-1]) ** 2).mean(),
        "inverse": ((inverted - np.asarray(action, np.float64)) ** 2).mean(), "one_step": errors[0]}
    weighted = [getattr(weights, name) * terms[name] for name in ("variance", "covariance", "similarity", "inverse")]
    return terms, terms["prediction"] + sum(weighted)


def test_the_loss_against_float64(case):
    params, pixels, action = case
    weights = PixelWeights(3.0, 5.0, 7.0, 11.0)
    loss, terms = jax.jit(lambda p: pixel_jepa_loss(p, None, jax.random.key(3), pixels, action, MODEL, weights))(params)
    expected, total = reference(params, pixels, action, weights)
    for name, value in expected.items():
        assert float(terms[name]) == pytest.approx(value, rel=2e-4, abs=1e-6), name
    assert float(loss) == pytest.approx(total, rel=2e-4)
    assert terms["sigreg"] == 0.0


def test_prediction_from_the_first_state_alone(case):
    """EB-JEPA's: a walk's first z is predicted from, over fewer steps than the walk has; all else sees the whole walk."""
    params, pixels, action = case
    weights = PixelWeights(3.0, 5.0, 7.0, 11.0)
    loss, terms = jax.jit(
        lambda p: pixel_jepa_loss(p, None, jax.random.key(3), pixels, action, MODEL, weights, 2, True))(params)
    z = np.asarray(apply(params, pixels, method="encode"), np.float64)
    state, errors = jnp.asarray(z[:, 0], jnp.float32), []
    for t in range(2):
        state = apply(params, state, action[:, t], method="predict")
        errors.append(((np.asarray(state, np.float64) - z[:, t + 1]) ** 2).mean())
    assert float(terms["prediction"]) == pytest.approx(np.mean(errors), rel=1e-4)
    assert float(terms["one_step"]) == pytest.approx(errors[0], rel=1e-4)
    expected, total = reference(params, pixels, action, weights)
    assert float(terms["similarity"]) == pytest.approx(expected["similarity"], rel=1e-4)
    assert float(loss) == pytest.approx(total - expected["prediction"] + np.mean(errors), rel=1e-4)


def test_sigreg_enters_with_its_weight(case):
    params, pixels, action = case
    weights = PixelWeights(0.0, 0.0, 0.0, 0.0, 0.5)
    loss, terms = jax.jit(lambda p: pixel_jepa_loss(p, None, jax.random.key(3), pixels, action, MODEL, weights))(params)
    assert float(terms["sigreg"]) > 0.0
    assert float(loss) == pytest.approx(float(terms["prediction"] + 0.5 * terms["sigreg"]), rel=1e-5)


def test_targets_of_the_slow_copy_take_no_gradient_and_change_the_loss(case):
    params, pixels, action = case
    weights = PixelWeights(0.0, 0.0, 0.0, 0.0)
    of = jax.jit(jax.value_and_grad(
        lambda p, s: pixel_jepa_loss(p, s, jax.random.key(3), pixels, action, MODEL, weights)[0], (0, 1)))
    loss, (_, into_slow) = of(params, jax.tree.map(lambda x: 0.5 * x, params))
    assert all(float(jnp.abs(g).max()) == 0.0 for g in jax.tree.leaves(into_slow))
    copied, (stopped, _) = of(params, params)
    own, (whole, _) = of(params, None)
    assert float(own) == pytest.approx(float(copied), rel=1e-6), "the same copy gives the same loss, if not the same gradient"
    assert abs(float(loss) - float(own)) > 1e-4
    assert any(float(jnp.abs(a - b).max()) > 1e-6 for a, b in zip(jax.tree.leaves(whole), jax.tree.leaves(stopped)))


def test_unrolling_is_predicting_again_and_again(case):
    params, pixels, action = case
    z = apply(params, pixels[:, 0], method="encode")
    ahead = apply(params, z, action, method="unroll")
    for k in range(K):
        z = apply(params, z, action[:, k], method="predict")
        np.testing.assert_allclose(ahead[:, k], z, rtol=1e-5, atol=1e-6)
