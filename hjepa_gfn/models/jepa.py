"""A hierarchy of JEPA levels with FSQ codes: steps (level 1) and, above, levels of segments. DESIGN section 4.

    z^1_t = E_1(o_t);                                    z^1_hat = z^1 + P_1(z^1, a)
    z^l_k = E_l(stop_grad(z^{l-1} of segment k));        z^l_hat = z^l + P_l(z^l, m^l),  m^l_k = FSQ(A_l(actions of segment k))
The actions of a segment are primitive at level 2; above, they are the codes of the macro-actions of the level below. Codes
quantise the latents after a stop-gradient; each code has a decoder back to the state embedding it stands for.
"""
import dataclasses

import jax
import jax.numpy as jnp
from flax import linen as nn

from hjepa_gfn.distributed.sharding import rows_whole
from hjepa_gfn.models import fsq
from hjepa_gfn.models.layers import Dense, Embed, Mlp, rowwise

OBJECTS, COLOURS = 16, 8  # kinds that a cell of a percept may hold, and their colours


@dataclasses.dataclass(frozen=True)
class LevelSizes:
    """One level above the first (an entry of the config's `model.levels`)."""

    name: str = "subgoal"                   # of its losses and tables
    code: tuple[int, ...] = (5, 5, 3)       # FSQ grid of the state code
    action: tuple[int, ...] = (5, 5, 3, 3)  # FSQ grid of the macro-action; as many dimensions as entries
    longest: int = 8                        # longest segment, in units of the level below
    segments: str | int = "legs"            # what cuts the level below: "legs" or "clauses" of the data; or every so many units


@dataclasses.dataclass(frozen=True)
class JepaSizes:
    """Sizes of the hierarchy (one field of the experiment's config each)."""

    state: int = 64                              # dimension of z at every level
    hidden: int = 256
    num_actions: int = 7
    step_levels: tuple[int, ...] = (5, 5, 5)     # FSQ grid of the step-state code
    levels: tuple[LevelSizes, ...] = (LevelSizes(),)
    compass: bool = False                        # whether heads read the own direction and load off step states
    reach: int = 0                               # hidden width of the reachability heads; 0: there are none

    @property
    def names(self) -> tuple[str, ...]:
        """Of the levels, from the first."""
        return ("step", *(level.name for level in self.levels))

    def code_grid(self, level: int) -> tuple[int, ...]:
        """FSQ grid of the state code of a level (1, 2, ...)."""
        return self.step_levels if level == 1 else self.levels[level - 2].code

    def action_codes(self, level: int) -> int:
        """Number of actions between states of a level: primitive at the first, macro codes above."""
        return self.num_actions if level == 1 else fsq.num_codes(self.levels[level - 2].action)


class PerceptEncoder(nn.Module):
    """E1: symbolic view (7x7x3, or a map) and direction -> z [..., state]."""

    sizes: JepaSizes

    @nn.compact
    def __call__(self, view: jnp.ndarray, direction: jnp.ndarray) -> jnp.ndarray:
        view = view.astype(jnp.int32)
        cells = Embed(OBJECTS, 8, 0.5, (None, None), name="object")(view[..., 0])
        cells += Embed(COLOURS, 8, 0.5, (None, None), name="colour")(view[..., 1])
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

    def table(self) -> jnp.ndarray:
        """[codes, state]: the state embedding of every code."""
        with rows_whole():
            return self.up(fsq.from_code(jnp.arange(fsq.num_codes(self.levels)), self.levels))

    def __call__(self, z: jnp.ndarray) -> jnp.ndarray:
        return self.up(self.grid(z))


class Dynamics(nn.Module):
    """What every level has: residual predictor, inverse dynamics, variance head, quantiser, and a reachability head if wanted.

    Controls are embeddings of primitive actions [..., E] or macro-actions [..., F]; `inverted` is the size of what inverse
    dynamics says of them.
    """

    sizes: JepaSizes
    grid: tuple[int, ...]
    inverted: int

    def setup(self) -> None:
        s = self.sizes
        self.predictor = Mlp((s.hidden,), s.state, 0.1, first=None)
        self.inverse = Mlp((s.hidden,), self.inverted)
        self.variance = Mlp((s.hidden,), s.state, 0.1, first=None)
        self.quantiser = Quantiser(self.grid, s.state, s.hidden)
        if s.reach:
            self.reachable = Mlp((s.reach,), 1)

    def predict(self, z: jnp.ndarray, control: jnp.ndarray) -> jnp.ndarray:
        return z + self.predictor(jnp.concatenate([z, control], -1))

    def log_variance(self, z: jnp.ndarray, control: jnp.ndarray) -> jnp.ndarray:
        return self.variance(jnp.concatenate([z, control], -1))

    def invert(self, z: jnp.ndarray, after: jnp.ndarray) -> jnp.ndarray:
        return self.inverse(jnp.concatenate([z, after], -1))

    def reach(self, z: jnp.ndarray, after: jnp.ndarray) -> jnp.ndarray:
        return self.reachable(jnp.concatenate([z, after], -1))[..., 0]


