"""The geometry of plans over the grid, the tree diagram, and the frames' PNGs, against values worked out by hand."""

import io
import re
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
from PIL import Image

from hjepa_gfn.evaluation.drawing_frames import png_bytes, unique_frames
from hjepa_gfn.evaluation.drawing_path import LEG_COLOURS, path_overlay, plan_legs, walk
from hjepa_gfn.evaluation.drawing_tree import plan_tree
from hjepa_gfn.evaluation.report_views import EdgeView, PlanView

LEFT, RIGHT, FORWARD, PICKUP = 0, 1, 2, 3


def plan_of(*moves, pose=(2, 4, 0)):
    edges = [EdgeView(1, "go", "9", [], list(leg)) for leg in moves]
    return PlanView(0, edges, 1.0, None, pose, "")


@pytest.mark.parametrize(
    ("pose", "moves", "cells", "end"),
    [
        ((2, 4, 0), [LEFT, FORWARD, FORWARD], ((2, 4), (2, 3), (2, 2)), (2, 2, 3)),  # facing right; left is up
        ((2, 4, 0), [RIGHT, FORWARD], ((2, 4), (2, 5)), (2, 5, 1)),
        ((2, 4, 2), [FORWARD, RIGHT, FORWARD], ((2, 4), (1, 4), (1, 3)), (1, 3, 3)),
        ((1, 1, 3), [LEFT, LEFT], ((1, 1),), (1, 1, 1)),
        ((0, 0, 3), [FORWARD, RIGHT, FORWARD], ((0, 0), (1, 0)), (1, 0, 0)),  # the first step would leave the picture
        ((7, 7, 0), [FORWARD, FORWARD], ((7, 7),), (7, 7, 0)),
        ((3, 3, 1), [PICKUP, FORWARD, 5, 6], ((3, 3), (3, 4)), (3, 4, 1)),  # the other actions move nothing
        ((3, 3, 1), [], ((3, 3),), (3, 3, 1)),
    ],
)
def test_walk_visits_the_cells_worked_out_by_hand(pose, moves, cells, end):
    assert walk(pose, moves, 8, 8) == (cells, end)


def test_each_leg_begins_where_the_one_before_ends():
    legs = plan_legs(plan_of([LEFT, FORWARD, FORWARD], [LEFT, FORWARD], [], [FORWARD]), 8, 8)
    assert [leg.cells for leg in legs] == [
        ((2, 4), (2, 3), (2, 2)),
        ((2, 2), (1, 2)),
        ((1, 2),),
        ((1, 2), (0, 2)),
    ]
    assert [leg.heading for leg in legs] == [3, 2, 2, 2]
    assert [leg.moved for leg in legs] == [True, True, False, True]


def test_overlay_draws_lines_and_waypoints_at_the_cells_centres():
    overlay = ElementTree.fromstring(path_overlay(plan_of([LEFT, FORWARD, FORWARD], [LEFT, FORWARD]), 192, 192, 24))
    assert overlay.get("viewBox") == "0 0 192 192"
    lines = {line.get("stroke"): line.get("points") for line in overlay.iter("polyline") if line.get("class") == "leg"}
    # Cell (2, 4) has its centre at ((2 + .5) 24, (4 + .5) 24) = (60, 108); the line leaves the agent itself free: it
    # begins 0.46 of a cell up from there, at 108 - 11.04.
    assert lines == {LEG_COLOURS[0]: "60,96.96 60,84 60,60", LEG_COLOURS[1]: "60,60 36,60"}
    dots = [(g.find("text").text, g.find("circle").get("cx"), g.find("circle").get("cy")) for g in overlay.iter("g")]
    assert dots == [("1", "60", "60"), ("2", "36", "60")]
    ring = next(c for c in overlay.iter("circle") if c.get("class") == "start")
    assert (ring.get("cx"), ring.get("cy")) == ("60", "108")
    tip = next(overlay.iter("polygon")).get("points").split()[0]
    assert tip == "24.72,60", "the arrowhead points left, the heading at the end: 36 - 0.47 * 24"


