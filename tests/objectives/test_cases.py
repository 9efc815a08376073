"""Cases, the batches that losses lay together, and the grouping of parameters."""

import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

sys.path.insert(0, str(Path(__file__).parents[1]))
import tiny  # noqa: E402

from hjepa_gfn.objectives.cases import at_time, join, make_case, stack, take  # noqa: E402
from hjepa_gfn.objectives.system import GROUPS, init_params, merge_groups, model_view, split_groups  # noqa: E402

SYSTEM = tiny.system()


def test_a_case_is_the_first_step_of_its_window_and_teaches_the_hierarchy_nothing():
    window, mission = tiny.window([[3, 2], [], [2, 1, 1]]), tiny.words(3, tiny.MISSION)
    case = jax.jit(lambda p: make_case(SYSTEM, p, window, mission))(tiny.params())
    for name in ("view", "direction"):
        np.testing.assert_array_equal(case.percept[name], window[name][:, 0])
    assert case.known.tolist() == [True, False, True] and case.observed.batch_shape == (3,)
    np.testing.assert_array_equal(case.mission, mission)
    z1 = SYSTEM.level(tiny.params(), window["view"][:, 0], window["direction"][:, 0], method="encode")
    np.testing.assert_allclose(case.start[0], z1, atol=1e-5)
    begin = lambda p: sum(z.sum() for z in make_case(SYSTEM, p, window, mission).start)
    grads = jax.jit(jax.grad(begin))(tiny.params())
    assert not any(np.asarray(g).any() for g in jax.tree.leaves(grads))


def test_plans_at_times_and_side_by_side():
    plans = jax.tree.map(np.asarray, tiny.random_plans(SYSTEM.spec, jax.random.key(0), 12))
    paths = jax.tree.map(lambda x: x.reshape(3, 4, *x.shape[1:]), plans)
    when = np.array([[0, 3], [2, 2], [1, 0]])
    picked = at_time(paths, jnp.asarray(when))
    for b in range(3):
        for a in range(2):
            jax.tree.map(lambda x, y, b=b, a=a: np.testing.assert_array_equal(x[b, a], y[b, when[b, a]]), picked, paths)
    one, two = (take(plans, np.arange(i, i + 3)) for i in (0, 5))
    equal = np.testing.assert_array_equal
    same = lambda found, how: jax.tree.map(lambda x, a, b: equal(x, how([a, b])), found, one, two)
    same(stack(one, two), lambda both: np.stack(both, axis=1))
    same(join(one, two), np.concatenate)
    assert one.code.tolist() != two.code.tolist()


def test_every_module_of_the_network_is_in_one_group_and_comes_back():
    params = nn.unbox(jax.eval_shape(lambda: init_params(SYSTEM, jax.random.key(0), tiny.MISSION)))
    apart = {"jepa", "indicators", "target"}  # no parts of the network
    assert set(params) == {"encoder", "policy", "model", "habit"} | apart
    network = merge_groups(params)
    assert set(network) == set(GROUPS) and not set(network) & set(params["jepa"])
    assert split_groups(network) == {name: value for name, value in params.items() if name not in apart}
    assert params["target"] == params["encoder"]


def test_the_model_reads_the_copy_of_the_encoder_and_everything_else_as_it_is():
    params = {name: object() for name in ("jepa", "encoder", "policy", "model", "habit", "target")}
    assert model_view(params) == {**params, "encoder": params["target"]}


def test_the_fullest_observed_plan_fits_the_family():
    spec = SYSTEM.spec
    legs, steps = tiny.MODEL["max_legs"], tiny.MODEL["max_steps"]
    states = (legs - 1) + (steps - 1)                       # between legs, and inside the first
    assert spec.capacity == 1 + states + 1                  # s_0, and a slot to spare
    assert spec.max_edits == states + legs + steps + 1 + 1  # macro-actions, actions, one expansion, and an edit to spare
    assert spec.state_codes == (3, 9) and spec.action_codes == (9, tiny.ACTIONS)
