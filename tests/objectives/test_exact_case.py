"""The exact small case: every plan of a tiny vocabulary enumerated, and the policies that the E-step trains compared with
the exact prior e^-E/Z(c) and posterior e^-E p(x|z,c)/Z(x,c), per context. Policies, energy and explainer share one encoder; the
rewards are read through its copy `target` (see `model_view`), which no E-step moves.
"""
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from ml_collections import ConfigDict

from hjepa_gfn.distributed import unbox
from hjepa_gfn.gflownet.exact import normalise, terminal_log_probs, total_variation
from hjepa_gfn.models.agent_network import AgentNetwork, NetworkSizes
from hjepa_gfn.models.jepa import Jepa, JepaSizes, LevelSizes
from hjepa_gfn.objectives import em
from hjepa_gfn.objectives.cases import Case, encode_context
from hjepa_gfn.objectives.energy import energy_of, text_log_prob
from hjepa_gfn.objectives.policies import roots, vocabulary_index
from hjepa_gfn.objectives.system import System, init_params, model_view
from hjepa_gfn.objectives.windows import encode_start
from hjepa_gfn.plans import EXPAND, PlanSpec
from hjepa_gfn.plans.enumeration import enumerate_plans

SPEC = PlanSpec(state_codes=(3, 3), action_codes=(3, 2), capacity=4, max_edits=3)
CONTEXTS, REPEATS, STEPS, WORDS = 3, 16, 3000, 6


def tiny_system() -> System:
    subgoals = LevelSizes(code=(3,), action=(3,), longest=4)
    jepa = JepaSizes(state=8, hidden=16, num_actions=2, step_levels=(3,), levels=(subgoals,))
    sizes = NetworkSizes(width=32, heads=2, mlp=32, layers=1, context_layers=1, queries=2, text_vocab=8, text_length=WORDS,
                         num_actions=2)
    return System(SPEC, AgentNetwork(SPEC, sizes), Jepa(jepa), 2, 2)


def situations(system, params) -> tuple[Case, jnp.ndarray]:
    """Three random contexts with a random text each."""
    rng = np.random.default_rng(0)
    percept = {"view": jnp.asarray(rng.integers(0, 4, (CONTEXTS, 7, 7, 3)), jnp.uint8), "direction": jnp.arange(CONTEXTS)}
    mission = jnp.asarray(rng.integers(3, 8, (CONTEXTS, 4)), jnp.int32)
    text = jnp.asarray(np.concatenate([np.ones((CONTEXTS, 1)), rng.integers(3, 8, (CONTEXTS, WORDS - 2)),
                                       np.full((CONTEXTS, 1), 2)], 1), jnp.int32)
    start = encode_start(system, params, percept)
    return Case(percept, start, mission, roots(system, CONTEXTS), jnp.zeros(CONTEXTS, bool)), text


def spread_rewards(params):
    """Larger random weights in the model: rewards that differ by nats from plan to plan, and from context to context."""
    grown = {name: jax.tree.map(lambda x, f=factor: f * x, params[name]) for name, factor in (("target", 1.7), ("model", 2.0))}
    return {**params, **grown}


def exact_and_learned(system, params, case, text, graph):
    """Log rewards [C, Z] of prior and posterior, and per policy the edges' log P_F [C, E] and log P_F(STOP) [C, Z]."""
    plans = jax.tree.map(lambda x: jnp.broadcast_to(x, (CONTEXTS, *x.shape)), graph.plans)
    model = model_view(params)
    context, ground = encode_context(system, model, case)
    energy = energy_of(system, model, plans, context, ground)
    told = text_log_prob(system, model, plans, context, text)
    context, _ = encode_context(system, params, case)
    policies = []
    for words, readers in ((None, 0), (text, CONTEXTS)):
        features = system.net(params, plans, context, words, method="features")
        logits = system.net(params, features, plans, readers, method="edits")
        site = jnp.broadcast_to(graph.site, (CONTEXTS, len(graph.site)))
        code = system.net(params, features[:, graph.parent], site, readers, method="codes")
        coded = code[:, np.arange(len(graph.site)), vocabulary_index(SPEC, graph.site, graph.code)]
        edge = logits.log_go[:, graph.parent] + logits.log_site[:, graph.parent, graph.site]
        policies.append((edge + jnp.where(graph.site % 3 == EXPAND, 0.0, coded), logits.log_stop))
    return (-energy, told - energy), policies


