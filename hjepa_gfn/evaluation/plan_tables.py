"""Small families of plan trees as a conditional flat environment, and policies that are tables over them.

With a table no capacity is missing: what training does not reach is the loss's fault. States are real plans, edited by
`PlanEnvironment`; tables are looked up by the number of the tree and the reading order of its tokens, never by the buffer.
"""
import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from hjepa_gfn.gflownet.policy import Logits
from hjepa_gfn.plans import EXPAND, KINDS, Plan, PlanSpec, apply_forward, backward_mask, forward_mask, split_site
from hjepa_gfn.plans.enumeration import PlanGraph, enumerate_plans
from hjepa_gfn.plans.environment import Action, PlanEnvironment

HASH_BITS = 18


class Situated(NamedTuple):
    """A plan in its context; leaves [B, ...]."""

    plan: Plan
    context: jnp.ndarray  # int32 [B]


class Tables(NamedTuple):
    """Where each tree and each labelled edge stands in the enumeration (numpy; N tokens, S scales, C codes)."""

    words: np.ndarray   # uint32 [N, digits] random words of (place in reading order, what stands there)
    number: np.ndarray  # int32 [2^HASH_BITS] tree number by hash
    edge: np.ndarray    # int32 [Z, N, S, 3, C] labelled edge by (tree, place, scale, kind, code); E where there is none
    undo: np.ndarray    # int32 [Z, N, S, 3] the same edge by its inverse in the child


class TableParams(NamedTuple):
    """A tabular policy, flow and potential for each context."""

    action: jnp.ndarray     # [contexts, E + 1] logit of each labelled edge (the last is of none)
    stop: jnp.ndarray       # [contexts, Z]
    undo: jnp.ndarray       # [contexts, E + 1]
    log_flow: jnp.ndarray   # [contexts, Z] log F or log F~
    potential: jnp.ndarray  # [contexts, Z] learned log R of partial plans (decomposition losses)


