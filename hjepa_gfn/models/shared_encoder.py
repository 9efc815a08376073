"""The shared encoder: a plan stream and a text stream that attend to each other (DESIGN section 1).

    prior      plan attends to (plan, context)
    posterior  plan attends to (plan, context, text); text, read in both directions, attends to (text, context)
    explain    text attends causally to (text, context, plan); the plan does not see the text
The same parameters serve all three: what differs is who may look at whom. What does not change while a plan is built
(context and text, as keys and values of every layer: the `Memory`) is computed once; so is, while a text is written, what
it sees of the plan. Layers are scanned: one compiled body for any depth.
"""
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

from hjepa_gfn.models.layers import Block, Compute, Dense, Embed, Keys, Norm, Source, masked, rowwise
from hjepa_gfn.plans import Plan, PlanSpec, edge_exists

MAX_OFFSET = 8


class PlanEmbed(nn.Module):
    """Plan tokens [B, T, N, D]: a state's code and tag, and the content of each edge that leaves it."""

    spec: PlanSpec
    width: int

    @nn.compact
    def __call__(self, plan: Plan) -> jnp.ndarray:
        spec, offsets = self.spec, self.spec.offsets()
        vocabulary = Embed(spec.vocabulary + 2, self.width, 0.5, name="code")
        first, placeholder = spec.vocabulary, spec.vocabulary + 1
        state = jnp.where(plan.position == 0, first, plan.code + jnp.asarray(offsets[0])[plan.tag])
        exists = edge_exists(plan)
        held = jnp.where(plan.action > 0, plan.action - 1 + jnp.asarray(offsets[1]), placeholder)
        coded = vocabulary(jnp.concatenate([state[..., None], held], axis=-1))
        # absent, plain, expanded: one table entry per scale
        status = jnp.where(exists, 1 + plan.expanded, 0) + 3 * jnp.arange(spec.num_scales)
        edges = jnp.where(exists[..., None], coded[..., 1:, :], 0.0)
        edges += Embed(3 * spec.num_scales, self.width, 0.5, (None, "embed"), name="edge")(status)
        x = coded[..., 0, :] + Embed(spec.num_scales, self.width, 0.5, (None, "embed"), name="tag")(plan.tag)
        # an edge's scale must be told from its content: its own rows of one linear map (large, hence `mlp`). What goes in and
        # comes out is stated to be whole: the partitioner otherwise spread lookups and residuals over `tensor` as well
        edges = rowwise(edges.reshape(*x.shape[:-1], -1))
        return x + rowwise(Dense(self.width, ("embed", "mlp"), use_bias=False, name="edges")(edges))


class Memory(NamedTuple):
    """What a plan stream looks at besides the plan, at every layer; fixed while a plan is built. L layers."""

    context: jnp.ndarray             # [L, B, C, 2D] keys and values of the context
    context_bias: jnp.ndarray        # [B, 1, 1, 1, C]
    text: jnp.ndarray | None         # [L, R, X, 2D] of the texts that the first R <= B rows read; None: nobody reads
    text_bias: jnp.ndarray | None    # [R, 1, 1, 1, X]


class Draft(NamedTuple):
    """A text being written, and what it sees: keys and values at every layer."""

    context: jnp.ndarray       # [L, B, C, 2D]
    context_bias: jnp.ndarray  # [B, 1, 1, 1, C]
    plan: jnp.ndarray          # [L, B, N, 2D]
    plan_bias: jnp.ndarray     # [B, 1, 1, 1, N]
    words: jnp.ndarray         # [L, B, X, 2D] of the words so far


