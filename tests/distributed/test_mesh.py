"""Meshes and batches on them."""

import jax
import numpy as np
import pytest
from jax.sharding import AxisType, PartitionSpec

from hjepa_gfn.distributed import AXES, batch_sharding, make_mesh, put_batch
from hjepa_gfn.errors import UserError


def test_axes_are_always_the_same_four_and_automatic():
    for sizes in ({}, {"data": 8}, {"replica": 2, "fsdp": 2, "tensor": 2}):
        mesh = make_mesh(**sizes)
        assert mesh.axis_names == AXES == ("replica", "data", "fsdp", "tensor")
        assert dict(mesh.shape) == {**dict.fromkeys(AXES, 1), **sizes}
        assert mesh.axis_types == (AxisType.Auto,) * 4


def test_one_axis_takes_what_is_left():
    assert dict(make_mesh(data=-1, tensor=2).shape) == {"replica": 1, "data": 4, "fsdp": 1, "tensor": 2}
    assert make_mesh(fsdp=-1, devices=jax.devices()[:3]).size == 3


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"data": 16}, "needs 16 devices, but there are 8"),
        ({"data": 0}, "mesh.data=0: must be a positive integer"),
        ({"tensor": 1.5}, "mesh.tensor=1.5: must be a positive integer"),
        ({"data": -1, "fsdp": -1}, "only one axis can be -1, not data and fsdp"),
        ({"data": -1, "tensor": 16}, "needs 16 devices"),
    ],
)
def test_impossible_meshes_are_refused(sizes, message):
    with pytest.raises(UserError, match=message):
        make_mesh(**sizes)


def test_batches_are_spread_over_all_axes_but_tensor():
    mesh = make_mesh(data=2, fsdp=2, tensor=2)
    host = {"start": {"view": np.arange(24, dtype=np.uint8).reshape(8, 3)}, "scale": np.float32(2)}
    batch = put_batch(host, mesh)
    view = batch["start"]["view"]
    assert view.sharding == batch_sharding(mesh) and view.dtype == np.uint8
    assert view.sharding.spec == PartitionSpec(("replica", "data", "fsdp"))
    assert {shard.data.shape for shard in view.addressable_shards} == {(2, 3)}
    np.testing.assert_array_equal(view, host["start"]["view"])
    assert batch["scale"].sharding.is_fully_replicated
    with pytest.raises(UserError, match=r"size 6 \(array \['x'\]\) is not a multiple of the mesh's 4 batch shards"):
        put_batch({"x": np.zeros((6, 2))}, mesh)
