"""The train steps of an actor below the first: on meshes, by groups, behind their own gate, and what they cost."""
import functools
import os
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1])]
import test_train_steps as demo  # noqa: E402
import tiny  # noqa: E402

from hjepa_gfn.data.pipeline import batch_shapes  # noqa: E402
from hjepa_gfn.distributed import abstract_state, jit_step, make_mesh, put_batch, unbox  # noqa: E402
from hjepa_gfn.distributed.program_flops import program_flops  # noqa: E402
from hjepa_gfn.distributed.steps import shardings_of  # noqa: E402
from hjepa_gfn.errors import UserError  # noqa: E402
from hjepa_gfn.gflownet.gate import Gate  # noqa: E402
from hjepa_gfn.objectives import cost, train_steps  # noqa: E402
from hjepa_gfn.objectives.state import gate_of, with_gate  # noqa: E402
from hjepa_gfn.objectives.system import make_system  # noqa: E402


def config(share=True, kind=""):
    c = demo.tiny_config()
    c.model.characteristics, c.em.rows.characteristics = kind, 2
    c.model.levels = [*c.model.levels, dict(name="clause", code=(3,), action=(3,), longest=2, segments="clauses", most=2)]
    c.model.actors = (dict(scales=("clause", "subgoal")), dict(scales=("subgoal", "step"), name="lower"))
    c.model.share_layers, c.model.belief.size, c.schedule.every.belief, c.data.worlds, c.jepa.exploring = share, 0, 0, 0, 0
    return c


def batch(c):
    found = demo.make_batch(c)
    for window in ("start", "random"):
        found[window]["clause"] = found[window]["segment"] // 2
    return {**found, "draft_clause": found["draft_segment"] // 2}


@functools.cache
def made(share=True, kind=""):
    """(config, system, init, a first state with random parameters, train steps); nothing is compiled."""
    c = config(share, kind)
    system = make_system(c.model, 20, c.data.text_length, 7)
    init = lambda key: train_steps.init_state(system, c, key)
    state = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), unbox(jax.eval_shape(init, jax.random.key(0))))
    drawn = tiny.drawn(lambda: train_steps.init_params(system, jax.random.key(0), c.data.mission_length))
    return c, system, init, state.replace(params=jax.device_get(drawn)), train_steps.make_train_steps(system, c)


def run(name, share, meshes, kind=""):
    """(metrics, gradients, the new state) of a first step on each mesh."""
    c, _, init, first, steps = made(share, kind)
    found = []
    for sizes in meshes:
        mesh = make_mesh(**sizes)
        abstract = abstract_state(init, mesh)
        step, rows = jit_step(steps[name], abstract, mesh), put_batch(batch(c), mesh)
        state = jax.device_put(first, shardings_of(abstract))
        with jax.transfer_guard("disallow"):
            new, metrics = step(state, rows)
        found.append(({key: float(x) for key, x in metrics.items()}, demo.gradients(new), jax.device_get(new)))
    return found


def test_the_registry_holds_the_steps_of_every_actor_and_the_schedule_names_them():
    c, system, _, state, steps = made()
    mine = {"jepa", "habit", "ground", "e_step", "sleep", "m_step", "contrast", "indicators"}
    below = {f"{name}@lower" for name in mine - {"jepa", "habit", "indicators"}}
    assert set(steps) == mine | below
    last = c.schedule.jepa_steps + c.schedule.ground_steps
    assert {n for step in (0, c.schedule.jepa_steps, last) for n in train_steps.schedule(c, step)} == set(steps)
    apart = make_system(config(False).model, 20, c.data.text_length, 7)
    assert "habit@lower" in train_steps.make_train_steps(apart, config(False))
    assert "habit@lower" in train_steps.schedule(config(False), 0) and set(cost.step_flops(c)) == set(steps)
    own = {f"{group}{actor}" for group in ("encoder", "policy", "model", "habit") for actor in ("", "@lower")}
    assert set(state.optimizer) == own | {"jepa", "indicators", "shared"}
    assert set(state.params) == set(state.optimizer) | {"target", "target@lower"}


ALL_MESHES = pytest.mark.skipif(not os.environ.get("ALL_MESHES"), reason="goes with ALL_MESHES=1")


