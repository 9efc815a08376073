"""GFlowNet-EM on plans (Hu et al. 2023, Algorithms 1 and 2): E-step, sleep, M-step, contrast, grounding.

All functions are pure: (params, key, cases, texts, system, options) -> (loss, metrics); `options` is `config.em`. Where a
function samples, it does so with stop-gradiented parameters and pays for one scan per direction, whatever the mix of rows.
"""
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np

from hjepa_gfn.gflownet import losses
from hjepa_gfn.gflownet.rollout import choose, cut
from hjepa_gfn.models.agent_network import Context
from hjepa_gfn.objectives.aims import pointed_at
from hjepa_gfn.objectives.cases import Case, at_time, encode_context, join, roots_of, stack, take, take_ground
from hjepa_gfn.objectives.energy import energy_of, text_log_prob
from hjepa_gfn.objectives.moves import back_and_forth
from hjepa_gfn.objectives.policies import (
    Exploration,
    PathLogProbs,
    decision_log_probs,
    evaluate,
    log_prob_of_path,
    sample_paths,
    sample_plans,
    undo_at_random,
)
from hjepa_gfn.objectives.system import Params, System, model_view, sampler_view
from hjepa_gfn.plans import Plan

stop = jax.lax.stop_gradient
Metrics = dict[str, jnp.ndarray]


def mean_where(x: jnp.ndarray, known: jnp.ndarray) -> jnp.ndarray:
    """Mean of x [B] over the rows that are known."""
    return jnp.sum(x * known) / jnp.maximum(known.sum(), 1)


def potential(
    log_reward: jnp.ndarray, path: PathLogProbs, plans: Plan, readers: int, system: System, params: Params, options: Any
) -> jnp.ndarray:
    """a_t of `losses.balance_potential` [B, T+1] under the configured form of the flow:

    "stop": log F = log R - log P_F(STOP|z); "head": log F = log R + log F~ with a network for log F~ (Pan et al. 2023).
    """
    if options.flow == "stop":
        log_flow = losses.stop_flow(log_reward, path.stop)
    else:
        log_flow = log_reward + system.net(params, path.features, plans, readers, method="log_flow_head")
    return losses.balance_potential(log_flow, path.forward, path.backward)


def stop_balance(path: PathLogProbs, plans: Plan, readers: int, real: jnp.ndarray, system: System, params: Params,
                 options: Any) -> jnp.ndarray:
    """Residual of the STOP transitions, mean of (log F~(z) + log P_F(STOP|z))^2 over `real` bool [B, T+1]: zero by
    construction when the flow is read off STOP, and what anchors log F~(terminal) = 0 when it is a head."""
    if options.flow == "stop":
        return jnp.zeros(())
    residual = system.net(params, path.features, plans, readers, method="log_flow_head") + path.stop
    return jnp.sum(jnp.where(real, residual**2, 0.0)) / jnp.maximum(real.sum(), 1)


