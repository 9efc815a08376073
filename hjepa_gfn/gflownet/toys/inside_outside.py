"""PCFGs exactly, numpy float64: the inside-outside algorithm (Baker 1979), its EM, all parses of a sentence, a small grammar.

Grammars are (rules [K, S, S] = p(A -> B C), words [M, V] = p(T -> w)); symbols as in `toys.pcfg`; sentences are lists of
word numbers.
"""
from collections.abc import Sequence

import numpy as np

Grammar = tuple[np.ndarray, np.ndarray]

# S -> NP VP | N VP | NP V,  NP -> Det N | N NP,  VP -> V NP | V N;  "fish" is a noun and a verb
NONTERMINALS, PRETERMINALS = ("S", "NP", "VP"), ("Det", "N", "V")
VOCABULARY = ("the", "a", "dog", "cat", "fish", "sees", "likes")


def true_grammar() -> Grammar:
    """The grammar that the corpus is drawn from."""
    names = {name: n for n, name in enumerate(NONTERMINALS + PRETERMINALS)}
    rules = np.zeros((3, 6, 6))
    for above, left, right, p in [
        ("S", "NP", "VP", 0.5), ("S", "N", "VP", 0.25), ("S", "NP", "V", 0.25), ("NP", "Det", "N", 0.8), ("NP", "N", "NP", 0.2),
        ("VP", "V", "NP", 0.6), ("VP", "V", "N", 0.4),
    ]:
        rules[names[above], names[left], names[right]] = p
    words = np.array([[0.6, 0.4, 0, 0, 0, 0, 0], [0, 0, 0.4, 0.3, 0.3, 0, 0], [0, 0, 0, 0, 0.2, 0.5, 0.3]])
    return rules, words


def sample_sentences(grammar: Grammar, size: int, longest: int, seed: int) -> list[list[int]]:
    """`size` sentences of at most `longest` words; longer ones are thrown away."""
    rng, found = np.random.default_rng(seed), []
    rules, words = grammar
    kinds, symbols = rules.shape[:2]
    while len(found) < size:
        todo, said = [0], []
        while todo and len(said) + len(todo) <= longest:
            symbol = todo.pop()
            if symbol >= kinds:
                said.append(int(rng.choice(words.shape[1], p=words[symbol - kinds])))
            else:
                left, right = divmod(int(rng.choice(symbols**2, p=rules[symbol].ravel())), symbols)
                todo += [right, left]
        if not todo:
            found.append(said)
    return found


def inside(grammar: Grammar, sentences: np.ndarray) -> np.ndarray:
    """beta[x, i, j, A] = p(A yields words i..j) of sentences int [N, n]: [N, n, n, S]; beta[:, 0, n-1, 0] = p(x)."""
    rules, words = grammar
    (kinds, symbols), (size, n) = rules.shape[:2], sentences.shape
    beta = np.zeros((size, n, n, symbols))
    for i in range(n):
        beta[:, i, i, kinds:] = words[:, sentences[:, i]].T
    for width in range(2, n + 1):
        for i in range(n - width + 1):
            j = i + width - 1
            for k in range(i, j):
                pairs = beta[:, i, k, :, None] * beta[:, k + 1, j, None, :]
                beta[:, i, j, :kinds] += pairs.reshape(size, -1) @ rules.reshape(kinds, -1).T
    return beta


def log_marginal(grammar: Grammar, sentence: Sequence[int]) -> float:
    """log p(x)."""
    with np.errstate(divide="ignore"):
        return float(np.log(inside(grammar, np.array([sentence]))[0, 0, -1, 0]))


