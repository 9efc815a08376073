"""What a belief knows that the percept does not show, judged by the simulator: memory, calibration, ambiguity.

Episodes of an exploring walk are rolled out in the jitted world from held-out levels. Probes are fitted on half of the
episodes and tested on the other half; the simulator's state is their target and never an input.
"""
from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from hjepa_gfn.evaluation.probes import probe_accuracy, probe_kinds_r2, probe_r2, told_r2
from hjepa_gfn.evaluation.texts import auroc
from hjepa_gfn.evaluation.walks import Walks
from hjepa_gfn.evaluation.world_model import as_window, calibration, read_steps
from hjepa_gfn.objectives.belief import watch
from hjepa_gfn.objectives.jepa import LOG_VARIANCE
from hjepa_gfn.objectives.system import Params, System
from hjepa_gfn.worlds import jitted
from hjepa_gfn.worlds.egocentric_map import own_cell, remember
from hjepa_gfn.worlds.heading import along
from hjepa_gfn.worlds.language import AGENT_CELL, BALL, BOX, KEY, VIEW_SIZE

_remember = jax.jit(remember, static_argnums=2)
LONE = "BabyAI-GoToObj-v0"  # levels with one object
COLOURED = 6                         # things come in as many colours
PLACES = (BOX + 1 - KEY) * COLOURED  # kinds of things: a key, ball or box of one colour
SURPRISE = 6  # a percept that shows so many new cells could not be foreseen


def _ahead_and_aside(state: jitted.GridState) -> tuple[np.ndarray, np.ndarray]:
    """The steps (y, x) ahead of the agent and to its right, int [B, T+1, 2] each."""
    steps = np.array([[-1, 0], [0, 1], [1, 0], [0, -1]])  # xminigrid's directions: up, right, down, left
    return steps[state.direction], steps[(state.direction + 1) % 4]


def view_places(state: jitted.GridState) -> np.ndarray:
    """The cell (y, x) that each cell of a view shows: int [B, T+1, 7, 7, 2], indexed as views are."""
    forward, right = _ahead_and_aside(state)
    i, j = np.meshgrid(np.arange(VIEW_SIZE), np.arange(VIEW_SIZE), indexing="ij")
    ahead, aside = AGENT_CELL[1] - j, i - AGENT_CELL[0]
    return (state.position[:, :, None, None] + ahead[..., None] * forward[:, :, None, None]
            + aside[..., None] * right[:, :, None, None])


def newly_seen(walks: Walks, remembered: bool = True) -> np.ndarray:
    """How many cells each percept shows that none before it in its episode did, or, not `remembered`, that the one right
    before it did not: int [B, T+1]."""
    shown = walks.seen["view"][..., 0] > 0
    places = view_places(walks.state)
    height, width = walks.state.grid.shape[2:4]
    batch, length = walks.seen["direction"].shape
    known = np.zeros((batch, height, width), bool)
    new = np.zeros((batch, length), int)
    for t in range(length):
        row, i, j = np.nonzero(shown[:, t])
        y, x = places[row, t, i, j].T
        fresh = ~known[row, y, x]
        new[:, t] = np.bincount(row[fresh], minlength=batch)
        if not remembered:
            known[:] = False
        known[row, y, x] = True
    return new


