"""What an upper actor says of the sub-plan that stands behind one of its edges, before it is there: its characteristics.

Of an edge of the upper plan, the actor below makes a sub-plan. An embedding of it [E] follows the edge's action: predicted from
the upper plan alone, or true, once the sub-plan is there (DESIGN section 4, "Hierarchy"). Two kinds (`model.characteristics`):

    risk      E = 1: the sub-plan's risk itself
    learned   E = 8: a network compresses the sub-plan's features, trained so that its characteristics can be read off

Decoding is linear, so that the mean embedding, which is what a squared error teaches to predict, decodes to the mean.
Small at every size of the agent, and not sharded, as the indicators' networks are.
"""
import jax
import jax.numpy as jnp
from flax import linen as nn

from hjepa_gfn.models.layers import Dense, Mlp

KINDS = ("risk", "learned")
NAMES = ("risk", "length", "success", "effort")  # what embeddings are decoded to: see `objectives.characteristics.measure`
SIZE = 8


class Characteristics(nn.Module):
    """Of one pair of neighbouring actors; methods are pure. `scales`: of the upper actor; E = 1 or 8 by `kind`."""

    kind: str
    scales: int
    hidden: int

    def setup(self) -> None:
        size = 1 if self.kind == "risk" else SIZE
        self.predictor = Mlp((self.hidden,), size, 0.1, whole=True)
        if self.kind == "learned":
            self.compressor = Mlp((self.hidden,), size, whole=True)
            self.decoder = Dense(len(NAMES), (None, None))

    def predict(self, features: jnp.ndarray, scale: jnp.ndarray) -> jnp.ndarray:
        """The embedding [..., E] of an edge of `scale` int32 [...], from the features [..., D] of the token that it leaves."""
        return self.predictor(jnp.concatenate([features, jax.nn.one_hot(scale, self.scales)], -1))

    def compress(self, features: jnp.ndarray, measured: jnp.ndarray) -> jnp.ndarray:
        """The true embedding [..., E] of sub-plans, of their features [..., D] (mean over tokens) and what was measured of them
        [..., 4]: of the kind "risk" that number, of "learned" what the network makes of the features."""
        return measured[..., :1] if self.kind == "risk" else self.compressor(features)

    def decode(self, embedding: jnp.ndarray) -> jnp.ndarray:
        """The characteristics that an embedding tells of: [..., 1] risk alone, or [..., 4] (`NAMES`)."""
        return embedding if self.kind == "risk" else self.decoder(embedding)

    def __call__(self, features: jnp.ndarray, scale: jnp.ndarray) -> jnp.ndarray:
        """Touches every parameter (initialisation only)."""
        total = self.decode(self.predict(features, scale)).sum()
        return total + self.compress(features, jnp.zeros((*scale.shape, len(NAMES)))).sum()
