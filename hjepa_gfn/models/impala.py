"""The networks of EB-JEPA's video example: an Impala convolutional encoder (Espeholt et al. 2018) and a recurrent step.

    stack(x) = block(block(pool(conv(x)))),   block(x) = relu(x + conv(relu(conv(x)))),   E(o) = W flatten(relu(stacks(o))) + b
with 3 x 3 convolutions and a maximum over 3 x 3 with stride 2. EB-JEPA's blocks end, not begin, in a relu.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import linen as nn

# PyTorch's default for convolutions and linear layers, which the published numbers were made with: U(-1, 1) / sqrt(fan in).
BY_FAN_IN = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")


def halve(x: jnp.ndarray) -> jnp.ndarray:
    """Maxima over 3 x 3 with stride 2 and a border of one: [N, H, W, C] -> [N, ceil(H/2), ceil(W/2), C].

    Of shifted slices, whose gradient is elementwise work; that of `nn.max_pool` is a scatter, which is slow on CPU and GPU.
    """
    for axis in (1, 2):
        border = [(0, 0)] * 4
        border[axis] = (1, 1)
        padded = jnp.pad(x, border, constant_values=jnp.finfo(x.dtype).min)
        size = -(-x.shape[axis] // 2)
        shifted = [jax.lax.slice_in_dim(padded, i, i + 2 * size - 1, 2, axis) for i in range(3)]
        x = jnp.maximum(jnp.maximum(shifted[0], shifted[1]), shifted[2])
    return x


class Impala(nn.Module):
    """Pixels [N, H, W, C] -> features [N, state], float32; computed in `dtype`."""

    stacks: Sequence[int]
    state: int
    dtype: str = "float32"

    @nn.compact
    def __call__(self, pixels: jnp.ndarray) -> jnp.ndarray:
        x = pixels.astype(self.dtype)
        for i, channels in enumerate(self.stacks):
            convolve = lambda name, x, c=channels: nn.Conv(
                c, (3, 3), dtype=self.dtype, kernel_init=BY_FAN_IN, bias_init=nn.initializers.zeros, name=name)(x)
            x = halve(convolve(f"stack_{i}", x))
            for block in range(2):
                inner = nn.relu(convolve(f"stack_{i}_{block}_in", x))
                x = nn.relu(x + convolve(f"stack_{i}_{block}_out", inner))
        flat = x.reshape(len(x), -1)
        return nn.Dense(self.state, dtype=self.dtype, kernel_init=BY_FAN_IN, name="out")(flat).astype(jnp.float32)


class Gru(nn.Module):
    """One step of PyTorch's `nn.GRU`, whose hidden state is the model's state: h [..., state], action [..., A] -> h'.

        r, u = sigmoid(V x + W h),   n = tanh(V_n x + r * W_n h),   h' = (1 - u) n + u h      (each V, W with a bias)
    Matmuls are computed in `dtype`, the rest in float32.
    """

    state: int
    dtype: str = "float32"

    @nn.compact
    def __call__(self, h: jnp.ndarray, action: jnp.ndarray) -> jnp.ndarray:
        bound = self.state**-0.5
        init = lambda key, shape, dtype=jnp.float32: jax.random.uniform(key, shape, dtype, -bound, bound)
        gates = lambda name, x: nn.Dense(3 * self.state, dtype=self.dtype, kernel_init=init, bias_init=init, name=name)(x)
        given, kept = (jnp.split(gates(name, x), 3, -1) for name, x in (("action", action), ("state", h)))
        reset, update = (nn.sigmoid((given[i] + kept[i]).astype(jnp.float32)) for i in (0, 1))
        new = jnp.tanh(given[2].astype(jnp.float32) + reset * kept[2].astype(jnp.float32))
        return (1.0 - update) * new + update * h
