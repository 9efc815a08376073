"""Plan trees as arrays: structure, edits, masks and exhaustive enumeration. No network, no world, no text."""
from hjepa_gfn.plans.edits import (
    ACT,
    EXPAND,
    INSERT,
    KINDS,
    Edit,
    apply_backward,
    apply_forward,
    at_capacity,
    backward_mask,
    forward_mask,
    site_index,
    split_site,
)
from hjepa_gfn.plans.plan import Plan, edge_exists, left_neighbour, right_neighbour, root_plan, seed_edits, tree_edits
from hjepa_gfn.plans.spec import PlanSpec

__all__ = [
    "ACT", "EXPAND", "INSERT", "KINDS", "Edit", "Plan", "PlanSpec", "apply_backward", "apply_forward", "at_capacity",
    "backward_mask", "edge_exists", "forward_mask", "left_neighbour", "right_neighbour", "root_plan", "seed_edits",
    "site_index", "split_site", "tree_edits",
]