def expected_counts(grammar: Grammar, sentences: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Expected uses of each rule under p(z|x), by inside and outside, summed over sentences int [N, n] with `weight` [N]:
    ([K, S, S], [M, V], log p(x) [N])."""
    rules, words = grammar
    kinds, n = rules.shape[0], sentences.shape[1]
    beta = inside(grammar, sentences)
    alpha = np.zeros_like(beta)  # outside: p(all but words i..j, with A over i..j), over p(x), weighted
    total = beta[:, 0, n - 1, 0]
    alpha[:, 0, n - 1, 0] = weight / total
    of_rules, of_words = np.zeros_like(rules), np.zeros_like(words)
    for width in range(n, 1, -1):
        for i in range(n - width + 1):
            j = i + width - 1
            above = alpha[:, i, j, :kinds]
            spread = np.tensordot(above, rules, 1)  # [N, S, S]
            for k in range(i, j):
                left, right = beta[:, i, k], beta[:, k + 1, j]
                alpha[:, i, k] += np.einsum("xbc,xc->xb", spread, right)
                alpha[:, k + 1, j] += np.einsum("xbc,xb->xc", spread, left)
                pairs = left[:, :, None] * right[:, None, :]
                of_rules += rules * np.tensordot(above.T, pairs, 1)
    for i in range(n):
        np.add.at(of_words.T, sentences[:, i], alpha[:, i, i, kinds:] * beta[:, i, i, kinds:])
    return of_rules, of_words, np.log(total)


def grouped(sentences: Sequence[Sequence[int]]) -> list[tuple[np.ndarray, np.ndarray]]:
    """The different sentences of each length with how often they occur: [(int [N, n], [N]), ...]."""
    lengths = sorted({len(s) for s in sentences})
    return [np.unique([s for s in sentences if len(s) == n], axis=0, return_counts=True) for n in lengths]


def corpus_counts(grammar: Grammar, sentences: Sequence[Sequence[int]]) -> tuple[np.ndarray, np.ndarray, float]:
    """`expected_counts` of a corpus: ([K, S, S], [M, V], mean log p(x) in nats)."""
    parts = [(expected_counts(grammar, x, count), count) for x, count in grouped(sentences)]
    value = sum(float(log_p @ count) for (_, _, log_p), count in parts) / len(sentences)
    return sum(part[0] for part, _ in parts), sum(part[1] for part, _ in parts), value


def _normalised(counts: np.ndarray, axes: tuple[int, ...], unused: np.ndarray) -> np.ndarray:
    """Counts to probabilities over `axes`; what was never used stays as it was."""
    mass = counts.sum(axes, keepdims=True)
    return np.where(mass > 1e-12, counts / np.maximum(mass, 1e-12), unused)


def exact_em(
    grammar: Grammar, sentences: Sequence[Sequence[int]], iterations: int = 500, tolerance: float = 1e-9
) -> tuple[Grammar, list[float]]:
    """Inside-outside EM from `grammar`: (grammar, mean log p(x) before each M-step); stops at a rise below `tolerance`."""
    history: list[float] = []
    for _ in range(iterations):
        rules, words, value = corpus_counts(grammar, sentences)
        history.append(value)
        if len(history) > 1 and history[-1] - history[-2] < tolerance:
            break
        grammar = (_normalised(rules, (1, 2), grammar[0]), _normalised(words, (1,), grammar[1]))
    return grammar, history


def all_parses(grammar: Grammar, sentence: Sequence[int]) -> list[tuple[dict[tuple[int, int], int], float]]:
    """Every labelled binary tree over the sentence with probability p(x, z), by brute force: ({(i, j): symbol}, p)."""
    rules, words = grammar
    kinds, symbols = rules.shape[:2]

    def over(i: int, j: int, symbol: int) -> list[tuple[dict[tuple[int, int], int], float]]:
        if i == j:
            return [({(i, i): symbol}, words[symbol - kinds, sentence[i]])] if symbol >= kinds else []
        if symbol >= kinds:
            return []
        return [({(i, j): symbol} | left | right, rules[symbol, b, c] * p * q)
                for k in range(i, j) for b in range(symbols) for c in range(symbols)
                for left, p in over(i, k, b) for right, q in over(k + 1, j, c)]

    return over(0, len(sentence) - 1, 0)
