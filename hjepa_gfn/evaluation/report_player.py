"""Episodes to be played back, and plans drawn over the grid they were made for."""

from __future__ import annotations

import base64
import dataclasses
import json
from itertools import groupby
from typing import Any, NamedTuple

from hjepa_gfn.evaluation.drawing_chain import chain_trace, trace_in_words
from hjepa_gfn.evaluation.drawing_frames import data_url, frame_array, png_bytes, unique_frames
from hjepa_gfn.evaluation.drawing_path import path_overlay
from hjepa_gfn.evaluation.drawing_tree import plan_tree
from hjepa_gfn.evaluation.report_html import esc, section
from hjepa_gfn.evaluation.report_inspector import active_steps, aims, causes, charts, in_force, in_short, readings
from hjepa_gfn.evaluation.report_numbers import in_words, is_number
from hjepa_gfn.evaluation.report_views import EpisodeView, PlanView

PAGE_BUDGET = 5_000_000
"""Bytes for the episodes, so that the page as a whole stays under 6 MB."""

_KEYS = "Space ArrowLeft ArrowRight ArrowUp ArrowDown Home End"

_LEAD = (
    '<p class="lead">The coloured way is the plan in force as it was made, drawn from where the agent stood then; the tree has '
    "the same colours, the edge that is carried out is marked, and what is done is faint. The dashed frame is around the cell "
    "that the agent aims at, as it says itself. <kbd>Space</kbd> plays, "
    "<kbd>←</kbd> <kbd>→</kbd> step, <kbd>Home</kbd> <kbd>End</kbd> jump, <kbd>↑</kbd> <kbd>↓</kbd> change the episode. "
    "The address says what is shown (#episode=2&amp;step=5) and can be kept.</p>"
    '<noscript><p class="meta">Without scripts, each episode is shown at its first step, with its first plan.</p></noscript>'
)

_KEY = (
    '<p class="legend"><span><svg width="34" height="12"><line class="act" x1="2" x2="32" y1="6" y2="6"'
    ' stroke="#4ba3d9"/></svg> an action</span><span><svg width="34" height="12"><line class="open" x1="2" x2="32"'
    ' y1="6" y2="6"/></svg> left open</span><span><svg width="14" height="14"><circle class="dot" cx="7" cy="7"'
    ' r="5.5"/></svg> a world state, with its code</span></p>'
)


class Player(NamedTuple):
    """One episode's HTML, and how much of the episode it holds."""

    html: str
    frames: int


def playback(episodes: list[EpisodeView], budget: int = PAGE_BUDGET) -> str:
    """The section that inspects episodes, one panel each; episodes that no longer fit into `budget` bytes are left out."""
    players, chooser, left_out = [], [], 0
    for episode in episodes:
        if not episode.frames:
            continue
        player = render_player(episode, budget, len(players) + 1)
        if player is None:
            left_out += 1
            continue
        budget -= len(player.html)
        outcome = ("✓", "success") if episode.success else ("✗", "failure")
        chooser.append((episode.mode, (
            f'<button type="button" aria-pressed="{"false" if players else "true"}" data-show="{len(players)}"'
            f' aria-controls="episode{len(players) + 1}">seed {esc(episode.seed)}'
            f' <small role="img" aria-label="{outcome[1]}">{outcome[0]}</small></button>'
        )))
        players.append(player.html)
    if not players:
        return ""
    more = "1 more episode was" if left_out == 1 else f"{left_out} more episodes were"
    note = f'<p class="meta">{more} left out to keep this page small.</p>' if left_out else ""
    bar = _chooser(chooser) if len(chooser) > 1 else ""
    return section("watch", "Inspect its plans", "", _LEAD + bar + "".join(players) + note)


def _chooser(buttons: list[tuple[str, str]]) -> str:
    rows = []
    for mode, group in groupby(buttons, lambda item: item[0]):
        rows.append(f'<div class="tabs" role="group" aria-label="{esc(mode)}"><b>{esc(mode)}</b>'
                    f"{''.join(button for _, button in group)}</div>")
    return f'<nav class="chooser" aria-label="episodes">{"".join(rows)}</nav>'


