"""Sizes of a plan family: the joint vocabulary's layout, flat sites, refused sizes."""

import numpy as np
import pytest

from hjepa_gfn.errors import UserError
from hjepa_gfn.plans import PlanSpec, root_plan, site_index, split_site

SPEC = PlanSpec(state_codes=(2, 5), action_codes=(3, 4), capacity=4, max_edits=6)


def test_the_joint_vocabulary_is_laid_out_without_gaps_or_overlaps():
    assert SPEC.vocabulary == 14 and SPEC.offsets().tolist() == [[0, 2], [7, 10]]
    mask = SPEC.code_mask()
    assert mask.shape == (2, 2, 14) and (mask.sum((0, 1)) == 1).all()
    assert mask.sum(-1).tolist() == [[2, 5], [3, 4]]
    for row in range(2):
        for scale in range(2):
            assert np.flatnonzero(mask[row, scale])[0] == SPEC.offsets()[row, scale]


def test_sites_are_numbered_without_gaps_and_split_back():
    triples = [(n, d, k) for n in range(4) for d in range(2) for k in range(3)]
    assert SPEC.num_sites == len(triples)
    assert [int(site_index(*t, SPEC.num_scales)) for t in triples] == list(range(24))
    assert [split_site(i, SPEC.num_scales) for i in range(24)] == triples


def test_the_root_holds_the_start_state_alone():
    root = root_plan(SPEC, (2, 3))
    assert root.batch_shape == (2, 3) and root.action.shape == (2, 3, 4, 2)
    assert np.asarray(root.valid).tolist() == [[[True, False, False, False]] * 3] * 2
    assert not any(np.asarray(leaf).any() for name, leaf in root._asdict().items() if name != "valid")


@pytest.mark.parametrize("sizes, named", [
    (dict(state_codes=(2, 2), action_codes=(2,)), "state_codes has 2 scales and action_codes 1"),
    (dict(state_codes=(), action_codes=()), "at least one scale"),
    (dict(capacity=0), "capacity=0"),
    (dict(max_edits=0), "max_edits=0"),
])
def test_impossible_sizes_are_refused(sizes, named):
    with pytest.raises(UserError, match=named):
        PlanSpec(**{**dict(state_codes=(2,), action_codes=(2,), capacity=3, max_edits=3), **sizes})
