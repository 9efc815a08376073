"""Ranking of plans by energy: what was executed below what was only drafted, and whole plans below partial ones."""
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np

from hjepa_gfn.objectives.cases import Case, at_time, encode_context, roots_of, stack, take
from hjepa_gfn.objectives.em import mean_where
from hjepa_gfn.objectives.energy import energy_of
from hjepa_gfn.objectives.policies import sample_plans, undo_at_random
from hjepa_gfn.objectives.system import Params, System, sampler_view

stop = jax.lax.stop_gradient
Metrics = dict[str, jnp.ndarray]


def all_pairs(
    lower: jnp.ndarray, higher: jnp.ndarray, lower_known: jnp.ndarray, higher_known: jnp.ndarray
) -> jnp.ndarray:
    """Log-logistic ranking over all pairs of situations: mean of log(1 + exp(E_i - E_j)), known i of `lower`, j of `higher`.

    An energy has a free constant per context; ranking plans of *different* contexts against each other (as noise-contrastive
    estimation with a constant log Z does) fixes it, so that energies compare across situations. Shapes [B] each.
    """
    chex.assert_equal_shape([lower, higher, lower_known, higher_known])
    pair = lower_known[:, None] * higher_known[None, :] * jnp.ones(())
    return jnp.sum(jax.nn.softplus(lower[:, None] - higher[None, :]) * pair) / jnp.maximum(pair.sum(), 1.0)


def rank_loss(
    params: Params, key: jnp.ndarray, told: Case, draft_told: Case, system: System, options: Any
) -> tuple[jnp.ndarray, Metrics]:
    """Noise-contrastive terms on the energy of complete data, log-logistic losses of

        E(observed) < E(imagined)  executed plans against the drafts', as the world model imagines them, over all pairs
                                   (`all_pairs`), and once more over the pairs of one situation,
        E(observed) < E(partial)   against a partial plan on the way to it.
    `told` and `draft_told` [B] are the same situations with the plan of the final text and that of a draft.
    """
    k_back, k_when = jax.random.split(key)
    context, ground = encode_context(system, params, told)
    back = undo_at_random(system.spec, k_back, told.observed)
    when = jnp.floor(jax.random.uniform(k_when, (*told.known.shape, 1)) * back.length[:, None]).astype(jnp.int32)
    partial = jax.tree.map(lambda x: x[:, 0], at_time(back.states, when))
    energy = energy_of(system, params, stack(told.observed, draft_told.observed, partial), context, ground)
    e_observed, e_imagined, e_partial = energy.T
    known, both = told.known, told.known & draft_told.known
    imagined = mean_where(jax.nn.softplus(e_observed - e_imagined), both)
    imagined = 0.5 * (imagined + all_pairs(e_observed, e_imagined, known, draft_told.known))
    whole = mean_where(jax.nn.softplus(e_observed - e_partial), known)
    loss = imagined + options.partial * whole + options.energy_decay * jnp.mean(energy**2)
    return loss, stop({"imagined": imagined, "whole": whole,
                       "accuracy_imagined": mean_where(e_observed < e_imagined, both),
                       "accuracy_partial": mean_where(e_observed < e_partial, known)})


def contrast_loss(
    params: Params, key: jnp.ndarray, told: Case, final: jnp.ndarray, draft: jnp.ndarray, system: System, options: Any
) -> tuple[jnp.ndarray, Metrics]:
    """Contrast against drafts: log-logistic loss of E(final) < E(draft), plans read from both texts by the posterior; half of
    it over the pairs of one situation, half over all pairs."""
    batch = final.shape[0]
    context, ground = encode_context(system, params, told)
    twice = np.concatenate([np.arange(batch)] * 2)
    plans = sample_plans(system, sampler_view(params), key, take(stop(context), twice), jnp.concatenate([final, draft]),
                         start=take(roots_of(system, told), twice))
    pair = stack(take(plans, slice(0, batch)), take(plans, slice(batch, None)))
    energy = energy_of(system, params, pair, context, ground)
    e_final, e_draft = energy.T
    every = jnp.ones(batch)
    read = 0.5 * (jax.nn.softplus(e_final - e_draft).mean() + all_pairs(e_final, e_draft, every, every))
    return read + options.energy_decay * jnp.mean(energy**2), stop({"read": read, "accuracy": (e_final < e_draft).mean()})
