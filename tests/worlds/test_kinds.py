"""Kinds of cells, counted, and the rarest of a percept."""
from collections import Counter

import numpy as np
import pytest

from hjepa_gfn.worlds import make_world
from hjepa_gfn.worlds.kinds import count_kinds, novelty


def test_cells_are_counted_by_object_colour_and_state_and_not_by_more():
    rng = np.random.default_rng(0)
    view = rng.integers(0, (11, 6, 3, 9), (5, 7, 7, 4)).astype(np.uint8)
    counts = count_kinds(view)
    want = Counter(tuple(cell[:3].tolist()) for cell in view.reshape(-1, 4))
    assert counts.shape == (16, 8, 4) and counts.sum() == 5 * 49
    assert all(counts[kind] == n for kind, n in want.items())


def test_novelty_is_what_the_rarest_cell_says():
    counts = np.zeros((16, 8, 4), np.int64)
    counts[1, 0, 0], counts[5, 2, 0] = 90, 10
    view = np.zeros((3, 2, 2, 3), np.uint8) + np.array([1, 0, 0], np.uint8)
    view[1, 0, 1] = 5, 2, 0
    view[2, 1, 0] = 4, 3, 2  # a locked door
    total = 100 + 512
    assert novelty(counts, view) == pytest.approx([np.log(total / 91), np.log(total / 11), np.log(total / 1)])


def test_a_locked_door_is_novel_to_one_who_has_seen_rooms_only():
    rows = 40
    seen = make_world("BabyAI-GoToLocal-v0", 200).reset(range(200)).percept["view"]
    counts = count_kinds(seen)
    doors = make_world("BabyAI-UnlockLocal-v0", rows).reset(range(rows)).percept["view"]
    shown = (doors[..., 0] == 4).any((-2, -1))
    assert 3 < shown.sum() < rows
    assert novelty(counts, doors[shown]).min() > np.quantile(novelty(counts, seen), 0.99)
