"""The few layers all else is built of. One declaration of a parameter gives shape, initialiser and logical axes."""
import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

from hjepa_gfn.distributed.lookup import look_up, take
from hjepa_gfn.distributed.sharding import constrain
from hjepa_gfn.errors import UserError

NEG = -1e9

# What a rematerialised layer keeps for its backward pass, besides its input: nothing, or the results of weight matmuls.
REMAT = {
    "full": None,
    "dots": jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
}


@dataclasses.dataclass(frozen=True)
class Compute:
    """How the trunk computes; parameters, heads and losses are float32 whatever this says."""

    dtype: str = "float32"   # of activations and weights within the trunk: "float32" or "bfloat16"
    remat: str = "none"      # what the backward pass computes again: "none", or a policy of `REMAT`
    attention: str = "xla"   # of whole texts: "xla", or "splash", a TPU kernel (`models.attention`); all other is XLA's

    def __post_init__(self) -> None:
        choices = {"dtype": ("float32", "bfloat16"), "remat": ("none", *REMAT), "attention": ("xla", "splash")}
        for name, allowed in choices.items():
            if getattr(self, name) not in allowed:
                raise UserError(f"model.compute.{name}={getattr(self, name)!r}: must be one of {', '.join(allowed)}")

    def over_layers(self, layer: type[nn.Module], length: int, in_axes: Any, methods: Sequence[str] | None = None) -> Any:
        """`layer` scanned over its depth (one compiled body, parameters stacked), rematerialised as configured."""
        if self.remat != "none":
            # prevent_cse: the scan already keeps the compiler from undoing it
            layer = nn.remat(layer, policy=REMAT[self.remat], prevent_cse=False, methods=methods)
        return nn.scan(
            layer, variable_axes={"params": 0}, split_rngs={"params": True}, in_axes=in_axes, length=length,
            metadata_params={nn.PARTITION_NAME: "layers"}, methods=methods)


def rowwise(x: jnp.ndarray, last: str | None = "features") -> jnp.ndarray:
    """States that x [B, ..., D] is spread over its rows, and over its last axis as the logical axis `last` is."""
    return constrain(x, ("batch",) + (None,) * (x.ndim - 2) + (last,))


class Dense(nn.Module):
    """y = x W + b, logical axes (input, output) on W; `scale` multiplies the initial weights (0 for a quiet head)."""

    features: int
    axes: tuple[str | None, str | None] = ("embed", None)
    use_bias: bool = True
    scale: float = 1.0
    dtype: str = "float32"

    @nn.compact
    def __call__(self, x: jnp.ndarray) -> jnp.ndarray:
        init = nn.initializers.variance_scaling(max(self.scale, 1e-12) ** 2, "fan_in", "truncated_normal")
        if self.scale == 0.0:
            init = nn.initializers.zeros
        kernel = self.param("kernel", nn.with_logical_partitioning(init, self.axes), (x.shape[-1], self.features))
        y = x.astype(self.dtype) @ kernel.astype(self.dtype)
        if self.use_bias:
            zeros = nn.with_logical_partitioning(nn.initializers.zeros, self.axes[1:])
            y += self.param("bias", zeros, (self.features,)).astype(self.dtype)
        # Left to the partitioner, gradients of stacked layers whose weights and batch share a mesh axis came out wrong (XLA
        # of jax 0.10.2, CPU; BUILD_NOTES.md): every matmul says how its result lies.
        return rowwise(y, "features" if self.axes[1] == "embed" else self.axes[1])


class Embed(nn.Module):
    """Table lookup, logical axes (codes, embed) unless told otherwise; ids int32 [...] -> [..., features]."""

    size: int
    features: int
    scale: float = 1.0
    axes: tuple[str | None, str | None] = ("codes", "embed")
    large: bool = False  # whether the table is more than what is looked up in it: see `distributed.lookup`

    def setup(self) -> None:
        init = nn.initializers.normal(self.scale)
        self.table = self.param("table", nn.with_logical_partitioning(init, self.axes), (self.size, self.features))

    def __call__(self, ids: jnp.ndarray) -> jnp.ndarray:
        return (look_up if self.large else take)(self.table, ids)


