"""Policies over flat environments: masks, normalisation, tempering, epsilon, and evaluation against one step at a time."""

import functools
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))
import tabled  # noqa: E402

from hjepa_gfn.gflownet import exact  # noqa: E402
from hjepa_gfn.gflownet.environments import BitSequences, Hypergrid  # noqa: E402
from hjepa_gfn.gflownet.policy import Logits, behaviour, evaluate, log_probs, noise_of  # noqa: E402
from hjepa_gfn.gflownet.rollout import Exploration, sample_trajectories  # noqa: E402

GRID, BITS = Hypergrid(dim=2, side=4), BitSequences(num_bits=6, word=2, num_modes=3)


def logits_of(env, with_undo=True):
    """A network (params [F, A + 1 + U + 1]) of random linear logits."""
    width = env.features(env.root(1)).shape[-1]
    params = jnp.asarray(np.random.default_rng(0).normal(size=(width, env.num_actions + env.num_undos + 2)), jnp.float32)

    def network(params, x):
        out, a = x @ params, env.num_actions + 1
        return Logits(out[..., :a], out[..., a:-1] if with_undo else None, out[..., -1] if with_undo else None)

    return network, params


@functools.cache
def walked(env, with_undo=True):
    network, params = logits_of(env, with_undo)
    act = behaviour(env, network, params, Exploration(epsilon=0.3))
    return jax.jit(lambda key: sample_trajectories(env, act, noise_of(env, key, 30), env.root(30)))(jax.random.key(0))


@pytest.mark.parametrize("env", [GRID, BITS], ids=["grid", "bits"])
def test_what_is_legal_sums_to_one_and_what_is_not_has_none(env):
    states = walked(env).states
    network, params = logits_of(env)
    found = log_probs(env, network(params, env.features(states)), states)
    can, stop, back = (np.asarray(x) for x in (env.forward_mask(states), env.stop_mask(states), env.backward_mask(states)))
    action, undo = np.exp(np.asarray(found.action, np.float64)), np.exp(np.asarray(found.undo, np.float64))
    ended = np.exp(np.asarray(found.stop, np.float64))
    assert not action[~can].any() and not ended[~stop].any() and (action[can] > 0).all()
    np.testing.assert_allclose(action.sum(-1) + ended, 1.0, atol=1e-5)
    depth = np.asarray(env.depth(states))
    np.testing.assert_allclose(undo.sum(-1), 1.0, atol=1e-5)
    assert not undo[~back & (depth > 0)[..., None]].any()
    logits = np.asarray(network(params, env.features(states)).action, np.float64)
    legal = np.concatenate([can, stop[..., None]], -1)
    expected = np.where(legal, np.exp(logits), 0)
    expected /= expected.sum(-1, keepdims=True)
    np.testing.assert_allclose(action, expected[..., :-1], atol=1e-5)


def test_no_undo_head_is_the_uniform_backward_policy_and_no_flow_head_is_zero():
    states = walked(GRID, False).states
    network, params = logits_of(GRID, False)
    found = log_probs(GRID, network(params, GRID.features(states)), states)
    back = np.asarray(GRID.backward_mask(states))
    expected = back / np.maximum(back.sum(-1, keepdims=True), 1)
    np.testing.assert_allclose(np.exp(found.undo)[back], expected[back], atol=1e-6)
    assert not np.asarray(found.log_flow).any()


