"""BabyAI levels (Chevalier-Boisvert et al. 2019) of the `minigrid` package as a batched world.

The agent gets what MiniGrid's sensors give: the 7x7x3 egocentric symbolic view, the compass direction, the mission.
"""

import contextlib
import difflib
import io
import os
from collections.abc import Iterator, Sequence

import numpy as np

os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")  # pygame greets on import

import gymnasium  # noqa: E402
import minigrid  # noqa: E402, F401  (registers the levels)
from minigrid.core.constants import DIR_TO_VEC  # noqa: E402
from minigrid.minigrid_env import MiniGridEnv  # noqa: E402

from hjepa_gfn.errors import UserError  # noqa: E402
from hjepa_gfn.worlds import astray, language  # noqa: E402
from hjepa_gfn.worlds.protocol import Observation, World  # noqa: E402
from hjepa_gfn.worlds.seeds import ASTRAY  # noqa: E402

ACTION_NAMES = ("left", "right", "forward", "pickup", "drop", "toggle", "done")
LEFT, RIGHT, FORWARD, PICKUP, DROP, TOGGLE, DONE = range(7)
MAX_DRAWS = 100_000  # random numbers that making a level may take: mostly hundreds, at most 10,000 were seen
PERCEPT_SPEC = {
    "view": ((language.VIEW_SIZE, language.VIEW_SIZE, 3), np.dtype(np.uint8)),
    "direction": ((), np.dtype(np.int32)),
}


def level_names() -> list[str]:
    """All registered BabyAI levels, sorted."""
    return sorted(name for name in gymnasium.registry if name.startswith("BabyAI-"))


def check_level(name: str) -> None:
    """Raise a UserError that suggests close names unless `name` is a registered BabyAI level."""
    names = level_names()
    if name in names:
        return
    by_lower = {known.lower(): known for known in names}
    close = difflib.get_close_matches(str(name).lower(), by_lower, n=3, cutoff=0.4)
    hint = f"did you mean {' or '.join(by_lower[c] for c in close)}?" if close else f"for example {names[0]}"
    raise UserError(f"unknown level {name!r}: {hint} ({len(names)} BabyAI levels are known)")


def make_env(name: str) -> MiniGridEnv:
    """One bare simulator of a level (no wrappers). For worlds and the exemplary actor's tools, not for agents."""
    check_level(name)
    with silenced():
        return gymnasium.make(name, disable_env_checker=True).unwrapped


@contextlib.contextmanager
def silenced() -> Iterator[None]:
    """Keeps the levels' chatter ("Sampling rejected: ...") off standard output."""
    with contextlib.redirect_stdout(io.StringIO()):
        yield


class NoSuchEpisode(UserError):
    """A level's generator finds no end with this seed."""


def reset_env(env: MiniGridEnv, seed: int) -> dict:
    """Start the episode of a seed on a simulator, silently (from `seeds.ASTRAY` on, where `worlds.astray` leads). Returns
    MiniGrid's observation.

    Raises:
        NoSuchEpisode: the level's generator does not end: MiniGrid looks for ever for a free place in a full room.
    """
    draws, draw = 0, type(env)._rand_int

    def bounded(low: int, high: int) -> int:
        nonlocal draws
        draws += 1
        if draws > MAX_DRAWS:
            name = env.spec.id if env.spec else type(env).__name__
            raise NoSuchEpisode(f"{name}: seed {seed} makes no episode: the level's generator does not end")
        return draw(env, low, high)

    def reset() -> dict:
        env._rand_int = bounded  # on the instance, for the time of the reset
        try:
            with silenced():
                return env.reset(seed=int(seed) % ASTRAY)[0]
        finally:
            del env._rand_int

    observation = reset()
    return observation if seed < ASTRAY else astray.begin_astray(env, int(seed) % ASTRAY, reset)


