"""EB-JEPA's networks: their sizes, and each against PyTorch's definitions in plain numpy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hjepa_gfn.distributed import unbox
from hjepa_gfn.errors import UserError
from hjepa_gfn.models.impala import Gru, Impala, halve
from hjepa_gfn.models.pixel_jepa import PUBLISHED_SIZES, PixelJepa, PixelSizes, init_pixel_jepa


def count(tree):
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


def test_the_published_networks_have_the_published_shapes_and_parameters():
    model = PixelJepa(PUBLISHED_SIZES)
    shapes = jax.eval_shape(lambda key: unbox(init_pixel_jepa(model, key, (65, 65, 2))), jax.random.key(0))
    # By hand from eb_jepa/architectures.py: convolutions (in 9 + 1) out with 2 + 4 a stack, then 32 x 9 x 9 -> 512; PyTorch's
    # GRU has a bias for each of its two matrices; inverse dynamics 1024 -> 256 -> 256 -> 2.
    stack = lambda given, made: (9 * given + 1) * made + 4 * (9 * made + 1) * made
    assert count(shapes["encoder"]) == stack(2, 16) + stack(16, 32) + stack(32, 32) + (32 * 81 + 1) * 512
    assert count(shapes["predictor"]) == 3 * 512 * (512 + 2) + 6 * 512
    assert count(shapes["inverse"]) == 1025 * 256 + 257 * 256 + 257 * 2
    assert count(shapes["norm"]) == 1024
    pixels, action = (jax.ShapeDtypeStruct(s, jnp.float32) for s in ((3, 2, 65, 65, 2), (3, 4, 2)))
    apply = lambda method: lambda params, *args: model.apply({"params": params}, *args, method=method)
    z = jax.eval_shape(apply("encode"), shapes, pixels)
    assert z.shape == (3, 2, 512) and z.dtype == jnp.float32
    first = jax.ShapeDtypeStruct((3, 512), jnp.float32)
    assert jax.eval_shape(apply("unroll"), shapes, first, action).shape == (3, 4, 512)


@pytest.mark.parametrize("size", [5, 8])
def test_halving_takes_the_maximum_of_three_by_three_every_other_place(size):
    x = np.random.default_rng(0).normal(size=(2, size, size + 1, 3)) - 5.0  # negative: a border of zeros would win
    found = np.asarray(halve(jnp.asarray(x, jnp.float32)))
    assert found.shape == (2, -(-size // 2), -(-(size + 1) // 2), 3)
    for i in range(found.shape[1]):
        for j in range(found.shape[2]):
            near = x[:, max(2 * i - 1, 0) : 2 * i + 2, max(2 * j - 1, 0) : 2 * j + 2]
            np.testing.assert_allclose(found[:, i, j], near.max((1, 2)), rtol=1e-6)


def test_halving_passes_gradients_to_the_maxima():
    x = jnp.asarray(np.random.default_rng(1).permutation(36).reshape(1, 6, 6, 1), jnp.float32)
    found = np.asarray(jax.jit(jax.grad(lambda x: halve(x).sum()))(x))[0, :, :, 0]
    expected = np.zeros((6, 6))
    for i in range(3):
        for j in range(3):
            rows, columns = slice(max(2 * i - 1, 0), 2 * i + 2), slice(max(2 * j - 1, 0), 2 * j + 2)
            block = np.asarray(x)[0, rows, columns, 0]
            at = np.unravel_index(block.argmax(), block.shape)
            expected[rows.start + at[0], columns.start + at[1]] += 1
    np.testing.assert_array_equal(found, expected)


def convolved(x, kernel, bias):
    """3 x 3, border of zeros: x [N, H, W, C]."""
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    height, width = x.shape[1:3]
    return sum(padded[:, i : i + height, j : j + width] @ kernel[i, j] for i in range(3) for j in range(3)) + bias


def test_impala_against_numpy():
    model = Impala((2, 3), 4)
    x = np.random.default_rng(0).normal(size=(2, 7, 7, 2))
    params = model.init(jax.random.key(0), jnp.asarray(x, jnp.float32))["params"]
    params = jax.tree.map(lambda p: p + 0.1, params)  # biases begin at zero
    found = jax.jit(lambda p: model.apply({"params": p}, jnp.asarray(x, jnp.float32)))(params)
    p = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params)
    conv = lambda name, x: convolved(x, p[name]["kernel"], p[name]["bias"])
    for i in range(2):
        x = np.asarray(halve(jnp.asarray(conv(f"stack_{i}", x), jnp.float32)), np.float64)
        for block in range(2):
            inner = np.maximum(conv(f"stack_{i}_{block}_in", x), 0)
            x = np.maximum(conv(f"stack_{i}_{block}_out", inner) + x, 0)
    expected = x.reshape(2, -1) @ p["out"]["kernel"] + p["out"]["bias"]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_the_recurrent_step_against_numpy():
    """PyTorch's equations: the reset gate is taken after the state's matmul and its bias."""
    model = Gru(5)
    rng = np.random.default_rng(0)
    h, action = rng.normal(size=(3, 5)), rng.normal(size=(3, 2))
    params = model.init(jax.random.key(0), jnp.asarray(h, jnp.float32), jnp.asarray(action, jnp.float32))["params"]
    found = model.apply({"params": params}, jnp.asarray(h, jnp.float32), jnp.asarray(action, jnp.float32))
    p = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params)
    sigmoid = lambda x: 1 / (1 + np.exp(-x))
    given = (action @ p["action"]["kernel"] + p["action"]["bias"]).reshape(3, 3, 5)
    kept = (h @ p["state"]["kernel"] + p["state"]["bias"]).reshape(3, 3, 5)
    reset, update = sigmoid(given[:, 0] + kept[:, 0]), sigmoid(given[:, 1] + kept[:, 1])
    new = np.tanh(given[:, 2] + reset * kept[:, 2])
    np.testing.assert_allclose(found, (1 - update) * new + update * h, rtol=1e-5, atol=1e-6)
    assert np.abs(p["state"]["bias"]).max() > 0.05, "biases are drawn too"


def test_bfloat16_is_near_float32_and_states_stay_float32():
    sizes = PixelSizes(state=8, encoder="impala", predictor="gru", stacks=(4,), hidden=8, centre=(0.0, 0.1))
    model, half = PixelJepa(sizes), PixelJepa(PixelSizes(**{**vars(sizes), "dtype": "bfloat16"}))
    params = unbox(init_pixel_jepa(model, jax.random.key(0), (9, 9, 2)))
    pixels, action = jax.random.uniform(jax.random.key(1), (6, 9, 9, 2)), jax.random.normal(jax.random.key(2), (6, 2))
    look = lambda model: jax.jit(lambda p: model.apply({"params": p}, pixels, action, method=both))(params)
    both = lambda model, pixels, action: (z := model.encode(pixels), model.predict(z, action))
    for found, exact in zip(look(half), look(model)):
        assert found.dtype == jnp.float32
        assert 0.0 < float(jnp.abs(found - exact).max()) < 0.1


def test_unknown_networks_are_refused():
    for name in ("encoder", "predictor", "dtype"):
        with pytest.raises(UserError, match=f"sizes.{name}='no'"):
            PixelSizes(**{name: "no"})