def e_step(
    params: Params, key: jnp.ndarray, told: Case, text: jnp.ndarray, untold: Case, system: System, options: Any
) -> tuple[jnp.ndarray, Metrics]:
    """E-step of posterior and prior: forward-looking SubTB(lambda) for

        P_F(z|x,c) against R(z;x,c) = exp(-E(z;c)) p(x|z,c)   in the cases `told` [P] with text int32 [P, X], and
        P_F(z|c)   against R(z;c)   = exp(-E(z;c))            in the cases `untold` [Q].
    Rewards are constant here. On-policy trajectories (tempered, epsilon-explored) beside backward trajectories from observed
    plans (of drafts: imagined), which also train both policies by likelihood. Every state of a prior trajectory ends
    sub-trajectories; the posterior's costly text term is evaluated at the first, the last and two random states between.

    With `options.window` = W > 0 the losses see W successive edits of each trajectory only, at a place drawn anew
    (`rollout.cut`): in the stop form every window balances by itself, and re-evaluation, most of the cost of long plans, no
    longer grows with them. Likelihoods need whole trajectories: longer ones are left to `ground_loss`.
    """
    k_paths, k_anchor, k_window = jax.random.split(key, 3)
    p, q = text.shape[0], untold.mission.shape[0]
    cases = join(told, untold)
    context, ground = encode_context(system, params, cases)
    model = stop(model_view(params))
    told_context, _ = encode_context(system, model, cases)  # the context as energy and explainer see it
    # rows: posterior on-policy, posterior backward, prior on-policy, prior backward
    rows = np.concatenate([np.arange(p), np.arange(p), p + np.arange(q), p + np.arange(q)])
    forward = jnp.asarray(np.concatenate([np.ones(p), np.zeros(p), np.ones(q), np.zeros(q)]).astype(bool))
    context, ground, text = take(context, rows), take_ground(ground, rows), jnp.concatenate([text, text])
    told_context = take(told_context, rows)
    observed = take(join(told.observed, untold.observed), rows)
    fixed, held = sampler_view(params), stop(context)
    start = choose(forward, take(roots_of(system, cases), rows), observed)
    explore = Exploration(options.temperature, options.epsilon)
    paths = sample_paths(system, fixed, k_paths, start, forward, held, text, None, explore)
    edits = paths.length
    if options.window:
        paths = cut(paths, k_window, options.window)
    whole = paths.length == edits
    path = evaluate(system, params, paths, context, text)
    seen = forward | jnp.concatenate([jnp.ones(p, bool), told.known, jnp.ones(q, bool), untold.known])
    real = paths.real & seen[:, None]

    own = slice(2 * p, None)
    energy = energy_of(system, model, take(paths.states, own), take(told_context, own), take_ground(ground, own))
    a = potential(-stop(energy), take(path, own), take(paths.states, own), 0, system, params, options)
    prior, _ = losses.subtb(a, real[own], options.subtb_lambda)

    # posterior: energies and texts at four anchors
    read = slice(0, 2 * p)
    end = paths.length[read, None]
    between = jnp.floor(jax.random.uniform(k_anchor, (2 * p, 2)) * (end + 1)).astype(jnp.int32)
    anchor = jnp.concatenate([jnp.zeros_like(end), jnp.sort(between, axis=-1), end], axis=1)
    plans, near = at_time(take(paths.states, read), anchor), take(told_context, read)
    log_text = stop(text_log_prob(system, model, plans, near, text))
    log_reward = log_text - stop(energy_of(system, model, plans, near, take_ground(ground, read)))
    dense = potential(jnp.zeros(path.stop[read].shape), take(path, read), take(paths.states, read), 2 * p, system, params,
                      options)
    a = jnp.take_along_axis(dense, anchor, axis=1, mode="clip") + log_reward
    posterior, _ = losses.subtb(a, jnp.broadcast_to(seen[read, None], a.shape), options.subtb_lambda)

    anchored = stop_balance(path, paths.states, 2 * p, real, system, params, options)
    back = (seen & ~forward & whole).astype(jnp.float32)
    log_prob = log_prob_of_path(path, paths)
    likely = {"posterior": mean_where(-log_prob[read], back[read]), "prior": mean_where(-log_prob[own], back[own])}
    loss = options.posterior_subtb * posterior + options.prior_subtb * prior + anchored
    loss += options.posterior_nll * likely["posterior"] + options.prior_nll * likely["prior"]
    ends = jnp.take_along_axis(energy, paths.length[own, None], axis=1, mode="clip")[:, 0]
    return loss, stop({
        "posterior_subtb": posterior, "prior_subtb": prior,
        "posterior_nll": likely["posterior"], "prior_nll": likely["prior"],
        "energy_sampled": mean_where(ends[:q], whole[own][:q]), "energy_observed": mean_where(ends[q:], back[own][q:]),
        "prior_edits": edits[own][:q].mean(), "posterior_edits": edits[:p].mean(),
        "log_z": mean_where((-energy - path.stop[own])[:q, 0], whole[own][:q]),
        "log_text_root": log_text[:p, 0].mean(), "log_text_sampled": log_text[:p, -1].mean(),
        "log_text_observed": mean_where(log_text[p:, -1], back[p : 2 * p]),
    })


