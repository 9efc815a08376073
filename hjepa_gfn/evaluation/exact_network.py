"""The agent's real network on every plan of an enumerable family: its policies in float64, the sampler's stationary error."""
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from hjepa_gfn.evaluation.plan_tables import Tables
from hjepa_gfn.gflownet.exact_moves import every_path, stationary_error, transition_matrix
from hjepa_gfn.gflownet.schedules import Fixed, Geometric, Halving, Schedule, Uniform
from hjepa_gfn.models.agent_network import AgentNetwork, Context, NetworkSizes
from hjepa_gfn.objectives.policies import vocabulary_index
from hjepa_gfn.plans import EXPAND, PlanSpec, root_plan, site_index
from hjepa_gfn.plans.enumeration import PlanGraph

SIZES = NetworkSizes(
    width=16, heads=2, mlp=16, layers=2, context_layers=1, queries=2, text_vocab=8, text_length=6, num_actions=3)
SCHEDULES: dict[str, tuple[Schedule, int]] = {  # with the number of the move
    "uniform": (Uniform(), 0), "geometric 0.5": (Geometric(0.5), 0), "fixed 2": (Fixed(2), 0),
    "halving, move 0": (Halving(0.1), 0), "halving, move 1": (Halving(0.1), 1)}


class GraphPolicy(NamedTuple):
    """Normalised float64 policies on an enumerated graph."""

    log_pf: np.ndarray    # [contexts, E]
    log_pb: np.ndarray    # [contexts, E]
    log_stop: np.ndarray  # [contexts, Z]


def undo_sites(graph: PlanGraph, tables: Tables, num_scales: int) -> np.ndarray:
    """The backward site int32 [E] of each labelled edge in the buffer of `graph.plans[child]`."""
    child, place, scale, kind = np.nonzero(tables.undo < len(graph.parent))
    edge = tables.undo[child, place, scale, kind]
    placed = np.where(graph.plans.valid, graph.plans.position, -1)
    token = np.argmax(placed[child] == place[:, None], axis=1)
    sites = np.empty(len(graph.parent), np.int32)
    sites[edge] = site_index(token, scale, kind, num_scales)
    return sites


def random_network(spec: PlanSpec, contexts: int, seed: int) -> tuple[AgentNetwork, Any, Context, jnp.ndarray]:
    """(network, parameters of which none is zero, random context tokens [contexts], random texts [contexts])."""
    network = AgentNetwork(spec, SIZES)
    one = jnp.zeros(1, jnp.int32)
    shapes = jax.eval_shape(lambda: network.init(
        jax.random.key(0), {"view": jnp.zeros((1, 7, 7, 3), jnp.uint8), "direction": one}, jnp.zeros((1, 4)),
        jnp.ones((1, 4), jnp.int32), root_plan(spec, (1, 1)), jnp.ones((1, SIZES.text_length), jnp.int32))["params"])
    rng = np.random.default_rng(seed)

    def draw(leaf):
        fan_in = leaf.shape[-2] if len(leaf.shape) > 1 else 1
        return jnp.asarray(rng.normal(size=leaf.shape) * 1.5 / np.sqrt(fan_in), leaf.dtype)

    params = jax.tree.map(draw, shapes)
    tokens = jnp.asarray(rng.normal(size=(contexts, 6, SIZES.width)), jnp.float32)
    text = jnp.asarray(rng.integers(3, SIZES.text_vocab, (contexts, SIZES.text_length)), jnp.int32)
    return network, params, Context(tokens, jnp.ones(tokens.shape[:2], bool)), text


def network_policy(
    network: AgentNetwork, params: Any, context: Context, text: jnp.ndarray | None, graph: PlanGraph, tables: Tables
) -> GraphPolicy:
    """The prior policy (text None) or the posterior on all plans of a graph, normalised anew in float64."""
    contexts, spec = context.tokens.shape[0], network.spec
    parent, site = graph.parent, graph.site
    plans = jax.tree.map(lambda x: jnp.broadcast_to(x, (contexts, *x.shape)), graph.plans)
    sites = jnp.broadcast_to(site, (contexts, len(site)))
    readers = 0 if text is None else contexts

    @jax.jit
    def run(params, plans, context, text):
        net = lambda *args, method: network.apply({"params": params}, *args, method=method)  # noqa: E731
        features = net(plans, context, text, method="features")
        code = net(features[:, parent], sites, readers, method="codes")
        return net(features, plans, readers, method="edits"), code

    logits, code = jax.tree.map(lambda x: np.asarray(x, np.float64), run(params, plans, context, text))
    coded = code[:, np.arange(len(site)), np.asarray(vocabulary_index(spec, site, graph.code))]
    ahead = logits.log_go[:, parent] + logits.log_site[:, parent, site] + np.where(site % 3 == EXPAND, 0.0, coded)
    back = logits.log_back[:, graph.child, undo_sites(graph, tables, spec.num_scales)]
    out, into = logits.log_stop.copy(), np.full(logits.log_stop.shape, -np.inf)
    for e in range(len(parent)):
        out[:, parent[e]] = np.logaddexp(out[:, parent[e]], ahead[:, e])
        into[:, graph.child[e]] = np.logaddexp(into[:, graph.child[e]], back[:, e])
    # what single precision leaves: more would mean that edges are missing or labelled wrongly
    if not (np.abs(out).max() < 1e-4 and np.abs(into[:, 1:]).max() < 1e-4):
        raise AssertionError(f"policies do not sum to one over the graph: {np.abs(out).max()}, {np.abs(into[:, 1:]).max()}")
    return GraphPolicy(ahead - out[:, parent], back - into[:, graph.child], logits.log_stop - out)


def stationary_errors(
    spec: PlanSpec, graph: PlanGraph, tables: Tables, log_rewards: np.ndarray, seed: int = 0
) -> dict[str, float]:
    """max |pi T - pi| of each schedule, the worst over contexts, for prior and posterior of a random network.

    log_rewards [contexts, Z]; every second context is the posterior's.
    """
    log_rewards = np.asarray(log_rewards, np.float64)
    network, params, context, text = random_network(spec, len(log_rewards), seed)
    policies = [network_policy(network, params, context, words, graph, tables) for words in (None, text)]
    worst = dict.fromkeys(SCHEDULES, 0.0)
    for c, log_r in enumerate(log_rewards):
        policy = jax.tree.map(lambda x, c=c: x[c], policies[c % 2])
        paths = every_path(graph.parent, graph.child, *policy)
        for name, (schedule, step) in SCHEDULES.items():
            matrix, unnormalised = transition_matrix(paths, graph.plans.num_edits, log_r, schedule, step)
            worst[name] = max(worst[name], stationary_error(matrix, log_r), unnormalised)
    return worst
