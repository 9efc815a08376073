"""The report as files: round trip, missing keys, self-contained and escaped page, numbers shown as they are."""

import contextlib
import io
import json
import math
import os
import re
import stat
from html.parser import HTMLParser

import gymnasium as gym
import minigrid  # noqa: F401  registers the levels
import numpy as np
import pytest

from hjepa_gfn.errors import UserError
from hjepa_gfn.evaluation import report as report_module
from hjepa_gfn.evaluation.report import EdgeView, EpisodeView, PlanView, TextView, write_report
from hjepa_gfn.evaluation.report_html import look_up
from hjepa_gfn.evaluation.report_player import playback, render_player
from hjepa_gfn.evaluation.report_sections import facts, headline, world_model

VOID = {"meta", "link", "img", "input", "br"}
NASTY = '</script><script>alert(1)</script><img src=x onerror="alert(2)"> & "quotes" \' <!--'

REPORT = {
    "success_rate": {"planning": 0.91015625, "habitual": 0.953125, "random": 0.12109375, "bot": 1.0},
    "seeds": 256,
    "level": "BabyAI-GoToLocal-v0",
    "wall_seconds": 83.25,
    "posterior_elbo": -31.25,
    "posterior_eubo": -30.8,
    "text_nll_per_token": {"with_plan": 0.84, "without_plan": 1.19, "with_posterior_plan": 0.612},
    "energy_auroc_final_vs_draft": 0.964,
    "held_out": {"habit_accuracy": 0.928, "aim_accuracy": 0.955, "aim_accuracy_in_view": 0.969},
    "jepa": {
        "step": {"std": 0.97, "rankme": 52.3, "sigreg_over_floor": 1.41, "pred_over_copy": 0.38},
        "subgoal": {"std": 0.91, "rankme": 23.9, "sigreg_over_floor": 2.2, "pred_over_copy": 1.02},
    },
    "world_model": {
        "dynamics": {"experts": {"calibration": 0.97, "true_action_best": 0.88, "of the belief": {"calibration": 1.02}},
                     "walks": {"calibration": 1.31, "of the belief": {"calibration": 1.08}}},
        "memory": {"percept": {"lone object out of view": 0.99},
                   "embedding": {"lone object out of view": 0.913, "ambiguity_auroc": 0.713, "ambiguity_auroc_last": 0.842,
                                 "direction": 0.99, "things out of view": 0.53},
                   "belief": {"told in the right cell": 0.987, "things out of view": 0.964, "ambiguity_auroc": 0.905}},
    },
    "violations": {"planning": {"no-detours": 0.38, "walls-stand": 0.5}, "bot": {"no-detours": 0.02, "walls-stand": 0.0}},
    "training": {"steps": 6000, "losses": {"jepa": 0.4}},
    "config": {"jepa": {"dims": [64, 32]}, "seed": 0},
}


