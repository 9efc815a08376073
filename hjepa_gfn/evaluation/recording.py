"""Episodes under the controller, with everything that the inspector shows of them.

What is recorded of the simulator (frames, poses, the situation in words) is for the page only: the mode is asked with percepts
and mission, as everywhere.
"""
from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from hjepa_gfn.agent.agent import Agent, world_for
from hjepa_gfn.agent.aiming import aimed_at
from hjepa_gfn.agent.controlled import controlled_mode
from hjepa_gfn.agent.controller import ControlledMode
from hjepa_gfn.agent.decision import Decision, Trace
from hjepa_gfn.agent.indicators import NAMES, IndicatorReader
from hjepa_gfn.agent.runner import run_episodes
from hjepa_gfn.evaluation.drawing_path import HEADINGS
from hjepa_gfn.evaluation.report_views import AimView, StepView, SwitchView, TraceView
from hjepa_gfn.worlds.language import Place
from hjepa_gfn.worlds.protocol import Observation, World


class Made(NamedTuple):
    """A decision of an episode, with what it was made at."""

    step: int
    decision: Decision
    percept: dict[str, np.ndarray]
    pose: tuple[int, int, int]  # for drawing


class Recorded(NamedTuple):
    """One episode."""

    mission: str
    situation: str
    success: bool
    frames: list[np.ndarray]
    actions: list[int]
    made: list[Made]
    steps: list[StepView]
    switches: list[SwitchView]


def record_episodes(
    agent: Agent, level: str, seeds: Sequence[int], seed: int, table: Sequence[str] = (), start: str = "habitual",
    reader: IndicatorReader | None = None,
) -> list[Recorded]:
    """Plays one episode a seed under a controller's table (without one: in the mode `start`); see `controlled_mode`."""
    n = len(seeds)
    world = world_for(agent, level, n)
    new: dict[int, Decision] = {}
    mode = controlled_mode(agent, seed, table, start, new.__setitem__, reader)
    found = [Recorded("", "", False, [], [], [], [], []) for _ in seeds]
    told: list[tuple[str, str]] = []
    active = np.ones(n, bool)
    point = agent.act.get("aim")  # of agents that have a pointer

    def choose(observation: Observation, running: np.ndarray) -> np.ndarray:
        active[:] = running
        if not told:
            told.extend((observation.mission[i], world.situation(i)) for i in range(n))
        new.clear()
        actions = mode(observation, running)
        for i in np.flatnonzero(running):
            step, made = len(found[i].steps), found[i].made
            if i in new:
                percept = {name: np.asarray(value)[i] for name, value in observation.percept.items()}
                made.append(Made(step, new[i], percept, world.pose(i)))
            found[i].steps.append(_step(mode, i, step, made))
        if point:
            shares = np.asarray(point(agent.params, observation.percept, agent.missions(observation.mission)))
            for i in np.flatnonzero(running):
                at = aimed_at(shares[i], np.asarray(observation.percept["view"][i]), agent.system.map)
                found[i].steps[-1].aim = AimView(at.words, at.probability, at.place and cell_from(world.pose(i), at.place))
        return actions

    def watch(world: World, observation: Observation, actions: np.ndarray | None) -> None:
        for i, episode in enumerate(found):
            if active[i] or len(episode.frames) == len(episode.actions):  # the frame after the last action, too
                episode.frames.append(world.render(i))
            if active[i] and actions is not None:
                episode.actions.append(int(actions[i]))

    success, _ = run_episodes(world, seeds, choose, agent.config.agent.max_steps, watch)
    for entry in mode.log:
        found[entry.row].switches.append(
            SwitchView(entry.step, entry.origin, entry.target, entry.indicator, entry.value, entry.bar))
    return [episode._replace(mission=told[i][0], situation=told[i][1], success=bool(success[i]))
            for i, episode in enumerate(found)]


def cell_from(pose: tuple[int, int, int], place: Place) -> tuple[int, int]:
    """Column and row of what lies (ahead, right) of an agent at column, row and direction `pose`."""
    (x, y, heading), (ahead, right) = pose, place
    (ax, ay), (rx, ry) = HEADINGS[heading % 4], HEADINGS[(heading + 1) % 4]
    return x + ahead * ax + right * rx, y + ahead * ay + right * ry


def _step(mode: ControlledMode, i: int, step: int, made: list[Made]) -> StepView:
    """The step that episode i has just decided on."""
    name = mode.names[int(mode.phase.mode[i])]
    values = {key: float(mode.values[key][i]) for key in NAMES if key in mode.values}
    if name == "habitual":
        return StepView(name, None, None, values)
    # A plan that does not say how to begin is in force, but the habit acts, and the next decision makes a new one.
    done = step - made[-1].step
    return StepView(name, len(made) - 1, done if int(made[-1].decision.leg.count) else None, values)


def trace_view(trace: Trace | None) -> TraceView | None:
    """The energies of one decision's chains, as far as moves were made."""
    if trace is None:
        return None
    upto = int(trace.moves) + 1
    rows = lambda x: np.asarray(x)[:upto].T.tolist()  # noqa: E731
    return TraceView(rows(trace.energy), np.asarray(trace.best)[:upto].tolist(), rows(trace.accepted))
