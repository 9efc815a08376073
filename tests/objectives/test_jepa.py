"""JEPA losses: each term against numpy, and which module each of them teaches."""

import functools
import sys
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

sys.path.insert(0, str(Path(__file__).parents[1]))
import tiny  # noqa: E402

from hjepa_gfn.errors import UserError  # noqa: E402
from hjepa_gfn.objectives.anti_collapse import (  # noqa: E402
    SIGREG_COLLAPSE,
    SIGREG_FLOOR,
    gaussian,
    sigreg,
    spread,
    standard_normal_kl,
    term_of,
    vicreg,
)
from hjepa_gfn.objectives.jepa import (  # noqa: E402
    gaussian_nll,
    jepa_loss,
    level_diagnostics,
    macro_loss,
    multi_horizon,
)
from hjepa_gfn.objectives.windows import encode_macros, find_legs  # noqa: E402

SYSTEM = tiny.system()


# --- SIGReg ---------------------------------------------------------------------------------------------------------


def reference_sigreg(key, z, weight, slices=64):
    """The integral over t in [-3, 3], twice that over [0, 3]."""
    directions = np.asarray(jax.random.normal(key, (z.shape[1], slices)), np.float64)
    directions /= np.sqrt((directions**2).sum(0))
    t = np.linspace(0, 3, 17)
    phi = np.exp(-(t**2) / 2)
    total = 0.0
    for column in (z @ directions).T:
        real = [np.average(np.cos(s * column), weights=weight) for s in t]
        imaginary = [np.average(np.sin(s * column), weights=weight) for s in t]
        total += 2 * weight.sum() * np.trapezoid(phi * ((np.array(real) - phi) ** 2 + np.array(imaginary) ** 2), t)
    return total / slices


def test_sigreg_against_numpy_and_blind_to_padding():
    rng = np.random.default_rng(0)
    z, weight = rng.normal(size=(90, 5)) * 1.3 + 0.4, (np.arange(90) < 60).astype(float)
    key = jax.random.key(3)
    expected = reference_sigreg(key, z, weight)
    np.testing.assert_allclose(reference_sigreg(key, z[:60], np.ones(60)), expected, rtol=1e-12)
    call = jax.jit(sigreg)
    z[60:] = 50.0
    np.testing.assert_allclose(call(key, z, weight), expected, rtol=1e-4)
    assert abs(call(key, z, np.ones(90)) / expected - 1) > 0.1


def test_sigreg_is_at_its_floor_on_a_standard_normal_and_far_above_it_elsewhere():
    n, keys = 2000, jax.random.split(jax.random.key(0), 12)
    draw = lambda key, scale: scale * jax.random.normal(jax.random.fold_in(key, 1), (n, 8))
    call = jax.jit(jax.vmap(lambda key, scale: sigreg(key, draw(key, scale), jnp.ones(n)), (0, None)))
    assert np.mean(call(keys, 1.0)) == pytest.approx(SIGREG_FLOOR, abs=0.12)
    assert np.mean(call(keys, 0.8)) > 5 * SIGREG_FLOOR and np.mean(call(keys, 1.25)) > 5 * SIGREG_FLOOR
    assert np.mean(call(keys, 0.0)) == pytest.approx(0.402 * n, rel=2e-3)


def test_vicreg_against_numpy():
    rng = np.random.default_rng(4)
    z, weight = rng.normal(size=(50, 4)) * [0.3, 0.6, 1.0, 2.0] + 1.0, (np.arange(50) < 40).astype(float)
    c = np.cov(z[:40].T, bias=True)
    hinge = np.maximum(0, 1 - np.sqrt(np.diag(c) + 1e-4)).mean()
    expected = hinge + (c**2).sum() / 4 - (np.diag(c) ** 2).sum() / 4
    np.testing.assert_allclose(vicreg(None, jnp.asarray(z), jnp.asarray(weight)), expected, rtol=1e-4)


