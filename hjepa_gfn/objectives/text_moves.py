"""The explanation's own Metropolis-Hastings move: take words back from the end, write on, accept by the exact ratio.

Target p(x|z,c)^(1/tau) at a fixed plan z. The backward policy has no parameters: a schedule q(K|n) (`gflownet.schedules`)
says how many of the n words go. What is written anew is drawn word by word from w, the explainer restricted to the words that
may be written (neither padding nor begin, as in `sample_text`). With x = (prefix, suffix), x' = (prefix, suffix') and
K' = n' - (n - K):

    log_ratio = [log p(x'|z) - log p(x|z)] / tau + log q(K'|n') + log w(suffix) - log q(K|n) - log w(suffix').
At tau = 1 all but q cancels up to what w leaves out, and q does not: a long text has more places to be cut at.
"""
from typing import NamedTuple

import jax
import jax.numpy as jnp

from hjepa_gfn.gflownet.rollout import choose
from hjepa_gfn.gflownet.schedules import Schedule
from hjepa_gfn.models.agent_network import Context
from hjepa_gfn.objectives.em import sample_text
from hjepa_gfn.objectives.system import Params, System
from hjepa_gfn.plans import Plan

PAD, BEGIN = 0, 1


class Said(NamedTuple):
    """Log probabilities of the words of a text after `begin`, each [..., X-1], 0 past its end."""

    target: jnp.ndarray   # log p(word | words before, z, c)
    written: jnp.ndarray  # the same of w, which writes neither padding nor begin


def num_words(text: jnp.ndarray) -> jnp.ndarray:
    """Words after `begin`, the end included: int32 [...] of text int32 [..., X]."""
    return (text[..., 1:] > PAD).sum(-1).astype(jnp.int32)


def said(system: System, params: Params, plan: Plan, context: Context, text: jnp.ndarray) -> Said:
    """What the explainer says of texts int32 [B, T, X] under plans [B, T]."""
    log_p = system.net(params, plan, context, text, method="explain")
    words = text[..., 1:]
    picked = jnp.take_along_axis(log_p, words[..., None], -1, mode="clip")[..., 0]
    written = picked - jax.nn.logsumexp(log_p[..., BEGIN + 1 :], axis=-1)
    return Said(*(jnp.where(words > PAD, x, 0.0) for x in (picked, written)))


def text_log_ratio(
    old: Said, new: Said, n_old: jnp.ndarray, n_new: jnp.ndarray, steps: jnp.ndarray, schedule: Schedule,
    step: jnp.ndarray | int, tau: float,
) -> jnp.ndarray:
    """The log ratio above [B]: `steps` = K of the n_old words were taken back; leaves of old and new [B, X-1]."""
    kept = n_old - steps
    suffix = jnp.arange(old.target.shape[-1]) >= kept[:, None]
    ahead = schedule.log_prob(n_new - kept, n_new, step) + jnp.sum(old.written * suffix, -1)
    behind = schedule.log_prob(steps, n_old, step) + jnp.sum(new.written * suffix, -1)
    return (new.target.sum(-1) - old.target.sum(-1)) / tau + ahead - behind


def rewrite(
    system: System, params: Params, key: jnp.ndarray, plan: Plan, context: Context, text: jnp.ndarray,
    schedule: Schedule, step: jnp.ndarray | int = 0, tau: float = 1.0,
) -> tuple[jnp.ndarray, jnp.ndarray, jnp.ndarray, jnp.ndarray]:
    """One move of texts int32 [B, X] about plans [B].

    Returns: (texts after it, log p(x|z,c) [B] of these, accepted bool [B], words written int32 [B]).
    """
    k_cut, k_write, k_accept = jax.random.split(key, 3)
    n_old = num_words(text)
    steps = schedule.draw(jax.random.uniform(k_cut, n_old.shape, minval=1e-7), n_old, step)
    kept = jnp.arange(text.shape[-1]) <= (n_old - steps)[:, None]  # begin, and the words of the prefix
    new = sample_text(system, params, k_write, plan, context, 1.0, jnp.where(kept, text, 0))
    pair = jax.tree.map(lambda x: jnp.stack([x, x], axis=1), plan)
    both = said(system, params, pair, context, jnp.stack([text, new], axis=1))
    old_said, new_said = (jax.tree.map(lambda x, i=i: x[:, i], both) for i in (0, 1))
    n_new = num_words(new)
    ratio = text_log_ratio(old_said, new_said, n_old, n_new, steps, schedule, step, tau)
    accepted = jnp.log(jax.random.uniform(k_accept, ratio.shape, minval=1e-12)) < ratio
    log_text = jnp.where(accepted, new_said.target.sum(-1), old_said.target.sum(-1))
    return choose(accepted, new, text), log_text, accepted, n_new - (n_old - steps)