@dataclasses.dataclass(frozen=True, eq=False)
class TabledPlans:
    """A `FlatEnvironment` over every plan of `spec` in several contexts.

    An action is site * C + code, an undo a backward site; features int32 [B, 2 + N] are (context, tree number, positions).
    """

    spec: PlanSpec
    graph: PlanGraph
    tables: Tables
    log_rewards: jnp.ndarray  # [contexts, Z]

    @property
    def contexts(self) -> int:
        return self.log_rewards.shape[0]

    @property
    def codes(self) -> int:
        return max(self.spec.state_codes + self.spec.action_codes)

    @property
    def horizon(self) -> int:
        return self.spec.max_edits

    @property
    def num_actions(self) -> int:
        return self.spec.num_sites * self.codes

    @property
    def num_undos(self) -> int:
        return self.spec.num_sites

    def root(self, batch: int) -> Situated:
        """Roots of all contexts in turn."""
        return Situated(PlanEnvironment(self.spec).root(batch), jnp.arange(batch, dtype=jnp.int32) % self.contexts)

    def plans(self, number: jnp.ndarray, context: jnp.ndarray) -> Situated:
        """The plans of given numbers int32 [B] in given contexts."""
        return Situated(jax.tree.map(lambda x: jnp.asarray(x)[number], self.graph.plans), context)

    def depth(self, state: Situated) -> jnp.ndarray:
        return state.plan.num_edits

    def forward(self, state: Situated, action: jnp.ndarray) -> tuple[Situated, jnp.ndarray]:
        plan, undo = PlanEnvironment(self.spec).forward(state.plan, Action(action // self.codes, action % self.codes))
        return state._replace(plan=plan), undo

    def backward(self, state: Situated, undo: jnp.ndarray) -> tuple[Situated, jnp.ndarray]:
        plan, action = PlanEnvironment(self.spec).backward(state.plan, undo)
        return state._replace(plan=plan), action.site * self.codes + action.code

    def forward_mask(self, state: Situated) -> jnp.ndarray:
        sites, batch = forward_mask(state.plan, self.spec), state.plan.batch_shape
        return (sites[..., None] & _code_exists(self.spec, self.codes)).reshape(*batch, self.num_actions)

    def stop_mask(self, state: Situated) -> jnp.ndarray:
        return jnp.ones(state.plan.batch_shape, bool)

    def backward_mask(self, state: Situated) -> jnp.ndarray:
        return backward_mask(state.plan, self.spec)

    def features(self, state: Situated) -> jnp.ndarray:
        number = tree_number(self.spec, self.tables, state.plan)
        return jnp.concatenate([jnp.stack([state.context, number], -1), state.plan.position], -1)

    def log_reward(self, state: Situated) -> jnp.ndarray:
        return self.value(self.log_rewards, state)

    def value(self, table: jnp.ndarray, state: Situated) -> jnp.ndarray:
        """Entries [B] of a table [contexts, Z]."""
        return table[state.context, tree_number(self.spec, self.tables, state.plan)]

    def network(self, params: TableParams, features: jnp.ndarray) -> Logits:
        """The tabular policy (a `policy.Network`), in the layout of each plan's own buffer."""
        context, number, position = features[..., 0], features[..., 1], features[..., 2:]

        def place(table):  # from reading order to the buffer's
            index = position.reshape(position.shape + (1,) * (table.ndim - 2))
            return jnp.take_along_axis(jnp.asarray(table)[number], index, position.ndim - 1, mode="clip")

        edge = place(self.tables.edge).reshape(*number.shape, self.num_actions)
        undo = place(self.tables.undo).reshape(*number.shape, self.num_undos)
        action = jnp.concatenate([params.action[context[..., None], edge], params.stop[context, number][..., None]], -1)
        return Logits(action, params.undo[context[..., None], undo], params.log_flow[context, number])

    def init(self, key: jnp.ndarray, scale: float = 0.5) -> TableParams:
        """Random tables."""
        nodes, edges = len(self.graph.plans.num_edits), len(self.graph.parent)
        draw = lambda k, n: scale * jax.random.normal(k, (self.contexts, n))  # noqa: E731
        return TableParams(*(draw(k, n) for k, n in zip(
            jax.random.split(key, 5), (edges + 1, nodes, edges + 1, nodes, nodes), strict=True)))

    def edge_log_probs(self, params: TableParams) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """float64 on the host: log P_F [contexts, E], log P_B [contexts, E], log P_F(STOP) [contexts, Z]."""
        action, stop, undo = (np.asarray(x, np.float64) for x in (params.action, params.stop, params.undo))
        action, undo, parent, child = action[:, :-1], undo[:, :-1], self.graph.parent, self.graph.child
        out, into = stop.copy(), np.full(stop.shape, -np.inf)
        for e in range(len(parent)):
            out[:, parent[e]] = np.logaddexp(out[:, parent[e]], action[:, e])
            into[:, child[e]] = np.logaddexp(into[:, child[e]], undo[:, e])
        return action - out[:, parent], undo - into[:, child], stop - out


def tabled_plans(spec: PlanSpec, log_rewards: jnp.ndarray | None = None) -> TabledPlans:
    """Enumerates the plans of `spec`; log_rewards [contexts, Z] (default: one context of zeros)."""
    graph = enumerate_plans(spec)
    rewards = jnp.zeros((1, len(graph.plans.num_edits))) if log_rewards is None else log_rewards
    return TabledPlans(spec, graph, _make_tables(spec, graph), rewards)


def tree_number(spec: PlanSpec, tables: Tables, plan: Plan) -> jnp.ndarray:
    """Number int32 [...] of each plan in the enumeration: a Zobrist hash of its tokens in reading order, looked up."""
    digit = _digits(spec, plan)
    word = jnp.asarray(tables.words)[plan.position, digit]
    total = jnp.sum(jnp.where(plan.valid, word, 0), axis=-1, dtype=jnp.uint32)
    return jnp.asarray(tables.number)[total % (1 << HASH_BITS)]


def _digits(spec: PlanSpec, plan: Plan) -> jnp.ndarray:
    """What stands at each token, as one number [..., N]: tag, code, and the actions and expansions of its edges."""
    digit = plan.tag * max(spec.state_codes) + plan.code
    for scale in range(spec.num_scales):
        digit = (digit * (max(spec.action_codes) + 1) + plan.action[..., scale]) * 2 + plan.expanded[..., scale]
    return digit


def _make_tables(spec: PlanSpec, graph: PlanGraph) -> Tables:
    nodes, edges = len(graph.plans.num_edits), len(graph.parent)
    digits = spec.num_scales * max(spec.state_codes) * (2 * (max(spec.action_codes) + 1)) ** spec.num_scales
    digit = np.asarray(_digits(spec, graph.plans))
    for seed in range(1000):  # the first words under which no two trees collide
        words = np.random.default_rng(seed).integers(0, 1 << 32, (spec.capacity, digits), np.uint32)
        named = np.where(graph.plans.valid, words[graph.plans.position, digit], 0).sum(-1, dtype=np.uint32) % (1 << HASH_BITS)
        if len(set(named.tolist())) == nodes:
            break
    else:
        raise ValueError(f"{nodes} trees are too many for a table of 2^{HASH_BITS}")
    number = np.zeros(1 << HASH_BITS, np.int32)
    number[named] = np.arange(nodes)
    children, undo_site = jax.jit(apply_forward, static_argnums=3)(
        jax.tree.map(lambda x: jnp.asarray(x[graph.parent]), graph.plans), graph.site, graph.code, spec)
    # an edge's inverse is labelled in the buffer that the edit leads to; reading order is the same in all buffers
    shape = (nodes, spec.capacity, spec.num_scales, len(KINDS))
    codes = max(spec.state_codes + spec.action_codes)
    edge, undo = np.full((*shape, codes), edges, np.int32), np.full(shape, edges, np.int32)
    every = np.arange(edges)
    token, scale, kind = split_site(graph.site, spec.num_scales)
    edge[graph.parent, graph.plans.position[graph.parent, token], scale, kind, graph.code] = every
    token, scale, kind = split_site(np.asarray(undo_site), spec.num_scales)
    undo[graph.child, np.asarray(children.position)[every, token], scale, kind] = every
    return Tables(words, number, edge, undo)


def _code_exists(spec: PlanSpec, codes: int) -> np.ndarray:
    """bool [sites, codes]: which codes a forward site may have (EXPAND: only 0)."""
    _, scale, kind = split_site(np.arange(spec.num_sites), spec.num_scales)
    sizes = np.array([spec.state_codes, spec.action_codes, (1,) * spec.num_scales])[np.minimum(kind, EXPAND), scale]
    return np.arange(codes) < sizes[:, None]
