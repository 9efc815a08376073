"""The demo's train steps at a tiny size: meshes agree, compiled once, state donated, groups and gate respected."""
import ast
import inspect
import os

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict
from xminigrid.core.constants import Colors, Tiles

from experiments.configs.babyai_gotolocal import get_config
from hjepa_gfn.distributed import ShardingRules, abstract_state, init_state, jit_step, make_mesh, put_batch
from hjepa_gfn.distributed.compiled_text import collectives
from hjepa_gfn.distributed.mesh import AXES
from hjepa_gfn.distributed.steps import shardings_of
from hjepa_gfn.errors import UserError
from hjepa_gfn.objectives import belief, between, characteristics, em, indicators, jepa, ranking, reachability, train_steps
from hjepa_gfn.objectives.system import GROUPS, make_system, merge_groups, split_groups
from hjepa_gfn.worlds import jitted

NAMES = ("jepa", "habit", "ground", "e_step", "sleep", "m_step", "contrast", "indicators", "belief")


def tiny_config() -> ConfigDict:
    c = get_config()
    c.data.batch_size, c.data.window, c.data.text_length, c.data.mission_length = 16, 4, 8, 4
    c.groups = 8
    c.data.map, c.data.heading = 0, "compass"  # as `make_batch` has it
    c.model.update(dict(state=8, hidden=16, width=16, heads=2, mlp=16, layers=1, context_layers=1, queries=2, max_legs=2,
                        max_steps=2, step_levels=(3, 3), levels=[dict(code=(3, 3), action=(3, 3), longest=4)]))
    c.em.rows = ConfigDict(dict(habit=8, told=2, untold=2, ranked=2, posterior=2, prior=1, sleep=2, m_step=2, contrast=2,
                                indicators=2))
    c.em.decisions = 2
    c.model.belief.update(dict(size=13, features=4, hidden=8, members=2))
    c.belief.update(dict(rows=1, walks=2, steps=5, horizon=2, anchors=2))
    c.data.worlds, c.schedule.every.belief, c.jepa.exploring, c.jepa.lead = 4, 1, 1, 2
    c.optimizer.warmup = 1
    return c


def make_batch(config: ConfigDict, seed: int = 0) -> dict:
    """Random windows and texts in the pipeline's layout."""
    rng = np.random.default_rng(seed)
    b, w, x = config.data.batch_size, config.data.window, config.data.text_length

    def window():
        length = rng.integers(1, w + 1, b).astype(np.int32)
        return {
            "view": rng.integers(0, 4, (b, w + 1, 7, 7, 3)).astype(np.uint8),
            "direction": rng.integers(0, 4, (b, w + 1)).astype(np.int32),
            "action": rng.integers(0, 3, (b, w)).astype(np.int32),
            "segment": np.sort(rng.integers(0, 3, (b, w)), axis=1).astype(np.int32), "length": length}

    text = lambda: np.concatenate(  # noqa: E731
        [np.ones((b, 1)), rng.integers(3, 20, (b, x - 3)), np.full((b, 1), 2), np.zeros((b, 1))], 1).astype(np.int32)
    stated = window()
    grid = np.zeros((b, 8, 8, 2), np.uint8)
    grid[..., 0], grid[..., 1] = int(Tiles.FLOOR), int(Colors.BLACK)
    grid[:, [0, -1]] = grid[:, :, [0, -1]] = int(Tiles.WALL), int(Colors.GREY)
    grid[:, 2, 3] = jitted.TILES["ball"], int(Colors.RED)
    world = {
        "grid": grid, "position": 3 + np.arange(2 * b, dtype=np.int32).reshape(b, 2) % 4,
        "heading": np.arange(b, dtype=np.int32) % 4,
        "pocket": np.tile(np.array([int(Tiles.EMPTY), int(Colors.EMPTY)], np.uint8), (b, 1)), "action": stated["action"],
        "length": stated["length"]}
    return {"start": window(), "random": window(), "mission": rng.integers(1, 20, (b, 4)).astype(np.int32), "final": text(),
            "draft": text(), "world": world, "draft_action": stated["action"], "draft_segment": stated["segment"],
            "draft_length": stated["length"]}


@pytest.fixture(scope="module")
def config():
    return tiny_config()


@pytest.fixture(scope="module")
def system(config):
    return make_system(config.model, 20, config.data.text_length, 7)


_drawn: dict = {}


def start(system, config, mesh):
    """The first state, drawn once and then laid out for the mesh."""
    init = lambda key: train_steps.init_state(system, config, key)  # noqa: E731
    abstract = abstract_state(init, mesh)
    if not _drawn:
        _drawn["state"] = jax.device_get(init_state(init, jax.random.key(0), abstract_state(init, make_mesh())))
    return jax.device_put(_drawn["state"], shardings_of(abstract)), abstract


