"""The kernel for whole texts, interpreted, against XLA's attention: values, gradients, masks; on a mesh; compiled for a TPU."""

import functools
import sys
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parent)]
import tiny  # noqa: E402
from calls import B, T, plans  # noqa: E402

from hjepa_gfn.distributed import BATCH_AXES, in_groups, make_mesh, use_mesh  # noqa: E402
from hjepa_gfn.distributed.program_flops import program_flops  # noqa: E402
from hjepa_gfn.distributed.sharding import no_mesh  # noqa: E402
from hjepa_gfn.errors import UserError  # noqa: E402
from hjepa_gfn.models.attention import splash  # noqa: E402
from hjepa_gfn.models.layers import Block, Compute, Source, masked  # noqa: E402
from hjepa_gfn.objectives.system import make_system  # noqa: E402

D, H = 16, 2


def block(attention, dtype="float32"):
    return Block(H, D, 16, ("context", "plan"), Compute(dtype, attention=attention))


def case(rows, words, context=20, plan=9, seed=0):
    """(texts, own mask, context, mask, plans, mask): about a third of the words, of the context and of the plans is masked."""
    rng = np.random.default_rng(seed)
    draw = lambda *shape: jnp.asarray(rng.normal(size=shape), jnp.float32)
    seen = lambda *shape: jnp.asarray(rng.uniform(size=shape) > 0.3).at[..., 0].set(True)
    return (draw(rows, 2, words, D), seen(rows, 1, words), draw(rows, context, D), seen(rows, 1, context),
            draw(rows, 2, plan, D), seen(rows, 2, plan))


@functools.cache
def weights():
    x, _, context, _, plan, _ = case(1, 3)
    sources = [Source("context", context, jnp.zeros(())), Source("plan", plan, jnp.zeros(()))]
    with no_mesh():
        return tiny.drawn(lambda: block("xla").init(jax.random.key(0), x, jnp.zeros(()), sources))


def texts(attention, causal, weights, arrays, dtype="float32"):
    x, own, context, context_seen, plan, plan_seen = arrays
    bias = lambda seen: masked(seen)[:, :, None, None]
    others = [Source("context", context, bias(context_seen)), Source("plan", plan, bias(plan_seen))]
    return block(attention, dtype).apply(weights, x.astype(dtype), None if causal else bias(own), others, method="whole_text")


def loss(attention, causal, weights, floats, arrays, dtype="float32"):
    arrays = (floats[0], arrays[1], floats[1], arrays[3], floats[2], arrays[5])
    y = texts(attention, causal, weights, arrays, dtype).astype(jnp.float32)
    return jnp.mean(jnp.sum(jnp.sin(y), (-1, -2, -3))), y


def answer(attention, causal, arrays, dtype="float32"):
    """((loss, texts), gradients of weights and of every float)."""
    call = jax.value_and_grad(functools.partial(loss, attention, causal, dtype=dtype), argnums=(0, 1), has_aux=True)
    return jax.jit(call)(weights(), arrays[::2], arrays)


def gap(a, b):
    """Of two pytrees as vectors, relative."""
    a, b = (np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)]).astype(np.float64) for tree in (a, b))
    return np.linalg.norm(a - b) / np.linalg.norm(a)


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("words", [511, 7])
def test_values_and_gradients_are_those_of_xla(words, causal):
    """Lengths that are no multiple of the kernel's blocks, and several of them; masked keys in every source."""
    arrays = case(2, words)
    (_, expected), slopes = answer("xla", causal, arrays)
    (_, found), found_slopes = answer("splash", causal, arrays)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    for a, b in zip(jax.tree.leaves(slopes), jax.tree.leaves(found_slopes), strict=True):
        assert np.abs(a - b).max() < 1e-5 * max(1.0, np.abs(a).max())
    assert gap(slopes, found_slopes) < 1e-5


def test_bfloat16_is_as_close_as_it_can_be():
    arrays = case(2, 130)
    (_, exact), exact_slopes = answer("xla", True, arrays)
    for attention in ("xla", "splash"):
        (_, found), slopes = answer(attention, True, arrays, "bfloat16")
        assert gap(exact, found) < 0.01 and gap(exact_slopes, slopes) < 0.03


def test_no_word_tells_of_earlier_ones_and_every_later_one_hears_of_it():
    call = jax.jit(lambda arrays: texts("splash", True, weights(), arrays))
    x, *rest = case(1, 140)
    before = np.asarray(call((x, *rest)))
    for j in (0, 77, 127, 128, 139):
        change = np.abs(np.asarray(call((x.at[0, 1, j].add(np.cos(np.arange(D))), *rest))) - before).max(-1)
        assert not change[0, 0].any() and not change[0, 1, :j].any() and (change[0, 1, j:] > 0).all(), j


