"""Every loss on all plans of a small family: no residual at exact flows, a pull elsewhere, and mistakes no loss can see."""

import functools
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))
import tabled  # noqa: E402

from hjepa_gfn.evaluation import exact_losses  # noqa: E402
from hjepa_gfn.gflownet import exact, losses  # noqa: E402
from hjepa_gfn.gflownet.decomposition import decomposition_loss  # noqa: E402

OPTIONS = exact_losses.Sampling(rows=24, epsilon=0.3)


@functools.cache
def visits():
    """{policies: trajectories of them, evaluated}: balanced, random, and balanced with P_B over unique parents."""
    env = tabled.family()
    params = tabled.random_params(env)
    sample = jax.jit(lambda p: exact_losses.visit(env, p, jax.random.key(5), OPTIONS))
    log_pb = tabled.unique_parents(env.graph)
    undo = jnp.asarray(np.broadcast_to(np.append(log_pb, 0.0), params.undo.shape), jnp.float32)
    wrong = tabled.balanced(env, params._replace(undo=undo), log_pb)
    return {"balanced": (tabled.balanced(env, params), sample(tabled.balanced(env, params))),
            "random": (params, sample(params)), "unique parents": (wrong, sample(wrong))}


def suited(name, env, seen):
    """The flow head of a balanced policy as each loss reads it: F, F~ = F / R, or F over the learned reward."""
    if name.startswith("FL"):
        return seen._replace(path=seen.path._replace(log_flow=seen.path.log_flow - seen.log_reward))
    if name.startswith("LED"):
        learned = seen.potential - seen.potential[:, :1]
        return seen._replace(path=seen.path._replace(log_flow=seen.path.log_flow - learned))
    return seen


def value_and_gradient(name, env, seen):
    """The loss, and its gradient to the log probabilities of the forward policy."""
    def loss(log_pf, log_stop):
        path = seen.path._replace(log_pf=log_pf, log_stop=log_stop)
        options = OPTIONS._replace(keep=1.0)
        total = exact_losses.OF_TRAJECTORIES[name](env, seen._replace(path=path), jax.random.key(0), options)
        if name.startswith("LED"):  # less what is not balance: the fit of the learned reward
            total -= fit(seen)
        return total

    return jax.jit(jax.value_and_grad(loss, (0, 1)))(seen.path.log_pf, seen.path.log_stop)


def fit(seen):
    phi = jnp.diff(seen.potential, axis=-1)
    return decomposition_loss(jax.random.key(0), phi, seen.path.length, seen.log_reward_end, 1.0)[0]


@pytest.mark.parametrize("name", exact_losses.OF_TRAJECTORIES)
def test_every_loss_is_zero_at_exact_flows_and_pulls_elsewhere(name):
    env = tabled.family()
    seen = suited(name, env, visits()["balanced"][1])
    loss, grads = value_and_gradient(name, env, seen)
    assert 0 <= loss + 1e-6 < 1e-5 and max(np.abs(g).max() for g in grads) < 1e-4
    loss, grads = value_and_gradient(name, env, visits()["random"][1])
    assert loss > 0.05 and max(np.abs(g).max() for g in grads) > 1e-4


def total_variation(env, params):
    log_pf, _, log_stop = env.edge_log_probs(params)
    found = exact.terminal_log_probs(env.graph.parent, env.graph.child, log_pf, log_stop)
    return exact.total_variation(found, exact.normalise(np.asarray(env.log_rewards))[0])


def test_mutation_pairing_over_unique_parents_is_wrong_although_the_loss_is_tiny():
    """P_B over *different* parents, paired with labelled edges: balance holds on every trajectory, and P_F is not R/Z."""
    env = tabled.family()
    params, seen = visits()["unique parents"]
    # `evaluate` has normalised over labels; the mistake is not to
    total = np.zeros(len(env.graph.plans.num_edits))
    np.add.at(total, env.graph.child, np.exp(tabled.unique_parents(env.graph)))
    assert total.max() > 1.5, "there must be parallel edges"
    log_total = jnp.log(jnp.asarray(np.broadcast_to(np.maximum(total, 1.0), env.log_rewards.shape), jnp.float32))
    edge = jnp.arange(env.horizon) < seen.path.length[:, None]
    log_pb = jnp.where(edge, seen.path.log_pb + env.value(log_total, seen.states)[:, 1:], 0.0)
    mutated = seen._replace(path=seen.path._replace(log_pb=log_pb))
    for name in ("TB", "DB", "SubTB, stop form"):
        loss = functools.partial(exact_losses.OF_TRAJECTORIES[name], env)
        assert loss(mutated, jax.random.key(0), OPTIONS) < 1e-8
        assert loss(seen, jax.random.key(0), OPTIONS) > 1e-3, "with the right pairing the loss sees it"
    assert total_variation(env, params).min() > 0.05
    assert total_variation(env, visits()["balanced"][0]).max() < 1e-6


def test_mutation_without_the_terminal_node_a_flow_head_balances_with_any_partition_function():
    """log F~ that nothing anchors: stop probabilities of one half and flows to match have no residual; log Z is off by nats."""
    env = tabled.family()
    params, seen = visits()["balanced"]
    graph, log_r = env.graph, np.asarray(env.log_rewards, np.float64)
    back = env.edge_log_probs(params)[1]
    leaf = np.bincount(graph.parent, minlength=log_r.shape[1]) == 0
    flow, through = np.where(leaf, log_r + 3.0, -np.inf), np.zeros(back.shape)  # three nats too much at every leaf
    for e in np.argsort(graph.child, kind="stable")[::-1]:
        child, parent = graph.child[e], graph.parent[e]
        through[:, e] = (flow[:, child] - np.log(0.5) * ~leaf[child]) + back[:, e]  # half of what arrives goes on
        flow[:, parent] = np.logaddexp(flow[:, parent], through[:, e])
    flow -= np.log(0.5) * ~leaf
    action = np.concatenate([through - flow[:, graph.parent], np.zeros((len(flow), 1))], axis=1)
    stop = np.where(leaf, 0.0, np.log(0.5)) + np.zeros(flow.shape)
    params = params._replace(**{k: jnp.asarray(v, jnp.float32) for k, v in (
        ("action", action), ("stop", stop), ("log_flow", flow - log_r))})
    seen = jax.jit(lambda p: exact_losses.visit(env, p, jax.random.key(6), OPTIONS))(params)
    path = seen.path
    a = losses.balance_potential(exact_losses.tilted(seen), path.log_pf, path.log_pb)
    assert losses.subtb(a, losses.is_present(a, path.length))[0] < 1e-8
    assert np.abs(exact_losses.log_partition("FL-SubTB", env, params) - exact_losses.exact_log_partition(env)).min() > 1.0
    assert total_variation(env, params).min() > 0.05
    for name in ("FL-SubTB", "FL-DB"):
        assert exact_losses.OF_TRAJECTORIES[name](env, seen, jax.random.key(0), OPTIONS) > 0.5
