"""The loss of a one-level JEPA of pixels, every term with a weight of its own, so that each can be left out."""

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp

from hjepa_gfn.models.pixel_jepa import PixelJepa
from hjepa_gfn.objectives.anti_collapse import off_diagonal, sigreg, variance_hinge
from hjepa_gfn.objectives.jepa import multi_horizon


class PixelWeights(NamedTuple):
    """Weights of the terms beside prediction, numbers or traced arrays: one compiled step serves all values.

    EB-JEPA's best are 16, 8, 12, 1, with ninety times as many percepts as `experiments.two_rooms` has; with few, prediction
    must be more of the sum, or walls are not learned.
    """

    variance: float = 4.0
    covariance: float = 2.0      # of the mean over entries off the diagonal, as in EB-JEPA's code
    similarity: float = 1.0
    inverse: float = 1.0
    sigreg: float | None = None  # None: not computed


PUBLISHED_WEIGHTS = PixelWeights(16.0, 8.0, 12.0, 1.0)


def pixel_jepa_loss(
    params: dict, slow: dict | None, key: jnp.ndarray, pixels: jnp.ndarray, action: jnp.ndarray, model: PixelJepa,
    weights: PixelWeights, horizon: int | None = None, from_first: bool = False,
) -> tuple[jnp.ndarray, dict[str, jnp.ndarray]]:
    """EB-JEPA's loss (facebookresearch/eb_jepa, `examples/ac_video_jepa`; PLDM, Sobal et al. 2025), with SIGReg beside:

        L = mean_h mean_t |z_hat_{t+h|t} - z_{t+h}|^2 + alpha V(z) + beta C(z) + sigma SIGReg(z)
          + delta mean_t |z_{t+1} - z_t|^2 + omega mean_t |I(z_t, z_{t+1}) - a_t|^2,
    z_t = E(o_t), z_hat_{t+h|t} predicted open loop from z_t over h = 1..`horizon` steps, |.|^2 the mean over
    dimensions, V the variance hinge and C the mean squared covariance between dimensions, over all percepts of the batch. No
    stop-gradient, but on a slow copy's targets.

    Args:
      params: of the model. slow: of a slowly following copy, whose encoder gives prediction its targets; None: its own do.
      pixels: [B, K+1, H, W, C]; action [B, K, A].
      horizon: steps of the prediction, K unless given. from_first: only z_0 is predicted from (EB-JEPA), not every z_t.

    Returns: loss [] and every unweighted term, with the error of one step and std.
    """
    batch, steps = action.shape[:2]
    chex.assert_shape(pixels, (batch, steps + 1, None, None, None))
    apply = lambda p, *args, method: model.apply({"params": p}, *args, method=method)
    z = apply(params, pixels, method="encode")
    target = jax.lax.stop_gradient(apply(slow, pixels, method="encode")) if slow else z
    chex.assert_shape(z, (batch, steps + 1, None))
    horizon = horizon or steps
    if from_first:
        found = apply(params, z[:, 0], action[:, :horizon], method="unroll")
        ahead = list(jnp.mean((found - target[:, 1 : horizon + 1]) ** 2, (0, 2)))
    else:
        predict = lambda state, a: apply(params, state, a, method="predict")
        ahead = multi_horizon(predict, z, action, jnp.ones((batch, steps), bool), horizon, target)
    inverted = apply(params, z[:, :-1], z[:, 1:], method="invert")
    chex.assert_equal_shape([inverted, action])
    flat = z.reshape(-1, z.shape[-1])
    ones = jnp.ones(len(flat))
    terms = {
        "prediction": sum(ahead) / horizon,
        "variance": variance_hinge(flat, ones),
        "covariance": off_diagonal(flat, ones) / (z.shape[-1] - 1),
        "similarity": jnp.mean((z[:, 1:] - z[:, :-1]) ** 2),
        "inverse": jnp.mean((inverted - action) ** 2),
        "sigreg": jnp.zeros(()) if weights.sigreg is None else sigreg(key, flat, ones),
    }
    weighted = [weight * terms[name] for name, weight in weights._asdict().items() if weight is not None]
    loss = terms["prediction"] + sum(weighted)
    chex.assert_shape(loss, ())
    return loss, terms | {"one_step": ahead[0], "std": flat.std(0).mean()}
