"""Reading the indicators at every decision: of plans made anew, and of the plan that is being followed.

The agent's percepts and mission are all that goes in. A freshly made plan tells whether the situation is one where plans are
as likely as they use to be; the rest of the plan that is being followed tells whether the world still is where it leads.
"""
from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from hjepa_gfn.agent.agent import Agent
from hjepa_gfn.agent.believing import KeptBelief, percept_surprise
from hjepa_gfn.agent.decision import habit_log_prob
from hjepa_gfn.agent.following import PlanFollower
from hjepa_gfn.agent.modes import Percept, encode
from hjepa_gfn.agent.reading import first_leg
from hjepa_gfn.errors import UserError
from hjepa_gfn.objectives import indicators
from hjepa_gfn.objectives.energy import make_ground, plan_energy
from hjepa_gfn.objectives.jepa import LOG_VARIANCE
from hjepa_gfn.objectives.policies import Exploration, roots, sample_plans
from hjepa_gfn.objectives.system import Params, System
from hjepa_gfn.plans import Plan, advance, coarse_view, root_plan, tree_edits
from hjepa_gfn.worlds.kinds import novelty
from hjepa_gfn.worlds.protocol import Observation

# What the controller's table may name. All are larger the worse, but the two charges.
NAMES = ("surprise", "surprise_fresh", "risk", "risk_followed", "subplan_surprise", "ambiguity", "charge", "percept_charge",
         "left_plan", "prediction_error", "contradiction", "novelty", "percept_surprise")


def read(
    system: System, params: Params, key: jnp.ndarray, percept: Percept, mission: jnp.ndarray, followed: Plan, has: jnp.ndarray,
    expected: jnp.ndarray, samples: int, temperature: float,
) -> dict[str, jnp.ndarray]:
    """The indicators of B situations, each [B]; K = `samples` plans are made anew in each.

    Args:
      followed: [B] the rest of the plan that is followed, where `has` bool [B]; expected: int32 [B], the step-state code that
        it expects now, or -1.
    Returns: risk, risk_followed (nats a decision), surprise_fresh (the mean risk of the new plans against the watchdog's
      prediction), surprise (that of the followed plan, where there is one), subplan_surprise (meta-prediction; 0 without a
      sub-plan), ambiguity, charge, percept_charge (0 where nothing is followed), and the watchdog's "predicted", "deviation".
    """
    batch = mission.shape[0]
    context, start = encode(system, params, percept, mission)
    ground = make_ground(system, params, *start)
    rows = np.repeat(np.arange(batch), samples)
    wide = jax.tree.map(lambda x: x[rows], context)
    fresh = sample_plans(system, params, key, wide, None, Exploration(temperature))
    many = jax.tree.map(lambda x: x.reshape(batch, samples, *x.shape[1:]), fresh)
    one = jax.tree.map(lambda x: x[:, 0], many)
    # columns: root, followed, the first new plan's coarse view, then all new plans
    first = [jax.tree.map(lambda x: x[:, None], plan) for plan in (roots(system, batch), followed, coarse_view(one))]
    plans = jax.tree.map(lambda *xs: jnp.concatenate(xs, axis=1), *first, many)
    features = system.net(params, plans, context, None, method="features")
    energy = plan_energy(system, params, plans, features, ground)
    log_stop = system.net(params, features[:, :1], first[0], 0, method="edits").log_stop
    risk = (energy - energy[:, :1] - log_stop) / (tree_edits(plans) + 1)

    seen = indicators.situation(system, context, start)
    foreseen = system.watch(params, seen, method="risk")
    surprise_fresh = indicators.standardise(risk[:, 3:].mean(1), foreseen)
    macro = ground.macro[jnp.maximum(one.action[:, 0, 0] - 1, 0)]
    added = indicators.standardise(energy[:, 3] - energy[:, 2], system.watch(params, seen, macro, method="subplan"))
    leg = first_leg(system, params, fresh)
    before = habit_log_prob(system, params, wide, leg).reshape(batch, samples)
    from_expected = indicators.percept_charge(system, params, followed, percept, mission, expected)
    vagueness = indicators.ambiguity(system, params, jax.tree.map(lambda x: x[:, 3:], plans), ground)
    return {
        "risk": risk[:, 3:].mean(1), "risk_followed": risk[:, 1], "surprise_fresh": surprise_fresh,
        "surprise": jnp.where(has, indicators.standardise(risk[:, 1], foreseen), surprise_fresh),
        "subplan_surprise": jnp.where(indicators.has_subplan(one), added, 0.0), "ambiguity": vagueness.mean(1),
        "charge": indicators.affective_charge(before, -energy[:, 3:]), "percept_charge": jnp.where(has, from_expected, 0.0),
        "predicted": foreseen.mean, "deviation": jnp.exp(0.5 * jnp.clip(foreseen.log_variance, *LOG_VARIANCE)),
        "first_risk": risk[:, 3]}


