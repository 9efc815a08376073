"""What one call of each train step costs, from the configuration alone: matmul FLOPs by formula, chip-hours, and the same for
a language model. No tracing, no compiler: `tests/objectives/test_cost.py` holds the formulas against the traced programs.

A product of [n, a] and [a, b] counts 2nab, a backward pass twice its forward pass (once would do where inputs need no
gradient). Loops that may end early count at their longest. Elementwise work counts nothing,
nor do the optional heads and terms of `model.reach` and, of the first actor, `model.level_link`.
"""
from __future__ import annotations

import dataclasses
from typing import Any

from hjepa_gfn.models import fsq
from hjepa_gfn.models.belief import CODES
from hjepa_gfn.models.characteristics import NAMES, SIZE
from hjepa_gfn.objectives.actors import config_actors, step_name
from hjepa_gfn.worlds.language import VIEW_SIZE

CELL, COMPASS = 8, 4  # numbers that the JEPA's encoder reads of each cell of a percept, and of the compass


@dataclasses.dataclass(frozen=True)
class Sizes:
    """The sizes that costs depend on, of one group of a batch."""

    width: int
    mlp: int
    layers: int
    context_layers: int
    queries: int
    aim: bool
    context: int   # tokens of a context
    text: int      # words of a text
    nodes: int     # plan tokens
    edits: int     # edits of a plan, at most
    words: int     # vocabulary of texts
    codes: int     # vocabulary of plans
    state: int
    hidden: int
    window: int
    decisions: int
    seen: int      # edits of a trajectory that an E-step re-evaluates
    cells: int     # of a percept
    levels: tuple[int, ...]  # segments of a window at every level above the first, from the second
    scales: int    # of plans
    links: int     # scales whose sub-plans the energy holds against the state they lead to


def sizes_of(config: Any, number: int = 0, actions: int = 7) -> Sizes:
    """Reads a configuration: the sizes of one actor, the first by default."""
    m, d = config.model, config.data
    levels = (m.max_legs, *(entry.get("most", m.max_legs) for entry in m.levels[1:]))
    own = config_actors(config.model)[number].levels
    units = (m.max_steps, *levels)
    nodes = sum(units[level - 1] for level in own)
    grids = [m.step_levels if level == 1 else m.levels[level - 2]["code"] for level in own]
    grids += [m.levels[level - 2]["action"] for level in own if level > 1]
    codes = actions * (1 in own) + sum(fsq.num_codes(tuple(grid)) for grid in grids)
    link = number > 0  # (of the first an option, which counts nothing)
    aim = bool(m.get("aim", False))
    return Sizes(
        m.width, m.mlp, m.layers, m.context_layers, m.queries, aim, m.queries + 1 + d.mission_length + (number > 0) + aim,
        d.text_length,
        nodes, 2 * nodes, d.vocab, codes, m.state, m.hidden, d.window, config.em.decisions,
        min(config.em.window or 2 * nodes, 2 * nodes), (d.get("map", 0) or VIEW_SIZE) ** 2, levels, len(own),
        (len(own) - 1) * link)


# --- one pass each ---------------------------------------------------------------------------------------------------


def block(s: Sizes, tokens: float, seen: float) -> float:
    """Attention of `tokens` over `seen` keys each (their own included), and the MLP; making other sources' keys not counted."""
    return tokens * (2 * 4 * s.width**2 + 4 * s.width * s.mlp + 4 * seen * s.width)


def keys(s: Sizes, tokens: float) -> float:
    """Keys and values of a source's tokens."""
    return tokens * 4 * s.width**2


def context(s: Sizes, rows: int) -> float:
    """Context tokens of percepts and missions."""
    layer = keys(s, rows * s.cells) + block(s, rows * s.context, s.context + s.cells)
    return s.context_layers * layer + 2 * rows * s.state * s.width + (pointer(s, rows) if s.aim else 0.0)


def pointer(s: Sizes, rows: int) -> float:
    """What says which cell a mission aims at, and reads it: keys of cells and of their neighbours, values, the query."""
    return rows * (s.cells * (6 * s.width**2 + 4 * s.width) + 4 * s.width**2 * (s.queries + 1))


def read(s: Sizes, rows: int, readers: int = 0) -> float:
    """What plans are seen against: the keys of context and, for readers, of a text that is encoded on the way."""
    text = keys(s, readers * s.text) + keys(s, readers * s.context) + block(s, readers * s.text, s.text + s.context)
    return s.layers * (keys(s, rows * s.context) + text)