class Layer(nn.Module):
    """One layer of both streams: plans [B, T, N, D], texts [B, 1 or T, X, D].

    Every method: (carry, what of this layer was computed before, what all layers see) -> (carry, what of this layer to keep).
    """

    heads: int
    width: int
    mlp: int
    compute: Compute

    def setup(self) -> None:
        sizes = (self.heads, self.width, self.mlp)
        self.plan_block = Block(*sizes, ("context", "text"), self.compute)
        self.text_block = Block(*sizes, ("context", "plan"), self.compute)

    def read(self, y: jnp.ndarray | None, _: None, seen: tuple) -> tuple:
        """Keys and values for the plan stream, of the context [B, C, D] and of a text y [R, 1, X, D] that is read."""
        context, context_bias, bias = seen
        kept = self.plan_block.keys("context", context)
        if y is None:
            return y, (kept, None)
        told = self.plan_block.keys("text", y[:, 0])
        rows = y.shape[0]
        y = self.text_block.whole_text(y, bias, [Source("context", context[:rows], context_bias[:rows])])
        return y, (kept, told)

    def plan(self, x: jnp.ndarray, kv: tuple[jnp.ndarray, jnp.ndarray | None], seen: tuple) -> tuple:
        """x attends to itself (bias [B, T, H, N, N]) and to this layer's part `kv` of the memory."""
        (context, text), (bias, context_bias, text_bias) = kv, seen
        others = [Keys(context, context_bias)]
        if text is not None:
            more = x.shape[0] - text.shape[0]
            if more:  # the rows that read no text see padding only
                text = jnp.pad(text, [(0, more), (0, 0), (0, 0)])
                text_bias = jnp.pad(text_bias, [(0, more)] + [(0, 0)] * 4, constant_values=masked(jnp.zeros((), bool)))
            others.append(Keys(text, text_bias))
        return self.plan_block(x, bias, others), None

    def explain(self, carry: tuple[jnp.ndarray, jnp.ndarray], _: None, seen: tuple) -> tuple:
        """A whole text y [B, T, X, D], each word seeing those before it; beside the plan x that it speaks of."""
        (x, y), (context, plan_bias, plan_seen) = carry, _sourced(seen)
        y = self.text_block.whole_text(y, None, [context, Source("plan", x, plan_seen)])
        return (self.plan_block(x, plan_bias, [context]), y), None

    def prepare(self, x: jnp.ndarray, _: None, seen: tuple) -> tuple:
        """What a text about the plan x [B, 1, N, D] will see at this layer."""
        context, plan_bias = _sourced(seen)
        shown = (self.text_block.keys("context", context.features), self.text_block.keys("plan", x[:, 0]))
        return self.plan_block(x, plan_bias, [context]), shown

    def write(self, y: jnp.ndarray, kv: tuple[jnp.ndarray, ...], seen: tuple) -> tuple:
        """The word y [B, 1, 1, D] at `place` int32 []; returns it one layer on, and this layer's words with it."""
        (context, plan, words), (context_bias, plan_bias, place) = kv, seen
        own = self.text_block.keys_of_self(y)[:, 0]
        words = jax.lax.dynamic_update_slice_in_dim(words, own, place, axis=1)
        before = masked(jnp.arange(words.shape[1]) <= place)
        y = self.text_block.attend(
            y, [Keys(words, before), Keys(context, context_bias), Keys(plan, plan_bias)])
        return y, words

    def everything(self, carry: tuple[jnp.ndarray, jnp.ndarray], _: None, seen: tuple) -> tuple:
        """Touches every parameter (initialisation only)."""
        (x, y), (context, plan_bias, plan_seen, words) = carry, _sourced(seen)
        after = self.plan_block(x, plan_bias, [context, Source("text", y[:, 0], words)])
        return (after, self.text_block(y, words, [context, Source("plan", x, plan_seen)])), None


METHODS = ("read", "plan", "explain", "prepare", "write", "everything")


def _sourced(seen: tuple) -> tuple:
    """(context features, context bias, ...) -> (context as a source, ...)."""
    return Source("context", seen[0], seen[1]), *seen[2:]


