"""The trainer: compiled once, donated, right in distribution for every loss, and its loss linear in work."""
import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from hjepa_gfn.gflownet import losses, policy
from hjepa_gfn.gflownet.enumeration import enumerate_graph, exact_metrics
from hjepa_gfn.gflownet.environments import BitSequences, Hypergrid
from hjepa_gfn.gflownet.networks import MLPPolicy, policy_network
from hjepa_gfn.gflownet.objectives import OBJECTIVES
from hjepa_gfn.gflownet.rollout import Exploration
from hjepa_gfn.gflownet.training import adam, make_trainer

TINY = Hypergrid(2, 4, r0=0.2)
BITS = BitSequences(4, 2, 2, 4.0)


def tiny_trainer(env, loss, **more):
    network = policy_network(env, (32, 32), flow=OBJECTIVES[loss].flow)
    # the noise of small batches dies with the rate
    optimizer = optax.chain(
        adam(3e-3, 0.03 if OBJECTIVES[loss].flow == "constant" else 3e-3),
        optax.scale_by_schedule(optax.cosine_decay_schedule(1.0, 1500)))
    return make_trainer(env, network, loss, optimizer, **more)


@pytest.mark.parametrize("env, loss", [(TINY, name) for name in OBJECTIVES] + [(BITS, "tb"), (BITS, "subtb")],
                         ids=lambda x: x if isinstance(x, str) else type(x).__name__)
def test_policies_reach_the_exact_distribution(env, loss):
    trainer = tiny_trainer(env, loss, capacities=(0.5, 1.0))
    state = trainer.init(jax.random.key(0))
    graph = enumerate_graph(env)
    before = exact_metrics(env, trainer.network, state.params, graph)
    state, metrics = trainer.train(state, 1500)
    after = exact_metrics(env, trainer.network, state.params, graph)
    assert before["tv"] > 0.1 and after["tv"] < 0.03 and after["jsd"] < 1e-3
    assert np.isfinite(list(map(float, metrics.values()))).all()


def test_one_program_for_any_number_of_steps_and_buffers_are_donated():
    trainer = tiny_trainer(TINY, "tb", capacities=(1.0,))
    first = trainer.init(jax.random.key(0))
    state = first
    for steps in (1, 3, 2):
        state, _ = trainer.train(state, steps)
    assert trainer.train._cache_size() == 1 and int(state.step) == 6
    assert all(x.is_deleted() for x in jax.tree.leaves(first.params))


def test_the_same_key_gives_the_same_parameters_however_the_steps_are_cut():
    trainer = tiny_trainer(TINY, "tb", capacities=(1.0,))
    whole, _ = trainer.train(trainer.init(jax.random.key(3)), 5)
    part, _ = trainer.train(trainer.train(trainer.init(jax.random.key(3)), 2)[0], 3)
    jax.tree.map(np.testing.assert_array_equal, whole.params, part.params)


def test_log_z_learns_at_the_rate_of_flows():
    params = {"log_flow": jnp.zeros(()), "heads": {"kernel": jnp.zeros(2)}}
    optimizer = adam(0.5, 0.25)
    updates, _ = optimizer.update(jax.tree.map(jnp.ones_like, params), optimizer.init(params), params)
    np.testing.assert_allclose(updates["log_flow"], -0.25, rtol=1e-5)
    np.testing.assert_allclose(updates["heads"]["kernel"], -0.5, rtol=1e-5)


@pytest.mark.parametrize("loss", ["tb", "subtb"])
def test_compact_evaluation_is_the_full_one_with_its_gradient(loss):
    trainer = tiny_trainer(TINY, loss)
    params = trainer.init(jax.random.key(0)).params
    drawn = trainer.sample(params, jax.random.key(1))
    need = int((drawn.length + 1).sum())

    @partial(jax.jit, static_argnums=1)
    @partial(jax.value_and_grad, argnums=0)
    def value_and_grad(params, capacity):
        path = policy.evaluate(TINY, trainer.network, params, drawn, capacity)
        return OBJECTIVES[loss].loss(path, TINY.log_reward(drawn.final), None)[0]

    full, grads = value_and_grad(params, None)
    for capacity in (need, need + 1):  # just enough rows, and one to spare
        compact, others = value_and_grad(params, capacity)
        np.testing.assert_allclose(compact, full, rtol=1e-5)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5), others, grads)


@pytest.mark.parametrize("env", [TINY, BITS], ids=lambda x: type(x).__name__)
def test_exploration_takes_legal_actions_only_and_changes_the_choice(env):
    network = policy_network(env, (8,))
    trainer = make_trainer(env, network, batch=256, explore=Exploration(epsilon=0.5))
    drawn = trainer.sample(trainer.init(jax.random.key(0)).params, jax.random.key(1))
    flat = drawn.states[:, :-1].reshape(-1, drawn.states.shape[-1])
    legal = np.asarray(env.forward_mask(flat)).reshape(*drawn.action.shape, -1)
    taken = np.take_along_axis(legal, np.asarray(drawn.action)[..., None], -1)[..., 0]
    assert taken[np.asarray(drawn.edge)].all()
    assert np.asarray(env.stop_mask(drawn.final)).all()
    # a policy that would stop at once walks under full exploration
    params = jax.tree.map(jnp.zeros_like, trainer.init(jax.random.key(0)).params)
    params["heads"]["bias"] = params["heads"]["bias"].at[env.num_actions].set(30.0)
    explorer = make_trainer(env, network, batch=256, explore=Exploration(epsilon=1.0))
    assert explorer.sample(params, jax.random.key(2)).length.mean() > 0.5


def test_without_a_backward_head_the_backward_policy_is_uniform():
    network = MLPPolicy(TINY.num_actions, TINY.num_undos, (8,), backward=False)
    states = TINY.all_states()
    params = network.init(jax.random.key(0), TINY.features(states))
    found = policy.log_probs(TINY, network.apply(params, TINY.features(states)), states)
    undoable = np.asarray(TINY.backward_mask(states))
    expected = -np.log(np.maximum(undoable.sum(-1, keepdims=True), 1))
    np.testing.assert_allclose(np.where(undoable, found.undo, 0), np.where(undoable, expected, 0), atol=1e-6)


def test_losses_of_partial_rewards_refuse_states_that_cannot_stop():
    with pytest.raises(ValueError, match="cannot stop"):
        make_trainer(BITS, loss="fl_subtb")


def _numbers_made(jaxpr):
    """How many numbers a traced program makes: the bodies of loops as often as they run."""
    total = 0
    for equation in jaxpr.eqns:
        inner = equation.params.get("jaxpr")
        if inner is None:
            total += sum(math.prod(out.aval.shape) for out in equation.outvars)
        else:
            total += equation.params.get("length", 1) * _numbers_made(getattr(inner, "jaxpr", inner))
    return total


def test_subtb_takes_work_linear_in_the_length():
    def work(steps):
        a, present = jnp.zeros((16, steps)), jnp.ones((16, steps), bool)
        return _numbers_made(jax.make_jaxpr(jax.grad(lambda a: losses.subtb(a, present)[0]))(a).jaxpr)

    # all pairs of states would make 16 times as many; a body that writes into whole arrays likewise
    assert work(512) / work(128) == pytest.approx(4, rel=0.05)
    assert work(128) > 16 * 128
