"""Summary statistics of the evaluation against plain loops."""
import numpy as np
import pytest

from hjepa_gfn.evaluation.texts import auroc, bootstrap
from hjepa_gfn.evaluation.views import in_words


def test_auroc_counts_pairs():
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 5, 30), rng.integers(0, 5, 20)
    pairs = np.mean([1.0 if x > y else 0.5 if x == y else 0.0 for x in a for y in b])
    assert auroc(a, b) == pytest.approx(pairs)
    assert auroc([2, 3], [0, 1]) == 1.0 and auroc([0, 1], [2, 3]) == 0.0


def test_bootstrap_interval_holds_the_mean_and_narrows():
    values = np.random.default_rng(1).normal(3.0, 1.0, 400)
    low, high = bootstrap(values)
    assert low < values.mean() < high
    assert high - low == pytest.approx(2 * 1.96 / 20, rel=0.2)


def test_moves_in_words():
    assert in_words([0, 2, 2, 1], ("left", "right", "forward")) == "left, forward x2, right"
    assert in_words([], ()) == "stay"
