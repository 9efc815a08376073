"""Views that are missing: which ones, and what is perceived in their place."""
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from hjepa_gfn.agent.believing import believed_view, percept_surprise
from hjepa_gfn.agent.filling import Filling
from hjepa_gfn.errors import UserError
from hjepa_gfn.models.belief import Belief
from hjepa_gfn.objectives.belief import watch
from hjepa_gfn.worlds.missing import Missing
from hjepa_gfn.worlds.protocol import Observation

BELIEF = Belief(size=13, features=4, percept=3, hidden=8, num_actions=7, members=2)
ROWS, STEPS = 2, 6


class Played:
    """A world that shows given views [B, T+1, 7, 7, 3], whatever is done."""

    percept_spec, num_actions, action_names = {}, 7, ()
    situation = render = pose = None

    def __init__(self, views):
        self.views = views

    def reset(self, seeds):
        self.at = 0
        return self.now()

    def step(self, actions):
        self.at += 1
        return self.now(), np.zeros(ROWS, np.float32), np.zeros(ROWS, bool)

    def now(self):
        return Observation({"view": self.views[:, self.at], "direction": np.full(ROWS, self.at % 4, np.int32)}, ["go"] * ROWS)


def views(channels=3):
    return np.random.default_rng(0).integers(1, 3, (ROWS, STEPS + 1, 7, 7, channels)).astype(np.uint8)


def shown(world, actions=None):
    actions = np.full((ROWS, STEPS), 2) if actions is None else actions
    found = [world.reset([5, 9])] + [world.step(actions[:, t])[0] for t in range(STEPS)]
    return np.stack([observation.percept["view"] for observation in found], 1)


def gone(view):
    return ~view.any(axis=(2, 3, 4))


@functools.cache
def params(scale=1.0):
    made = BELIEF.init(jax.random.key(0), jnp.zeros((1, 2, 7, 7, 3), jnp.uint8), jnp.zeros((1, 2), jnp.int32),
                       jnp.zeros((1, 1), jnp.int32), jnp.ones((1, 2), bool))
    rng = np.random.default_rng(0)
    return jax.tree.map(lambda leaf: jnp.asarray(scale * rng.normal(size=leaf.shape), jnp.float32), nn.unbox(made)["params"])


expect = functools.partial(believed_view, BELIEF)


def test_missing_views_are_drawn_by_episode_and_never_the_first():
    missing = [gone(shown(Missing(Played(views()), share))) for share in (0.5, 0.5, 0.0)]
    assert 2 < missing[0].sum() < 10 and not missing[0][:, 0].any() and not np.array_equal(*missing[0])
    np.testing.assert_array_equal(missing[0], missing[1])
    assert not missing[2].any()
    left = shown(Missing(Played(views()), 0.5))
    np.testing.assert_array_equal(left[~missing[0]], views()[~missing[0]])


def test_the_last_view_that_was_there_is_perceived_again():
    missing = gone(shown(Missing(Played(views()), 0.6)))
    found = shown(Filling(Missing(Played(views()), 0.6), "last", None, None))
    assert (missing[:, 1:-1] & missing[:, 2:]).any(), "one must be missing after another"
    for row in range(ROWS):
        for t in range(STEPS + 1):
            last = max(k for k in range(t + 1) if not missing[row, k])
            np.testing.assert_array_equal(found[row, t], views()[row, last])


def test_the_belief_says_what_it_expects_and_learns_of_what_is_there_alone():
    missing = gone(shown(Missing(Played(views()), 0.5)))
    actions = np.random.default_rng(1).integers(0, 7, (ROWS, STEPS))
    found = shown(Filling(Missing(Played(views()), 0.5), "belief", BELIEF, params()), actions)
    percept = {"view": views(), "direction": np.tile(np.arange(STEPS + 1) % 4, (ROWS, 1))}
    prior, _ = jax.jit(functools.partial(watch, BELIEF))(params(), percept, actions, ~missing)
    expected = np.asarray(expect(params(), prior.reshape(-1, *prior.shape[2:]))).reshape(views().shape)
    assert len(np.unique(expected[missing])) > 2
    np.testing.assert_array_equal(found, np.where(missing[..., None, None, None], expected, views()))


