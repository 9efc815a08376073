"""JEPA losses, all levels (DESIGN section 4; LeCun 2022; Balestriero & LeCun 2025 for SIGReg)."""
import chex
import jax
import jax.numpy as jnp

from hjepa_gfn.models.fsq import num_codes, to_code
from hjepa_gfn.objectives.anti_collapse import SIGREG_COLLAPSE, SIGREG_FLOOR, covariance, sigreg, spread, term_of
from hjepa_gfn.objectives.reachability import mean_over, reach_loss
from hjepa_gfn.objectives.system import Params, System
from hjepa_gfn.objectives.windows import Window, encode_window, find_segments
from hjepa_gfn.worlds.egocentric_map import own_cell

Metrics = dict[str, jnp.ndarray]
LOG_VARIANCE = (-8.0, 4.0)  # what the variance heads may say
UPPER_HORIZON = 2           # how far the levels above the steps predict, in segments


def gaussian_nll(residual: jnp.ndarray, log_variance: jnp.ndarray, mask: jnp.ndarray) -> jnp.ndarray:
    """0.5 (log v + r^2 / v), residual and inputs already stop-gradiented. Shapes [..., Z], mask [...]."""
    chex.assert_equal_shape([residual, log_variance])
    log_variance = jnp.clip(log_variance, *LOG_VARIANCE)
    return mean_over(0.5 * (log_variance + residual**2 * jnp.exp(-log_variance)), mask)


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
        errors.append(mean_over((current - target[:, h:]) ** 2, valid[:, h - 1 :].astype(jnp.float32)))
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
    """All levels at once (each sees the one below through a stop-gradient):

        sum_l  mean_h MSE_h + lambda R(z^l) + omega inverse dynamics + detached Gaussian NLL + code reconstruction
      + sum_{l>1} cross entropy of the lower actions decoded from the macro-action's code.

    Args:
      weights: `config.jepa`: horizon (of steps; above, `UPPER_HORIZON`); anti_collapse, which names R (`anti_collapse.TERMS`),
        and its weight `regularise`; the weights inverse, variance, code, macro; compass, where there are such heads (cross
        entropies of the own direction and load, which nothing else makes the states keep); and reach (of the reachability
        heads, where the hierarchy has some; see `reachability.reach_loss`). With "ema" the prediction's targets are encoded by
        params["jepa_slow"].
      diagnostics: also return `level_diagnostics` per level (evaluation only: it holds an eigendecomposition).

    Returns: loss [] and metrics, named `<level>_<term>` by `JepaSizes.names`; of macro-actions see `macro_metrics`.
    """
    stop, sizes = jax.lax.stop_gradient, system.jepa.sizes
    segments = find_segments(system, window)
    levels = encode_window(system, params, window, segments)
    targets = levels.z  # neither a slow copy nor a stop-gradient, unless asked for
    if weights.anti_collapse == "ema":
        targets = stop(encode_window(system, {**params, "jepa": params["jepa_slow"]}, window, segments)).z
    regulariser = term_of(weights.anti_collapse)
    action = window["action"]
    controls = (action, *levels.macro)
    real = (segments[0].step, *(one.valid for one in segments))
    started = (window["length"] >= 0, *(window["length"] > 0 for _ in segments))  # whether the state before the first counts

    loss, metrics = 0.0, {}
    for level, (name, k) in enumerate(zip(sizes.names, jax.random.split(key, len(sizes.names)), strict=True), 1):
        apply = lambda *args, method, level=level: system.level(params, *args, method=method, level=level)  # noqa: E731
        predict = lambda z, a, apply=apply: apply(z, a, method="predict")  # noqa: E731
        z, control, valid = levels.z[level - 1], controls[level - 1], real[level - 1]
        seen = jnp.concatenate([started[level - 1][:, None], valid], axis=1).astype(jnp.float32)
        weight = valid.astype(jnp.float32)
        horizon = min(weights.horizon if level == 1 else UPPER_HORIZON, valid.shape[1])
        errors = multi_horizon(predict, z, control, valid, horizon, targets[level - 1])
        inverse = inverse_error(apply(z[:, :-1], z[:, 1:], method="invert"), stop(control), weight)
        residual = stop(predict(z[:, :-1], control) - z[:, 1:])
        log_variance = apply(stop(z[:, :-1]), stop(control), method="log_variance")
        flat = z.reshape(-1, z.shape[-1])
        statistic = sigreg(k, flat, seen.reshape(-1))  # for the record, whatever the term
        term = statistic if regulariser is sigreg else regulariser(k, flat, seen.reshape(-1))
        variance = gaussian_nll(residual, log_variance, weight)
        decoded = apply(stop(z), method="reconstruct")
        code = mean_over((decoded - stop(z)) ** 2, seen)
        loss += sum(errors) / horizon + weights.regularise * term + weights.inverse * inverse
        loss += weights.variance * variance + weights.code * code
        if sizes.compass and level == 1:
            lost = own_state_loss(system, params, z, window, seen)
            loss += weights.compass * sum(lost)
            metrics |= {"step_compass": lost[0], "step_load": lost[1]}
        if sizes.reach:
            above = segments[level - 1] if level <= len(segments) else None
            missed, found = reach_loss(system, params, jax.random.fold_in(key, level), z, decoded, valid, above, level)
            loss += weights.reach * missed
            metrics |= {f"{name}_{what}": value for what, value in found.items()}
        copy = mean_over((z[:, 1:] - z[:, :-1]) ** 2, weight)
        metrics |= {f"{name}_pred": errors[0], f"{name}_copy": copy, f"{name}_sigreg": statistic,
                    f"{name}_regulariser": term, f"{name}_inverse": inverse, f"{name}_nll": variance, f"{name}_code": code,
                    # what the alarm watches (`training.alarm`): 1 is the value of a collapsed representation
                    f"{name}_std": spread(stop(flat), seen.reshape(-1)),
                    f"{name}_collapse": statistic / (SIGREG_COLLAPSE * jnp.maximum(seen.sum(), 1.0))}
        if diagnostics:
            found = level_diagnostics(flat, seen.reshape(-1), statistic, errors[0], copy)
            far = mean_over((z[:, horizon:] - z[:, :-horizon]) ** 2, valid[:, horizon - 1 :].astype(jnp.float32))
            ratio = residual**2 * jnp.exp(-jnp.clip(log_variance, *LOG_VARIANCE))
            used = jnp.zeros(num_codes(sizes.code_grid(level)))
            used = used.at[apply(z, method="code").reshape(-1)].max(seen.reshape(-1))
            found |= {"pred_over_copy_far": errors[-1] / jnp.maximum(far, 1e-9), "codes_used": used.mean(),
                      "calibration": mean_over(ratio, weight)}
            metrics |= {f"{name}_{key}": value for key, value in found.items()}

    for level, (one, macro) in enumerate(zip(segments, levels.macro, strict=True), 2):
        nll, right = macro_loss(system, params, macro, action, one, level)
        loss += weights.macro * nll
        metrics |= macro_metrics(sizes.names[level - 1], level, nll, right)
        action = to_code(stop(macro), sizes.levels[level - 2].action)
    chex.assert_shape(loss, ())
    return loss, metrics


