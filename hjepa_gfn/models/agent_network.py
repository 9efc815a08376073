"""One network, many heads: policies over edits, backward policy, flow, energy, explainer, habitual action.

Every method is pure; call as `network.apply({"params": p}, ..., method="edits")`. Plans carry axes [B, T]: batch, step
of a trajectory.
"""
import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

from hjepa_gfn.models.context import ContextEncoder, Target
from hjepa_gfn.models.layers import NEG, Compute, Dense, Embed, Mlp
from hjepa_gfn.models.shared_encoder import Draft, Memory, SharedEncoder
from hjepa_gfn.plans import Plan, PlanSpec, backward_mask, forward_mask


@dataclasses.dataclass(frozen=True)
class NetworkSizes:
    """Sizes of the agent's network (one config field each)."""

    width: int = 64
    heads: int = 4
    mlp: int = 128
    layers: int = 2
    context_layers: int = 2
    queries: int = 4
    text_vocab: int = 512
    text_length: int = 48
    num_actions: int = 7
    more_ground: int = 0  # terms of the energy, besides the residual of each scale, that have a weight
    targets: int = 0      # JEPA levels that the state a plan is to lead to may be of; 0: plans have no target
    aim: bool = False     # whether a token of the context says what is at the cell that the mission aims at
    compute: Compute = Compute()


class Context(NamedTuple):
    """What every policy is conditioned on."""

    tokens: jnp.ndarray  # [B, C, D]
    mask: jnp.ndarray    # bool [B, C]


class EditLogits(NamedTuple):
    """Log probabilities of one policy at each plan."""

    log_stop: jnp.ndarray      # [B, T]  log P(STOP|z), 0 where nothing else is legal
    log_go: jnp.ndarray        # [B, T]  log(1 - P(STOP|z))
    log_site: jnp.ndarray      # [B, T, sites]  log P(site|z, not STOP)
    log_back: jnp.ndarray      # [B, T, sites]  log P_B(site|z)


