"""The exported programs: from a state on eight devices to one device, one process, and no package but jax."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest
from jax import export as jax_export

sys.path.insert(0, str(Path(__file__).parents[1] / "objectives"))
from test_train_steps import tiny_config  # noqa: E402

from experiments.export import agent_programs, sizes  # noqa: E402
from hjepa_gfn.agent.agent import load_agent  # noqa: E402
from hjepa_gfn.agent.modes import encode  # noqa: E402
from hjepa_gfn.data.tokenizer import train_tokenizer  # noqa: E402
from hjepa_gfn.distributed import abstract_state, make_mesh  # noqa: E402
from hjepa_gfn.export import loader, save_export  # noqa: E402
from hjepa_gfn.export.arrays import safetensors_bytes  # noqa: E402
from hjepa_gfn.objectives import train_steps  # noqa: E402
from hjepa_gfn.objectives.em import sample_text  # noqa: E402
from hjepa_gfn.objectives.policies import Exploration, sample_plans  # noqa: E402
from hjepa_gfn.training.agent_task import codebooks, system_of  # noqa: E402

SEED, BATCHES = 7, (1, 3)

# What a user does, where none of our packages nor flatbuffers can be imported (flatbuffers comes with the export).
SCRIPT = """
import sys
from importlib.machinery import PathFinder

class Blocked:
    names = "hjepa_gfn experiments flax optax orbax safetensors msgpack ml_collections tokenizers chex".split()

    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in self.names:
            raise ImportError(f"{name} is blocked")
        if name == "flatbuffers":
            spec = PathFinder.find_spec(name, [p for p in sys.path if p.startswith(DIR)])
            if spec is None:
                raise ImportError("flatbuffers is not installed")
            return spec

sys.meta_path.insert(0, Blocked())
DIR, IN, OUT = sys.argv[1:]
sys.path.insert(0, DIR)
import loader
import jax
import numpy as np

assert loader.__file__.startswith(DIR) and jax.device_count() == 1
agent, given, found = loader.load(DIR), np.load(IN), {}
for b in (1, 3):
    seen = [given[f"{b}/{name}"] for name in ("view", "direction", "mission")]
    plan = agent.sample_plan(*seen, seed=SEED, log_prob=b > 1)
    if b > 1:
        plan, found[f"{b}/log_prob"], found[f"{b}/log_undo"] = plan
    found |= {f"{b}/{name}": x for name, x in plan.items()}
    found[f"{b}/text"] = agent.explain(*seen, plan, seed=SEED)
