"""What is left of a plan once its first step was taken: the rest begins in the next state."""
import jax.numpy as jnp

from hjepa_gfn.plans.plan import Plan, tree_edits


def coarse_view(plan: Plan) -> Plan:
    """The plan at the coarsest scale: every sub-plan collapsed. Any leading axes. A prefix of some trajectory to `plan`."""
    keep = plan.valid & ((plan.tag == 0) | (plan.position == 0))
    finer = jnp.arange(plan.action.shape[-1]) > 0
    earlier = keep[..., None, :] & (plan.position[..., None, :] < plan.position[..., :, None])
    coarse = Plan(
        code=jnp.where(keep, plan.code, 0), tag=jnp.where(keep, plan.tag, 0),
        position=jnp.where(keep, earlier.sum(-1), 0).astype(jnp.int32), valid=keep,
        action=jnp.where(keep[..., None] & ~finer, plan.action, 0), expanded=jnp.zeros_like(plan.expanded),
        num_edits=plan.num_edits)
    return coarse._replace(num_edits=tree_edits(coarse))


def advance(plan: Plan) -> Plan:
    """The rest of a plan [...] after its first finest step: the next state in reading order takes the place of s_0.

    Inside a leg the rest of the leg stays spelled out; its macro-action stood for the whole leg and is dropped. A plan without
    interior states leaves nothing: the root. The next state's code is dropped, as s_0 is what is really perceived.
    """
    following = plan.valid & (plan.position == 1)
    some = following.any(-1)
    pick = lambda x: jnp.sum(jnp.where(following.reshape(following.shape + (1,) * (x.ndim - following.ndim)), x, 0),  # noqa: E731
                             axis=following.ndim - 1)
    inside = (pick(plan.tag) > 0)[..., None]  # how coarse the new s_0 is: its own leg goes on
    scale = jnp.arange(plan.action.shape[-1])
    own = scale >= pick(plan.tag)[..., None]
    action = jnp.where(own & some[..., None], pick(plan.action), 0)
    # coarser edges from s_0 on stay expanded over what is left of them
    expanded = jnp.where(own, pick(plan.expanded.astype(jnp.int32)) > 0, inside & plan.expanded[..., 0, :]) & some[..., None]
    first = jnp.arange(plan.valid.shape[-1]) == 0
    keep = plan.valid & (first | (plan.position > 1)) & (first | some[..., None])
    rest = Plan(
        code=jnp.where(keep & ~first, plan.code, 0), tag=jnp.where(keep & ~first, plan.tag, 0),
        position=jnp.where(keep & ~first, plan.position - 1, 0), valid=keep,
        action=jnp.where(keep[..., None], jnp.where(first[:, None], action[..., None, :], plan.action), 0),
        expanded=keep[..., None] & jnp.where(first[:, None], expanded[..., None, :], plan.expanded),
        num_edits=plan.num_edits)
    return rest._replace(num_edits=tree_edits(rest))
