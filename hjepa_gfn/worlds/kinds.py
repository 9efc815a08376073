"""Which kinds of cells were ever perceived, and how rare the rarest is that a percept shows.

An encoder that was never shown a kind of thing need not notice it: what it makes of it is anything. Counting does not forget.
"""
import numpy as np

PERCEPT_KINDS = "percept_kinds"  # among an export's codebooks: how many cells of each kind the corpus shows
OBJECTS, COLOURS, STATES = 16, 8, 4


def count_kinds(view: np.ndarray) -> np.ndarray:
    """How many cells of percepts uint8 [..., n, n, c] are (object, colour, state): int64 [16, 8, 4]."""
    flat = np.ravel_multi_index(tuple(view[..., :3].reshape(-1, 3).T), (OBJECTS, COLOURS, STATES))
    return np.bincount(flat, minlength=OBJECTS * COLOURS * STATES).reshape(OBJECTS, COLOURS, STATES)


def novelty(counts: np.ndarray, view: np.ndarray) -> np.ndarray:
    """Nats of the rarest kind of cell in percepts uint8 [B, n, n, c], float64 [B]:

        max over cells of -log (n(kind) + 1) / (N + K),   N cells of K kinds counted (Laplace's estimate).
    """
    nats = np.log(counts.sum() + counts.size) - np.log(counts + 1.0)
    return nats[tuple(np.moveaxis(view[..., :3], -1, 0))].max(axis=(-2, -1))
