"""Plans and episodes as the report draws them."""
from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from hjepa_gfn.agent.agent import Agent
from hjepa_gfn.agent.following import CHUNK
from hjepa_gfn.agent.runner import PlanningMode, run_episodes
from hjepa_gfn.evaluation.report import EdgeView, EpisodeView, PlanView, TextView
from hjepa_gfn.models import fsq
from hjepa_gfn.plans import Plan
from hjepa_gfn.worlds import make_world

TILE = 16  # pixels a cell, as worlds render


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


def planning_episodes(agent: Agent, level: str, seeds: Sequence[int], seed: int) -> list[EpisodeView]:
    """Plays episodes in planning mode and keeps frames, plans and explanations."""
    world = make_world(level, len(seeds))
    names, macros = world.action_names, macro_moves(agent)
    frames: list[list[np.ndarray]] = [[] for _ in seeds]
    actions: list[list[str]] = [[] for _ in seeds]
    found: list[list[dict[str, Any]]] = [[] for _ in seeds]
    active = np.ones(len(seeds), bool)
    situations: list[str] = []

    def on_decision(i: int, decision: Any) -> None:
        found[i].append({"step": len(frames[i]), "decision": decision})

    mode = PlanningMode(agent, seed, on_decision)
    missions: list[str] = []

    def choose(observation: Any, running: np.ndarray) -> np.ndarray:
        active[:] = running
        if not missions:
            missions.extend(observation.mission)
            situations.extend(world.situation(i) for i in range(len(seeds)))
        before = [len(rows) for rows in found]
        chosen = mode(observation, running)
        for i, rows in enumerate(found):
            for row in rows[before[i] :]:
                row["percept"] = {name: value[i] for name, value in observation.percept.items()}
                row["pose"] = world.pose(i)
        return chosen

    def watch(world: Any, observation: Any, chosen: np.ndarray | None) -> None:
        for i in np.flatnonzero(active):
            frames[i].append(world.render(i))
            if chosen is not None:
                actions[i].append(names[int(chosen[i])])

    success, _ = run_episodes(world, seeds, choose, agent.config.agent.max_steps, watch)
    rows = [(i, row) for i, episode in enumerate(found) for row in episode]
    explanations = explain_all(agent, [row for _, row in rows], [missions[i] for i, _ in rows], seed)
    views: list[list[PlanView]] = [[] for _ in seeds]
    for (i, row), explanation in zip(rows, explanations, strict=True):
        decision = row["decision"]
        views[i].append(PlanView(
            row["step"], edges_of(decision.plan, macros, names), float(decision.energy), None, row["pose"], explanation))
    return [
        EpisodeView(int(s), "planning", missions[i], situations[i], bool(success[i]), frames[i],
                    actions[i][: len(frames[i]) - 1], views[i], TILE)
        for i, s in enumerate(seeds)
    ]


def explain_all(agent: Agent, rows: list[dict[str, Any]], missions: list[str], seed: int) -> list[str]:
    """The agent's words for each plan, from its own percept, mission and plan."""
    texts: list[str] = []
    for begin in range(0, len(rows), CHUNK):
        some = rows[begin : begin + CHUNK]
        fill = np.resize(np.arange(len(some)), CHUNK)
        stacked = lambda values: jax.tree.map(lambda *xs: np.stack(xs)[fill], *values)  # noqa: E731, B023
        percept, plans = stacked([row["percept"] for row in some]), stacked([row["decision"].plan for row in some])
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
