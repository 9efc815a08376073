"""Training a flat GFlowNet in one call: many iterations of sample, loss, gradient and update inside one compiled program.

    env = Hypergrid(dim=2, side=8, r0=0.1)
    trainer = make_trainer(env, loss="tb")
    state = trainer.init(jax.random.key(0))
    state, metrics = trainer.train(state, 2000)
    exact_metrics(env, trainer.network, state.params)  # enumeration.py: total variation, JSD, log Z
"""
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from hjepa_gfn.gflownet.environment import FlatEnvironment
from hjepa_gfn.gflownet.losses import Metrics
from hjepa_gfn.gflownet.networks import policy_network
from hjepa_gfn.gflownet.objectives import OBJECTIVES, Objective
from hjepa_gfn.gflownet.policy import Network, behaviour, evaluate, noise_of
from hjepa_gfn.gflownet.rollout import Exploration, Trajectory, sample_trajectories


class TrainState(NamedTuple):
    """What training carries; `Trainer.train` consumes the buffers of the one it is given."""

    params: Any
    opt_state: Any
    key: jnp.ndarray   # of all random numbers still to be drawn
    step: jnp.ndarray  # int32: iterations done


class Trainer(NamedTuple):
    """Pure functions, jitted; each compiles once whatever the number of steps."""

    init: Callable[[jnp.ndarray], TrainState]                            # of a key
    train: Callable[[TrainState, int], tuple[TrainState, Metrics]]       # num_steps iterations; metrics are means over them
    sample: Callable[[Any, jnp.ndarray], Trajectory]                     # (params, key) -> a batch, with exploration
    network: Network                                                     # (params, features) -> Logits


def adam(lr: float = 1e-3, flow_lr: float = 0.1) -> optax.GradientTransformation:
    """Adam with a rate of its own for flows: every parameter below a name "log_flow" (log Z, or the flow head).

    Adam normalises each parameter by itself, so one state with scaled updates is two optimizers, at the cost of one.
    """

    def scale(updates, _=None):
        rate = lambda path: flow_lr if any(getattr(k, "key", None) == "log_flow" for k in path) else lr
        return jax.tree_util.tree_map_with_path(lambda path, u: -rate(path) * u, updates)

    return optax.chain(optax.scale_by_adam(), optax.stateless(scale))


def make_trainer(
    env: FlatEnvironment, network: nn.Module | None = None, loss: str | Objective = "tb",
    optimizer: optax.GradientTransformation | None = None, batch: int = 16,
    explore: Exploration = Exploration(),  # noqa: B008 (immutable)
    capacities: Sequence[float] = (0.3, 0.45, 0.6, 0.75, 1.0),
) -> Trainer:
    """A trainer of `env`.

    Args:
      network: a Linen module features [..., F] -> Logits; by default an MLP with the flow that the loss needs.
      loss: a name in `OBJECTIVES`, or an `Objective`.
      optimizer: default `adam()`.
      batch: trajectories an iteration, all forward from the root.
      explore: how sampling departs from the policy.
      capacities: rising shares, the last 1, of the B (T+1) padded states. Trajectories are shorter than T: the loss is compiled
        once for each share, and the smallest that holds the real states of the batch at hand runs.
    """
    objective = OBJECTIVES[loss] if isinstance(loss, str) else loss
    if objective.partial and not bool(env.stop_mask(env.root(1))[0]):
        raise ValueError(f"loss {loss!r} reads the reward of partial states, but the root of {env!r} cannot stop")
    module = network or policy_network(env, flow=objective.flow)
    optimizer = optimizer or adam()
    apply = lambda params, features: module.apply({"params": params}, features)
    total = batch * (env.horizon + 1)
    sizes = sorted({max(1, min(total, round(share * total))) for share in capacities} | {total})

    def sample(params: Any, key: jnp.ndarray) -> Trajectory:
        behave = behaviour(env, apply, params, explore)
        return sample_trajectories(env, behave, noise_of(env, key, batch), env.root(batch), True)

    def loss_of(params: Any, trajectory: Trajectory, capacity: int) -> tuple[jnp.ndarray, Metrics]:
        path = evaluate(env, apply, params, trajectory, capacity)
        end = env.log_reward(trajectory.final)
        partial = None
        if objective.partial:
            flat = jax.tree.map(lambda x: x.reshape(total, *x.shape[2:]), trajectory.states)
            partial = env.log_reward(flat).reshape(batch, -1)
        value, metrics = objective.loss(path, end, partial)
        return value, metrics | {"loss": value, "log_reward": end.mean(), "length": trajectory.length.mean()}

    def gradient(params: Any, trajectory: Trajectory) -> tuple[Any, Metrics]:
        branches = [lambda p, x, n=n: jax.grad(loss_of, has_aux=True)(p, x, n) for n in sizes]
        need = jnp.sum(trajectory.length + 1)
        return jax.lax.switch(jnp.searchsorted(jnp.asarray(sizes), need), branches, params, trajectory)

    def iteration(state: TrainState) -> tuple[TrainState, Metrics]:
        key, draw = jax.random.split(state.key)
        grads, metrics = gradient(state.params, sample(state.params, draw))
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        return TrainState(optax.apply_updates(state.params, updates), opt_state, key, state.step + 1), metrics

    def init(key: jnp.ndarray) -> TrainState:
        start, rest = jax.random.split(key)
        params = module.init(start, env.features(env.root(1)))["params"]
        return TrainState(params, optimizer.init(params), rest, jnp.zeros((), jnp.int32))

    def train(state: TrainState, num_steps: jnp.ndarray) -> tuple[TrainState, Metrics]:
        blank = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), jax.eval_shape(iteration, state)[1])

        def body(_, carry):
            state, sums = carry
            state, metrics = iteration(state)
            return state, jax.tree.map(jnp.add, sums, metrics)

        state, sums = jax.lax.fori_loop(0, num_steps, body, (state, blank))
        return state, jax.tree.map(lambda x: x / num_steps, sums)

    return Trainer(jax.jit(init), jax.jit(train, donate_argnums=0), jax.jit(sample), apply)