@pytest.fixture(scope="module")
def trained():
    system, options = tiny_system(), ConfigDict(dict(
        flow="stop", subtb_lambda=0.9, window=0, temperature=1.0, epsilon=0.1, posterior_subtb=1.0, prior_subtb=1.0,
        prior_nll=0.0, posterior_nll=0.0))
    params = unbox(init_params(system, jax.random.key(1), 4))
    params = spread_rewards(params)
    graph = enumerate_plans(SPEC)
    case, text = situations(system, params)
    rows = np.tile(np.arange(CONTEXTS), REPEATS)
    wide, texts = jax.tree.map(lambda x: x[rows], (case, text))
    tx = optax.chain(optax.clip_by_global_norm(5.0), optax.adam(optax.cosine_decay_schedule(5e-3, STEPS, 0.01)))
    groups = ("encoder", "policy")

    # the one long computation of the suite: compiled with the optimisations that the other tests do without
    @functools.partial(jax.jit, compiler_options={
        "xla_backend_optimization_level": 3, "xla_llvm_disable_expensive_passes": False})
    def train(params, state, key):
        def step(carry, key):
            params, state = carry

            def loss_fn(moving):
                return em.e_step({**params, **moving}, key, wide, texts, wide, system, options)[0]

            grads = jax.grad(loss_fn)({g: params[g] for g in groups})
            updates, state = tx.update(grads, state)
            moved = optax.apply_updates({g: params[g] for g in groups}, updates)
            return ({**params, **moved}, state), None

        return jax.lax.scan(step, (params, state), jax.random.split(key, STEPS))[0]

    before = exact_and_learned(system, params, case, text, graph)
    params, _ = train(params, tx.init({g: params[g] for g in groups}), jax.random.key(2))
    return graph, before, exact_and_learned(system, params, case, text, graph)


def distances(graph, found):
    """Total variation and error of log Z, [policy][context]."""
    rewards, policies = found
    rows = []
    for log_r, (edge, log_stop) in zip(rewards, policies, strict=True):
        for c in range(CONTEXTS):
            exact, log_z = normalise(np.asarray(log_r[c]))
            learned = terminal_log_probs(graph.parent, graph.child, edge[c], log_stop[c])
            assert np.exp(learned).sum() == pytest.approx(1.0, abs=1e-4), "a policy is a distribution over all plans"
            estimate = float(log_r[c, 0] - log_stop[c, 0])
            rows.append((total_variation(exact, learned), abs(estimate - log_z)))
    return np.array(rows).reshape(2, CONTEXTS, 2)


def test_policies_reach_the_exact_distributions(trained):
    graph, before, after = trained
    start, end = distances(graph, before), distances(graph, after)
    print("\n(total variation, log Z error) of [prior, posterior] x contexts, before and after\n", start, end)
    assert start[..., 0].min() > 0.2, "the case must be one that has to be learned"
    assert end[..., 0].max() <= 0.05
    assert end[..., 1].max() <= 0.05


def test_contexts_and_texts_differ(trained):
    """Guards the test itself: one distribution for all contexts, or a posterior equal to the prior, would not pass."""
    _, _, (rewards, _) = trained
    exact = [[normalise(np.asarray(log_r[c]))[0] for c in range(CONTEXTS)] for log_r in rewards]
    assert total_variation(exact[0][0], exact[0][1]) > 0.1
    assert min(total_variation(exact[0][c], exact[1][c]) for c in range(CONTEXTS)) > 0.1
