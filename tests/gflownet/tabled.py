"""Plans in tables with the policy that is exactly balanced, for tests of losses, policies and moves."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np

from hjepa_gfn.evaluation.exact_training import random_rewards
from hjepa_gfn.evaluation.plan_tables import tabled_plans
from hjepa_gfn.gflownet.exact import balanced_policy
from hjepa_gfn.plans import PlanSpec

CONTEXTS = 2


@functools.cache
def family(max_edits=3):
    """134 plans (642 with 4 edits), two contexts of random rewards."""
    env = tabled_plans(PlanSpec((2, 2), (2, 2), max_edits + 1, max_edits))
    rewards = random_rewards(1, CONTEXTS, len(env.graph.plans.num_edits))
    return dataclasses.replace(env, log_rewards=jnp.asarray(rewards))


def random_params(env, seed=0):
    return jax.tree.map(jnp.asarray, env.init(jax.random.key(seed)))


def unique_parents(graph):
    """log P_B [E] uniform over the *different* parents of a plan: the wrong pairing."""
    parents = {}
    for a, b in zip(graph.parent.tolist(), graph.child.tolist()):
        parents.setdefault(b, set()).add(a)
    return -np.log([len(parents[b]) for b in graph.child.tolist()])


def balanced(env, params, log_pb=None):
    """`params` with the forward policy and flow that balance its P_B (or `log_pb` [E]) against the rewards."""
    graph, log_r = env.graph, np.asarray(env.log_rewards, np.float64)
    back = env.edge_log_probs(params)[1] if log_pb is None else np.broadcast_to(log_pb, (len(log_r), len(graph.parent)))
    action, stop, flow = balanced_policy(graph.parent, graph.child, back, log_r)
    padded = np.concatenate([action, np.zeros((len(action), 1))], axis=1)
    return params._replace(action=jnp.asarray(padded, jnp.float32), stop=jnp.asarray(stop, jnp.float32),
                           log_flow=jnp.asarray(flow, jnp.float32))
