"""Plan trees as arrays: structure, edits, masks, seeding, a text form, distances and exhaustive enumeration. No network."""
from hjepa_gfn.plans.advance import advance, coarse_view
from hjepa_gfn.plans.distance import plan_distance
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
from hjepa_gfn.plans.seeding import End, Seed, leaf_edges, seed_plan
from hjepa_gfn.plans.spec import PlanSpec
from hjepa_gfn.plans.text import Names, parse_plan, print_plan

__all__ = [
    "ACT", "EXPAND", "INSERT", "KINDS", "Edit", "End", "Names", "Plan", "PlanSpec", "Seed", "advance", "apply_backward",
    "apply_forward", "at_capacity", "backward_mask", "coarse_view", "edge_exists", "forward_mask", "leaf_edges",
    "left_neighbour", "parse_plan", "plan_distance", "print_plan", "right_neighbour", "root_plan", "seed_edits", "seed_plan",
    "site_index", "split_site", "tree_edits",
]
