"""The back-and-forth move on plans: its bookkeeping of paths, and that it leaves rewards over their sum as they are."""

import functools
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))
import tiny  # noqa: E402

from hjepa_gfn.gflownet.exact import normalise  # noqa: E402
from hjepa_gfn.models.agent_network import AgentNetwork  # noqa: E402
from hjepa_gfn.objectives.moves import _evaluate_both, back_and_forth  # noqa: E402
from hjepa_gfn.objectives.policies import log_prob_of_path, sample_paths  # noqa: E402
from hjepa_gfn.objectives.system import System  # noqa: E402
from hjepa_gfn.plans import PlanSpec, root_plan  # noqa: E402
from hjepa_gfn.plans.enumeration import canonical_keys, enumerate_plans  # noqa: E402

SYSTEM = tiny.system()


def test_two_paths_evaluated_side_by_side_do_not_depend_on_their_order():
    rows, readers, p = 10, 4, tiny.params()
    context, text = tiny.context(rows), tiny.words(readers, tiny.TEXT)
    sample = jax.jit(lambda key, plan, steps: sample_paths(
        SYSTEM, p, key, plan, jnp.zeros(rows, bool), context, text, steps))
    both = jax.jit(lambda one, two: _evaluate_both(SYSTEM, p, one, two, context, text))
    paths = []
    for seed in range(2):
        plan = tiny.random_plans(SYSTEM.spec, jax.random.key(seed), rows)
        paths.append(sample(jax.random.key(seed + 5), plan, plan.num_edits * (1 + seed) // 2))
    for path, joint, alone in zip(paths, both(*paths), both(*paths[::-1])[::-1]):
        assert path.length.max() > 3 and len(set(path.length.tolist())) > 2
        for name in ("forward", "backward", "features"):
            np.testing.assert_allclose(getattr(joint, name), getattr(alone, name), atol=1e-4, err_msg=name)
        real = np.asarray(path.edge)
        for name in ("forward", "backward"):
            value = np.asarray(getattr(joint, name))
            assert (value[real] <= 0).all() and value[real].min() > -100 and not value[~real].any()
        np.testing.assert_allclose(log_prob_of_path(joint, path), log_prob_of_path(alone, path), atol=1e-4)


# --- stationarity ---------------------------------------------------------------------------------------------------

CHAINS, MOVES = 3000, 6
SPEC = PlanSpec((2, 1), (1, 2), capacity=3, max_edits=3)


@functools.cache
def small():
    """(system over a family of few plans, its parameters, the enumerated plans)."""
    system = System(SPEC, AgentNetwork(SPEC, SYSTEM.network.sizes), SYSTEM.jepa, 1, 1)
    state = jnp.zeros((1, tiny.MODEL["state"]))
    plans = enumerate_plans(SPEC).plans
    inputs = tiny.percepts(1), state, tiny.words(1, tiny.MISSION), root_plan(SPEC, (1, 1)), tiny.words(1, tiny.TEXT)
    made = tiny.drawn(lambda: system.network.init(jax.random.key(0), *inputs)["params"])
    return system, {"all": made}, plans


def log_reward(plan):
    """A reward that has nothing to do with the policies: [...] of plans [...]."""
    weight = jnp.arange(1.0, 1.0 + SPEC.num_scales)
    held = jnp.sum((plan.action % 3) * weight, (-1, -2))
    stated = jnp.sum(jnp.where(plan.valid, (plan.code + 1) * (plan.tag + 1) * (plan.position > 0), 0), -1)
    return 0.9 * jnp.cos(1.7 * held + stated) - 0.4 * jnp.sum(plan.expanded, (-1, -2)) + 0.2 * plan.num_edits


def test_rewards_over_their_sum_are_stationary_and_other_starts_drift_towards_them():
    """Chains that start in exact samples are, after a move, still distributed so over all plans."""
    system, params, plans = small()
    tokens, mask = (jnp.repeat(x, CHAINS, axis=0) for x in tiny.context(1))
    context = type(tiny.context(1))(tokens, mask)
    text = jnp.repeat(tiny.words(1, tiny.TEXT), CHAINS // 2, axis=0)  # half of the chains move by the posterior
    move = jax.jit(lambda key, plan: back_and_forth(system, params, key, plan, context, log_reward, text))
    log_p, _ = normalise(log_reward(jax.tree.map(jnp.asarray, plans)))
    p, size = np.exp(log_p), len(log_p)
    number = {name: i for i, name in enumerate(canonical_keys(plans))}
    rng = np.random.default_rng(0)

    def after(start, seed):
        begin = jax.tree.map(lambda x: jnp.asarray(x[start]), plans)
        kept, accepted, rewards = move(jax.random.key(seed), begin)
        where = np.array([number[name] for name in canonical_keys(kept)])
        np.testing.assert_allclose(rewards[:, 0], log_reward(begin), atol=1e-5)
        accepted = np.asarray(accepted)
        np.testing.assert_allclose(rewards[accepted, 1], log_reward(kept)[accepted], atol=1e-5)
        assert (where[~accepted] == start[~accepted]).all() and 0.05 < accepted.mean() < 0.95
        return where, np.bincount(where, minlength=size)

    grade = np.asarray(plans.num_edits)

    def far(counts, law):
        """Pearson's statistic in deviations from its mean."""
        return (np.sum((counts - CHAINS * law) ** 2 / (CHAINS * law)) - len(law) + 1) / np.sqrt(2 * len(law) - 2)

    start = where = rng.choice(size, CHAINS, p=p)
    for seed in range(MOVES):
        where, counts = after(where, seed)
    assert (where != start).mean() > 0.3, "the chains should move"
    assert far(counts, p) < 5
    # fewer cells, sharper: the number of edits, which a wrong q(K|z) favours
    assert far(np.bincount(grade, counts), np.bincount(grade, p)) < 5
    even = rng.choice(size, CHAINS)
    _, drifted = after(even, 100)
    assert far(drifted, p) < 0.8 * far(np.bincount(even, minlength=size), p)
