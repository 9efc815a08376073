"""Plans and episodes as the report draws them."""
from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from hjepa_gfn.agent.agent import Agent
from hjepa_gfn.agent.controlled import has_indicators
from hjepa_gfn.agent.controller import TABLE
from hjepa_gfn.agent.following import CHUNK
from hjepa_gfn.agent.indicators import IndicatorReader
from hjepa_gfn.evaluation.citations import cited_principle
from hjepa_gfn.evaluation.recording import Made, record_episodes, trace_view
from hjepa_gfn.evaluation.report_views import EdgeView, EpisodeView, PlanView, TextView
from hjepa_gfn.models import fsq
from hjepa_gfn.plans import Plan
from hjepa_gfn.worlds import make_world

TILE = 16  # pixels a cell, as worlds render
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


def edges_of(plan: Plan, macros: list[list[int]], names: Sequence[str]) -> list[EdgeView]:
    """The tree of one plan (numpy leaves, no batch axis), coarsest scale first. Two scales."""
    order = sorted(np.flatnonzero(plan.valid), key=lambda n: plan.position[n])
    groups: list[list[int]] = []
    for n in order:  # a leg state (or s_0) and the step states that lie in the leg to its right
        if plan.tag[n] == 0:
            groups.append([n])
        else:
            groups[-1].append(n)
    edges = []
    for i, group in enumerate(groups):
        after = groups[i + 1][0] if i + 1 < len(groups) else None
        state = None if after is None else str(plan.code[after])
        children = []
        if plan.expanded[group[0], 0]:
            for j, n in enumerate(group):
                held = int(plan.action[n, 1])
                end = str(plan.code[group[j + 1]]) if j + 1 < len(group) else state
                action = names[held - 1] if held else None
                children.append(EdgeView(1, action, end, [], [held - 1] if held else []))
        held = int(plan.action[group[0], 0])
        spelled = bool(children) and all(child.moves for child in children)
        moves = [m for child in children for m in child.moves] if spelled else (macros[held - 1] if held else [])
        edges.append(EdgeView(0, in_words(macros[held - 1], names) if held else None, state, children, moves))
    return edges


def episodes_by_mode(agent: Agent, level: str, seeds: Sequence[int], seed: int) -> list[EpisodeView]:
    """What the inspector shows: the same seeds under the agent's controller, in planning and in optimisation mode. Without
    parameters of indicators there is no controller, and every episode says so."""
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
    names, macros = make_world(level, 1).action_names, macro_moves(agent)
    rows = [(i, made) for i, episode in enumerate(found) for made in episode.made]
    explanations = explain_all(agent, [made for _, made in rows], [found[i].mission for i, _ in rows], seed)
    plans: list[list[PlanView]] = [[] for _ in seeds]
    for (i, made), text in zip(rows, explanations, strict=True):
        decision = made.decision
        plans[i].append(PlanView(
            made.step, edges_of(decision.plan, macros, names), float(decision.energy), None, made.pose, text,
            cited_principle(text), trace_view(decision.trace), bool(decision.leg.decoded)))
    note = "" if has_indicators(agent) else NO_INDICATORS
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