def plans(s: Sizes, count: int, readers: int = 0) -> float:
    """Features of `count` plans; with readers among the rows, all of them attend over a text's length."""
    tokens = count * s.nodes
    seen = s.nodes + s.context + (s.text if readers else 0)
    return 4 * tokens * s.width**2 + s.layers * block(s, tokens, seen)


def heads(s: Sizes, count: int, codes: int | None = None) -> float:
    """Stop, site and backward logits of plans, and code logits at one site of `codes` of them (all, by default)."""
    sites = 6
    coded = (count if codes is None else codes) * 4 * s.width * (s.width + s.codes)
    return count * s.nodes * 2 * s.width * 2 * sites + 2 * count * s.width + coded


def explain(s: Sizes, rows: int, each: int) -> float:
    """log p(x|z,c) of whole texts about `each` plans of every row."""
    texts, length = rows * each, s.text - 1
    layer = keys(s, 2 * rows * s.context) + keys(s, texts * s.nodes)
    layer += block(s, texts * length, length + s.context + s.nodes) + block(s, texts * s.nodes, s.nodes + s.context)
    return 4 * texts * s.nodes * s.width**2 + s.layers * layer + 2 * texts * length * s.width * s.words


def energy(s: Sizes, rows: int, each: int) -> float:
    """E(z;c) of `each` plans of every row, with the JEPA's residual on every scale."""
    count = rows * each
    head = count * s.nodes * 4 * s.width * (s.width + 1)
    residual = s.scales * count * s.nodes * 4 * s.state * s.hidden
    return read(s, rows) + plans(s, count) + head + residual + link(s, count)


def link(s: Sizes, count: int) -> float:
    """What links the expanded edges of `count` plans to their sub-plans: both scales' edges, and the states within, encoded."""
    n = s.nodes
    edges = 2 * n * 4 * s.state * s.hidden
    within = 2 * 2 * n * s.state * s.hidden + 2 * n * 2 * n * s.hidden + 2 * n * (s.hidden**2 + s.hidden * s.state)
    return s.links * count * (edges + within)


def sample(s: Sizes, rows: int, readers: int = 0) -> float:
    """One trajectory of every row, edit by edit."""
    return read(s, rows, readers) + s.edits * (plans(s, rows, readers) + heads(s, rows))


def evaluate(s: Sizes, rows: int, readers: int, edits: int) -> float:
    """Log probabilities of trajectories of `edits` edits, in one flat batch."""
    states = rows * (edits + 1)
    return read(s, rows, readers) + plans(s, states, readers) + heads(s, states, rows * edits)


def write(s: Sizes, rows: int) -> float:
    """A text about each row's plan, word by word."""
    before = s.layers * (
        keys(s, 2 * rows * s.context) + keys(s, rows * s.nodes) + block(s, rows * s.nodes, s.nodes + s.context))
    word = s.layers * block(s, rows, s.text + s.context + s.nodes) + 2 * rows * s.width * s.words
    return 4 * rows * s.nodes * s.width**2 + before + (s.text - 1) * word


# --- the JEPA --------------------------------------------------------------------------------------------------------


def percepts(s: Sizes, count: float) -> float:
    """Level-1 states of percepts."""
    return 2 * count * ((CELL * s.cells + COMPASS) * s.hidden + s.hidden**2 + s.hidden * s.state)


def segments(s: Sizes, units: float, count: float) -> float:
    """States of segments one level up, of units of the level below."""
    return 2 * units * s.state * s.hidden + 2 * count * (s.hidden**2 + s.hidden * s.state)


def climb(s: Sizes, rows: int, extra: int) -> float:
    """States of all levels above the first along windows, with `extra` segments each; each level also sees the start alone."""
    units, total = s.window, 0.0
    for most in s.levels:
        total += segments(s, units + 1, most + extra + 1)
        units = most + extra
    return rows * total


def lift(s: Sizes, rows: int) -> float:
    """Start states at all levels above the first."""
    return len(s.levels) * segments(s, rows, rows)


def quantised(s: Sizes, extra: int) -> float:
    """Codes of a window's states at all levels."""
    return 2 * (s.window + 1 + sum(most + extra + 1 for most in s.levels)) * s.state * s.hidden


def observed(s: Sizes, rows: int) -> float:
    """Codes of an executed window: what a case costs."""
    return rows * (percepts(s, s.window + 2) + quantised(s, 1)) + climb(s, rows, 1) + lift(s, rows)


