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


def draw_anchors(key: jnp.ndarray, length: jnp.ndarray, steps: int, count: int) -> jnp.ndarray:
    """`count` different steps of each row, int32 [B, M], among 0..length-1 first (all of 0..steps-1 if count is 0 or more)."""
    if not 0 < count < steps:
        return jnp.broadcast_to(jnp.arange(steps), (length.shape[0], steps))
    score = jax.random.uniform(key, (length.shape[0], steps)) - (jnp.arange(steps) >= length[:, None])
    return jax.lax.top_k(score, count)[1]


def belief_loss(
    params: Params, key: jnp.ndarray, belief: Belief, z: jnp.ndarray, action: jnp.ndarray, length: jnp.ndarray, options
) -> tuple[jnp.ndarray, Metrics]:
    """Open-loop prediction of percept embeddings z (stop-gradiented) from beliefs, horizons 0..H, H >= 1:

        L = (1/(H+1)) sum_h mean |D(s_{t+h|t}) - z_{t+h}|^2 + nu NLL(z_{t+1}; D(s'_{t+1}), exp V(s'_{t+1})) + ensemble,
    s_{t+h|t} rolled out by the ensemble's mean; percepts are dropped at random (share `options.drop`), so that the path
    without a percept is learned too; the ensemble's term is each member's one-step error on its own random half of the rows,
    against the belief that was reached (stop-gradiented). The likelihood's residual is stop-gradiented too. Means are over
    `options.anchors` steps t of each row, drawn without replacement (0: all, T+1 with the last; that costs T/anchors as much):
    beliefs are updated at every step, predicted and decoded at the anchors alone.

    Args:
      params: of the module `belief`.
      z: [B, T+1, Z] embeddings of percepts; action int32 [B, T]; length int32 [B], actions that are real.
      options: fields horizon (H), anchors, drop, variance (nu).
    """
    stop = jax.lax.stop_gradient
    rows, steps = action.shape
    chex.assert_shape(action, (z.shape[0], z.shape[1] - 1))
    k_drop, k_rows, k_anchor = jax.random.split(key, 3)
    apply = lambda *args, method: belief.apply({"params": params}, *args, method=method)  # noqa: E731
    z = stop(z)
    real = jnp.arange(steps + 1) <= length[:, None]
    seen = real & (jax.random.uniform(k_drop, real.shape) >= options.drop)
    after = watch(belief, params, z, action, seen)[1]

    anchor = draw_anchors(k_anchor, length + 1, steps + 1, options.anchors)
    at = lambda x, t: jnp.take_along_axis(x, jnp.clip(t, 0, x.shape[1] - 1).reshape(*t.shape, *(1,) * (x.ndim - 2)), 1)  # noqa: E731
    start = at(after, anchor)
    mean = lambda x, mask: jnp.sum(jnp.mean(x, -1) * mask) / jnp.maximum(mask.sum(), 1.0)  # noqa: E731
    errors, current = [], start
    for h in range(min(options.horizon, steps) + 1):
        if h:
            current = apply(current, at(action, anchor + h - 1), method="predict")
        residual = apply(current, method="decode") - at(z, anchor + h)
        counted = (anchor + h <= length[:, None]).astype(jnp.float32)
        errors.append(mean(residual**2, counted))
        if h == 1:  # the belief just before the next percept: what is said of its variance
            step, apart, prior = counted, stop(residual), current
    log_variance = jnp.clip(apply(prior, method="log_variance"), *LOG_VARIANCE)
    nll = mean(0.5 * (log_variance + apart**2 * jnp.exp(-log_variance)), step)
    members = apply(stop(start), at(action, anchor), method="members_of")
    share = jax.random.bernoulli(k_rows, 0.5, (members.shape[0], rows, 1)) * step
    ensemble = mean((members - stop(at(after, anchor + 1))) ** 2, share)
    loss = sum(errors) / len(errors) + options.variance * nll + ensemble
    chex.assert_shape(loss, ())
    calibration = mean(apart**2 * jnp.exp(-log_variance), step)
    return loss, stop({
        "now": errors[0], "next": errors[1], "far": errors[-1], "nll": nll, "calibration": calibration, "ensemble": ensemble})
