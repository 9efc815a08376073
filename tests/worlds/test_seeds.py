"""Splits must not share episodes."""

import pytest

from hjepa_gfn.errors import UserError
from hjepa_gfn.worlds.seeds import SPLITS, split_seeds


def test_splits_are_disjoint():
    ranges = sorted((r.start, r.stop) for r in SPLITS.values())
    assert all(stop <= start for (_, stop), (start, _) in zip(ranges, ranges[1:]))


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("seed", [0, 1, 12345])
def test_seeds_are_distinct_and_inside_their_split(split, seed):
    seeds = split_seeds(split, 5000, seed)
    assert len(set(seeds)) == 5000
    assert all(s in SPLITS[split] for s in seeds)


def test_seeds_wrap_around_to_the_whole_split():
    assert sorted(split_seeds("test", 100_000, seed=7)) == list(SPLITS["test"])


def test_other_seed_gives_other_episodes():
    assert not set(split_seeds("train", 4000, 0)) & set(split_seeds("train", 4000, 1))


@pytest.mark.parametrize("arguments", [("dev", 1), ("test", 100_001), ("test", -1)])
def test_bad_requests_are_refused(arguments):
    with pytest.raises(UserError, match=arguments[0]):
        split_seeds(*arguments)


@pytest.mark.parametrize("seed", [0, 9])
def test_pieces_add_up_to_the_list(seed):
    whole = split_seeds("validation", 100_000, seed)
    assert split_seeds("validation", 7, seed, first=3) == whole[3:10]
    assert split_seeds("validation", 5, seed, first=99_995) == whole[99_995:]
    with pytest.raises(UserError, match="cannot take 6 after the first 99995"):
        split_seeds("validation", 6, seed, first=99_995)
