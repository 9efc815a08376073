"""Two-level JEPA hierarchy with FSQ codes: steps (level 1) and subgoals (level 2). DESIGN section 4.

    z1_t = E1(o_t);                        z1_hat = z1 + P1(z1, a)
    z2_k = E2(stop_grad(z1 of leg k));     z2_hat = z2 + P2(z2, m),    m_k = FSQ(A2(actions of leg k))
Codes quantise the latents after a stop-gradient; each code has a decoder back to the state embedding it stands for.
"""
import dataclasses

import jax
import jax.numpy as jnp
from flax import linen as nn

from hjepa_gfn.distributed.sharding import rows_whole
from hjepa_gfn.models import fsq
from hjepa_gfn.models.layers import Dense, Embed, Mlp, rowwise


@dataclasses.dataclass(frozen=True)
class JepaSizes:
    """Sizes of the hierarchy (one field of the experiment's config each)."""

    state: int = 64                              # dimension of z at both levels
    hidden: int = 256
    num_actions: int = 7
    leg: int = 8                                 # longest leg, in steps
    step_levels: tuple[int, ...] = (5, 5, 5)     # FSQ grid of the step-state code
    leg_levels: tuple[int, ...] = (5, 5, 3)      # FSQ grid of the subgoal-state code
    macro_levels: tuple[int, ...] = (5, 5, 3, 3)  # FSQ grid of the macro-action; as many dimensions as entries


class PerceptEncoder(nn.Module):
    """E1: symbolic 7x7x3 view and direction -> z [..., state]."""

    sizes: JepaSizes

    @nn.compact
    def __call__(self, view: jnp.ndarray, direction: jnp.ndarray) -> jnp.ndarray:
        view = view.astype(jnp.int32)
        cells = Embed(16, 8, 0.5, (None, None), name="object")(view[..., 0])
        cells += Embed(8, 8, 0.5, (None, None), name="colour")(view[..., 1])
        cells += Embed(4, 8, 0.5, (None, None), name="state")(view[..., 2])
        flat = cells.reshape(*cells.shape[:-3], -1)
        flat = jnp.concatenate([flat, jax.nn.one_hot(direction, 4)], -1)
        return Mlp((self.sizes.hidden, self.sizes.hidden), self.sizes.state, first=None, name="mlp")(flat)


class Quantiser(nn.Module):
    """State embedding -> FSQ code -> decoded state embedding."""

    levels: tuple[int, ...]
    state: int
    hidden: int

    def setup(self) -> None:
        self.down = Mlp((self.hidden,), len(self.levels))
        self.up = Mlp((self.hidden,), self.state, first=None)

    def grid(self, z: jnp.ndarray) -> jnp.ndarray:
        return fsq.quantise(self.down(z), self.levels)

    def code(self, z: jnp.ndarray) -> jnp.ndarray:
        return fsq.to_code(self.grid(z), self.levels)

    def decode_grid(self, grid: jnp.ndarray) -> jnp.ndarray:
        return self.up(grid)

    def table(self) -> jnp.ndarray:
        """[codes, state]: the state embedding of every code."""
        with rows_whole():
            return self.up(fsq.from_code(jnp.arange(fsq.num_codes(self.levels)), self.levels))

    def __call__(self, z: jnp.ndarray) -> jnp.ndarray:
        return self.up(self.grid(z))


