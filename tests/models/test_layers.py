"""Blocks and small layers: what masks hide, which bias goes where."""

import functools
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))
import tiny  # noqa: E402

from hjepa_gfn.models.layers import Block, Dense, Mlp, Norm, Source, masked  # noqa: E402

B, T, L, M, D, H = 2, 3, 4, 5, 8, 2


def free_and_masked(seed=1):
    """(x, self bias, context features, context bias, plan features, plan bias); one key of each source is masked."""
    rng = np.random.default_rng(seed)
    flat, deep = rng.normal(size=(B, M, D)), rng.normal(size=(B, T, M, D))
    seen, seen_self = np.ones((B, M), bool), np.ones((B, T, L), bool)
    seen[0, 2] = seen[1, 4] = seen_self[1, 2, 3] = False
    hide = np.asarray(masked(seen))[:, None, None, None]
    relations = rng.normal(size=(B, T, H, L, L)) + np.asarray(masked(seen_self))[:, :, None, None]
    return rng.normal(size=(B, T, L, D)), relations, flat, hide, deep, hide


def sources(flat, flat_bias, deep, deep_bias):
    return [Source("context", flat, flat_bias), Source("plan", deep, deep_bias)]


@functools.cache
def block():
    """(compiled function of parameters and the six arrays, parameters)."""
    arrays = split(free_and_masked())
    weights = tiny.drawn(lambda: Block(H, D, 16, ("context", "plan")).init(jax.random.key(0), *arrays))
    return jax.jit(lambda weights, *arrays: Block(H, D, 16, ("context", "plan")).apply(weights, *split(arrays))), weights


def split(arrays):
    x, bias, *others = arrays
    return x, bias, sources(*others)


def test_masked_context_and_masked_tokens_are_not_seen_and_the_rest_is():
    apply, weights = block()
    x, bias, flat, hide, deep, _ = free_and_masked()
    out = np.asarray(apply(weights, x, bias, flat, hide, deep, hide))
    hidden = hide[:, 0, 0, 0] < 0
    assert hidden.sum() == 2
    dark, dark_deep = flat.copy(), deep.copy()
    dark[hidden] = dark_deep[hidden[:, None].repeat(T, 1)] = 50 * np.cos(np.arange(D))
    np.testing.assert_allclose(apply(weights, x, bias, dark, hide, dark_deep, hide), out, atol=1e-6)
    secret = x.copy()
    secret[1, 2, 3] = 50 * np.sin(np.arange(D))
    changed = np.asarray(apply(weights, secret, bias, flat, hide, deep, hide))
    others = np.ones((B, T, L), bool)
    others[1, 2, 3] = False
    np.testing.assert_allclose(changed[others], out[others], atol=1e-6)
    shown, shown_deep = flat.copy(), deep.copy()
    shown[0, 1] += np.cos(np.arange(D))
    shown_deep[0, 1, 1] += np.cos(np.arange(D))
    for arrays, steps in (((shown, hide, deep, hide), [0, 1, 2]), ((flat, hide, shown_deep, hide), [1])):
        change = np.abs(np.asarray(apply(weights, x, bias, *arrays)) - out).max((2, 3))
        assert (change[0] > 1e-3).tolist() == [t in steps for t in range(T)] and not change[1].any()


def test_a_block_is_one_softmax_over_all_sources_then_an_mlp():
    apply, weights = block()
    arrays = free_and_masked(2)
    p = jax.tree.map(lambda a: np.asarray(a, np.float64), weights["params"])
    x, bias, flat, hide, deep, _ = arrays

    def norm(y, name):
        y = y - y.mean(-1, keepdims=True)
        return y / np.sqrt((y**2).mean(-1, keepdims=True) + 1e-6) * p[name]["scale"]

    gelu = lambda y: 0.5 * y * (1 + np.tanh(np.sqrt(2 / np.pi) * (y + 0.044715 * y**3)))
    h, c, z = norm(x, "norm_attention"), norm(flat, "norm_context"), norm(deep, "norm_plan")
    expected = np.zeros_like(x)
    for b, t, i in np.ndindex(B, T, L):
        keys = np.concatenate([h[b, t] @ p["kv_self"]["kernel"], c[b] @ p["kv_context"]["kernel"],
                               z[b, t] @ p["kv_plan"]["kernel"]])
        mixed = []
        for head in range(H):
            part = slice(head * D // H, (head + 1) * D // H)
            k, v = np.split(keys[:, 2 * head * D // H : 2 * (head + 1) * D // H], 2, axis=1)  # by head: keys, then values
            logits = k @ (h[b, t, i] @ p["q"]["kernel"])[part] / np.sqrt(D // H)
            logits += np.concatenate([bias[b, t, head, i], hide[b, 0, 0, 0], hide[b, 0, 0, 0]])
            weight = np.exp(logits - logits.max())
            mixed.append(weight / weight.sum() @ v)
        expected[b, t, i] = x[b, t, i] + np.concatenate(mixed) @ p["out"]["kernel"]
    inner = gelu(norm(expected, "norm_mlp") @ p["up"]["kernel"] + p["up"]["bias"])
    expected += inner @ p["down"]["kernel"] + p["down"]["bias"]
    np.testing.assert_allclose(apply(weights, *arrays), expected, atol=1e-4)


def test_norm_centres_and_scales():
    x = jax.random.normal(jax.random.key(0), (3, D)) * 7 + 5
    y = Norm().apply(Norm().init(jax.random.key(0), x), x)
    np.testing.assert_allclose(np.asarray(y).mean(-1), 0, atol=1e-5)
    np.testing.assert_allclose(np.asarray(y).std(-1), 1, atol=1e-4)


@pytest.mark.parametrize("scale", [0.0, 0.1, 1.0])
def test_the_scale_of_a_dense_layer_is_that_of_its_first_outputs(scale):
    x = jax.random.normal(jax.random.key(0), (64, 256))
    layer = Dense(128, scale=scale)
    y = layer.apply(layer.init(jax.random.key(1), x), x)
    np.testing.assert_allclose(np.asarray(y).std(), scale, rtol=0.1)


def test_mlp_names_its_axes_for_tensor_parallelism():
    axes = jax.eval_shape(lambda: Mlp((12,), 3).init(jax.random.key(0), jnp.ones((1, D))))["params"]
    assert axes["hidden_0"]["kernel"].names == ("embed", "mlp") and axes["out"]["kernel"].names == ("mlp", None)
    assert axes["hidden_0"]["bias"].names == ("mlp",)