def imagined(s: Sizes, rows: int) -> float:
    """Codes of a drafted plan, rolled out by the world model."""
    return rows * (percepts(s, 1) + s.window * 4 * s.state * s.hidden + quantised(s, 1)) + climb(s, rows, 1)


def jepa(s: Sizes, rows: int, horizon: int) -> float:
    """All levels' forward pass: encoders, predictions over horizons, inverse dynamics, variances, codes."""
    up_down = 4 * s.state * s.hidden
    level = lambda n, ahead: n * (ahead + 1) * up_down + n * (up_down + up_down / 2) + (n + 1) * up_down / 2  # noqa: E731
    upper = sum(level(most, 2) for most in s.levels)
    return rows * (percepts(s, s.window + 1) + level(s.window, horizon) + upper) + climb(s, rows, 0)


def between(s: Sizes, rows: int) -> float:
    """The gradient step between levels: all levels once, then each pair; through the upper one gradients only pass."""
    units = s.window
    total = below = percepts(s, s.window + 1)
    for most in s.levels:
        upper = segments(s, units + 1, most + 1)
        total += upper + 3 * below + 2 * (upper + most * 4 * s.state * s.hidden)
        units, below = most, upper
    return rows * total


def watch(s: Sizes, rows: int, config: Any) -> float:
    """Variance heads along every row's edges, and the indicators' networks with their gradients."""
    hidden, features = 2 * s.state, (1 + len(s.levels)) * s.state + s.queries * s.width
    per_row = 2 * features * hidden + hidden**2 + len(config.model.levels[-1]["action"]) * hidden + 6 * hidden
    per_edge = (s.state + s.scales) * hidden + 2 * hidden
    return rows * (s.scales * s.nodes * 4 * s.state * s.hidden + 3 * 2 * (per_row + s.scales * s.nodes * per_edge))


def characteristics(actors: list[Sizes], rows: int, kind: str) -> float:
    """A step of what actors say of sub-plans: each samples a plan; those below the first are measured, features of the others
    read; the networks of each pair with their gradients."""
    total = percepts(actors[0], rows) + lift(actors[0], rows)
    for number, s in enumerate(actors):
        total += context(s, rows) + sample(s, rows)
        if number:
            above, size = actors[number - 1], 1 if kind == "risk" else SIZE
            hidden = min(2 * s.width, 128)
            total += read(above, rows) + plans(above, rows) + energy(s, rows, 2) + heads(s, rows, 0)
            total += link(dataclasses.replace(s, links=1), rows)
            # inputs need no gradient
            total += 2 * rows * (2 * (s.width + above.scales) + 3 * size) * hidden
            if kind == "learned":
                total += 2 * rows * ((2 * s.width + 3 * size) * hidden + 3 * size * len(NAMES) + size * len(NAMES))
    return total


def belief(s: Sizes, config: Any) -> float:
    """A step of the belief: embeddings without gradient; updates at every step; predictions, decoding at the anchors."""
    m, b = config.model.belief, config.belief
    rows, mlp = b.rows + b.walks, lambda a, z: 2 * m.hidden * (a + z)  # noqa: E731
    anchors = rows * (b.anchors if 0 < b.anchors <= b.steps else b.steps + 1)
    own = 2 * m.features  # of the cell ahead and the own slot
    predict, update = m.members * mlp(own + 32, own + 1), s.cells * mlp(2 * m.features, 2 * m.features)
    decode = mlp(s.cells * m.features, s.state)
    watched = rows * ((b.steps + 1) * update + b.steps * predict)
    read = anchors * (decode + 2 * s.cells * m.features * sum(CODES))
    ahead = b.horizon * (anchors * predict) + (b.horizon + 1) * read
    said = anchors * (decode + predict)
    return percepts(s, rows * (b.steps + 1)) + 3 * (watched + ahead + said)


# --- train steps -----------------------------------------------------------------------------------------------------