def render_player(episode: EpisodeView, budget: int, number: int = 1) -> Player | None:
    """One episode: frames, overlays, trees and words, with controls, and its indicators; hidden unless its `number` is 1.

    An episode too large for the budget is cut at the end; None if not even its first ten frames fit.
    """
    pngs, order = unique_frames(episode.frames)
    frames = len(order)
    while True:
        html = _player(episode, pngs, order[:frames], number)
        if len(html) <= budget:
            return Player(html, frames)
        if frames <= 10:
            return None
        frames = max(10, min(frames - 1, int(0.9 * frames * budget / len(html))))


def _player(episode: EpisodeView, pngs: list[bytes], order: list[int], number: int) -> str:
    total, frames = len(episode.frames), len(order)
    plans = sorted((p for p in episode.plans if p.step < frames), key=lambda p: p.step)
    episode = dataclasses.replace(episode, plans=plans)
    force = in_force(episode, frames)
    height, width = frame_array(episode.frames[0]).shape[:2]
    # Plans that look the same (a plan kept over a re-plan) are drawn once.
    drawn: dict[tuple[str, str], int] = {}
    plan_of: list[int] = []
    for plan in plans:
        looks = path_overlay(plan, width, height, episode.tile), _words_of(plan)
        plan_of.append(drawn.setdefault(looks, len(drawn)))
    first = plan_of[force[0]] if force[0] >= 0 else -1
    overlays = "".join(
        overlay.replace("<svg ", f'<svg data-plan="{k}"{"" if k == first else " hidden"} ', 1)
        for k, (overlay, _) in enumerate(drawn)
    )
    words = "".join(
        f'<div class="plan" data-plan="{k}"{"" if k == first else " hidden"}>{body}</div>' for k, (_, body) in enumerate(drawn)
    )
    end = ("reached the goal" if episode.success else "did not reach the goal") if frames == total else "cut here"
    data = {
        "images": [base64.b64encode(png).decode("ascii") for png in pngs[: max(order) + 1]],
        "frames": order,
        "actions": list(episode.actions[: max(0, total - 1)]),
        "plans": plan_of,
        "steps": [max(0, int(p.step)) for p in plans],
        "force": force,
        "active": active_steps(episode, frames),
        "coarse": [int(p.decoded) for p in plans],
        "modes": [step.mode for step in episode.steps[:frames]],
        "causes": causes(episode, frames),
        "aims": aims(episode, frames),
        "tile": int(episode.tile),
        "readings": {name: in_short(values) for name, values in readings(episode, frames).items()},
        "end": end,
    }
    marks = "".join(f'<i style="left:{100 * s / max(1, frames - 1):.2f}%"></i>' for s in data["steps"])
    none = f'<p class="none" data-plan="-1"{"" if first < 0 else " hidden"}>{esc(_without_plan(episode))}</p>'
    cut = ""
    if frames < total:
        cut = f'<p class="meta">The first {frames} of {total} frames, to keep this page small.</p>'
    return (
        f'<div class="player" id="episode{number}" tabindex="0"{" hidden" if number > 1 else ""} role="group"'
        f' aria-label="episode {number}, {esc(episode.mode)}, seed {esc(episode.seed)}" aria-keyshortcuts="{_KEYS}">'
        f'<div class="screen"><div class="stage" style="aspect-ratio:{width}/{height}">'
        f'<img alt="the grid" src="{data_url(pngs[order[0]])}">{overlays}'
        f'{_mark(data["aims"], width, height, episode.tile)}</div>{_controls(frames, marks)}'
        f'<p class="now"><span class="step" role="status">step 0 of {total - 1}</span><b class="action"></b></p>'
        f'<p class="aim">{esc(data["aims"][0][2]) if data["aims"] else ""}</p>'
        f'<p class="cause" role="status"></p>{cut}</div>'
        f'<div class="beside"><header><h3>{esc(episode.mission)}</h3><p>{esc(episode.situation)}</p>'
        f'<p class="meta">{esc(episode.mode)} · seed {esc(episode.seed)} · {_outcome(episode)}</p></header>'
        f'{words}{none}<p class="meta vague" hidden>This plan does not say how to begin: the habit acts.</p></div>'
        f'{charts(episode, frames)}<script type="application/json">{_json(data)}</script></div>'
    )