def lone_object(walks: Walks) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of levels with one object: its place (ahead, right) of the agent, float [B, T+1, 2]; whether the percept shows it, and
    whether it was seen before, bool [B, T+1] each."""
    there = np.isin(walks.state.grid[..., 0], [jitted.TILES[name] for name in ("ball", "box", "key")])
    flat = there.reshape(*there.shape[:2], -1)
    y, x = np.divmod(flat.argmax(-1), there.shape[-1])
    offset = np.stack([y, x], -1) - walks.state.position
    forward, right = _ahead_and_aside(walks.state)
    place = np.stack([(offset * forward).sum(-1), (offset * right).sum(-1)], -1).astype(float)
    shown = things(walks.seen["view"]).any(-1)
    before = np.logical_or.accumulate(shown, axis=1)
    return place, shown, before & flat.any(-1)  # carried, it is nowhere


def out_of_view(walks: Walks) -> tuple[np.ndarray, np.ndarray]:
    """Of each kind of thing the place (ahead, right) of the agent of the only one there is, float [B, T+1, PLACES, 2]; and
    whether it is so, bool [B, T+1, PLACES]: there is one all along, which was seen before and the percept does not show."""
    grid, places = walks.state.grid, view_places(walks.state)
    batch, length = grid.shape[:2]
    row, t, i, j = np.nonzero(walks.seen["view"][..., 0] > 0)
    shown = np.zeros(grid.shape[:4], bool)
    shown[(row, t, *places[row, t, i, j].T)] = True
    kind, colour = np.moveaxis(jitted.VIEW_CODES[grid[..., 0], grid[..., 1]][..., :2].astype(int), -1, 0)
    forward, right = _ahead_and_aside(walks.state)
    place, hidden = np.zeros((batch, length, PLACES, 2)), np.zeros((batch, length, PLACES), bool)
    for k in range(PLACES):
        there = (kind == KEY + k // COLOURED) & (colour == k % COLOURED)
        count = there.sum((-2, -1))
        offset = np.stack(np.divmod(there.reshape(batch, length, -1).argmax(-1), grid.shape[3]), -1) - walks.state.position
        place[:, :, k] = np.stack([(offset * forward).sum(-1), (offset * right).sum(-1)], -1)
        now = (there & shown).any((-2, -1))
        hidden[:, :, k] = (count == 1).all(1, keepdims=True) & np.logical_or.accumulate(now, axis=1) & ~now
    return place, hidden


def seen_by(system: System, walks: Walks) -> dict[str, np.ndarray]:
    """The walks' percepts as the agent has them: with maps of what was seen (`worlds.egocentric_map`) where it has such, and
    with how far it has turned and gone (`worlds.heading`) where that is what it knows."""
    seen = walks.seen
    if system.map:
        seen = {**seen, "view": np.asarray(_remember(seen["view"], walks.action, system.map))}
    view, direction = along(seen["view"], seen["direction"], walks.action, system.heading, system.map)
    return {**seen, "view": view, "direction": direction}


def beliefs_of(system: System, params: Params, walks: Walks) -> dict[str, np.ndarray]:
    """Along walks, percepts as `seen_by`: percept embeddings "z"; of beliefs the own slot "own" [B, T+1, F] and the probability
    of each kind of thing in each cell, "kinds" [B, T+1, PLACES, M x M]; and of what is expected next: squared residual and
    variance per dimension "residual2", "variance" [B, T, Z], and the ensemble's spread "epistemic" [B, T]."""
    belief, own = system.belief, params["belief"]

    @jax.jit
    def run(view: jnp.ndarray, direction: jnp.ndarray, action: jnp.ndarray) -> dict[str, jnp.ndarray]:
        apply = lambda *args, method: belief.apply({"params": own}, *args, method=method)  # noqa: E731
        z = system.level(params, view, direction, method="encode")
        prior, after = watch(belief, own, {"view": view, "direction": direction}, action, jnp.ones(direction.shape, bool))
        expected = apply(prior[:, 1:], method="decode")
        variance = jnp.exp(jnp.clip(apply(prior[:, 1:], method="log_variance"), *LOG_VARIANCE))
        members = apply(after[:, :-1], action, method="members_of")
        object, colour, _ = apply(after, method="cells")
        kinds = jnp.exp(object[..., KEY : BOX + 1, None] + colour[..., None, :COLOURED]).reshape(*after.shape[:3], -1)
        return {"z": z, "own": after[:, :, -1], "kinds": jnp.moveaxis(kinds[:, :, :-1], -1, 2),
                "residual2": (expected - z[:, 1:]) ** 2, "variance": variance, "epistemic": members.var(0).mean((-2, -1))}

    found = run(walks.seen["view"], walks.seen["direction"], walks.action)
    return jax.tree.map(np.asarray, found)


def things_by_kind(view: np.ndarray) -> np.ndarray:
    """Where percepts uint8 [B, T+1, n, n, c] show things of each kind: float [B, T+1, PLACES, n x n]."""
    number = (view[..., 0].astype(int) - KEY) * COLOURED + view[..., 1]
    return (number.reshape(*view.shape[:2], 1, -1) == np.arange(PLACES)[:, None]).astype(float)


def things(view: np.ndarray) -> np.ndarray:
    """Where percepts uint8 [B, T+1, n, n, 3] show objects: float [B, T+1, n x n]."""
    kind = view[..., 0]
    return ((kind >= BALL - 1) & (kind <= BALL + 1)).reshape(*view.shape[:2], -1).astype(float)


def told_places(held: np.ndarray, middle: bool) -> np.ndarray:
    """The place (ahead, right) of the cell that holds a thing most probably: float [..., 2] of `held` [..., n x n], cells of a
    view or, with the agent in the `middle`, of a map; NaN where nothing is held anywhere."""
    n = round(held.shape[-1] ** 0.5)
    i, j = own_cell(n if middle else 0)
    column, row = np.divmod(held.argmax(-1), n)
    return np.where(held.any(-1)[..., None], np.stack([j - row, column - i], -1), np.nan)


def _told(kinds: np.ndarray, middle: bool) -> dict[str, np.ndarray]:
    """The places told of things of each kind, and of any, from where each is held: [B, T+1, PLACES, n x n]."""
    return {"told": told_places(kinds, middle), "any told": told_places(kinds.sum(-2), middle)}


