"""Plans in tables: numbers and labels do not depend on the buffer, and each labelled edge pairs with its inverse."""

import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "gflownet"))
import tabled  # noqa: E402

from hjepa_gfn.evaluation.exact_losses import Sampling, visit  # noqa: E402
from hjepa_gfn.evaluation.exact_network import undo_sites  # noqa: E402
from hjepa_gfn.evaluation.plan_tables import tree_number  # noqa: E402
from hjepa_gfn.plans import apply_backward, backward_mask  # noqa: E402
from hjepa_gfn.plans.enumeration import canonical_keys  # noqa: E402


def test_trees_are_numbered_as_enumerated_whatever_their_buffer():
    env = tabled.family()
    found = tree_number(env.spec, env.tables, jax.tree.map(jnp.asarray, env.graph.plans))
    np.testing.assert_array_equal(found, np.arange(len(found)))
    # walks leave free slots anywhere: names of trees against their numbers
    seen = jax.jit(lambda p, k: visit(env, p, k, Sampling(rows=20, epsilon=0.5)))(tabled.random_params(env), jax.random.key(0))
    plans = jax.tree.map(lambda x: np.asarray(x).reshape(-1, *x.shape[2:]), seen.states.plan)
    number = {name: i for i, name in enumerate(canonical_keys(env.graph.plans))}
    expected = [number[name] for name in canonical_keys(plans)]
    np.testing.assert_array_equal(jax.jit(lambda p: tree_number(env.spec, env.tables, p))(plans), expected)
    order = np.argsort(np.where(plans.valid, plans.position, 99), axis=1)
    assert (order[:, :2] != np.arange(2)).any(), "some buffers should be out of reading order"


def test_every_labelled_edge_has_one_place_in_both_tables():
    env = tabled.family()
    edges = len(env.graph.parent)
    for table in (env.tables.edge, env.tables.undo):
        labels = np.sort(table[table < edges])
        np.testing.assert_array_equal(labels, np.arange(edges))
    sites = undo_sites(env.graph, env.tables, env.spec.num_scales)
    children = jax.tree.map(lambda x: jnp.asarray(x[env.graph.child]), env.graph.plans)
    legal = np.asarray(backward_mask(children, env.spec))
    assert legal[np.arange(edges), sites].all()
    smaller, _, _ = jax.jit(lambda p, s: apply_backward(p, s, env.spec))(children, jnp.asarray(sites))
    np.testing.assert_array_equal(tree_number(env.spec, env.tables, smaller), env.graph.parent)


def test_the_network_reads_the_tables_edge_by_edge():
    """Log probabilities along walks, from the flat policy, against the float64 tables by label."""
    env, params = tabled.family(), tabled.random_params(tabled.family(), 3)
    seen = jax.jit(lambda p, k: visit(env, p, k, Sampling(rows=20, epsilon=0.5)))(params, jax.random.key(1))
    log_pf, log_pb, log_stop = env.edge_log_probs(params)
    number = np.asarray(tree_number(env.spec, env.tables, seen.states.plan))
    ways = {}
    for e, pair in enumerate(zip(env.graph.parent.tolist(), env.graph.child.tolist())):
        ways.setdefault(pair, []).append(e)
    path, parallel = jax.tree.map(np.asarray, seen.path), 0
    for b, n in enumerate(path.length):
        c = b % env.contexts
        np.testing.assert_allclose(path.log_stop[b, : n + 1], log_stop[c, number[b, : n + 1]], atol=1e-5)
        for t in range(n):
            between = ways[(number[b, t], number[b, t + 1])]
            gaps = [abs(log_pf[c, e] - path.log_pf[b, t]) + abs(log_pb[c, e] - path.log_pb[b, t]) for e in between]
            assert min(gaps) < 1e-4, "P_F and P_B must be those of the same label"
            parallel += len(between) > 1
    assert parallel > 5