class StepLevel(nn.Module):
    """Level 1: states of percepts, primitive actions int32 [...]."""

    sizes: JepaSizes

    def setup(self) -> None:
        self.encoder = PerceptEncoder(self.sizes)
        self.action_embed = Embed(self.sizes.num_actions, 32, 0.5, (None, None))
        self.dynamics = Dynamics(self.sizes, self.sizes.step_levels, self.sizes.num_actions)
        if self.sizes.compass:
            self.heading = Dense(4, (None, None))
            self.load = Dense(OBJECTS + COLOURS, (None, None))

    def control(self, action: jnp.ndarray) -> jnp.ndarray:
        return self.action_embed(action)

    def invert(self, z: jnp.ndarray, after: jnp.ndarray) -> jnp.ndarray:
        return self.dynamics.invert(z, after)


class SegmentLevel(nn.Module):
    """A level above the first: states of segments of the level below, macro-actions on an FSQ grid."""

    sizes: JepaSizes
    level: int

    def setup(self) -> None:
        s, own = self.sizes, self.sizes.levels[self.level - 2]
        below = s.action_codes(self.level - 1)
        self.segment_in = Dense(s.hidden, ("embed", "mlp"))
        self.encoder = Mlp((s.hidden,), s.state)
        self.actions_below = Embed(below * own.longest, 64, 0.5, (None, None))
        self.macro_in = Mlp((s.hidden,), len(own.action), first=None)
        self.dynamics = Dynamics(s, own.code, len(own.action))
        self.macro_out = Mlp((s.hidden,), own.longest * (below + 1), first=None)

    def encode(self, below: jnp.ndarray, weight: jnp.ndarray) -> jnp.ndarray:
        h = nn.gelu(self.segment_in(below))
        share = weight / jnp.maximum(weight.sum(-1, keepdims=True), 1e-6)
        return self.encoder(rowwise(jnp.einsum("...wd,...w->...d", h, share)))

    def macro(self, action: jnp.ndarray, place: jnp.ndarray, weight: jnp.ndarray) -> jnp.ndarray:
        own = self.sizes.levels[self.level - 2]
        ids = action * own.longest + jnp.clip(place, 0, own.longest - 1)
        bag = rowwise(jnp.einsum("...wd,...w->...d", self.actions_below(ids), weight))
        return fsq.quantise(self.macro_in(bag), own.action)

    def decode_macro(self, m: jnp.ndarray) -> jnp.ndarray:
        out = self.macro_out(m)
        return out.reshape(*out.shape[:-1], self.sizes.levels[self.level - 2].longest, -1)

    def control(self, m: jnp.ndarray) -> jnp.ndarray:
        return m

    def invert(self, z: jnp.ndarray, after: jnp.ndarray) -> jnp.ndarray:
        return jnp.tanh(self.dynamics.invert(z, after))


