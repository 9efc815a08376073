"""Parsing: inside-outside against all parses, the environment's graph, log p(x, z), samples, and the learned posterior."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from hjepa_gfn.gflownet.em import EMOptions, init_em, joined, log_joint, make_em_step
from hjepa_gfn.gflownet.enumeration import enumerate_graph, terminal_distribution
from hjepa_gfn.gflownet.exact import normalise, total_variation
from hjepa_gfn.gflownet.toys import inside_outside, pcfg

ENV, VOCABULARY = pcfg.Parsing(nonterminals=2, preterminals=2, words=4), 3
MODEL = pcfg.pcfg_model(ENV, VOCABULARY)
THETA = pcfg.init_grammar(jax.random.key(0), ENV, VOCABULARY)
joint = jax.jit(lambda theta, x, z: log_joint(theta, x, z, MODEL))
SENTENCES = [[0, 1], [2, 2], [0, 1, 2], [1, 1, 0], [2, 0, 1, 1], [0, 0, 2, 1]]


def grammar(theta=THETA):
    """(rules, words) in float64, normalised there."""
    rules, words = (np.exp(np.asarray(t, np.float64)) for t in pcfg.log_grammar(theta))
    return rules / rules.sum((1, 2), keepdims=True), words / words.sum(-1, keepdims=True)


def padded(sentences, longest=ENV.words):
    return jnp.asarray([list(s) + [-1] * (longest - len(s)) for s in sentences], jnp.int32)


def chart(tree, longest=ENV.words):
    label = np.zeros((longest, longest), np.int32)
    for span, symbol in tree.items():
        label[span] = symbol + 1
    return label


def graph_of(sentence):
    return enumerate_graph(ENV, MODEL.root(padded([sentence])))


@pytest.mark.parametrize("sentence", SENTENCES)
def test_inside_sums_over_all_parses(sentence):
    parses = inside_outside.all_parses(grammar(), sentence)
    n = len(sentence)
    assert len(parses) == [1, 2, 5][n - 2] * 2 ** (n - 2) * 2**n  # Catalan number x inner labels x tags
    np.testing.assert_allclose(inside_outside.log_marginal(grammar(), sentence), np.log(sum(p for _, p in parses)), rtol=1e-12)


def test_expected_counts_are_those_of_all_parses():
    rules, words = grammar()
    for sentence in SENTENCES:
        parses = inside_outside.all_parses((rules, words), sentence)
        total = sum(p for _, p in parses)
        of_rules, of_words = np.zeros_like(rules), np.zeros_like(words)
        for tree, p in parses:
            for (i, j), symbol in tree.items():
                if i == j:
                    of_words[symbol - 2, sentence[i]] += p / total
                else:
                    k = next(k for k in range(i, j) if (i, k) in tree and (k + 1, j) in tree)
                    of_rules[symbol, tree[i, k], tree[k + 1, j]] += p / total
        found = inside_outside.expected_counts((rules, words), np.array([sentence]), np.ones(1))
        np.testing.assert_allclose(found[0], of_rules, atol=1e-12)
        np.testing.assert_allclose(found[1], of_words, atol=1e-12)
        np.testing.assert_allclose(found[2], np.log(total), rtol=1e-12)


def test_counts_of_a_corpus_are_the_sum_over_its_sentences():
    corpus = [*SENTENCES, SENTENCES[0], SENTENCES[4], SENTENCES[4]]
    parts = [inside_outside.expected_counts(grammar(), np.array([s]), np.ones(1)) for s in corpus]
    found = inside_outside.corpus_counts(grammar(), corpus)
    for n in range(2):
        np.testing.assert_allclose(found[n], sum(part[n] for part in parts), atol=1e-12)
    np.testing.assert_allclose(found[2], np.mean([part[2] for part in parts]), rtol=1e-12)


def test_exact_em_never_falls_and_finds_what_generated_the_corpus():
    truth = inside_outside.true_grammar()
    sentences = inside_outside.sample_sentences(truth, 150, 5, 0)
    assert max(map(len, sentences)) <= 5
    env = pcfg.Parsing(3, 3, 5)
    found, history = inside_outside.exact_em(grammar(pcfg.init_grammar(jax.random.key(1), env, 7)), sentences, 40)
    assert np.all(np.diff(history) > -1e-12) and history[-1] > history[0] + 1.0
    np.testing.assert_allclose(found[0].sum((1, 2)), 1.0, atol=1e-9)
    np.testing.assert_allclose(found[1].sum(-1), 1.0, atol=1e-9)


def test_a_true_grammar_gives_itself_back_in_the_long_run():
    """At the truth, the expected counts of a long corpus are proportional to the probabilities."""
    truth = inside_outside.true_grammar()
    total, _, _ = inside_outside.corpus_counts(truth, inside_outside.sample_sentences(truth, 1500, 30, 1))
    np.testing.assert_allclose(total / total.sum((1, 2), keepdims=True), truth[0], atol=0.05)


@pytest.mark.parametrize("sentence", [[0, 1], [0, 1, 2], [2, 0, 1, 1]])
def test_the_graph_is_graded_and_its_labels_pair_one_to_one(sentence):
    graph, n = graph_of(sentence), len(sentence)
    states = jax.tree.map(lambda leaf: leaf[graph.child], graph.states)
    back, action = jax.jit(ENV.backward)(states, jnp.asarray(graph.undo))
    np.testing.assert_array_equal(back.label, np.asarray(graph.states.label)[graph.parent])
    np.testing.assert_array_equal(action, graph.action)
    np.testing.assert_array_equal(graph.depth[graph.child], graph.depth[graph.parent] + 1)
    # every legal undo of every state is the other end of exactly one forward edge
    assert np.asarray(ENV.backward_mask(graph.states)).sum() == len(graph.parent)
    assert len(set(zip(graph.child, graph.undo))) == len(graph.parent)
    allowed = np.asarray(ENV.backward_mask(graph.states))
    assert allowed[graph.child, graph.undo].all() and (allowed.any(-1) == (graph.depth > 0)).all()
    # the states that can stop are the parses, each once; none of them can go on
    ends = np.asarray(ENV.stop_mask(graph.states))
    assert not np.asarray(ENV.forward_mask(graph.states))[ends].any()
    assert (graph.depth[ends] == 2 * n - 1).all()
    expected = {chart(tree).tobytes() for tree, _ in inside_outside.all_parses(grammar(), sentence)}
    assert {label.tobytes() for label in np.asarray(graph.states.label)[ends]} == expected and ends.sum() == len(expected)


def test_log_joint_of_every_parse_is_the_brute_force_one():
    for sentence in SENTENCES:
        trees, p = zip(*inside_outside.all_parses(grammar(), sentence))
        state = pcfg.Forest(jnp.asarray([chart(t) for t in trees]), jnp.full(len(trees), len(sentence)))
        found = joint(THETA, jnp.repeat(padded([sentence]), len(trees), 0), state)
        np.testing.assert_allclose(found, np.log(p), rtol=2e-5)


def test_gradient_of_log_joint_is_counts_less_what_was_expected_of_them():
    """d log p(x, z) / d logits = uses of the rule - uses of its left side x its probability."""
    trees, _ = zip(*inside_outside.all_parses(grammar(), SENTENCES[4]))
    slope = jax.jit(jax.grad(lambda theta, state: log_joint(theta, padded([SENTENCES[4]]), state, MODEL)[0]))
    rules, words = grammar()
    for tree in (trees[3], trees[-5]):
        state = pcfg.Forest(jnp.asarray(chart(tree))[None], jnp.array([4]))
        grads = slope(THETA, state)
        uses, said = np.zeros_like(rules), np.zeros_like(words)
        for (i, j), symbol in tree.items():
            if i == j:
                said[symbol - 2, SENTENCES[4][i]] += 1
            else:
                k = next(k for k in range(i, j) if (i, k) in tree and (k + 1, j) in tree)
                uses[symbol, tree[i, k], tree[k + 1, j]] += 1
        np.testing.assert_allclose(grads["rules"], uses - uses.sum((1, 2), keepdims=True) * rules, atol=1e-5)
        np.testing.assert_allclose(grads["words"], said - said.sum(-1, keepdims=True) * words, atol=1e-5)


def test_draws_follow_the_grammar_given_the_length():
    for n in (2, 3):
        size = 40_000
        x, z = jax.jit(pcfg.draw)(THETA, jax.random.key(n), padded([[0] * n] * size))
        assert (np.asarray(pcfg.length_of(x)) == n).all() and np.asarray(ENV.stop_mask(z)).all()
        p, total = {}, 0.0
        for sentence in itertools.product(range(VOCABULARY), repeat=n):
            for tree, q in inside_outside.all_parses(grammar(), sentence):
                p[(*sentence, *chart(tree).ravel())] = q
                total += q
        drawn = np.concatenate([np.asarray(x)[:, :n], np.asarray(z.label).reshape(size, -1)], -1)
        kinds, count = np.unique(drawn, axis=0, return_counts=True)
        q = np.array([p[tuple(row)] for row in kinds]) / total  # a key error: not a parse
        sigma = np.sqrt(q * (1 - q) / size)
        assert (np.abs(count / size - q) < 5 * sigma + 1e-4).all()
        assert q.sum() > 0.98


root_flow = jax.jit(lambda params, x: MODEL.posterior(params, ENV.features(MODEL.root(x)), x).log_flow)


@pytest.fixture(scope="module")
def learned():
    """The posterior at a fixed grammar: trajectory balance with the gate never open, and a little sleep."""
    steps = 30
    options = EMOptions(loss="tb", e_steps=50, sleep=0.1, trajectories=8, epsilon=0.02, gate_start=-1.0, gate_end=-1.0)
    params_tx, theta_tx = optax.adam(optax.cosine_decay_schedule(1e-2, 50 * steps, 0.01)), optax.sgd(1.0)
    state = init_em(pcfg.init_posterior(jax.random.key(1), ENV, VOCABULARY, 64), THETA, params_tx, theta_tx)
    step, data = make_em_step(MODEL, options, params_tx, theta_tx), padded(SENTENCES)
    for n in range(steps):
        state, _ = step(state, jax.random.key(n), data)
    jax.tree.map(np.testing.assert_array_equal, state.theta, THETA)
    return state.params


@pytest.mark.parametrize("sentence", SENTENCES)
def test_the_posterior_is_exact_at_a_fixed_grammar(learned, sentence):
    graph, x = graph_of(sentence), padded([sentence])
    ends, log_q = terminal_distribution(ENV, joined(MODEL), (learned, x), graph)
    parses = jax.tree.map(lambda leaf: leaf[ends], graph.states)
    log_p, log_z = normalise(joint(THETA, jnp.repeat(x, len(ends), 0), parses))
    marginal = inside_outside.log_marginal(grammar(), sentence)
    np.testing.assert_allclose(log_z, marginal, atol=1e-4)
    np.testing.assert_allclose(np.exp(log_q).sum(), 1.0, atol=1e-5)
    assert total_variation(log_p, log_q) < 0.05
    assert abs(root_flow(learned, x)[0] - marginal) < 0.05
