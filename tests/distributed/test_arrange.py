"""Devices in a mesh, on machines that are not there: TPU slices as libtpu describes them, and GPU hosts."""

import os
from types import SimpleNamespace

import jax
import numpy as np
import pytest

from hjepa_gfn.distributed import make_mesh
from hjepa_gfn.distributed.arrange import arrange
from hjepa_gfn.errors import UserError


@pytest.fixture(scope="module")
def tpus():
    """A function that gives the devices of a topology, `tpus("v5p:4x4x4", 2)`."""
    pytest.importorskip("libtpu")
    from jax.experimental import topologies

    settings = {"TPU_SKIP_MDS_QUERY": "1", "TPU_WORKER_HOSTNAMES": "localhost", "ALLOW_MULTIPLE_LIBTPU_LOAD": "1"}
    before = {name: os.environ.get(name) for name in settings}
    os.environ.update(settings)
    yield lambda name, slices=1: topologies.get_topology_desc(
        platform="tpu", topology_name=name, num_slices=slices).devices  # fmt: skip
    for name, value in before.items():
        os.environ.pop(name) if value is None else os.environ.update({name: value})


def slices_of(rows):
    return [sorted({device.slice_index for device in row.flat}) for row in rows]


@pytest.mark.parametrize(
    ("topology", "sizes"),
    [
        ("v5e:4x4", dict(replica=2, data=-1)),
        ("v5e:4x4", dict(replica=2, fsdp=2, tensor=8)),
        ("v5p:4x4x4", dict(replica=2, data=4, fsdp=8, tensor=2)),  # no axis of 4x4x4 has size 2
        ("v5p:2x2x4", dict(replica=4, fsdp=-1)),
    ],
)
def test_only_replica_runs_between_slices(tpus, topology, sizes):
    devices = tpus(topology, 2)
    mesh = make_mesh(**sizes, devices=devices)
    assert mesh.size == len(devices) == len(set(mesh.devices.flat))
    half = sizes["replica"] // 2
    assert slices_of(mesh.devices) == [[0]] * half + [[1]] * half


def test_one_slice_whose_axes_must_be_split(tpus):
    mesh = make_mesh(data=-1, tensor=2, devices=tpus("v5p:4x4x4"))
    assert mesh.devices.shape == (1, 32, 1, 2)
    a, b = mesh.devices[0, 0, 0]
    assert sum(abs(x - y) for x, y in zip(a.coords, b.coords)) == 1  # neighbours in the machine


def test_slices_that_do_not_fit(tpus):
    devices = tpus("v5e:4x4", 2)
    with pytest.raises(UserError, match="^mesh.replica=1: must be a multiple of the 2 slices"):
        make_mesh(data=-1, devices=devices)
    with pytest.raises(UserError, match="^mesh: 24 devices would come from 2 slices unequally: use whole slices"):
        make_mesh(replica=2, data=12, devices=devices)


def test_gpu_hosts_keep_their_order():
    # JAX calls each host's GPUs a slice of their own; that is no reason to refuse
    gpus = [SimpleNamespace(platform="gpu", id=i, slice_index=i // 8) for i in range(16)]
    placed = arrange((1, 4, 1, 4), gpus)
    assert [device.id for device in placed.flat] == list(range(16))
    assert all(len(slices) == 1 for slices in slices_of(placed.reshape(4, 4)))


def test_as_before_on_cpu():
    expected = jax.make_mesh((2, 2, 1, 2), ("a", "b", "c", "d")).devices
    np.testing.assert_array_equal(arrange((2, 2, 1, 2), jax.devices()), expected)
