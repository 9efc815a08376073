"""The shared encoder: a plan stream and a text stream that attend to each other (DESIGN section 1).

    prior      plan attends to (plan, context)
    posterior  plan attends to (plan, context, text); text, read in both directions, attends to (text, context) and,
               when `mutual`, to the plan as well (then the text is encoded anew for each partial plan)
    explain    text attends causally to (text, context, plan); the plan does not see the text
The same parameters serve all three: what differs is who may look at whom. Layers are scanned: one compiled body for
any depth.
"""
from typing import NamedTuple

import jax.numpy as jnp
from flax import linen as nn

from hjepa_gfn.models.layers import Block, Dense, Embed, Norm, Source, masked
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
        # an edge's scale must be told from its content: its own rows of one linear map
        return x + Dense(self.width, ("embed", None), use_bias=False, name="edges")(edges.reshape(*x.shape[:-1], -1))


class Seen(NamedTuple):
    """What every layer looks at besides the two streams (constant over depth)."""

    context: jnp.ndarray       # [B, C, D]
    context_bias: jnp.ndarray  # [B, 1, 1, 1, C]
    plan_bias: jnp.ndarray     # [B, T, H, N, N] relations between plan tokens, masked on free slots
    plan_seen: jnp.ndarray     # [B, T, 1, 1, N] mask of plan tokens, for the text
    text_bias: jnp.ndarray     # text self-attention: causal [X, X], or the mask of words [B, 1, 1, 1, X]


Carry = tuple[jnp.ndarray, jnp.ndarray | None]


class Layer(nn.Module):
    """One layer of both streams; carry (plan [B, T, N, D], text [B, 1 or T, X, D] or None)."""

    heads: int
    mlp: int
    mutual: bool

    def setup(self) -> None:
        self.plan_block = Block(self.heads, self.mlp)
        self.text_block = Block(self.heads, self.mlp)

    def prior(self, carry: Carry, seen: Seen) -> tuple[Carry, None]:
        x, y = carry
        return (self.plan_block(x, seen.plan_bias, [Source("context", seen.context, seen.context_bias)]), y), None

    def posterior(self, carry: Carry, seen: Seen) -> tuple[Carry, None]:
        x, y = carry
        context = Source("context", seen.context, seen.context_bias)
        words, word_bias = y, seen.text_bias
        readers = y.shape[0]
        if readers < x.shape[0]:  # the rows that read no text see padding only
            fill = [(0, x.shape[0] - readers)] + [(0, 0)] * 3
            words = jnp.pad(y, fill)
            word_bias = jnp.pad(word_bias, [*fill, (0, 0)], constant_values=masked(jnp.zeros((), bool)))
        words = words if self.mutual else words[:, 0]
        plan = [Source("plan", x[:readers], seen.plan_seen[:readers])] if self.mutual else []
        context_of_text = Source("context", seen.context[:readers], seen.context_bias[:readers])
        after = self.plan_block(x, seen.plan_bias, [context, Source("text", words, word_bias)])
        return (after, self.text_block(y, seen.text_bias, [context_of_text, *plan])), None

    def explain(self, carry: Carry, seen: Seen) -> tuple[Carry, None]:
        x, y = carry
        context = Source("context", seen.context, seen.context_bias)
        y = self.text_block(y, seen.text_bias, [context, Source("plan", x, seen.plan_seen)])
        return (self.plan_block(x, seen.plan_bias, [context]), y), None

    def everything(self, carry: Carry, seen: Seen) -> tuple[Carry, None]:
        """Touches every parameter (initialisation only)."""
        x, y = carry
        context, plan = Source("context", seen.context, seen.context_bias), Source("plan", x, seen.plan_seen)
        words = Source("text", y if self.mutual else y[:, 0], seen.text_bias)
        after = self.plan_block(x, seen.plan_bias, [context, words])
        return (after, self.text_block(y, seen.text_bias, [context, plan])), None