def test_the_gaussian_term_against_numpy():
    """Twice the divergence, by dimension, of the real rows' normal from a standard one, beside SIGReg."""
    rng = np.random.default_rng(5)
    z, weight = rng.normal(size=(50, 4)) * [0.1, 0.6, 1.0, 2.0] + [1.0, 0, 0, -2], (np.arange(50) < 40).astype(float)
    s, mean = np.cov(z[:40].T, bias=True) + 1e-3 * np.eye(4), z[:40].mean(0)
    kl = 0.5 * (np.trace(s) + mean @ mean - np.linalg.slogdet(s)[1] - 4)
    args = jnp.asarray(z), jnp.asarray(weight)
    np.testing.assert_allclose(standard_normal_kl(*args), 2 * kl / 4, rtol=1e-5)
    key = jax.random.key(0)
    np.testing.assert_allclose(gaussian(key, *args), sigreg(key, *args) + 10 * 2 * kl / 4, rtol=1e-5)
    assert abs(float(standard_normal_kl(jax.random.normal(key, (20_000, 4)), jnp.ones(20_000)))) < 3e-3
    # with fewer rows than dimensions, and collapsed, it is finite; small directions are pushed harder than large ones pulled
    assert np.isfinite(jax.grad(standard_normal_kl)(jnp.ones((3, 8)), jnp.ones(3))).all()
    two = jnp.asarray([[0.1, 1.9], [-0.1, -1.9], [0.1, -1.9], [-0.1, 1.9]])
    push, pull = np.abs(jax.grad(standard_normal_kl)(two, jnp.ones(4))).max(0)
    assert push > 5 * pull > 0


def test_an_unknown_term_is_refused():
    with pytest.raises(UserError, match="jepa.anti_collapse='vicrg': must be one of sigreg, gaussian, vicreg, ema, none"):
        term_of("vicrg")


def test_ema_targets_are_the_slow_copys_states():
    """With the slow copy equal to the encoders the values are those of plain targets, and no gradient goes through targets."""
    p = {"jepa": tiny.params()["jepa"], "jepa_slow": tiny.params()["jepa"]}
    window = tiny.window([[3, 2, 1], [1, 2]], seed=6)
    loss = lambda name: lambda jepa, slow: jepa_loss(
        {"jepa": jepa, "jepa_slow": slow}, jax.random.key(0), window, SYSTEM,
        SimpleNamespace(horizon=1, anti_collapse=name, regularise=0.0, inverse=0.0, variance=0.0, code=0.0, macro=0.0))[0]
    (plain, (g_plain, _)), (ema, (g_ema, g_slow)) = (
        jax.jit(jax.value_and_grad(loss(name), (0, 1)))(*p.values()) for name in ("none", "ema"))
    np.testing.assert_allclose(plain, ema, rtol=1e-5)
    size = lambda tree: max(np.abs(leaf).max() for leaf in jax.tree.leaves(tree))
    assert size(g_slow) == 0 and size(jax.tree.map(jnp.subtract, g_plain, g_ema)) > 1e-3
    moved = jax.tree.map(lambda x: 1.1 * x, p["jepa_slow"])
    assert abs(float(jax.jit(loss("ema"))(p["jepa"], moved)) - float(ema)) > 1e-4


# --- terms ----------------------------------------------------------------------------------------------------------


def test_multi_horizon_against_a_loop():
    rng = np.random.default_rng(1)
    batch, length, size, horizon = 3, 5, 4, 3
    z, control = rng.normal(size=(batch, length + 1, size)), rng.normal(size=(batch, length, size))
    real = [5, 2, 0]
    predict = lambda x, a: 0.9 * x + a
    valid = jnp.arange(length) < jnp.array(real)[:, None]
    found = multi_horizon(predict, jnp.asarray(z), jnp.asarray(control), valid, horizon)
    for h in range(1, horizon + 1):
        errors = []
        for b in range(batch):
            for t in range(real[b] - h + 1):
                x = z[b, t]
                for i in range(h):
                    x = predict(x, control[b, t + i])
                errors.append(np.mean((x - z[b, t + h]) ** 2))
        np.testing.assert_allclose(found[h - 1], np.mean(errors), rtol=1e-5)
    assert len(found) == horizon


def test_gaussian_nll_is_the_log_density_less_its_constant():
    rng = np.random.default_rng(2)
    residual, log_v = rng.normal(size=(2, 6, 3)), rng.normal(size=(2, 6, 3))
    mask = (rng.random((2, 6)) < 0.6).astype(float)
    density = -stats.norm.logpdf(residual, scale=np.exp(log_v / 2)) - 0.5 * np.log(2 * np.pi)
    found = gaussian_nll(*map(jnp.asarray, (residual, log_v, mask)))
    np.testing.assert_allclose(found, density[mask > 0].mean(), rtol=1e-5)
    assert gaussian_nll(jnp.asarray(residual), jnp.asarray(log_v), jnp.zeros((2, 6))) == 0.0


