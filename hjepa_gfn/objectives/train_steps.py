"""Every train step of the system, by name: which loss, on which slice of the batch, updating which parameter groups.

This is the one registry of objectives: the loop, the mesh tests and later reports iterate over `make_train_steps`.
"""
from collections.abc import Callable
from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import optax

from hjepa_gfn.distributed.sharding import gather_for_sampling, in_groups, logical_axes, no_mesh
from hjepa_gfn.distributed.slices import mean_over_slices, num_slices
from hjepa_gfn.errors import UserError
from hjepa_gfn.gflownet.gate import gate_value, hold, threshold, update_gate
from hjepa_gfn.objectives import em, ranking
from hjepa_gfn.objectives.actors import config_actors, step_name
from hjepa_gfn.objectives.aims import aims_of
from hjepa_gfn.objectives.anti_collapse import term_of
from hjepa_gfn.objectives.belief import belief_loss
from hjepa_gfn.objectives.between import between_loss
from hjepa_gfn.objectives.cases import make_case, make_told_case
from hjepa_gfn.objectives.characteristics import characteristics_loss
from hjepa_gfn.objectives.groups import SAMPLER_GROUPS, Params, actor_view, moving_groups
from hjepa_gfn.objectives.indicators import indicators_loss
from hjepa_gfn.objectives.jepa import jepa_loss
from hjepa_gfn.objectives.state import (
    Rate,
    TrainState,
    accumulate,
    apply_gradients,
    gate_of,
    init_state,
    learning_rate,
    make_optimizer,
    with_gate,
)
from hjepa_gfn.objectives.system import System, init_params
from hjepa_gfn.objectives.windows import encode_start

__all__ = ["TrainState", "check_rows", "init_state", "learning_rate", "make_optimizer", "make_train_steps", "schedule"]

Metrics = dict[str, jnp.ndarray]
# the train steps that sample plans or texts
SAMPLING = ("e_step", "sleep", "m_step", "contrast", "indicators", "characteristics")
OF_EVERY_ACTOR = ("habit", "ground", "e_step", "sleep", "m_step", "contrast")  # habit: of those with a context encoder
SEEDS = 1 << 20  # folded into a loss's key, where seeds are drawn
PLAIN = 0.4  # share of a lower actor's cases that begin from a plain root, where `em.plain` does not say


def _first(batch: Any, rows: int) -> Any:
    return jax.tree.map(lambda x: x[:rows], batch)


def check_rows(config: Any) -> None:
    """Raises UserError where a batch cannot be cut into microbatches and groups that hold the rows each train step takes."""
    parts = config.microbatches * config.groups
    if config.microbatches < 1 or config.groups < 1 or config.data.batch_size % parts:
        raise UserError(
            f"data.batch_size={config.data.batch_size} must be a multiple of microbatches x groups = "
            f"{config.microbatches} x {config.groups}")
    group = config.data.batch_size // parts
    for name, rows in config.em.rows.items():
        if name == "characteristics" and not config.model.get(name, ""):
            continue
        room = group * config.data.window if name == "habit" else group
        if not 0 < rows <= room:
            raise UserError(f"em.rows.{name}={rows}: a group has {room} rows (batch_size / microbatches / groups = {group})")
    # not at the top: it loads the jitted world, which computes as it is imported, and a pod's hosts must have met before
    from hjepa_gfn.objectives import episodes

    episodes.check(config, group)