def states_of(system: System, params: Params, walks: Walks) -> dict[str, dict[str, np.ndarray]]:
    """Of the walks, by what knows: the percepts' "embedding", with what the JEPA expects next, and the "belief" where there is
    one; each "state" [B, T+1, .], "residual2" and "variance" [B, T, Z], and a belief's "epistemic" [B, T]. And the "percept"
    itself, a view or a map, which plans and habits are made from: where it shows objects (`things`). A belief's state is where
    it expects objects, and its own slot. Percept and belief say themselves where they have each kind of thing, and any:
    "told" [B, T+1, PLACES, 2] and "any told" [B, T+1, 2], see `told_places`."""
    walks = walks._replace(seen=seen_by(system, walks))
    steps = read_steps(system, params, as_window(walks), 1)
    found = {"embedding": {"state": steps.z, "residual2": steps.residual2, "variance": steps.variance},
             "percept": {"state": things(walks.seen["view"]),
                         **_told(things_by_kind(walks.seen["view"]), bool(system.map))}}
    if system.belief:
        of_belief = beliefs_of(system, params, walks)
        kinds = of_belief["kinds"]
        found["belief"] = {"state": np.concatenate([kinds.sum(2), of_belief["own"]], -1), **_told(kinds, True),
                           **{k: of_belief[k] for k in ("residual2", "variance", "epistemic")}}
    return found


def memory_table(system: System, params: Params, alone: Walks, walks: Walks) -> dict[str, Any]:
    """Memory, calibration and ambiguity by `states_of`, on exploring walks of held-out seeds: `alone` on `LONE`, `walks` on any
    level, as many of each.

    Returns, by which of them knows:
        "lone object out of view": R^2 of probes for the place of the one object of `alone` while the view does not
        show what was shown before; "things out of view": the same of `walks`, of things of which there is one (a probe for each
        kind, all together), or of the places that percept and belief tell themselves ("told in the right cell": how many are
        exact), without a probe; "position" (R^2), "direction", "carried" (accuracy), the agent's own;
        "calibration": mean r^2 / sigma^2 of the next percept, "calibration_log_correlation" over steps; "ambiguity_auroc": of
        predicted variance against percepts that show what none did before, "ambiguity_auroc_last" that the last one did not
        (all that can be asked of a state without memory), "epistemic_auroc" of the ensemble's spread as the first;
        and, by themselves, "surprising percepts" and "surprising percepts, last": how many there are of each.
    """
    place, shown, before = lone_object(alone)
    rows = len(walks.action)
    fit = np.arange(rows)[:, None] < rows // 2
    pocket = walks.state.pocket[..., 0].astype(int) * 16 + walks.state.pocket[..., 1]
    new, unlike_last = (newly_seen(walks, remembered)[:, 1:] >= SURPRISE for remembered in (True, False))
    table: dict[str, Any] = {"surprising percepts": float(new.mean()), "surprising percepts, last": float(unlike_last.mean())}
    of_alone, of_walks = states_of(system, params, alone), states_of(system, params, walks)
    gone = (before & ~shown)[..., None]  # the lone object, out of view
    targets = {
        "position": (walks.state.position.astype(float), probe_r2), "direction": (walks.seen["direction"], probe_accuracy),
        "carried": (pocket, probe_accuracy)}
    thing, hidden = out_of_view(walks)
    flat = lambda x: x.reshape(-1, *x.shape[2:])  # noqa: E731
    fitted, tested = (flat(hidden & some[..., None]) for some in (fit, ~fit))
    for knows, found in of_walks.items():
        lone = flat(place[:, :, None]), *(flat(gone & some[..., None]) for some in (fit, ~fit))
        if "told" in found:
            r2, exact = told_r2(flat(found["told"]), flat(thing), fitted, tested)
            own = {"things out of view": r2, "told in the right cell": exact,
                   "lone object out of view": told_r2(flat(of_alone[knows]["any told"][:, :, None]), *lone)[0]}
        else:
            own = {"things out of view": probe_kinds_r2(flat(found["state"]), flat(thing), fitted, tested),
                   "lone object out of view": probe_kinds_r2(flat(of_alone[knows]["state"]), *lone, penalty=1e-3)}
        x, rows = found["state"], fit[:, 0]
        for name, (target, probe) in targets.items():
            own[name] = probe((flat(x[rows]), flat(target[rows])), (flat(x[~rows]), flat(target[~rows])))
        table[knows] = own
        if "variance" not in found:
            continue
        own |= calibration(flat(found["residual2"]), flat(found["variance"]))
        variance = found["variance"].mean(-1)
        own["ambiguity_auroc"] = auroc(variance[new], variance[~new])
        own["ambiguity_auroc_last"] = auroc(variance[unlike_last], variance[~unlike_last])
        if "epistemic" in found:
            own["epistemic_auroc"] = auroc(found["epistemic"][new], found["epistemic"][~new])
    return table
