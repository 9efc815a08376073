"""Learning the belief: what will be perceived, h steps on, whatever is perceived now.

An object that has left the view is in no percept; it is in a later one, once the agent has turned back. Predicting later
percepts from the belief is therefore what makes it remember.
"""
import chex
import jax
import jax.numpy as jnp

from hjepa_gfn.models.belief import Belief
from hjepa_gfn.objectives.jepa import LOG_VARIANCE
from hjepa_gfn.objectives.system import Params

Metrics = dict[str, jnp.ndarray]


def watch(
    belief: Belief, params: Params, z: jnp.ndarray, action: jnp.ndarray, seen: jnp.ndarray
) -> tuple[jnp.ndarray, jnp.ndarray]:
    """Beliefs along episodes.

    Args:
      params: of the module `belief`.
      z: [B, T+1, Z] embeddings of percepts; action int32 [B, T]; seen bool [B, T+1] (False: the percept is missing).

    Returns:
      Priors and beliefs, [B, T+1, S] each: before and after the percept of each step. The first prior is empty (zeros).
    """
    apply = lambda *args, method: belief.apply({"params": params}, *args, method=method)  # noqa: E731
    start = belief.empty(z.shape[:1])
    first = apply(start, z[:, 0], seen[:, 0], method="update")

    def step(s: jnp.ndarray, inputs: tuple) -> tuple:
        a, now, visible = inputs
        prior = apply(s, a, method="predict")
        after = apply(prior, now, visible, method="update")
        return after, (prior, after)

    along = lambda x: jnp.moveaxis(x, 1, 0)  # noqa: E731
    _, (priors, beliefs) = jax.lax.scan(step, first, (along(action), along(z[:, 1:]), along(seen[:, 1:])))
    join = lambda a, b: jnp.concatenate([a[:, None], along(b)], axis=1)  # noqa: E731
    return join(start, priors), join(first, beliefs)


def belief_loss(
    params: Params, key: jnp.ndarray, belief: Belief, z: jnp.ndarray, action: jnp.ndarray, length: jnp.ndarray, options
) -> tuple[jnp.ndarray, Metrics]:
    """Open-loop prediction of percept embeddings z (stop-gradiented) from beliefs, horizons 0..H:

        L = (1/(H+1)) sum_h mean |D(s_{t+h|t}) - z_{t+h}|^2 + nu NLL(z_{t+1}; D(s'_{t+1}), exp V(s'_{t+1})) + ensemble,
    s_{t+h|t} rolled out by the ensemble's mean; percepts are dropped at random (share `options.drop`), so that the path
    without a percept is learned too; the ensemble's term is each member's one-step error on its own random half of the rows,
    against the belief that was reached (stop-gradiented). The likelihood's residual is stop-gradiented too.

    Args:
      params: of the module `belief`.
      z: [B, T+1, Z] embeddings of percepts; action int32 [B, T]; length int32 [B], actions that are real.
      options: fields horizon (H), drop, variance (nu).
    """
    stop = jax.lax.stop_gradient
    chex.assert_shape(action, (z.shape[0], z.shape[1] - 1))
    k_drop, k_rows = jax.random.split(key)
    apply = lambda *args, method: belief.apply({"params": params}, *args, method=method)  # noqa: E731
    z, steps = stop(z), action.shape[1]
    real = jnp.arange(steps + 1) <= length[:, None]
    seen = real & (jax.random.uniform(k_drop, real.shape) >= options.drop)
    prior, after = watch(belief, params, z, action, seen)

    errors, current = [], after
    for h in range(min(options.horizon, steps) + 1):
        if h:
            current = apply(current[:, :-1], action[:, h - 1 :], method="predict")
        error = jnp.mean((apply(current, method="decode") - z[:, h:]) ** 2, -1)
        counted = real[:, h:].astype(jnp.float32)
        errors.append(jnp.sum(error * counted) / jnp.maximum(counted.sum(), 1.0))
    step = real[:, 1:].astype(jnp.float32)
    residual = stop(apply(prior[:, 1:], method="decode") - z[:, 1:])
    log_variance = jnp.clip(apply(prior[:, 1:], method="log_variance"), *LOG_VARIANCE)
    nll = jnp.mean(0.5 * (log_variance + residual**2 * jnp.exp(-log_variance)), -1)
    nll = jnp.sum(nll * step) / jnp.maximum(step.sum(), 1.0)
    members = apply(stop(after[:, :-1]), action, method="members_of")
    share = jax.random.bernoulli(k_rows, 0.5, (members.shape[0], action.shape[0], 1)) * step
    apart = jnp.mean((members - stop(after[:, 1:])) ** 2, -1)
    ensemble = jnp.sum(apart * share) / jnp.maximum(share.sum(), 1.0)
    loss = sum(errors) / len(errors) + options.variance * nll + ensemble
    chex.assert_shape(loss, ())
    calibration = jnp.sum(jnp.mean(residual**2 * jnp.exp(-stop(log_variance)), -1) * step) / jnp.maximum(step.sum(), 1.0)
    return loss, stop({
        "now": errors[0], "next": errors[min(1, len(errors) - 1)], "far": errors[-1], "nll": nll, "calibration": calibration,
        "ensemble": ensemble})
