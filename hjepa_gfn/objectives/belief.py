"""Learning the belief: what will be perceived, h steps on, whatever is perceived now.

An object that has left the view is in no percept; it is in a later one, once the agent has turned back. Predicting later
percepts from the belief is therefore what makes it remember. Of a later percept its embedding is predicted, and cell by cell
what it shows.
"""
import chex
import jax
import jax.numpy as jnp

from hjepa_gfn.models.belief import Belief
from hjepa_gfn.objectives.jepa import LOG_VARIANCE
from hjepa_gfn.objectives.system import Params
from hjepa_gfn.worlds.language import UNSEEN

Metrics = dict[str, jnp.ndarray]
Percept = dict[str, jnp.ndarray]


def watch(
    belief: Belief, params: Params, percept: Percept, action: jnp.ndarray, seen: jnp.ndarray
) -> tuple[jnp.ndarray, jnp.ndarray]:
    """Beliefs along episodes.

    Args:
      params: of the module `belief`.
      percept: {view uint8 [B, T+1, n, n, 3 or more], direction int32 [B, T+1]}.
      action: int32 [B, T]; seen: bool [B, T+1] (False: the percept is missing).

    Returns:
      Priors and beliefs, [B, T+1, M x M + 1, F] each: before and after the percept of each step. The first prior is empty.
    """
    apply = lambda *args, method: belief.apply({"params": params}, *args, method=method)  # noqa: E731
    view, direction = percept["view"], percept["direction"]
    start = belief.empty(seen.shape[:1])
    first = apply(start, view[:, 0], direction[:, 0], seen[:, 0], method="update")

    def step(s: jnp.ndarray, inputs: tuple) -> tuple:
        a, *now = inputs
        prior = apply(s, a, method="predict")
        after = apply(prior, *now, method="update")
        return after, (prior, after)

    along = lambda x: jnp.moveaxis(x, 1, 0)  # noqa: E731
    _, (priors, beliefs) = jax.lax.scan(
        step, first, (along(action), along(view[:, 1:]), along(direction[:, 1:]), along(seen[:, 1:])))
    join = lambda a, b: jnp.concatenate([a[:, None], along(b)], axis=1)  # noqa: E731
    return join(start, priors), join(first, beliefs)


def draw_anchors(key: jnp.ndarray, length: jnp.ndarray, steps: int, count: int) -> jnp.ndarray:
    """`count` different steps of each row, int32 [B, M], among 0..length-1 first (all of 0..steps-1 if count is 0 or more)."""
    if not 0 < count < steps:
        return jnp.broadcast_to(jnp.arange(steps), (length.shape[0], steps))
    score = jax.random.uniform(key, (length.shape[0], steps)) - (jnp.arange(steps) >= length[:, None])
    return jax.lax.top_k(score, count)[1]


def cells_nll(said: tuple[jnp.ndarray, ...], view: jnp.ndarray) -> tuple[jnp.ndarray, jnp.ndarray]:
    """Negative log-likelihood in nats of the cells of percepts uint8 [..., n, n, 3 or more] under `said`, log-probabilities of
    object, colour and state [..., n x n, .]: (nll, shown) [..., n x n], with which cells are shown at all."""
    codes = view.astype(jnp.int32).reshape(*view.shape[:-3], -1, view.shape[-1])
    of = lambda log_p, code: jnp.take_along_axis(log_p, code[..., None], -1)[..., 0]  # noqa: E731
    return -sum(of(log_p, codes[..., i]) for i, log_p in enumerate(said)), codes[..., 0] != UNSEEN


