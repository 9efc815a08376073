"""Attention of whole texts by a TPU kernel, Pallas' splash attention: no matrix of words by keys is ever held in memory.

It knows masks, no biases: a static one (words see those before them) and one of keys, by row. Blocks of masks that let nothing
through are skipped. Lengths are padded to multiples of 128 (keys that nobody sees, queries that nobody asked for); any head
size will do, but those below 128 fill the chip's lanes in part. On other platforms than TPUs the same kernel is interpreted:
for tests.
"""
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_kernel, splash_attention_mask

from hjepa_gfn.distributed.sharding import per_device, platform

LANES = 128   # lengths are multiples of it
BLOCK = 512   # words, and keys, that are worked on at once: at most


def splash(q: jnp.ndarray, kv: jnp.ndarray, seen: jnp.ndarray, causal: bool) -> jnp.ndarray:
    """softmax(q k) v over the keys that are seen; a row that may see no key gets zeros, and no gradient.

    Args:
      q: [B, T, L, H, K], scaled.
      kv: [B, T, M, H, 2K] by head: keys, then values.
      seen: bool [B, T, M].
      causal: the first L keys are those of the queries' own words, which see themselves and the words before them.

    Returns: [B, T, L, H, K].
    """
    by_row = ("batch", None, None)
    by_head = (*by_row, "heads", None)
    return per_device(partial(_on_device, causal, platform() != "tpu"), (by_head, by_head, by_row))(q, kv, seen)


def _on_device(causal: bool, interpret: bool, q: jnp.ndarray, kv: jnp.ndarray, seen: jnp.ndarray) -> jnp.ndarray:
    """`splash` of one device's rows and heads."""
    words, heads, keys = q.shape[2], q.shape[3], kv.shape[2]
    q_length, kv_length = _whole(words), _whole(keys + 1)
    # The kernel divides by the number of keys seen. A row of texts that sees none looks at a padding key, whose value is 0.
    seen = jnp.concatenate([seen, ~seen.any(-1, keepdims=True)], axis=-1)
    seen = jnp.pad(seen, [(0, 0), (0, 0), (0, kv_length - keys - 1)]).reshape(-1, kv_length)
    k, v = jnp.split(_by_head(kv, kv_length), 2, -1)
    segments = splash_attention_kernel.SegmentIds(jnp.ones(q_length, jnp.int32), seen.astype(jnp.int32))
    kernel = _kernel(words if causal else 0, q_length, kv_length, heads, interpret)
    mixed = jax.vmap(kernel, (0, 0, 0, splash_attention_kernel.SegmentIds(None, 0)))(_by_head(q, q_length), k, v, segments)
    return jnp.moveaxis(mixed[..., :words, :], -3, -2).reshape(q.shape)


def _kernel(causal_words: int, q_length: int, kv_length: int, heads: int, interpret: bool) -> jax.tree_util.Partial:
    """The kernel of one row, [H, L, K] each, with its gradient's two; the first `causal_words` keys are seen causally."""
    mask = np.ones((q_length, kv_length), bool)
    mask[:, :causal_words] = np.arange(causal_words) <= np.arange(q_length)[:, None]
    q, kv = _block(q_length), _block(kv_length)
    sizes = splash_attention_kernel.BlockSizes(
        block_q=q, block_kv=kv, block_q_dkv=q, block_kv_dkv=kv, block_q_dq=q, block_kv_dq=kv)
    return splash_attention_kernel.make_splash_mha(
        splash_attention_mask.MultiHeadMask([splash_attention_mask.NumpyMask(mask)] * heads),
        block_sizes=sizes, head_shards=1, q_seq_shards=1, interpret=interpret)


def _by_head(x: jnp.ndarray, length: int) -> jnp.ndarray:
    """[B, T, L, H, K] -> [B T, H, length, K], padded with zeros."""
    x = jnp.moveaxis(x, -2, -3)
    return jnp.pad(x, [(0, 0)] * 3 + [(0, length - x.shape[-2]), (0, 0)]).reshape(-1, x.shape[2], length, x.shape[-1])


def _whole(length: int) -> int:
    return -(-length // LANES) * LANES


def _block(length: int) -> int:
    """The largest block that divides a padded length."""
    return max(size for size in range(LANES, min(BLOCK, length) + 1, LANES) if length % size == 0)
