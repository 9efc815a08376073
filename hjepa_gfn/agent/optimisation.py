"""Optimisation mode: chains of plans that go back with P_B and forward with P_F, accepted by energy (DESIGN section 5).

In each situation C plans z ~ P_F(z|c) begin a Markov chain each. A move is one exact Metropolis-Hastings step against

    energy = "plan":           pi(z)    = exp(-E(z;c) / tau)
    energy = "plan_and_text":  pi(z, x) = exp(-(E(z;c) - log p(x|z,c)) / tau)
tau = 1 is what the actor was trained to sample. A move of pairs is a move of z at fixed x, then one of x at fixed z
(`objectives.text_moves`). *Anytime*: what is known after every move comes back, so that a caller can cut where it likes.
Early exit is a stopping time: after a fixed number of moves the target is stationary, but a run that ends where nothing moves
any more favours the places where chains stick (`patience = 0` never ends early).

Of several actors the first one's plan is moved. With characteristics (`agent.elaboration`) E + w r stands in the place of E,
with the risk r that is foreseen of the first leaf edge, and after every `elaborate` moves the lower actor makes a sub-plan of
the best plan met (the best whose edge has none yet): what it turns out to be counts from then on, for all chains and for the
best plan, before the next move. Each such time the target changes: stationary is what lies between two of them.
"""
from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from hjepa_gfn.agent.decision import (
    REMEMBERED,
    TOO_VAGUE,
    Decision,
    Percept,
    Trace,
    draw_by_habit,
    encode,
    how_legs_begin,
    passes_to_build,
)
from hjepa_gfn.agent.elaboration import Memory, edge_name, edge_risk, elaborate, nothing_made, recall, true_risk
from hjepa_gfn.agent.options import Optimise
from hjepa_gfn.agent.reading import first_leg
from hjepa_gfn.gflownet import mcmc
from hjepa_gfn.gflownet.rollout import choose
from hjepa_gfn.models.agent_network import Context
from hjepa_gfn.objectives.cases import take, take_ground
from hjepa_gfn.objectives.em import sample_text
from hjepa_gfn.objectives.energy import Ground, energy_of, make_ground, plan_energy, text_log_prob
from hjepa_gfn.objectives.moves import plan_walker
from hjepa_gfn.objectives.policies import Exploration, Narrow, sample_plans
from hjepa_gfn.objectives.system import Params, System
from hjepa_gfn.objectives.text_moves import num_words, rewrite
from hjepa_gfn.plans import Plan

FAR = 1 << 30  # further keys are folded in here: far from the counters that the noise of the first plans is drawn at


class Chains(NamedTuple):
    """States of R chains."""

    plan: Plan                # [R]
    energy: jnp.ndarray       # [R] E(z;c)
    text: jnp.ndarray | None  # int32 [R, X]
    log_text: jnp.ndarray     # [R] log p(x|z,c); 0 without texts
    vague: jnp.ndarray        # bool [R] whether the plan cannot be acted on (known of one actor only)
    risk: jnp.ndarray | None = None  # [R] r, as it is part of the energy; None where there are no characteristics
    habit: jnp.ndarray | None = None  # [R] log probability that the habit gives to how the plan begins, where that chooses

    @property
    def total(self) -> jnp.ndarray:
        """E(z;c) - log p(x|z,c) [R], what is optimised."""
        return self.energy - self.log_text


class Anytime(NamedTuple):
    """What is known after 0, 1, ... M moves; what was not done repeats the last that was."""

    chains: Chains            # leaves [M+1, B, C, ...] the chains' states
    best: Chains              # leaves [M+1, B, ...]    the least `total` met so far (of plans that can be acted on, if any)
    accepted: jnp.ndarray     # bool [M+1, B, C] whether the plan's move was accepted (False at 0, and past the last move)
    passes: jnp.ndarray       # int32 [M+1, B] network passes so far, all chains together
    moves: jnp.ndarray        # int32 [] how many were done
    memory: Memory | None = None  # [B, S] with characteristics: the sub-plans that were made, all in all


class Scene(NamedTuple):
    """What the moves of one decision have in common."""

    system: System
    params: Params
    context: Context          # [R]
    ground: Ground            # [R]
    options: Optimise
    narrow: Narrow | None = None
    memory: Memory | None = None  # [R, S] with characteristics
    remembered: Percept | None = None  # [R] what percepts remember: see `decision.how_legs_begin`


def score(scene: Scene, plan: Plan) -> tuple[jnp.ndarray, jnp.ndarray | None]:
    """What is minimised of plans [R], texts aside, and the risk r that is part of it."""
    system, params, context, ground, options, _, memory, _ = scene
    seen = jax.tree.map(lambda x: x[:, None], plan)
    if memory is None:
        return energy_of(system, params, seen, context, ground)[:, 0], None
    features = system.net(params, seen, context, None, method="features")
    risk = edge_risk(system, params, plan, features[:, 0], memory)
    return plan_energy(system, params, seen, features, ground)[:, 0] + options.characteristics * risk, risk


