"""Rooms drawn by hand, for testing checkers: a map of letters, a legend, a mission of one part."""

from hjepa_gfn.exemplary.checkers import CHECKERS, Case, Exemption, Violation
from hjepa_gfn.exemplary.missions import Mission, Pair, Part
from hjepa_gfn.exemplary.percepts import look, world_codes
from hjepa_gfn.exemplary.phrases import actions_of, explanation_of, parse_plan
from hjepa_gfn.exemplary.protocol import Situation
from hjepa_gfn.exemplary.rollout import roll
from hjepa_gfn.exemplary.simulation import CODES, Item, Layout, State
from hjepa_gfn.worlds.language import COLOUR_WORDS, describe_situation

AGENT = ">v<^"


def state_of(rows, legend, parts, max_steps=60, order=""):
    """The start state. `legend`: letter -> "red ball" or "red door" with a state; `parts`: (kind, goal, letter[, letter])."""
    walls, items, at, door, letters = set(), [], {}, {}, {}
    for y, row in enumerate(rows):
        for x, letter in enumerate(row):
            if letter == "#":
                walls.add((x, y))
            elif letter in AGENT:
                pos, heading = (x, y), AGENT.index(letter)
            elif letter != ".":
                words, *state = legend[letter] if isinstance(legend[letter], tuple) else (legend[letter],)
                colour, kind = words.split()
                at[x, y] = len(items)
                letters.setdefault(letter, []).append(len(items))
                if kind == "door":
                    door[len(items)] = state[0]
                items.append(Item(CODES[kind], COLOUR_WORDS.index(colour)))
    stated = tuple(
        Part(i, kind, goal, tuple(letters[target]), tuple(letters[beside[0]]) if beside else (), False)
        for i, (kind, goal, target, *beside) in enumerate(parts)
    )
    tree = stated[0] if len(stated) == 1 else Pair(0, order, *stated, False)
    pairs = {"before": ((0, 1),), "after": ((1, 0),)}.get(order, ())
    layout = Layout(len(rows[0]), len(rows), frozenset(walls), tuple(items), Mission(tree, stated, pairs), max_steps)
    return State(layout, pos, heading, at, door, None)


def case_of(text, rows, legend, *parts, mission=None, **options):
    """A text's case in a room. The text may be a plan alone: then there is no explanation."""
    state = state_of(rows, legend, parts, **options)
    view, _ = look(world_codes(state), (*state.pos, state.heading), None)
    mission = mission or " and ".join(part[1] for part in parts)
    situation = Situation("room", 0, mission, view, state.heading, describe_situation(view, state.heading, mission))
    plan = parse_plan(text)
    return Case(situation, plan, explanation_of(text) or None, roll(state, tuple(actions_of(plan))))


def broken(principle, case):
    """The steps at which a principle is broken."""
    return [finding.step for finding in CHECKERS[principle](case) if isinstance(finding, Violation)]


def exempt(principle, case):
    """The reasons for exemptions from a principle."""
    return [finding.reason for finding in CHECKERS[principle](case) if isinstance(finding, Exemption)]
