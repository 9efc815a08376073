"""python -m experiments.export."""

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "training"))
import toy  # noqa: E402

from experiments.export import export_checkpoint  # noqa: E402
from hjepa_gfn.distributed import make_mesh  # noqa: E402
from hjepa_gfn.errors import UserError  # noqa: E402
from hjepa_gfn.export import load_export, npz_bytes  # noqa: E402
from hjepa_gfn.training import run  # noqa: E402


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("run")
    files = {"tokenizer.json": '{"model": {}}', "codebooks.npz": npz_bytes({"state": np.eye(3)})}
    settings = toy.settings(config={"rate": 0.1}, files=files)
    state = run(toy.Toy(total_steps=9), workdir, mesh=make_mesh(data=2, fsdp=2, tensor=2), **settings)
    return workdir, state


def test_a_sharded_run_is_exported_with_all_that_belongs_to_it(trained, tmp_path):
    workdir, state = trained
    export = load_export(export_checkpoint(workdir, tmp_path / "out", programs=False))
    assert export.config == {"rate": 0.1} and export.tokenizer_json == '{"model": {}}'
    np.testing.assert_array_equal(export.codebooks["state"], np.eye(3))
    kernel = export.params["Dense_0"]["kernel"]
    np.testing.assert_array_equal(kernel, state.params["Dense_0"]["kernel"])
    x = np.ones((2, toy.WIDTH), np.float32)
    expected = toy.Net().apply({"params": {k: dict(v) for k, v in export.params.items()}}, x)
    np.testing.assert_allclose(toy.Net().apply({"params": export.params}, x), expected)
    # An older checkpoint, by its own directory.
    older = load_export(export_checkpoint(workdir / "checkpoints" / "7", tmp_path / "older", programs=False))
    assert not np.array_equal(older.params["Dense_0"]["kernel"], kernel)


def test_what_is_missing_is_named(trained, tmp_path):
    with pytest.raises(UserError, match="no checkpoint at"):
        export_checkpoint(tmp_path / "nowhere", tmp_path / "out")
    with pytest.raises(UserError, match="export with --noprograms"):  # a run of some other task
        export_checkpoint(trained[0], tmp_path / "out")
    tokenizer = trained[0] / "tokenizer.json"
    tokenizer.rename(trained[0] / "aside")
    with pytest.raises(UserError, match=r"tokenizer\.json: cannot be read; the run stores it"):
        export_checkpoint(trained[0], tmp_path / "out")
    (trained[0] / "aside").rename(tokenizer)
    assert not (tmp_path / "out").exists()