def rescore(scene: Scene, chains: Chains, memory: Memory) -> Chains:
    """Chains [R] with what is true of their edges by now, where something is; memory [R, S]."""
    risk = true_risk(scene.system, scene.params, chains.plan, chains.risk, memory)
    return chains._replace(energy=chains.energy + scene.options.characteristics * (risk - chains.risk), risk=risk)


def beginning(scene: Scene, plan: Plan) -> dict[str, jnp.ndarray | None]:
    """Of plans [R], which cannot be acted on, and what the habit says of how they begin: fields of `Chains`. Of several actors
    the lower ones' plans are acted on."""
    system, params = scene.system, scene.params
    if system.lower:
        return {"vague": jnp.zeros(plan.batch_shape, bool), "habit": None}
    leg = first_leg(system, params, plan)
    habit = None
    if scene.options.choose == "habit":
        habit = how_legs_begin(system, params, scene.context, leg, scene.remembered)
    return {"vague": leg.count == 0, "habit": habit}


def begin(
    scene: Scene, key: jnp.ndarray, temperature: float, left: tuple[Plan, jnp.ndarray] | None = None
) -> tuple[Chains, jnp.ndarray]:
    """R chains from z ~ P_F(z|c) (and x ~ p(x|z,c)), and the network passes [R] that this took.

    left: plans [R] that chains begin from instead, where it says so, bool [R]."""
    system, params, context, _, options, _, _, _ = scene
    plan = sample_plans(system, params, key, context, None, Exploration(temperature))
    passes = passes_to_build(system, plan.num_edits) + 1
    if left is not None:
        plan, passes = choose(left[1], (left[0], jnp.ones_like(passes)), (plan, passes))
    text, log_text = None, jnp.zeros(plan.batch_shape)
    seen = jax.tree.map(lambda x: x[:, None], plan)
    if options.energy == "plan_and_text":
        text = sample_text(system, params, jax.random.fold_in(key, FAR), plan, context)
        log_text = text_log_prob(system, params, seen, context, text)[:, 0]
        passes += num_words(text) + 1
    energy, risk = score(scene, plan)
    return Chains(plan, energy, text, log_text, risk=risk, **beginning(scene, plan)), passes


def advance(
    scene: Scene, key: jnp.ndarray, chains: Chains, step: jnp.ndarray | int
) -> tuple[Chains, jnp.ndarray, jnp.ndarray]:
    """One move of R chains: (chains after it, whether the plan's move was accepted [R], network passes [R])."""
    system, params, context, _, options, narrow, _, _ = scene
    k_propose, k_accept, k_text = jax.random.split(key, 3)
    told = options.energy == "plan_and_text"
    measured = []

    def rewards(_, new):
        seen = jax.tree.map(lambda x: x[:, None], new)
        energy, risk = score(scene, new)
        log_text = text_log_prob(system, params, seen, context, chains.text)[:, 0] if told else chains.log_text
        measured.extend((energy, log_text, risk))
        return -chains.total / options.tau, (log_text - energy) / options.tau

    readers = chains.text if options.proposals == "posterior" else None
    walker = plan_walker(system, params, context, rewards, readers, narrow)
    new, move, steps = mcmc.propose(k_propose, walker, chains.plan, options.halves, step)
    built = new.num_edits - (chains.plan.num_edits - steps)
    # back, forward, both paths evaluated, the new plan's energy (and its text's probability)
    passes = steps + passes_to_build(system, built) + (steps + 1) + (built + 1) + 1 + told
    energy, log_text, risk = measured
    proposed = Chains(new, energy, chains.text, log_text, risk=risk, **beginning(scene, new))
    chains, accepted = mcmc.accept(k_accept, move, proposed, chains)
    if told:
        text, log_text, _, written = rewrite(
            system, params, k_text, chains.plan, context, chains.text, options.halves, step, options.tau)
        chains = chains._replace(text=text, log_text=log_text)
        passes += written + 2
    return chains, accepted, passes


def best_of(candidates: Chains) -> Chains:
    """Of chains [..., C] the one of least `total`; plans too vague to act on come last."""
    at = jnp.argmin(candidates.total + TOO_VAGUE * candidates.vague, axis=-1)[..., None]

    def pick(x):
        index = at.reshape(at.shape + (1,) * (x.ndim - at.ndim))
        return jnp.take_along_axis(x, index, axis=at.ndim - 1, mode="clip").squeeze(at.ndim - 1)

    return jax.tree.map(pick, candidates)