def test_waypoints_on_one_cell_stand_side_by_side():
    overlay = ElementTree.fromstring(path_overlay(plan_of([FORWARD], [LEFT], []), 192, 192, 24))
    centres = [float(g.find("circle").get("cx")) for g in overlay.iter("g")]
    assert len(centres) == 2, "the edge left open has no waypoint"
    assert np.mean(centres) == pytest.approx(3.5 * 24)
    assert centres[1] - centres[0] > 0.3 * 24


def tree_edges(edges):
    tree = ElementTree.fromstring(plan_tree(edges))
    return tree, [g for g in tree.iter("g") if g.get("class").startswith("edge")]


def test_tree_shows_edges_states_placeholders_and_spans():
    fine = [EdgeView(0, "left", "5", [], [0]), EdgeView(0, "forward", "6", [], [2])]
    plan = [
        EdgeView(1, "left, forward", "101", fine, [0, 2]),
        EdgeView(1, None, "102", [], []),
        EdgeView(1, "forward 3", None, [], [2, 2, 2]),
    ]
    tree, edges = tree_edges(plan)
    spans = [(e.find("title").text, int(e.get("data-from")), int(e.get("data-to"))) for e in edges]
    assert spans == [
        ("left, forward", 0, 2),
        ("left", 0, 1),
        ("forward", 1, 2),
        ("left open", 2, 2),
        ("forward 3", 2, 5),
    ]
    assert [e.find("line").get("class") for e in edges] == ["act", "act", "act", "open", "act"]
    height = [float(e.find("line").get("y1")) for e in edges]
    assert height[0] == height[3] == height[4], "coarse edges stand on one row"
    assert height[1] == height[2] > height[0], "what they expand to stands below"
    x = [(float(e.find("line").get("x1")), float(e.find("line").get("x2"))) for e in edges]
    assert x[0][0] < x[1][0] < x[1][1] < x[2][0] < x[2][1] < x[0][1] < x[3][0] < x[4][0], "in the order of time"
    codes = [t.text for t in tree.iter("text") if t.get("class") == "code"]
    assert sorted(codes) == ["101", "102", "5", "6", "now"]


def test_equal_state_codes_look_equal_and_words_are_escaped():
    text = plan_tree([EdgeView(1, "<b>&", "7", [], [2]), EdgeView(1, "b", "8", [], []), EdgeView(1, "c", "7", [], [])])
    tree = ElementTree.fromstring(text)  # fails on anything unescaped
    fills = re.findall(r"state (\d)</title>.*?fill:(hsl\([^)]*\))", text)
    assert fills[0][1] == fills[2][1] != fills[1][1]
    assert any(t.text == "<b>&" for t in tree.iter("title"))


def test_tree_of_an_empty_plan_is_drawn():
    _, edges = tree_edges([])
    assert edges == []


def test_png_is_exact_up_to_256_colours_and_close_beyond():
    rng = np.random.default_rng(0)
    few = rng.integers(0, 256, (40, 3), dtype=np.uint8)[rng.integers(0, 40, (16, 24))]
    image = Image.open(io.BytesIO(png_bytes(few)))
    assert image.mode == "P"
    np.testing.assert_array_equal(np.asarray(image.convert("RGB")), few)
    ramp = np.stack([*np.meshgrid(np.arange(64) * 4, np.arange(64) * 4), np.zeros((64, 64))], -1).astype(np.uint8)
    back = np.asarray(Image.open(io.BytesIO(png_bytes(ramp))).convert("RGB")).astype(int)
    assert np.abs(back - ramp).mean() < 8
    with pytest.raises(ValueError, match=r"\[H, W, 3\].*\(4, 4\)"):
        png_bytes(np.zeros((4, 4), np.uint8))


def test_equal_frames_are_stored_once():
    a, b = np.zeros((8, 8, 3), np.uint8), np.full((8, 8, 3), 9, np.uint8)
    pngs, order = unique_frames([a, b, a.copy(), b, b])
    assert order == [0, 1, 0, 1, 1] and len(pngs) == 2
