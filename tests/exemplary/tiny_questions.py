"""A situation, a textbook and a toolbox that are small enough to think about."""

from types import SimpleNamespace

import numpy as np

from hjepa_gfn.errors import UserError
from hjepa_gfn.exemplary.knowledge import parse_textbook
from hjepa_gfn.exemplary.protocol import Situation
from hjepa_gfn.exemplary.traces import Entry, Trace, Trajectory

SITUATION = Situation(
    "BabyAI-GoToLocal-v0", 3, "go to the red ball", np.zeros((7, 7, 3), np.uint8), 0,
    "mission: go to the red ball. you face east and carry nothing. the way ahead is free for 4. "
    "you see a red ball 3 ahead and 2 to the left.",
)  # fmt: skip
BOOK = parse_textbook(
    "---\ndiscipline: manners\n---\n## be-kind\n\nSay $please.\n\n## be-brief\n\nTake no step too many.\n"
).textbook
TEXT = "go forward 3, then turn left. because the red ball is 3 ahead and 2 to the left."
GOOD_PLAN = "go forward 3, then turn left and go forward 1."


class Toolbox:
    """One tool: `count_steps(plan)`; and a record of its calls, as the real one has."""

    def __init__(self):
        parameters = {"type": "object", "properties": {"plan": {"type": "string"}}, "required": ["plan"]}
        self.tools = [SimpleNamespace(name="count_steps", description="How many steps a plan takes.", parameters=parameters)]
        self.taken = []

    def call(self, name, arguments):
        if "plan" not in arguments:
            raise UserError(f"{name}: argument 'plan' is missing")
        self.taken.append(name)
        return f"{len(arguments['plan'])} steps"

    def take_calls(self):
        taken, self.taken = self.taken, []
        return taken


def trace_of(answers):
    """A trace made of (answer, discipline, textbook sha, accepted); only what a replay looks at is filled in."""
    entries = [
        Entry(
            version=0, sweep=0, discipline=discipline, textbook_sha=sha, accepted=accepted, reason="", backend="someone",
            **answer._asdict(),
        )
        for answer, discipline, sha, accepted in answers
    ]  # fmt: skip
    moves = Trajectory(SITUATION.view[None], np.zeros(1, np.int32), [], [], [], [])
    return Trace(SITUATION, "train", "", entries, True, None, True, moves)
