"""The export directory: from eight devices to one, whole or refused."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest
from flax import linen as nn
from safetensors import safe_open

from hjepa_gfn.distributed import abstract_state, init_state, make_mesh
from hjepa_gfn.errors import UserError
from hjepa_gfn.export import load_export, npz_bytes, read_npz, save_export

CONFIG = {"model": {"width": 8}, "level": "BabyAI-GoToLocal-v0", "rates": [0.1, None]}
FILES = ["codebooks.npz", "config.json", "export.json", "loader.py", "orbax", "params.safetensors", "tokenizer.json"]
CODEBOOKS = {"state": np.arange(6, dtype=np.float32).reshape(3, 2), "action": np.array([1, 2], np.int32)}


def init(key):
    make = nn.with_logical_partitioning(nn.initializers.normal(), ("embed", "mlp"))
    return {"block": {"kernel": make(key, (16, 8))}, "scale": jnp.full((3,), 0.1, jnp.bfloat16)}


@pytest.fixture
def params():
    """Parameters spread over eight devices."""
    params = init_state(init, jax.random.key(0), abstract_state(init, make_mesh(fsdp=4, tensor=2)))
    assert len(params["block"]["kernel"].addressable_shards[0].data) == 4
    return params


@pytest.fixture
def exported(tmp_path, params):
    return save_export(tmp_path / "deep" / "out", params, {**CONFIG, "mesh": {"fsdp": 4}}, '{"é": 1}', CODEBOOKS)


def assert_whole(export, params):
    assert export.config == CONFIG and export.tokenizer_json == '{"é": 1}'
    assert jax.tree.structure(export.params) == jax.tree.structure(params)
    for got, want in zip(jax.tree.leaves(export.params), jax.tree.leaves(params), strict=True):
        assert got.dtype == want.dtype and len(got.sharding.device_set) == 1
        np.testing.assert_array_equal(got, want)
    assert export.codebooks.keys() == CODEBOOKS.keys()
    for name, array in CODEBOOKS.items():
        assert export.codebooks[name].dtype == array.dtype
        np.testing.assert_array_equal(export.codebooks[name], array)


def test_round_trip(exported, params):
    assert_whole(load_export(exported), params)
    assert sorted(os.listdir(exported)) == FILES
    assert os.listdir(exported.parent) == ["out"]  # no temporary directory is left


def test_every_file_is_in_the_manifest(exported):
    files = {path.relative_to(exported).as_posix(): path for path in exported.rglob("*") if path.is_file()}
    del files["export.json"]
    expected = {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in files.items()}
    assert json.loads((exported / "export.json").read_text())["sha256"] == expected
    assert any(name.startswith("orbax/") for name in files)


def test_safetensors_is_what_the_package_reads(exported, params):
    with safe_open(exported / "params.safetensors", framework="flax") as file:
        assert sorted(file.keys()) == ["block/kernel", "scale"]
        np.testing.assert_array_equal(file.get_tensor("block/kernel"), params["block"]["kernel"])
        assert file.get_tensor("scale").dtype == jnp.bfloat16


def test_orbax_restores_it_onto_a_mesh(exported, params):
    sharding = params["block"]["kernel"].sharding
    wanted = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), params)
    restored = ocp.StandardCheckpointer().restore(exported / "orbax", wanted)
    assert restored["block"]["kernel"].sharding == sharding and restored["scale"].dtype == jnp.bfloat16
    jax.tree.map(np.testing.assert_array_equal, restored, params)


def test_loads_in_a_process_with_one_device_and_no_training_code(exported, params):
    script = (
        "import json, sys, jax; from hjepa_gfn.export import load_export; e = load_export(sys.argv[1]);"
        "print(json.dumps([jax.device_count(), float(e.params['block']['kernel'].sum()),"
        " sorted(m for m in sys.modules if m in ('orbax', 'optax', 'hjepa_gfn.training', 'hjepa_gfn.distributed'))]))"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "JAX_PLATFORMS": "cpu"}
    output = subprocess.run(
        [sys.executable, "-c", script, str(exported)], env=environment, capture_output=True, text=True, check=True
    )
    devices, total, modules = json.loads(output.stdout)
    assert devices == 1 and total == pytest.approx(float(params["block"]["kernel"].sum()), rel=1e-5)
    assert modules == [] and output.stderr == ""


def test_an_earlier_export_is_replaced_and_anything_else_is_not(exported, params, tmp_path):
    save_export(exported, {"only": jnp.zeros(2)}, {}, "{}", {})
    assert load_export(exported).params.keys() == {"only"}
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.txt").write_text("years of work")
    with pytest.raises(UserError, match="mine: holds other files"):
        save_export(mine, params, CONFIG, "{}", CODEBOOKS)
    with pytest.raises(UserError, match="thesis.txt: exists and is not a directory"):
        save_export(mine / "thesis.txt", params, CONFIG, "{}", CODEBOOKS)
    assert os.listdir(mine) == ["thesis.txt"]


def test_a_failed_export_leaves_the_old_one(exported, params, monkeypatch):
    rename = os.rename

    def fails(source, target):
        if str(source).endswith(".tmp"):
            raise OSError(28, "No space left on device")
        rename(source, target)

    monkeypatch.setattr(os, "rename", fails)
    with pytest.raises(OSError):
        save_export(exported, {"only": jnp.zeros(2)}, {}, "{}", {})
    assert_whole(load_export(exported), params)
    assert os.listdir(exported.parent) == ["out"]


@pytest.mark.parametrize("name", ["params.safetensors", "config.json", "tokenizer.json", "codebooks.npz", "export.json"])
def test_damage_is_named(exported, name):
    data = (exported / name).read_bytes()
    (exported / name).write_bytes(data[: len(data) // 2])
    with pytest.raises(UserError, match=name):
        load_export(exported)
    (exported / name).unlink()
    with pytest.raises(UserError, match=name):
        load_export(exported)


def test_what_is_not_an_export_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"nowhere: not an export \(no export.json in it\)"):
        load_export(tmp_path / "nowhere")
    (tmp_path / "export.json").write_text('{"format": "other", "sha256": {}}')
    with pytest.raises(UserError, match="not the manifest of an export"):
        load_export(tmp_path)
    (tmp_path / "export.json").write_text('{"format": "hjepa_gfn export", "version": 1, "sha256": {}}')
    with pytest.raises(UserError, match="export version 1, but 2 is needed: export again"):
        load_export(tmp_path)


def test_only_nested_mappings_of_arrays_are_parameters(tmp_path):
    with pytest.raises(TypeError, match="nested mappings of arrays, not list"):
        save_export(tmp_path / "out", {"a": [jnp.zeros(1)]}, {}, "{}", {})
    with pytest.raises(ValueError, match="parameter name 'a/b': a slash would be read as nesting"):
        save_export(tmp_path / "out", {"a/b": jnp.zeros(1)}, {}, "{}", {})
    assert os.listdir(tmp_path) == []


def test_npz_bytes_are_a_function_of_the_arrays():
    assert npz_bytes(CODEBOOKS) == npz_bytes(dict(reversed(CODEBOOKS.items())))
    assert read_npz(npz_bytes({})) == {}