def gradients(state):
    """The clipped gradients of a first step, as Adam's first moment holds them: {leaf: float64}."""
    leaves = jax.tree_util.tree_flatten_with_path({g: s[1].mu for g, s in state.optimizer.items()})[0]
    return {jax.tree_util.keystr(path): np.asarray(leaf, np.float64) for path, leaf in leaves}


def moved_in_loops(step, state, batch, mesh):
    """Bytes that loops move over `fsdp`: 90,000 for this small step where no copy was gathered before."""
    text = step.lower(state, batch).compile().as_text()
    found = collectives(text, AXES, [mesh.shape[axis] for axis in AXES])
    return sum(c.bytes * c.times for c in found if c.in_loop and "fsdp" in c.axes)


# Compiling a step for a mesh takes half a minute: all but the first two are gone through for one step, or for all with
# ALL_MESHES=1 in the environment.
MESHES = ({}, {"data": 2, "fsdp": 2, "tensor": 2}, {"data": 8}, {"data": 4, "tensor": 2}, {"replica": 2, "data": 2, "fsdp": 2})


@pytest.mark.parametrize("name", NAMES)
def test_step_agrees_on_every_mesh_compiles_once_and_donates(name, config, system):
    losses, moments = [], []
    for sizes in MESHES if name == "habit" or os.environ.get("ALL_MESHES") else MESHES[:2]:
        mesh = make_mesh(**sizes)
        state, abstract = start(system, config, mesh)
        # the M-step's gate is open, lest it keep its gradients to itself
        gate = state.gate._replace(average=0 * state.gate.average + 1.0, count=state.gate.count + 100)
        state = state.replace(gate=jax.device_put(gate, shardings_of(abstract.gate)))
        # sleep samples plans and texts: on meshes with a copy of the weights that is gathered before the loops
        sampling = "gathered" if name == "sleep" and sizes else "spread"
        step = jit_step(train_steps.make_train_steps(system, config)[name], abstract, mesh, ShardingRules(sampling=sampling))
        batch = put_batch(make_batch(config), mesh)
        if sampling == "gathered":
            assert not moved_in_loops(step, state, batch, mesh), "something is gathered for every edit or word"
        with jax.transfer_guard("disallow"):
            new, metrics = step(state, batch)
        # (a step that renews `target` without reading it has no use for the old one)
        old = {group: value for group, value in state.params.items() if group != "target"}
        assert all(leaf.is_deleted() for leaf in jax.tree.leaves((old, state.optimizer))), "the old state must be donated"
        losses.append({k: float(v) for k, v in metrics.items()})
        moments.append(gradients(new))
        if name == "belief" and not sizes:
            assert changed(_drawn["state"].params, new.params) == changed(_drawn["state"].optimizer, new.optimizer) == {name}
        new, _ = step(new, put_batch(make_batch(config, 1), mesh))
        assert step._cache_size() == 1
    assert np.isfinite(losses[0]["loss"]) and losses[0]["grad_norm"] > 0
    size = np.sqrt(sum((leaf**2).sum() for leaf in moments[0].values()))
    assert size > 0
    for other, moment in zip(losses[1:], moments[1:]):
        assert other["loss"] == pytest.approx(losses[0]["loss"], rel=1e-5)
        assert other["grad_norm"] == pytest.approx(losses[0]["grad_norm"], rel=1e-5)
        gap = np.sqrt(sum(((moment[leaf] - moments[0][leaf]) ** 2).sum() for leaf in moment))
        assert gap <= 1e-5 * size


def test_registry_schedule_and_config_name_the_same_steps(config, system):
    assert tuple(train_steps.make_train_steps(system, config)) == NAMES
    last = config.schedule.jepa_steps + config.schedule.ground_steps
    scheduled = {n for step in (0, config.schedule.jepa_steps, last) for n in train_steps.schedule(config, step)}
    assert scheduled == set(NAMES)
    assert set(config.schedule.every) | {"jepa"} == {*NAMES, "characteristics"}  # the last is of several actors


def test_the_step_between_levels_is_there_where_it_has_a_weight(config, system):
    some = config.copy_and_resolve_references()
    some.jepa.between = 0.5
    steps = train_steps.make_train_steps(system, some)
    assert set(steps) == {*NAMES, "between"}
    assert train_steps.schedule(some, 0) == ("jepa", "between", "habit")
    assert "between" not in train_steps.schedule(some, some.schedule.jepa_steps)
    state, _ = start(system, some, make_mesh())
    new, metrics = jax.jit(steps["between"])(state, make_batch(some))
    assert float(metrics["loss"]) == pytest.approx(0.5 * float(metrics["subgoal_between"]), rel=1e-5)
    assert changed(state.params, new.params) == changed(state.optimizer, new.optimizer) == {"jepa"}
    level = {f"{n}/{name}" for n in ("level_1", "level_2") for name in changed(state.params["jepa"][n], new.params["jepa"][n])}
    assert level == {"level_1/encoder"}


