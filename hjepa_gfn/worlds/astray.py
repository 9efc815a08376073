"""Episodes that begin where an agent has gone astray: after actions that no expert would take, the teacher plans anew.

Who learns from an expert's episodes alone sees none of the states that its own mistakes lead to (Ross et al. 2011). Their seeds
say that they are such (`seeds.ASTRAY`), so that whatever is made anew from a level and a seed begins in the same state.
"""
from collections.abc import Callable

import numpy as np
from minigrid.envs.babyai.core.verifier import Instr
from minigrid.minigrid_env import MiniGridEnv

from hjepa_gfn.worlds.seeds import ASTRAY

LONGEST = 12  # actions


def wander(env: MiniGridEnv, rng: np.random.Generator) -> int:
    """An action: it mostly goes on, now and then turns, handles what is ahead, or puts down what it carries."""
    ahead, draw = env.grid.get(*env.front_pos), rng.random()
    if ahead is not None and ahead.can_pickup() and env.carrying is None and draw < 0.3:
        return int(env.actions.pickup)
    if ahead is not None and ahead.type in ("door", "box") and draw < (0.3 if ahead.type == "door" else 0.02):
        return int(env.actions.toggle)
    if ahead is None and env.carrying is not None and draw < 0.1:
        return int(env.actions.drop)
    return int(rng.choice([env.actions.left, env.actions.right, env.actions.forward], p=[0.2, 0.2, 0.6]))


def begun(instruction: Instr) -> bool:
    """Whether a part of a mission of several is fulfilled."""
    parts = [getattr(instruction, name, None) for name in ("instr_a", "instr_b")]
    done = [getattr(instruction, name, False) == "success" for name in ("a_done", "b_done")]
    return any(done) or any(begun(part) for part in parts if part is not None)


def begin_astray(env: MiniGridEnv, seed: int, reset: Callable[[], object]) -> dict:
    """Takes 1 to `LONGEST` actions, drawn by the seed, in a simulator right after its reset, and returns the observation there.
    The walk stops before an action that would end the episode or fulfil a part of the mission: nothing but percept and mission
    tells what was done before.

    `reset`: begins the same episode again.
    """
    rng, actions = np.random.default_rng([ASTRAY, seed]), []
    for _ in range(rng.integers(1, LONGEST + 1)):
        action = wander(env, rng)
        _, _, terminated, truncated, _ = env.step(action)
        if terminated or truncated or begun(env.instrs):
            reset()
            for earlier in actions:
                env.step(earlier)
            break
        actions.append(action)
    env.step_count = 0  # the episode begins here
    return env.gen_obs()