def actor_losses(system: System, config: Any) -> dict[str, tuple]:
    """What every actor learns by: name -> (groups, loss, what follows the update, if anything), for one actor.

    Each loss is (parameters as the actor sees them, key, batch) -> (loss, metrics).
    """
    options, rows, plain = config.em, config.em.rows, config.em.get("plain", PLAIN)

    def habit(params, key, batch):
        window = batch["start"]
        # each situation of the window is an example; `rows.habit` of them are drawn
        flat = {name: window[name][:, :-1].reshape(-1, *window[name].shape[2:]) for name in ("view", "direction")}
        width = window["action"].shape[1]
        real = (jnp.arange(width) < window["length"][:, None]).reshape(-1)
        chosen = jax.lax.top_k(jnp.where(real, jax.random.uniform(key, real.shape), -1.0), rows.habit)[1]
        percept = {name: x[chosen] for name, x in flat.items()}
        state = jax.lax.stop_gradient(encode_start(system, params, percept)[0])
        action, weight = window["action"].reshape(-1)[chosen], real[chosen].astype(jnp.float32)
        aim = aims_of(window, system.map).reshape(-1, 4)[chosen] if system.network.sizes.aim else None
        return em.habit_loss(
            params, percept, state, batch["mission"][chosen // width], action, weight, system, aim, options.get("aim", 1.0))

    # texts speak of plans from the first step on ("start"); the prior plans from anywhere in an episode ("random")
    def case_of(params, key, batch, window, count):
        some = _first(batch[window], count)
        return make_case(system, params, some, batch["mission"][:count], jax.random.fold_in(key, SEEDS), plain)

    def told_case(params, key, batch, count):
        is_final = jax.random.uniform(key, (count,)) < options.final_share
        seeds = jax.random.fold_in(key, SEEDS)
        return *make_told_case(system, params, _first(batch, count), is_final, seeds, plain), is_final

    def both_told(params, key, batch, count):
        some, seeds = _first(batch, count), jax.random.fold_in(key, SEEDS)
        told, final = make_told_case(system, params, some, jnp.ones(count, bool), seeds, plain)
        of_draft, draft = make_told_case(system, params, some, jnp.zeros(count, bool), seeds, plain)
        return told, of_draft, final, draft

    def ground(params, key, batch):
        k_text, k_likely, k_rank = jax.random.split(key, 3)
        told, text, _ = told_case(params, k_text, batch, rows.told)
        untold = case_of(params, k_likely, batch, "random", rows.untold)
        likely, metrics = em.ground_loss(params, k_likely, told, text, untold, system, options)
        executed, of_draft, _, _ = both_told(params, k_rank, batch, rows.ranked)
        ranked, found = ranking.rank_loss(params, k_rank, executed, of_draft, system, options)
        return likely + options.rank * ranked, metrics | found

    def e_step(params, key, batch):
        k_text, key = jax.random.split(key)
        told, text, _ = told_case(params, k_text, batch, rows.posterior)
        untold = case_of(params, key, batch, "random", rows.prior)
        return em.e_step(params, key, told, text, untold, system, options)

    def watch(old: TrainState, new: TrainState, metrics: Metrics):
        seen = update_gate(gate_of(old, system.name), metrics["posterior_subtb"], options.gate_decay)
        return with_gate(new, system.name, seen), metrics

    def sleep(params, key, batch):
        return em.sleep_loss(params, key, case_of(params, key, batch, "start", rows.sleep), system, options)

    def maximise(params, key, batch):
        k_text, key = jax.random.split(key)
        case, text, is_final = told_case(params, k_text, batch, rows.m_step)
        return em.m_step(params, key, case, text, is_final, system, options)

    def gated(old: TrainState, new: TrainState, metrics: Metrics):
        since = old.step - config.schedule.jepa_steps - config.schedule.ground_steps
        bar = threshold(since, options.gate_start, options.gate_end, options.gate_half_life)
        value = gate_value(gate_of(old, system.name), options.gate_decay)
        is_open = value < bar
        return hold(is_open, new, old), metrics | {
            "gate_open": is_open.astype(jnp.float32), "gate_bar": bar, "gate_average": jnp.minimum(value, 1e9)}

    def contrast(params, key, batch):
        told, _, final, draft = both_told(params, key, batch, rows.contrast)
        return ranking.contrast_loss(params, key, told, final, draft, system, options)

    return {
        "habit": (("encoder", "habit"), habit), "ground": (("encoder", "policy", "model"), ground),
        "e_step": (("encoder", "policy"), e_step, watch), "sleep": (("encoder", "policy"), sleep),
        "m_step": (("encoder", "model"), maximise, gated), "contrast": (("encoder", "model"), contrast)}


def make_train_steps(
    system: System, config: Any, rate_of: Rate | None = None
) -> dict[str, Callable[[TrainState, Any], tuple[TrainState, Metrics]]]:
    """name -> (state, batch) -> (state, metrics). Pure; the caller jits, shards and donates.

    A batch is cut into `config.microbatches` parts, whose gradients are added up one after the other, and each part into
    `config.groups`, side by side: the loss is the mean of theirs, `config.em.rows` are the rows that each group takes. Only
    the JEPA's loss is one of the whole part at once: SIGReg is a statistic of the batch. `rate_of`: the learning rate; by
    default the config's (`learning_rate`).

    Raises:
      UserError: see `check_rows`.
    """
    from hjepa_gfn.objectives import episodes  # see `check_rows`

    check_rows(config)
    if (config.jepa.get("reach", 0.0) > 0) != (system.jepa.sizes.reach > 0):
        raise UserError(f"jepa.reach={config.jepa.get('reach', 0.0)} and model.reach={system.jepa.sizes.reach}: reachability "
                        "heads need both a width and a weight above 0, or neither")
    if (config.jepa.get("compass", 0.0) > 0) != system.jepa.sizes.compass:
        raise UserError(f"jepa.compass={config.jepa.get('compass', 0.0)} and model.compass={system.jepa.sizes.compass}: heads "
                        "that read the own direction and load need a weight above 0, and a weight heads")
    term_of(config.jepa.anti_collapse)  # a wrong name is found out before anything is traced
    tx, rate_of = make_optimizer(config.optimizer), rate_of or partial(learning_rate, config)
    rows = config.em.rows
    parts, dtype = config.microbatches, config.model.compute.dtype

    @cache
    def axes() -> Params:
        with no_mesh():
            boxed = jax.eval_shape(lambda key: init_params(system, key, config.data.mission_length), jax.random.key(0))
        return logical_axes(boxed)

    def grouped(loss_fn: Callable) -> Callable:
        def mean_loss(params, keys, batch):
            each = in_groups(partial(loss_fn, params), keys, batch)
            return jax.tree.map(lambda x: x.mean(0), each)

        return mean_loss

    def keys_of(key: jnp.ndarray, name: str) -> jnp.ndarray:
        """A key for each microbatch [P], or for each of its groups [P, G]."""
        keys = jax.random.split(key, parts) if parts > 1 else key[None]
        return keys if name == "jepa" else jax.vmap(lambda k: jax.random.split(k, config.groups))(keys)

    def gradients(loss_fn: Callable, moving: Params, keys: jnp.ndarray, batch: Any) -> tuple[tuple, Params]:
        """`accumulate`; where groups are spread over slices, by slice first."""
        slices = num_slices()
        if keys.ndim < 2 or slices == 1 or config.groups % slices:
            return accumulate(loss_fn, moving, keys, batch)
        own = jnp.moveaxis(keys.reshape(parts, slices, -1), 1, 0)
        of_params = {g: axes()[g] for g in moving}
        return mean_over_slices(partial(accumulate, loss_fn, moving), of_params, dtype, own, batch)

    def train_step(name: str, names: tuple[str, ...], loss_fn: Callable, after: Callable | None = None, actor: str | None = ""):
        """`actor`: whose loss it is, which sees the parameters as this actor does; None: one of all actors, which sees all."""
        whose = [actor] if actor is not None else [one.name for one in system.actors]
        view = (lambda params: params) if actor is None else (lambda params: actor_view(params, actor))
        actor = actor or ""
        loss_fn, full = loss_fn if name == "jepa" else grouped(loss_fn), step_name(name, actor)

        def step(state: TrainState, batch: Any) -> tuple[TrainState, Metrics]:
            key = jax.random.fold_in(jax.random.fold_in(jax.random.key(config.seed), state.step), sum(map(ord, full)))
            groups = moving_groups(state.params, names, actor)
            moving = {g: state.params[g] for g in groups}
            fixed = dict(state.params)
            if name in SAMPLING:
                sampler = {g: state.params[g] for who in whose for g in moving_groups(state.params, SAMPLER_GROUPS, who)}
                sampler = gather_for_sampling(sampler, {g: axes()[g] for g in sampler}, dtype)
                fixed |= {} if sampler is None else {"sampler": sampler}

            def wrapped(moving, key, batch):
                return loss_fn(view({**fixed, **moving}), key, batch)

            (loss, metrics), grads = gradients(wrapped, moving, keys_of(key, name), batch)
            new = apply_gradients(rate_of, tx, state, grads, groups)
            metrics = {"loss": loss, "grad_norm": optax.global_norm(grads), **metrics}
            return after(state, new, metrics) if after else (new, metrics)

        step.__name__ = f"train_step_{full}"
        return step

    def jepa(params, key, batch):
        window = batch["random"]
        if config.jepa.get("exploring", 0):
            key, k_walk = jax.random.split(key)
            some = {"random": window, "world": batch["world"]}
            mixed = in_groups(partial(episodes.with_walks, config=config), jax.random.split(k_walk, config.groups), some)
            window = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), mixed)
        return jepa_loss(params, key, window, system, config.jepa)

    def between(params, key, batch):
        del key
        loss, metrics = between_loss(params, batch["random"], system)
        return config.jepa.between * loss, metrics

    def believe(params, key, batch):
        k_walk, key = jax.random.split(key)
        seen = episodes.for_belief(k_walk, batch, config)
        z = system.level(params, seen["view"], seen["direction"], method="encode")
        return belief_loss(params["belief"], key, system.belief, z, seen, seen["action"], seen["length"], config.belief)

    def follow(old: TrainState, new: TrainState, metrics: Metrics):
        """The encoders' slow copy, where there is one, takes a step towards them."""
        if config.jepa.anti_collapse != "ema":
            return new, metrics
        decay = config.jepa.slow
        slow = jax.tree.map(lambda s, p: decay * s + (1 - decay) * p, old.params["jepa_slow"], new.params["jepa"])
        return new.replace(params={**new.params, "jepa_slow": slow}), metrics

    def planning(loss: Callable, count: int) -> Callable:
        """A loss of plans that are made in the situations at the windows' first steps, as the agent makes them."""
        def of_situations(params, key, batch):
            window = _first(batch["random"], count)
            percept = {name: window[name][:, 0] for name in ("view", "direction")}
            return loss(params, key, percept, batch["mission"][:count], system, config.agent.temperature)

        return of_situations

    steps = {"jepa": train_step("jepa", ("jepa",), jepa, follow)}
    for actor in system.actors:
        for name, (groups, *fns) in actor_losses(actor, config).items():
            # one that reads situations by the layers of all learns to read them with the others
            if name != "habit" or not actor.name or not system.share:
                steps[step_name(name, actor.name)] = train_step(name, groups, *fns, actor=actor.name)
    steps["indicators"] = train_step("indicators", ("indicators",), planning(indicators_loss, rows.indicators))
    if system.characteristics:
        foreseen = planning(characteristics_loss, rows.characteristics)
        steps["characteristics"] = train_step("characteristics", ("characteristics",), foreseen, actor=None)
    if config.jepa.get("between", 0.0) > 0:
        steps["between"] = train_step("between", ("jepa",), between)
    if system.belief:
        steps["belief"] = train_step("belief", ("belief",), believe)
    return steps


