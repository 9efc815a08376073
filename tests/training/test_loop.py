"""The loop: what it refuses, what it compiles, what it leaves behind."""

import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
import toy  # noqa: E402

from hjepa_gfn.distributed import abstract_state, jit_step, make_mesh  # noqa: E402
from hjepa_gfn.errors import UserError  # noqa: E402
from hjepa_gfn.training import load_checkpoint, read_metrics, run  # noqa: E402


def go(workdir, task=None, **changes):
    return run(task or toy.Toy(total_steps=8), workdir, mesh=make_mesh(data=4, tensor=2), **toy.settings(**changes))


def counted(step, traces):
    """The step, with a note of each time that it is traced."""
    def noted(state, batch):
        traces.append(step.__name__)
        return step(state, batch)

    noted.__name__ = step.__name__
    return noted


@pytest.mark.parametrize("jitted", [False, True])
def test_steps_are_traced_once(tmp_path, jitted):
    mesh = make_mesh(data=4, tensor=2)
    task, traces = toy.Toy(total_steps=8), []
    abstract = abstract_state(task.init, mesh)
    task.train_steps = {name: counted(step, traces) for name, step in task.train_steps.items()}
    if jitted:
        task.train_steps = {name: jit_step(step, abstract, mesh) for name, step in task.train_steps.items()}
    run(task, tmp_path, mesh=mesh, **toy.settings())
    assert sorted(traces) == ["fit", "shrink"]


def test_what_a_run_leaves_behind(tmp_path, capfd):
    config = {"rate": 0.01, "dims": (1, 2), "model": {"width": 3}}
    files = {"tokenizer.json": "{}", "codebooks.npz": b"bytes"}
    state = go(tmp_path, config=config, files=files, keep=1, progress=True)
    assert int(state.step) == 8
    assert json.loads((tmp_path / "config.json").read_text()) == {"rate": 0.01, "dims": [1, 2], "model": {"width": 3}}
    assert (tmp_path / "tokenizer.json").read_text() == "{}" and (tmp_path / "codebooks.npz").read_bytes() == b"bytes"
    assert list((tmp_path / "tensorboard").iterdir())
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["8"]
    # 8 is not a multiple of log_every: the rest of the run has a row of its own.
    assert [row["step"] for row in read_metrics(tmp_path)] == [5, 8]
    out, err = capfd.readouterr()
    assert out == "" and err.count("\n") == 1 and err.startswith("train  8/8  100%  ") and "fit/loss" in err
    found = load_checkpoint(tmp_path)
    assert found.step == 8 and found.meta["config"]["model"] == {"width": 3}
    assert found.state["params"]["Dense_0"]["kernel"].shape == (16, 32)
    assert len(found.state["params"]["Dense_0"]["kernel"].sharding.device_set) == 1


def test_another_config_is_refused_before_anything_is_written(tmp_path):
    go(tmp_path, config={"model": {"width": 3}, "total_steps": 8, "paths": {"data": "a"}})
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(UserError, match=r"config\.model\.width is 4, but the run in .* was begun with 3"):
        go(tmp_path, config={"model": {"width": 4}, "total_steps": 8, "paths": {"data": "a"}})
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    # Fields that change no iteration are free.
    longer = toy.Toy(total_steps=10)
    state = go(tmp_path, longer, config={"model": {"width": 3}, "total_steps": 10, "paths": {"data": "b"}})
    assert int(state.step) == 10


def test_another_model_is_refused(tmp_path, monkeypatch):
    go(tmp_path)
    monkeypatch.setattr(toy, "WIDTH", 8)
    with pytest.raises(UserError, match=r"another model: .*kernel is float32\[16, 32\] there and float32\[8, 32\]"):
        go(tmp_path)


def test_divergence_stops_the_run_and_spares_the_good_checkpoint(tmp_path):
    with pytest.raises(UserError, match="fit/loss is not finite at step 10 .* of step 7"):
        go(tmp_path, toy.Toy(total_steps=20, blow_up_at=8))
    assert load_checkpoint(tmp_path).step == 7


def test_a_batch_that_does_not_divide_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(toy, "BATCH", 6)
    with pytest.raises(UserError, match=r"batch size 6 .* multiple of the mesh's 4 batch shards"):
        go(tmp_path)


def test_implicit_transfers_in_a_step_are_refused(tmp_path):
    class Careless(toy.Toy):
        def fit(self, state, batch):
            return super().fit(state, batch)

    task = Careless(total_steps=2)
    jitted = jit_step(task.fit, abstract_state(task.init, make_mesh()), make_mesh())

    def careless(state, batch):  # already "jitted" as far as the loop can see, but sends a host array each time
        import numpy as np

        return jitted(state, {**batch, "scale": np.float32(2.0)})

    careless.lower = jitted.lower
    task.train_steps = {"fit": careless, "shrink": task.shrink}
    with pytest.raises(Exception, match="[Dd]isallowed host-to-device"):
        run(task, tmp_path, mesh=make_mesh(), **toy.settings())


def test_typed_keys_in_the_state_are_refused():
    with pytest.raises(ValueError, match=r"state\['key'\] is a typed random key"):
        abstract_state(lambda key: {"key": key}, make_mesh())