np.savez(OUT, **found)
assert "flatbuffers.zip" in sys.modules["flatbuffers"].__file__ and "flax" not in sys.modules
""".replace("SEED", str(SEED))


def situations(batch, config):
    rng = np.random.default_rng(batch)
    return {
        "view": rng.integers(0, (11, 6, 3), (batch, 7, 7, 3)).astype(np.uint8),
        "direction": rng.integers(0, 4, batch).astype(np.int32),
        "mission": rng.integers(4, 200, (batch, config.data.mission_length)).astype(np.int32),
    }


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """The export of a train state on eight devices (random numbers for every leaf: no head is quiet), and that state."""
    config, out = tiny_config(), tmp_path_factory.mktemp("exports") / "export"
    tokenizer = train_tokenizer(["go to the red ball", "turn left, then go forward"] * 3, 300)
    system, rng = system_of(config, tokenizer), np.random.default_rng(0)
    abstract = abstract_state(lambda key: train_steps.init_state(system, config, key), make_mesh(data=2, fsdp=2, tensor=2))
    draw = lambda x: jax.device_put((rng.normal(size=x.shape) / 4).astype(x.dtype), x.sharding)  # noqa: E731
    state = jax.tree.map(draw, abstract)
    assert all(len(leaf.sharding.device_set) == 8 for leaf in jax.tree.leaves(state))
    assert not all(leaf.is_fully_replicated for leaf in jax.tree.leaves(state.params))
    programs = agent_programs(state.params, config.to_dict(), tokenizer.to_json(), "test")
    save_export(out, state.params, config.to_dict(), tokenizer.to_json(), codebooks(system), programs)
    return out, state


def test_one_device_and_only_jax_give_the_same_plans_and_texts(exported, tmp_path):
    directory, _ = exported
    agent = load_agent(directory)
    given = {b: situations(b, agent.config) for b in BATCHES}
    np.savez(tmp_path / "in.npz", **{f"{b}/{name}": x for b in BATCHES for name, x in given[b].items()})
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    shared = ("compilation_cache_dir", "compilation_cache_max_size", "persistent_cache_min_compile_time_secs",
              "persistent_cache_min_entry_size_bytes")
    cache = {f"JAX_{name.upper()}": str(getattr(jax.config, f"jax_{name}")) for name in shared}
    child = subprocess.Popen(
        [sys.executable, "-I", "-c", SCRIPT, str(directory), str(tmp_path / "in.npz"), str(tmp_path / "out.npz")],
        env={**environment, **cache})

    @jax.jit
    def here(params, key, percept, mission):
        context, _ = encode(agent.system, params, percept, mission)
        plan = sample_plans(agent.system, params, key, context, None, Exploration(0.9))
        return plan._asdict(), sample_text(agent.system, params, key, plan, context, 0.3)

    expected = {}
    for b in BATCHES:
        percept = {name: given[b][name] for name in ("view", "direction")}
        expected[b] = here(agent.params, jax.random.key(SEED), percept, given[b]["mission"])
    assert child.wait() == 0
    found = np.load(tmp_path / "out.npz")
    for b, (plan, text) in expected.items():
        assert int(plan["num_edits"].max()) > 1, "this plan is too short to tell: choose another seed"
        for name, array in {**plan, "text": text}.items():
            assert found[f"{b}/{name}"].dtype == array.dtype
            np.testing.assert_array_equal(found[f"{b}/{name}"], array, err_msg=f"{name}, batch {b}")
    log_prob, log_undo, edits = (found[f"3/{name}"] for name in ("log_prob", "log_undo", "num_edits"))
    assert (log_prob < 0).all() and (log_undo <= 1e-6).all()
    np.testing.assert_allclose(log_undo[edits <= 1], 0, atol=1e-6)  # one edit can be undone in one way


def test_parameters_agree_in_all_their_forms(exported):
    directory, state = exported
    tensors = loader.read_safetensors((directory / "params.safetensors").read_bytes())
    restored = ocp.StandardCheckpointer().restore(directory / "orbax")
    assert jax.tree.structure(restored) == jax.tree.structure(jax.tree.map(np.asarray, dict(state.params)))
    for path, leaf in jax.tree.leaves_with_path(state.params):
        name = "/".join(key.key for key in path)
        np.testing.assert_array_equal(tensors.pop(name), leaf)
    assert not tensors, "parameters only"
    for want, got in zip(jax.tree.leaves(state.params), jax.tree.leaves(restored), strict=True):
        np.testing.assert_array_equal(got, want)


def test_rules_mesh_and_optimiser_are_left_behind(exported):
    directory, _ = exported
    config = json.loads((directory / "config.json").read_text())
    assert "mesh" not in config and {"model", "data", "agent", "level"} <= config.keys()
    files = {path.relative_to(directory).as_posix(): path.read_bytes() for path in directory.rglob("*") if path.is_file()}
    assert not any("sharding" in name for name in files)
    for name, data in files.items():
        for word in (b"optimizer/", b"NamedSharding", b"SingleDeviceSharding", b"LogicallyPartitioned", b"fsdp"):
            assert word not in data, f"{word} in {name}"
    for name in ("sample_plan", "explain"):
        program = jax_export.deserialize(bytearray(files[f"programs/{name}.stablehlo"]))
        assert b".py" not in files[f"programs/{name}.stablehlo"], "paths of the machine that exported"
        assert program.platforms == ("cpu", "cuda", "tpu") and program.nr_devices == 1
        assert not any(word in program.mlir_module() for word in ("sdy.", "mhlo.sharding", "@Sharding"))


def test_the_signature_describes_the_programs(exported):
    directory, state = exported
    signature = json.loads((directory / "programs/signature.json").read_text())
    sampler, explainer = (signature["programs"][name] for name in ("sample_plan", "explain"))
    assert sampler["inputs"]["view"] == {"dtype": "uint8", "shape": ["b", 7, 7, 3]}
    assert sampler["outputs"]["plan"] == explainer["inputs"]["plan"]
    assert explainer["outputs"]["text"] == {"dtype": "int32", "shape": ["b", 8]}
    assert sampler["defaults"] == {"temperature": 0.9} and signature["platforms"] == ["cpu", "cuda", "tpu"]
    program = jax_export.deserialize(bytearray((directory / explainer["file"]).read_bytes()))
    (params, inputs), _ = jax.tree.unflatten(program.in_tree, program.in_avals)
    assert len(params) == len(jax.tree.leaves(state.params))
    described = jax.tree.leaves(explainer["inputs"], is_leaf=lambda x: "dtype" in x)
    assert [x["dtype"] for x in described] == [x.dtype.name for x in jax.tree.leaves(inputs)]


def test_the_loader_refuses_in_one_line(exported, tmp_path):
    with pytest.raises(ValueError, match="not an export"):
        loader.load(tmp_path)
    agent = loader.load(exported[0])
    with pytest.raises(ValueError, match="no program 'act' in this export"):
        agent.call("act", ())
    with pytest.raises(ValueError, match="temperature 0: plans are sampled at one above 0"):
        agent.sample_plan(None, None, None, temperature=0)
    for text in ("[]", '{"format": "hjepa_gfn export", "version": 1, "sha256": {}}'):
        (tmp_path / "export.json").write_text(text)
        with pytest.raises(ValueError, match="not a hjepa_gfn export of version 2"):
            loader.load(tmp_path)
    shutil.copytree(exported[0], tmp_path / "copy")
    (tmp_path / "copy" / "config.json").write_text("{}")
    with pytest.raises(ValueError, match=r"config.json: damaged \(wrong checksum\): export again"):
        loader.load(tmp_path / "copy")
    empty = safetensors_bytes({"none": np.zeros((0, 2)), "one": np.array(3, np.int8)})
    assert {k: (v.shape, v.dtype.name) for k, v in loader.read_safetensors(empty).items()} == {
        "none": ((0, 2), "float64"), "one": ((), "int8")}
    for data in (b"", empty[:-1], b"\x02" + bytes(7) + b"[]", b"\x09" + bytes(7) + b'{"a": {}}'):
        with pytest.raises(ValueError, match="not a safetensors file"):
            loader.read_safetensors(data)


def test_sizes_are_printed_with_orbax_as_one_line(exported):
    lines = sizes(exported[0])
    names = [line.split()[0] for line in lines]
    assert names == sorted(names) and "orbax/" in names and "programs/sample_plan.stablehlo" in names
    assert all(float(line.split()[1].replace(",", "")) > 0 for line in lines)


@pytest.mark.parametrize(("heading", "size"), [("compass", 9), ("turned", 0), ("turned", 9), ("placed", 0), ("placed", 9)])
def test_an_agent_perceives_with_its_export_alone(heading, size, tmp_path):
    """The program and the loader that makes maps and tells places, against the package's own functions over whole episodes."""
    from hjepa_gfn.export.programs import program_files
    from hjepa_gfn.worlds.babyai import FORWARD
    from hjepa_gfn.worlds.egocentric_map import moved, remember
    from hjepa_gfn.worlds.egocentric_map import seen as lay
    from hjepa_gfn.worlds.heading import along

    config = tiny_config()
    config.data.map, config.data.heading = size, heading
    tokenizer = train_tokenizer(["go to the red ball"] * 3, 300)
    system, rng = system_of(config, tokenizer), np.random.default_rng(1)
    params = {"nothing": np.zeros(2, np.float32)}
    view, action = rng.integers(0, 5, (3, 6, 7, 7, 3)).astype(np.uint8), rng.integers(0, 7, (3, 5)).astype(np.int32)
    view[..., 3, 5, 0], action[0] = 1, FORWARD  # nothing is ahead: steps are taken
    direction = rng.integers(0, 4, (3, 6)).astype(np.int32)
    files = program_files(system, params, config.data.mission_length, 1.0, 1.0, only=("perceive",))
    save_export(tmp_path / "export", params, config.to_dict(), tokenizer.to_json(), codebooks(system), files)
    agent, known = loader.load(tmp_path / "export"), None
    want, faces = along(np.asarray(remember(view, action, size)) if size else view, direction, action, heading, size)
    if heading == "placed":
        assert len(np.unique(want[0, :, 0, 0, 3])) > 1, "the case must show sectors that change"
    for t in range(6):
        seen, faced, known = agent.perceive(view[:, t], direction[:, t], known, action[:, t - 1] if t else None)
        assert seen.shape[1:] == system.view_shape
        np.testing.assert_array_equal(seen, want[:, t])
        np.testing.assert_array_equal(faced, faces[:, t])
    assert ("contradicted" in agent.signature["programs"]["perceive"]["outputs"]) == bool(size)
    if size:  # the last percept once more, after a turn, over what is known by now
        step = lay(moved(np.asarray(known["cells"]), np.zeros(3, int)), view[:, 5], np.zeros(3, int))
        again = dict(known=known, view=view[:, 5], direction=direction[:, 5], action=np.zeros(3))
        found = agent.call("perceive", ("contradicted",), **again)
        assert np.all(step.contradicted > 0)
        np.testing.assert_allclose(found["contradicted"], step.contradicted, rtol=1e-6)
    with pytest.raises(ValueError, match="known and action belong together"):
        agent.perceive(view[:, 0], direction[:, 0], known)
