"""A toy run for the tests of the loop; as a script it is the process that the tests kill.

    python tests/training/toy.py WORKDIR '{"total_steps": 30, ...}'
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn
from flax import struct

from hjepa_gfn.distributed import constrain

WIDTH, BATCH = 16, 16


class Net(nn.Module):
    """Two layers, declared with logical axes."""

    @nn.compact
    def __call__(self, x):
        init = nn.with_logical_partitioning(nn.initializers.lecun_normal(), ("embed", "mlp"))
        x = constrain(jnp.tanh(nn.Dense(32, kernel_init=init)(x)), ("batch", "mlp"))
        init = nn.with_logical_partitioning(nn.initializers.lecun_normal(), ("mlp", None))
        return constrain(nn.Dense(1, kernel_init=init)(x), ("batch", None))


@struct.dataclass
class State:
    """Parameters, moments, and an exponential average as the EM gate keeps one."""

    step: jax.Array
    params: Any
    moments: Any
    key: jax.Array
    average: jax.Array


class Toy:
    """Two train steps, one of them every other iteration; noise from the state's key."""

    def __init__(self, total_steps=30, rate=1e-2, pause=0.0, blow_up_at=-1):
        self.total_steps, self._pause, self._blow_up_at = total_steps, pause, blow_up_at
        self._optimiser = optax.adamw(rate)
        self.train_steps = {"fit": self.fit, "shrink": self.shrink}

    def init(self, key):
        params = Net().init(key, jnp.zeros((1, WIDTH)))["params"]
        return State(
            jnp.int32(0), params, self._optimiser.init(params), jax.random.key_data(key), jnp.zeros((), jnp.float32)
        )

    def schedule(self, step):
        return ("fit", "shrink") if step % 2 else ("fit",)

    def batch(self, step, shard=(0,), num_shards=1):
        time.sleep(self._pause)
        rng = np.random.default_rng([7, step])
        x = rng.normal(size=(BATCH, WIDTH)).astype(np.float32)
        y = np.sin(x[:, :1]) * (np.inf if step == self._blow_up_at else 1)
        rows = np.arange(BATCH).reshape(num_shards, -1)[list(shard)].reshape(-1)
        return {"x": x[rows], "y": y.astype(np.float32)[rows], "scale": np.float32(1.0)}

    def _update(self, state, loss):
        value, grads = jax.value_and_grad(loss)(state.params)
        updates, moments = self._optimiser.update(grads, state.moments, state.params)
        params = optax.apply_updates(state.params, updates)
        average = 0.9 * state.average + 0.1 * value
        metrics = {"loss": value, "grad_norm": optax.global_norm(grads), "average": average}
        return state.replace(params=params, moments=moments, average=average), metrics

    def fit(self, state, batch):
        key = jax.random.fold_in(jax.random.wrap_key_data(state.key), state.step)
        noise = 0.1 * jax.random.normal(key, batch["x"].shape)

        def loss(params):
            error = Net().apply({"params": params}, batch["x"] + noise) - batch["y"]
            return jnp.mean(error**2) * batch["scale"]

        return self._update(state, loss)

    def shrink(self, state, batch):
        return self._update(state, lambda params: 1e-2 * optax.tree.norm(params, squared=True))

    def finish_iteration(self, state):
        return state.replace(step=state.step + 1)


def settings(**changes):
    """The arguments of `run` that the tests use."""
    return {"checkpoint_every": 7, "log_every": 5, "progress": False, **changes}


def main(workdir, options):
    """Runs the toy to its end and writes the final state's arrays to WORKDIR/final.npz."""
    from hjepa_gfn.distributed import make_mesh
    from hjepa_gfn.training import run

    toy = Toy(**options)
    state = run(toy, workdir, mesh=make_mesh(), **settings(config={"rate": 1e-2, "total_steps": toy.total_steps}))
    np.savez(f"{workdir}/final.npz", *map(np.asarray, jax.tree.leaves(state)))


if __name__ == "__main__":
    main(sys.argv[1], json.loads(sys.argv[2]))
