"""The belief over the world's state: s_t = U(s_{t-1}, a_{t-1}, o_t), which keeps what the percept no longer shows.

It is laid out in space: M x M cells around the agent, features in each, and a slot for the agent itself (what it carries,
which way it faces). Where things lie after an action is known but for whether a step forward succeeds; what is learned is what
to write into a cell and what to keep there, what an action changes, and what all that says of the next percept (Gupta et al.
2017; Parisotto & Salakhutdinov 2018).

    prior   s'_t = mean_k moved(s_{t-1} + c_k, a_{t-1}, p_k)     an ensemble of predictors of the change c_k to the cell ahead
                                                                 and the own slot, and of p_k, whether the way is free: their
                                                                 spread is epistemic
    update  s_t  = s'_t + g * (C(s'_t, o_t) - s'_t)              per cell that the percept shows, g in (0, 1); 0 elsewhere, and
                                                                 everywhere where the percept is missing
    decode  z_hat = D(s), log variances V(stop s)                of the percept's embedding z: aleatoric
            logits of what each cell holds                       its own estimate of the world, with probabilities

z is the JEPA's embedding of the percept; a percept that was dropped takes the same path with g = 0. `objectives.belief.watch`
runs it along episodes.
"""
import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from hjepa_gfn.errors import UserError
from hjepa_gfn.models.layers import Dense, Embed, Mlp
from hjepa_gfn.worlds.egocentric_map import moved_by, own_cell, shifted
from hjepa_gfn.worlds.language import UNSEEN, VIEW_SIZE

CODES = (16, 8, 4)  # of a cell's object, colour and state in percepts, and more
SPLITS = tuple(np.cumsum(CODES)[:-1].tolist())


def check_belief(size: int, map: int) -> None:
    """Raises UserError unless `size` is an odd number of cells that holds a percept (a view, or a map of `map` cells)."""
    i, j = own_cell(map)
    least = 2 * max(j, (map or VIEW_SIZE) - 1 - i) + 1
    if size % 2 == 0 or size < least:
        raise UserError(f"model.belief.size={size}: must be 0 (no belief) or an odd number of cells from {least} on, "
                        "so that percepts lie within it")


