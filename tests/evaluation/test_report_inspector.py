"""The plan inspector: what it draws, against values worked out by hand; and the page under real keys in headless Chromium."""

import dataclasses
import io
import json
import re
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

sys.path.insert(0, str(Path(__file__).parent))
import inspected  # noqa: E402
from browser import CHROMIUM, browser  # noqa: E402

from hjepa_gfn.evaluation import drawing_indicators as drawing  # noqa: E402
from hjepa_gfn.evaluation.citations import cited_principle  # noqa: E402
from hjepa_gfn.evaluation.drawing_chain import chain_trace, trace_in_words  # noqa: E402
from hjepa_gfn.evaluation.report import write_report  # noqa: E402
from hjepa_gfn.evaluation.report_inspector import active_steps, aims, causes, charts, in_force, readings  # noqa: E402
from hjepa_gfn.evaluation.report_player import playback, render_player  # noqa: E402
from hjepa_gfn.evaluation.report_views import PlanView, SwitchView, TraceView  # noqa: E402

NAN = float("nan")


def numbers(points):
    return [tuple(map(float, pair.split(","))) for pair in points.split()]


def test_a_principle_is_found_by_its_name_alone():
    found = cited_principle("the ball is 2 ahead, as No-Detours asks.")
    assert (found.name, found.discipline) == ("no-detours", "rationality")
    assert found.statement.startswith("Every move brings the agent nearer")
    assert cited_principle("mindful of doors-first: no-detours").name == "doors-first", "the first in the text"
    for text in ("no detours", "no-detours-at-all", "xno-detours", "", "a-no-detours"):
        assert cited_principle(text) is None


def test_line_has_gaps_where_nothing_was_read_and_marks_at_the_switches():
    switches = [SwitchView(1, "habitual", "planning", "surprise", 3.0, 2.0),
                SwitchView(4, "planning", "habitual", "held", 0, 0)]
    svg = ElementTree.fromstring(drawing.chart("surprise", "<what> & why", [1.0, 3.0, NAN, 2.0, NAN, 0.0, 2.0], 6, switches))
    left, right = drawing.LEFT, drawing.WIDTH - drawing.RIGHT
    x = lambda step: pytest.approx(left + (right - left) * step / 6, abs=0.06)
    lines = [numbers(p.get("points")) for p in svg.iter("polyline")]
    assert [[p[0] for p in line] for line in lines] == [[x(0), x(1)], [x(5), x(6)]]
    (lone,) = [c for c in svg.iter("circle")]
    assert float(lone.get("cx")) == x(3)
    height = lambda value: lines[0][0][1] + (lines[0][1][1] - lines[0][0][1]) * (value - 1) / 2
    assert lines[0][1][1] < lines[0][0][1], "more is higher"
    assert float(lone.get("cy")) == pytest.approx(height(2.0), abs=0.1)
    assert lines[1][0][1] == pytest.approx(height(0.0), abs=0.1)
    (bar,) = [e for e in svg.iter("line") if e.get("class") == "bar"]
    assert float(bar.get("y1")) == pytest.approx(height(2.0), abs=0.1), "the bar of the switch that this indicator caused"
    marks = [(g.get("class"), float(g.find("line").get("x1")), g.find("text").text, g.find("title").text)
             for g in svg.iter("g")]
    assert marks == [("switch cause", x(1), "1", "habitual → planning: surprise 3 is above 2"),
                     ("switch", x(4), "2", "planning → habitual: its time was over")]
    assert svg.find("title").text == "<what> & why"
    with pytest.raises(ValueError, match="nothing was read"):
        drawing.chart("surprise", "", [NAN], 1, [])


def test_numbers_of_close_switches_do_not_lie_over_each_other():
    switches = [SwitchView(k, "a", "b", "held", 0.0, 0.0) for k in (10, 11, 40)]
    svg = ElementTree.fromstring(drawing.chart("risk", "", [0.0, 1.0], 60, switches))
    assert [g.find("text") is not None for g in svg.iter("g")] == [True, False, True]
    below = drawing.switch_in_words(SwitchView(1, "planning", "habitual", "charge", -0.5, 0.0))
    assert below == "planning → habitual: charge \u22120.500 is below 0"