def moved_since_mission(env: MiniGridEnv, seed: int) -> tuple[int, int, int]:
    """How far the agent of an episode that begins astray has got since its mission was given: cells ahead and to the right, as
    seen from where that was, and quarter turns to the right. The simulator is left where the episode begins."""
    reset_env(env, seed % ASTRAY)
    place, ahead = np.array(env.agent_pos), int(env.agent_dir)
    reset_env(env, seed)
    forward, aside = (DIR_TO_VEC[(ahead + quarter) % 4] for quarter in (0, 1))
    offset = np.array(env.agent_pos) - place
    return int(offset @ forward), int(offset @ aside), (int(env.agent_dir) - ahead) % 4


class BabyAIWorld:
    """A batch of independent episodes of one BabyAI level; implements `World`."""

    percept_spec = PERCEPT_SPEC
    num_actions = len(ACTION_NAMES)
    action_names = ACTION_NAMES

    def __init__(self, name: str, batch_size: int):
        """See `make_world`."""
        if batch_size < 1:
            raise UserError(f"batch_size must be at least 1, not {batch_size}")
        self.name, self.batch_size = name, batch_size
        self._envs = [make_env(name) for _ in range(batch_size)]
        self._obs: list[dict] = []
        self._done = np.zeros(batch_size, bool)

    def reset(self, seeds: Sequence[int]) -> Observation:
        """Start one episode a row. `seeds`: `batch_size` integers; each alone determines its row's episode."""
        seeds = [int(seed) for seed in seeds]
        if len(seeds) != self.batch_size:
            raise UserError(f"world of {self.batch_size} episodes was given {len(seeds)} seeds")
        self._obs = [reset_env(env, seed) for env, seed in zip(self._envs, seeds, strict=True)]
        self._done = np.zeros(self.batch_size, bool)
        return self._observation()

    def step(self, actions: np.ndarray) -> tuple[Observation, np.ndarray, np.ndarray]:
        """Take one action a row: int[B] in. Returns observation, reward float32[B], done bool[B].

        The reward is positive exactly where the mission was fulfilled by this step. Rows that were done stay frozen.
        """
        actions = np.asarray(actions)
        if actions.shape != (self.batch_size,):
            raise UserError(f"actions must have shape ({self.batch_size},), not {actions.shape}")
        if not self._obs:
            raise UserError("step before reset: call reset(seeds) first")
        reward = np.zeros(self.batch_size, np.float32)
        for i in np.flatnonzero(~self._done):
            self._obs[i], reward[i], terminated, truncated, _ = self._envs[i].step(int(actions[i]))
            self._done[i] = terminated or truncated
        return self._observation(), reward, self._done.copy()

    def situation(self, i: int) -> str:
        """Row i's situation in words, from its percept and mission only."""
        obs = self._obs[i]
        return language.describe_situation(obs["image"], obs["direction"], obs["mission"])

    def render(self, i: int) -> np.ndarray:
        """Row i seen from above with the agent's field of view lit: uint8[H, W, 3], 16 pixels a cell; for reports."""
        return np.asarray(self._envs[i].get_frame(highlight=True, tile_size=16), np.uint8)

    def pose(self, i: int) -> tuple[int, int, int]:
        """Row i's true (x, y, direction), for drawing in reports."""
        env = self._envs[i]
        return int(env.agent_pos[0]), int(env.agent_pos[1]), int(env.agent_dir)

    def displace(self, rows: Sequence[int]) -> Observation:
        """Puts the agents of some rows at a free place that the simulator draws, turned anyhow: an accident
        for evaluations to inject. Returns the observation, which is all that the agent learns of it."""
        for i in rows:
            with silenced():
                self._envs[i].place_agent()
            self._obs[i] = self._envs[i].gen_obs()
        return self._observation()

    def _observation(self) -> Observation:
        return Observation(
            {
                "view": np.stack([obs["image"] for obs in self._obs]).astype(np.uint8),
                "direction": np.array([obs["direction"] for obs in self._obs], np.int32),
            },
            [obs["mission"] for obs in self._obs],
        )


def make_world(name: str, batch_size: int) -> World:
    """A batched world of any BabyAI level.

    Args:
        name: the level's gym id, e.g. "BabyAI-GoToLocal-v0".
        batch_size: number of episodes that are stepped together.

    Raises:
        UserError: unknown level (close names are suggested) or a batch size below 1.
    """
    return BabyAIWorld(name, batch_size)