def schedule(config: Any, step: int) -> tuple[str, ...]:
    """JEPA first; then grounding in observed plans; then GFlowNet-EM; habits all along; beliefs once the embeddings that they
    predict stand still. A function of `step` alone. Every actor takes a step when the first does.

    Habits teach the context encoder which words mean which cells: what takes longest, and what plans need as much.
    """
    s, share = config.schedule, config.model.get("share_layers", False)
    actors = tuple(actor.name for actor in config_actors(config.model))

    def of_all(*names: str) -> tuple[str, ...]:
        alone = lambda name: name not in OF_EVERY_ACTOR or (share and name == "habit")  # noqa: E731
        return tuple(step_name(name, actor) for name in names for actor in (("",) if alone(name) else actors))

    if step < s.jepa_steps:
        return ("jepa", *(("between",) if config.jepa.get("between", 0.0) > 0 else ()), *of_all("habit"))
    step -= s.jepa_steps
    every = {"belief": 0, **s.every}  # older configurations know of none
    due = lambda *names: of_all(*(name for name in names if every[name] and step % every[name] == 0))  # noqa: E731
    if step < s.ground_steps:
        return due("habit", "ground", "belief")
    step -= s.ground_steps
    described = ("characteristics",) if config.model.get("characteristics", "") else ()
    return due("habit", "ground", "e_step", "sleep", "m_step", "contrast", "indicators", *described, "belief")
