"""The hierarchical mixture: densities and exact EM against independent float64 sums, GFlowNet-EM against exact EM."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from hjepa_gfn.gflownet.em import EMOptions, init_em, joined, log_joint, make_em_step
from hjepa_gfn.gflownet.enumeration import enumerate_graph, terminal_distribution
from hjepa_gfn.gflownet.toys import mixture

MODEL = mixture.mixture_model()


def scattered(seed, size=7):
    """Data and means far from any symmetry."""
    rng = np.random.default_rng(seed)
    return rng.normal(size=(size, 2)) * 2, rng.normal(size=(4, 2))


def gaussian(x, mean):
    """N(x; mean, 0.25^2 I) written out, coordinate by coordinate."""
    return np.prod([np.exp(-((x[d] - mean[d]) ** 2) / (2 * 0.0625)) / np.sqrt(2 * np.pi * 0.0625) for d in range(2)])


def test_joint_is_the_product_of_prior_and_density():
    x, means = scattered(0)
    angles = np.deg2rad([45, 135, 225, 315])
    expected = np.array([[gaussian(row, means[i] + [np.cos(angles[j]), np.sin(angles[j])]) / 16
                          for i in range(4) for j in range(4)] for row in x])
    with jax.enable_x64(True):
        states = jnp.asarray(np.tile(mixture.ALL_LATENTS, (7, 1)))
        joint = jax.jit(lambda theta, data, z: log_joint(theta, data, z, MODEL))
        found = joint({"means": jnp.asarray(means)}, jnp.asarray(np.repeat(x, 16, 0)), states).reshape(7, 16)
    np.testing.assert_allclose(np.exp(found), expected, rtol=1e-9)
    np.testing.assert_allclose(np.exp(mixture.exact_joint(x, means)), expected, rtol=1e-9)
    log_p, value = mixture.exact_posterior(x, means)
    np.testing.assert_allclose(np.exp(log_p), expected / expected.sum(-1, keepdims=True), atol=1e-12)
    np.testing.assert_allclose(value, np.log(expected.sum(-1)).mean(), rtol=1e-9)


def test_the_density_integrates_to_one():
    grid = np.linspace(-6, 6, 241)
    x = np.stack(np.meshgrid(grid, grid), -1).reshape(-1, 2)
    joint = mixture.exact_joint(x, mixture.TRUE_MEANS)
    np.testing.assert_allclose(np.exp(joint).sum() * 0.05**2, 1.0, atol=1e-6)


def test_exact_em_climbs_to_a_stationary_point_near_the_truth():
    x = mixture.sample_data(0)
    means, history = mixture.exact_em(x, mixture.TRUE_MEANS + 0.3)
    assert np.all(np.diff(history) > -1e-12)
    assert abs(means - mixture.TRUE_MEANS).max() < 0.05
    assert -2.85 < history[-1] < -2.75  # the paper's optimum with the right constant
    for i, d in [(0, 0), (2, 1)]:  # no mean can be moved to anything better
        for sign in (1, -1):
            moved = means.copy()
            moved[i, d] += sign * 1e-3
            assert mixture.exact_posterior(x, moved)[1] < history[-1]


def test_environment_is_a_tree_whose_labels_pair():
    graph = enumerate_graph(MODEL.env, MODEL.env.root(1))
    assert len(graph.depth) == 1 + 4 + 16 and len(graph.parent) == 4 + 16
    back, action = jax.jit(MODEL.env.backward)(graph.states[graph.child], jnp.asarray(graph.undo))
    np.testing.assert_array_equal(back, graph.states[graph.parent])
    np.testing.assert_array_equal(action, graph.action)


def test_table_of_the_posterior_is_the_policy_followed_through_the_graph():
    params = jax.tree.map(lambda p: p + 0.3 * jax.random.normal(jax.random.key(p.size), p.shape),
                          mixture.init_posterior(jax.random.key(0), 8, 1))
    x = jnp.asarray(scattered(1)[0], jnp.float32)
    table = jax.jit(mixture.posterior_table)(params, x)
    for n in range(3):
        graph = enumerate_graph(MODEL.env, MODEL.env.root(1))
        ends, log_q = terminal_distribution(MODEL.env, joined(MODEL), (params, x[n : n + 1]), graph)
        place = np.asarray(graph.states)[ends] @ [4, 1]
        np.testing.assert_allclose(table[n, place], log_q, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(np.exp(log_q).sum(), 1.0, atol=1e-5)


def test_divergence_and_effective_latents_of_known_cases():
    uniform, half = np.full((3, 16), -np.log(16)), np.log(np.repeat([[0.125, 1e-300]], 8, 0).T.reshape(1, 16))
    assert mixture.divergence(uniform, uniform) == 0.0
    np.testing.assert_allclose(mixture.divergence(half, uniform[:1]), np.log(2), rtol=1e-9)
    np.testing.assert_allclose([mixture.effective_latents(uniform), mixture.effective_latents(half)], [16, 8], rtol=1e-9)


@pytest.mark.parametrize("seed", [0])
def test_gflownet_em_reaches_exact_em(seed):
    """From the same four data, within 1e-3 nats per datum in a short run (the experiment's longer one: 1e-4)."""
    x = mixture.sample_data(seed, 1000)
    start = mixture.starting_means(seed, x)
    _, history = mixture.exact_em(x, start)
    steps = 120
    options = EMOptions(
        loss="tb", e_steps=20, batch=256, epsilon=0.1, refine=1, gate_start=20.0, gate_end=3.0, gate_half_life=30.0)
    params_tx = optax.adam(optax.cosine_decay_schedule(5e-3, 20 * steps, 0.01))
    theta_tx = optax.sgd(optax.cosine_decay_schedule(0.2, 40, 0.1))
    theta = {"means": jnp.asarray(start, jnp.float32)}
    state = init_em(mixture.init_posterior(jax.random.key(seed)), theta, params_tx, theta_tx)
    step, data = make_em_step(MODEL, options, params_tx, theta_tx), jnp.asarray(x, jnp.float32)
    for n in range(steps):
        state, _ = step(state, jax.random.key(n), data)
    log_p, value = mixture.exact_posterior(x, np.asarray(state.theta["means"]))
    assert step._cache_size() == 1
    assert abs(value - history[-1]) < 1e-3
    assert mixture.divergence(mixture.posterior_table(state.params, data), log_p) < 0.02