def step_flops(config: Any) -> dict[str, float]:
    """Matmul FLOPs of one call of every train step, over the whole batch, without rematerialisation."""
    s, r = sizes_of(config), config.em.rows
    steps, share = {}, config.model.get("share_layers", False)
    for number, actor in enumerate(config_actors(config.model)):
        of_actor = actor_flops(sizes_of(config, number), r)
        steps |= {step_name(n, actor.name): f for n, f in of_actor.items() if n != "habit" or not number or not share}
    steps["indicators"] = (
        percepts(s, r.indicators) + lift(s, r.indicators) + context(s, r.indicators) + sample(s, r.indicators)
        + energy(s, r.indicators, 3) + heads(s, r.indicators, 0) + watch(s, r.indicators, config))
    if config.jepa.get("between", 0.0) > 0:
        steps["between"] = between(s, config.data.batch_size // (config.microbatches * config.groups))
    if kind := config.model.get("characteristics", ""):
        every = [sizes_of(config, number) for number in range(len(config_actors(config.model)))]
        steps["characteristics"] = characteristics(every, r.characteristics, kind)
    if config.model.belief.size:
        steps["belief"] = belief(s, config)
    parts = config.groups * config.microbatches
    whole = config.data.batch_size // config.microbatches
    return {"jepa": config.microbatches * 3 * jepa(s, whole, config.jepa.horizon), **{n: parts * f for n, f in steps.items()}}


def actor_flops(s: Sizes, r: Any) -> dict[str, float]:
    """Of a group, the train steps that every actor has; r: `config.em.rows`."""
    p, q = r.posterior, r.prior
    rows, readers = 2 * (p + q), 2 * p
    both = lambda n: observed(s, n) + imagined(s, n)  # noqa: E731
    return {
        "habit": percepts(s, r.habit) + lift(s, r.habit) + 3 * (
            context(s, r.habit) + r.habit * 4 * s.width * (s.queries + s.aim) * s.width),
        "ground": both(r.told) + observed(s, r.untold) + 2 * both(r.ranked) + 3 * (
            context(s, r.told + r.untold) + read(s, r.told + r.untold, r.told)
            + plans(s, (r.told + r.untold) * s.decisions, r.told) + heads(s, (r.told + r.untold) * s.decisions)
            + explain(s, r.told, 1) + context(s, r.ranked) + energy(s, r.ranked, 3)),
        "e_step": both(p) + observed(s, q) + 4 * context(s, p + q) + sample(s, rows, readers)
        + 3 * evaluate(s, rows, readers, s.seen)
        + energy(s, 2 * q, s.seen + 1) + explain(s, readers, 4) + energy(s, readers, 4),
        "sleep": observed(s, r.sleep) + 3 * context(s, r.sleep) + sample(s, r.sleep) + write(s, r.sleep)
        + sample(s, r.sleep, r.sleep) + 3 * evaluate(s, r.sleep, r.sleep, s.edits),
        "m_step": both(r.m_step) + 3 * context(s, r.m_step) + sample(s, r.m_step, r.m_step)
        + 2 * sample(s, 2 * r.m_step, r.m_step) + evaluate(s, 2 * r.m_step, r.m_step, 2 * s.edits + 1)
        + explain(s, r.m_step, 2) + energy(s, 2 * r.m_step, 2) + 3 * (energy(s, r.m_step, 2) + explain(s, r.m_step, 1)),
        "contrast": 2 * both(r.contrast) + sample(s, 2 * r.contrast, 2 * r.contrast)
        + 3 * (context(s, r.contrast) + energy(s, r.contrast, 2)),
    }


# --- decisions -------------------------------------------------------------------------------------------------------


def decision_flops(config: Any, edits: float | None = None) -> float:
    """Matmul FLOPs of one decision in planning mode: percept and mission are read, K plans sampled, their energies compared;
    with several actors, all of them plan.

    edits: network passes to sample a plan, the longest possible by default.
    """
    s = sizes_of(config)
    below = [sizes_of(config, number) for number in range(1, len(config_actors(config.model)))]
    below = [dataclasses.replace(one, edits=one.edits if edits is None else edits) for one in below]
    k, longest = config.agent.plan_samples, dataclasses.replace(s, edits=s.edits if edits is None else edits)
    leg = config.model.levels[0]
    macro = 2 * k * s.hidden * (len(leg["action"]) + leg["longest"] * 8)  # the first leg is decoded
    return percepts(s, 1) + segments(s, 1, 1) + context(s, 1) + sample(longest, k) + energy(s, k, 1) + macro + sum(
        context(one, 1) + sample(one, 1) for one in below)


def exemplary_flops(parameters: float, tokens: float) -> float:
    """2 x parameters x tokens: what a language model of that size spends on reading and writing `tokens` (keys kept)."""
    return 2.0 * parameters * tokens


def chip_hours(flops: float, peak_tflops: float, utilisation: float = 0.4) -> float:
    """Hours of one chip at a share of its peak."""
    return flops / (peak_tflops * 1e12 * utilisation) / 3600


def language_model_flops(parameters: float, tokens: float) -> float:
    """6 x parameters x tokens: training a decoder of that size (Kaplan et al. 2020)."""
    return 6.0 * parameters * tokens
