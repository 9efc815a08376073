"""The gradient step between neighbouring levels (DESIGN section 4, "Hierarchy"): what a level predicts badly, the level below
may represent otherwise. `jepa_loss` leaves this out: there each level learns from its own loss."""
import chex
import jax
import jax.numpy as jnp

from hjepa_gfn.objectives.reachability import mean_over
from hjepa_gfn.objectives.system import Params, System
from hjepa_gfn.objectives.windows import Window, encode_level, encode_window, find_segments


def between_loss(params: Params, window: Window, system: System) -> tuple[jnp.ndarray, dict[str, jnp.ndarray]]:
    """Prediction errors of the levels above the first, as functions of the encoder one level below:

        L = sum_{l>1} mean |z^l_k + P_l(z^l_k, m^l_k) - z^l_{k+1}|^2 / Z,   z^l = E_l(z^{l-1}),  z^{l-1} = E_{l-1}(sg(...))
    with gradient in the parameters of E_{l-1} only: E_l, P_l and macro-actions stand still. Nothing in it keeps representations
    from collapsing: it goes with `jepa_loss`, which does.

    Returns: loss [] and metrics `<level>_between`.
    """
    fixed = jax.lax.stop_gradient(params)
    segments = find_segments(system, window)
    levels = encode_window(system, fixed, window, segments)
    loss, metrics = 0.0, {}
    for level, (one, macro) in enumerate(zip(segments, levels.macro, strict=True), 2):
        if level == 2:
            below = system.level(params, window["view"], window["direction"], method="encode")
        else:
            below = encode_level(system, params, levels.z[level - 3], segments[level - 3], level - 1)
        z = encode_level(system, fixed, below, one, level)
        error = system.level(fixed, z[:, :-1], macro, method="predict", level=level) - z[:, 1:]
        found = mean_over(error**2, one.valid.astype(jnp.float32))
        loss += found
        metrics[f"{system.jepa.sizes.names[level - 1]}_between"] = found
    chex.assert_shape(loss, ())
    return loss, metrics