class Norm(nn.Module):
    """LayerNorm with a scale, no bias; computed in float32, whatever comes in or goes out."""

    dtype: str = "float32"

    @nn.compact
    def __call__(self, x: jnp.ndarray) -> jnp.ndarray:
        init = nn.with_logical_partitioning(nn.initializers.ones, ("embed",))
        scale = self.param("scale", init, (x.shape[-1],))
        x = x.astype(jnp.float32)
        centred = x - x.mean(-1, keepdims=True)
        return (centred * jax.lax.rsqrt(jnp.mean(centred**2, -1, keepdims=True) + 1e-6) * scale).astype(self.dtype)


class Mlp(nn.Module):
    """x -> gelu layers -> linear; hidden sizes on the logical axis `mlp`."""

    hidden: Sequence[int]
    features: int
    last_scale: float = 1.0
    first: str | None = "embed"  # the logical axis of the input; None where its size is no power of two to be spread evenly
    whole: bool = False          # small and the same on every device, whatever the mesh

    @nn.compact
    def __call__(self, x: jnp.ndarray) -> jnp.ndarray:
        last = None if self.whole else "mlp"
        for i, width in enumerate(self.hidden):
            # Each matmul but the last makes a layer spread over `mlp`, from a whole one: nothing is computed twice.
            first = None if self.whole else "embed" if i else self.first
            x = nn.gelu(Dense(width, (first, last), name=f"hidden_{i}")(rowwise(x) if i else x))
        return Dense(self.features, (last, None), scale=self.last_scale, name="out")(x)


def rows_of(table: jnp.ndarray, index: jnp.ndarray, axis: int) -> jnp.ndarray:
    """take_along_axis for indices known to be in range: no bounds logic in the compiled program."""
    return jnp.take_along_axis(table, index, axis=axis, mode="promise_in_bounds")


class Source(NamedTuple):
    """What a block may attend to: features [B, M, D] or [B, T, M, D], with an additive bias.

    bias broadcasts to [B, T, H, L, M]: 0 where attention is free, NEG where it is masked.
    """

    name: str
    features: jnp.ndarray
    bias: jnp.ndarray


class Keys(NamedTuple):
    """The same, with keys and values [B, M, 2D] or [B, T, M, 2D] (by head: keys, then values) from `Block.keys`."""

    kv: jnp.ndarray
    bias: jnp.ndarray


def masked(mask: jnp.ndarray) -> jnp.ndarray:
    """Additive attention bias of a boolean mask."""
    return jnp.where(mask, 0.0, NEG)