class Page(HTMLParser):
    """Tags with their attributes; checks on the way that they nest."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.tags, self.open, self.shown, self.scripts = [], [], [], []
        self.feed(text)
        self.close()
        assert self.open == [], f"left open: {self.open}"

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open and self.open.pop() == tag, f"</{tag}> closes nothing"

    def handle_data(self, data):
        (self.scripts if self.open[-1:] == ["script"] else self.shown).append(data)

    @property
    def text(self):
        return " ".join(self.shown)


@pytest.fixture(scope="module")
def episode():
    """A real episode with a fixed way, planned in two legs."""
    with contextlib.redirect_stdout(io.StringIO()):
        env = gym.make("BabyAI-GoToLocal-v0", render_mode="rgb_array")
        observation, _ = env.reset(seed=2_000_001)
    world = env.unwrapped
    grab = lambda: world.get_frame(highlight=True, tile_size=24)
    moves, names = [0, 2, 2, 0, 2], ["left", "forward", "forward", "left", "forward"]
    frames, pose = [grab()], (*map(int, world.agent_pos), int(world.agent_dir))
    for move in moves:
        env.step(move)
        frames.append(grab())
    fine = [EdgeView(0, name, str(k), [], [move]) for k, (name, move) in enumerate(zip(names[:3], moves[:3]))]
    edges = [EdgeView(1, "left, forward 2", "17", fine, moves[:3]), EdgeView(1, "left, forward", "4", [], moves[3:])]
    plans = [PlanView(0, edges, 2.5, -4.75, pose, "turn left, because the ball is up there.")]
    plans.append(PlanView(3, [EdgeView(1, None, None)], 3.5, None, (3, 3, 3), "no further plan"))
    return EpisodeView(
        2_000_001, "planning", observation["mission"], "a grey ball ahead", True, frames, names, plans, 24
    )


@pytest.fixture(scope="module")
def texts():
    draft = {"kind": "draft", "text": "go right.", "critique": "it is left", "principle": "P3", "energy": 6.125}
    final = {"kind": "final", "text": "go left.", "critique": None, "principle": None, "energy": 2.0625}
    return [TextView(7, "go to the ball", "a ball to the left", [draft, final])]


@pytest.fixture(scope="module")
def written(tmp_path_factory, episode, texts):
    curves = [{"step": k, "jepa/loss": 1 / (1 + k), "prior/subtb_loss": math.cos(k)} for k in range(40)]
    out = tmp_path_factory.mktemp("report") / "new" / "folder"
    json_path, html_path = write_report(out, REPORT, curves, [episode], texts, ["<svg><title>variances</title></svg>"])
    assert (json_path, html_path) == (out / "report.json", out / "report.html")
    return json.loads(json_path.read_text()), html_path.read_text()


def test_report_json_holds_what_was_given_and_the_intervals(written):
    numbers, _ = written
    intervals = numbers.pop("success_interval")
    assert numbers == REPORT
    assert set(intervals) == set(REPORT["success_rate"])
    for mode, (low, high) in intervals.items():
        assert low <= REPORT["success_rate"][mode] <= high and high - low < 0.1


def test_numbers_on_the_page_are_those_of_the_report(written):
    numbers, html = written
    shown = re.findall(r'data-key="([^"]+)" data-value="([^"]+)" title="[^"]+">([^<]+)<', html)
    keys = {key for key, _, _ in shown}
    measured = ["posterior_elbo", "posterior_eubo", "energy_auroc_final_vs_draft"]
    measured += [f"{top}.{k}" for top in ("success_rate", "text_nll_per_token", "held_out") for k in REPORT[top]]
    measured += [f"{top}.{row}.{k}" for top in ("jepa", "violations") for row, values in REPORT[top].items() for k in values]
    leaves = lambda value, path: [  # noqa: E731
        leaf for k, below in value.items() for leaf in leaves(below, f"{path}.{k}")] if isinstance(value, dict) else [path]
    measured += leaves(REPORT["world_model"], "world_model")
    assert keys == set(measured)
    for key, exact, words in shown:
        value = look_up(numbers, key)
        assert float(exact) == value
        read = float(words.replace("\u2212", "-").replace("\u202f", "").removesuffix("\u00a0%"))
        assert read == pytest.approx(100 * value if words.endswith("%") else value, rel=5e-3, abs=0.051)
    text = Page(html).text
    assert "91.0\u00a0%" in text and "86.9 – 93.9 %" in text, "planning, with its Wilson interval for 233 of 256"
    assert html.count("<title>variances</title>") == 1
    assert "energy 2.50" in text and "log probability \u22124.75" in text


def test_headline_states_the_main_result_with_what_there_is():
    rates = REPORT["success_rate"]
    assert headline(REPORT) == (
        "By planning, the agent solves 91.0\u00a0% of 256 unseen episodes of BabyAI-GoToLocal-v0, "
        "and 95.3\u00a0% by habit. For comparison: random actions 12.1\u00a0%, the expert bot 100.0\u00a0%."
    )
    only = {"success_rate": {"habitual": rates["habitual"]}}
    assert headline(only) == "By habit, the agent solves 95.3\u00a0% of unseen episodes."
    assert headline({"success_rate": {"bot": 1.0}}) == "Success rates on unseen episodes: the expert bot 100.0\u00a0%."
    assert headline({}) == headline({"success_rate": "broken"}) == "No success rates were measured."


def test_page_is_self_contained(written):
    _, html = written
    page = Page(html)
    for tag, attributes in page.tags:
        for name in ("src", "href", "xlink:href", "action", "srcset", "poster"):
            assert attributes.get(name, "data:").startswith("data:"), f"<{tag} {name}={attributes[name]}>"
        if tag == "script":
            assert "src" not in attributes
    assert not re.search(r"https?://|@import|url\((?!#)|fetch\(|XMLHttpRequest|import\(", html)
    policy = next(a["content"] for t, a in page.tags if a.get("http-equiv") == "Content-Security-Policy")
    assert "default-src 'none'" in policy and "img-src data:" in policy


def test_every_section_stands_in_reading_order(written):
    _, html = written
    sections = [a["id"] for t, a in Page(html).tags if t == "section"]
    assert sections == [
        "success", "watch", "plans", "texts", "measures", "principles", "jepa", "knowledge", "curves", "appendix"]


def test_player_holds_each_frame_once_and_points_at_the_plans(written, episode):
    _, html = written
    data = json.loads(re.search(r'<script type="application/json">(.*?)</script>', html, re.S).group(1))
    assert len(data["frames"]) == len(episode.frames) == 6
    assert len(data["images"]) == len({frame.tobytes() for frame in episode.frames})
    assert data["actions"] == episode.actions
    assert (data["steps"], data["plans"]) == ([0, 3], [0, 1])
    overlays = [a for t, a in Page(html).tags if t == "svg" and a.get("class") == "overlay" and "data-plan" in a]
    assert [a["data-plan"] for a in overlays] == ["0", "1"] and "hidden" in overlays[1] and "hidden" not in overlays[0]


def test_text_is_escaped_wherever_it_comes_from(tmp_path, episode):
    edge = EdgeView(1, NASTY, NASTY, [EdgeView(0, NASTY, NASTY, [], [2])], [2])
    plan = PlanView(0, [edge], 1.0, None, (1, 1, 0), NASTY)
    nasty = EpisodeView(1, NASTY, NASTY, NASTY, False, episode.frames[:2], [NASTY], [plan], 24)
    version = {"kind": NASTY, "text": NASTY, "critique": NASTY, "principle": NASTY, "energy": 1.0}
    report = {
        "level": NASTY,
        "success_rate": {NASTY: 0.5},
        "seeds": 4,
        "jepa": {NASTY: {NASTY: 1.0}},
        "training": {NASTY: NASTY},
    }
    curves = [{"step": k, f"{NASTY}/{NASTY}": float(k)} for k in range(3)]
    json_path, html_path = write_report(
        tmp_path, report, curves, [nasty, nasty], [TextView(1, NASTY, NASTY, [version])]
    )
    page = Page(html_path.read_text())
    scripts = [a for t, a in page.tags if t == "script"]
    assert [a.get("type") for a in scripts] == ["application/json", "application/json", None]
    assert all(set(a) & {"onerror", "onload"} == set() for _, a in page.tags)
    assert {a["src"][:15] for t, a in page.tags if t == "img"} == {"data:image/png;"}
    assert page.text.count(NASTY) >= 10, "shown as text, letter by letter"
    assert json.loads(page.scripts[0])["actions"] == [NASTY]
    assert json.loads(json_path.read_text())["level"] == NASTY


@pytest.mark.parametrize("key", [*REPORT, "all"])
def test_page_and_json_do_without_any_key(tmp_path, key, texts):
    report = {} if key == "all" else {k: v for k, v in REPORT.items() if k != key}
    json_path, html_path = write_report(tmp_path, report, [], [], [])
    Page(html_path.read_text())
    numbers = json.loads(json_path.read_text())
    assert numbers.pop("success_interval", None) is None or key not in ("seeds", "success_rate", "all")
    assert numbers == report


def test_odd_values_leave_a_readable_page(tmp_path, episode):
    report = {
        "success_rate": {"planning": float("nan"), "habitual": np.float32(0.5), "bot": None, "other": 0.25},
        "seeds": np.int64(8),
        "jepa": {"step": {"std": jnp_nan(), "new": 3}, "odd": 4},
        "text_nll_per_token": None,
        "posterior_elbo": float("-inf"),
        "posterior_eubo": np.float64(1.5),
        "training": "none",
        "config": None,
    }
    bare = EpisodeView(1, "habitual", "m", "", False, episode.frames[:1], [], [], 24)
    without = EpisodeView(2, "planning", "m", "", False, [], [], episode.plans, 24)
    late = PlanView(99, episode.plans[0].edges, float("nan"), None, (1, 1, 0), "")
    beyond = EpisodeView(3, "planning", "m", "", False, episode.frames[:2], ["left"], [late], 24)
    json_path, html_path = write_report(
        tmp_path, report, [{"step": 1}], [bare, without, beyond], [TextView(1, "", "", [{}])]
    )
    numbers, page = json.loads(json_path.read_text()), Page(html_path.read_text())
    assert numbers["success_rate"] == {"planning": None, "habitual": 0.5, "bot": None, "other": 0.25}
    assert set(numbers["success_interval"]) == {"habitual", "other"}
    assert numbers["posterior_elbo"] is None and numbers["jepa"]["step"] == {"std": None, "new": 3}
    assert "not measured" in page.text and "nan" not in page.text.lower().replace("nan episode", "")
    assert "from the world state alone" in page.text


def jnp_nan():
    import jax.numpy as jnp

    return jnp.float32(jnp.nan)


def test_a_long_episode_is_cut_and_what_does_not_fit_is_left_out(episode):
    rng = np.random.default_rng(0)
    noise = [rng.integers(0, 255, (48, 48, 3), dtype=np.uint8) for _ in range(60)]
    long = EpisodeView(1, "planning", "m", "s", True, noise, ["left"] * 59, [], 24)
    whole = render_player(long, 10**9)
    cut = render_player(long, len(whole.html) // 2)
    assert whole.frames == 60 and 20 < cut.frames < 31 and len(cut.html) <= len(whole.html) // 2
    assert "The first" in cut.html and "cut here" in cut.html and "reached the goal" not in cut.html
    assert render_player(long, 1000) is None
    page = playback([episode, long], budget=60_000)
    assert page.count('class="player"') == 1 and "1 more episode was left out" in page


def test_what_cannot_be_written_is_one_clear_line_and_damages_nothing(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("kept")
    with pytest.raises(UserError, match="cannot write the report to .*file"):
        write_report(tmp_path / "file", REPORT)
    assert (tmp_path / "file").read_text() == "kept"

    json_path, html_path = write_report(tmp_path / "out", REPORT)
    before = json_path.read_bytes(), html_path.read_bytes()
    assert stat.S_IMODE(json_path.stat().st_mode) == 0o644

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(report_module.os, "fsync", full)
    with pytest.raises(UserError, match="No space left"):
        write_report(tmp_path / "out", {**REPORT, "seeds": 1})
    assert (json_path.read_bytes(), html_path.read_bytes()) == before
    assert sorted(os.listdir(tmp_path / "out")) == ["report.html", "report.json"], "no half-written file stays"


def test_a_time_that_holds_the_training_is_not_called_evaluation():
    assert "of evaluation" in facts({"wall_seconds": 83.25})
    assert "from the corpus to this page" in facts({"wall_seconds": 83.25, "training": {"seconds_corpus_and_training": 60.0}})


def test_a_belief_is_spoken_of_where_there_is_one():
    known = REPORT["world_model"]
    without = {**known, "memory": {name: row for name, row in known["memory"].items() if name != "belief"}}
    assert "the belief" in world_model(REPORT, []) and "the belief" not in world_model({"world_model": without}, [])
