"""The table of TPU generations, against figures that were looked up: names, hosts, chips and devices of known slices."""

import pytest

from hjepa_gfn.errors import UserError
from launch.generations import GENERATIONS, make_slice


@pytest.mark.parametrize(
    ("tpu", "topology", "kind", "chips", "hosts", "devices", "machine"),
    [
        # the number counts TensorCores on v4, v5p and tpu7x, chips on v5e and v6e
        ("v4", "4x4x4", "v4-128", 64, 16, 64, "ct4p-hightpu-4t"),
        ("v4", "2x2x1", "v4-8", 4, 1, 4, "ct4p-hightpu-4t"),
        ("v5p", "4x4x4", "v5p-128", 64, 16, 64, "ct5p-hightpu-4t"),
        ("v5p", "8x8x8", "v5p-1024", 512, 128, 512, "ct5p-hightpu-4t"),
        ("v5e", "4x4", "v5litepod-16", 16, 4, 16, "ct5lp-hightpu-4t"),
        ("v5e", "2x4", "v5litepod-8", 8, 1, 8, "ct5lp-hightpu-8t"),
        ("v5e", "1x1", "v5litepod-1", 1, 1, 1, "ct5lp-hightpu-1t"),
        ("v6e", "16x16", "v6e-256", 256, 64, 256, "ct6e-standard-4t"),
        ("v6e", "2x2", "v6e-4", 4, 1, 4, "ct6e-standard-4t"),
        ("tpu7x", "4x4x4", "tpu7x-128", 64, 16, 128, "tpu7x-standard-4t"),
        ("tpu7x", "1x1x1", "tpu7x-2", 1, 1, 2, "tpu7x-standard-1t"),
    ],
)
def test_slices(tpu, topology, kind, chips, hosts, devices, machine):
    piece = make_slice(tpu, topology)
    assert (piece.accelerator_type, piece.chips, piece.hosts, piece.devices) == (kind, chips, hosts, devices)
    assert piece.machine_type == machine and piece.is_usual_shape


def test_the_number_alone_does_not_always_mean_the_topology():
    assert make_slice("v5p", "4x8x8").is_usual_shape and not make_slice("v5p", "4x4x16").is_usual_shape
    assert make_slice("v4", "8x8x12").is_usual_shape and make_slice("v5p", "16x16x24").is_usual_shape


def test_a_choice_of_hosts_where_there_is_one():
    assert make_slice("v6e", "2x4", 4).hosts == 2
    for bad in (("v6e", "4x4", 8), ("v6e", "2x2", 1), ("v5p", "2x2x1", 1)):
        with pytest.raises(UserError, match=f"--chips_per_host={bad[2]}: a {bad[1]} slice of {bad[0]} has hosts of 4 chips"):
            make_slice(*bad)


@pytest.mark.parametrize(
    ("tpu", "topology", "message"),
    [
        ("v9", "4x4", "--tpu=v9: must be one of v4, v5e, v5p, v6e, tpu7x"),
        ("v5p", "4x4", "--topology=4x4: slices of v5p have three dimensions"),
        ("v6e", "4x4x4", "slices of v6e have two dimensions, as in 4x8"),
        ("v6e", "3x4", "v6e has no such slice; it has 1x1, 2x2,"),
        ("v6e", "16x32", "512 chips, but a slice of v6e has 256 at most"),
        ("v5p", "4x4x6", "multiples of 4 in rising order"),
        ("v5p", "8x4x4", "multiples of 4 in rising order"),
        ("v4", "1x1x1", "v4 has no such slice"),
        ("v4", "16x16x20", "5120 chips, but a slice of v4 has 4096 at most"),
        ("v4", "4x4x0", "three dimensions"),
        ("v4", "4x4x4 ", "three dimensions"),
    ],
)
def test_slices_that_do_not_exist_are_refused(tpu, topology, message):
    with pytest.raises(UserError, match=message):
        make_slice(tpu, topology)


def test_every_generation_is_complete():
    for name, kind in GENERATIONS.items():
        assert kind.name == name and kind.dims in (2, 3) and kind.devices_per_chip in (1, 2)
        for topology in kind.small:
            piece = make_slice(name, topology)
            assert piece.hosts * piece.chips_per_host == piece.chips
    memory = {name: kind.hbm_gib * kind.devices_per_chip for name, kind in GENERATIONS.items()}
    assert memory == {"v4": 30.75, "v5e": 15.75, "v5p": 95.74, "v6e": 31.25, "tpu7x": 189.5}
    peak = {name: kind.peak_tflops_bf16 for name, kind in GENERATIONS.items()}
    assert peak == {"v4": 275, "v5e": 197, "v5p": 459, "v6e": 918, "tpu7x": 2307}