def test_every_loss_is_part_of_a_registered_step():
    """Whatever the modules of losses define as one (`..._loss`, `..._step`) is called from the registry's module."""
    called = {node.attr if isinstance(node, ast.Attribute) else node.id for node in ast.walk(
        ast.parse(inspect.getsource(train_steps))) if isinstance(node, ast.Attribute | ast.Name)}
    parts = {"macro_loss", "own_state_loss", "reach_loss", "pair_loss"}  # terms of jepa_loss, and of characteristics_loss
    losses = {name for module in (
        em, ranking, jepa, indicators, characteristics, belief, between, reachability) for name, fn in vars(module).items()
              if inspect.isfunction(fn) and fn.__module__ == module.__name__ and name.endswith(("_loss", "_step"))}
    assert {"e_step", "m_step", "sleep_loss", "jepa_loss", "contrast_loss", "belief_loss"} <= losses
    assert losses - parts <= called


def test_microbatches_add_up_to_the_whole_and_groups_do_not_depend_on_them(config, system):
    """Four microbatches of two groups each: the mean loss and gradient of the same eight groups, their keys aside (habit draws
    all of its rows here, so that keys make no difference)."""
    whole, parts = config.copy_and_resolve_references(), config.copy_and_resolve_references()
    whole.em.rows.habit = parts.em.rows.habit = 2 * config.data.window
    parts.groups, parts.microbatches = 2, 4
    state, _ = start(system, config, make_mesh())
    found = {}
    for name, some in (("whole", whole), ("parts", parts)):
        batch = make_batch(config)
        batch["start"]["length"] = np.full_like(batch["start"]["length"], config.data.window)  # every row counts the same
        new, metrics = jax.jit(train_steps.make_train_steps(system, some)["habit"])(state, batch)
        found[name] = float(metrics["loss"]), gradients(new)
    assert found["parts"][0] == pytest.approx(found["whole"][0], rel=1e-5)
    for leaf, value in found["whole"][1].items():
        np.testing.assert_allclose(found["parts"][1][leaf], value, atol=1e-6)


@pytest.mark.parametrize(("change", "message"), [
    ({"groups": 3}, "data.batch_size=16 must be a multiple of microbatches x groups = 1 x 3"),
    ({"em.rows.sleep": 3}, "em.rows.sleep=3: a group has 2 rows"), ({"data.worlds": 0}, "jepa.exploring=1 needs worlds"),
    ({"belief.walks": 3}, "belief.walks=3: a group has 2 rows"), ({"model.belief.size": 0}, "every.belief needs a belief"),
    ({"jepa.reach": 0.1}, "jepa.reach=0.1 and model.reach=0"),
    ({"belief.steps": 3}, "belief.steps=3 must hold a window"), ({"microbatches": 0}, "microbatches x groups = 0")])
def test_batches_that_cannot_be_cut_are_refused(change, message, config, system):
    bad = config.copy_and_resolve_references()
    bad.update_from_flattened_dict(change)
    with pytest.raises(UserError, match=message):
        train_steps.make_train_steps(system, bad)


@pytest.mark.parametrize("change", [{"remat": "full"}, {"remat": "dots"}, {"dtype": "bfloat16"}])
def test_how_the_trunk_computes_changes_no_gradient(change, config, system):
    """Rematerialisation: the same numbers. bfloat16: the same to its precision, with a state that stays float32."""
    state, _ = start(system, config, make_mesh())
    other = config.copy_and_resolve_references()
    other.model.compute.update(change)
    changed_system = make_system(other.model, 20, config.data.text_length, 7)
    plain, _ = jax.jit(train_steps.make_train_steps(system, config)["habit"])(state, make_batch(config))
    new, _ = jax.jit(train_steps.make_train_steps(changed_system, other)["habit"])(state, make_batch(config))
    assert {leaf.dtype for leaf in jax.tree.leaves(new.params)} == {jnp.dtype("float32")}
    a, b = gradients(plain), gradients(new)
    size = np.sqrt(sum((leaf**2).sum() for leaf in a.values()))
    gap = np.sqrt(sum(((a[leaf] - b[leaf]) ** 2).sum() for leaf in a)) / size
    assert gap < 1e-5 if "remat" in change else 1e-4 < gap < 0.05