class Jepa(nn.Module):
    """All levels. Methods are pure; apply with `method=`. `level` (static) counts from 1, the level of percepts.

    Actions of level 1 are int32 [...]; of the others, macro-actions [..., F] on their FSQ grids.
    """

    sizes: JepaSizes

    def setup(self) -> None:
        levels = [StepLevel(self.sizes, name="level_1")]
        levels += [SegmentLevel(self.sizes, n, name=f"level_{n}") for n in range(2, len(self.sizes.levels) + 2)]
        self.all_levels = levels

    def encode(self, view: jnp.ndarray, direction: jnp.ndarray) -> jnp.ndarray:
        """z^1 [..., state] of percepts: view uint8 [..., 7, 7, 3] (or maps), direction int32 [...]."""
        return self.all_levels[0].encoder(view, direction)

    def heading(self, z: jnp.ndarray) -> jnp.ndarray:
        """Logits [..., 4] of the own compass direction, read linearly off z^1 [..., state] (sizes.compass only)."""
        return self.all_levels[0].heading(z)

    def load(self, z: jnp.ndarray) -> tuple[jnp.ndarray, jnp.ndarray]:
        """Logits [..., OBJECTS] and [..., COLOURS] of what is carried (what the agent's own cell shows), read linearly off z^1
        [..., state] (sizes.compass only)."""
        return tuple(jnp.split(self.all_levels[0].load(z), (OBJECTS,), axis=-1))

    def encode_segment(self, below: jnp.ndarray, weight: jnp.ndarray, level: int) -> jnp.ndarray:
        """z^l [..., state] of a segment: z^{l-1} [..., W, state], weight [..., W] (0 outside the segment); level > 1."""
        return self.all_levels[level - 1].encode(below, weight)

    def macro(self, action: jnp.ndarray, place: jnp.ndarray, weight: jnp.ndarray, level: int) -> jnp.ndarray:
        """Macro-action m [..., F] on its FSQ grid, from the actions of a segment int32 [..., W] (codes of the level below),
        their places in it and weights; level > 1."""
        return self.all_levels[level - 1].macro(action, place, weight)

    def decode_macro(self, m: jnp.ndarray, level: int) -> jnp.ndarray:
        """Logits [..., longest, actions + 1] of the actions one level below that a macro-action stands for (last class:
        ended); level > 1."""
        return self.all_levels[level - 1].decode_macro(m)

    def predict(self, z: jnp.ndarray, action: jnp.ndarray, level: int) -> jnp.ndarray:
        """The next state of a level: z + P_l(z, action), z [..., state]."""
        own = self.all_levels[level - 1]
        return own.dynamics.predict(z, own.control(action))

    def invert(self, z: jnp.ndarray, after: jnp.ndarray, level: int) -> jnp.ndarray:
        """The action between two successive states: logits at level 1, above a macro-action on [-1, 1]^F."""
        return self.all_levels[level - 1].invert(z, after)

    def log_variance(self, z: jnp.ndarray, action: jnp.ndarray, level: int) -> jnp.ndarray:
        """Log variance [..., state] of the next state."""
        own = self.all_levels[level - 1]
        return own.dynamics.log_variance(z, own.control(action))

    def reach(self, z: jnp.ndarray, after: jnp.ndarray, level: int) -> jnp.ndarray:
        """Logit [...] that state `after` [..., state] follows z within a segment (sizes.reach > 0 only)."""
        return self.all_levels[level - 1].dynamics.reach(z, after)

    def code(self, z: jnp.ndarray, level: int) -> jnp.ndarray:
        """State code int32 [...] of z [..., state]."""
        return self.all_levels[level - 1].dynamics.quantiser.code(z)

    def reconstruct(self, z: jnp.ndarray, level: int) -> jnp.ndarray:
        """The state embedding that z's code stands for."""
        return self.all_levels[level - 1].dynamics.quantiser(z)

    def tables(self) -> tuple[tuple[jnp.ndarray, ...], tuple[jnp.ndarray, ...]]:
        """(state embeddings [codes, state] of every level from the first; macro-actions [codes, F] of every level from the
        second)."""
        grids = [level.action for level in self.sizes.levels]
        macros = tuple(fsq.from_code(jnp.arange(fsq.num_codes(grid)), grid) for grid in grids)
        return tuple(own.dynamics.quantiser.table() for own in self.all_levels), macros

    def __call__(self, view, direction, action, place, weight):
        """Touches every parameter (initialisation only). view [B,W+1,7,7,3], the rest [B,W]."""
        z = self.encode(view, direction)
        out = []
        for level in range(1, len(self.all_levels) + 1):
            if level == 1:
                here, after, control = z[:, :-1], z[:, 1:], action
            else:
                control = self.macro(jnp.zeros_like(action), place, weight, level)
                z = self.encode_segment(z[:, 1:] if level == 2 else z[:, None], weight if level == 2 else weight[:, :1], level)
                here, after = z, z
                out.append(self.decode_macro(control, level))
            out += [self.predict(here, control, level), self.invert(here, after, level), self.reconstruct(here, level),
                    self.log_variance(here, control, level)]
            if self.sizes.compass and level == 1:
                out += [self.heading(here), *self.load(here)]
            if self.sizes.reach:
                out.append(self.reach(here, after, level))
        return sum(jnp.sum(o) for o in out)