def test_an_accident_of_the_newest_view_replaces_it():
    """What is shown in a view's place is filled in, and believed, as if the view had never been there."""
    class Broken(Played):
        def tamper(self, change):
            found = self.now()
            return found._replace(percept={**found.percept, "view": change(found.percept["view"])})

        displace = lambda self, rows: self.tamper(lambda view: np.roll(view, 1, axis=1))

    actions = np.random.default_rng(1).integers(0, 7, (ROWS, 3))
    for fill in ("last", "belief"):
        played = views()
        played[:, 1] = 0
        world, other = (Filling(w, fill, BELIEF, params()) for w in (Broken(views()), Played(played)))
        for one in (world, other):
            one.reset([5, 9])
        shown_first, want = world.step(actions[:, 0])[0], other.step(actions[:, 0])[0].percept["view"]
        gone = world.tamper(np.zeros_like).percept["view"]
        np.testing.assert_array_equal(gone, want)
        assert not np.array_equal(gone, shown_first.percept["view"])
        if fill == "belief":
            np.testing.assert_allclose(world.kept.state, other.kept.state, atol=1e-6)
        assert np.array_equal(world.displace([0]).percept["view"], np.roll(views()[:, 1], 1, axis=1))


def test_cells_that_the_belief_is_not_sure_of_count_as_not_seen():
    s = jnp.asarray(np.random.default_rng(2).normal(size=(3, 170, 4)), jnp.float32)
    sure, unsure = (np.asarray(expect(params(scale), s)) for scale in (9.0, 0.01))
    assert sure.any() and not unsure.any()


def test_a_percept_surprises_by_its_least_expected_cell():
    s = jnp.asarray(np.random.default_rng(2).normal(size=(ROWS, 170, 4)), jnp.float32)
    view = np.where(np.random.default_rng(3).random((ROWS, 7, 7, 1)) < 0.5, views()[:, 0], 0).astype(np.uint8)
    found = np.asarray(percept_surprise(BELIEF, params(), s, view))
    looked = BELIEF.apply({"params": params()}, s, method="look")
    parts = [np.asarray(part, np.float64) for part in BELIEF.apply({"params": params()}, looked, method="cells")]
    for row in range(ROWS):
        cells = view[row].reshape(49, 3).astype(int)
        nats = [-sum(part[row, k, code] for part, code in zip(parts, cell, strict=True))
                for k, cell in enumerate(cells) if cell[0]]
        np.testing.assert_allclose(found[row], max(nats), rtol=1e-5)
    assert not np.asarray(percept_surprise(BELIEF, params(), s, np.zeros_like(view))).any(), "nothing shown, no surprise"


def test_sectors_are_known_without_seeing():
    """A fourth number of a cell says where it lies: it does not make a view one that is there, nor is it filled in."""
    view = views(4)
    view[:, 3, ..., :3] = 0
    found = shown(Filling(Played(view), "last", None, None))
    np.testing.assert_array_equal(found[:, 3, ..., :3], view[:, 2, ..., :3])
    np.testing.assert_array_equal(found[..., 3], view[..., 3])


@pytest.mark.parametrize(("share", "fill", "words"), [
    (0.5, "guess", "agent.fill='guess': must be one of '', 'last', 'belief'"), (0.5, "belief", "this agent has no belief"),
    (1.0, "last", "must be 0 or more and below 1"), (-0.1, "last", "must be 0 or more and below 1")])
def test_what_means_nothing_is_refused(share, fill, words):
    with pytest.raises(UserError, match=words):
        Filling(Missing(Played(views()), share), fill, None, None)
