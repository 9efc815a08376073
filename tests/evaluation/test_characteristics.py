"""How well sub-plans are foreseen: the measures on numbers whose right answers are known."""
import numpy as np
import pytest

from hjepa_gfn.evaluation.characteristics import correlation, lines, share_explained, summary


def table(n=20000):
    """Risk is 1 + x + kind + noise, of which the prediction knows 1 + x + kind."""
    rng = np.random.default_rng(0)
    acted = rng.random(n) < 0.5
    coarse = ~acted & (rng.random(n) < 0.5)
    kind = np.where(coarse, 2.0, np.where(acted, 1.0, 0.0))
    known = 1 + rng.normal(size=n) + kind
    values = lambda: np.stack([known + rng.normal(size=n), kind, kind, kind], 1)
    first = values()
    told = first + 0.1 * rng.normal(size=first.shape)
    seen = np.ones((n, 4), bool)
    seen[:, 2], seen[:, 3] = acted & (rng.random(n) < 0.5), False
    return {"predicted": np.stack([known, kind, kind + 1, kind], 1), "told": told, "first": first, "second": values(),
            "known": seen, "acted": acted, "coarse": coarse}, kind


def test_shares_of_what_could_be_known():
    found, (made, kind) = summary(table()[0]), table()
    total, of_kind = made["first"][:, 0].var(), kind.var()
    risk = found["risk"]
    assert risk["r2"] == pytest.approx(1 - 1 / total, abs=0.01)
    assert risk["correlation"] ** 2 == pytest.approx(1 - 1 / total, abs=0.02)
    assert risk["ceiling"] == pytest.approx(1 - 1 / total, abs=0.02), "two sub-plans share what can be known"
    assert risk["kind_r2"] == pytest.approx(of_kind / total, abs=0.01) and risk["kind_r2"] < 0.5
    assert risk["told_r2"] == pytest.approx(1 - 0.01 / total, abs=0.001)
    assert found["length"]["r2"] == pytest.approx(1.0) and found["acted"] == pytest.approx(0.5, abs=0.02)
    assert found["success"]["n"] == made["known"][:, 2].sum() and found["success"]["r2"] is None, "only acted ones: all alike"
    assert found["effort"] == {"n": 0, **dict.fromkeys(
        ("mean", "deviation", "correlation", "r2", "told_r2", "ceiling", "kind_r2"))}
    shown = "\n".join(lines({"legs": found}))
    assert f"{risk['r2']:.3f}" in shown and "nan" not in shown
    alone = {**made, "predicted": made["predicted"][:, :1], "told": made["told"][:, :1]}
    assert set(summary(alone)) == {"n", "acted", "coarse", "risk"}


def test_a_constant_explains_nothing_and_worse_ones_less():
    y = np.array([0.0, 1.0, 2.0, 5.0])
    assert share_explained(np.full(4, 2.0), y) == pytest.approx(0.0) and share_explained(y + 3, y) < -1
    assert correlation(y, -2 * y) == pytest.approx(-1.0) and correlation(y, np.ones(4)) is None