class SharedEncoder(nn.Module):
    """Two streams of `layers` layers. See the module's docstring for who attends to whom."""

    spec: PlanSpec
    width: int
    heads: int
    mlp: int
    layers: int
    text_vocab: int
    text_length: int
    compute: Compute = Compute()

    def setup(self) -> None:
        self.plan_embed = PlanEmbed(self.spec, self.width)
        self.relation = Embed((2 * MAX_OFFSET + 1) * self.spec.num_scales**2, self.heads, 0.02, (None, None))
        self.word = Embed(self.text_vocab, self.width, 0.5, ("vocab", "embed"))
        self.place = Embed(self.text_length, self.width, 0.5, (None, "embed"))
        scanned = self.compute.over_layers(Layer, self.layers, (0, nn.broadcast), METHODS)
        self.stack = scanned(self.heads, self.width, self.mlp, self.compute)
        self.plan_norm, self.text_norm = Norm(), Norm()

    def _plan(self, plan: Plan) -> tuple[jnp.ndarray, jnp.ndarray, jnp.ndarray]:
        """Embedded tokens [B, T, N, D], the bias of their relations [B, T, H, N, N] and the mask of tokens [B, T, 1, 1, N].

        Relations are a bias by signed distance in reading order and both tags: a function of the tree, not of the buffer's
        order."""
        distance = plan.position[..., None, :] - plan.position[..., :, None]
        offset = jnp.clip(distance, -MAX_OFFSET, MAX_OFFSET) + MAX_OFFSET
        scales = self.spec.num_scales
        index = (offset * scales + plan.tag[..., :, None]) * scales + plan.tag[..., None, :]
        valid = masked(plan.valid)[..., None, None, :]
        relations = jnp.moveaxis(self.relation(index), -1, -3) + valid
        return self.plan_embed(plan).astype(self.compute.dtype), relations, valid

    def _text(self, text: jnp.ndarray, first: jnp.ndarray | int = 0) -> jnp.ndarray:
        places = self.place(first + jnp.arange(text.shape[-1]))
        return (self.word(text) + places).astype(self.compute.dtype)

    def _context(self, context: jnp.ndarray, context_mask: jnp.ndarray) -> tuple[jnp.ndarray, jnp.ndarray]:
        return context.astype(self.compute.dtype), masked(context_mask)[:, None, None, None, :]

    def read(self, context: jnp.ndarray, context_mask: jnp.ndarray, text: jnp.ndarray | None) -> Memory:
        """Reads context [B, C, D] and texts int32 [R, X] (0: pad), R <= B: the first R rows read one (posterior)."""
        seen = self._context(context, context_mask)
        y = bias = None
        if text is not None:
            y, bias = self._text(text)[:, None], masked(text > 0)[:, None, None, None, :]
        _, (kept, told) = self.stack.read(y, None, (*seen, bias))
        return Memory(kept, seen[1], told, bias)

    def plan_features(self, plan: Plan, memory: Memory) -> jnp.ndarray:
        """Plan leaves [B, T, ...] -> plan features float32 [B, T, N, D]."""
        x, relations, _ = self._plan(plan)
        x, _ = self.stack.plan(x, (memory.context, memory.text), (relations, memory.context_bias, memory.text_bias))
        return self.plan_norm(x)

    def explain(self, plan: Plan, context: jnp.ndarray, context_mask: jnp.ndarray, text: jnp.ndarray) -> jnp.ndarray:
        """Features [B, T, X, D] of text int32 [B, T, X] at each word, seeing the words before it, context and plan."""
        x, relations, valid = self._plan(plan)
        carry = (x, self._text(text))
        (_, y), _ = self.stack.explain(carry, None, (*self._context(context, context_mask), relations, valid))
        return self.text_norm(y)

    def prepare(self, plan: Plan, context: jnp.ndarray, context_mask: jnp.ndarray, length: int) -> Draft:
        """An empty text of at most `length` words about plans [B]; `write` fills it."""
        x, relations, valid = self._plan(jax.tree.map(lambda leaf: leaf[:, None], plan))
        seen = self._context(context, context_mask)
        _, (kept, shown) = self.stack.prepare(x, None, (*seen, relations))
        words = jnp.zeros((*shown.shape[:2], length, shown.shape[-1]), shown.dtype)
        return Draft(kept, seen[1], shown, valid, words)

    def write(self, draft: Draft, word: jnp.ndarray, place: jnp.ndarray) -> tuple[jnp.ndarray, Draft]:
        """Features [B, D] at `word` int32 [B], the text's word number `place` int32 []; and the draft with it."""
        y = self._text(word[:, None, None], place)
        y, words = self.stack.write(
            y, (draft.context, draft.plan, draft.words), (draft.context_bias, draft.plan_bias, place))
        return self.text_norm(y)[:, 0, 0], draft._replace(words=words)

    def touch(
        self, plan: Plan, context: jnp.ndarray, context_mask: jnp.ndarray, text: jnp.ndarray
    ) -> tuple[jnp.ndarray, jnp.ndarray]:
        """Plan and text features after a pass through every parameter (initialisation only). text int32 [B, X]."""
        x, relations, valid = self._plan(plan)
        words = masked(text > 0)[:, None, None, None, :]
        carry = (x, self._text(text)[:, None])
        (x, y), _ = self.stack.everything(carry, None, (*self._context(context, context_mask), relations, valid, words))
        return self.plan_norm(x), self.text_norm(y)