def test_chain_shows_each_state_its_acceptance_and_the_least_so_far():
    trace = TraceView([[4.0, 4.0, 2.0], [5.0, 3.0, 3.5]], [4.0, 3.0, 2.0], [[False, False, True], [False, True, True]])
    svg = ElementTree.fromstring(chain_trace(trace))
    first, second, best = (numbers(p.get("points")) for p in svg.iter("polyline"))
    height = lambda value: pytest.approx(first[0][1] + (first[2][1] - first[0][1]) * (4.0 - value) / 2, abs=0.1)
    assert [y for _, y in second] == [height(5.0), height(3.0), height(3.5)] and first[2][1] > first[0][1], "less is lower"
    assert best == [(first[0][0], height(4)), (first[1][0], height(4)), (first[1][0], height(3)), (first[2][0], height(3)),
                    (first[2][0], height(2))], "a step falls where it was met"
    assert [c.get("class") for c in svg.iter("circle")] == ["refused", "refused", "taken", "refused", "taken", "taken"]
    assert trace_in_words(trace) == "2 moves of 2 chains, 3 accepted; least energy 4, then 2"
    ElementTree.fromstring(chain_trace(TraceView([[float("inf")]], [NAN], [[False]])))
    with pytest.raises(ValueError, match="3 entries"):
        chain_trace(dataclasses.replace(trace, accepted=[[True]]))


def test_which_plan_and_step_each_frame_shows():
    episode = inspected.controlled()
    assert in_force(episode, 7) == [-1, 0, 0, 1, 2, -1, -1]
    assert active_steps(episode, 7) == [-1, 0, 1, 0, -1, -1, -1], "nothing where the habit acts, nor at the end"
    read = readings(episode, 7)
    assert list(read) == ["surprise", "charge"], "what was never read is left out"
    np.testing.assert_equal(read["surprise"], inspected.SURPRISE)
    assert causes(episode, 7) == {
        "1": "habitual → planning: surprise 2.50 is above 2",
        "5": "planning → habitual: its time was over"}
    assert set(causes(episode, 4)) == {"1"}, "an episode that is cut shows what is left of it"
    plans = [PlanView(step, [], 0, None, (0, 0, 0), "") for step in (1, 3)]
    silent = dataclasses.replace(episode, steps=[], plans=plans)
    assert in_force(silent, 7) == [-1, 0, 0, 1, 1, 1, 1] and active_steps(silent, 7) == [-1, 0, 1, 0, 1, 2, -1]


def test_what_is_aimed_at_is_said_and_framed_at_each_step():
    episode = inspected.controlled()
    assert aims(episode, 7) == [
        [None, None, ""], [2, 1, "aims at a red ball 2 ahead (0.60)"], [0, 2, "aims at a red ball 2 ahead (0.70)"],
        [None, None, "aims at something out of view (0.80)"], [None, None, ""], [None, None, ""]]
    assert len(aims(episode, 2)) == 2 and aims(inspected.bare(), 2) == []
    framed = 'class="overlay aimed" viewBox="0 0 48 48" aria-hidden="true"'
    assert f"{framed} hidden>" in render_player(episode, 10**7).html, "the first step says nothing"
    episode.steps[0].aim = episode.steps[1].aim
    assert f'{framed}><rect x="32" y="16"' in render_player(episode, 10**7).html, "without scripts too"


def test_panel_holds_modes_switches_and_what_was_not_read():
    html = charts(inspected.controlled(), 7)
    modes = re.findall(r'class="mode (\w+)" style="flex:(\d)"', html)
    assert modes == [("habitual", "1"), ("planning", "4"), ("habitual", "1")]
    assert re.findall(r'data-go="(\d)"', html) == ["1", "5"] and "Not read in this episode: left_plan." in html
    assert re.findall(r'data-name="(\w+)"', html) == ["surprise", "charge"]
    assert charts(inspected.bare(), 2) == '<p class="meta note">No indicators here.</p>'


