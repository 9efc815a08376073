"""What the simulator says of exploring walks: where things are, what was shown, what is new."""

from types import SimpleNamespace

import numpy as np
import pytest

from hjepa_gfn.evaluation import memory
from hjepa_gfn.evaluation.memory import lone_object, newly_seen, view_places
from hjepa_gfn.evaluation.probes import probe_kinds_r2, told_r2
from hjepa_gfn.evaluation.walks import explore
from hjepa_gfn.worlds import jitted
from hjepa_gfn.worlds.language import things_in_view


@pytest.fixture(scope="module")
def walks():
    return explore(memory.LONE, range(8), 30)


def test_the_lone_object_lies_where_the_percept_shows_it(walks):
    place, shown, before = lone_object(walks)
    compared = 0
    for b, t in np.argwhere(shown):
        things = [thing for thing in things_in_view(walks.seen["view"][b, t]) if thing.kind != "door"]
        if things and before[b, t]:
            assert tuple(place[b, t].astype(int)) == things[0].place
            compared += 1
    hidden = before & ~shown
    assert compared > 40 and hidden.sum() > 20
    assert not before[:, 0][~shown[:, 0]].any(), "what was never shown cannot be remembered"


def test_views_show_the_cells_that_they_are_said_to_show(walks):
    """Each cell that a view shows holds what the grid holds there (the agent's own cell aside)."""
    places, grid = view_places(walks.state), walks.state.grid
    back = jitted.VIEW_CODES[grid[..., 0], grid[..., 1]]
    compared = 0
    for b in range(4):
        for t in (0, 7, 19):
            view = walks.seen["view"][b, t]
            for i, j in np.argwhere(view[..., 0] > 0):
                if (i, j) != (3, 6):
                    y, x = places[b, t, i, j]
                    assert np.array_equal(view[i, j], back[b, t, y, x])
                    compared += 1
    assert compared > 200


def test_cells_are_new_once(walks):
    new = newly_seen(walks)
    assert (new[:, 0] == (walks.seen["view"][:, 0, ..., 0] > 0).sum((1, 2))).all()
    turned = np.argwhere((walks.action[:, :-1] == 0) & (walks.action[:, 1:] == 1))  # left, then right: nothing new at the end
    assert len(turned) and all(new[b, t + 2] == 0 for b, t in turned)
    height, width = walks.state.grid.shape[2:4]
    assert (new.sum(1) <= height * width).all() and (new[:, 1:] > 0).any()


def test_without_memory_cells_are_new_if_the_last_percept_did_not_show_them(walks):
    new, places = newly_seen(walks, remembered=False), view_places(walks.state)
    shown = walks.seen["view"][..., 0] > 0
    cells = lambda b, t: {tuple(place) for place in places[b, t][shown[b, t]]}
    for b, t in np.ndindex(walks.action.shape):
        assert new[b, t + 1] == len(cells(b, t + 1) - cells(b, t))
    assert (new >= newly_seen(walks)).all() and (new > newly_seen(walks)).any()


def test_an_agent_with_a_map_perceives_the_map(walks):
    assert memory.seen_by(SimpleNamespace(map=0, heading="compass"), walks) == walks.seen
    seen = memory.seen_by(SimpleNamespace(map=15, heading="compass"), walks)
    known = (seen["view"][..., 0] > 0).sum((-2, -1))
    # the own cell too is known wherever the agent was; cells are known once seen, and in one room none is lost again
    assert seen["view"].shape == (8, 31, 15, 15, 3) and (np.diff(known, axis=1) >= 0).all()
    np.testing.assert_array_equal(known[:, 0], (walks.seen["view"][:, 0, ..., 0] > 0).sum((-2, -1)))
    assert np.mean(known[:, -1] >= newly_seen(walks).sum(1)) == 1


def test_the_table_tells_a_state_that_knows_from_one_that_does_not(monkeypatch, walks):
    """States that hold the answers are found to, noise is not; variances that are large where cells are new are ambiguity."""
    rng = np.random.default_rng(0)
    place, _, _ = lone_object(walks)
    turn = np.eye(4)[walks.seen["direction"]]
    new = newly_seen(walks)[:, 1:, None] >= memory.SURPRISE
    thing, hidden = memory.out_of_view(walks)
    truth = np.concatenate([place, turn, walks.state.position, rng.normal(size=(8, 31, 2))], -1)
    variance = np.where(new, 4.0, 1.0) * np.ones((8, 30, 3))
    told = np.where(rng.random(thing.shape[:-1])[..., None] < 0.1, np.nan, thing)
    knows = {"state": truth, "told": told, "any told": place, "variance": variance,
             "residual2": variance * rng.chisquare(1, variance.shape)}
    guesses = {"state": rng.normal(size=truth.shape), "variance": rng.uniform(1, 2, variance.shape), "residual2": 3 * variance,
               "epistemic": -new[..., 0].astype(float)}
    monkeypatch.setattr(memory, "states_of", lambda *inputs: {"embedding": knows, "belief": guesses})
    table = memory.memory_table(None, None, walks, walks)
    good, bad = table["embedding"], table["belief"]
    counted = hidden[4:] & hidden[:4].any((0, 1))
    assert good["told in the right cell"] == pytest.approx((~np.isnan(told[4:, ..., 0]))[counted].mean()) and counted.sum() > 20
    assert 0.6 < good["things out of view"] < 1, "the mean stands for what is not told"
    assert bad["things out of view"] < 0.2 and "told in the right cell" not in bad
    assert good["lone object out of view"] > 0.99 and good["position"] > 0.99 and good["direction"] == 1
    assert bad["lone object out of view"] < 0.2 and bad["position"] < 0.2 and bad["direction"] < 0.6
    last = newly_seen(walks, remembered=False)[:, 1:] >= memory.SURPRISE
    # what is new to an episode is new to its last percept: none of the others ranks above
    rank = np.where(new[..., 0][last][:, None] > new[..., 0][~last], 1.0, 0.5)
    assert good["ambiguity_auroc_last"] == pytest.approx(rank.mean())
    assert good["ambiguity_auroc"] == 1 and abs(bad["ambiguity_auroc"] - 0.5) < 0.2 and bad["epistemic_auroc"] == 0
    assert abs(good["calibration"] - 1) < 0.15 and bad["calibration"] > 1.5
    assert table["surprising percepts"] == pytest.approx(new.mean())
    assert table["surprising percepts, last"] == pytest.approx(last.mean()) and last.mean() > new.mean()


