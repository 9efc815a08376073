"""Parses of short sentences under a PCFG in Chomsky normal form, built bottom-up, as the latents of GFlowNet-EM.

Symbols: nonterminals 0..K-1 (0 starts), preterminals K..K+M-1. Rules A -> B C with A a nonterminal, B and C any; T -> word. A
sentence x is int32 [L], -1 past its end; its parse z is a forest that grows: first each word is tagged, left to right, then
neighbouring trees are merged in any order. Each internal node of a binary tree splits at a boundary of its own, which labels
the merge and its undo one to one. Only one tree over the whole sentence, labelled 0, can stop.
"""
import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from hjepa_gfn.gflownet.em import LatentModel
from hjepa_gfn.gflownet.policy import Logits
from hjepa_gfn.gflownet.toys.mlp import apply_mlp, init_mlp


class Forest(NamedTuple):
    """Trees over a sentence as a chart: `label` says which spans are constituents, whatever order they were made in."""

    label: jnp.ndarray   # int32 [B, L, L], 1 + symbol of span i..j (i <= j, both included), 0 for none
    length: jnp.ndarray  # int32 [B] words


@dataclasses.dataclass(frozen=True)
class Parsing:
    """Action: tag T of the next word, or M + k K + A: merge the trees that meet between words k and k+1 into an A.
    Undo: 0 untags the last word, 1 + k splits the root whose children meet at k. The longest sentence has `words` words."""

    nonterminals: int = 3
    preterminals: int = 3
    words: int = 6

    @property
    def horizon(self) -> int:
        return 2 * self.words - 1

    @property
    def num_actions(self) -> int:
        return self.preterminals + (self.words - 1) * self.nonterminals

    @property
    def num_undos(self) -> int:
        return self.words

    @property
    def symbols(self) -> int:
        return self.nonterminals + self.preterminals

    @functools.cached_property
    def _over(self) -> np.ndarray:
        """bool [L-1, L, L]: whether span i..j covers the boundary between words k and k+1."""
        k, i, j = np.ogrid[: self.words - 1, : self.words, : self.words]
        return (i <= k) & (k < j)

    def root(self, length: jnp.ndarray) -> Forest:
        """Bare words; length int32 [B] (a root for each sentence: masks depend on the length)."""
        return Forest(jnp.zeros((length.shape[0], self.words, self.words), jnp.int32), length)

    def _tagged(self, state: Forest) -> jnp.ndarray:
        return (jnp.diagonal(state.label, axis1=1, axis2=2) > 0).sum(-1).astype(jnp.int32)

    def _covered(self, state: Forest) -> jnp.ndarray:
        """int32 [B, L-1]: constituents over each boundary; 1 where it is a root's own split."""
        return jnp.sum((state.label[:, None] > 0) & self._over, axis=(2, 3))

    def depth(self, state: Forest) -> jnp.ndarray:
        return (state.label > 0).sum((1, 2)).astype(jnp.int32)

    def forward(self, state: Forest, action: jnp.ndarray) -> tuple[Forest, jnp.ndarray]:
        tag, merge = action < self.preterminals, action - self.preterminals
        at, word = jnp.maximum(merge // self.nonterminals, 0), self._tagged(state)
        present, row = state.label > 0, jnp.arange(action.shape[0])
        start = jnp.argmax(present[row, :, at], -1)  # the widest tree that ends at word `at`
        follow = jnp.minimum(at + 1, self.words - 1)
        end = self.words - 1 - jnp.argmax(present[row, follow][:, ::-1], -1)
        i, j = jnp.where(tag, word, start), jnp.where(tag, word, end)
        symbol = jnp.where(tag, self.nonterminals + action, merge % self.nonterminals)
        new = state.label.at[row, i, j].set(symbol.astype(jnp.int32) + 1, mode="drop")
        return Forest(new, state.length), jnp.where(tag, 0, at + 1).astype(jnp.int32)

    def backward(self, state: Forest, undo: jnp.ndarray) -> tuple[Forest, jnp.ndarray]:
        tag, at = undo == 0, jnp.maximum(undo - 1, 0)
        last = jnp.maximum(self._tagged(state) - 1, 0)
        word = (jnp.arange(self.words) == last[:, None])[:, :, None] & jnp.eye(self.words, dtype=bool)
        gone = jnp.where(tag[:, None, None], word, jnp.asarray(self._over)[at]) & (state.label > 0)
        symbol = jnp.sum(jnp.where(gone, state.label, 0), (1, 2)) - 1
        action = jnp.where(tag, symbol - self.nonterminals, self.preterminals + at * self.nonterminals + symbol)
        return Forest(jnp.where(gone, 0, state.label), state.length), action.astype(jnp.int32)

    def forward_mask(self, state: Forest) -> jnp.ndarray:
        tagging = self._tagged(state) < state.length
        inside = jnp.arange(self.words - 1) < (state.length - 1)[:, None]
        merge = ~tagging[:, None] & inside & (self._covered(state) == 0)
        last = merge.sum(-1) == 1  # the tree over the sentence is labelled with the start symbol
        label = ~last[:, None] | (jnp.arange(self.nonterminals) == 0)
        merge = (merge[:, :, None] & label[:, None]).reshape(merge.shape[0], -1)
        return jnp.concatenate([jnp.repeat(tagging[:, None], self.preterminals, 1), merge], -1)

    def stop_mask(self, state: Forest) -> jnp.ndarray:
        return self.depth(state) == 2 * state.length - 1

    def backward_mask(self, state: Forest) -> jnp.ndarray:
        covered = self._covered(state)
        untag = (covered.sum(-1) == 0) & (self._tagged(state) > 0)
        return jnp.concatenate([untag[:, None], covered == 1], -1)

    def features(self, state: Forest) -> jnp.ndarray:
        """[B, L (S + 1) + 2 L - 1]: for each word the root above it, boundaries inside trees, and the length.

        What lies below the roots changes neither what can follow nor its reward.
        """
        span = np.arange(self.words)
        width = np.maximum(span - span[:, None] + 1, 0)  # [L, L]
        size = self.symbols + 1
        over = (span[:, None, None] >= span[:, None]) & (span[:, None, None] <= span)  # [L word, L, L]
        widest = jnp.where(over & (state.label > 0)[:, None], width * size + state.label[:, None], 0).max((2, 3))
        roots = jax.nn.one_hot(widest % size, size).reshape(widest.shape[0], -1)
        ends = jax.nn.one_hot(state.length - 1, self.words)
        return jnp.concatenate([roots, (self._covered(state) > 0).astype(jnp.float32), ends], -1)


def length_of(x: jnp.ndarray) -> jnp.ndarray:
    """int32 [B]: words of sentences [B, L]."""
    return (x >= 0).sum(-1).astype(jnp.int32)


def log_grammar(theta: Any) -> tuple[jnp.ndarray, jnp.ndarray]:
    """(log p(A -> B C) [K, S, S], log p(T -> w) [M, V]) of theta = {"rules": [K, S, S], "words": [M, V]} logits."""
    rules = theta["rules"]
    log_rules = jax.nn.log_softmax(rules.reshape(rules.shape[0], -1), -1).reshape(rules.shape)
    return log_rules, jax.nn.log_softmax(theta["words"], -1)


def log_prior(theta: Any, state: Forest) -> jnp.ndarray:
    """log p(z): sum over merged nodes of log p(A -> B C), also of partial forests: [B]."""
    log_rules, _ = log_grammar(theta)
    words = state.label.shape[1]
    i, k, j = np.array([(i, k, j) for i in range(words) for j in range(i + 1, words) for k in range(i, j)]).T
    above, left, right = state.label[:, i, j], state.label[:, i, k], state.label[:, k + 1, j]
    node = (above > 0) & (left > 0) & (right > 0)  # constituents never cross: at most one k for each i..j
    value = log_rules.at[above - 1, left - 1, right - 1].get(mode="clip")
    return jnp.sum(jnp.where(node, value, 0.0), -1)


def log_likelihood(theta: Any, x: jnp.ndarray, state: Forest) -> jnp.ndarray:
    """log p(x|z): sum over tagged words of log p(T -> w); x int32 [B, L] -> [B]."""
    _, log_words = log_grammar(theta)
    tag = jnp.diagonal(state.label, axis1=1, axis2=2)
    kinds = theta["rules"].shape[0]
    value = log_words.at[tag - 1 - kinds, x].get(mode="clip")
    return jnp.sum(jnp.where((tag > 0) & (x >= 0), value, 0.0), -1)


def draw(theta: Any, key: jnp.ndarray, x: jnp.ndarray) -> tuple[jnp.ndarray, Forest]:
    """(x', z') ~ p(x, z | length), lengths as in x int32 [B, L]: a parse top-down, widest spans first, then its words.

    Given the length, a span of w words under A splits as p(A -> B C) f(k, B) f(w - k, C) / f(w, A), where f(w, A) is the
    probability that A yields w words. (Any distribution of lengths trains the same q(z|x).)
    """
    log_rules, log_words = log_grammar(theta)
    kinds, symbols = log_rules.shape[:2]
    batch, words = x.shape
    yields = [None, jnp.log((jnp.arange(symbols) >= kinds) + 1e-30)]
    tables = {}
    for w in range(2, words + 1):
        parts = jnp.stack([log_rules + yields[k][:, None] + yields[w - k] for k in range(1, w)], 1)  # [K, w-1, S, S]
        tables[w] = parts.reshape(kinds, -1)
        total = jax.nn.logsumexp(tables[w], -1)
        yields.append(jnp.concatenate([total, jnp.full(symbols - kinds, -1e4)]))
    length = length_of(x)
    label = jnp.zeros((batch, words, words), jnp.int32).at[jnp.arange(batch), 0, length - 1].set(1)
    for w in range(words, 1, -1):
        key, k_split = jax.random.split(key)
        i = np.arange(words - w + 1)  # all spans of w words at once: those that are in the tree do not overlap
        above = label[:, i, i + w - 1]
        drawn = jax.random.categorical(k_split, tables[w][jnp.maximum(above - 1, 0)])
        split, pair = drawn // symbols**2 + 1, drawn % symbols**2
        for k in range(1, w):
            here = (above > 0) & (split == k)
            for span, symbol in (((i, i + k - 1), pair // symbols), ((i + k, i + w - 1), pair % symbols)):
                label = label.at[:, *span].set(jnp.where(here, symbol + 1, label[:, *span]))
    tag = jnp.diagonal(label, axis1=1, axis2=2) - 1 - kinds
    said = jax.random.categorical(key, log_words[jnp.maximum(tag, 0)])
    return jnp.where(jnp.arange(words) < length[:, None], said, -1).astype(jnp.int32), Forest(label, length)


def pcfg_model(env: Parsing, vocabulary: int) -> LatentModel:
    """The toy as the driver wants it; x int32 [B, L], -1 past the end.

    The policy's logits are a network's of the whole forest, plus tables of the two trees that meet and of the word to be
    tagged, which all boundaries and places share.
    """
    size = env.symbols + 1

    def posterior(params: Any, features: jnp.ndarray, x: jnp.ndarray) -> Logits:
        words = jax.nn.one_hot(x, vocabulary)
        out = apply_mlp(params["network"], jnp.concatenate([features, words.reshape(x.shape[0], -1)], -1))
        roots = features[:, : env.words * size].reshape(-1, env.words, size)
        bare = roots[:, :, 0] * (x >= 0)
        following = bare * (jnp.cumsum(bare, -1) == 1)  # one-hot: the first word without a tag
        tag = jnp.einsum("bl,blv,vt->bt", following, words, params["tag"])
        merge = jnp.einsum("bky,bkz,yza->bka", roots[:, :-1], roots[:, 1:], params["merge"])
        shared = jnp.concatenate([tag, merge.reshape(x.shape[0], -1)], -1)
        return Logits(jnp.concatenate([out[:, : env.num_actions] + shared, out[:, -2:-1]], -1), None, out[:, -1])

    return LatentModel(env, lambda x: env.root(length_of(x)), posterior, log_prior, log_likelihood, draw)


def init_posterior(key: jnp.ndarray, env: Parsing, vocabulary: int, width: int = 64, depth: int = 2) -> Any:
    """Parameters of the network of `pcfg_model`."""
    size = env.symbols + 1
    inputs = env.words * size + 2 * env.words - 1 + env.words * vocabulary
    return {"network": init_mlp(key, inputs, env.num_actions + 2, width, depth),
            "merge": jnp.zeros((size, size, env.nonterminals)), "tag": jnp.zeros((vocabulary, env.preterminals))}


def init_grammar(key: jnp.ndarray, env: Parsing, vocabulary: int, scale: float = 1.0) -> Any:
    """Random logits theta: equal symbols would stay equal under EM."""
    k_rules, k_words = jax.random.split(key)
    return {"rules": scale * jax.random.normal(k_rules, (env.nonterminals, env.symbols, env.symbols)),
            "words": scale * jax.random.normal(k_words, (env.preterminals, vocabulary))}