def test_panel_begins_where_the_episode_does_and_cites():
    html = render_player(inspected.controlled(), 10**7).html
    data = json.loads(re.search(r'<script type="application/json">(.*?)</script>', html, re.S).group(1))
    assert data["coarse"] == [0, 1, 0] and data["readings"]["surprise"][2] == "–" and data["readings"]["surprise"][1] == "2.50"
    shown = re.findall(r'data-plan="(-?\d)"( hidden)?', html)
    assert [k for k, hidden in shown if not hidden] == ["-1"], "the habit acts first, without a plan"
    assert 'cites <b class="tag">no-detours</b> rationality: Every move counts.' in html
    assert html.count('class="trace"') == 1


def test_chooser_groups_episodes_by_mode():
    html = playback([inspected.controlled(), inspected.controlled(13, False), inspected.bare()])
    assert re.findall(r'role="group" aria-label="(\w+)"><b>', html) == ["controlled", "planning"]
    assert re.findall(r'aria-pressed="(\w+)" data-show="(\d)"', html) == [("true", "0"), ("false", "1"), ("false", "2")]
    assert re.findall(r'<div class="player" id="(\w+)" tabindex="0"( hidden)?', html) == [
        ("episode1", ""), ("episode2", " hidden"), ("episode3", " hidden")]


# What a reader sees of the panel that is shown.
STATE = """(() => {
  const root = document.querySelector(".player:not([hidden])"), seen = (name) => [...root.querySelectorAll(name)].filter(
    (part) => part.getClientRects().length);
  const image = root.querySelector("img"), canvas = document.createElement("canvas");
  return image.decode().then(() => {
    canvas.width = canvas.height = 1;
    canvas.getContext("2d").drawImage(image, 0, 0);
    const chart = seen(".indicator")[0];
    return {id: root.id, red: canvas.getContext("2d").getImageData(0, 0, 1, 1).data[0], hash: location.hash,
      doing: seen(".doing").map((e) => e.querySelector("title").textContent + (e.getAttribute("aria-current") ?? "")),
      done: seen(".done").map((e) => e.querySelector("title").textContent),
      says: seen("blockquote").map((e) => e.textContent), cites: seen(".cites .tag").map((e) => e.textContent),
      traces: seen(".trace").length, overlays: seen(".overlay:not(.aimed)").length, vague: seen(".vague").length,
      cursor: chart ? +chart.querySelector(".cursor").getAttribute("x1") : null,
      reading: chart ? chart.querySelector(".reading").textContent : null,
      aim: root.querySelector(".aim").textContent,
      mark: seen(".aimed rect").map((e) => [e.getAttribute("x"), e.getAttribute("y")].map(Number)),
      step: seen(".step")[0].textContent, action: seen(".action")[0].textContent, cause: seen(".cause")[0].textContent,
      pressed: [...document.querySelectorAll(".chooser [aria-pressed=true]")].map((e) => e.dataset.show),
      focus: root.contains(document.activeElement) ? document.activeElement.className || document.activeElement.tagName : null};
  });
})()"""


