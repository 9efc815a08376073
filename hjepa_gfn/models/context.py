"""Context c = (s_0, percept, mission) as a few tokens: mission words and learned queries that look at the view."""
import jax
import jax.numpy as jnp
from flax import linen as nn

from hjepa_gfn.models.layers import Block, Compute, Dense, Embed, Source, masked


class ContextLayer(nn.Module):
    """Words and queries attend to each other and to the cells of the view."""

    heads: int
    width: int
    mlp: int
    compute: Compute

    @nn.compact
    def __call__(self, x: jnp.ndarray, cells: jnp.ndarray, bias: jnp.ndarray):
        block = Block(self.heads, self.width, self.mlp, ("cells",), self.compute, name="block")
        return block(x, bias, [Source("cells", cells, jnp.zeros(()))]), None


class ContextEncoder(nn.Module):
    """Mission words and `queries` learned queries attend over a percept's cells and the JEPA state s_0."""

    width: int
    heads: int
    mlp: int
    layers: int
    queries: int
    text_vocab: int
    compute: Compute = Compute()

    @nn.compact
    def __call__(
        self, percept: dict[str, jnp.ndarray], state: jnp.ndarray, mission: jnp.ndarray
    ) -> tuple[jnp.ndarray, jnp.ndarray]:
        """percept {view uint8 [B,7,7,3] (or a map [B,n,n,3]), direction int32 [B]}; state z1 [B, Z] (stop-gradient);
        mission int32 [B, M].

        Word 0 of a mission is padding.

        Returns: tokens [B, C, D] and mask bool [B, C], C = queries + 1 + M.
        """
        view = percept["view"].astype(jnp.int32).reshape(percept["view"].shape[0], -1, 3)
        batch = view.shape[0]
        flat = (None, None)
        cells = Embed(16, self.width, 0.5, flat, name="object")(view[..., 0])
        cells += Embed(8, self.width, 0.5, flat, name="colour")(view[..., 1])
        cells += Embed(4, self.width, 0.5, flat, name="door_state")(view[..., 2])
        cells += Embed(view.shape[1], self.width, 0.5, flat, name="cell")(jnp.arange(view.shape[1]))
        cells += Embed(4, self.width, 0.5, flat, name="direction")(percept["direction"])[:, None]
        words = Embed(self.text_vocab, self.width, 0.5, ("vocab", "embed"), name="word")(mission)
        words += Embed(mission.shape[1], self.width, 0.5, flat, name="place")(jnp.arange(mission.shape[1]))
        s_0 = Dense(self.width, name="state")(jax.lax.stop_gradient(state))[:, None]
        queries = Embed(self.queries, self.width, 0.5, flat, name="query")(jnp.arange(self.queries))
        x = jnp.concatenate([jnp.broadcast_to(queries, (batch, *queries.shape)), s_0, words], axis=1)
        mask = jnp.concatenate([jnp.ones((batch, self.queries + 1), bool), mission > 0], axis=1)
        bias = masked(mask)[:, None, None, None, :]
        x, cells = x[:, None].astype(self.compute.dtype), cells.astype(self.compute.dtype)
        scanned = self.compute.over_layers(ContextLayer, self.layers, nn.broadcast)
        x, _ = scanned(self.heads, self.width, self.mlp, self.compute, name="stack")(x, cells, bias)
        return x[:, 0].astype(jnp.float32), mask
