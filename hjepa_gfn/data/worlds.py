"""Initial worlds of training episodes as arrays: from them exploring behaviour is rolled out inside the train steps."""

from typing import Any

import numpy as np

from hjepa_gfn.data.store import EpisodeStore
from hjepa_gfn.errors import UserError
from hjepa_gfn.worlds.seeds import ASTRAY


def world_shapes(batch: int, size: int, window: int) -> dict[str, Any]:
    """(shape, dtype) of every array of a batch of worlds."""
    return {
        "grid": ((batch, size, size, 2), np.uint8), "position": ((batch, 2), np.int32), "heading": ((batch,), np.int32),
        "pocket": ((batch, 2), np.uint8), "action": ((batch, window), np.int32), "length": ((batch,), np.int32)}


def world_pool(store: EpisodeStore, count: int, size: int, window: int) -> dict[str, np.ndarray]:
    """The initial worlds of the first `count` episodes of a split, and their first `window` actions.

    Episodes that a jitted world does not know (boxes with something in them) are left out.

    Args:
        store: the episodes. size: cells a side; smaller levels are padded with cells that nobody sees.

    Returns:
        Arrays of the shapes of `world_shapes`, with N <= count in the place of the batch.

    Raises:
        UserError: not one of the episodes can be had, e.g. because its grid is larger than `size`.
    """
    from hjepa_gfn.worlds.babyai import make_env  # here: the simulators are loaded only where worlds are asked for
    from hjepa_gfn.worlds.exploring import initial_world

    envs, kept, found, reason = dict.fromkeys(store.level), [], [], ""
    for i in range(min(count, len(store))):
        try:
            envs[store.level[i]] = envs[store.level[i]] or make_env(store.level[i])
            found.append(initial_world(envs[store.level[i]], store.seed[i], (size, size)))
            kept.append(i)
        except UserError as error:
            reason = str(error)
    if not kept:
        raise UserError(f"data.worlds={count}: no episode's world can be had ({reason}); is data.world_size={size} too small?")
    index, t = np.array(kept), np.arange(window)
    length = np.minimum(store.steps[index], window).astype(np.int32)
    place = np.minimum(store.offset[index][:, None] + t, len(store.action) - 1)
    leaf = lambda name: np.stack([np.asarray(getattr(state, name)) for state in found])  # noqa: E731
    return {
        "grid": leaf("grid"), "position": leaf("position"), "heading": leaf("direction"), "pocket": leaf("pocket"),
        "action": np.where(t < length[:, None], store.action[place], 0).astype(np.int32), "length": length}


def moved_before(store: EpisodeStore) -> np.ndarray:
    """How far each episode's agent had got since its mission was given when the episode began, int32 [N, 3]: cells ahead and to
    the right, and quarter turns to the right (`worlds.heading`). Nothing but for those that begin astray; these are begun anew,
    at some 3 ms each.

    Raises:
        UserError: they begin otherwise now than when the corpus was made.
    """
    moved = np.zeros((len(store), 3), np.int32)
    rows = np.flatnonzero(store.seed >= ASTRAY)
    if len(rows):
        from hjepa_gfn.worlds.babyai import make_env, moved_since_mission  # here: as above

        envs = {level: make_env(level) for level in {store.level[i] for i in rows}}
        for i in rows:
            env = envs[store.level[i]]
            moved[i] = moved_since_mission(env, int(store.seed[i]))
            if env.agent_dir != store.direction[store.offset[i]]:
                raise UserError(f"episode {store.seed[i]} of {store.level[i]} begins otherwise than this corpus has it: it was "
                                "made by another version; build it anew (experiments.make_corpus)")
    return moved