class AgentNetwork(nn.Module):
    """Context encoder, shared encoder and heads; the posterior and the prior policy have heads of their own."""

    spec: PlanSpec
    sizes: NetworkSizes

    def setup(self) -> None:
        s, spec = self.sizes, self.spec
        self.context_encoder = ContextEncoder(
            s.width, s.heads, s.mlp, s.context_layers, s.queries, s.text_vocab, s.compute, s.targets, s.aim)
        self.encoder = SharedEncoder(
            spec, s.width, s.heads, s.mlp, s.layers, s.text_vocab, s.text_length, s.compute)
        sites = 3 * spec.num_scales
        for name in ("prior", "posterior"):
            setattr(self, f"{name}_stop", Dense(1, scale=0.1))
            setattr(self, f"{name}_site", Dense(sites, scale=0.1))
            setattr(self, f"{name}_code", Mlp((2 * s.width,), spec.vocabulary, 0.1))
            setattr(self, f"{name}_backward", Dense(sites, scale=0.0))  # uniform over legal edits at first
            setattr(self, f"{name}_flow", Mlp((s.width,), 1, 0.0))
        self.edit_embed = Embed(3 * spec.num_scales, s.width, 0.5, (None, "embed"))
        self.energy_head = Mlp((2 * s.width,), 1, 0.1)
        self.ground_weight = self.param(
            "ground_weight", nn.with_logical_partitioning(nn.initializers.zeros, (None,)), (spec.num_scales + s.more_ground,))
        self.explainer_out = Dense(s.text_vocab, ("embed", "vocab"), scale=0.5)
        self.habit_head = Mlp((2 * s.width,), s.num_actions, 0.1)

    # --- context -----------------------------------------------------------------------------------------------------
    def context(
        self, percept: dict[str, jnp.ndarray], state: jnp.ndarray, mission: jnp.ndarray, target: Target | None = None
    ) -> Context:
        return self.pointed(percept, state, mission, target)[0]

    def pointed(
        self, percept: dict[str, jnp.ndarray], state: jnp.ndarray, mission: jnp.ndarray, target: Target | None = None
    ) -> tuple[Context, jnp.ndarray | None]:
        """The context, and logits [B, cells + 1] of where the mission aims at (None without `sizes.aim`; see `context.Aim`)."""
        tokens, mask, aim = self.context_encoder(percept, state, mission, target)
        return Context(tokens, mask), aim

    def habit(self, context: Context) -> jnp.ndarray:
        """Logits [B, actions] of the habitual action."""
        asking = context.tokens[:, : self.sizes.queries + self.sizes.aim]
        return self.habit_head(asking.reshape(asking.shape[0], -1))

    # --- policies over edits -----------------------------------------------------------------------------------------
    # Rows come in two kinds: the first `readers` rows read a text (posterior policy), the others do not (prior policy).
    def read(self, context: Context, text: jnp.ndarray | None = None) -> Memory:
        """What plans are seen against, computed once for all plans: context, and text int32 [R, X] in the first R rows."""
        return self.encoder.read(context.tokens, context.mask, text)

    def recall(self, plan: Plan, memory: Memory) -> jnp.ndarray:
        """Plan features [B, T, N, D]; the rows whose text is in the memory are the posterior's."""
        return self.encoder.plan_features(plan, memory)

    def features(self, plan: Plan, context: Context, text: jnp.ndarray | None = None) -> jnp.ndarray:
        """Plan features [B, T, N, D]; with text int32 [R, X] the first R rows are the posterior's."""
        return self.recall(plan, self.read(context, text))

    def _heads(self, head: str, x: jnp.ndarray, readers: int) -> jnp.ndarray:
        """Applies posterior_<head> to the first `readers` rows and prior_<head> to the others."""
        parts = []
        if readers:
            parts.append(getattr(self, f"posterior_{head}")(x[:readers]))
        if readers < x.shape[0]:
            parts.append(getattr(self, f"prior_{head}")(x[readers:]))
        return parts[0] if len(parts) == 1 else jnp.concatenate(parts)

    def _pool(self, features: jnp.ndarray, plan: Plan) -> jnp.ndarray:
        weight = plan.valid[..., None] / jnp.maximum(plan.valid.sum(-1), 1)[..., None, None]
        return jnp.sum(features * weight, axis=-2)

    def edits(self, features: jnp.ndarray, plan: Plan, readers: int) -> EditLogits:
        """Stop, site and backward log probabilities at each plan, from its features."""
        legal, undo = forward_mask(plan, self.spec), backward_mask(plan, self.spec)
        site = jnp.where(legal, self._heads("site", features, readers).reshape(legal.shape), NEG)
        back = jnp.where(undo, self._heads("backward", features, readers).reshape(undo.shape), NEG)
        stop = self._heads("stop", self._pool(features, plan), readers)[..., 0]
        can_go = legal.any(-1)
        log_stop = jnp.where(can_go, jax.nn.log_sigmoid(stop), 0.0)
        log_go = jnp.where(can_go, jax.nn.log_sigmoid(-stop), NEG)
        return EditLogits(log_stop, log_go, jax.nn.log_softmax(site), jax.nn.log_softmax(back))

    def codes(self, features: jnp.ndarray, site: jnp.ndarray, readers: int) -> jnp.ndarray:
        """Log probabilities [B, ..., vocabulary] of the code at forward `site` [B, ...], given features [B, ..., N, D];
        entries outside the site's own vocabulary are impossible. Rows of EXPAND sites mean nothing (it has no code)."""
        spec = self.spec
        per_token = 3 * spec.num_scales
        token = (site // per_token)[..., None, None]
        chosen = jnp.take_along_axis(features, token, axis=-2, mode="clip")[..., 0, :]
        logits = self._heads("code", chosen + self.edit_embed(site % per_token), readers)
        scale, kind = site // 3 % spec.num_scales, jnp.minimum(site % 3, 1)
        return jax.nn.log_softmax(jnp.where(jnp.asarray(spec.code_mask())[kind, scale], logits, NEG), axis=-1)

    def log_flow_head(self, features: jnp.ndarray, plan: Plan, readers: int) -> jnp.ndarray:
        """log F~(z) [B, T] of the separate flow heads (config `flow = "head"`)."""
        return self._heads("flow", self._pool(features, plan), readers)[..., 0]

    # --- generative model --------------------------------------------------------------------------------------------
    def energy_terms(self, features: jnp.ndarray, plan: Plan) -> jnp.ndarray:
        """Learned part of E(z;c) [B, T]: a sum over the plan's tokens, from the prior's features."""
        return jnp.sum(jnp.where(plan.valid, self.energy_head(features)[..., 0], 0.0), axis=-1)

    def ground_weights(self) -> jnp.ndarray:
        """Raw weights of the energy's grounded terms, the JEPA residual of each scale first (the energy applies softplus)."""
        return self.ground_weight

    def explain(self, plan: Plan, context: Context, text: jnp.ndarray) -> jnp.ndarray:
        """Log probabilities [B, T, X-1, vocab] of words 1.. of text int32 [B, T, X] given those before."""
        y = self.encoder.explain(plan, context.tokens, context.mask, text[..., :-1])
        return jax.nn.log_softmax(self.explainer_out(y), axis=-1)

    def prepare(self, plan: Plan, context: Context) -> Draft:
        """An empty text about plans [B]."""
        return self.encoder.prepare(plan, context.tokens, context.mask, self.sizes.text_length)

    def write(self, draft: Draft, word: jnp.ndarray, place: jnp.ndarray) -> tuple[jnp.ndarray, Draft]:
        """Log probabilities [B, vocab] of the word after `word` int32 [B], number `place` int32 [] of the text, and the draft
        with `word` in it: what `explain` says of whole texts, one word at a time."""
        y, draft = self.encoder.write(draft, word, place)
        return jax.nn.log_softmax(self.explainer_out(y), axis=-1), draft

    def __call__(self, percept, state, mission, plan: Plan, text):
        """Touches every parameter (initialisation only). Plan leaves [B, T, ...], text int32 [B, X]."""
        context = self.context(percept, state, mission)
        features, words = self.encoder.touch(plan, context.tokens, context.mask, text)
        site = jnp.zeros(plan.batch_shape, jnp.int32)
        total = self.habit(context).sum() + self.explainer_out(words).sum() + self.energy_terms(features, plan).sum()
        for readers in (0, plan.batch_shape[0]):
            total += self.edits(features, plan, readers).log_stop.sum() + self.codes(features, site, readers).sum()
            total += self.log_flow_head(features, plan, readers).sum()
        return total