def belief_loss(
    params: Params, key: jnp.ndarray, belief: Belief, z: jnp.ndarray, percept: Percept, action: jnp.ndarray,
    length: jnp.ndarray, options
) -> tuple[jnp.ndarray, Metrics]:
    """Open-loop prediction of percepts o and their embeddings z (stop-gradiented) from beliefs, horizons 0..H, H >= 1:

        L = (1/(H+1)) sum_h mean [ |D(s_{t+h|t}) - z_{t+h}|^2 + w NLL(o_{t+h}; s_{t+h|t}) ]
            + nu NLL(z_{t+1}; D(s'_{t+1}), exp V(s'_{t+1})) + ensemble,
    s_{t+h|t} rolled out by the ensemble's mean; the second term is the mean over cells shown, of object, colour and state;
    percepts are dropped at random (share `options.drop`), so that the path without a percept is learned too; the ensemble's
    term is each member's one-step error on its own random half of the rows, against the belief that was reached
    (stop-gradiented). The residual of z's likelihood is stop-gradiented too. Means are over `options.anchors` steps t of each
    row, drawn without replacement (0: all, T+1 with the last; that costs T/anchors as much): beliefs are updated at every step,
    predicted and decoded at the anchors alone.

    Args:
      params: of the module `belief`.
      z: [B, T+1, Z] embeddings of `percept`, as in `watch`; action int32 [B, T]; length int32 [B], actions that are real.
      options: fields horizon (H), anchors, drop, cells (w), variance (nu).
    """
    stop = jax.lax.stop_gradient
    rows, steps = action.shape
    chex.assert_shape(action, (z.shape[0], z.shape[1] - 1))
    k_drop, k_rows, k_anchor = jax.random.split(key, 3)
    apply = lambda *args, method: belief.apply({"params": params}, *args, method=method)  # noqa: E731
    z = stop(z)
    real = jnp.arange(steps + 1) <= length[:, None]
    seen = real & (jax.random.uniform(k_drop, real.shape) >= options.drop)
    after = watch(belief, params, percept, action, seen)[1]

    anchor = draw_anchors(k_anchor, length + 1, steps + 1, options.anchors)
    at = lambda x, t: jnp.take_along_axis(x, jnp.clip(t, 0, x.shape[1] - 1).reshape(*t.shape, *(1,) * (x.ndim - 2)), 1)  # noqa: E731
    start = at(after, anchor)
    mean = lambda x, mask: jnp.sum(jnp.mean(x, -1) * mask) / jnp.maximum(mask.sum(), 1.0)  # noqa: E731
    errors, cells, current = [], [], start
    for h in range(min(options.horizon, steps) + 1):
        if h:
            current = apply(current, at(action, anchor + h - 1), method="predict")
        residual = apply(current, method="decode") - at(z, anchor + h)
        counted = (anchor + h <= length[:, None]).astype(jnp.float32)
        errors.append(mean(residual**2, counted))
        nll, shown = cells_nll(apply(apply(current, method="look"), method="cells"), at(percept["view"], anchor + h))
        shown = shown * counted[..., None]
        cells.append(jnp.sum(nll * shown) / jnp.maximum(shown.sum(), 1.0))
        if h == 1:  # the belief just before the next percept: what is said of its variance
            step, apart, prior = counted, stop(residual), current
    log_variance = jnp.clip(apply(prior, method="log_variance"), *LOG_VARIANCE)
    nll = mean(0.5 * (log_variance + apart**2 * jnp.exp(-log_variance)), step)
    members = apply(stop(start), at(action, anchor), method="members_of")
    share = jax.random.bernoulli(k_rows, 0.5, (members.shape[0], rows, 1)) * step
    missed = jnp.mean((members - stop(at(after, anchor + 1))) ** 2, -1)
    ensemble = mean(missed, share)
    loss = sum(errors) / len(errors) + options.cells * sum(cells) / len(cells) + options.variance * nll + ensemble
    chex.assert_shape(loss, ())
    calibration = mean(apart**2 * jnp.exp(-log_variance), step)
    return loss, stop({
        "now": errors[0], "next": errors[1], "far": errors[-1], "cells": cells[0], "cells_far": cells[-1], "nll": nll,
        "calibration": calibration, "ensemble": ensemble})
