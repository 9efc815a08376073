"""The network's heads as compiled functions of random plans: shared by the tests of this folder."""

import functools
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))
import tiny  # noqa: E402

B, T = 4, 3


def plans(seed=0):
    """Random plans [B, T, ...] of all sizes, with the holes in the buffer and the slot order that edits leave."""
    paths = tiny.random_plans(tiny.system().spec, jax.random.key(seed), B * T)
    return jax.tree.map(lambda x: x.reshape(B, T, *x.shape[1:]), paths)


@functools.cache
def answers(readers):
    """Jitted (params, plans, context, text) -> everything that the heads answer, with `readers` posterior rows."""
    net = tiny.system().net

    def call(params, plan, context, text):
        features = net(params, plan, context, text if readers else None, method="features")
        sites = jnp.broadcast_to(jnp.arange(plan.valid.shape[-1] * 6), (*plan.batch_shape, plan.valid.shape[-1] * 6))
        codes = jax.vmap(lambda s: net(params, features, s, readers, method="codes"), -1, -2)(sites)
        return {
            "features": features, "codes": codes, **net(params, features, plan, readers, method="edits")._asdict(),
            "flow": net(params, features, plan, readers, method="log_flow_head"),
            "energy": net(params, features, plan, method="energy_terms")}

    return jax.jit(call)


@functools.cache
def explained():
    return jax.jit(lambda params, plan, context, text: tiny.system().net(
        params, plan, context, text, method="explain"))


def close(a, b, atol=1e-5):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=atol), a, b)


def rows(tree, index):
    return jax.tree.map(lambda x: x[index], tree)