# contrast samples plans from seeds, reads texts and trains the energy; compiled for a mesh it takes most of a minute
@pytest.mark.parametrize(("name", "share", "groups"), [
    ("habit@lower", False, {"encoder@lower", "habit@lower"}),
    pytest.param("characteristics", True, {"characteristics"}, marks=ALL_MESHES),
    pytest.param("contrast@lower", True, {"shared", "encoder@lower", "model@lower"}, marks=ALL_MESHES)])
def test_a_lower_actors_step_agrees_on_meshes(name, share, groups):
    kind = "learned" if name == "characteristics" else ""
    (one, a, new), (other, b, _) = run(name, share, ({}, {"data": 2, "fsdp": 2, "tensor": 2}), kind)
    assert one["loss"] == pytest.approx(other["loss"], rel=1e-5) and one["grad_norm"] > 0
    size = np.sqrt(sum((leaf**2).sum() for leaf in a.values()))
    assert np.sqrt(sum(((a[leaf] - b[leaf]) ** 2).sum() for leaf in a)) <= 1e-5 * size
    assert demo.changed(made(share, kind)[3].optimizer, new.optimizer) == groups


def test_a_lower_actors_step_moves_its_own_groups_and_shared_layers_and_renews_its_copy():
    ((metrics, _, new),) = run("contrast@lower", True, ({},))
    first, groups = made()[3], {"shared", "encoder@lower", "model@lower"}
    assert np.isfinite(metrics["loss"]) and metrics["grad_norm"] > 0
    assert demo.changed(first.params, new.params) == groups | {"target@lower"}
    assert demo.changed(first.optimizer, new.optimizer) == groups
    whole = new.params["target@lower"]["encoder"]
    jax.tree.map(np.testing.assert_array_equal, whole["stack"], new.params["shared"]["encoder"]["stack"])
    jax.tree.map(np.testing.assert_array_equal, whole["plan_embed"], new.params["encoder@lower"]["encoder"]["plan_embed"])


def test_every_actor_has_a_gate_of_its_own():
    state = made()[3]
    moved = with_gate(state, "lower", Gate(jnp.float32(3.0), jnp.int32(1)))
    assert float(gate_of(moved, "lower").average) == 3.0 and int(gate_of(moved, "").count) == 0
    plain = state.replace(gate=gate_of(state, ""))
    assert with_gate(plain, "", Gate(1, 2)).gate == gate_of(with_gate(plain, "", Gate(1, 2)), "") == Gate(1, 2)


def test_what_actors_say_of_sub_plans_is_a_step_of_all_of_them_where_it_is_asked_for():
    c = config()
    assert "characteristics" not in made()[4] and "characteristics" not in made()[3].params
    last = c.schedule.jepa_steps + c.schedule.ground_steps
    c.model.characteristics = "risk"
    with pytest.raises(UserError, match="em.rows.characteristics=9: a group has 2 rows"):
        c.em.rows.characteristics = 9
        train_steps.check_rows(c)
    c.em.rows.characteristics = 2
    system = make_system(c.model, 20, c.data.text_length, 7)
    steps = train_steps.make_train_steps(system, c)
    assert set(steps) == {*made()[4], "characteristics"} == set(cost.step_flops(c))
    assert set(train_steps.schedule(c, last)) - set(train_steps.schedule(made()[0], last)) == {"characteristics"}


@pytest.mark.parametrize(("name", "kind"), [("contrast@lower", ""), ("characteristics", "learned")])
def test_the_formulas_of_a_lower_actor_are_within_five_percent_of_the_program(name, kind):
    c = config(kind=kind)
    c.model.update(dict(layers=2, max_legs=6, max_steps=10, width=256, mlp=512, heads=4, state=128, hidden=256))
    c.data.update(dict(window=16, text_length=64, mission_length=16, batch_size=4, vocab=512))
    c.groups = 2
    system = make_system(c.model, c.data.vocab, c.data.text_length, 7)
    state = unbox(jax.eval_shape(lambda key: train_steps.init_state(system, c, key), jax.random.key(0)))
    is_shape = lambda x: isinstance(x, tuple)
    shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(*leaf), batch_shapes(c.data), is_leaf=is_shape)
    program = program_flops(train_steps.make_train_steps(system, c)[name], state, shapes)
    assert cost.step_flops(c)[name] == pytest.approx(program, rel=0.05)
