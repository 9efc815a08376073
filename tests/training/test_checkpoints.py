"""Checkpoints: what was saved comes back bit by bit; what is damaged is named, never used and never deleted."""

import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import struct

from hjepa_gfn.distributed import abstract_state, init_state, make_mesh
from hjepa_gfn.errors import UserError
from hjepa_gfn.training import Checkpoints, load_checkpoint, pytrees, workdir_of

# Orbax leaves event loops behind when a read fails.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@struct.dataclass
class State:
    """Every kind of leaf that a state may hold."""

    step: jax.Array
    params: dict
    moments: tuple


def init(key):
    params = {"dense": {"kernel": jax.random.normal(key, (64, 32))}, "half": jnp.full((3,), 0.1, jnp.bfloat16)}
    moments = (jnp.array([True, False]), None, jnp.zeros((0, 4)), {"count": jnp.uint32(7)})
    return State(jnp.int32(0), params, moments)


@pytest.fixture
def state():
    mesh = make_mesh()
    abstract = abstract_state(init, mesh)
    return abstract, init_state(init, jax.random.key(1), abstract)


@pytest.fixture
def saved(tmp_path, state):
    """A run with checkpoints 100, 200 and 300."""
    checkpoints = Checkpoints(tmp_path, keep=3)
    for step in (100, 200, 300):
        checkpoints.save(step, state[1].replace(step=jnp.int32(step)), {"config": {"lr": 0.1}})
    checkpoints.close()
    return tmp_path


