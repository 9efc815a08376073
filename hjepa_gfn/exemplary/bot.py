"""The exemplary actor's planner: BabyAI's bot, bounded.

It may use the simulator's true state: it belongs to the teacher. Bounds are counts, never seconds, so that every run
of the same seed ends the same way on any machine.
"""

from collections import deque
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from minigrid.envs.babyai.core.verifier import ObjDesc, PutNextInstr
from minigrid.minigrid_env import MiniGridEnv
from minigrid.utils.baby_ai_bot import BabyAIBot, DisappearedBoxError, Subgoal

from hjepa_gfn.exemplary.percepts import look, set_code, world_codes
from hjepa_gfn.exemplary.rollout import Rollout, roll
from hjepa_gfn.exemplary.simulation import code_of, read_state
from hjepa_gfn.worlds.babyai import DONE, DROP, LEFT, RIGHT, reset_env

MAX_PUSHES_PER_REPLAN = 200  # BabyAIBot pushes subgoals for ever on some levels; sound re-plans push under 30
MAX_SEARCH_STEPS = 1_000_000  # breadth-first search expansions an episode


class TeacherStuck(Exception):
    """The planner gave up on an episode: out of its bounds, or one of its assumptions failed."""


class Episode(NamedTuple):
    """An executed episode of T actions.

    Attributes:
        seed, mission, success: which episode, its instruction, and whether it was fulfilled.
        view: uint8[T+1, 7, 7, 3] percepts, the last one after the last action.
        direction: int32[T+1] compass direction.
        action: T action ids.
        subgoal: T names of the planner's subgoals.
        subgoal_key: T identities of these subgoals (all exploring merged), for cutting legs.
    """

    seed: int
    mission: str
    success: bool
    view: np.ndarray
    direction: np.ndarray
    action: list[int]
    subgoal: list[str]
    subgoal_key: list[int]


class _BoundedStack(list):
    """The bot's stack of subgoals; raises when one call to `replan` pushes too often."""

    pushes = 0

    def append(self, subgoal: Subgoal) -> None:
        self.pushes += 1
        if self.pushes > MAX_PUSHES_PER_REPLAN:
            raise TeacherStuck(f"more than {MAX_PUSHES_PER_REPLAN} subgoals pushed in one step")
        super().append(subgoal)


class BoundedBot(BabyAIBot):
    """BabyAI's bot with bounded planning, quicker eyes and search, and with a name for what it is doing."""

    def __init__(self, env: MiniGridEnv):
        """`env`: a simulator right after its reset."""
        super().__init__(env)
        self.state = read_state(env)  # kept in step with `env`: percepts are read off it
        self._codes = world_codes(self.state)
        # "put a next to b" is to go next to a, pick it up, go next to b, drop it; two of four are done where it holds a
        halfway = isinstance(env.instrs, PutNextInstr) and _fits(env.carrying, env.instrs, "desc_move")
        self.stack = _BoundedStack(self.stack[:-2] if halfway else self.stack)
        self._numbers: dict[int, int] = {}
        self._kept: list[Subgoal] = []

    def take(self, action: int) -> None:
        """Takes an action in the simulator."""
        effect = self.state.step(action)
        self.mission.step(action)
        if effect.kind in ("pickup", "drop", "toggle"):
            set_code(self._codes, effect.cell, code_of(self.state, effect.cell))

    def act(self, taken: int | None = None) -> tuple[int, str, int]:
        """The next action, the name of the subgoal it serves, and that subgoal's number.

        Args:
            taken: the last action taken, where it was not the one suggested.

        Raises:
            TeacherStuck: no action within the bounds, or the bot broke one of its own assumptions.
        """
        self.stack.pushes = 0
        try:
            action = self.replan(taken)
        except (AssertionError, AttributeError, DisappearedBoxError, IndexError, TypeError, ValueError) as error:
            # The bot states its assumptions as assertions, or runs into what they do not cover (no place to drop).
            raise TeacherStuck(f"the bot failed: {error!r}") from error
        if self.bfs_step_counter > MAX_SEARCH_STEPS:
            raise TeacherStuck(f"more than {MAX_SEARCH_STEPS} search steps")
        if not self.stack:
            return DONE, "done", -1
        top = self.stack[-1]
        if top.is_exploratory():  # pushed anew at every step: one subgoal to us
            return int(action), "explore", -2
        if id(top) not in self._numbers:
            self._numbers[id(top)] = len(self._kept)
            self._kept.append(top)  # keeps the object alive, so that its id stays its own
        return int(action), _subgoal_name(top), self._numbers[id(top)]

    def _process_obs(self) -> None:
        """Marks what is in view as seen; as the bot's own, without building the percept twice."""
        _, (xs, ys) = look(self._codes, (*self.state.pos, self.state.heading), None)
        inside = (xs >= 0) & (xs < self.vis_mask.shape[0]) & (ys >= 0) & (ys < self.vis_mask.shape[1])
        self.vis_mask[xs[inside], ys[inside]] = True

    def _breadth_first_search(self, initial_states: list, accept_fn: Callable, ignore_blockers: bool) -> tuple:
        """The bot's own search, order of expansion included, with a queue that does not copy itself at each step."""
        self.bfs_counter += 1
        queue = deque((state, None) for state in initial_states)
        grid, seen, previous = self.mission.grid, self.vis_mask, {}
        while queue:
            (i, j, di, dj), before = queue.popleft()
            if (i, j) in previous:
                continue
            self.bfs_step_counter += 1
            cell = grid.get(i, j)
            previous[i, j] = before
            if accept_fn((i, j), cell):
                path, pos = [], (i, j)
                while pos:
                    path.append(pos)
                    pos = previous[pos]
                return path, (i, j), previous
            if not seen[i, j]:
                continue
            if cell and (cell.type == "wall" or (not cell.is_open if cell.type == "door" else not ignore_blockers)):
                continue
            for k, l in ((di, dj), (dj, di), (-dj, -di), (-di, -dj)):
                queue.append(((i + k, j + l, k, l), (i, j)))
        return None, None, previous


