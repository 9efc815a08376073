"""Plans that only append: what is left of the edit graph is a tree that reaches every plan."""

import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))
import tiny  # noqa: E402

from hjepa_gfn.objectives.appending import appends, last_undo  # noqa: E402
from hjepa_gfn.plans import PlanSpec, apply_backward, apply_forward, backward_mask, forward_mask, split_site  # noqa: E402
from hjepa_gfn.plans.edits import is_full  # noqa: E402
from hjepa_gfn.plans.enumeration import enumerate_plans  # noqa: E402


def test_every_plan_but_the_root_is_reached_by_exactly_one_edit():
    spec = PlanSpec((2, 2), (2, 1), capacity=4, max_edits=4)
    plans = jax.tree.map(jnp.asarray, enumerate_plans(spec).plans)
    may = np.asarray(jax.jit(lambda z: appends(z, spec))(plans))
    _, scale, kind = (np.asarray(x) for x in split_site(np.arange(spec.num_sites), spec.num_scales))
    codes = np.where(kind == 0, np.asarray(spec.state_codes)[scale],
                     np.where(kind == 1, np.asarray(spec.action_codes)[scale], 1))
    assert (may * codes).sum() == len(may) - 1
    assert (np.asarray(forward_mask(plans, spec)) * codes).sum() > 1.5 * len(may)


def test_appended_edits_come_at_the_end_and_are_what_is_undone():
    spec = tiny.system().spec
    plans = tiny.random_plans(spec, jax.random.key(0), 200)

    @jax.jit
    def back_and_again(plans):
        undo = last_undo(plans, spec)
        smaller, redo, code = apply_backward(plans, undo, spec)
        again, back = apply_forward(smaller, redo, code, spec)
        pick = lambda mask, at: jnp.take_along_axis(mask, at[:, None], 1)[:, 0]  # noqa: E731
        legal = pick(backward_mask(plans, spec), undo) & pick(appends(smaller, spec), redo)
        return legal & (last_undo(again, spec) == back), again, again.valid & ~smaller.valid, is_full(again, spec)

    right, again, grown, full = jax.tree.map(np.asarray, back_and_again(plans))
    some = np.asarray(plans.num_edits > 0)
    assert right[some].all() and some.mean() > 0.8
    # no state is put before one that has an edge with something in it, or before another state of its scale
    rows = np.flatnonzero(some & grown.any(1) & ~full)  # a full plan can only lose a state, be it the last or not
    assert len(rows) > 10
    for i in rows:
        slot = grown[i].argmax()
        after = again.valid[i] & (again.position[i] > again.position[i, slot])
        assert not (again.action[i][after] > 0).any()
        assert not (after & (again.tag[i] == again.tag[i, slot])).any()
