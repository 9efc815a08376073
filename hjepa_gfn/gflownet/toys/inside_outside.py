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


def inside(grammar: Grammar, sentence: Sequence[int]) -> np.ndarray:
    """beta[i, j, A] = p(A yields words i..j): [n, n, S]; beta[0, n-1, 0] = p(x)."""
    rules, words = grammar
    (kinds, symbols), n = rules.shape[:2], len(sentence)
    beta = np.zeros((n, n, symbols))
    for i, word in enumerate(sentence):
        beta[i, i, kinds:] = words[:, word]
    for width in range(2, n + 1):
        for i in range(n - width + 1):
            j = i + width - 1
            for k in range(i, j):
                beta[i, j, :kinds] += np.einsum("abc,b,c->a", rules, beta[i, k], beta[k + 1, j])
    return beta


def log_marginal(grammar: Grammar, sentence: Sequence[int]) -> float:
    """log p(x)."""
    with np.errstate(divide="ignore"):
        return float(np.log(inside(grammar, sentence)[0, -1, 0]))


def expected_counts(grammar: Grammar, sentence: Sequence[int]) -> tuple[np.ndarray, np.ndarray, float]:
    """Expected uses of each rule under p(z|x), by inside and outside: ([K, S, S], [M, V], log p(x))."""
    rules, words = grammar
    kinds, n = rules.shape[0], len(sentence)
    beta = inside(grammar, sentence)
    alpha = np.zeros_like(beta)  # outside: p(all but words i..j, with A over i..j)
    alpha[0, n - 1, 0] = 1.0
    total = beta[0, n - 1, 0]
    of_rules, of_words = np.zeros_like(rules), np.zeros_like(words)
    for width in range(n, 1, -1):
        for i in range(n - width + 1):
            j = i + width - 1
            above = alpha[i, j, :kinds]
            for k in range(i, j):
                left, right = beta[i, k], beta[k + 1, j]
                alpha[i, k] += np.einsum("abc,a,c->b", rules, above, right)
                alpha[k + 1, j] += np.einsum("abc,a,b->c", rules, above, left)
                of_rules += rules * np.einsum("a,b,c->abc", above, left, right) / total
    for i, word in enumerate(sentence):
        of_words[:, word] += alpha[i, i, kinds:] * beta[i, i, kinds:] / total
    return of_rules, of_words, float(np.log(total))


def corpus_log_marginal(grammar: Grammar, sentences: Sequence[Sequence[int]]) -> float:
    """mean log p(x) over the sentences, in nats."""
    kinds, count = np.unique([" ".join(map(str, s)) for s in sentences], return_counts=True)
    values = [log_marginal(grammar, [int(w) for w in kind.split()]) for kind in kinds]
    return float(np.dot(values, count) / count.sum())


def _normalised(counts: np.ndarray, axes: tuple[int, ...], unused: np.ndarray) -> np.ndarray:
    """Counts to probabilities over `axes`; what was never used stays as it was."""
    mass = counts.sum(axes, keepdims=True)
    return np.where(mass > 1e-12, counts / np.maximum(mass, 1e-12), unused)


def exact_em(grammar: Grammar, sentences: Sequence[Sequence[int]], iterations: int = 300, tolerance: float = 1e-9
             ) -> tuple[Grammar, list[float]]:
    """Inside-outside EM from `grammar`: (grammar, mean log p(x) before each M-step); stops at a rise below `tolerance`."""
    kinds, count = np.unique([" ".join(map(str, s)) for s in sentences], return_counts=True)
    unique, history = [[int(w) for w in kind.split()] for kind in kinds], []
    for _ in range(iterations):
        rules, words, value = np.zeros_like(grammar[0]), np.zeros_like(grammar[1]), 0.0
        for sentence, n in zip(unique, count):
            of_rules, of_words, log_p = expected_counts(grammar, sentence)
            rules, words, value = rules + n * of_rules, words + n * of_words, value + n * log_p / count.sum()
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
