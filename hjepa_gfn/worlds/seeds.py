"""Which seeds belong to which split: fixed here, and nowhere else, so that no test episode can be trained on."""

from hjepa_gfn.errors import UserError

SPLITS: dict[str, range] = {
    "train": range(0, 1_000_000),
    "validation": range(1_000_000, 1_100_000),
    "test": range(2_000_000, 2_100_000),
}


def split_seeds(split: str, n: int, seed: int = 0) -> list[int]:
    """The first `n` episode seeds of a split.

    Args:
        split: "train", "validation" or "test".
        n: how many, at most the size of the split.
        seed: where in the split to begin (0: at its start); the list wraps around at the split's end.

    Returns:
        `n` distinct integers inside `SPLITS[split]`.

    Raises:
        UserError: unknown split, or more seeds asked for than the split has.
    """
    if split not in SPLITS:
        raise UserError(f"unknown split {split!r}: expected one of {', '.join(SPLITS)}")
    seeds = SPLITS[split]
    if not 0 <= n <= len(seeds):
        raise UserError(f"split {split!r} has {len(seeds)} seeds: cannot take {n}")
    # A stride that is coprime with both sizes, and long against usual corpora, keeps corpora of different seeds apart.
    start = seed * 100_003 % len(seeds)
    return [seeds[(start + i) % len(seeds)] for i in range(n)]