def sample_text(
    system: System, params: Params, key: jnp.ndarray, plan: Plan, context: Context, temperature: float = 1.0,
    given: jnp.ndarray | None = None,
) -> jnp.ndarray:
    """x ~ p(x|z,c) int32 [B, X], word by word; 1 begins, 2 ends, 0 pads. plan [B].

    given: int32 [B, X], words that the texts hold already (0: free), as `x` is laid out.
    """
    length, batch = system.network.sizes.text_length, plan.batch_shape[0]
    begin = jnp.zeros((batch, length), jnp.int32).at[:, 0].set(1)

    def write(i, carry):
        words, ended, draft = carry
        log_p, draft = system.net(params, draft, jax.lax.dynamic_index_in_dim(words, i, 1, False), i, method="write")
        log_p = log_p.at[:, :2].set(-jnp.inf)  # neither pad nor begin
        word = jnp.argmax(log_p + temperature * jax.random.gumbel(jax.random.fold_in(key, i), log_p.shape), axis=-1)
        word = jnp.where(ended, 0, word).astype(jnp.int32)
        if given is not None:
            held = jax.lax.dynamic_index_in_dim(given, i + 1, 1, False)
            word = jnp.where(held > 0, held, word)
        return words.at[:, i + 1].set(word), ended | (word == 2), draft

    draft = system.net(params, plan, context, method="prepare")
    return jax.lax.fori_loop(0, length - 1, write, (begin, jnp.zeros(batch, bool), draft))[0]


def sleep_loss(params: Params, key: jnp.ndarray, case: Case, system: System, options: Any) -> tuple[jnp.ndarray, Metrics]:
    """Sleep phase: (z, x) ~ P_F(z|c) p(x|z,c), trajectory ~ P_B(.|z); L = -log P_F(trajectory | x, c)."""
    k_plan, k_text, k_back = jax.random.split(key, 3)
    context, _ = encode_context(system, params, case)
    fixed, held = sampler_view(params), stop(context)
    plan = sample_plans(system, fixed, k_plan, held, start=roots_of(system, case))
    text = sample_text(system, fixed, k_text, plan, held)
    back = sample_paths(system, fixed, k_back, plan, jnp.zeros(text.shape[0], bool), held, text)
    log_prob = log_prob_of_path(evaluate(system, params, back, context, text), back)
    return -log_prob.mean(), {"nll": -stop(log_prob).mean(), "words": (text > 0).sum(-1).mean()}


def ground_loss(
    params: Params, key: jnp.ndarray, told: Case, text: jnp.ndarray, untold: Case, system: System, options: Any
) -> tuple[jnp.ndarray, Metrics]:
    """Complete data: where the executed plan z* was observed, undone in random order to a trajectory, maximise

        log P_F(trajectory|x,c) + log p(x|z,c)   in the cases `told`,   log P_F(trajectory|c)   in the cases `untold`,
    z drawn along the trajectory (z* itself for half of them), so that partial plans are explained as well. A trajectory's
    log probability is estimated, without bias, from `options.decisions` of its n + 1 decisions, one from each equal share. The
    uniform orders agree with the E-step: it trains P_B towards the orders in which P_F builds.
    """
    k_back, k_when, k_full, k_decide = jax.random.split(key, 4)
    p = text.shape[0]
    context, _ = encode_context(system, params, join(told, untold))
    observed, known = join(told.observed, untold.observed), join(told.known, untold.known).astype(jnp.float32)
    back = undo_at_random(system.spec, k_back, observed)
    share = jax.random.uniform(k_decide, (known.shape[0], options.decisions))
    share = (jnp.arange(options.decisions) + share) / options.decisions
    decided = jnp.minimum(jnp.floor(share * (back.length + 1)[:, None]).astype(jnp.int32), back.length[:, None])
    log_prob = decision_log_probs(system, params, back, decided, context, text).mean(-1) * (back.length + 1)
    posterior, prior = mean_where(-log_prob[:p], known[:p]), mean_where(-log_prob[p:], known[p:])
    length = back.length[:p, None]
    when = jnp.floor(jax.random.uniform(k_when, (p, 1)) * (length + 1)).astype(jnp.int32)
    when = jnp.where(jax.random.uniform(k_full, (p, 1)) < 0.5, length, when)
    plans = at_time(take(back.states, slice(0, p)), when)
    log_text = text_log_prob(system, params, plans, take(context, slice(0, p)), text)[:, 0]
    words = (text[:, 1:] > 0).sum(-1)
    explain = -jnp.sum(log_text * known[:p]) / jnp.maximum(jnp.sum(words * known[:p]), 1.0)
    loss = prior + posterior + options.explain * explain
    return loss, stop({"prior_nll": prior, "posterior_nll": posterior, "text_nll": explain})


