"""The points of a resistance curve: which there are, what is measured at each, and how they are told and drawn."""
from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from hjepa_gfn.agent.agent import Agent, world_for
from hjepa_gfn.agent.runner import HabitualMode, PlanningMode, random_mode, run_episodes
from hjepa_gfn.agent.told import SpeakingMode
from hjepa_gfn.evaluation.alignment import Recorder
from hjepa_gfn.evaluation.drawing_compute import HEIGHT, WIDTH, Line, panel
from hjepa_gfn.evaluation.safety import summary

LEARNERS = {"agent": ("planning", "habitual"), "reader": ("speaker",)}  # and how each acts
TEXTS = ("harmful", "benign")
MEASURES = {"violations": "violations an episode", "success": "success"}
Point = dict[str, Any]  # learner, texts, rate, steps, losses, modes: {mode: `safety.summary`}


class Course(NamedTuple):
    """One run of fine-tuning, looked at after some steps."""

    learner: str
    texts: str
    rate: float
    steps: tuple[int, ...]


def key_of(point: Mapping[str, Any]) -> tuple[str, str, float, int]:
    """What tells points apart. After no step at all it is the agent as it was, whatever the texts and the rate."""
    nothing = not point["steps"]
    return point["learner"], "none" if nothing else point["texts"], 0.0 if nothing else point["rate"], point["steps"]


def courses(texts: Sequence[str], rates: Sequence[float], steps: Sequence[int], finished: Iterable[Point]) -> list[Course]:
    """Every course with the points that are still to be measured; what is the same in several is measured in the first."""
    done, found = {key_of(point) for point in finished}, []
    for rate in rates:
        for kind in texts:
            for learner in LEARNERS:
                keys = {number: key_of(dict(learner=learner, texts=kind, rate=rate, steps=number)) for number in steps}
                due = tuple(number for number in steps if keys[number] not in done)
                done |= set(keys.values())
                if due:
                    found.append(Course(learner, kind, rate, due))
    return found


def measure(agent: Agent, modes: Sequence[str], level: str, seeds: Sequence[int], seed: int) -> dict[str, dict[str, Any]]:
    """Harm and capability of an agent in some modes ("planning", "habitual", "speaker", "random"): see `safety.summary`."""
    unsaid = np.zeros((len(seeds), agent.config.data.text_length), np.int32)
    found = {}
    for name in modes:
        world, recorder = world_for(agent, level, len(seeds)), Recorder()
        mode = {"planning": lambda: PlanningMode(agent, seed), "habitual": lambda: HabitualMode(agent, seed),
                "speaker": lambda: SpeakingMode(agent, seed, unsaid),
                "random": lambda world=world: random_mode(seed, world.num_actions)}[name]()
        success, steps = run_episodes(world, seeds, mode, agent.config.agent.max_steps, recorder)
        found[name] = summary(level, seeds, recorder.actions(steps), success, seed)
    return found


def fingerprint(tree: Any) -> str:
    """SHA-256 of arrays, or of texts, in order."""
    digest = hashlib.sha256()
    for leaf in jax.tree.leaves(tree):
        digest.update(leaf.encode() + b"\0" if isinstance(leaf, str) else np.ascontiguousarray(leaf).tobytes())
    return digest.hexdigest()


def table_rows(point: Point) -> list[str]:
    """A point as lines of a table: a line a mode."""
    learner, texts, rate, steps = key_of(point)
    rows = []
    for mode, found in point["modes"].items():
        low, high = found["violations_interval"]
        least, most = found["success_interval"]
        rows.append(f"  {learner:9s}{texts:9s}{rate:8g}{steps:6d}  {mode:10s}{found['violations']:8.2f} [{low:.2f}, {high:.2f}]"
                    f"{found['success']:9.3f} [{least:.3f}, {most:.3f}]{found['steps']:8.1f}")
    return rows


HEADER = (f"  {'learner':9s}{'texts':9s}{'rate':>8s}{'steps':>6s}  {'mode':10s}{'violations an episode':>22s}{'success':>24s}"
          f"{'steps':>8s}")


def draw(points: Sequence[Point], rates: Sequence[float], steps: Sequence[int], texts: Sequence[str], episodes: int) -> str:
    """SVG: a row of plots a rate; harm, then capability, against steps, for each kind of texts. Steps are spread evenly."""
    by_key = {key_of(point): point for point in points}
    place = {number: float(i) for i, number in enumerate(steps)}
    plots, width = [], len(MEASURES) * len(texts)
    for row, rate in enumerate(rates):
        for column, (kind, what) in enumerate((kind, what) for kind in texts for what in MEASURES):
            lines = []
            for learner, modes in LEARNERS.items():
                keys = {number: key_of(dict(learner=learner, texts=kind, rate=rate, steps=number)) for number in steps}
                for mode in modes:
                    at = {number: by_key[key]["modes"][mode] for number, key in keys.items() if key in by_key}
                    low, high = ([found[f"{what}_interval"][side] for found in at.values()] for side in (0, 1))
                    lines.append(Line(f"{learner}, {mode}", [place[number] for number in at],
                                      [found[what] for found in at.values()], low, high))
            plots.append(panel(f"{kind} texts, rate {rate:g}: {MEASURES[what]} (n = {episodes})", lines, column, row,
                               "steps of fine-tuning", [(x, str(number)) for number, x in place.items()]))
    return (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width * WIDTH} {len(rates) * HEIGHT}" '
            f'font-family="sans-serif" font-size="11"><rect width="100%" height="100%" fill="white"/>{"".join(plots)}</svg>\n')
