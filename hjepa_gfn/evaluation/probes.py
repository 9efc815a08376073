"""Linear probes: what can be read off a representation, by ridge regression fitted on some episodes and tested on others.

Never a training signal: probes look at frozen representations of held-out episodes.
"""
from __future__ import annotations

import numpy as np


def ridge_fit(x: np.ndarray, y: np.ndarray, penalty: float = 1e-3) -> np.ndarray:
    """Weights [Z + 1, Y] of the ridge regression of y [N, Y] on x [N, Z] (its last row is the intercept, not penalised).

    The penalty is relative to the mean variance of x, so that the scale of a representation does not matter.
    """
    mean = x.mean(0)
    centred = np.asarray(x - mean, np.float64)
    gram = centred.T @ centred
    gram[np.diag_indices_from(gram)] += penalty * max(np.trace(gram) / len(gram), 1e-12)
    weights = np.linalg.solve(gram, centred.T @ (y - y.mean(0)))
    return np.vstack([weights, y.mean(0) - mean @ weights])


def _read(weights: np.ndarray, x: np.ndarray) -> np.ndarray:
    return x @ weights[:-1] + weights[-1]


def probe_r2(train: tuple[np.ndarray, np.ndarray], test: tuple[np.ndarray, np.ndarray]) -> float:
    """Mean R^2 over the targets' columns: (x [N, Z], y [N, Y]) each. 1 is perfect, 0 what the mean gives; can be negative."""
    (x, y), (x_test, y_test) = train, test
    error = ((_read(ridge_fit(x, y), x_test) - y_test) ** 2).sum(0)
    spread = ((y_test - y_test.mean(0)) ** 2).sum(0)
    return float(np.mean(1.0 - error / np.maximum(spread, 1e-12)))


def probe_kinds_r2(x: np.ndarray, y: np.ndarray, train: np.ndarray, test: np.ndarray, penalty: float = 0.1) -> float:
    """R^2 of one probe for each of K kinds, all taken together: what share of the squared distances from each kind's own mean
    they explain.

    Args:
      x: [N, Z] what is read; y: [N, K, Y].
      train, test: bool [N, K], where a kind's probe is fitted and tested; kinds that are nowhere fitted do not count.
      penalty: see `ridge_fit`; larger than there, as each kind is seen seldom.
    """
    read = np.zeros(y.shape)
    for kind in np.flatnonzero(train.any(0)):
        fitted, tested = train[:, kind], test[:, kind]
        read[tested, kind] = _read(ridge_fit(x[fitted], y[fitted, kind], penalty), x[tested])
    return _kinds_r2(read, y, train, test)


def told_r2(told: np.ndarray, y: np.ndarray, train: np.ndarray, test: np.ndarray) -> tuple[float, float]:
    """(R^2, share that is exact) of what is told of K kinds without any probe: `told` and y [N, K, Y], else as
    `probe_kinds_r2`. Where nothing is told (NaN) the kind's mean of `train` stands."""
    counted = test & train.any(0)
    exact = (told == y).all(-1)[counted].mean() if counted.any() else 0.0
    mean = np.zeros(y.shape[1:])
    for kind in np.flatnonzero(train.any(0)):
        mean[kind] = y[train[:, kind], kind].mean(0)
    return _kinds_r2(np.where(np.isnan(told), mean, told), y, train, test), float(exact)


def _kinds_r2(read: np.ndarray, y: np.ndarray, train: np.ndarray, test: np.ndarray) -> float:
    error = spread = 0.0
    for kind in np.flatnonzero(train.any(0)):
        tested = test[:, kind]
        target, known = y[tested, kind], y[train[:, kind], kind]
        error += ((read[tested, kind] - target) ** 2).sum()
        spread += ((target - known.mean(0)) ** 2).sum()
    return float(1.0 - error / max(spread, 1e-12))


def probe_accuracy(train: tuple[np.ndarray, np.ndarray], test: tuple[np.ndarray, np.ndarray]) -> float:
    """Share of labels told right by regression on one-hot labels: (x [N, Z], label int [N]) each."""
    (x, label), (x_test, label_test) = train, test
    classes = np.unique(label)
    weights = ridge_fit(x, (label[:, None] == classes).astype(np.float64))
    return float(np.mean(classes[_read(weights, x_test).argmax(-1)] == label_test))
