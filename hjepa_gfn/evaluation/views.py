"""Plans and episodes as the report draws them."""
from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from hjepa_gfn.agent.agent import Agent, several_actors
from hjepa_gfn.agent.controlled import has_indicators
from hjepa_gfn.agent.controller import TABLE
from hjepa_gfn.agent.following import CHUNK
from hjepa_gfn.agent.indicators import IndicatorReader
from hjepa_gfn.evaluation.citations import cited_principle
from hjepa_gfn.evaluation.recording import Made, record_episodes, trace_view
from hjepa_gfn.evaluation.report_views import EdgeView, EpisodeView, PlanView, TextView
from hjepa_gfn.models import fsq
from hjepa_gfn.plans import Plan
from hjepa_gfn.plans.tree import Timeline, timeline_of
from hjepa_gfn.worlds import make_world

TILE = 16  # pixels a cell, as worlds render
SEVERAL = "Several actors plan: shown is the first one's plan. No indicators are read of it."
NO_INDICATORS = "This agent has no parameters of indicators: none are shown, and no controller could switch its modes by them."


def macro_moves(agent: Agent) -> list[list[int]]:
    """The primitive actions that each macro-action code stands for."""
    levels = agent.system.jepa.sizes.levels[0].action
    grid = fsq.from_code(jnp.arange(fsq.num_codes(levels)), levels)
    decoded = np.asarray(agent.system.level(agent.params, grid, method="decode_macro", level=2).argmax(-1))
    ended = agent.system.jepa.sizes.num_actions
    return [row[: int(np.argmax(row == ended)) if (row == ended).any() else len(row)].tolist() for row in decoded]


def in_words(moves: Sequence[int], names: Sequence[str]) -> str:
    """[0, 2, 2] -> "left, forward x2"."""
    runs = [(names[move], len(list(group))) for move, group in groupby(moves)]
    return ", ".join(name if count == 1 else f"{name} x{count}" for name, count in runs) or "stay"


def edges_of(
    plan: Plan, macros: list[list[int]], names: Sequence[str], levels: Sequence[int] = (2, 1)
) -> list[EdgeView]:
    """The tree of one plan (numpy leaves, no batch axis), coarsest scale first.

    Args:
      macros: the primitive actions of each macro-action of level 2; names: of primitive actions.
      levels: the JEPA level of each scale. Actions above level 2 are shown by their codes, and move nothing by themselves.
    """
    def moves_of(level: int, held: int) -> list[int]:
        return [held] if level == 1 else macros[held] if level == 2 else []

    def said(level: int, held: int | None) -> str | None:
        if held is None:
            return None
        return names[held] if level == 1 else in_words(macros[held], names) if level == 2 else f"{held}"

    def view(timeline: Timeline, scale: int, end: str | None) -> list[EdgeView]:
        found = []
        for edge, state in zip(timeline.edges, (*timeline.states, None), strict=True):
            after = end if state is None else str(state)
            children = [] if edge.inside is None else view(edge.inside, scale + 1, after)
            moves = [] if edge.action is None else moves_of(levels[scale], edge.action)
            if children and all(child.moves for child in children):
                moves = [move for child in children for move in child.moves]
            found.append(EdgeView(scale, said(levels[scale], edge.action), after, children, moves))
        return found

    return view(timeline_of(plan), 0, None)


def episodes_by_mode(agent: Agent, level: str, seeds: Sequence[int], seed: int) -> list[EpisodeView]:
    """What the inspector shows: the same seeds under the agent's controller, in planning and in optimisation mode. Without
    parameters of indicators (or with several actors) there is no controller, and every episode says so."""
    reader = IndicatorReader(agent, seed) if has_indicators(agent) else None
    modes = ("controlled", "planning", "optimisation") if reader else ("planning", "optimisation")
    return [view for mode in modes for view in inspected_episodes(agent, level, seeds, seed, mode, reader)]


def inspected_episodes(
    agent: Agent, level: str, seeds: Sequence[int], seed: int, mode: str, reader: IndicatorReader | None = None
) -> list[EpisodeView]:
    """Plays one episode a seed and keeps frames, plans, explanations, indicators, switches and the chains' energies.

    Args:
      mode: "controlled" (the table of `config.agent.controller`, from habitual mode on), or a mode that is kept throughout.
      reader: of indicators, to use again: with as many seeds as before nothing is compiled anew.
    """
    if not seeds:
        return []
    table = agent.config.agent.get("controller", TABLE) if mode == "controlled" else ()
    found = record_episodes(agent, level, seeds, seed, table, "habitual" if mode == "controlled" else mode, reader)
    names, macros, levels = make_world(level, 1).action_names, macro_moves(agent), agent.system.levels
    rows = [(i, made) for i, episode in enumerate(found) for made in episode.made]
    explanations = explain_all(agent, [made for _, made in rows], [found[i].mission for i, _ in rows], seed)
    plans: list[list[PlanView]] = [[] for _ in seeds]
    for (i, made), text in zip(rows, explanations, strict=True):
        decision = made.decision
        plans[i].append(PlanView(
            made.step, edges_of(decision.plan, macros, names, levels), float(decision.energy), None, made.pose, text,
            cited_principle(text), trace_view(decision.trace), bool(decision.leg.decoded)))
    note = "" if has_indicators(agent) else SEVERAL if several_actors(agent) else NO_INDICATORS
    return [
        EpisodeView(int(s), mode, e.mission, e.situation, e.success, e.frames, [names[a] for a in e.actions], plans[i], TILE,
                    e.steps, e.switches, note)
        for i, (s, e) in enumerate(zip(seeds, found, strict=True))
    ]


def explain_all(agent: Agent, rows: list[Made], missions: list[str], seed: int) -> list[str]:
    """The agent's words for each plan, from its own percept, mission and plan."""
    texts: list[str] = []
    for begin in range(0, len(rows), CHUNK):
        some = rows[begin : begin + CHUNK]
        fill = np.resize(np.arange(len(some)), CHUNK)
        stacked = lambda values: jax.tree.map(lambda *xs: np.stack(xs)[fill], *values)  # noqa: E731, B023
        percept, plans = stacked([row.percept for row in some]), stacked([row.decision.plan for row in some])
        mission = np.asarray(agent.missions(missions[begin : begin + CHUNK]))[fill]
        words = agent.act["explain"](agent.params, jax.random.fold_in(jax.random.key(seed), begin), percept, mission, plans)
        texts += [agent.tokenizer.decode_text(np.asarray(row)) for row in words[: len(some)]]
    return texts


def text_views(store: Any, table: dict[str, np.ndarray], count: int) -> list[TextView]:
    """The first situations of a held-out split with all their versions; energies where they were measured."""
    views = []
    for i in range(min(count, len(store))):
        versions = [
            {"kind": "draft", "text": text, "critique": critique, "energy": float(table["energy_draft"][i]) if k == 0 else None}
            for k, (text, critique) in enumerate(zip(store.drafts[i], store.critiques[i], strict=True))
        ]
        versions.append({"kind": "final", "text": store.final[i], "energy": float(table["energy_final"][i])})
        views.append(TextView(int(store.seed[i]), store.mission[i], store.situation[i], versions))
    return views
