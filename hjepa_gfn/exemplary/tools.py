"""The exemplary actor's tools: a bounded planner (BabyAI's bot) and a simulator to try plans in.

Both may use the simulator's true state: they belong to the teacher. Bounds are counts, never seconds, so that
every run of the same seed ends the same way on any machine.
"""

import pickle
from typing import NamedTuple

import numpy as np
from minigrid.envs.babyai.core.verifier import ObjDesc
from minigrid.minigrid_env import MiniGridEnv
from minigrid.utils.baby_ai_bot import BabyAIBot, DisappearedBoxError, Subgoal

from hjepa_gfn.worlds.babyai import DONE, reset_env

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
    """BabyAI's bot with bounded planning, and with a name for what it is doing."""

    def __init__(self, env: MiniGridEnv):
        """`env`: a simulator right after its reset."""
        super().__init__(env)
        self.stack = _BoundedStack(self.stack)
        self._numbers: dict[int, int] = {}
        self._kept: list[Subgoal] = []

    def act(self) -> tuple[int, str, int]:
        """The next action, the name of the subgoal it serves, and that subgoal's number.

        Raises:
            TeacherStuck: no action within the bounds, or the bot broke one of its own assumptions.
        """
        self.stack.pushes = 0
        try:
            action = self.replan()
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


def run_bot(env: MiniGridEnv, seed: int) -> Episode:
    """The planner's episode from a seed, start to end (or to where the planner is at a loss: then no success)."""
    episode, _ = run_bot_with_start(env, seed)
    return episode


def run_bot_with_start(env: MiniGridEnv, seed: int) -> tuple[Episode, "Simulation"]:
    """As `run_bot`; also a simulation of the episode's start, to try other plans in."""
    observation = reset_env(env, seed)
    start = Simulation(env)
    views, directions = [observation["image"]], [observation["direction"]]
    actions, names, keys = [], [], []
    reward, over = 0.0, False
    try:
        bot = BoundedBot(env)
        while not over:
            action, name, key = bot.act()
            if name == "done":  # the bot believes that it is done and has nothing to add
                break
            observation, reward, terminated, truncated, _ = env.step(action)
            over = terminated or truncated
            views.append(observation["image"])
            directions.append(observation["direction"])
            actions.append(action)
            names.append(name)
            keys.append(key)
    except TeacherStuck:
        reward = 0.0
    view, direction = np.stack(views), np.array(directions, np.int32)
    return Episode(int(seed), observation["mission"], reward > 0, view, direction, actions, names, keys), start


class Outcome(NamedTuple):
    """What trying a plan gave: whether it fulfilled the mission, and after how many steps it ended."""

    success: bool
    steps: int


class Simulation:
    """A frozen copy of a simulator's state, in which action sequences are tried without touching the original."""

    def __init__(self, env: MiniGridEnv):
        """Copies `env` as it stands."""
        self._state = pickle.dumps(env, pickle.HIGHEST_PROTOCOL)

    def attempt(self, actions: list[int]) -> Outcome:
        """Takes the actions from the frozen state until they are used up or the episode ends."""
        env = pickle.loads(self._state)
        env.gen_obs = dict  # percepts are of no interest here, and cost more than all the rest
        for t, action in enumerate(actions):
            _, reward, terminated, truncated, _ = env.step(action)
            if terminated or truncated:
                return Outcome(reward > 0, t + 1)
        return Outcome(False, len(actions))
