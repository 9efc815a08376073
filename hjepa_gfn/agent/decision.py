"""What a deliberate mode decides, and what all modes begin with: the situation encoded."""
from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from hjepa_gfn.agent.reading import FirstLeg
from hjepa_gfn.agent.returning import returns
from hjepa_gfn.models.agent_network import Context
from hjepa_gfn.objectives.system import Params, System
from hjepa_gfn.objectives.windows import encode_start
from hjepa_gfn.plans import Plan

Percept = dict[str, jnp.ndarray]
TOO_VAGUE = 1e6  # added to the energy of plans that cannot be acted on: they come last
# what percepts say of the episode before (`worlds.remembering`), if it is to count
REMEMBERED = ("tried", "stood", "faced", "blocked")
HABIT = (1 << 30) + 8  # folded into a decision's key for its draw by habit


class Trace(NamedTuple):
    """What a decision's Markov chains met, after 0, 1, ... M moves (what was not done repeats the last that was)."""

    energy: jnp.ndarray    # [B, M+1, C] what is minimised (`Chains.total`), at the chains' states
    best: jnp.ndarray      # [B, M+1] the least of it met so far
    accepted: jnp.ndarray  # bool [B, M+1, C] whether the move was accepted (False at 0)
    moves: jnp.ndarray     # int32 [B] how many were done


class Decision(NamedTuple):
    """The plan chosen in each situation, and what was decided on."""

    plan: Plan             # [B]
    energy: jnp.ndarray    # [B] of the plan chosen
    energies: jnp.ndarray  # [B, K] of all plans sampled
    leg: FirstLeg
    passes: jnp.ndarray    # int32 [B] network passes: plans (and words) that went through the trunk for this situation
    trace: Trace | None = None  # of optimisation mode
    held: tuple[Plan, ...] | None = None  # of several actors: the plans of all but the finest, from the coarsest


def encode(system: System, params: Params, percept: Percept, mission: jnp.ndarray) -> tuple[Context, tuple]:
    """Context tokens of B situations, and their start states (z^1_0, z^2_0, ...), each [B, Z]."""
    start = encode_start(system, params, percept)
    return system.net(params, percept, start[0], mission, method="context"), start


def passes_to_build(system: System, edits: jnp.ndarray) -> jnp.ndarray:
    """Plans that pass through the trunk while `edits` int32 [...] edits are made, STOP included."""
    return jnp.minimum(edits + 1, system.spec.max_edits)


def log_habits(system: System, params: Params, context: Context, tried: jnp.ndarray | None = None) -> jnp.ndarray:
    """log probabilities [R, A] of the habit, where `tried` [R, A] nats are held against actions that were taken before in the
    same situation (`agent.tried`), or lead back to how things stood (`agent.stood`): what did not help will not help, and the
    habit itself remembers nothing."""
    logits = system.net(params, context, method="habit")
    return jax.nn.log_softmax(logits if tried is None else logits - tried)


def log_habit_of(
    system: System, params: Params, context: Context, action: jnp.ndarray, tried: jnp.ndarray | None = None
) -> jnp.ndarray:
    """log probability [R] that the habit gives to actions int32 [R]; `tried`: see `log_habits`."""
    log_habit = log_habits(system, params, context, tried)
    return jnp.take_along_axis(log_habit, action[:, None], axis=1, mode="clip")[:, 0]


def habit_log_prob(
    system: System, params: Params, context: Context, leg: FirstLeg, tried: jnp.ndarray | None = None
) -> jnp.ndarray:
    """log probability [R] that the habit gives to the first action of legs [R]; where there is none the habit has no opinion:
    -log of the number of actions. `tried`: see `log_habits`."""
    begins = log_habit_of(system, params, context, leg.action[:, 0], tried)
    return jnp.where(leg.count == 0, -np.log(system.jepa.sizes.num_actions), begins)


def how_legs_begin(
    system: System, params: Params, context: Context, leg: FirstLeg, percept: Percept
) -> jnp.ndarray:
    """`habit_log_prob` of legs [R], where what percepts [R] remember counts: actions that were tried before, and legs that lead
    back to what the agent stood before already (`returning.returns`)."""
    begins = habit_log_prob(system, params, context, leg, percept.get("tried"))
    return begins - returns(leg, percept) if "faced" in percept else begins


def draw_by_habit(key: jnp.ndarray, log_habit: jnp.ndarray, vague: jnp.ndarray) -> jnp.ndarray:
    """Of C plans in each of B situations one, int32 [B], drawn in proportion to the habit's probability of how it begins,
    exp(log_habit) [B, C]; of plans that cannot be acted on, `vague` bool [B, C], only where there is no other. The habit is the
    prior over plans of active inference (Friston et al. 2016), and a second opinion, as it has a head of its own."""
    noise = jax.random.gumbel(jax.random.fold_in(key, HABIT), log_habit.shape)
    return jnp.argmax(log_habit + noise - TOO_VAGUE * vague, axis=1)


def which_of(key: jnp.ndarray, energy: jnp.ndarray, vague: jnp.ndarray, begins: jnp.ndarray | None) -> jnp.ndarray:
    """Of K plans in each of B situations the one that is acted on, int32 [B]: with `begins` [B, K] a `draw_by_habit`, without
    them that of least energy [B, K]; one that cannot be acted on, `vague` bool [B, K], only where there is no other."""
    if begins is None:
        return jnp.argmin(energy + TOO_VAGUE * vague, axis=1)
    return draw_by_habit(key, begins, vague)
