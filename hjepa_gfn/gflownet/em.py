"""GFlowNet-EM (Hu et al. 2023, arXiv:2302.06576): maximum likelihood of any latent variable model, a GFlowNet as the E-step.

    p(x, z; theta) = p(z; theta) p(x|z; theta),    posterior policy q(z|x) = P_F(z|x; params).

Algorithm 1 is an E-step loss of q towards p(x, z) and an M-step on samples of q; Algorithm 2 adds the sleep phase. Against
posterior collapse: the M-step is taken only while the gate is open, sampling explores, the prior can be tempered, samples can
be refined by Metropolis-Hastings. Nothing here knows what x and z are: see `LatentModel`.
"""
import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from hjepa_gfn.gflownet import losses, mcmc
from hjepa_gfn.gflownet.environment import FlatEnvironment
from hjepa_gfn.gflownet.gate import Gate, gate_value, hold, init_gate, threshold, update_gate
from hjepa_gfn.gflownet.policy import Logits, Network, Path, behaviour, evaluate, noise_of
from hjepa_gfn.gflownet.rollout import Exploration, sample_trajectories

Metrics = dict[str, jnp.ndarray]
stop = jax.lax.stop_gradient


class LatentModel(NamedTuple):
    """A latent variable model and its posterior's network, as pure functions of pytrees x and z with leaves [B, ...]."""

    env: FlatEnvironment                                    # of z; its `log_reward` is not used
    root: Callable[[Any], Any]                              # x -> root states [B] (they carry what masks need of x)
    posterior: Callable[[Any, jnp.ndarray, Any], Logits]    # (params, features [B, F], x) -> logits of q(.|x), log F as head
    log_prior: Callable[[Any, Any], jnp.ndarray]            # (theta, states) -> log p(z) [B], or -E(z) if not `normalised`
    log_likelihood: Callable[[Any, Any, Any], jnp.ndarray]  # (theta, x, states) -> log p(x|z) [B]
    draw: Callable[[Any, jnp.ndarray, Any], tuple[Any, Any]]  # (theta, key, x) -> (x', z') ~ p, as many and of the shape of x
    normalised: bool = True                                 # whether the prior is; else the M-step subtracts samples of `draw`


@dataclasses.dataclass(frozen=True)
class EMOptions:
    """How the driver runs. The forward-looking and the stop form need log p(x, z) of partial states."""

    loss: str = "tb"              # tb, subtb, db or vargrad
    flow: str = "head"            # log F: head; forward_looking: log R + head; stop: log R - log P_F(STOP)
    subtb_lambda: float = 0.9
    trajectories: int = 1         # per datum in the E-step; vargrad needs two or more
    batch: int = 0                # data per E-step, drawn anew each time; 0: all
    m_batch: int = 0              # data per M-step
    e_steps: int = 1              # E-steps per M-step
    temperature: float = 1.0      # of the E-step's sampling, not of its target
    epsilon: float = 0.0          # share of uniform choices in it
    sleep: float = 0.0            # weight of the sleep phase's loss; 0: Algorithm 1
    refine: int = 0               # Metropolis-Hastings moves on the M-step's samples
    prior_start: float = 1.0      # exponent of p(z) in the E-step's target, on its way to 1
    prior_half_life: float = 1.0  # M-steps in which it halves its distance from 1
    gated: bool = True            # whether the gate can hold the M-step
    gate_decay: float = 0.9       # of the moving average of the E-step's loss
    gate_start: float = 1.0       # threshold, on its way from start to end
    gate_end: float = 1.0
    gate_half_life: float = 1.0


class EMState(NamedTuple):
    """Everything that the driver changes."""

    step: jnp.ndarray     # int32 [], iterations done, open gate or not
    params: Any           # of the posterior policy
    params_opt: Any
    theta: Any            # of the latent variable model
    theta_opt: Any
    gate: Gate


