"""Hand-made episodes for the inspector: no agent, every frame of another colour."""

import math

import numpy as np

from hjepa_gfn.evaluation.report_views import (
    AimView,
    EdgeView,
    EpisodeView,
    PlanView,
    PrincipleView,
    StepView,
    SwitchView,
    TraceView,
)

NAN = math.nan
NAMES = ["left", "forward", "forward", "right", "forward", "left"]
MODES = ["habitual", "planning", "planning", "planning", "planning", "habitual"]
SURPRISE = [0.5, 2.5, NAN, 1.25, 0.75, -1.0]


def red(number):
    """How red a frame is."""
    return 20 + 25 * number


def frame(number):
    """uint8 [48, 48, 3], told from others by its colour."""
    picture = np.zeros((48, 48, 3), np.uint8)
    picture[..., 0], picture[..., 1], picture[8:40, 8:40, 2] = red(number), 90, 200
    return picture


def controlled(seed=11, success=True):
    """Six steps: habit, a plan spelled out, a decoded one, one that cannot be begun, habit."""
    fine = [EdgeView(1, "forward", "5", [], [2]), EdgeView(1, "forward", "6", [], [2])]
    first = [EdgeView(0, "forward x2", "17", fine, [2, 2]), EdgeView(0, "right", "4", [], [1])]
    second = [EdgeView(0, "right", "9", [EdgeView(1, None, "3"), EdgeView(1, "forward", "9", [], [2])], [1])]
    principle = PrincipleView("no-detours", "rationality", "Every move counts.")
    trace = TraceView([[4.0, 4.0, 2.0], [5.0, 3.0, 3.5]], [4.0, 3.0, 2.0], [[False, False, True], [False, True, True]])
    plans = [
        PlanView(1, first, 2.5, None, (0, 1, 0), "mindful of no-detours: the ball is ahead.", principle, trace),
        PlanView(3, second, 3.5, None, (2, 1, 0), "i turn right.", decoded=True),
        PlanView(4, [EdgeView(0, None, None)], 9.0, None, (2, 1, 1), "i do not know."),
    ]
    reads = [(None, None), (0, 0), (0, 1), (1, 0), (2, None), (None, None)]
    steps = [StepView(mode, plan, active, {"surprise": value, "charge": 0.25 * t, "left_plan": NAN})
             for t, (mode, (plan, active), value) in enumerate(zip(MODES, reads, SURPRISE))]
    for t, cell in ((1, (2, 1)), (2, (0, 2)), (3, None)):  # in sight, in sight elsewhere, out of sight; else no pointer
        steps[t].aim = AimView("a red ball 2 ahead" if cell else "something out of view", 0.5 + 0.1 * t, cell)
    switches = [SwitchView(1, "habitual", "planning", "surprise", 2.5, 2.0),
                SwitchView(5, "planning", "habitual", "held", 0.0, 0.0)]
    frames = [frame(t) for t in range(7)]
    return EpisodeView(seed, "controlled", "go to the ball", "a ball ahead", success, frames, NAMES, plans, 16, steps, switches)


def bare(seed=12):
    """An episode of which nothing but frames and actions is known."""
    return EpisodeView(seed, "planning", "go to the box", "a box", False, [frame(8), frame(7)], ["left"], [], 16,
                       note="No indicators here.")
