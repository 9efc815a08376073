"""Ridge probes against scikit-like closed forms and known limits."""

import numpy as np
import pytest

from hjepa_gfn.evaluation.probes import probe_accuracy, probe_r2, ridge_fit


def data(n=400, z=5, noise=0.1, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, z)) * [1, 2, 3, 0.1, 1] + 4
    y = x @ rng.normal(size=(z, 2)) + 3 + noise * rng.normal(size=(n, 2))
    return x, y


def test_without_a_penalty_it_is_least_squares():
    x, y = data()
    design = np.hstack([x, np.ones((len(x), 1))])
    np.testing.assert_allclose(ridge_fit(x, y, 0.0), np.linalg.lstsq(design, y, rcond=None)[0], atol=1e-8)


def test_penalty_solves_the_penalised_normal_equations():
    x, y = data()
    weights, strength = ridge_fit(x, y, 0.5)[:-1], 0.5 * np.trace((c := x - x.mean(0)).T @ c) / 5
    np.testing.assert_allclose(c.T @ (c @ weights - (y - y.mean(0))) + strength * weights, 0, atol=1e-8)


def test_r2_is_one_for_linear_targets_and_not_above_zero_for_unrelated_ones():
    x, y = data(noise=0.0)
    assert probe_r2((x[:200], y[:200]), (x[200:], y[200:])) > 0.99
    shuffled = np.random.default_rng(1).permutation(y)
    assert probe_r2((x[:200], shuffled[:200]), (x[200:], shuffled[200:])) < 0.1
    # against the test's own spread: an offset that training did not show costs
    assert probe_r2((x[:200], y[:200]), (x[200:], y[200:] + 100)) < -1


def test_accuracy_counts_classes_by_name():
    rng = np.random.default_rng(2)
    label = rng.choice([3, 7, 40], 300)
    x = rng.normal(size=(300, 4)) + 6 * np.stack([label == 3, label == 7, label == 40, label == 40], 1)
    assert probe_accuracy((x[:150], label[:150]), (x[150:], label[150:])) == pytest.approx(1.0, abs=0.02)
    unseen = np.where(label[150:] == 3, 99, label[150:])  # a class that training did not show is told wrong
    found = probe_accuracy((x[:150], label[:150]), (x[150:], unseen))
    assert found == pytest.approx(np.mean(label[150:] != 3), abs=0.02)