class Block(nn.Module):
    """Pre-norm attention over itself and several sources in one softmax, then an MLP. x: [B, T, L, D]."""

    heads: int
    width: int
    mlp: int
    sources: tuple[str, ...] = ()
    compute: Compute = Compute()

    def setup(self) -> None:
        dtype = self.compute.dtype
        into = lambda features, axis: Dense(features, ("embed", axis), use_bias=False, dtype=dtype)  # noqa: E731
        self.norm_attention, self.norm_mlp = Norm(dtype), Norm(dtype)
        self.q, self.kv_self = into(self.width, "heads"), into(2 * self.width, "heads")
        for name in self.sources:
            setattr(self, f"norm_{name}", Norm(dtype))
            setattr(self, f"kv_{name}", into(2 * self.width, "heads"))
        self.out = Dense(self.width, ("heads", "embed"), use_bias=False, dtype=dtype)
        self.up = Dense(self.mlp, ("embed", "mlp"), dtype=dtype)
        self.down = Dense(self.width, ("mlp", "embed"), dtype=dtype)

    def keys(self, name: str, features: jnp.ndarray) -> jnp.ndarray:
        """Keys and values [..., M, 2D] of a source's features [..., M, D]."""
        return getattr(self, f"kv_{name}")(getattr(self, f"norm_{name}")(features))

    def keys_of_self(self, x: jnp.ndarray) -> jnp.ndarray:
        """Keys and values [..., L, 2D] of the block's own input."""
        return self.kv_self(self.norm_attention(x))

    def __call__(self, x: jnp.ndarray, self_bias: jnp.ndarray, others: Sequence[Source | Keys]) -> jnp.ndarray:
        return self.attend(x, [Keys(self.keys_of_self(x), self_bias), *others])

    def attend(self, x: jnp.ndarray, sources: Sequence[Source | Keys]) -> jnp.ndarray:
        """The block where all that x [B, T, L, D] attends to is given, its own keys among it."""
        q = self._queries(x)
        logits, values = [], []
        for s in sources:
            # per head, its keys and then its values: splitting them moves nothing between devices that share the heads
            k, v = jnp.split(self._split(self._kv(s)), 2, -1)
            shape = "btmhk" if k.ndim == 5 else "bmhk"
            found = jnp.einsum(f"btlhk,{shape}->bthlm", q, k, preferred_element_type=jnp.float32)
            logits.append(found + s.bias)
            values.append((shape, v))
        weights = jax.nn.softmax(jnp.concatenate(logits, -1), axis=-1).astype(self.compute.dtype)
        edges = [0]
        for piece in logits:
            edges.append(edges[-1] + piece.shape[-1])
        mixed = sum(
            jnp.einsum(f"bthlm,{shape}->btlhk", weights[..., a:b], v)
            for (shape, v), a, b in zip(values, edges[:-1], edges[1:], strict=True)
        )
        return self._onward(x, mixed)

    def whole_text(self, x: jnp.ndarray, own: jnp.ndarray | None, others: Sequence[Source | Keys]) -> jnp.ndarray:
        """The block where no bias differs by head or word, for texts x [B, T, L, D]: with the kernel, where so configured.

        own: the bias [B, 1 or T, 1, 1, L] of the text's own words; None: each sees itself and those before it. The others'
        biases are [B, 1 or T, 1, 1, M].
        """
        keys, (batch, steps, words) = self.keys_of_self(x), x.shape[:3]
        if self.compute.attention == "xla":
            bias = masked(jnp.tril(jnp.ones((words, words), bool))) if own is None else own
            return self.attend(x, [Keys(keys, bias), *others])
        from hjepa_gfn.models.attention import splash  # importing Pallas takes a while

        sources = [Keys(keys, masked(jnp.ones((1, 1, 1, 1, words), bool)) if own is None else own), *others]
        kv, seen = [], []
        for s in sources:
            found = self._split(self._kv(s))
            if found.ndim == 4:  # a source of the row: the kernel wants it once for each of its texts
                found = jnp.broadcast_to(found[:, None], (batch, steps, *found.shape[1:]))
            kv.append(found)
            seen.append(jnp.broadcast_to(s.bias[:, :, 0, 0] > NEG / 2, (batch, steps, s.bias.shape[-1])))
        mixed = splash(self._queries(x), jnp.concatenate(kv, 2), jnp.concatenate(seen, -1), causal=own is None)
        return self._onward(x, mixed)

    def _queries(self, x: jnp.ndarray) -> jnp.ndarray:
        return self._split(self.q(self.norm_attention(x))) * (self.width // self.heads) ** -0.5

    def _kv(self, source: Source | Keys) -> jnp.ndarray:
        return source.kv if isinstance(source, Keys) else self.keys(source.name, source.features)

    def _onward(self, x: jnp.ndarray, mixed: jnp.ndarray) -> jnp.ndarray:
        """What follows attention."""
        x = x + self.out(mixed.reshape(x.shape))
        x = x + self.down(nn.gelu(self.up(self.norm_mlp(x))))
        return rowwise(x)

    def _split(self, y: jnp.ndarray) -> jnp.ndarray:
        return y.reshape(*y.shape[:-1], self.heads, y.shape[-1] // self.heads)