def changed(old, new):
    return {g for g in old if any(not np.array_equal(a, b) for a, b in zip(
        jax.tree.leaves(old[g]), jax.tree.leaves(new[g]), strict=True))}


@pytest.mark.parametrize(("name", "groups"), [
    ("jepa", {"jepa"}), ("habit", {"encoder", "habit"}), ("sleep", {"encoder", "policy"}), ("contrast", {"encoder", "model"}),
    ("indicators", {"indicators"})])
def test_step_moves_its_own_groups_only(name, groups, config, system):
    state, _ = start(system, config, make_mesh())
    new, _ = jax.jit(train_steps.make_train_steps(system, config)[name])(state, make_batch(config))
    renewed = {"target"} if "model" in groups else set()  # the model is read through a copy that follows its training
    assert changed(state.params, new.params) == groups | renewed
    assert changed(state.optimizer, new.optimizer) == groups


def test_m_step_is_held_bitwise_while_the_gate_is_shut(config, system):
    step = jax.jit(train_steps.make_train_steps(system, config)["m_step"])
    state, _ = start(system, config, make_mesh())
    shut, metrics = step(state, make_batch(config))  # no E-step was taken yet: the average is infinite
    assert float(metrics["gate_open"]) == 0.0
    assert not changed(state.params, shut.params) and not changed(state.optimizer, shut.optimizer)
    gate = state.gate._replace(average=jnp.float32(1.0), count=jnp.int32(100))
    opened, metrics = step(state.replace(gate=gate), make_batch(config))
    assert float(metrics["gate_open"]) == 1.0
    assert changed(state.params, opened.params) == {"encoder", "model", "target"}
    high = state.gate._replace(average=jnp.float32(1e6), count=jnp.int32(100))
    assert float(step(state.replace(gate=high), make_batch(config))[1]["gate_open"]) == 0.0


def test_configs_older_than_beliefs_and_worlds_make_the_same_train_steps(config, system):
    """All but those of beliefs, in the same order; and what is asked for without its fields is still refused."""
    old = config.copy_and_resolve_references()
    with old.unlocked():
        del old.belief, old.model.belief, old.data.worlds, old.data.world_size, old.jepa.exploring, old.schedule.every.belief
    without = make_system(old.model, 20, old.data.text_length, 7)
    train_steps.check_rows(old)
    assert set(train_steps.make_train_steps(without, old)) == set(train_steps.make_train_steps(system, config)) - {"belief"}
    for step in (0, old.schedule.jepa_steps, old.schedule.jepa_steps + old.schedule.ground_steps):
        of_new = [name for name in train_steps.schedule(config, step) if name != "belief"]
        assert list(train_steps.schedule(old, step)) == of_new
    with old.unlocked():
        old.jepa.exploring = 1
    with pytest.raises(UserError, match="data.worlds"):
        train_steps.check_rows(old)


def test_jepa_learns_in_its_phase_and_stands_still_after_it(config):
    rate = lambda step: float(train_steps.learning_rate(config, jnp.int32(step), "jepa"))  # noqa: E731
    assert rate(10) > 0 and rate(config.schedule.jepa_steps) == pytest.approx(0.0, abs=1e-9)


def test_every_module_has_a_group_and_splitting_undoes_merging(config, system):
    state, _ = start(system, config, make_mesh())
    merged = merge_groups(state.params)
    assert set(merged) == set(GROUPS)
    for a, b in zip(jax.tree.leaves(state.params["target"]), jax.tree.leaves(state.params["encoder"]), strict=True):
        np.testing.assert_array_equal(a, b)
    again = split_groups(merged)
    assert jax.tree.structure(again) == jax.tree.structure({g: state.params[g] for g in again})


def test_windows_of_e_steps(config, system):
    """A window that holds every trajectory changes nothing; a short one balances less, and leaves whole likelihoods only."""
    state, _ = start(system, config, make_mesh())
    found = {}
    for window in (0, system.spec.max_edits, 2):
        changed = config.copy_and_resolve_references()
        changed.em.window = window
        _, metrics = jax.jit(train_steps.make_train_steps(system, changed)["e_step"])(state, make_batch(config))
        found[window] = {name: float(value) for name, value in metrics.items()}
    assert found[system.spec.max_edits] == pytest.approx(found[0], rel=1e-4)
    short = found[2]
    assert np.isfinite(short["loss"]) and 0 < short["prior_subtb"] < found[0]["prior_subtb"]
    assert short["prior_edits"] == found[0]["prior_edits"], "lengths are those of whole trajectories"
    assert short["prior_nll"] < found[0]["prior_nll"], "longer trajectories are no part of the likelihood"
