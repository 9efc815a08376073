"""One host of a toy run on many; the tests of the loop start it through `launch.rehearse`.

    python -m launch.rehearse -- tests/training/pod.py WORKDIR '{"pause": 0.05}'
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import struct
from jax.sharding import Mesh

sys.path.insert(0, str(Path(__file__).parent))
import toy  # noqa: E402

from hjepa_gfn.distributed import AXES, batch_sharding, host_shards, make_mesh, put_batch  # noqa: E402
from hjepa_gfn.errors import UserError  # noqa: E402
from hjepa_gfn.training import run  # noqa: E402

STEPS, SAMPLES = 24, 24 * toy.BATCH
CONFIG = {"rate": 1e-2, "total_steps": STEPS}
MESH = {"data": 2, "fsdp": 2, "tensor": 2}  # of the two processes: data axes lie across them


@struct.dataclass
class State:
    """The toy's state, and which samples led to it: a checkpoint holds what its own history saw, and no other."""

    step: jax.Array
    inner: toy.State
    order: jax.Array  # int32[STEPS, BATCH], the samples of each iteration in the order of their rows
    seen: jax.Array  # int32[SAMPLES], how often each was


class PodToy(toy.Toy):
    """The toy over a fixed set of samples, each to be seen once."""

    def __init__(self, pause=0.0):
        super().__init__(total_steps=STEPS, pause=pause)
        self._optimiser = optax.sgd(1e-2, momentum=0.9)  # and one train step: each process compiles it anew
        self.train_steps = {"fit": self.record_and_fit}

    def schedule(self, step):
        return ("fit",)

    def init(self, key):
        zero = jnp.int32(0)
        return State(zero, super().init(key), jnp.full((STEPS, toy.BATCH), -1), jnp.zeros(SAMPLES, jnp.int32))

    def batch(self, step, shard=(0,), num_shards=1):
        ids = np.random.default_rng(5).permutation(SAMPLES).astype(np.int32)[step * toy.BATCH :][: toy.BATCH]
        rows = ids.reshape(num_shards, -1)[list(shard)].reshape(-1)
        if step >= STEPS - 6:
            time.sleep(20 * self._pause)  # the end is not reached before a signal that is sent shortly before it
        return {**super().batch(step, shard, num_shards), "id": rows}

    def record_and_fit(self, state, batch):
        inner, metrics = self.fit(state.inner, batch)
        order = jax.lax.dynamic_update_index_in_dim(state.order, batch["id"], state.step, 0)
        return state.replace(inner=inner, order=order, seen=state.seen.at[batch["id"]].add(1)), metrics

    def finish_iteration(self, state):
        return state.replace(step=state.step + 1, inner=super().finish_iteration(state.inner))


def go(workdir, mesh, pause=0.0, **changes):
    """Runs it to its end, on a mesh of as many of the devices as `mesh` asks for."""
    settings = toy.settings(config=CONFIG, checkpoint_every=5, log_every=1)
    return run(PodToy(pause), workdir, mesh=make_mesh(**mesh), **{**settings, **changes})


def check_rows():
    """Every device holds its rows of the global batch, whatever the order of devices."""
    devices = np.array(jax.devices())
    strided, backwards = devices.reshape(2, 4).T.reshape(-1), devices[::-1]
    sizes = [(1, 4, 1, 2), (1, 1, 1, 8), (2, 2, 2, 1), (1, 2, 2, 2), (2, 1, 1, 4), (1, 1, 8, 1)]
    whole = np.arange(48).reshape(16, 3)
    for size, order in itertools.product(sizes, (devices, strided, backwards)):
        mesh = Mesh(order.reshape(size), AXES)
        mine, of = host_shards(mesh)
        batch = put_batch({"x": whole.reshape(of, -1, 3)[list(mine)].reshape(-1, 3), "scale": np.float32(2)}, mesh)
        assert batch["x"].shape == whole.shape and batch["x"].sharding == batch_sharding(mesh)
        for shard in batch["x"].addressable_shards:
            np.testing.assert_array_equal(shard.data, whole[shard.index])
        assert batch["scale"].sharding.is_fully_replicated and float(batch["scale"]) == 2
    assert host_shards(make_mesh(tensor=8)) == ((0,), 1)  # both hosts hold all rows
    assert host_shards(make_mesh(data=8))[0] == tuple(range(4 * jax.process_index(), 4 * jax.process_index() + 4))
    try:
        make_mesh(data=4)
    except UserError as error:
        assert "leave host 1 without any" in str(error)
    else:
        raise AssertionError("a host was left without devices")


def main():
    """The entry point; without the flags that name the hosts it is a run on one device."""
    parser = argparse.ArgumentParser()
    parser.add_argument("workdir", type=Path)
    parser.add_argument("options", type=json.loads)
    parser.add_argument("--coordinator")
    parser.add_argument("--num_processes", type=int)
    parser.add_argument("--process_id", type=int)
    hosts = parser.parse_args()
    if hosts.coordinator:
        (hosts.workdir / f"host_{hosts.process_id}.pid").write_text(str(os.getpid()))
        # An error on one host must not leave it waiting for the others for long: they are waiting for it.
        jax.distributed.initialize(
            hosts.coordinator, hosts.num_processes, hosts.process_id, shutdown_timeout_seconds=10, heartbeat_timeout_seconds=10
        )
    if hosts.options.pop("check_rows", False):
        check_rows()
        print("rows are where they belong")
    go(hosts.workdir, MESH if hosts.coordinator else {}, **hosts.options)


if __name__ == "__main__":
    main()