class Belief(nn.Module):
    """Methods are pure. A belief s is [..., M x M + 1, F]: cells as in maps (`worlds.egocentric_map`), then the own slot.

    M: `size`, F: `features`, Z: `percept`, size of the percept's embedding, K: `members` of the ensemble; n: cells a side of
    percepts (`map`, or a view's 7).
    """

    size: int
    features: int
    percept: int
    hidden: int
    num_actions: int
    members: int
    map: int = 0

    def setup(self) -> None:
        flat = (None, None)
        self.object, self.colour, self.state = (
            Embed(codes, self.features, 0.5, flat) for codes in CODES)
        self.direction = Embed(4, self.features, 0.5, flat)
        self.action = Embed(self.num_actions, 32, 0.5, flat)
        change = 2 * self.features + 1
        self.predictors = [Mlp((self.hidden,), change, 0.1, first=None, name=f"predictor_{k}") for k in range(self.members)]
        self.write = Mlp((self.hidden,), 2 * self.features, first=None)
        self.holds = Dense(sum(CODES), flat)
        self.decoder = Mlp((self.hidden,), self.percept, first=None)
        self.variance = Mlp((self.hidden,), self.percept, 0.1, first=None)

    def empty(self, batch_shape: tuple[int, ...]) -> jnp.ndarray:
        """The belief before the first percept: zeros [..., M x M + 1, F]."""
        return jnp.zeros((*batch_shape, self.size**2 + 1, self.features))

    def members_of(self, s: jnp.ndarray, action: jnp.ndarray) -> jnp.ndarray:
        """What each predictor expects after an action: s [..., M x M + 1, F], action int32 [...] -> [K, ..., M x M + 1, F]."""
        middle = self.size // 2
        ahead = middle * self.size + middle - 1
        both = jnp.concatenate([s[..., ahead, :], s[..., -1, :], self.action(action)], -1)
        expected = []
        for predictor in self.predictors:
            change, own, free = jnp.split(predictor(both), (self.features, 2 * self.features), -1)
            after = s.at[..., ahead, :].add(change).at[..., -1, :].add(own)
            cells = self._grid(after)
            free = nn.sigmoid(free)[..., None, None]
            cells = moved_by(cells, action, free * shifted(cells) + (1 - free) * cells)
            flat = cells.reshape(*s.shape[:-2], self.size**2, self.features)
            expected.append(jnp.concatenate([flat, after[..., -1:, :]], -2))
        return jnp.stack(expected)

    def predict(self, s: jnp.ndarray, action: jnp.ndarray) -> jnp.ndarray:
        """The mean of the ensemble, [..., M x M + 1, F]."""
        return self.members_of(s, action).mean(0)

    def update(self, prior: jnp.ndarray, view: jnp.ndarray, direction: jnp.ndarray, seen: jnp.ndarray) -> jnp.ndarray:
        """The belief after a percept: prior [..., M x M + 1, F], view uint8 [..., n, n, 3 or more], direction int32 [...], seen
        bool [...] (False: the percept is missing)."""
        cells, own = view.astype(jnp.int32).reshape(*view.shape[:-3], -1, view.shape[-1]), self._own
        shown = self.object(cells[..., 0]) + self.colour(cells[..., 1]) + self.state(cells[..., 2])
        shown += own[:, None] * self.direction(direction)[..., None, :]
        before = self.look(prior)
        gate, candidate = jnp.split(self.write(jnp.concatenate([before, shown], -1)), 2, -1)
        visible = ((cells[..., 0] != UNSEEN) | own) & seen[..., None]
        after = before + nn.sigmoid(gate) * visible[..., None] * (candidate - before)
        rows, columns = self._shown
        laid = jnp.where(own[:, None], self._looked(prior), after).reshape(*view.shape[:-1], self.features)
        grid = self._grid(prior).at[..., rows, columns, :].set(laid)
        flat = grid.reshape(*prior.shape[:-2], self.size**2, self.features)
        return jnp.concatenate([flat, after[..., own.argmax(), None, :]], -2)

    def look(self, s: jnp.ndarray) -> jnp.ndarray:
        """What is believed of the cells that a percept would show, the own slot in the agent's cell: [..., n x n, F]."""
        return jnp.where(self._own[:, None], s[..., -1:, :], self._looked(s))

    def decode(self, s: jnp.ndarray) -> jnp.ndarray:
        """The expected embedding of the percept, [..., Z]."""
        return self.decoder(self._flat(self.look(s)))

    def log_variance(self, s: jnp.ndarray) -> jnp.ndarray:
        """Log variance per dimension of that expectation, [..., Z]. It never teaches the belief."""
        return self.variance(self._flat(jax.lax.stop_gradient(self.look(s))))

    def cells(self, s: jnp.ndarray) -> tuple[jnp.ndarray, ...]:
        """Log-probabilities of what features [..., F] of cells, or of the own slot, stand for: object, colour, state
        [..., 16], [..., 8], [..., 4]."""
        return tuple(nn.log_softmax(part) for part in jnp.split(self.holds(s), SPLITS, -1))

    def __call__(self, view: jnp.ndarray, direction: jnp.ndarray, action: jnp.ndarray, seen: jnp.ndarray) -> jnp.ndarray:
        """Touches every parameter (initialisation only): view [B, 2, n, n, 3], direction int32 [B, 2], action int32 [B, 1],
        seen bool [B, 2]."""
        s = self.update(self.empty(seen.shape[:1]), view[:, 0], direction[:, 0], seen[:, 0])
        s = self.update(self.predict(s, action[:, 0]), view[:, 1], direction[:, 1], seen[:, 1])
        return self.decode(s).sum() + self.log_variance(s).sum() + sum(part.sum() for part in self.cells(s))

    @property
    def _own(self) -> np.ndarray:
        """The agent's cell among those of a percept: bool [n x n]."""
        n, (i, j) = self.map or VIEW_SIZE, own_cell(self.map)
        return np.arange(n * n) == i * n + j

    @property
    def _shown(self) -> tuple[slice, slice]:
        """The cells of the belief that percepts show."""
        n, own, middle = self.map or VIEW_SIZE, own_cell(self.map), self.size // 2
        return tuple(slice(middle - at, middle - at + n) for at in own)

    def _grid(self, s: jnp.ndarray) -> jnp.ndarray:
        return s[..., :-1, :].reshape(*s.shape[:-2], self.size, self.size, self.features)

    def _looked(self, s: jnp.ndarray) -> jnp.ndarray:
        rows, columns = self._shown
        return self._grid(s)[..., rows, columns, :].reshape(*s.shape[:-2], -1, self.features)

    def _flat(self, looked: jnp.ndarray) -> jnp.ndarray:
        return looked.reshape(*looked.shape[:-2], -1)
