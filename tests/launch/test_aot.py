"""Ahead-of-time reports: how meshes are completed, what the committed reports cover. Compiling is left to the command."""

import json
from types import SimpleNamespace

import pytest

from experiments.configs.babyai_scale import get_config
from hjepa_gfn.distributed.sharding import ShardingRules, logical_axes, unbox
from hjepa_gfn.errors import UserError
from hjepa_gfn.objectives import train_steps
from hjepa_gfn.objectives.system import init_params, make_system
from launch.aot import REPORTS, candidates, full_mesh, parse_mesh
from launch.generations import GENERATIONS, make_slice


def test_meshes_are_completed():
    assert parse_mesh("fsdp=64,tensor=8") == {"fsdp": 64, "tensor": 8} and parse_mesh("") == {}
    assert full_mesh({"fsdp": 64}, 1024, 2) == {"replica": 2, "data": 8, "fsdp": 64, "tensor": 1}
    assert full_mesh({"tensor": 4}, 256, 1) == {"replica": 1, "data": 1, "fsdp": 64, "tensor": 4}
    for bad in ("fsd=4", "fsdp", "fsdp=0", "fsdp=x"):
        with pytest.raises(UserError, match="--mesh"):
            parse_mesh(bad)
    with pytest.raises(UserError, match="does not lay out 512 devices"):
        full_mesh({"data": 2, "fsdp": 64, "tensor": 8}, 512, 1)


def registry():
    config = get_config("tiny")
    return set(train_steps.make_train_steps(make_system(config.model, 64, config.data.text_length, 7), config))


def stacked_kernels():
    """How many weights the shared encoder, which samplers pass through, has of all its layers in one array."""
    import jax

    config = get_config("tiny")
    system = make_system(config.model, 64, config.data.text_length, 7)
    params = jax.eval_shape(lambda key: train_steps.init_state(system, config, key), jax.random.key(0)).params
    return sum(leaf.ndim == 3 for leaf in jax.tree.leaves(params["encoder"]["encoder"]["stack"]))


def moved_over_fsdp(step):
    """Bytes of weights and their gradients, without the activations that go over `tensor`."""
    return sum(moved for axes, moved in step["moved_by_axes"].items() if "fsdp" in axes.split("+"))


@pytest.mark.parametrize("path", sorted(REPORTS.glob("*.json")), ids=lambda path: path.stem)
def test_committed_reports_cover_every_train_step_and_say_how_they_were_made(path):
    found = json.loads(path.read_text())
    assert set(found["steps"]) == registry(), "a train step was added or renamed: make the reports anew"
    assert found["command"].startswith("python -m launch.aot ") and found["topology"] in found["command"]
    assert "libtpu" in found["compiler"]
    name, _, shape = found["topology"].partition(":")
    kind = make_slice(name, shape)
    assert found["devices"] == kind.devices * found["num_slices"]
    for step_name, step in found["steps"].items():
        assert step["hbm_gib"] == GENERATIONS[name].hbm_gib
        assert step["fits"] == (step["peak_hbm_gib"] <= step["hbm_gib"])
        copied = found["sampling"] == "gathered" and step_name in train_steps.SAMPLING
        # weights are gathered layer by layer, never whole, but for samplers' copies
        assert step["whole_stacks_gathered"] <= copied * stacked_kernels()
        assert (step["dcn_bytes"] > 0) == (found["num_slices"] > 1)
        assert step["over_model_flops"] <= 1.4
        assert step["partition_waste"] <= 1.03
        if copied:  # weights gathered anew for every edit moved six times what the grounding step does, which samples none
            assert moved_over_fsdp(step) <= 1.3 * moved_over_fsdp(found["steps"]["ground"])


@pytest.mark.parametrize(("size", "billions"), [("base", 0.1), ("8b", 8.2), ("400b", 400)])
def test_sizes_are_what_they_are_called(size, billions):
    import jax

    config = get_config(size)
    system = make_system(config.model, config.data.vocab, config.data.text_length, 7)
    state = jax.eval_shape(lambda key: train_steps.init_state(system, config, key), jax.random.key(0))
    trained = {group: tree for group, tree in state.params.items() if group != "target"}
    count = sum(leaf.size for leaf in jax.tree.leaves(trained)) / 1e9
    assert count == pytest.approx(billions, rel=0.4 if size == "base" else 0.1)


@pytest.mark.parametrize(("size", "mesh"), [
    ("8b", dict(replica=2, data=4, fsdp=64, tensor=1)), ("70b", dict(replica=1, data=4, fsdp=256, tensor=4)),
    ("400b", dict(replica=2, data=1, fsdp=256, tensor=16))])
def test_every_parameter_of_a_size_divides_on_the_meshes_that_it_is_meant_for(size, mesh):
    import jax

    config = get_config(size)
    system = make_system(config.model, config.data.vocab, config.data.text_length, 7)
    boxed = jax.eval_shape(lambda key: init_params(system, key, config.data.mission_length), jax.random.key(0))
    names, whole = logical_axes(boxed), unbox(boxed)
    for axes, leaf in zip(jax.tree.leaves(names, is_leaf=lambda x: x is None or isinstance(x, tuple)),
                          jax.tree.leaves(whole), strict=True):
        ShardingRules().spec(axes or (None,) * leaf.ndim, leaf.shape, SimpleNamespace(shape=mesh))  # raises where it does not


def test_candidates_go_from_fast_to_frugal_and_hold_their_state():
    found = candidates(8_000_000_000, 31.25, 256, 2)
    assert [remat for remat, _ in found] == ["none"] * 4 + ["dots"] * 4 + ["full"] * 4
    for _, mesh in found:
        assert 16 * 8e9 / 2**30 / (mesh["fsdp"] * mesh["tensor"]) <= 31.25 / 3
        assert 256 % (mesh["replica"] * mesh["fsdp"] * mesh["tensor"]) == 0 and mesh["replica"] == 2
    assert candidates(10**12, 15.75, 16, 1)[0][1] == {"replica": 1, "fsdp": 16, "tensor": 1}, "never more than there are"
