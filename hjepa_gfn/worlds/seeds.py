"""Which seeds belong to which split: fixed here, and nowhere else, so that no test episode can be trained on."""

from hjepa_gfn.errors import UserError

SPLITS: dict[str, range] = {
    "train": range(0, 1_000_000),
    "validation": range(1_000_000, 1_100_000),
    "test": range(2_000_000, 2_100_000),
}

# Episode ASTRAY + s is that of seed s, begun where an agent has gone astray: after some actions that no expert would take
# (`worlds.astray`). It belongs to the split of s.
ASTRAY = 10_000_000


def in_split(seed: int, split: str) -> bool:
    """Whether an episode belongs to a split."""
    return int(seed) % ASTRAY in SPLITS[split]


def split_seeds(split: str, n: int, seed: int = 0, first: int = 0) -> list[int]:
    """`n` episode seeds of a split, from the `first` one on.

    Args:
        split: "train", "validation" or "test".
        n: how many, at most the size of the split.
        seed: where in the split to begin (0: at its start); the list wraps around at the split's end.
        first: how many seeds to leave out at the list's start.

    Returns:
        `n` distinct integers inside `SPLITS[split]`.

    Raises:
        UserError: unknown split, or more seeds asked for than the split has.
    """
    if split not in SPLITS:
        raise UserError(f"unknown split {split!r}: expected one of {', '.join(SPLITS)}")
    seeds = SPLITS[split]
    if n < 0 or first < 0 or first + n > len(seeds):
        after = f" after the first {first}" if first else ""
        raise UserError(f"split {split!r} has {len(seeds)} seeds: cannot take {n}{after}")
    # A stride that is coprime with both sizes, and long against usual corpora, keeps corpora of different seeds apart.
    start = seed * 100_003 % len(seeds)
    return [seeds[(start + i) % len(seeds)] for i in range(first, first + n)]