def _mark(aims: list[list], width: int, height: int, tile: int) -> str:
    """The frame around the cell that is aimed at, at the first step."""
    x, y = aims[0][:2] if aims else (None, None)
    place = f'x="{(x or 0) * tile}" y="{(y or 0) * tile}"'
    hidden = " hidden" if x is None else ""
    return (f'<svg class="overlay aimed" viewBox="0 0 {width} {height}" aria-hidden="true"{hidden}>'
            f'<rect {place} width="{tile}" height="{tile}" rx="{tile / 6:g}" stroke-width="{tile / 14:g}"/></svg>')


def _controls(frames: int, marks: str) -> str:
    def button(kind: str, label: str, sign: str) -> str:
        return f'<button type="button" class="{kind}" aria-label="{label}" title="{label}">{sign}</button>'

    return (
        f'<div class="controls">{button("first", "first step", "«")}{button("back", "one step back", "‹")}'
        f'<button type="button" class="play" aria-pressed="false">Play</button>{button("next", "one step on", "›")}'
        f'{button("last", "last step", "»")}'
        f'<div class="scrub"><input type="range" min="0" max="{frames - 1}" value="0" aria-label="step">{marks}</div>'
        f'{button("speed", "speed", "1×")}</div>'
    )


def _without_plan(episode: EpisodeView) -> str:
    if episode.steps and episode.plans:
        return "No plan in force: the habit acts from the world state alone."
    return "No plan yet." if episode.plans else "No plan: here the agent acts from the world state alone."


def _outcome(episode: EpisodeView) -> str:
    moves = max(0, len(episode.frames) - 1)
    kind, word = ("good", "success") if episode.success else ("bad", "failure")
    return f'<span class="{kind}">{word}</span> · {moves} steps'


def _words_of(plan: PlanView) -> str:
    """Tree, energy and explanation of a plan, the principle that it cites, and the chains that led to it."""
    energy = [f"energy {in_words(plan.energy)}"] if is_number(plan.energy) else []
    energy += [f"log probability {in_words(plan.log_prob)}"] if is_number(plan.log_prob) else []
    says = f"<blockquote>{esc(plan.explanation)}</blockquote>" if plan.explanation else ""
    cites = ""
    if plan.principle:
        told = ": ".join(filter(None, (plan.principle.discipline, plan.principle.statement)))
        cites = f'<p class="cites">cites <b class="tag">{esc(plan.principle.name)}</b> {esc(told)}</p>'
    chain = ""
    if plan.trace:
        chain = (f'<figure class="chain">{chain_trace(plan.trace)}<figcaption class="meta">Energy after every move: '
                 f"{esc(trace_in_words(plan.trace))}. Full dots are accepted moves; dashed: the least so far."
                 "</figcaption></figure>")
    return (f'<div class="wide">{plan_tree(plan.edges)}</div>{says}{cites}'
            f'<p class="meta">{esc(" · ".join(energy))}</p>{chain}')


def gallery(episodes: list[EpisodeView], most: int = 6) -> str:
    """First plans of different episodes, drawn over the grid as the agent met it, each beside its tree."""
    figures: list[str] = []
    seeds: set[int] = set()
    for episode in sorted(episodes, key=lambda e: min((plan.step for plan in e.plans), default=0)):  # from the start first
        plan = next((p for p in episode.plans if p.edges), None)
        if plan is None or not episode.frames or len(figures) == most or episode.seed in seeds:
            continue
        seeds.add(episode.seed)  # the same seed may be played in several modes
        frame = frame_array(episode.frames[min(max(0, plan.step), len(episode.frames) - 1)])
        height, width = frame.shape[:2]
        figures.append(
            f'<figure class="drawing"><div class="stage" style="aspect-ratio:{width}/{height}"><img alt="the grid"'
            f' src="{data_url(png_bytes(frame))}">{path_overlay(plan, width, height, episode.tile)}</div>'
            f'<figcaption><h3>{esc(episode.mission)}</h3>{_words_of(plan)}<p class="meta">seed {esc(episode.seed)}, '
            f"step {esc(plan.step)} · {_outcome(episode)}</p></figcaption></figure>"
        )
    lead = (
        "Top row: the coarse edges of the plan, from now to its end. Below: what each of them expands to, one scale "
        "finer. At each step the agent sees only the bright part of the grid."
    )
    return section("plans", "Plans over the grid", lead, _KEY + "".join(figures) if figures else "")


def _json(data: Any) -> str:
    """JSON that may stand inside a script element: no text in it can close the element."""
    text = json.dumps(data, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
