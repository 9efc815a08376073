"""What the report draws, as plain records: no model, no environment, no arrays on a device.

Whoever evaluates fills these in; the report reads them and nothing else. So the page can be built, and tested, without
an agent.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np


@dataclasses.dataclass
class EdgeView:
    """One edge of a plan tree, with the state on its right."""

    scale: int
    """Planning timescale; the finest stands for primitive actions."""
    action: str | None
    """The action in words; None where the plan leaves the edge open (a placeholder)."""
    state: str | None
    """Code of the state at the right end of the edge; None where there is none (an open target)."""
    children: list[EdgeView] = dataclasses.field(default_factory=list)
    """The sub-plan of an expanded edge, in order, one scale finer."""
    moves: list[int] = dataclasses.field(default_factory=list)
    """The primitive actions that the edge stands for (MiniGrid's ids: 0 left, 1 right, 2 forward, ...)."""


@dataclasses.dataclass
class PrincipleView:
    """A principle of the body of knowledge that a text cites."""

    name: str
    """Its id, as critiques and explanations cite it."""
    discipline: str
    statement: str


@dataclasses.dataclass
class TraceView:
    """What the Markov chains of one decision met, after 0, 1, ... M moves; the energies are those that the moves accept by."""

    chains: list[list[float]]
    """[C][M+1]: energy of each chain's state."""
    best: list[float]
    """[M+1]: the least energy met so far, of plans that can be acted on where there are any."""
    accepted: list[list[bool]]
    """[C][M+1]: whether the move was accepted; False at 0."""


@dataclasses.dataclass
class SwitchView:
    """One change of mode, with its cause."""

    step: int
    """Index of the frame at which the new mode took its first decision."""
    origin: str
    target: str
    indicator: str
    """The indicator that crossed its bar; "held" where a mode's time was over."""
    value: float
    bar: float


@dataclasses.dataclass
class PlanView:
    """One plan, as it was when the agent made it."""

    step: int
    """Index of the frame at which the plan was made."""
    edges: list[EdgeView]
    """Edges of the coarsest scale, in order."""
    energy: float
    """Plan energy E(z; c); lower is better."""
    log_prob: float | None
    """log P_F of the plan, where it is known."""
    pose: tuple[int, int, int]
    """The agent's column, row and direction (0 right, 1 down, 2 left, 3 up) then; only for drawing."""
    explanation: str
    """The plan's explanation in words."""
    principle: PrincipleView | None = None
    """The principle that the explanation cites."""
    trace: TraceView | None = None
    """The chains that led to the plan, in optimisation mode."""
    decoded: bool = False
    """Whether what is carried out was decoded from the first coarse action, the plan having no steps to begin with."""


@dataclasses.dataclass
class AimView:
    """What the agent aims at before an action, by its own pointer."""

    words: str
    """What there is, and where, as seen from the agent."""
    probability: float
    cell: tuple[int, int] | None
    """Its column and row in the frame; only for drawing. None where it is out of the agent's sight."""


@dataclasses.dataclass
class StepView:
    """How one action came about."""

    mode: str
    plan: int | None
    """Index of the plan in force; None where the habit acts without one."""
    active: int | None
    """Which primitive step of that plan is carried out, counted from its beginning; None where the habit acts."""
    indicators: dict[str, float] = dataclasses.field(default_factory=dict)
    """What was read before the action; NaN where there was nothing to be read."""
    aim: AimView | None = None
    """What was aimed at; None where the agent has no pointer."""


@dataclasses.dataclass
class EpisodeView:
    """One episode, to be played back."""

    seed: int
    mode: str
    mission: str
    situation: str
    success: bool
    frames: list[np.ndarray]
    """uint8 [H, W, 3] each; frame t is what was there before action t, the last frame is the end."""
    actions: list[str]
    """The action taken at each frame but the last."""
    plans: list[PlanView]
    """Plans in the order of their steps; empty in habitual mode."""
    tile: int
    """Pixels a cell."""
    steps: list[StepView] = dataclasses.field(default_factory=list)
    """One for each action; without them, the newest plan counts as in force and as carried out step by step."""
    switches: list[SwitchView] = dataclasses.field(default_factory=list)
    """Changes of mode, in order."""
    note: str = ""
    """What is missing and why, for the reader."""


@dataclasses.dataclass
class TextView:
    """What the exemplary actor wrote for one situation, all versions."""

    seed: int
    mission: str
    situation: str
    versions: list[dict[str, Any]]
    """In order; keys kind ("draft" or "final"), text, critique, principle, energy; each but text may be missing."""
