"""Families must hold every level that the planner solves, once, and draw from them by their weights."""

import collections
import subprocess
import sys

import pytest

from hjepa_gfn.errors import UserError
from hjepa_gfn.worlds import families
from hjepa_gfn.worlds.babyai import level_names
from hjepa_gfn.worlds.families import FAMILIES, MIXED, MIXED_WEIGHTS, NOT_ALWAYS_SOLVED, draw_level, family_of, levels_of


@pytest.mark.parametrize("family", families.family_names())
def test_every_family_has_registered_levels_whose_weights_sum_to_one(family):
    levels = levels_of(family)
    assert levels and set(levels) <= set(level_names())
    assert sum(levels.values()) == pytest.approx(1) and min(levels.values()) > 0


def test_every_level_that_is_always_solved_has_one_family():
    held = collections.Counter(level for levels in FAMILIES.values() for level in levels)
    assert set(held.values()) == {1}
    assert set(level_names()) - set(held) == set(NOT_ALWAYS_SOLVED) - {"BabyAI-SynthS5R2-v0"}
    assert len(level_names()) - len(NOT_ALWAYS_SOLVED) == 87
    for family, levels in FAMILIES.items():
        assert {family_of(level) for level in levels} == {family}
    assert family_of("BabyAI-KeyInBox-v0") == ""


def test_mixed_holds_every_family_by_its_weight():
    assert set(MIXED_WEIGHTS) == set(FAMILIES) and sum(MIXED_WEIGHTS.values()) == pytest.approx(100)
    drawn = collections.Counter(family_of(draw_level(MIXED, seed)) for seed in range(20_000))
    for family, percent in MIXED_WEIGHTS.items():
        assert drawn[family] / 200 == pytest.approx(percent, abs=4 * (percent / 200) ** 0.5)


def test_levels_are_drawn_by_their_weights():
    drawn = collections.Counter(draw_level("Pickup", seed) for seed in range(20_000))
    for level, share in levels_of("Pickup").items():
        assert drawn[level] / 20_000 == pytest.approx(share, abs=4 * (share / 20_000) ** 0.5)


def test_draws_are_a_pure_function_of_family_and_seed():
    drawn = [draw_level(MIXED, seed) for seed in range(50)]
    assert drawn == [draw_level(MIXED, seed) for seed in range(50)] != [draw_level(MIXED, seed + 1) for seed in range(50)]
    program = "from hjepa_gfn.worlds.families import *; print(*[draw_level('mixed', seed) for seed in range(50)])"
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    assert found == drawn  # no hash of the process's own


def test_a_level_is_its_own_family():
    assert levels_of("BabyAI-KeyInBox-v0") == {"BabyAI-KeyInBox-v0": 1.0}
    assert draw_level("BabyAI-GoToLocal-v0", 3) == "BabyAI-GoToLocal-v0"


def test_unknown_families_are_refused_with_close_names():
    with pytest.raises(UserError, match="'gotoo'.*GoTo.*families: mixed, GoTo"):
        levels_of("gotoo")
    with pytest.raises(UserError, match="did you mean.*BabyAI-BossLevel-v0"):
        draw_level("BabyAI-BosLevel-v0", 0)
