"""Training a one-level JEPA of pixels on exploring walks that are drawn within the step: many steps in one compiled call."""

import dataclasses
import functools
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from hjepa_gfn.distributed import unbox
from hjepa_gfn.errors import UserError
from hjepa_gfn.models.pixel_jepa import PixelJepa, PixelSizes, init_pixel_jepa
from hjepa_gfn.objectives.pixel_jepa import PixelWeights, pixel_jepa_loss
from hjepa_gfn.training.progress import Progress
from hjepa_gfn.worlds.two_rooms import Rooms, layouts, render
from hjepa_gfn.worlds.two_rooms_walks import Walks, draw_walks


@dataclasses.dataclass(frozen=True)
class PixelTraining:
    """All that training depends on besides the weights of the loss and the seed."""

    rooms: Rooms = Rooms()
    sizes: PixelSizes = PixelSizes()
    steps: int = 1200
    batch: int = 32           # walks a step
    horizon: int = 5          # steps of open-loop prediction
    window: int = 5           # steps of a walk; at least the horizon
    from_first: bool = False  # whether only a walk's first state is predicted from
    rate: float = 3e-3
    decay: float = 1e-5
    clip: float = 2.0
    ema: float = 0.99
    chunk: int = 1            # steps in one compiled call, a divisor of `steps`: a GPU must not wait for the host

    def __post_init__(self) -> None:
        if not 1 <= self.horizon <= self.window:
            raise UserError(f"horizon={self.horizon}: must lie within 1 and the window, {self.window}")
        if self.chunk < 1 or self.steps % self.chunk:
            raise UserError(f"chunk={self.chunk}: must divide the steps, {self.steps}")


def optimiser(training: PixelTraining) -> optax.GradientTransformation:
    """AdamW under a warm-up and a cosine, gradients clipped, as EB-JEPA trains."""
    rate = optax.warmup_cosine_decay_schedule(0.0, training.rate, max(training.steps // 10, 1), training.steps)
    return optax.chain(optax.clip_by_global_norm(training.clip), optax.adamw(rate, weight_decay=training.decay))


@functools.cache
def updater(training: PixelTraining) -> Any:
    """`chunk` training steps, compiled once for all weights and seeds.

    (params, moments, slow or None, keys [chunk], weights) -> (params, moments, slow, terms [chunk] each)
    """
    rooms, model, tx = training.rooms, PixelJepa(training.sizes), optimiser(training)
    choices = jnp.asarray(layouts(rooms, "train"))

    def draw(key: jnp.ndarray) -> tuple[Walks, jnp.ndarray]:
        walk, noise = jax.random.split(key)
        return draw_walks(rooms, walk, choices, training.batch, training.window), noise

    def update(state: tuple[Any, ...], drawn: tuple[Walks, jnp.ndarray], weights: PixelWeights) -> tuple[tuple[Any, ...], dict]:
        params, moments, slow = state
        walks, noise = drawn
        pixels = render(rooms, walks.layout[:, None], walks.position)
        loss = lambda p: pixel_jepa_loss(
            p, slow, noise, pixels, walks.action, model, weights, training.horizon, training.from_first)
        grads, terms = jax.grad(loss, has_aux=True)(params)
        updates, moments = tx.update(grads, moments, params)
        params = optax.apply_updates(params, updates)
        if slow is not None:
            slow = jax.tree.map(lambda s, p: training.ema * s + (1 - training.ema) * p, slow, params)
        return (params, moments, slow), terms

    @jax.jit
    def updates(params: dict, moments: Any, slow: dict | None, keys: jnp.ndarray, weights: PixelWeights) -> tuple[Any, ...]:
        # All walks of the chunk at once: they are many short operations one after the other, which a GPU would wait for.
        drawn = jax.vmap(draw)(keys)
        state, terms = jax.lax.scan(lambda state, one: update(state, one, weights), (params, moments, slow), drawn)
        return *state, terms

    return updates


def train(
    training: PixelTraining, weights: PixelWeights, seed: int, *, slow: bool = False, label: str = "train",
    progress: bool = True,
) -> tuple[dict, dict[str, float], float]:
    """Parameters after training, the loss's terms (means over the last tenth), and seconds until the first chunk was done.

    slow: whether prediction's targets come from a slowly following copy of the encoder.
    """
    rooms, update, root, began = training.rooms, updater(training), jax.random.key(seed), time.time()
    shape = (rooms.size, rooms.size, 2)
    params = unbox(init_pixel_jepa(PixelJepa(training.sizes), jax.random.fold_in(root, training.steps), shape))
    moments, copy = optimiser(training).init(params), params if slow else None
    line = Progress(training.steps, label=label, show=("prediction", "std"), enabled=progress)
    history, first = [], 0.0
    for start in range(0, training.steps, training.chunk):
        keys = jax.vmap(jax.random.fold_in, (None, 0))(root, jnp.arange(start, start + training.chunk))
        params, moments, copy, terms = update(params, moments, copy, keys, weights)
        done = start + training.chunk
        if done > int(0.9 * training.steps):
            history.append(terms)
        if start == 0:
            jax.block_until_ready(terms)
            first = time.time() - began
        if done % 20 < training.chunk or done == training.steps:
            line.update(done, {name: float(terms[name][-1]) for name in ("prediction", "std")})
    tenth = training.steps - int(0.9 * training.steps)
    last = {name: np.concatenate([row[name] for row in history])[-tenth:] for name in history[0]}
    return params, {name: float(np.mean(values)) for name, values in last.items()}, first
