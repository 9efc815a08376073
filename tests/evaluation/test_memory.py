"""What the simulator says of exploring walks: where things are, what was shown, what is new."""

import numpy as np
import pytest

from hjepa_gfn.evaluation.memory import explore, first_seen, lone_object, view_places
from hjepa_gfn.worlds import jitted
from hjepa_gfn.worlds.language import things_in_view


@pytest.fixture(scope="module")
def walks():
    return explore("BabyAI-GoToObj-v0", range(8), 30)


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
    new = first_seen(walks)
    assert (new[:, 0] == (walks.seen["view"][:, 0, ..., 0] > 0).sum((1, 2))).all()
    turned = np.argwhere((walks.action[:, :-1] == 0) & (walks.action[:, 1:] == 1))  # left, then right: nothing new at the end
    assert len(turned) and all(new[b, t + 2] == 0 for b, t in turned)
    height, width = walks.state.grid.shape[2:4]
    assert (new.sum(1) <= height * width).all() and (new[:, 1:] > 0).any()