def conditioned(model: LatentModel, x: Any) -> Network:
    """The posterior's network with x [B, ...] built in: features [B * n, F], n rows of each datum in turn, -> Logits."""
    rows = jax.tree.leaves(x)[0].shape[0]

    def network(params: Any, features: jnp.ndarray) -> Logits:
        each = features.shape[0] // rows
        return model.posterior(params, features, jax.tree.map(lambda leaf: jnp.repeat(leaf, each, axis=0), x))

    return network


@functools.lru_cache
def joined(model: LatentModel) -> Network:
    """The posterior's network as one function of ((params, x), features), the same object whatever x is: compiled once."""
    return lambda given, features: conditioned(model, given[1])(given[0], features)


def log_joint(theta: Any, x: Any, states: Any, model: LatentModel, exponent: jnp.ndarray | float = 1.0) -> jnp.ndarray:
    """exponent log p(z) + log p(x|z), the log reward of states [B]: float32 [B]."""
    return exponent * model.log_prior(theta, states) + model.log_likelihood(theta, x, states)


def posterior_loss(
    params: Any, theta: Any, key: jnp.ndarray, x: Any, exponent: jnp.ndarray | float, model: LatentModel, options: EMOptions
) -> tuple[jnp.ndarray, Metrics]:
    """E-step (wake): a GFlowNet loss of q(z|x) against R(z; x) = p(z; theta)^exponent p(x|z; theta), theta held.

        tb       mean_B (a_0 - a_end)^2            subtb, db   of `losses` over all nodes a_0..a_end
        vargrad  mean_B (a_end - mean of the datum's a_end)^2
    on trajectories of the tempered, epsilon-explored q; a of `balance_potential`, a_end that of the terminal copy. x [B, ...].
    """
    if options.trajectories > 1:
        x = jax.tree.map(lambda leaf: jnp.repeat(leaf, options.trajectories, axis=0), x)
    env, network, theta = model.env, conditioned(model, x), stop(theta)
    rows = jax.tree.leaves(x)[0].shape[0]
    explore = Exploration(options.temperature, options.epsilon)
    walk = behaviour(env, network, stop(params), explore)
    trajectory = stop(sample_trajectories(env, walk, noise_of(env, key, rows), model.root(x)))
    path = evaluate(env, network, params, trajectory)
    log_reward = stop(log_joint(theta, x, trajectory.final, model, exponent))
    partial = None
    if options.flow != "head":
        nodes = trajectory.horizon + 1
        flat = jax.tree.map(lambda leaf: leaf.reshape(rows * nodes, *leaf.shape[2:]), trajectory.states)
        repeated = jax.tree.map(lambda leaf: jnp.repeat(leaf, nodes, axis=0), x)
        partial = stop(log_joint(theta, repeated, flat, model, exponent)).reshape(rows, nodes)
    loss, metrics = balance_loss(path, log_reward, partial, options)
    return loss, metrics | {"log_reward": log_reward.mean(), "length": path.length.mean()}