def contents(directory):
    return {path.relative_to(directory): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


def biggest(directory):
    return max((path for path in directory.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)


def flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


DAMAGE = {
    "flipped bit": lambda step: flip(biggest(step)),
    "truncated": lambda step: biggest(step).write_bytes(biggest(step).read_bytes()[:100]),
    "lost array file": lambda step: biggest(step).unlink(),
    "lost state": lambda step: shutil.rmtree(step / "state"),
    "lost meta": lambda step: shutil.rmtree(step / "meta"),
    "empty meta": lambda step: (step / "meta" / "metadata").write_bytes(b""),
    "half the meta": lambda step: (step / "meta" / "metadata").write_text('{"config": {"lr'),
    "lost manifest": lambda step: (step / "state" / "manifest.ocdbt").unlink(),
    "lost tree": lambda step: (step / "state" / "_METADATA").unlink(),
    "emptied": lambda step: [shutil.rmtree(p) if p.is_dir() else p.unlink() for p in step.iterdir()],
}


def test_round_trip(tmp_path, state):
    abstract, state = state
    checkpoints = Checkpoints(tmp_path)
    assert checkpoints.restore_newest(abstract) is None
    checkpoints.save(5, state, {"config": {"lr": 0.1}, "window": {"a/loss": [0.1, None]}})
    found = checkpoints.restore_newest(abstract)
    checkpoints.close()
    assert found.step == 5 and found.meta["config"] == {"lr": 0.1} and found.meta["window"] == {"a/loss": [0.1, None]}
    assert jax.tree.structure(found.state) == jax.tree.structure(state)
    for got, want in zip(jax.tree.leaves(found.state), jax.tree.leaves(state), strict=True):
        assert got.dtype == want.dtype and got.sharding == want.sharding
        np.testing.assert_array_equal(got, want)


def test_a_save_under_way_does_not_see_the_steps_after_it(tmp_path, state):
    abstract, state = state
    wanted = jax.device_get(state)
    overwrite = jax.jit(lambda state: jax.tree.map(lambda x: x ^ True if x.dtype == bool else x + 1, state), donate_argnums=0)
    checkpoints = Checkpoints(tmp_path, keep=2, asynchronous=True)
    for step in (1, 2, 3):
        checkpoints.save(step, state, {})
        state = overwrite(state)  # in the very memory that is being saved
        jax.block_until_ready(state)
    checkpoints.close()
    assert checkpoints.steps() == [2, 3]  # when all is written, no more than were asked for
    found = load_checkpoint(tmp_path, 2).state
    np.testing.assert_array_equal(found["params"]["dense"]["kernel"], wanted.params["dense"]["kernel"] + 1)
    np.testing.assert_array_equal(found["moments"]["0"], [False, True])


def test_restores_onto_other_meshes(saved, state):
    for mesh in (make_mesh(fsdp=4, tensor=2), make_mesh(data=2)):
        checkpoints = Checkpoints(saved)
        found = checkpoints.restore_newest(abstract_state(init, mesh))
        checkpoints.close()
        assert len(found.state.params["half"].sharding.device_set) == mesh.size
        np.testing.assert_array_equal(found.state.params["dense"]["kernel"], state[1].params["dense"]["kernel"])


@pytest.mark.parametrize("kind", DAMAGE)
def test_damage_is_named_and_nothing_deleted(saved, state, kind):
    newest = saved / "checkpoints" / "300"
    DAMAGE[kind](newest)
    before = contents(saved)
    checkpoints = Checkpoints(saved)
    with pytest.raises(UserError) as error:
        checkpoints.restore_newest(state[0])
    checkpoints.close()
    message = str(error.value)
    assert str(newest) in message and "go on from step 200" in message and "\n" not in message
    with pytest.raises(UserError, match=str(newest)):
        load_checkpoint(saved)
    assert contents(saved) == before
    shutil.rmtree(newest)  # what the message says to do
    checkpoints = Checkpoints(saved)
    assert checkpoints.restore_newest(state[0]).step == 200
    checkpoints.close()


@pytest.mark.parametrize("name", ["commit_success.txt", "_CHECKPOINT_METADATA", "state/commit_success.txt"])
def test_a_lost_marker_never_means_going_on_from_an_older_step(saved, state, name):
    (saved / "checkpoints" / "300" / name).unlink(missing_ok=True)
    checkpoints = Checkpoints(saved)
    assert checkpoints.restore_newest(state[0]).step == 300  # whole by its checksums
    checkpoints.close()


def test_the_next_older_good_step_is_named(saved, state):
    for step in ("300", "200"):
        DAMAGE["flipped bit"](saved / "checkpoints" / step)
    checkpoints = Checkpoints(saved)
    with pytest.raises(UserError, match="300 .*go on from step 100"):
        checkpoints.restore_newest(state[0])
    DAMAGE["truncated"](saved / "checkpoints" / "100")
    with pytest.raises(UserError, match="no older checkpoint is readable: start again in another directory"):
        checkpoints.restore_newest(state[0])
    checkpoints.close()


def test_rotation_keeps_the_newest_and_whatever_it_cannot_read(saved, state):
    DAMAGE["flipped bit"](saved / "checkpoints" / "100")
    checkpoints = Checkpoints(saved, keep=2)
    checkpoints.restore_newest(state[0])
    checkpoints.save(400, state[1], {})
    assert checkpoints.steps() == [100, 300, 400]
    checkpoints.save(500, state[1], {})
    assert checkpoints.steps() == [100, 400, 500]
    checkpoints.close()


def test_the_remains_of_a_killed_save_are_cleared_away(saved, state):
    # As Orbax leaves them: a temporary directory beside the finished ones.
    remains = saved / "checkpoints" / "400.orbax-checkpoint-tmp"
    shutil.copytree(saved / "checkpoints" / "300" / "meta", remains / "meta")
    shutil.copytree(saved / "checkpoints" / "100", saved / "checkpoints" / "50.deleting")  # killed in mid-deletion
    checkpoints = Checkpoints(saved)
    assert sorted(path.name for path in checkpoints.path.iterdir()) == ["100", "200", "300"]
    assert checkpoints.restore_newest(state[0]).step == 300
    checkpoints.save(400, state[1], {})
    assert checkpoints.steps() == [300, 400]
    checkpoints.close()
    assert load_checkpoint(saved).step == 400


@pytest.mark.parametrize("path", ["", "checkpoints", "checkpoints/300"])
def test_load_by_any_path(saved, path):
    found = load_checkpoint(saved / path)
    assert found.step == 300 and int(found.state["step"]) == 300 and found.meta["config"] == {"lr": 0.1}
    assert found.state["params"]["half"].dtype == jnp.bfloat16
    assert workdir_of(saved / path) == saved
    assert load_checkpoint(saved / path, None if "300" in path else 100).step in (100, 300)


def test_load_says_what_is_missing(saved, tmp_path):
    with pytest.raises(UserError, match="no checkpoint at .*nowhere"):
        load_checkpoint(tmp_path / "nowhere")
    with pytest.raises(UserError, match="150: there are 100, 200, 300"):
        load_checkpoint(saved, 150)
    (tmp_path / "fresh" / "checkpoints").mkdir(parents=True)
    with pytest.raises(UserError, match="has not saved one yet"):
        load_checkpoint(tmp_path / "fresh")
    assert not list((tmp_path / "fresh" / "checkpoints").iterdir())


def test_fingerprint_sees_any_change():
    x = {"a": jnp.arange(6, dtype=jnp.float32), "b": {"c": jnp.zeros(3, jnp.bfloat16)}}
    base = pytrees.fingerprint(x)
    assert set(base) == {"a", "b/c"}
    swapped = {**x, "a": x["a"][jnp.array([1, 0, 2, 3, 4, 5])]}
    negative_zero = {**x, "b": {"c": x["b"]["c"].at[1].set(-0.0)}}
    assert pytrees.fingerprint(swapped)["a"] != base["a"] and pytrees.fingerprint(swapped)["b/c"] == base["b/c"]
    assert pytrees.fingerprint(negative_zero)["b/c"] != base["b/c"]