# Waits until the player has left step 0 by itself.
PLAYED = """new Promise((go) => {
  const look = setInterval(() => {
    if (document.querySelector(".player .step").textContent.startsWith("step 0")) return;
    clearInterval(look);
    go(document.querySelector(".player .play").textContent);
  }, 20);
})"""


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium, chromium-browser, google-chrome or chrome on the path")
def test_keys_move_frame_edge_cursor_and_explanation_in_a_browser(tmp_path):
    _, page = write_report(tmp_path, {}, [], [inspected.controlled(), inspected.bare()])
    x = lambda step: pytest.approx(drawing.place(step, 6), abs=1e-3)
    with browser() as tab:
        # the address says what to show
        tab.open(f"{page.as_uri()}#episode=1&step=2")
        state = tab.run(STATE)
        assert state["id"] == "episode1" and state["red"] == inspected.red(2)
        assert state["step"] == "step 2 of 6 · planning · plan 1 of 3"
        assert state["doing"] == ["forward x2step", "forwardstep"] and state["done"] == ["forward"]
        assert state["cursor"] == x(2) and state["reading"] == "–" and state["action"] == "forward"
        assert state["says"] == ["mindful of no-detours: the ball is ahead."] and state["cites"] == ["no-detours"]
        assert state["traces"] == state["overlays"] == 1
        assert state["aim"] == "aims at a red ball 2 ahead (0.70)" and state["mark"] == [[0, 32]], "the cell's own corner"
        picture = np.asarray(Image.open(io.BytesIO(tab.screenshot())).convert("RGB")).astype(int)
        assert picture.shape == (1500, 1200, 3) and len(np.unique(picture.reshape(-1, 3), axis=0)) > 50
        assert (np.abs(picture - picture[0, 0]).sum(-1) > 30).mean() > 0.05, "the screenshot is blank"

        # arrows step: another plan, decoded, of which no fine edge is carried out
        tab.press("ArrowRight")
        state = tab.run(STATE)
        assert state["red"] == inspected.red(3) and state["cursor"] == x(3) and state["reading"] == "1.25"
        assert state["hash"] == "#episode=1&step=3"
        assert state["aim"] == "aims at something out of view (0.80)" and state["mark"] == []
        assert state["doing"] == ["rightstep"] and state["says"] == ["i turn right."] and state["cites"] == []
        assert state["traces"] == 0
        tab.press("ArrowRight")
        state = tab.run(STATE)
        assert (state["aim"], state["mark"]) == ("", []), "nothing is said where there is no pointer"
        assert state["doing"] == [] and state["vague"] == 1 and state["says"] == ["i do not know."]
        tab.press("ArrowLeft")
        assert tab.run(STATE)["hash"] == "#episode=1&step=3"

        # only keys: the focus reaches the panel, Home and End jump, Space plays and pauses
        tab.run("[...document.querySelectorAll('.chooser button')].at(-1).focus()")
        tab.press("Tab")
        assert tab.run(STATE)["focus"] == "player"
        assert tab.run("getComputedStyle(document.activeElement).outlineStyle") == "solid", "the focus is not seen"
        tab.press("End")
        state = tab.run(STATE)
        assert state["action"] == "reached the goal" and state["red"] == inspected.red(6) and state["says"] == []
        assert state["cursor"] == x(6)
        tab.press("Home")
        state = tab.run(STATE)
        assert (state["red"], state["says"], state["overlays"], state["cause"]) == (inspected.red(0), [], 0, "")
        tab.press(" ")
        assert tab.run(PLAYED) == "Pause"
        tab.press(" ")
        assert tab.run("document.querySelector('.player .play').textContent") == "Play"

        # the switch's own line leads to it
        tab.run("document.querySelector('.player [data-go]').click()")
        state = tab.run(STATE)
        assert state["cause"] == "habitual → planning: surprise 2.50 is above 2" and state["cursor"] == x(1)

        # down and up: another episode, with the focus taken along
        tab.run("document.querySelector('#episode1 input').focus()")
        tab.press("ArrowDown")
        state = tab.run(STATE)
        assert (state["id"], state["red"], state["pressed"], state["focus"]) == ("episode2", inspected.red(8), ["1"], "INPUT")
        assert state["cursor"] is None and state["hash"] == "#episode=2&step=0"
        tab.press("ArrowDown")
        assert tab.run(STATE)["id"] == "episode2", "there is no further one"
        tab.press("ArrowUp")
        assert (tab.run(STATE)["id"], tab.run(STATE)["step"]) == ("episode1", "step 1 of 6 · planning · plan 1 of 3")

        # light and dark
        background = "getComputedStyle(document.body).backgroundColor"
        assert tab.run(background) == "rgb(255, 255, 255)"
        tab.open(page.as_uri(), dark=True)
        assert tab.run(background) == "rgb(20, 24, 30)"

        # without scripts: both episodes at their first step with their first plan, and no controls that would do nothing
        tab.open(page.as_uri(), scripts=False)
        seen = ".filter((part) => part.getClientRects().length).length"
        count = lambda name: tab.run(f"[...document.querySelectorAll('{name}')]{seen}")
        assert (count(".player"), count(".player img"), count(".player .tree"), count(".indicator")) == (2, 2, 1, 2)
        assert count(".player blockquote") == 1 and count(".controls") == count(".chooser") == 0
        assert tab.run("document.querySelector('.player img').naturalWidth") == 48