def own_state_loss(
    system: System, params: Params, z: jnp.ndarray, window: Window, seen: jnp.ndarray
) -> tuple[jnp.ndarray, jnp.ndarray]:
    """Mean cross entropies of the own direction and of what is carried (kind and colour), from step states z [B, W+1, Z] where
    `seen` [B, W+1]. What is carried is what the percept's own cell shows."""
    x, y = own_cell(system.map)
    own = window["view"][..., x, y, :].astype(jnp.int32)
    kind, colour = system.level(params, z, method="load")

    def nll(logits: jnp.ndarray, label: jnp.ndarray) -> jnp.ndarray:
        return mean_over(-jnp.take_along_axis(jax.nn.log_softmax(logits), label[..., None], -1, mode="clip"), seen)

    heading = system.level(params, z, method="heading")
    return nll(heading, window["direction"]), nll(kind, own[..., 0]) + nll(colour, own[..., 1])


def inverse_error(said: jnp.ndarray, control: jnp.ndarray, weight: jnp.ndarray) -> jnp.ndarray:
    """Of what inverse dynamics says of actions [B, n, A]: cross entropy of primitive actions int32 [B, n]; squared error of
    macro-actions [B, n, F]. weight [B, n]."""
    if control.ndim == 2:
        return mean_over(-jnp.take_along_axis(jax.nn.log_softmax(said), control[..., None], -1, mode="clip"), weight)
    return mean_over((said - control) ** 2, weight)


def macro_metrics(name: str, level: int, nll: jnp.ndarray, right: jnp.ndarray) -> Metrics:
    """The names of `macro_loss`'s results: those of level 2 go without the level's."""
    prefix = "" if level == 2 else f"{name}_"
    return {f"{prefix}macro_nll": nll, f"{prefix}macro_exact": right}


def macro_loss(system: System, params: Params, m, action, segments, level: int = 2) -> tuple[jnp.ndarray, jnp.ndarray]:
    """(cross entropy of each segment's lower actions given its macro-action, share of segments decoded exactly).

    m [B, K, F], action int32 [B, n] (codes of the level below), segments with members [B, K, n].
    """
    size, ended = system.jepa.sizes.levels[level - 2].longest, system.jepa.sizes.action_codes(level - 1)
    place = jax.nn.one_hot(segments.place, size)
    held = jnp.einsum("bkw,bwp,bw->bkp", segments.member, place, action + 1.0)
    target = jnp.where(held > 0, held - 1, ended).astype(jnp.int32)
    logits = system.level(params, m, method="decode_macro", level=level)
    log_p = jnp.take_along_axis(jax.nn.log_softmax(logits), target[..., None], -1, mode="clip")[..., 0].sum(-1)
    count = jnp.maximum(segments.valid.sum(), 1)
    exact = (jnp.argmax(logits, -1) == target).all(-1)
    return -jnp.sum(log_p * segments.valid) / count, jnp.sum(exact & segments.valid) / count