@pytest.mark.parametrize("env", [GRID, BITS], ids=["grid", "bits"])
def test_evaluation_in_one_batch_equals_one_step_at_a_time(env):
    path, (network, params) = walked(env), logits_of(env)
    found = jax.jit(lambda p: evaluate(env, network, p, path))(params)
    rows, steps = path.action.shape
    one = jax.jit(lambda s: log_probs(env, network(params, env.features(s)), s))
    expected = {name: np.zeros((rows, steps + (name in ("log_stop", "log_flow")))) for name in found._fields[:4]}
    for t in range(steps + 1):
        said = one(path.states[:, t])
        expected["log_stop"][:, t], expected["log_flow"][:, t] = said.stop, said.log_flow
        for b in np.flatnonzero(path.length > t):
            expected["log_pf"][b, t] = said.action[b, path.action[b, t]]
        for b in np.flatnonzero((path.length >= t) & (t > 0)):
            expected["log_pb"][b, t - 1] = said.undo[b, path.undo[b, t - 1]]
    for name, value in expected.items():
        np.testing.assert_allclose(getattr(found, name), value, rtol=1e-5, atol=1e-5, err_msg=name)
    np.testing.assert_allclose(found.stop_at_end, expected["log_stop"][np.arange(rows), path.length], rtol=1e-5)
    assert expected["log_pf"][np.asarray(path.edge)].min() > -100, "no illegal edge was taken"


@pytest.mark.parametrize("explore", [Exploration(), Exploration(2.5), Exploration(1.0, 0.4), Exploration(0.5, 0.2)], ids=str)
def test_choices_follow_the_tempered_and_mixed_policy(explore):
    n = 20_000
    network, params = logits_of(GRID)
    state = jnp.tile(jnp.array([[3, 1]]), (n, 1))  # one action, STOP, two undos
    said = log_probs(GRID, network(params, GRID.features(state[:1])), state[:1])
    choice = jax.jit(behaviour(GRID, network, params, explore))(
        jax.random.uniform(jax.random.key(2), (3, n), minval=1e-7), state)
    legal = np.array([False, True, True])
    log_p = np.append(np.asarray(said.action[0]), said.stop[0])
    tempered = np.where(legal, np.exp(log_p / explore.temperature), 0)
    p = (1 - explore.epsilon) * tempered / tempered.sum() + explore.epsilon * legal / 2
    drawn = np.where(choice.stop, 2, choice.action)
    np.testing.assert_allclose(np.bincount(drawn, minlength=3) / n, p, atol=5 * np.sqrt(0.25 / n))
    np.testing.assert_allclose(np.bincount(choice.undo, minlength=2) / n, np.exp(said.undo[0]), atol=5 * np.sqrt(0.25 / n))


def graph_policy(env, params, change_mask=lambda mask: mask):
    """log P_F [contexts, E] and log P_F(STOP) [contexts, Z] of every plan, as `log_probs` gives them."""
    graph, rows = env.graph, len(env.graph.plans.num_edits)
    number, context = jnp.tile(jnp.arange(rows), env.contexts), jnp.repeat(jnp.arange(env.contexts), rows)

    class Changed:
        forward_mask = staticmethod(lambda s: change_mask(env.forward_mask(s)))
        stop_mask, backward_mask = env.stop_mask, env.backward_mask

    run = jax.jit(lambda p, s: log_probs(Changed, env.network(p, env.features(s)), s))
    found = jax.tree.map(lambda x: np.asarray(x, np.float64).reshape(env.contexts, rows, *x.shape[1:]),
                         run(params, env.plans(number, context)))
    action = graph.site * env.codes + graph.code
    return found.action[:, graph.parent, action], found.stop


def distance(env, log_pf, log_stop):
    found = exact.terminal_log_probs(env.graph.parent, env.graph.child, log_pf, log_stop)
    return exact.total_variation(found, exact.normalise(np.asarray(env.log_rewards))[0])


def test_mutation_a_shifted_mask_misses_the_distribution():
    """The balanced policy is exact through the public masks; with the mask one action off it is far away."""
    env = tabled.family()
    params = tabled.balanced(env, tabled.random_params(env))
    assert distance(env, *graph_policy(env, params)).max() < 1e-5
    shifted = graph_policy(env, params, lambda mask: jnp.roll(mask, 1, axis=-1))
    assert distance(env, *shifted).min() > 0.05