def test_diagnostics_against_numpy():
    rng = np.random.default_rng(3)
    z = rng.normal(size=(50, 4)) @ rng.normal(size=(4, 4)) + 3
    weight = (np.arange(50) < 40).astype(float)
    found = level_diagnostics(jnp.asarray(z), jnp.asarray(weight), jnp.float32(2.1), jnp.float32(0.5), jnp.float32(2.0))
    real = z[:40] - z[:40].mean(0)
    share = np.linalg.svd(real, compute_uv=False)
    share /= share.sum()
    expected = {"std": real.std(0).mean(), "rankme": np.exp(-(share * np.log(share)).sum()),
                "sigreg_over_floor": 2.1 / SIGREG_FLOOR, "pred_over_copy": 0.25}
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-3, err_msg=name)


def test_signs_of_collapse():
    """Embeddings that are all zero have SIGReg at `SIGREG_COLLAPSE` N; `spread` is the standard deviation of the real rows."""
    weight = jnp.asarray(np.arange(40) < 30, jnp.float32)
    collapsed = sigreg(jax.random.key(0), jnp.zeros((40, 5)), weight)
    np.testing.assert_allclose(collapsed, SIGREG_COLLAPSE * 30, rtol=2e-3)
    z = np.random.default_rng(0).normal(size=(40, 5)) * [1, 2, 3, 4, 5] + 7
    np.testing.assert_allclose(spread(jnp.asarray(z), weight), z[:30].std(0).mean(), rtol=1e-5)


def test_macro_actions_are_judged_by_every_step_of_their_legs_and_where_they_end():
    p = tiny.params()
    window = tiny.window([[3, 2, 1], [4], [], [1, 1, 1, 1]], seed=5)
    legs = find_legs(window, 3)

    @jax.jit
    def judged(p):
        m = encode_macros(SYSTEM, p, window["action"], legs)
        return *macro_loss(SYSTEM, p, m, window["action"], legs), SYSTEM.level(p, m, method="decode_macro", level=2)

    loss, exact, logits = judged(p)
    log_p = np.asarray(jax.nn.log_softmax(logits), np.float64)
    assert log_p.shape == (4, 3, 4, tiny.ACTIONS + 1)
    terms, right = [], []
    for b, k in zip(*np.nonzero(legs.valid)):
        held = np.asarray(window["action"][b])[(np.asarray(window["segment"][b]) == k) & np.asarray(legs.step[b])]
        target = held.tolist() + [tiny.ACTIONS] * (4 - len(held))
        terms.append(sum(log_p[b, k, i, a] for i, a in enumerate(target)))
        right.append(log_p[b, k].argmax(-1).tolist() == target)
    assert len(terms) == 7
    np.testing.assert_allclose([loss, exact], [-np.mean(terms), np.mean(right)], rtol=1e-4)


# --- the whole ------------------------------------------------------------------------------------------------------

TEACHES = {
    "step_pred": {"1/encoder", "1/action_embed", "1/predictor"}, "step_sigreg": {"1/encoder"},
    "step_code": {"1/quantiser"}, "step_inverse": {"1/encoder", "1/inverse"},
    "step_nll": {"1/variance", "1/action_embed"},
    "subgoal_pred": {"2/encoder", "2/segment_in", "2/predictor", "2/macro_in", "2/actions_below"},
    "subgoal_sigreg": {"2/encoder", "2/segment_in"}, "subgoal_inverse": {"2/encoder", "2/segment_in", "2/inverse"},
    "subgoal_nll": {"2/variance"}, "subgoal_code": {"2/quantiser"},
    "macro_nll": {"2/macro_in", "2/actions_below", "2/macro_out"},
}


WEIGHTS = dict(regularise=0.05, inverse=0.5, variance=0.1, code=1.0, macro=0.7)


@functools.cache
def whole(dirty=False):
    """({name: value}, {name: gradient in (parameters, weights)}) of loss and metrics; `dirty`: other padding."""
    window = tiny.window([[3, 2, 1], [1], [], [2, 2, 3]], seed=6)
    if dirty:
        past = ~np.asarray(find_legs(window, 3).step)
        after = np.concatenate([np.zeros_like(past[:, :1]), past], axis=1)
        noise = tiny.window([[2, 2, 3]] * 4, seed=9)
        places = {"action": past, "segment": past, "view": after, "direction": after}
        swap = lambda x, y, where: jnp.where(jnp.expand_dims(where, range(2, x.ndim)), y, x)
        window |= {name: swap(window[name], noise[name], where) for name, where in places.items()}
    return jax.tree.map(np.asarray, compiled()(tiny.params()["jepa"], WEIGHTS, window))


