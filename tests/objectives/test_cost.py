"""The cost model's formulas against the traced programs of every train step."""
import jax
import numpy as np
import pytest

from experiments.configs.babyai_scale import get_config
from hjepa_gfn.data.pipeline import batch_shapes
from hjepa_gfn.distributed.program_flops import program_flops
from hjepa_gfn.objectives import cost, train_steps
from hjepa_gfn.objectives.system import make_system


@pytest.fixture(scope="module")
def traced():
    """(config, registry, abstract state, abstract batch) of a wide system of two layers; nothing is computed."""
    config = get_config("base")
    config.model.update(dict(layers=2, context_layers=1, max_legs=6, max_steps=10))
    config.model.compute.remat = "none"
    config.data.update(dict(window=16, text_length=64, mission_length=16, batch_size=4))
    config.groups, config.em.window = 2, 0
    config.model.belief.update(dict(size=13, features=32, hidden=256))
    config.belief.update(dict(rows=1, walks=2, steps=20))
    config.data.worlds, config.jepa.between = 4, 1.0
    system = make_system(config.model, config.data.vocab, config.data.text_length, 7)
    state = jax.eval_shape(lambda key: train_steps.init_state(system, config, key), jax.random.key(0))
    is_shape = lambda x: isinstance(x, tuple)
    batch = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(*leaf), batch_shapes(config.data), is_leaf=is_shape)
    from hjepa_gfn.distributed import unbox

    return config, train_steps.make_train_steps(system, config), unbox(state), batch


@pytest.mark.parametrize("name", ["jepa", "habit", "ground", "e_step", "sleep", "m_step", "contrast", "indicators", "belief",
                                  "between"])
def test_formulas_are_within_five_percent_of_the_program(name, traced):
    config, steps, state, batch = traced
    assert set(cost.step_flops(config)) == set(steps)
    program = program_flops(steps[name], state, batch)
    assert cost.step_flops(config)[name] == pytest.approx(program, rel=0.05)


@pytest.mark.parametrize("samples", [1, 3])
def test_a_decision_in_planning_mode_is_within_five_percent_of_the_program(samples, traced):
    from hjepa_gfn.agent.modes import plan

    config, _, state, batch = traced
    config = config.copy_and_resolve_references()
    config.agent.plan_samples = samples
    system = make_system(config.model, config.data.vocab, config.data.text_length, 7)
    percept = {name: jax.ShapeDtypeStruct(leaf.shape[:1] + leaf.shape[2:], leaf.dtype)
               for name, leaf in batch["start"].items() if name in ("view", "direction")}
    program = program_flops(lambda p, o, m: plan(system, p, jax.random.key(0), o, m, samples, 1.0), state.params, percept,
                            batch["mission"])
    rows = batch["mission"].shape[0]
    assert rows * cost.decision_flops(config) == pytest.approx(program, rel=0.05)
    assert cost.decision_flops(config, edits=4) < 0.5 * cost.decision_flops(config)


def test_costs_scale_with_groups_and_not_with_microbatches(traced):
    config = traced[0].copy_and_resolve_references()
    one = cost.step_flops(config)
    config.groups, config.data.batch_size = 4, 8
    two = cost.step_flops(config)
    assert {name: pytest.approx(2 * value) for name, value in one.items()} == two
    config.groups, config.microbatches = 2, 2
    assert cost.step_flops(config) == {name: pytest.approx(value) for name, value in two.items()}


def test_hours_and_tokens():
    assert cost.chip_hours(3600 * 459e12 * 0.4, 459) == pytest.approx(1.0)
    assert np.isclose(cost.language_model_flops(8e9, 160e9), 7.68e21)