def _subgoal_name(subgoal: Subgoal) -> str:
    kind = type(subgoal).__name__.removesuffix("Subgoal")
    words = {"GoNextTo": "go next to", "Pickup": "pick up", "Drop": "drop", "Open": "open", "Close": "close"}
    datum = subgoal.datum
    if isinstance(datum, ObjDesc):
        thing = f" {datum.color or ''} {datum.type or 'object'}"
    elif hasattr(datum, "color"):
        thing = f" {datum.color} {datum.type}"
    else:
        thing = " a place" if datum is not None else ""
    return " ".join((words.get(kind, kind.lower()) + thing).split())


class BotRun(NamedTuple):
    """What the planner did from an episode's start on: a rollout, and per action the subgoal's name and identity."""

    rollout: Rollout
    subgoal: list[str]
    key: list[int]


def run(env: MiniGridEnv, seed: int, prefix: Sequence[int] = (), before: Sequence[int] = ()) -> BotRun:
    """Runs the planner from a seed, to the end or to where it is at a loss.

    Args:
        env: a simulator of the level; it is reset, and left where the episode ends.
        seed: of the episode. One that begins astray (`worlds.astray`) may begin with what is to be put somewhere in hand.
        prefix: actions to take first, whatever the planner thinks of them; the planner goes on from there.
        before: actions that are taken before there is a planner, which then finds the world so.
    """
    reset_env(env, seed)
    start = read_state(env)
    actions, names, keys = list(before), ["put down"] * len(before), [-4] * len(before)
    for action in before:
        env.step(action)
    env.gen_obs = dict  # percepts are read off our own state; the simulator's cost more than all the rest
    try:
        bot, forced, taken = BoundedBot(env), deque(prefix), None
        while not bot.state.over:
            action, name, key = bot.act(taken)
            if forced:
                action = taken = forced.popleft()
                name, key = "given", -3
            elif name == "done":  # the bot believes that it is done and has nothing to add
                break
            else:
                taken = None
            bot.take(action)
            actions.append(action)
            names.append(name)
            keys.append(key)
    except TeacherStuck:
        pass
    finally:
        del env.gen_obs
    return BotRun(roll(start, tuple(actions)), names, keys)


PUT_DOWN = ((DROP,), (LEFT, DROP), (RIGHT, DROP), (LEFT, LEFT, DROP))


def run_empty_handed(env: MiniGridEnv, seed: int) -> BotRun:
    """As `run`; the planner, which else expects an episode to begin with empty hands, is helped to put down first what it holds
    and has no use for (`worlds.astray`)."""
    done = run(env, seed)
    if done.rollout.success or done.rollout.carried[0] is None:
        return done
    reset_env(env, seed)
    if _fits(env.carrying, env.instrs, "desc", "desc_move"):
        return done
    tried = (run(env, seed, before=before) for before in PUT_DOWN)
    return next((other for other in tried if other.rollout.success), done)


def _fits(thing: object, instruction: object, *names: str) -> bool:
    """Whether a thing fits one of a mission's descriptions of these names: "desc", or "desc_move" (of "put .. next to")."""
    for name in names:
        if any(thing is other for other in getattr(getattr(instruction, name, None), "obj_set", ())):
            return True
    parts = (getattr(instruction, name, None) for name in ("instr_a", "instr_b"))
    return any(_fits(thing, part, *names) for part in parts if part is not None)


def run_bot(env: MiniGridEnv, seed: int) -> Episode:
    """The planner's episode from a seed, start to end (or to where the planner is at a loss: then no success)."""
    return episode_of(run(env, seed), int(seed), env.mission)


def episode_of(done: BotRun, seed: int, mission: str) -> Episode:
    """The planner's run as an episode."""
    r = done.rollout
    return Episode(seed, mission, r.success, r.views, r.directions, list(r.actions), done.subgoal, done.key)