class SharedEncoder(nn.Module):
    """Two streams of `layers` layers. See the module's docstring for who attends to whom."""

    spec: PlanSpec
    width: int
    heads: int
    mlp: int
    layers: int
    text_vocab: int
    text_length: int
    mutual: bool

    def setup(self) -> None:
        self.plan_embed = PlanEmbed(self.spec, self.width)
        self.relation = Embed((2 * MAX_OFFSET + 1) * self.spec.num_scales**2, self.heads, 0.02, (None, None))
        self.word = Embed(self.text_vocab, self.width, 0.5, ("vocab", "embed"))
        self.place = Embed(self.text_length, self.width, 0.5, (None, "embed"))
        scanned = nn.scan(
            Layer, variable_axes={"params": 0}, split_rngs={"params": True}, in_axes=nn.broadcast, length=self.layers,
            metadata_params={nn.PARTITION_NAME: "layers"}, methods=["prior", "posterior", "explain", "everything"])
        self.stack = scanned(self.heads, self.mlp, self.mutual)
        self.plan_norm, self.text_norm = Norm(), Norm()

    def _seen(self, plan: Plan, context: jnp.ndarray, context_mask: jnp.ndarray, text_bias: jnp.ndarray) -> Seen:
        """The plan's relations are a bias by signed distance in reading order and both tags: a function of the tree,
        not of the buffer's order."""
        distance = plan.position[..., None, :] - plan.position[..., :, None]
        offset = jnp.clip(distance, -MAX_OFFSET, MAX_OFFSET) + MAX_OFFSET
        scales = self.spec.num_scales
        index = (offset * scales + plan.tag[..., :, None]) * scales + plan.tag[..., None, :]
        valid = masked(plan.valid)[..., None, None, :]
        relations = jnp.moveaxis(self.relation(index), -1, -3) + valid
        return Seen(context, masked(context_mask)[:, None, None, None, :], relations, valid, text_bias)

    def _text(self, text: jnp.ndarray) -> jnp.ndarray:
        return self.word(text) + self.place(jnp.arange(text.shape[-1]))

    def plan_features(
        self, plan: Plan, context: jnp.ndarray, context_mask: jnp.ndarray, text: jnp.ndarray | None
    ) -> jnp.ndarray:
        """Plan leaves [B, T, ...], context [B, C, D] -> plan features [B, T, N, D].

        text int32 [R, X], R <= B (0: pad): the first R rows read it (posterior), the others read none (prior).
        """
        x = self.plan_embed(plan)
        if text is None:
            (x, _), _ = self.stack.prior((x, None), self._seen(plan, context, context_mask, jnp.zeros(())))
            return self.plan_norm(x)
        y = self._text(text)[:, None]
        if self.mutual:
            y = jnp.broadcast_to(y, (y.shape[0], x.shape[1], *y.shape[2:]))
        words = masked(text > 0)[:, None, None, None, :]
        (x, _), _ = self.stack.posterior((x, y), self._seen(plan, context, context_mask, words))
        return self.plan_norm(x)

    def explain(self, plan: Plan, context: jnp.ndarray, context_mask: jnp.ndarray, text: jnp.ndarray) -> jnp.ndarray:
        """Features [B, T, X, D] of text int32 [B, T, X] at each word, seeing the words before it, context and plan."""
        length = text.shape[-1]
        causal = masked(jnp.tril(jnp.ones((length, length), bool)))
        seen = self._seen(plan, context, context_mask, causal)
        (_, y), _ = self.stack.explain((self.plan_embed(plan), self._text(text)), seen)
        return self.text_norm(y)

    def touch(
        self, plan: Plan, context: jnp.ndarray, context_mask: jnp.ndarray, text: jnp.ndarray
    ) -> tuple[jnp.ndarray, jnp.ndarray]:
        """Plan and text features after a pass through every parameter (initialisation only). text int32 [B, X]."""
        seen = self._seen(plan, context, context_mask, masked(text > 0)[:, None, None, None, :])
        (x, y), _ = self.stack.everything((self.plan_embed(plan), self._text(text)[:, None]), seen)
        return self.plan_norm(x), self.text_norm(y)
