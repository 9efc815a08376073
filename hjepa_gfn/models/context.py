"""Context c = (s_0, s_T or none, percept, mission) as a few tokens: mission words and learned queries that look at the view."""
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

from hjepa_gfn.models.layers import Block, Compute, Dense, Embed, Mlp, Norm, Source, masked

SECTORS = 9  # places of a cell that `worlds.heading.sectors` tells apart


class Target(NamedTuple):
    """The world state s_T that a plan is to lead to, where it has one."""

    state: jnp.ndarray  # [B, Z] JEPA state; zeros where there is none
    level: jnp.ndarray  # int32 [B] the JEPA level (1, 2, ...) that it is a state of; 0: there is none


def no_target(like: jnp.ndarray) -> Target:
    """No target in any row; `like` [B, Z] are states."""
    return Target(jnp.zeros_like(like), jnp.zeros(like.shape[:1], jnp.int32))


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


def neighbours(cells: jnp.ndarray) -> jnp.ndarray:
    """The sum [B, n n, D] of the four cells beside each of cells [B, n n, D]; beyond the edge there is nothing."""
    batch, count, width = cells.shape
    n = math.isqrt(count)
    grid = jnp.pad(cells.reshape(batch, n, n, width), ((0, 0), (1, 1), (1, 1), (0, 0)))
    beside = grid[:, :-2, 1:-1] + grid[:, 2:, 1:-1] + grid[:, 1:-1, :-2] + grid[:, 1:-1, 2:]
    return beside.reshape(cells.shape)


class Aim(nn.Module):
    """Points at one of a percept's cells, or at none of them, and reads off as a token what is pointed at (a pointer network;
    Vinyals et al. 2015, eq. 3). What it is to point at is learned from where experts go (`objectives.aims`)."""

    width: int

    @nn.compact
    def __call__(self, queries: jnp.ndarray, cells: jnp.ndarray) -> tuple[jnp.ndarray, jnp.ndarray]:
        """queries [B, Q, D], cells [B, M, D]. Returns: the token [B, D] and logits [B, M + 1], the last for none of them."""
        asked = queries.reshape(queries.shape[0], -1)
        seen = Norm(name="norm")(cells)
        # what a cell is for depends on what lies beside it (a free cell next to the box)
        keys = Dense(self.width, use_bias=False, name="key")(seen)
        keys += Dense(self.width, use_bias=False, name="around")(neighbours(seen))
        found = jnp.einsum("bd,bmd->bm", Mlp((2 * self.width,), self.width, name="query")(asked), keys) * self.width**-0.5
        logits = jnp.concatenate([found, Dense(1, name="none")(asked)], axis=-1)
        weights = jax.nn.softmax(logits)[:, :-1]
        return jnp.einsum("bm,bmd->bd", weights, Dense(self.width, name="value")(seen)), logits


class ContextEncoder(nn.Module):
    """Mission words and `queries` learned queries attend over a percept's cells and the JEPA state s_0.

    With `targets` > 0, a token more says which state of which JEPA level (1 .. targets) the plan is to lead to, or that none is
    given. With `aim`, one more says what there is at the cell that the mission aims at."""

    width: int
    heads: int
    mlp: int
    layers: int
    queries: int
    text_vocab: int
    compute: Compute = Compute()
    targets: int = 0
    aim: bool = False

    @nn.compact
    def __call__(
        self, percept: dict[str, jnp.ndarray], state: jnp.ndarray, mission: jnp.ndarray, target: Target | None = None
    ) -> tuple[jnp.ndarray, jnp.ndarray, jnp.ndarray | None]:
        """percept {view uint8 [B,7,7,3] (or a map [B,n,n,3]; with a fourth number, the cells' sectors, see
        `worlds.heading`), direction int32 [B]}; state z1 [B, Z] (stop-gradient); mission int32 [B, M].

        Word 0 of a mission is padding.

        Returns: tokens [B, C, D] and mask bool [B, C], C = queries + 1 + M, or one more each with `targets` and `aim`, of which
        the aim follows the queries; and with `aim` where it points, logits [B, cells + 1] (see `Aim`), else None.
        """
        view = percept["view"].astype(jnp.int32).reshape(percept["view"].shape[0], -1, percept["view"].shape[-1])
        batch = view.shape[0]
        flat = (None, None)
        cells = Embed(16, self.width, 0.5, flat, name="object")(view[..., 0])
        cells += Embed(8, self.width, 0.5, flat, name="colour")(view[..., 1])
        cells += Embed(4, self.width, 0.5, flat, name="door_state")(view[..., 2])
        if view.shape[-1] > 3:
            cells += Embed(SECTORS, self.width, 0.5, flat, name="sector")(view[..., 3])
        cells += Embed(view.shape[1], self.width, 0.5, flat, name="cell")(jnp.arange(view.shape[1]))
        cells += Embed(4, self.width, 0.5, flat, name="direction")(percept["direction"])[:, None]
        words = Embed(self.text_vocab, self.width, 0.5, ("vocab", "embed"), large=True, name="word")(mission)
        words += Embed(mission.shape[1], self.width, 0.5, flat, name="place")(jnp.arange(mission.shape[1]))
        s_0 = Dense(self.width, name="state")(jax.lax.stop_gradient(state))[:, None]
        queries = Embed(self.queries, self.width, 0.5, flat, name="query")(jnp.arange(self.queries))
        x = [jnp.broadcast_to(queries, (batch, *queries.shape)), s_0]
        if self.targets:
            aim = jax.lax.stop_gradient(no_target(state) if target is None else target)
            given = (aim.level > 0)[:, None]
            s_end = jnp.where(given, Dense(self.width, name="target")(aim.state), 0.0)
            x.append((s_end + Embed(self.targets + 1, self.width, 0.5, flat, name="target_level")(aim.level))[:, None])
        x = jnp.concatenate([*x, words], axis=1)
        mask = jnp.concatenate([jnp.ones((batch, x.shape[1] - mission.shape[1]), bool), mission > 0], axis=1)
        bias = masked(mask)[:, None, None, None, :]
        x, cells = x[:, None].astype(self.compute.dtype), cells.astype(self.compute.dtype)
        scanned = self.compute.over_layers(ContextLayer, self.layers, nn.broadcast)
        x, _ = scanned(self.heads, self.width, self.mlp, self.compute, name="stack")(x, cells, bias)
        x = x[:, 0].astype(jnp.float32)
        if not self.aim:
            return x, mask, None
        asking, rest = x[:, : self.queries], x[:, self.queries :]
        token, logits = Aim(self.width, name="aim")(asking, cells.astype(jnp.float32))
        x = jnp.concatenate([asking, token[:, None], rest], axis=1)
        return x, jnp.pad(mask, ((0, 0), (1, 0)), constant_values=True), logits