def balance_loss(
    path: Path, log_reward: jnp.ndarray, partial: jnp.ndarray | None, options: EMOptions
) -> tuple[jnp.ndarray, Metrics]:
    """The chosen loss of B trajectories: log_reward [B] of their ends, partial [B, T+1] of all states (None: head form)."""
    terminal = losses.terminal_potential(path.log_pf, path.log_pb, path.stop_at_end, log_reward)
    if options.loss == "vargrad":
        if options.trajectories < 2:
            raise ValueError("vargrad compares trajectories of one datum: options.trajectories must be 2 or more")
        rows = log_reward.shape[0]
        loss, metrics = losses.log_partition_variance(
            terminal, jnp.arange(rows) // options.trajectories, rows // options.trajectories)
        return loss, metrics | {"log_z": metrics["log_z"].mean()}
    if options.flow == "stop":
        flow, length = losses.stop_flow(partial, path.log_stop), path.length
        potential = losses.balance_potential(flow, path.log_pf, path.log_pb)
    else:
        flow = path.log_flow if options.flow == "head" else losses.forward_looking_flow(partial, path.log_flow)
        potential = losses.balance_potential(flow, path.log_pf, path.log_pb)
        potential, length = losses.with_terminal(potential, terminal, path.length)
    if options.loss == "tb":
        loss, metrics = losses.trajectory_balance(potential, length)
    elif options.loss == "db":
        loss, metrics = losses.detailed_balance(potential, length)
    elif options.loss == "subtb":
        loss, metrics = losses.subtb(potential, losses.is_present(potential, length), options.subtb_lambda)
    else:
        raise ValueError(f"options.loss = {options.loss!r}: must be tb, subtb, db or vargrad")
    return loss, metrics | {"log_z": stop(potential[:, 0]).mean()}


def sleep_loss(params: Any, theta: Any, key: jnp.ndarray, x: Any, model: LatentModel) -> tuple[jnp.ndarray, Metrics]:
    """Sleep phase (Algorithm 2): (z', x') ~ p(z) p(x|z), trajectory ~ P_B(.|z'), L = -mean_B log P_F(trajectory, STOP|x').

    x [B, ...] says of how many rows and of which shape (lengths) the samples are.
    """
    k_draw, k_back = jax.random.split(key)
    dreamt, z = stop(model.draw(theta, k_draw, x))
    network = conditioned(model, dreamt)
    noise = noise_of(model.env, k_back, jax.tree.leaves(dreamt)[0].shape[0])
    back = stop(sample_trajectories(model.env, behaviour(model.env, network, stop(params)), noise, z, forward=False))
    path = evaluate(model.env, network, params, back)
    return losses.trajectory_nll(path.log_pf, path.stop_at_end, jnp.ones(path.stop_at_end.shape))


def model_loss(
    theta: Any, params: Any, key: jnp.ndarray, x: Any, exponent: jnp.ndarray | float, model: LatentModel, options: EMOptions
) -> tuple[jnp.ndarray, Metrics]:
    """M-step on samples z ~ q(z|x), refined by `options.refine` Metropolis-Hastings moves, held:

        L = -mean_B [ log p(z; theta) + log p(x|z; theta) ]   (+ mean_B of -E(z-; theta), z- ~ `draw`, if p(z) = e^-E(z) / Z).
    """
    k_sample, k_move, k_draw = jax.random.split(key, 3)
    env, network = model.env, conditioned(model, x)
    noise = noise_of(env, k_sample, jax.tree.leaves(x)[0].shape[0])
    z = stop(sample_trajectories(env, behaviour(env, network, stop(params)), noise, model.root(x)).final)
    accepted = jnp.zeros(())
    for i in range(options.refine):
        z, taken = stop(refine(params, theta, jax.random.fold_in(k_move, i), x, z, exponent, model))
        accepted += taken.mean() / options.refine
    complete = log_joint(theta, x, z, model).mean()
    loss = -complete
    if not model.normalised:
        loss += model.log_prior(theta, stop(model.draw(theta, k_draw, x)[1])).mean()
    return loss, {"log_joint": stop(complete), "accepted": accepted}


def refine(
    params: Any, theta: Any, key: jnp.ndarray, x: Any, z: Any, exponent: jnp.ndarray | float, model: LatentModel
) -> tuple[Any, jnp.ndarray]:
    """One back-and-forth move of z [B] towards R(.; x), K ~ Uniform{0..n} edits (see `mcmc`): (z after it, accepted [B])."""
    network = conditioned(model, x)

    def evaluate_both(*paths):  # one after the other: `conditioned` expects the rows of x in their order
        found = [evaluate(model.env, network, params, path) for path in paths]
        return tuple((path.log_pb.sum(-1), path.log_pf.sum(-1) + path.stop_at_end) for path in found)

    def log_reward(*ends):
        return tuple(log_joint(theta, x, end, model, exponent) for end in ends)

    walker = mcmc.flat_walker(model.env, network, params)._replace(evaluate=evaluate_both, log_reward=log_reward)
    kept, accepted, _, _ = mcmc.back_and_forth(key, walker, z)
    return kept, accepted


def init_em(
    params: Any, theta: Any, params_tx: optax.GradientTransformation, theta_tx: optax.GradientTransformation
) -> EMState:
    """The state before the first step; its arrays are its own, so that a donated step leaves the caller's alone."""
    params, theta = jax.tree.map(jnp.array, (params, theta))
    return EMState(jnp.zeros((), jnp.int32), params, params_tx.init(params), theta, theta_tx.init(theta), init_gate())


def make_em_step(
    model: LatentModel, options: EMOptions, params_tx: optax.GradientTransformation, theta_tx: optax.GradientTransformation
) -> Callable[[EMState, jnp.ndarray, Any], tuple[EMState, Metrics]]:
    """The jitted step (state, key, data [N, ...]) -> (state, metrics); it donates the state.

    One step is `e_steps` E-steps, each on a fresh batch and with its sleep phase, then an M-step, which the gate may hold:
    theta and its optimizer state both. Both the threshold and the prior's exponent follow the number of steps.
    """

    def pick(key: jnp.ndarray, data: Any, size: int) -> Any:
        total = jax.tree.leaves(data)[0].shape[0]
        if not size or size >= total:
            return data
        index = jax.random.randint(key, (size,), 0, total)
        return jax.tree.map(lambda leaf: leaf[index], data)

    def wake_and_sleep(params, theta, key, x, exponent):
        k_wake, k_sleep = jax.random.split(key)
        wake, metrics = posterior_loss(params, theta, k_wake, x, exponent, model, options)
        total, asleep = wake, jnp.zeros(())
        if options.sleep:
            asleep, _ = sleep_loss(params, theta, k_sleep, x, model)
            total = wake + options.sleep * asleep
        return total, metrics | {"wake": stop(wake), "sleep": stop(asleep)}

    def step(state: EMState, key: jnp.ndarray, data: Any) -> tuple[EMState, Metrics]:
        k_e, k_m_batch, k_m = jax.random.split(key, 3)
        exponent = threshold(state.step, options.prior_start, 1.0, options.prior_half_life)

        def e_step(carry, e_key):
            params, opt, gate = carry
            k_batch, k_loss = jax.random.split(e_key)
            x = pick(k_batch, data, options.batch)
            grads, metrics = jax.grad(wake_and_sleep, has_aux=True)(params, state.theta, k_loss, x, exponent)
            updates, opt = params_tx.update(grads, opt, params)
            return (optax.apply_updates(params, updates), opt, update_gate(gate, metrics["wake"], options.gate_decay)), metrics

        carry = (state.params, state.params_opt, state.gate)
        (params, params_opt, gate), metrics = jax.lax.scan(e_step, carry, jax.random.split(k_e, options.e_steps))
        metrics = jax.tree.map(lambda m: m.mean(0), metrics)

        average = gate_value(gate, options.gate_decay)
        bar = threshold(state.step, options.gate_start, options.gate_end, options.gate_half_life)
        is_open = (average < bar) if options.gated else jnp.bool_(True)
        x = pick(k_m_batch, data, options.m_batch)
        grads, found = jax.grad(model_loss, has_aux=True)(state.theta, params, k_m, x, exponent, model, options)
        updates, theta_opt = theta_tx.update(grads, state.theta_opt, state.theta)
        moved = (optax.apply_updates(state.theta, updates), theta_opt)
        theta, theta_opt = hold(is_open, moved, (state.theta, state.theta_opt))
        metrics |= found | {"gate_open": is_open.astype(jnp.float32), "gate_average": average, "gate_bar": jnp.asarray(bar)}
        return EMState(state.step + 1, params, params_opt, theta, theta_opt, gate), metrics

    return jax.jit(step, donate_argnums=0)
