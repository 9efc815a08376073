"""Stacked bars: heights are shares of each bar's total, which stands above it."""
import re

import pytest

from hjepa_gfn.evaluation.drawing_bars import HEIGHT, stacked_bars


def test_heights_are_shares_and_totals_are_stated():
    svg = stacked_bars(["8", "16"], {"rollout": [1.0, 30.0], "re-eval": [3.0, 10.0]}, title="a < b", x="tokens", unit="ms")
    tall = [float(h) for h in re.findall(r'<rect x="[^"]*" y="[^"]*" width="56" height="([^"]*)"', svg)]
    assert tall == pytest.approx([HEIGHT * share for share in (0.25, 0.75, 0.75, 0.25)], abs=0.1)
    assert "4 ms" in svg and "40 ms" in svg and "a &lt; b" in svg


@pytest.mark.parametrize("parts", [{"a": [1.0]}, {"a": [0.0, 1.0]}])
def test_missing_values_and_empty_bars_are_refused(parts):
    with pytest.raises(ValueError, match="must have 2 values|is empty"):
        stacked_bars(["x", "y"], parts, "t", "x", "ms")