class Jepa(nn.Module):
    """Both levels. Methods are pure; apply with `method=`."""

    sizes: JepaSizes

    def setup(self) -> None:
        s = self.sizes
        self.encoder_1 = PerceptEncoder(s)
        self.action_embed = Embed(s.num_actions, 32, 0.5, (None, None))
        self.predictor_1 = Mlp((s.hidden,), s.state, 0.1, first=None)
        self.inverse_1 = Mlp((s.hidden,), s.num_actions)
        self.variance_1 = Mlp((s.hidden,), s.state, 0.1, first=None)
        self.quantiser_1 = Quantiser(s.step_levels, s.state, s.hidden)
        self.segment_in = Dense(s.hidden, ("embed", "mlp"))
        self.encoder_2 = Mlp((s.hidden,), s.state)
        self.leg_actions = Embed(s.num_actions * s.leg, 64, 0.5, (None, None))
        self.macro_in = Mlp((s.hidden,), len(s.macro_levels), first=None)
        self.predictor_2 = Mlp((s.hidden,), s.state, 0.1, first=None)
        self.inverse_2 = Mlp((s.hidden,), len(s.macro_levels))
        self.variance_2 = Mlp((s.hidden,), s.state, 0.1, first=None)
        self.quantiser_2 = Quantiser(s.leg_levels, s.state, s.hidden)
        self.macro_out = Mlp((s.hidden,), s.leg * (s.num_actions + 1), first=None)

    def encode(self, view: jnp.ndarray, direction: jnp.ndarray) -> jnp.ndarray:
        """z1 [..., state] of percepts: view uint8 [..., 7, 7, 3], direction int32 [...]."""
        return self.encoder_1(view, direction)

    def predict_1(self, z: jnp.ndarray, action: jnp.ndarray) -> jnp.ndarray:
        """z1 one step on: z [..., state], action int32 [...]."""
        return z + self.predictor_1(jnp.concatenate([z, self.action_embed(action)], -1))

    def invert_1(self, z: jnp.ndarray, after: jnp.ndarray) -> jnp.ndarray:
        """Logits of the action between two successive states."""
        return self.inverse_1(jnp.concatenate([z, after], -1))

    def log_variance_1(self, z: jnp.ndarray, action: jnp.ndarray) -> jnp.ndarray:
        return self.variance_1(jnp.concatenate([z, self.action_embed(action)], -1))

    def encode_segment(self, z1: jnp.ndarray, weight: jnp.ndarray) -> jnp.ndarray:
        """z2 [..., state] of a segment: z1 [..., W, state], weight [..., W] (0 outside the segment)."""
        h = nn.gelu(self.segment_in(z1))
        share = weight / jnp.maximum(weight.sum(-1, keepdims=True), 1e-6)
        return self.encoder_2(rowwise(jnp.einsum("...wd,...w->...d", h, share)))

    def macro(self, action: jnp.ndarray, place: jnp.ndarray, weight: jnp.ndarray) -> jnp.ndarray:
        """Macro-action m [..., F] on its FSQ grid, from a leg's actions [..., W], their places in it and weights."""
        ids = action * self.sizes.leg + jnp.clip(place, 0, self.sizes.leg - 1)
        bag = rowwise(jnp.einsum("...wd,...w->...d", self.leg_actions(ids), weight))
        return fsq.quantise(self.macro_in(bag), self.sizes.macro_levels)

    def decode_macro(self, m: jnp.ndarray) -> jnp.ndarray:
        """Logits [..., leg, actions + 1] of the primitive actions a macro-action stands for (last class: ended)."""
        out = self.macro_out(m)
        return out.reshape(*out.shape[:-1], self.sizes.leg, self.sizes.num_actions + 1)

    def predict_2(self, z: jnp.ndarray, m: jnp.ndarray) -> jnp.ndarray:
        return z + self.predictor_2(jnp.concatenate([z, m], -1))

    def invert_2(self, z: jnp.ndarray, after: jnp.ndarray) -> jnp.ndarray:
        """The macro-action between two successive subgoal states, on [-1, 1]^F."""
        return jnp.tanh(self.inverse_2(jnp.concatenate([z, after], -1)))

    def log_variance_2(self, z: jnp.ndarray, m: jnp.ndarray) -> jnp.ndarray:
        return self.variance_2(jnp.concatenate([z, m], -1))

    def code_1(self, z: jnp.ndarray) -> jnp.ndarray:
        return self.quantiser_1.code(z)

    def code_2(self, z: jnp.ndarray) -> jnp.ndarray:
        return self.quantiser_2.code(z)

    def reconstruct(self, z1: jnp.ndarray, z2: jnp.ndarray) -> tuple[jnp.ndarray, jnp.ndarray]:
        """Decoded codes of both levels."""
        return self.quantiser_1(z1), self.quantiser_2(z2)

    def tables(self) -> dict[str, jnp.ndarray]:
        """State embedding of every code, both levels, and the macro-action of every macro code."""
        macro = fsq.from_code(jnp.arange(fsq.num_codes(self.sizes.macro_levels)), self.sizes.macro_levels)
        return {"step": self.quantiser_1.table(), "leg": self.quantiser_2.table(), "macro": macro}

    def __call__(self, view, direction, action, place, weight):
        """Touches every parameter (initialisation only). view [B,W+1,7,7,3], the rest [B,W]."""
        z1 = self.encode(view, direction)
        m = self.macro(action, place, weight)
        z2 = self.encode_segment(z1[:, 1:], weight)
        out = [self.predict_1(z1[:, :-1], action), self.invert_1(z1[:, :-1], z1[:, 1:]), *self.reconstruct(z1, z2)]
        out += [self.log_variance_1(z1[:, :-1], action), self.predict_2(z2, m), self.invert_2(z2, z2)]
        out += [self.log_variance_2(z2, m), self.decode_macro(m)]
        return sum(jnp.sum(o) for o in out)