def prediction_error(system: System, params: Params, before: Percept, action: jnp.ndarray, after: Percept) -> jnp.ndarray:
    """Mean squared error of the JEPA's one-step prediction over its own predicted variance, [B]: what a watchdog without plans
    would look at."""
    z = system.level(params, before["view"], before["direction"], method="encode")
    found = system.level(params, after["view"], after["direction"], method="encode")
    error = system.level(params, z, action, method="predict", level=1) - found
    log_variance = jnp.clip(system.level(params, z, action, method="log_variance", level=1), *LOG_VARIANCE)
    return jnp.mean(error**2 * jnp.exp(-log_variance), -1)


class IndicatorReader:
    """`indicate` of a controller: keeps, for each episode, the plan that its planning mode follows, and what is left of it.

    Give `on_decision` to the modes that plan, then what follows their plans to `follow`. Without one, only new plans are looked
    at. At most one follower may hold a plan of an episode (a controller makes a mode `forget` where another takes over).
    """

    def __init__(self, agent: Agent, seed: int):
        self.agent = agent
        options, system = agent.config.agent, agent.system
        if system.lower:
            raise UserError("indicators are read of the plans of one actor: this agent has several (model.actors)")
        self._read = jax.jit(lambda *inputs: read(
            system, *inputs, options.get("indicator_samples", 4), options.temperature))
        self._advance = jax.jit(advance)
        self._error = jax.jit(lambda *inputs: prediction_error(system, *inputs))
        self.kept = KeptBelief(system.belief, agent.params["belief"]) if system.belief else None
        self.begin(seed)

    def begin(self, seed: int) -> None:
        """New episodes, with nothing followed: as if made anew, but what is compiled stays."""
        self.key, self.tick, self.followers = jax.random.key(seed), 0, ()
        self.before: tuple[Percept, np.ndarray] | None = None
        self.plan: Plan | None = None
        self.spelled_out: np.ndarray | None = None

    def follow(self, *followers: PlanFollower) -> None:
        """Whose plans are followed."""
        self.followers = followers

    def on_decision(self, row: int, decision: Any) -> None:
        """A plan was made for an episode: it is followed from now on."""
        for held, new in zip(self.plan, decision.plan, strict=True):
            held[row] = new
        self.spelled_out[row] = bool(decision.leg.count > 0) and not bool(decision.leg.decoded)

    def __call__(self, observation: Observation, running: np.ndarray) -> dict[str, np.ndarray]:
        """The indicators of all episodes, each [B]; called before every decision, as each call takes a step of the plans."""
        batch = len(running)
        self.step_on(batch)
        self.tick += 1
        percept = {name: jnp.asarray(value) for name, value in observation.percept.items()}
        has, expected = np.zeros(batch, bool), np.full(batch, -1, np.int32)
        left = np.zeros(batch)
        for follower in self.followers:
            if follower.queue is not None:
                held = self.spelled_out & np.array([bool(queue) for queue in follower.queue])
                expected = np.where(held, follower.expected, expected).astype(np.int32)
                has |= held
        if self.followers:
            left = np.asarray(self.agent.act["left_plan"](self.agent.params, percept, expected))
        found = self._read(
            self.agent.params, jax.random.fold_in(self.key, self.tick), percept, self.agent.missions(observation.mission),
            jax.tree.map(jnp.asarray, self.plan), has, expected)
        # without a plan that is followed there is nothing to be said of it: NaN, to which no rule of the table applies
        found = {name: np.array(value, np.float64) for name, value in found.items()} | {"left_plan": left.astype(float)}
        for name in ("risk_followed", "percept_charge", "left_plan"):
            found[name] = np.where(has, found[name], np.nan)
        error, unexpected = np.full(batch, np.nan), np.full(batch, np.nan)  # before the first action nothing was predicted
        if self.before is not None:
            error = np.asarray(self._error(self.agent.params, *self.before, percept), np.float64)
            if self.kept:
                unexpected = np.asarray(
                    percept_surprise(self.kept.belief, self.kept.params, self.kept.state, percept["view"]), np.float64)
        # of a world that is remembered; without a map nothing can contradict it
        contradiction = np.asarray(observation.percept.get("contradicted", np.full(batch, np.nan)), np.float64)
        kinds = self.agent.kinds
        rarest = np.full(batch, np.nan) if kinds is None else novelty(kinds, np.asarray(observation.percept["view"]))
        return found | {"followed": has, "prediction_error": error, "contradiction": contradiction, "novelty": rarest,
                        "percept_surprise": unexpected}

    def acted(self, observation: Observation, actions: np.ndarray) -> None:
        """What was done at a percept: the next one is compared with what the JEPA predicts from it, and with what the belief
        expects."""
        if self.kept:
            if self.before is None:
                self.kept.begin(len(actions))
            self.kept.perceive(observation.percept, np.ones(len(actions), bool))
            self.kept.act(actions)
        self.before = {name: jnp.asarray(value) for name, value in observation.percept.items()}, np.asarray(actions)

    def step_on(self, batch: int) -> None:
        """A decision has passed: what is left of the plans."""
        if self.plan is None:
            plan, self.spelled_out = root_plan(self.agent.system.spec, (batch,)), np.zeros(batch, bool)
        else:
            plan = self._advance(jax.tree.map(jnp.asarray, self.plan))
        self.plan = Plan(*map(np.array, plan))
