"""Plans built from left to right only: the policies narrowed to edits that append, for comparison with edits anywhere.

Of every plan but the root exactly one undo is left, the last in reading order (of equal places the finer edge; of one edge
expansion, then action, then state); and of a plan's forward edits those that this undo takes back. What is left of the graph of
edits is a tree: a plan is built as a sequence is, and going K edits back means to forget the end of the plan.
"""
import jax
import jax.numpy as jnp

from hjepa_gfn.models.agent_network import EditLogits
from hjepa_gfn.models.layers import NEG
from hjepa_gfn.objectives.policies import Narrow
from hjepa_gfn.plans import Plan, PlanSpec, apply_forward, backward_mask, forward_mask


def last_undo(plan: Plan, spec: PlanSpec) -> jnp.ndarray:
    """int32 [...]: the legal undo that comes last in reading order; of the root, where none is legal, 0."""
    place = jnp.broadcast_to(plan.position[..., None], (*plan.position.shape, 3 * spec.num_scales))
    place = place.reshape(*plan.batch_shape, spec.num_sites) * 3 * spec.num_scales
    order = place + jnp.arange(spec.num_sites) % (3 * spec.num_scales)
    return jnp.argmax(jnp.where(backward_mask(plan, spec), order, -1), axis=-1).astype(jnp.int32)


def appends(plan: Plan, spec: PlanSpec) -> jnp.ndarray:
    """bool [..., num_sites]: the legal forward edits that `last_undo` would take back (whatever their code)."""
    every = jnp.broadcast_to(jnp.arange(spec.num_sites), (*plan.batch_shape, spec.num_sites))
    lay = lambda x: jnp.broadcast_to(  # noqa: E731
        jnp.expand_dims(x, len(plan.batch_shape)),
        (*plan.batch_shape, spec.num_sites, *x.shape[len(plan.batch_shape):]))
    after, undo = apply_forward(jax.tree.map(lay, plan), every, jnp.zeros_like(every), spec)
    return forward_mask(plan, spec) & (last_undo(after, spec) == undo)


def appending(spec: PlanSpec) -> Narrow:
    """The `Narrow` of `objectives.policies`: P_F over the edits that append, normalised again, and a P_B with no choice.

    Where the policy could go on but no edit appends, it stops.
    """
    def narrow(plan: Plan, logits: EditLogits) -> EditLogits:
        may = appends(plan, spec)
        goes, undo = may.any(-1), last_undo(plan, spec)
        only = (jnp.arange(spec.num_sites) == undo[..., None]) & backward_mask(plan, spec)
        return EditLogits(
            jnp.where(goes, logits.log_stop, 0.0), jnp.where(goes, logits.log_go, NEG),
            jax.nn.log_softmax(jnp.where(may, logits.log_site, NEG)), jnp.where(only, 0.0, NEG))

    return narrow