def optimise(
    system: System, params: Params, key: jnp.ndarray, percept: Percept, mission: jnp.ndarray, options: Optimise,
    temperature: float = 1.0, moves: jnp.ndarray | int | None = None, narrow: Narrow | None = None,
    left: tuple[Plan, jnp.ndarray] | None = None,
) -> Anytime:
    """Runs C chains in each of B situations for at most `moves` <= options.moves moves (default: all).

    The chains begin as `modes.plan` samples with the same key; move i draws from (key, i) only, so a run with a smaller
    budget is the beginning of one with a larger. One compiled program for all budgets.

    left: plans [B] that chains begin from instead, where it says so, bool [B]: what is left of plans that are held.
    """
    b, c, most = mission.shape[0], options.chains, options.moves
    limit = jnp.minimum(most if moves is None else moves, most)
    context, start = encode(system, params, percept, mission)
    rows = np.repeat(np.arange(b), c)
    ground = take_ground(make_ground(system, params, *start), rows)
    memory = nothing_made(system, params, b, most // max(options.elaborate, 1)) if system.characteristics else None
    scene = Scene(system, params, take(context, rows), ground, options, narrow, take(memory, rows),
                  take({name: percept[name] for name in REMEMBERED if name in percept}, rows))
    by_row = lambda x: x.reshape(b, c, *x.shape[1:])  # noqa: E731
    chains, passes = begin(scene, key, temperature, take(left, rows))
    k_moves = jax.random.fold_in(key, FAR + 1)
    wide = jax.tree.map(by_row, chains)
    now = Anytime(wide, best_of(wide), jnp.zeros((b, c), bool), 1 + by_row(passes).sum(1), jnp.zeros((), jnp.int32))
    record = jax.tree.map(lambda x: jnp.zeros((most + 1, *x.shape), x.dtype).at[0].set(x), now)

    def met(best, chains):
        wide = jax.tree.map(by_row, chains)
        return jax.tree.map(lambda kept, new: jnp.concatenate([kept[:, None], new], axis=1), best, wide)

    def deepen(i, chains, best, memory):
        """A sub-plan of the best plan whose edge has none yet, and everything scored anew with it."""
        every = met(best, chains)
        names = edge_name(system.lower[0], every.plan)
        known = jax.vmap(lambda name: recall(memory, name)[1], in_axes=1, out_axes=1)(names)
        plan = best_of(every._replace(vague=known)).plan
        key_sub = jax.random.fold_in(jax.random.fold_in(key, FAR + 2), i)
        memory, passes = elaborate(
            system, params, key_sub, percept, start, mission, plan, memory, i // options.elaborate, temperature)
        chains, best = rescore(scene, chains, take(memory, rows)), rescore(scene, best, memory)
        return chains, best_of(met(best, chains)), memory, passes

    def body(carry):
        i, quiet, chains, now, memory, record = carry
        chains, accepted, passes = advance(
            scene._replace(memory=take(memory, rows)), jax.random.fold_in(k_moves, i), chains, i)
        best, spent = best_of(met(now.best, chains)), by_row(passes).sum(1)
        if memory is not None and options.elaborate:
            chains, best, memory, more = jax.lax.cond(
                (i + 1) % options.elaborate == 0, deepen,
                lambda _, *same: (*same, jnp.zeros_like(spent)), i, chains, best, memory)
            spent += more
        now = Anytime(jax.tree.map(by_row, chains), best, by_row(accepted), now.passes + spent, i + 1)
        record = jax.tree.map(lambda rows, x: jax.lax.dynamic_update_index_in_dim(rows, x, i + 1, 0), record, now)
        return i + 1, jnp.where(accepted.any(), 0, quiet + 1), chains, now, memory, record

    def going(carry):
        i, quiet = carry[:2]
        return (i < limit) & ((quiet < options.patience) | (options.patience == 0))

    done, _, _, _, memory, record = jax.lax.while_loop(going, body, (0, 0, chains, now, memory, record))
    last = jnp.minimum(jnp.arange(most + 1), done)
    filled = jax.tree.map(lambda x: x[last], record)
    return filled._replace(accepted=filled.accepted & (jnp.arange(most + 1) <= done)[:, None, None], moves=jnp.int32(done),
                           memory=memory)


def acted_on(
    found: Anytime, move: jnp.ndarray | int, best: jnp.ndarray | bool, key: jnp.ndarray | None = None
) -> Chains:
    """What is acted on after `move` moves [B]: the best plan met, or the state of the first chain that can be acted on; with a
    key, of a chain that is drawn by habit."""
    chains, met = jax.tree.map(lambda x: x[move], (found.chains, found.best))
    able = jnp.argmin(chains.vague, axis=-1) if key is None else draw_by_habit(key, chains.habit, chains.vague)
    sample = jax.tree.map(lambda x: x[jnp.arange(x.shape[0]), able], chains)
    return choose(jnp.broadcast_to(best, able.shape), met, sample)


def decide(
    system: System, params: Params, found: Anytime, move: jnp.ndarray | int, best: jnp.ndarray | bool,
    key: jnp.ndarray | None = None,
) -> Decision:
    """The decision for `acted_on`. Of several actors it is not whole yet: see `hierarchy.optimise_down`."""
    acted = acted_on(found, move, best, key)
    by_row = lambda x: jnp.moveaxis(x, 0, 1)  # noqa: E731
    trace = Trace(by_row(found.chains.total), by_row(found.best.total), by_row(found.accepted),
                  jnp.broadcast_to(found.moves, acted.energy.shape))
    leg = None if system.lower else first_leg(system, params, acted.plan)
    return Decision(acted.plan, acted.energy, found.chains.energy[move], leg, found.passes[move], trace)
