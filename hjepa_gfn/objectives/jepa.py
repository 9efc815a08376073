"""JEPA losses, both levels (DESIGN section 4; LeCun 2022; Balestriero & LeCun 2025 for SIGReg)."""
import chex
import jax
import jax.numpy as jnp

from hjepa_gfn.models.fsq import num_codes
from hjepa_gfn.objectives.anti_collapse import SIGREG_COLLAPSE, SIGREG_FLOOR, covariance, sigreg, spread, term_of
from hjepa_gfn.objectives.system import Params, System
from hjepa_gfn.objectives.windows import Window, encode_window, find_legs

Metrics = dict[str, jnp.ndarray]
LOG_VARIANCE = (-8.0, 4.0)  # what the variance heads may say
def _mean(x: jnp.ndarray, mask: jnp.ndarray) -> jnp.ndarray:
    """Mean of x [..., Z] over the last axis and the masked positions."""
    return jnp.sum(jnp.mean(x, -1) * mask) / jnp.maximum(mask.sum(), 1.0)


def gaussian_nll(residual: jnp.ndarray, log_variance: jnp.ndarray, mask: jnp.ndarray) -> jnp.ndarray:
    """0.5 (log v + r^2 / v), residual and inputs already stop-gradiented. Shapes [..., Z], mask [...]."""
    chex.assert_equal_shape([residual, log_variance])
    log_variance = jnp.clip(log_variance, *LOG_VARIANCE)
    return _mean(0.5 * (log_variance + residual**2 * jnp.exp(-log_variance)), mask)


def multi_horizon(
    predict, z: jnp.ndarray, control: jnp.ndarray, valid: jnp.ndarray, horizon: int, target: jnp.ndarray | None = None
) -> list[jnp.ndarray]:
    """Mean squared error of h-step open-loop prediction, h = 1..horizon, along axis 1.

    z [B, L+1, Z], control [B, L, ...], valid bool [B, L] (transition l -> l+1 is real; real ones come first);
    target [B, L+1, Z]: what is predicted, z itself unless given.
    """
    target = z if target is None else target
    errors, current = [], z
    length = valid.shape[1]
    for h in range(1, horizon + 1):
        current = predict(current[:, : length - h + 1], control[:, h - 1 :])
        errors.append(_mean((current - target[:, h:]) ** 2, valid[:, h - 1 :].astype(jnp.float32)))
    return errors


def level_diagnostics(z: jnp.ndarray, weight: jnp.ndarray, statistic, error, copy) -> Metrics:
    """std, RankMe, SIGReg over its floor, prediction over copy error. z [N, Z], weight [N]."""
    c = covariance(z, weight)
    spectrum = jnp.sqrt(jnp.maximum(jnp.linalg.eigvalsh(c), 0.0))
    share = spectrum / jnp.maximum(spectrum.sum(), 1e-9) + 1e-9
    return {
        "std": jnp.sqrt(jnp.diagonal(c)).mean(), "rankme": jnp.exp(-jnp.sum(share * jnp.log(share))),
        "sigreg_over_floor": statistic / SIGREG_FLOOR, "pred_over_copy": error / jnp.maximum(copy, 1e-9),
    }


