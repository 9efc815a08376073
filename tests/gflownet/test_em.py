"""The driver of GFlowNet-EM on a tabular model small enough for float64 loops: z a cell of a 3 x 3 grid, x one of 4 symbols."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from hjepa_gfn.gflownet import em
from hjepa_gfn.gflownet.enumeration import enumerate_graph, terminal_distribution
from hjepa_gfn.gflownet.environments import Hypergrid
from hjepa_gfn.gflownet.gate import threshold
from hjepa_gfn.gflownet.policy import Logits, behaviour, noise_of
from hjepa_gfn.gflownet.rollout import Exploration, sample_trajectories

ENV, CELLS, SYMBOLS = Hypergrid(dim=2, side=3), 9, 4


def cell(state):
    return 3 * state[..., 0] + state[..., 1]


def posterior(params, features, x):
    place = cell(jnp.stack([features[:, :3] @ jnp.arange(3.0), features[:, 3:] @ jnp.arange(3.0)], -1)).astype(jnp.int32)
    return Logits(params["ahead"][x, place], params["undo"][place], params["flow"][x, place])


def log_prior(theta, z):
    return jax.nn.log_softmax(theta["prior"])[cell(z)]


def log_likelihood(theta, x, z):
    return jax.nn.log_softmax(theta["words"], -1)[cell(z), x]


def draw(theta, key, x):
    k_z, k_x = jax.random.split(key)
    place = jax.random.categorical(k_z, theta["prior"], shape=x.shape)
    return jax.random.categorical(k_x, theta["words"][place]), jnp.stack([place // 3, place % 3], -1)


MODEL = em.LatentModel(ENV, lambda x: ENV.root(x.shape[0]), posterior, log_prior, log_likelihood, draw)


def setting(seed=0, rows=6):
    """Random tables far from balance: (params, theta, x)."""
    rng = np.random.default_rng(seed)
    normal = lambda *shape: jnp.asarray(rng.normal(size=shape), jnp.float32)
    params = {"ahead": normal(SYMBOLS, CELLS, 3), "undo": normal(CELLS, 2), "flow": normal(SYMBOLS, CELLS)}
    return params, {"prior": normal(CELLS), "words": normal(CELLS, SYMBOLS)}, jnp.asarray(rng.integers(0, SYMBOLS, rows))


def softmax(row, legal):
    weight = np.where(legal, np.exp(np.asarray(row, np.float64)), 0.0)
    return np.log(np.maximum(weight / weight.sum(), 1e-300))


def log_reward(theta, x, z, exponent=1.0):
    prior, words = np.asarray(theta["prior"], np.float64), np.asarray(theta["words"], np.float64)
    place = 3 * z[0] + z[1]
    return exponent * softmax(prior, True)[place] + softmax(words[place], True)[x]


def walk(params, x, states, actions):
    """(log P_F and log P_B of each edge, log P_F(STOP) and log F of each state) along one trajectory, in float64."""
    ahead, undo, flow = (np.asarray(params[k], np.float64) for k in ("ahead", "undo", "flow"))
    table = [softmax(ahead[x, 3 * s[0] + s[1]], [s[0] < 2, s[1] < 2, True]) for s in states]
    back = [softmax(undo[3 * s[0] + s[1]], [s[0] > 0, s[1] > 0]) if max(s) else None for s in states]
    return ([table[t][a] for t, a in enumerate(actions)], [back[t + 1][a] for t, a in enumerate(actions)],
            [row[2] for row in table], [flow[x, 3 * s[0] + s[1]] for s in states])


def nodes(params, theta, x, states, actions, flow, exponent):
    """Flow of each node and log P_F, log P_B of each step between neighbours, the terminal copy included where there is one."""
    pf, pb, stop, head = walk(params, x, states, actions)
    reward = [log_reward(theta, x, s, exponent) for s in states]
    if flow == "stop":
        return [r - s for r, s in zip(reward, stop)], pf, pb
    inside = head if flow == "head" else [r + h for r, h in zip(reward, head)]
    return [*inside, reward[-1]], [*pf, stop[-1]], [*pb, 0.0]


def reference_loss(params, theta, xs, paths, options, exponent):
    rows, edges = [], []
    for x, (states, actions) in zip(xs, paths):
        f, pf, pb = nodes(params, theta, x, states, actions, options.flow, exponent)
        gap = lambda i, j: (f[i] + sum(pf[i:j]) - f[j] - sum(pb[i:j])) ** 2  # noqa: B023
        last = len(f) - 1
        if options.loss == "tb":
            rows.append(gap(0, last))
        elif options.loss == "db":
            edges += [gap(t, t + 1) for t in range(last)]
        elif options.loss == "subtb" and last:
            pairs = [(i, j) for i in range(last + 1) for j in range(i + 1, last + 1)]
            weight = [options.subtb_lambda ** (j - i) for i, j in pairs]
            rows.append(np.average([gap(i, j) for i, j in pairs], weights=weight))
        elif options.loss == "vargrad":
            rows.append(f[-1] - sum(pf) + sum(pb))
    if options.loss == "db":
        return np.mean(edges)
    if options.loss == "vargrad":
        table = np.array(rows).reshape(-1, options.trajectories)
        return np.mean((table - table.mean(1, keepdims=True)) ** 2)
    return np.mean(rows)


def real(trajectory):
    """[(states, actions)] of what is real of each trajectory."""
    states, actions = np.asarray(trajectory.states), np.asarray(trajectory.action)
    return [(states[b, : n + 1].tolist(), actions[b, :n].tolist()) for b, n in enumerate(np.asarray(trajectory.length))]


posterior_loss = jax.jit(em.posterior_loss, static_argnums=(5, 6))
posterior_slope = jax.jit(jax.grad(em.posterior_loss, argnums=(0, 1), has_aux=True), static_argnums=(5, 6))


@functools.partial(jax.jit, static_argnums=3)
def sampled(params, key, x, options):
    network = em.conditioned(MODEL, x)
    explore = Exploration(options.temperature, options.epsilon)
    return sample_trajectories(ENV, behaviour(ENV, network, params, explore), noise_of(ENV, key, len(x)), MODEL.root(x))


FORMS = [("tb", "head"), ("tb", "forward_looking"), ("tb", "stop"), ("subtb", "head"), ("subtb", "forward_looking"),
         ("subtb", "stop"), ("db", "head"), ("db", "forward_looking"), ("db", "stop"), ("vargrad", "head")]


@pytest.mark.parametrize("loss,flow", FORMS)
def test_posterior_loss_is_its_equation(loss, flow):
    params, theta, x = setting()
    options = em.EMOptions(loss=loss, flow=flow, trajectories=3, temperature=1.5, epsilon=0.2, subtb_lambda=0.7)
    key, exponent = jax.random.key(1), 0.4
    repeated = jnp.repeat(x, 3)
    paths = real(sampled(params, key, repeated, options))
    assert len({len(actions) for _, actions in paths}) > 2  # trajectories of different lengths
    value, metrics = posterior_loss(params, theta, key, x, exponent, MODEL, options)
    np.testing.assert_allclose(value, reference_loss(params, theta, repeated, paths, options, exponent), rtol=2e-5)
    ends = [log_reward(theta, i, states[-1], exponent) for i, (states, _) in zip(repeated, paths)]
    np.testing.assert_allclose(metrics["log_reward"], np.mean(ends), rtol=1e-5)


@pytest.mark.parametrize("loss,flow", [("tb", "head"), ("subtb", "stop"), ("vargrad", "head")])
def test_gradient_of_the_posterior_loss_is_of_the_policy_alone(loss, flow):
    params, theta, x = setting(1)
    options = em.EMOptions(loss=loss, flow=flow, trajectories=2)
    key, repeated = jax.random.key(2), jnp.repeat(x, 2)
    paths = real(sampled(params, key, repeated, options))
    (grads, model), _ = posterior_slope(params, theta, key, x, 1.0, MODEL, options)
    at = int(x[0])
    for name, index in [("ahead", (at, 0, 0)), ("ahead", (at, 0, 2)), ("undo", (4, 0)), ("flow", (at, 0))]:
        ends = []
        for sign in (1, -1):
            moved = {k: np.array(v, np.float64) for k, v in params.items()}
            moved[name][index] += sign * 1e-5
            ends.append(reference_loss(moved, theta, repeated, paths, options, 1.0))
        np.testing.assert_allclose(grads[name][index], (ends[0] - ends[1]) / 2e-5, rtol=1e-3, atol=1e-4)
    assert not any(np.asarray(leaf).any() for leaf in jax.tree.leaves(model))


def test_unknown_losses_and_single_trajectories_are_refused():
    params, theta, x = setting()
    for options in (em.EMOptions(loss="mse"), em.EMOptions(loss="vargrad")):
        with pytest.raises(ValueError, match="options"):
            posterior_loss(params, theta, jax.random.key(0), x, 1.0, MODEL, options)


def test_sleep_loss_is_the_likelihood_of_dreams_undone_by_the_backward_policy():
    params, theta, x = setting(2, 40)
    key = jax.random.key(3)
    k_draw, k_back = jax.random.split(key)
    dreamt, z = draw(theta, k_draw, x)
    undo = jax.jit(lambda x, z: sample_trajectories(
        ENV, behaviour(ENV, em.conditioned(MODEL, x), params), noise_of(ENV, k_back, 40), z, forward=False))
    back = undo(dreamt, z)
    expected = []
    for i, (states, actions), end in zip(dreamt, real(back), np.asarray(z)):
        assert states[0] == [0, 0] and states[-1] == end.tolist()
        pf, _, stop, _ = walk(params, i, states, actions)
        expected.append(sum(pf) + stop[-1])
    found = jax.jit(em.sleep_loss, static_argnums=4)(params, theta, key, x, MODEL)[0]
    np.testing.assert_allclose(found, -np.mean(expected), rtol=1e-5)


def exact_q(params, x):
    """P(z|x) of where the policy stops [9], by dynamic programming."""
    graph = enumerate_graph(ENV, ENV.root(1))
    ends, log_q = terminal_distribution(ENV, em.joined(MODEL), (params, jnp.array([x])), graph)
    q = np.zeros(CELLS)
    q[cell(np.asarray(graph.states))[ends]] = np.exp(log_q)
    return q


def exact_p(theta, x):
    value = np.exp([log_reward(theta, x, (place // 3, place % 3)) for place in range(CELLS)])
    return value / value.sum()


@pytest.mark.parametrize("normalised", [True, False])
def test_m_step_ascends_the_complete_likelihood_of_samples(normalised):
    """Its expected gradient: the model's expectation less counts under q; of an energy, the prior's samples are negatives."""
    params, theta, _ = setting(3)
    size = 60_000
    x = jnp.full(size, 2)
    model = MODEL if normalised else MODEL._replace(normalised=False, log_prior=lambda t, z: t["prior"][cell(z)])
    loss = lambda theta: em.model_loss(theta, params, jax.random.key(4), x, 1.0, model, em.EMOptions())[0]
    grads = jax.jit(jax.grad(loss))(theta)
    q, prior = exact_q(params, 2), np.exp(softmax(theta["prior"], True))
    np.testing.assert_allclose(grads["prior"], prior - q, atol=0.012)
    words = np.array([np.exp(softmax(row, True)) for row in np.asarray(theta["words"])])
    np.testing.assert_allclose(grads["words"], q[:, None] * (words - (np.arange(SYMBOLS) == 2)), atol=0.012)
    assert abs(prior - q).max() > 0.05


def test_moves_leave_the_exact_posterior_alone_and_bring_others_to_it():
    params, theta, _ = setting(4)
    size = 30_000
    x, p, q = jnp.full(size, 1), exact_p(theta, 1), exact_q(params, 1)
    assert abs(p - q).max() > 0.1
    place = jax.random.categorical(jax.random.key(5), jnp.log(p), shape=(size,))
    move = jax.jit(lambda key, z: em.refine(params, theta, key, x, z, 1.0, MODEL))
    share = lambda z: np.bincount(np.asarray(cell(z)), minlength=CELLS) / size
    kept, accepted = move(jax.random.key(6), jnp.stack([place // 3, place % 3], -1))
    assert 0.05 < accepted.mean() < 0.95
    assert (abs(share(kept) - p) < 5 * np.sqrt(p * (1 - p) / size)).all()
    few = 4000
    move = lambda n, z: em.refine(params, theta, jax.random.fold_in(jax.random.key(7), n), x[:few], z, 1.0, MODEL)[0]
    z = jax.lax.fori_loop(0, 150, move, jnp.zeros((few, 2), jnp.int32))
    assert (abs(np.bincount(np.asarray(cell(z)), minlength=CELLS) / few - p) < 5 * np.sqrt(p * (1 - p) / few)).all()


def run(options, steps=3, seed=5, data=None, theta_tx=None):
    params, theta, x = setting(seed, 8)
    params_tx, theta_tx = optax.adam(0.05), theta_tx or optax.adam(0.1)
    step = em.make_em_step(MODEL, options, params_tx, theta_tx)
    states = [em.init_em(params, theta, params_tx, theta_tx)]
    found = []
    for n in range(steps):
        before = jax.tree.map(np.array, states[-1])
        old = states.pop()
        new, metrics = step(old, jax.random.key(n), x if data is None else data)
        assert all(leaf.is_deleted() for leaf in jax.tree.leaves((old.params, old.theta)))
        states.append(new)
        found.append((before, jax.tree.map(np.array, new), jax.tree.map(float, metrics)))
    assert step._cache_size() == 1
    return found


def test_a_shut_gate_holds_the_model_and_its_optimizer_bitwise_while_the_posterior_learns():
    for before, after, metrics in run(em.EMOptions(e_steps=2, sleep=0.5, refine=1, gate_start=-1.0, gate_end=-1.0)):
        assert metrics["gate_open"] == 0.0
        jax.tree.map(np.testing.assert_array_equal, (before.theta, before.theta_opt), (after.theta, after.theta_opt))
        assert (before.params["ahead"] != after.params["ahead"]).any() and after.step == before.step + 1


def test_the_gate_opens_when_the_moving_average_is_under_the_threshold():
    options = em.EMOptions(gate_decay=0.5, gate_start=40.0, gate_end=1.0, gate_half_life=2.0)
    losses, opened = [], []
    for before, after, metrics in run(options, 8):
        losses.append(metrics["wake"])
        weight = 0.5 ** np.arange(len(losses))[::-1]
        bar = threshold(len(losses) - 1, 40.0, 1.0, 2.0)
        np.testing.assert_allclose(metrics["gate_average"], np.average(losses, weights=weight), rtol=1e-4)
        np.testing.assert_allclose(metrics["gate_bar"], bar, rtol=1e-5)
        is_open = np.average(losses, weights=weight) < bar
        opened.append(is_open)
        assert metrics["gate_open"] == is_open
        assert (before.theta["prior"] != after.theta["prior"]).any() == is_open
        assert (before.theta_opt[0].count + is_open) == after.theta_opt[0].count
    assert 0 < sum(opened) < len(opened)


def test_an_ungated_m_step_is_always_taken():
    for before, after, metrics in run(em.EMOptions(gated=False, gate_start=-1.0, gate_end=-1.0)):
        assert metrics["gate_open"] == 1.0 and (before.theta["words"] != after.theta["words"]).any()


def test_the_prior_is_tempered_on_the_way_to_one():
    """With the likelihood flat, the log reward of a shut-gate E-step is exponent x log p(z)."""
    params, theta, x = setting(6, 64)
    theta = theta | {"words": jnp.zeros((CELLS, SYMBOLS))}
    options = em.EMOptions(gate_start=-1.0, gate_end=-1.0, prior_start=0.2, prior_half_life=3.0)
    tx = optax.sgd(0.0)
    step, state = em.make_em_step(MODEL, options, tx, tx), em.init_em(params, theta, tx, tx)
    for n, exponent in [(0, 0.2), (1, 1 - 0.8 * 0.5 ** (1 / 3)), (2, 1 - 0.8 * 0.5 ** (2 / 3))]:
        state, metrics = step(state, jax.random.key(7), x)
        flat = -np.log(SYMBOLS)
        if n == 0:
            first = (metrics["log_reward"] - flat) / exponent
        np.testing.assert_allclose(metrics["log_reward"], exponent * first + flat, rtol=1e-4)


def test_em_on_the_table_reaches_the_frequencies_of_the_data():
    """The model can fit any distribution over x, so at the maximum p(x) is the share of x in the data."""
    share = np.array([0.5, 0.25, 0.125, 0.125])
    data = jnp.asarray(np.repeat(np.arange(SYMBOLS), (share * 64).astype(int)))
    options = em.EMOptions(loss="subtb", flow="stop", e_steps=4, sleep=0.1, epsilon=0.05, gate_start=5.0, gate_end=5.0)
    after = run(options, 300, data=data, theta_tx=optax.adam(optax.cosine_decay_schedule(0.05, 300)))[-1][1]
    joint = softmax(after.theta["prior"], True)[:, None] + [softmax(row, True) for row in after.theta["words"]]
    np.testing.assert_allclose(np.exp(joint).sum(0), share, atol=0.03)
