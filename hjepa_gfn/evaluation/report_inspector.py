"""What lies below an episode's player: the mode at every step, its switches with their causes, the indicators over time."""

from __future__ import annotations

import math
from itertools import groupby

from hjepa_gfn.evaluation.drawing_indicators import chart, switch_in_words
from hjepa_gfn.evaluation.report_html import esc
from hjepa_gfn.evaluation.report_numbers import in_words
from hjepa_gfn.evaluation.report_views import EpisodeView, StepView, SwitchView

MEANINGS = {
    "surprise": "risk of the plan that is followed (or of new ones), in deviations from what the watchdog expects",
    "surprise_fresh": "mean risk of new plans, in deviations from what the watchdog expects",
    "risk": "mean of -log p(z) of new plans, nats a decision",
    "risk_followed": "-log p(z) of what is left of the plan that is followed, nats a decision",
    "subplan_surprise": "risk that the sub-plan adds, in deviations from what was predicted",
    "ambiguity": "entropy of the subgoal state given the steps",
    "charge": "affective charge: what deliberating changes in the expected log reward",
    "percept_charge": "affective charge of the last percept: log reward of the rest of the plan, as it is against as expected",
    "left_plan": "how far the world state is from the planned one, in cells of the code's grid",
    "contradiction": "share of what is remembered and seen again that is not as remembered",
    "novelty": "rarity of the rarest kind of cell in the percept, among all that the corpus shows, in nats",
    "prediction_error": "the JEPA's squared one-step error over its predicted variance",
    "percept_surprise": "-log p, by the belief, of the cell of the percept that was expected least, in nats",
}


def in_force(episode: EpisodeView, frames: int) -> list[int]:
    """Index of the plan in force at each of the first `frames` frames, -1 without one; the last frame keeps the last step's."""
    if not episode.steps:
        return [max((k for k, plan in enumerate(episode.plans) if plan.step <= t), default=-1) for t in range(frames)]
    plans = [-1 if step.plan is None else step.plan for step in episode.steps]
    return [plans[min(t, len(plans) - 1)] for t in range(frames)]


def active_steps(episode: EpisodeView, frames: int) -> list[int]:
    """Which primitive step of the plan in force is carried out at each of the first `frames` frames; -1 where none is."""
    if not episode.steps:
        force = in_force(episode, frames)
        return [-1 if k < 0 or t >= len(episode.frames) - 1 else t - max(0, episode.plans[k].step) for t, k in enumerate(force)]
    active = [-1 if step.active is None else step.active for step in episode.steps]
    return [active[t] if t < len(active) else -1 for t in range(frames)]


def aims(episode: EpisodeView, frames: int) -> list[list]:
    """[column, row, words] of what is aimed at before each action of the first `frames` frames; no cell where it is out of
    sight, and nothing said where the agent has no pointer."""
    found = []
    for step in episode.steps[:frames]:
        at = step.aim
        x, y = (at.cell if at and at.cell else (None, None))
        found.append([x, y, f"aims at {at.words} ({at.probability:.2f})" if at else ""])
    return found


def readings(episode: EpisodeView, frames: int) -> dict[str, list[float]]:
    """The indicators that were read at least once within the first `frames` frames, one value a step (NaN: not read)."""
    steps = episode.steps[:frames]
    names = dict.fromkeys(name for step in steps for name in step.indicators)
    found = {name: [float(step.indicators.get(name, math.nan)) for step in steps] for name in names}
    return {name: values for name, values in found.items() if any(math.isfinite(v) for v in values)}


def in_short(values: list[float]) -> list[str]:
    """The values as the page shows them; a dash where nothing was read."""
    return [in_words(float(f"{value:.4g}")) if math.isfinite(value) else in_words(None) for value in values]


def causes(episode: EpisodeView, frames: int) -> dict[str, str]:
    """Step -> the switches at it, in words (JSON has text keys only)."""
    found: dict[str, str] = {}
    for switch in episode.switches:
        if switch.step < frames:
            words = switch_in_words(switch)
            found[str(switch.step)] = f"{found[str(switch.step)]}; {words}" if str(switch.step) in found else words
    return found


def charts(episode: EpisodeView, frames: int) -> str:
    """The part of the panel below the player; "" for an episode that says nothing of its steps."""
    steps, last = episode.steps[:frames], frames - 1
    if not steps:
        return f'<p class="meta note">{esc(episode.note)}</p>' if episode.note else ""
    switches = [switch for switch in episode.switches if switch.step < frames]
    read = readings(episode, frames)
    missing = [name for step in steps[:1] for name in step.indicators if name not in read]
    drawn = "".join(chart(name, MEANINGS.get(name, name), values, last, switches) for name, values in read.items())
    notes = [episode.note] if episode.note else []
    notes += [f"Not read in this episode: {', '.join(missing)}."] if missing and read else []
    indicators = f'<h4>Indicators before each action</h4><div class="indicators">{drawn}</div>' if drawn else ""
    return (f'<div class="over-time"><h4>Mode</h4>{_strip(steps)}{_list(switches)}{indicators}'
            + "".join(f'<p class="meta note">{esc(note)}</p>' for note in notes) + "</div>")


def _strip(steps: list[StepView]) -> str:
    parts = []
    for mode, group in groupby(steps, lambda step: step.mode):
        count = len(list(group))
        parts.append(f'<span class="mode {esc(mode)}" style="flex:{count}" title="{esc(mode)}, {count} steps">'
                     f"{esc(mode)}</span>")
    return f'<div class="strip" data-steps="{len(steps)}">{"".join(parts)}<i class="pointer"></i></div>'


def _list(switches: list[SwitchView]) -> str:
    rows = "".join(
        f'<li data-step="{switch.step}"><button type="button" data-go="{switch.step}">step {switch.step}</button>'
        f" {esc(switch_in_words(switch))}</li>"
        for switch in switches
    )
    return f'<ol class="switches" aria-label="switches of mode">{rows}</ol>' if rows else ""
