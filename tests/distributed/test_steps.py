"""Sharded train steps: compiled once, donated, and the same numbers on every mesh."""

import sys
from pathlib import Path

import jax
import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "training"))
import toy  # noqa: E402

from hjepa_gfn.distributed import abstract_state, init_state, jit_step, make_mesh, put_batch  # noqa: E402

MESHES = {
    "1x1": {}, "8x1": {"data": 8}, "4x2": {"data": 4, "tensor": 2}, "fsdp 4x2": {"fsdp": 4, "tensor": 2},
    "2x2x2": {"replica": 2, "data": 2, "fsdp": 2},
}  # fmt: skip


def train(sizes, steps=5):
    """Losses, final state, the step, and whether each step freed all of the old state."""
    task, mesh = toy.Toy(), make_mesh(**sizes)
    abstract = abstract_state(task.init, mesh)
    state = init_state(task.init, jax.random.key(3), abstract)
    step = jit_step(task.fit, abstract, mesh)
    losses, freed = [], True
    for i in range(steps):
        batch, old = put_batch(task.batch(i), mesh), state
        with jax.transfer_guard("disallow"):
            state, metrics = step(state, batch)
        freed &= all(leaf.is_deleted() for leaf in jax.tree.leaves(old))
        losses.append(float(metrics["loss"]))
    return losses, state, step, freed, abstract


@pytest.fixture(scope="module")
def reference():
    return train({})


@pytest.mark.parametrize("name", MESHES)
def test_same_numbers_compiled_once_and_donated(name, reference):
    losses, state, step, freed, abstract = train(MESHES[name])
    np.testing.assert_allclose(losses, reference[0], rtol=1e-5)
    assert step._cache_size() == 1
    assert freed
    for leaf, shape in zip(jax.tree.leaves(state), jax.tree.leaves(abstract), strict=True):
        assert leaf.sharding == shape.sharding and leaf.dtype == shape.dtype
    for got, want in zip(jax.tree.leaves(state.params), jax.tree.leaves(reference[1].params), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)


def test_the_state_is_really_spread():
    state = train(MESHES["fsdp 4x2"], steps=1)[1]
    for tree in (state.params, state.moments[0].mu):
        kernel = tree["Dense_0"]["kernel"]
        assert kernel.shape == (16, 32) and kernel.sharding.shard_shape(kernel.shape) == (4, 16)