@functools.cache
def compiled():
    names = ["loss", *TEACHES]

    def everything(jepa, weights, window):
        def values(jepa, weights):
            options = SimpleNamespace(horizon=2, anti_collapse="sigreg", **weights)
            loss, metrics = jepa_loss({"jepa": jepa}, jax.random.key(0), window, SYSTEM, options)
            return jnp.stack([{"loss": loss, **metrics}[name] for name in names])

        found, pull = jax.vjp(values, jepa, weights)
        grads = jax.vmap(pull)(jnp.eye(len(names)))
        nth = lambda i: jax.tree.map(lambda g: g[i], grads)
        return dict(zip(names, found)), {name: nth(i) for i, name in enumerate(names)}

    return jax.jit(everything)


@pytest.mark.parametrize("term", TEACHES)
def test_each_term_teaches_its_own_modules_and_no_level_the_one_below(term):
    grads = whole()[1][term][0]
    modules = {f"{level[-1]}/{name}": leaves for level, parts in grads.items()
               for name, leaves in {**parts, **parts["dynamics"]}.items() if name != "dynamics"}
    taught = {name for name, leaves in modules.items() if max(np.abs(g).max() for g in jax.tree.leaves(leaves)) > 1e-7}
    assert taught == TEACHES[term]


def test_the_loss_weighs_its_terms():
    values, grads = whole()
    slope = grads["loss"][1]
    for name, metric in (("regularise", "sigreg"), ("inverse", "inverse"), ("code", "code")):
        np.testing.assert_allclose(slope[name], values[f"step_{metric}"] + values[f"subgoal_{metric}"], rtol=1e-5)
    np.testing.assert_allclose(slope["variance"], values["step_nll"] + values["subgoal_nll"], rtol=1e-5)
    np.testing.assert_allclose(slope["macro"], values["macro_nll"], rtol=1e-5)
    prediction = values["loss"] - sum(WEIGHTS[name] * slope[name] for name in WEIGHTS)
    # what is left is each level's mean over horizons 1 and 2: more than half of the first
    first = (values["step_pred"] + values["subgoal_pred"]) / 2
    assert first < prediction < 20 * first


def test_the_loss_does_not_read_what_lies_past_the_end_of_a_window():
    for name, value in whole()[0].items():
        np.testing.assert_allclose(whole(dirty=True)[0][name], value, rtol=1e-5, err_msg=name)


def test_the_own_direction_and_load_are_read_off_step_states_and_add_their_cross_entropies():
    system, window = tiny.system(compass=True), tiny.window([[2, 1], [3, 2], []])
    ball = jnp.asarray([6, 4], window["view"].dtype)
    window["view"] = window["view"].at[0, 1:, 3, 6, :2].set(ball)  # which is carried
    params, others = tiny.params(compass=True), dict(**WEIGHTS, anti_collapse="sigreg", horizon=2, reach=0)
    run = jax.jit(lambda p, w: jepa_loss(p, jax.random.key(0), window, system, SimpleNamespace(**others, compass=w)))
    loss, metrics = run(params, 0.3)
    z = system.level(params, window["view"], window["direction"], method="encode")
    seen = np.arange(z.shape[1]) <= np.asarray(window["length"])[:, None]

    def nll(name, columns, label):
        head = jax.tree.map(lambda x: np.asarray(x, np.float64)[..., columns], params["jepa"]["level_1"][name])
        logits = np.asarray(z, np.float64) @ head["kernel"] + head["bias"]
        log_p = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
        return -np.take_along_axis(log_p, np.asarray(label, int)[..., None], -1)[seen].mean()

    own = window["view"][:, :, 3, 6]
    np.testing.assert_allclose(metrics["step_compass"], nll("heading", slice(None), window["direction"]), rtol=1e-4)
    load = nll("load", slice(16), own[..., 0]) + nll("load", slice(16, 24), own[..., 1])
    np.testing.assert_allclose(metrics["step_load"], load, rtol=1e-4)
    added = 0.3 * (metrics["step_compass"] + metrics["step_load"])
    np.testing.assert_allclose(loss - run(params, 0.0)[0], added, rtol=1e-3)