def jepa_loss(
    params: Params, key: jnp.ndarray, window: Window, system: System, weights, diagnostics: bool = False
) -> tuple[jnp.ndarray, Metrics]:
    """Both levels at once (the upper one sees the lower through a stop-gradient):

        sum_l  sum_h MSE_h + lambda R(z^l) + omega inverse dynamics + detached Gaussian NLL + code reconstruction
      + cross entropy of the primitive actions decoded from the macro-action's code.

    Args:
      weights: `config.jepa`: horizon; anti_collapse, which names R (`anti_collapse.TERMS`), and its weight `regularise`; the
        weights inverse, variance, code, macro. With "ema" the prediction's targets are encoded by params["jepa_slow"].
      diagnostics: also return `level_diagnostics` per level (evaluation only: it holds an eigendecomposition).
    """
    legs = find_legs(window, system.max_legs)
    levels = encode_window(system, params, window, legs)
    stop = jax.lax.stop_gradient
    z1, z2, m = levels
    targets = {"step": z1, "subgoal": z2}  # neither a slow copy nor a stop-gradient, unless asked for
    if weights.anti_collapse == "ema":
        slow = stop(encode_window(system, {**params, "jepa": params["jepa_slow"]}, window, legs))
        targets = {"step": slow.z1, "subgoal": slow.z2}
    regulariser = term_of(weights.anti_collapse)
    action, step = window["action"], legs.step
    apply = lambda *args, method: system.level(params, *args, method=method)  # noqa: E731
    decoded_1, decoded_2 = apply(stop(z1), stop(z2), method="reconstruct")
    seen_1 = jnp.concatenate([window["length"][:, None] >= 0, step], axis=1).astype(jnp.float32)
    seen_2 = jnp.concatenate([window["length"][:, None] > 0, legs.valid], axis=1).astype(jnp.float32)

    inverse_1 = apply(z1[:, :-1], z1[:, 1:], method="invert_1")
    log_p = jnp.take_along_axis(jax.nn.log_softmax(inverse_1), action[..., None], -1, mode="clip")
    inverse_2 = (apply(z2[:, :-1], z2[:, 1:], method="invert_2") - stop(m)) ** 2
    per_level = {
        "step": (z1, seen_1, step, lambda z, a: apply(z, a, method="predict_1"), action,
                 _mean(-log_p, step.astype(jnp.float32)), decoded_1,
                 apply(stop(z1[:, :-1]), action, method="log_variance_1")),
        "subgoal": (z2, seen_2, legs.valid, lambda z, a: apply(z, a, method="predict_2"), m,
                    _mean(inverse_2, legs.valid.astype(jnp.float32)), decoded_2,
                    apply(stop(z2[:, :-1]), stop(m), method="log_variance_2")),
    }
    loss, metrics = 0.0, {}
    for (name, level), k in zip(per_level.items(), jax.random.split(key), strict=True):
        z, seen, valid, predict, control, inverse, decoded, log_variance = level
        horizon = min(weights.horizon, valid.shape[1]) if name == "step" else min(2, valid.shape[1])
        errors = multi_horizon(predict, z, control, valid, horizon, targets[name])
        residual = stop(predict(z[:, :-1], control) - z[:, 1:])
        flat = z.reshape(-1, z.shape[-1])
        statistic = sigreg(k, flat, seen.reshape(-1))  # for the record, whatever the term
        term = statistic if regulariser is sigreg else regulariser(k, flat, seen.reshape(-1))
        variance = gaussian_nll(residual, log_variance, valid.astype(jnp.float32))
        code = _mean((decoded - stop(z)) ** 2, seen)
        loss += sum(errors) / horizon + weights.regularise * term + weights.inverse * inverse
        loss += weights.variance * variance + weights.code * code
        copy = _mean((z[:, 1:] - z[:, :-1]) ** 2, valid.astype(jnp.float32))
        metrics |= {f"{name}_pred": errors[0], f"{name}_copy": copy, f"{name}_sigreg": statistic,
                    f"{name}_regulariser": term, f"{name}_inverse": inverse, f"{name}_nll": variance, f"{name}_code": code,
                    # what the alarm watches (`training.alarm`): 1 is the value of a collapsed representation
                    f"{name}_std": spread(stop(flat), seen.reshape(-1)),
                    f"{name}_collapse": statistic / (SIGREG_COLLAPSE * jnp.maximum(seen.sum(), 1.0))}
        if diagnostics:
            found = level_diagnostics(flat, seen.reshape(-1), statistic, errors[0], copy)
            far = _mean((z[:, horizon:] - z[:, :-horizon]) ** 2, valid[:, horizon - 1 :].astype(jnp.float32))
            ratio = residual**2 * jnp.exp(-jnp.clip(log_variance, *LOG_VARIANCE))
            codes = {"step": ("code_1", system.jepa.sizes.step_levels), "subgoal": ("code_2", system.jepa.sizes.leg_levels)}
            read, grid = codes[name]
            used = jnp.zeros(num_codes(grid)).at[apply(z, method=read).reshape(-1)].max(seen.reshape(-1))
            found |= {"pred_over_copy_far": errors[-1] / jnp.maximum(far, 1e-9), "codes_used": used.mean(),
                      "calibration": _mean(ratio, valid.astype(jnp.float32))}
            metrics |= {f"{name}_{key}": value for key, value in found.items()}

    macro, right = macro_loss(system, params, m, action, legs)
    loss += weights.macro * macro
    chex.assert_shape(loss, ())
    return loss, metrics | {"macro_nll": macro, "macro_exact": right}


def macro_loss(system: System, params: Params, m, action, legs) -> tuple[jnp.ndarray, jnp.ndarray]:
    """(cross entropy of each leg's primitive actions given its macro-action, share of legs decoded exactly)."""
    size, ended = system.jepa.sizes.leg, system.jepa.sizes.num_actions
    place = jax.nn.one_hot(legs.place, size)
    held = jnp.einsum("bkw,bwp,bw->bkp", legs.member, place, action + 1.0)
    target = jnp.where(held > 0, held - 1, ended).astype(jnp.int32)
    logits = system.level(params, m, method="decode_macro")
    log_p = jnp.take_along_axis(jax.nn.log_softmax(logits), target[..., None], -1, mode="clip")[..., 0].sum(-1)
    count = jnp.maximum(legs.valid.sum(), 1)
    exact = (jnp.argmax(logits, -1) == target).all(-1)
    return -jnp.sum(log_p * legs.valid) / count, jnp.sum(exact & legs.valid) / count