def test_things_out_of_view_are_those_that_were_shown_and_are_not_now():
    """Against the percepts and a walk by hand: places move as the agent turns and steps, and only what was shown counts."""
    several = explore("BabyAI-GoToLocal-v0", range(6), 25)
    place, hidden = memory.out_of_view(several)
    shown = memory.things_by_kind(several.seen["view"]).any(-1)
    before = np.logical_or.accumulate(shown, axis=1)
    assert (before | ~hidden).all() and not (hidden & shown).any() and hidden.sum() > 100
    grid = jitted.VIEW_CODES[several.state.grid[..., 0], several.state.grid[..., 1]]
    for b, t, k in np.argwhere(hidden):
        thing = 5 + k // 6, k % 6
        found = np.argwhere((grid[b, t, ..., 0] == thing[0]) & (grid[b, t, ..., 1] == thing[1]))
        assert len(found) == 1
        assert np.abs(found[0] - several.state.position[b, t]).sum() == np.abs(place[b, t, k]).sum()
        if not hidden[b, t - 1, k]:
            continue
        (ahead, right), action = place[b, t - 1, k], several.action[b, t - 1]
        moved = int(np.abs(several.state.position[b, t] - several.state.position[b, t - 1]).sum())
        want = {0: (-right, ahead), 1: (right, -ahead), 2: (ahead - moved, right)}.get(action, (ahead, right))
        assert tuple(place[b, t, k]) == want


def test_a_probe_for_each_kind():
    rng = np.random.default_rng(0)
    x, own = rng.normal(size=(400, 5)), rng.normal(size=(3, 5, 2))
    y = np.einsum("nz,kzy->nky", x, own) + 3.0
    fit = rng.random((400, 3)) < 0.5
    y[:, 2] = rng.normal(size=(400, 2))
    counted = fit & (np.arange(3) < 2)
    assert probe_kinds_r2(x, y, counted, ~fit, 1e-6) > 0.999
    assert told_r2(y, y, counted, ~fit) == (1.0, 1.0)
    assert told_r2(np.full_like(y, np.nan), y, counted, ~fit) == (0.0, 0.0), "nothing told: as good as the mean"
    off = y + np.where(rng.random((400, 3, 1)) < 0.25, 1.0, 0.0)
    r2, exact = told_r2(off, y, counted, ~fit)
    both = ~fit & (np.arange(3) < 2)
    spread = ((y - np.stack([y[fit[:, k], k].mean(0) for k in range(3)])) ** 2).sum(-1)
    assert exact == pytest.approx((off == y).all(-1)[both].mean())
    assert r2 == pytest.approx(1 - ((off - y) ** 2).sum(-1)[both].sum() / spread[both].sum())
    spread = ((y - np.stack([y[fit[:, k], k].mean(0) for k in range(3)])) ** 2).sum(-1) * ~fit
    share = spread[:, 2].sum() / spread.sum()
    assert probe_kinds_r2(x, y, fit, ~fit, 1e-6) == pytest.approx(1 - share, abs=0.05), "noise explains nothing of its part"


def test_where_a_thing_is_told_to_be():
    """In a view the agent looks from (3, 6) towards smaller j; in a map it stands in the middle."""
    held = np.zeros((3, 49))
    held[0, 2 * 7 + 4], held[1, [0, 5 * 7 + 3]] = 1.0, (0.2, 0.7)
    np.testing.assert_array_equal(memory.told_places(held, False), [[2, -1], [3, 2], [np.nan, np.nan]])
    np.testing.assert_array_equal(memory.told_places(held, True), [[-1, -1], [0, 2], [np.nan, np.nan]])
    view = np.zeros((1, 1, 7, 7, 3), np.uint8)
    view[0, 0, 4, 2] = 6, 3, 0
    places = memory.told_places(memory.things_by_kind(view), False)[0, 0]
    assert places[6 + 3].tolist() == [4, 1] and np.isnan(np.delete(places, 6 + 3, axis=0)).all()