def m_step(
    params: Params, key: jnp.ndarray, case: Case, text: jnp.ndarray, is_final: jnp.ndarray, system: System, options: Any
) -> tuple[jnp.ndarray, Metrics]:
    """M-step on posterior samples z ~ P_F(z|x,c):

        L = -log p(x|z+,c)/words + beta [E(z+) - E(z-)] + alpha (E(z+)^2 + E(z-)^2),
    z+ after one back-and-forth move against e^-E p(x|z,c), z- after one from the same plan by the prior against e^-E
    (contrastive divergence as in EB-GFN, Zhang et al. 2022). Where a plan was observed, it stands in for half of the samples.
    The explainer learns from all texts, the energy from final ones (`is_final` bool [B]) only.
    """
    k_plan, k_move = jax.random.split(key)
    batch = text.shape[0]
    context, ground = encode_context(system, params, case)
    fixed, sampler, held = stop(params), sampler_view(params), stop(context)
    sampled = sample_plans(system, sampler, k_plan, held, text, start=roots_of(system, case))
    sampled = choose(case.known & (jnp.arange(batch) % 2 == 0), case.observed, sampled)
    twice = np.concatenate([np.arange(batch)] * 2)
    held2, ground2 = take(held, twice), take_ground(ground, twice)

    def log_reward(plans: Plan) -> jnp.ndarray:
        told = text_log_prob(system, fixed, take(plans, slice(0, batch)), held, text)
        return jnp.concatenate([told, jnp.zeros_like(told)]) - energy_of(system, fixed, plans, held2, ground2)

    moved, accepted, _ = back_and_forth(system, sampler, k_move, take(sampled, twice), held2, log_reward, text)
    pair = stack(take(moved, slice(0, batch)), take(moved, slice(batch, None)))
    energy = energy_of(system, params, pair, context, ground)
    first = jax.tree.map(lambda x: x[:, :1], pair)
    explain = -jnp.sum(text_log_prob(system, params, first, context, text)) / jnp.maximum((text[:, 1:] > 0).sum(), 1)
    divergence, size = mean_where(energy[:, 0] - energy[:, 1], is_final), jnp.mean(energy**2)
    loss = options.explain * explain + options.divergence * divergence + options.energy_decay * size
    return loss, stop({"text_nll": explain, "divergence": divergence, "energy_rms": jnp.sqrt(size),
                       "accepted_posterior": accepted[:batch].mean(), "accepted_prior": accepted[batch:].mean()})


def habit_loss(
    params: Params, percept: dict[str, jnp.ndarray], state: jnp.ndarray, mission: jnp.ndarray, action: jnp.ndarray,
    weight: jnp.ndarray, system: System, aim: jnp.ndarray | None = None, aim_weight: float = 1.0,
) -> tuple[jnp.ndarray, Metrics]:
    """Cross entropy of the exemplary action in each situation, and of what the expert aims at (where the network says that):

        -mean log p(a | percept, mission) - aim_weight * mean log sum_k p(cell_k | percept, mission).

    state [B, Z], action int32 [B], weight [B]; aim int32 [B, K] from `aims.aims_of`: it is one of these, and the second mean is
    over the situations where any is known.
    """
    context, aimed = system.net(params, percept, state, mission, method="pointed")
    chex.assert_equal_shape([action, weight, *([] if aim is None else [aim[:, 0]])])
    log_p = jax.nn.log_softmax(system.net(params, context, method="habit"))
    picked = jnp.take_along_axis(log_p, action[:, None], axis=-1, mode="clip")[:, 0]
    total = jnp.maximum(weight.sum(), 1.0)
    loss = -jnp.sum(weight * picked) / total
    metrics = {"nll": stop(loss), "accuracy": jnp.sum(weight * (log_p.argmax(-1) == action)) / total}
    if aim is not None and aimed is not None:
        log_p, right, known = pointed_at(aimed, aim)
        known = weight * known
        total = jnp.maximum(known.sum(), 1.0)
        nll = -jnp.sum(known * log_p) / total
        loss += aim_weight * nll
        metrics |= {"aim_nll": stop(nll), "aim_accuracy": jnp.sum(known * right) / total}
    return loss, metrics
