"""A one-level JEPA of pixels and continuous actions: convolutional encoder, predictor, inverse dynamics.

    z = LN(E(o)),    z_hat = LN(z + P(z, a)) or LN(GRU(z, a)),    a_hat = I(z, z')
with one layer norm LN shared by both, as in EB-JEPA. `PUBLISHED_SIZES` are its networks: Impala, GRU, 512 dimensions.
"""

import dataclasses
import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import linen as nn

from hjepa_gfn.errors import UserError
from hjepa_gfn.models.impala import Gru, Impala
from hjepa_gfn.models.layers import Dense, Mlp


@dataclasses.dataclass(frozen=True)
class PixelSizes:
    """Sizes of the networks."""

    state: int = 32                         # dimension of z
    encoder: str = "patches"                # or "impala"
    predictor: str = "residual"             # or "gru"
    patch: int = 4                          # side and stride of the patches' convolution
    channels: int = 32                      # of that convolution
    stacks: tuple[int, ...] = (16, 32, 32)  # channels of Impala's stacks
    hidden: int = 128                       # of the residual predictor, of inverse dynamics, of the patches' last layer but one
    inverse: int = 1                        # hidden layers of inverse dynamics
    centre: tuple[float, ...] = (0.0, 0.0)  # of the percept's channels; taken off
    gain: tuple[float, ...] = (8.0, 2.0)    # of the percept's channels, then: a dot is little of an image
    action: int = 2
    dtype: str = "float32"                  # of Impala and of the GRU's matmuls; "bfloat16" on accelerators

    def __post_init__(self) -> None:
        choices = {"encoder": ("patches", "impala"), "predictor": ("residual", "gru"), "dtype": ("float32", "bfloat16")}
        for name, allowed in choices.items():
            if getattr(self, name) not in allowed:
                raise UserError(f"sizes.{name}={getattr(self, name)!r}: must be one of {', '.join(allowed)}")


# facebookresearch/eb_jepa, `examples/ac_video_jepa`; its `Normalizer` makes percepts standard.
PUBLISHED_SIZES = PixelSizes(
    state=512, encoder="impala", predictor="gru", hidden=256, inverse=2, centre=(0.0026, 0.0989),
    gain=(1 / 0.0369, 1 / 0.2986))


class PixelEncoder(nn.Module):
    """o [N, H, W, C] -> [N, state]."""

    sizes: PixelSizes

    @nn.compact
    def __call__(self, pixels: jnp.ndarray) -> jnp.ndarray:
        s = self.sizes
        n, height, width, channels = pixels.shape
        x = (pixels - jnp.array(s.centre)) * jnp.array(s.gain)
        if s.encoder == "impala":
            return Impala(s.stacks, s.state, s.dtype, name="impala")(x)
        # A convolution whose stride is its side is a matmul over patches, which is several times faster on a CPU.
        rows, columns = height // s.patch, width // s.patch
        x = x[:, : rows * s.patch, : columns * s.patch].reshape(n, rows, s.patch, columns, s.patch, channels)
        x = x.transpose(0, 1, 3, 2, 4, 5).reshape(n, rows * columns, -1)
        x = nn.gelu(Dense(s.channels, (None, "mlp"), name="patches")(x))
        return Mlp((s.hidden,), s.state, first=None, name="out")(x.reshape(n, -1))


class PixelJepa(nn.Module):
    """Percepts to states, states and actions to next states. Actions float [..., action], in the world's own units."""

    sizes: PixelSizes = PixelSizes()

    def setup(self) -> None:
        s = self.sizes
        self.encoder = PixelEncoder(s)
        gru = s.predictor == "gru"
        self.predictor = Gru(s.state, s.dtype) if gru else Mlp((s.hidden, s.hidden), s.state, 0.1, first=None)
        self.inverse = Mlp((s.hidden,) * s.inverse, s.action, first=None)
        self.norm = nn.LayerNorm()

    def encode(self, pixels: jnp.ndarray) -> jnp.ndarray:
        """[..., H, W, C] -> z [..., state]."""
        z = self.encoder(pixels.reshape(-1, *pixels.shape[-3:]))
        return self.norm(z).reshape(*pixels.shape[:-3], -1)

    def predict(self, z: jnp.ndarray, action: jnp.ndarray) -> jnp.ndarray:
        """z [..., state], action [..., A] -> z_hat [..., state]."""
        if self.sizes.predictor == "gru":
            return self.norm(self.predictor(z, action))
        return self.norm(z + self.predictor(jnp.concatenate([z, action], -1)))

    def invert(self, z: jnp.ndarray, after: jnp.ndarray) -> jnp.ndarray:
        """z, after [..., state] -> a_hat [..., A]."""
        return self.inverse(jnp.concatenate([z, after], -1))

    def unroll(self, z: jnp.ndarray, action: jnp.ndarray) -> jnp.ndarray:
        """Open-loop predictions [..., K, state] from z [..., state] under actions [..., K, A]."""
        # nn.scan over a method's own weights: one compiled body whatever the number of steps
        body = nn.scan(
            lambda model, z, a: (model.predict(z, a),) * 2, variable_broadcast="params", split_rngs={"params": False},
            in_axes=-2, out_axes=-2)
        return body(self, z, action)[1]

    def everything(self, pixels: jnp.ndarray, action: jnp.ndarray) -> jnp.ndarray:
        """All networks once, for their parameters: pixels [B, H, W, C], action [B, A]."""
        z = self.encode(pixels)
        return self.invert(z, self.predict(z, action))


@functools.cache
def _initialiser(model: PixelJepa, shape: tuple[int, int, int]) -> Callable[[jnp.ndarray], dict]:
    pixels, action = jnp.zeros((1, *shape)), jnp.zeros((1, model.sizes.action))
    return jax.jit(lambda key: model.init(key, pixels, action, method="everything")["params"])


def init_pixel_jepa(model: PixelJepa, key: jnp.ndarray, shape: tuple[int, int, int]) -> dict:
    """Its parameters, for percepts of `shape` (H, W, C); boxed with logical axes (`distributed.unbox`). Compiled once."""
    return _initialiser(model, shape)(key)
