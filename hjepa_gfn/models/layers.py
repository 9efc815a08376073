"""The few layers all else is built of. One declaration of a parameter gives shape, initialiser and logical axes."""
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import linen as nn

from hjepa_gfn.distributed.sharding import constrain

NEG = -1e9


class Dense(nn.Module):
    """y = x W + b, logical axes (input, output) on W; `scale` multiplies the initial weights (0 for a quiet head)."""

    features: int
    axes: tuple[str | None, str | None] = ("embed", None)
    use_bias: bool = True
    scale: float = 1.0

    @nn.compact
    def __call__(self, x: jnp.ndarray) -> jnp.ndarray:
        init = nn.initializers.variance_scaling(max(self.scale, 1e-12) ** 2, "fan_in", "truncated_normal")
        if self.scale == 0.0:
            init = nn.initializers.zeros
        kernel = self.param("kernel", nn.with_logical_partitioning(init, self.axes), (x.shape[-1], self.features))
        y = x @ kernel
        if self.use_bias:
            zeros = nn.with_logical_partitioning(nn.initializers.zeros, self.axes[1:])
            y += self.param("bias", zeros, (self.features,))
        return y


class Embed(nn.Module):
    """Table lookup, logical axes (codes, embed) unless told otherwise; ids int32 [...] -> [..., features]."""

    size: int
    features: int
    scale: float = 1.0
    axes: tuple[str | None, str | None] = ("codes", "embed")

    def setup(self) -> None:
        init = nn.initializers.normal(self.scale)
        self.table = self.param("table", nn.with_logical_partitioning(init, self.axes), (self.size, self.features))

    def __call__(self, ids: jnp.ndarray) -> jnp.ndarray:
        return jnp.take(self.table, ids, axis=0, mode="clip")


class Norm(nn.Module):
    """LayerNorm with a scale, no bias."""

    @nn.compact
    def __call__(self, x: jnp.ndarray) -> jnp.ndarray:
        init = nn.with_logical_partitioning(nn.initializers.ones, ("embed",))
        centred = x - x.mean(-1, keepdims=True)
        return centred * jax.lax.rsqrt(jnp.mean(centred**2, -1, keepdims=True) + 1e-6) * self.param(
            "scale", init, (x.shape[-1],))


class Mlp(nn.Module):
    """x -> gelu layers -> linear; hidden sizes on the logical axis `mlp`."""

    hidden: Sequence[int]
    features: int
    last_scale: float = 1.0

    @nn.compact
    def __call__(self, x: jnp.ndarray) -> jnp.ndarray:
        axes = ("embed", "mlp")
        for i, width in enumerate(self.hidden):
            x = nn.gelu(Dense(width, axes, name=f"hidden_{i}")(x))
            axes = ("mlp", None) if axes[0] == "embed" else ("embed", "mlp")
        return Dense(self.features, (axes[0], None), scale=self.last_scale, name="out")(x)


def rows_of(table: jnp.ndarray, index: jnp.ndarray, axis: int) -> jnp.ndarray:
    """take_along_axis for indices known to be in range: no bounds logic in the compiled program."""
    return jnp.take_along_axis(table, index, axis=axis, mode="promise_in_bounds")


class Source:
    """What a block may attend to: features [B, M, D] or [B, T, M, D], with an additive bias.

    bias broadcasts to [B, T, H, L, M]: 0 where attention is free, NEG where it is masked.
    """

    def __init__(self, name: str, features: jnp.ndarray, bias: jnp.ndarray):
        self.name, self.features, self.bias = name, features, bias


def masked(mask: jnp.ndarray) -> jnp.ndarray:
    """Additive attention bias of a boolean mask."""
    return jnp.where(mask, 0.0, NEG)


class Block(nn.Module):
    """Pre-norm attention over several sources in one softmax, then an MLP. x: [B, T, L, D]."""

    heads: int
    mlp: int

    @nn.compact
    def __call__(self, x: jnp.ndarray, self_bias: jnp.ndarray, others: Sequence[Source]) -> jnp.ndarray:
        width = x.shape[-1]
        size = width // self.heads
        split = lambda y: y.reshape(*y.shape[:-1], self.heads, size)  # noqa: E731
        h = Norm(name="norm_attention")(x)
        q = split(Dense(width, ("embed", "heads"), use_bias=False, name="q")(h)) * size**-0.5
        sources = [Source("self", h, self_bias)]
        sources += [Source(s.name, Norm(name=f"norm_{s.name}")(s.features), s.bias) for s in others]
        logits, values = [], []
        for s in sources:
            kv = Dense(2 * width, ("embed", "heads"), use_bias=False, name=f"kv_{s.name}")(s.features)
            k, v = jnp.split(kv, 2, -1)
            shape = "btmhk" if k.ndim == 4 else "bmhk"
            logits.append(jnp.einsum(f"btlhk,{shape}->bthlm", q, split(k)) + s.bias)
            values.append((shape, split(v)))
        weights = jax.nn.softmax(jnp.concatenate(logits, -1), axis=-1)
        edges = [0]
        for piece in logits:
            edges.append(edges[-1] + piece.shape[-1])
        mixed = sum(
            jnp.einsum(f"bthlm,{shape}->btlhk", weights[..., a:b], v)
            for (shape, v), a, b in zip(values, edges[:-1], edges[1:], strict=True)
        )
        x += Dense(width, ("heads", "embed"), use_bias=False, name="out")(mixed.reshape(x.shape))
        h = Norm(name="norm_mlp")(x)
        h = nn.gelu(Dense(self.mlp, ("embed", "mlp"), name="up")(h))
        x += Dense(width, ("mlp", "embed"), name="down")(h)
        return constrain(x, ("batch",) + (None,) * (x.ndim - 2) + ("features",))