def test_a_row_without_a_key_gets_zeros_and_no_gradient():
    rng = np.random.default_rng(0)
    draw = lambda *shape: jnp.asarray(rng.normal(size=shape), jnp.float32)
    q, kv = draw(2, 1, 5, H, 4), draw(2, 1, 6, H, 8)
    seen = jnp.ones((2, 1, 6), bool).at[1].set(False)
    y, pull = jax.vjp(lambda q, kv: splash(q, kv, seen, False), q, kv)
    slopes = pull(jnp.ones_like(y))
    for leaf in (y, *slopes):
        assert np.isfinite(leaf).all() and np.abs(leaf[0]).max() > 0 and not np.asarray(leaf[1]).any()


def grouped(groups, attention, dtype, weights, floats, arrays):
    one = lambda _, part: loss(attention, True, weights, *part, dtype=dtype)
    return in_groups(one, jnp.arange(groups), (floats, arrays))[0].mean()


@pytest.mark.parametrize("groups", [4, 1])
def test_a_mesh_and_groups_change_nothing(groups):
    """Rows over data, heads over tensor; with a group of rows on each batch shard, and with all rows spread as one group."""
    arrays = case(8, 20, 5, 4)
    call = jax.value_and_grad(functools.partial(grouped, groups, "splash", "float32"), argnums=(0, 1))
    plain = jax.jit(call)(weights(), arrays[::2], arrays)
    mesh = make_mesh(data=2, fsdp=2, tensor=2)
    spread = jax.device_put(arrays, NamedSharding(mesh, PartitionSpec(BATCH_AXES)))
    once = program_flops(call, weights(), arrays[::2], arrays)
    with use_mesh(mesh):
        compiled = jax.jit(call).lower(weights(), spread[::2], spread).compile()
        assert program_flops(call, weights(), arrays[::2], arrays) == once
    found = compiled(weights(), spread[::2], spread)
    np.testing.assert_allclose(found[0], plain[0], rtol=1e-6)
    assert gap(plain[1], found[1]) < 1e-6
    assert not any(op in compiled.as_text() for op in ("all-gather(", "all-to-all(", "collective-permute("))


@pytest.fixture
def uncached():
    """No entry for the compilation cache: a TPU's program cannot be read back without a TPU."""
    name = "jax_persistent_cache_min_compile_time_secs"
    before = getattr(jax.config, name)
    jax.config.update(name, 1e9)
    yield
    jax.config.update(name, before)


@pytest.mark.usefixtures("uncached")
@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_it_compiles_for_a_tpu_that_is_not_there(dtype):
    """Groups of rows over data, heads (of 8 numbers) over tensor; forward, dk with dv, and dq are one kernel each."""
    pytest.importorskip("libtpu")
    from hjepa_gfn.distributed.topology import tpu_devices

    mesh = make_mesh(data=2, tensor=2, devices=tpu_devices("v5e", "2x2"))
    place = lambda tree, *axes: jax.tree.map(lambda x: jax.ShapeDtypeStruct(
        x.shape, x.dtype, sharding=NamedSharding(mesh, PartitionSpec(*axes))), tree)
    arrays = place(case(4, 140), "data")
    call = jax.grad(functools.partial(grouped, 2, "splash", dtype), argnums=(0, 1))
    with use_mesh(mesh):
        text = jax.jit(call).lower(place(weights()), arrays[::2], arrays).compile().as_text()
    for kernel in ("splash_mha_fwd", "splash_mha_dkv", "splash_mha_dq"):
        assert kernel in text
    assert "tpu_custom_call" in text


def test_the_agents_texts_are_the_same_with_rematerialised_layers():
    """Both ways that the network attends over whole texts, in scanned layers: explained about plans, read by the posterior."""
    def answers(**compute):
        model = SimpleNamespace(**tiny.MODEL, compute=compute)
        net = make_system(model, tiny.WORDS, tiny.TEXT, tiny.ACTIONS).net

        def value(params, context):
            told = net(params, z, context, jnp.broadcast_to(x[:, None], (B, T, tiny.TEXT)), method="explain")
            read = net(params, z, context, x[:2], method="features")
            return told[..., 3].sum() + jnp.sin(read).sum(), (told, read)

        return jax.jit(jax.value_and_grad(value, has_aux=True))(tiny.params(), tiny.context(B))

    z, x = plans(3), tiny.words(B, tiny.TEXT)
    (_, expected), slopes = answers(remat="none")
    (_, found), found_slopes = answers(remat="full", attention="splash")
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-5), expected, found)
    assert gap(slopes, found_slopes) < 1e-5


def test_what_is_no_attention_is_refused():
    with pytest.raises(UserError, match="model.compute.attention='flash': must be one of xla, splash"):
        Compute(attention="flash")
    arrays = case(2, 20, 5, 4)
    with use_mesh(make_mesh(tensor=4)), pytest.raises(UserError, match=r"dimension 'heads' \(2\) is not a multiple of the 4"):
        jax.eval_shape(functools.partial(texts, "splash", True), weights(), arrays)
