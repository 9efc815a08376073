"""What a JEPA needs to be planned with, on the two-room task: `python -m experiments.two_rooms --out=runs/two_rooms`.

Trains a one-level JEPA on random exploring walks once for each variant and seed, plans with MPPI in its latent space to a
goal's picture in the other room, in layouts (wall, door) that training never had, and prints success beside what the
representation holds. The variants are EB-JEPA's ablation (each regularising term left out in turn), SIGReg in place of variance
and covariance, and prediction alone; a random walk stands below them, a planner that knows the simulator above. Every finished
run lies in `<out>/runs` and is not run again; ablation.json and ablation.md have all.
"""
from __future__ import annotations

import dataclasses
import functools
import json
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl import flags

from experiments import cli
from hjepa_gfn.agent.mppi import Mppi
from hjepa_gfn.distributed import unbox
from hjepa_gfn.errors import UserError
from hjepa_gfn.evaluation.two_rooms import (
    draw_tasks,
    outcome,
    planned,
    planner,
    representation,
    roaming,
    true_advance,
    true_sight,
)
from hjepa_gfn.files import read_json, write_json, write_text
from hjepa_gfn.models.pixel_jepa import PixelJepa, PixelSizes, init_pixel_jepa
from hjepa_gfn.objectives.pixel_jepa import PixelWeights, pixel_jepa_loss
from hjepa_gfn.training import Progress
from hjepa_gfn.worlds.two_rooms import Rooms, layouts, render
from hjepa_gfn.worlds.two_rooms_walks import draw_walks

NOTHING = PixelWeights(0.0, 0.0, 0.0, 0.0)
VARIANTS: dict[str, PixelWeights] = {
    "full": PixelWeights(),
    "no variance": PixelWeights(variance=0.0),
    "no covariance": PixelWeights(covariance=0.0),
    "no similarity": PixelWeights(similarity=0.0),
    "no inverse": PixelWeights(inverse=0.0),
    "sigreg": PixelWeights(variance=0.0, covariance=0.0, sigreg=0.05),
    "none": NOTHING,
    "ema": NOTHING,
}
SLOW = {"ema"}  # variants that predict what a slowly following copy of the encoder says
# EB-JEPA, examples/ac_video_jepa/README.md, random wall: success in % of 20 episodes, mean over 3 seeds and 3 last epochs.
PUBLISHED_SUCCESS = {"full": 97, "no variance": 47, "no covariance": 46, "no similarity": 61, "no inverse": 1}
BOUNDS = {"random walk": "roam", "true dynamics": "true"}
SHOWN = (
    "success", "reached", "crossed", "distance", "probe_position", "probe_layout", "std", "pred_over_copy",
    "pred_over_copy_far")


@dataclasses.dataclass(frozen=True)
class Setting:
    """All that a run depends on besides its variant and seed."""

    rooms: Rooms = Rooms()
    sizes: PixelSizes = PixelSizes()
    plan: Mppi = Mppi()
    steps: int = 1200        # of training
    batch: int = 32          # walks a step
    horizon: int = 5         # steps of a walk
    rate: float = 3e-3
    decay: float = 1e-5
    clip: float = 2.0
    ema: float = 0.99
    episodes: int = 32
    split: str = "test"      # whose layouts are evaluated on; "validation" for choosing settings


def optimiser(setting: Setting) -> optax.GradientTransformation:
    """AdamW under a warm-up and a cosine, gradients clipped, as EB-JEPA trains."""
    rate = optax.warmup_cosine_decay_schedule(0.0, setting.rate, max(setting.steps // 10, 1), setting.steps)
    return optax.chain(optax.clip_by_global_norm(setting.clip), optax.adamw(rate, weight_decay=setting.decay))


@functools.cache
def updater(setting: Setting) -> Any:
    """One training step, compiled once for all weights and seeds."""
    rooms, model, tx = setting.rooms, PixelJepa(setting.sizes), optimiser(setting)
    choices = jnp.asarray(layouts(rooms, "train"))

    @jax.jit
    def update(params: dict, moments: Any, slow: dict | None, key: jnp.ndarray, weights: PixelWeights) -> tuple[Any, ...]:
        draw, noise = jax.random.split(key)
        walks = draw_walks(rooms, draw, choices, setting.batch, setting.horizon)
        pixels = render(rooms, walks.layout[:, None], walks.position)
        loss = lambda p: pixel_jepa_loss(p, slow, noise, pixels, walks.action, model, weights)
        grads, terms = jax.grad(loss, has_aux=True)(params)
        updates, moments = tx.update(grads, moments, params)
        params = optax.apply_updates(params, updates)
        if slow is not None:
            slow = jax.tree.map(lambda s, p: setting.ema * s + (1 - setting.ema) * p, slow, params)
        return params, moments, slow, terms

    return update


def train(setting: Setting, variant: str, seed: int, progress: bool = True) -> tuple[dict, dict[str, float]]:
    """Parameters after training, and the loss's terms (means over the last tenth)."""
    rooms, update, root = setting.rooms, updater(setting), jax.random.key(seed)
    shape = (rooms.size, rooms.size, 2)
    params = unbox(init_pixel_jepa(PixelJepa(setting.sizes), jax.random.fold_in(root, setting.steps), shape))
    moments, slow = optimiser(setting).init(params), params if variant in SLOW else None
    line = Progress(setting.steps, label=f"{variant} {seed}", show=("prediction", "std"), enabled=progress)
    last: list[dict] = []
    for step in range(setting.steps):
        params, moments, slow, terms = update(params, moments, slow, jax.random.fold_in(root, step), VARIANTS[variant])
        if step >= int(0.9 * setting.steps):
            last.append(terms)
        if step % 20 == 19 or step == setting.steps - 1:
            line.update(step + 1, {name: float(terms[name]) for name in ("prediction", "std")})
    return params, {name: float(np.mean([row[name] for row in last])) for name in last[0]}


def run(setting: Setting, variant: str, seed: int, progress: bool) -> dict[str, Any]:
    """One trained model, measured; or one of `BOUNDS`."""
    rooms, began = setting.rooms, time.time()
    tasks, key = draw_tasks(rooms, setting.split, setting.episodes, seed), jax.random.key(1_000_003 + seed)
    if variant == "random walk":
        return outcome(rooms, tasks, jax.jit(lambda: roaming(rooms, key, tasks))())
    if variant == "true dynamics":
        position = jax.jit(lambda: planned(rooms, setting.plan, true_sight, true_advance(rooms), key, tasks))()
        return outcome(rooms, tasks, position) | {"seconds": round(time.time() - began, 1)}
    model = PixelJepa(setting.sizes)
    params, losses = train(setting, variant, seed, progress)
    found = {"losses": losses, "train_seconds": round(time.time() - began, 1)}
    found |= representation(model, params, rooms, jax.random.fold_in(key, 1), setting.horizon, setting.split)
    found |= outcome(rooms, tasks, planner(model, rooms, setting.plan)(params, key, tasks))
    return found | {"seconds": round(time.time() - began, 1)}


def as_json(setting: Setting) -> dict[str, Any]:
    """The setting as JSON reads it back: without tuples, so that runs of the same setting compare equal."""
    return json.loads(json.dumps(dataclasses.asdict(setting)))


def finished(path: Path, setting: dict, weights: dict | None) -> dict[str, Any] | None:
    """What an earlier call found with the same settings, or None."""
    if not path.exists():
        return None
    found = read_json(path)
    return found if found["setting"] == setting and found["weights"] == weights else None


def table(rows: dict[str, list[dict[str, Any]]]) -> str:
    """Markdown: mean +- standard deviation (of the population of seeds) of every measure, a line a variant."""
    lines = ["| variant | n | EB-JEPA | " + " | ".join(SHOWN) + " |", "|---" * (len(SHOWN) + 3) + "|"]
    for name, runs in rows.items():
        cells = []
        for key in SHOWN:
            values = [one[key] for one in runs if key in one]
            digits = 1 if key in ("success", "reached", "crossed") else 2
            scale = 100.0 if digits == 1 else 1.0
            cells.append(f"{scale * np.mean(values):.{digits}f} ± {scale * np.std(values):.{digits}f}" if values else "")
        lines.append(f"| {name} | {len(runs)} | {PUBLISHED_SUCCESS.get(name, '')} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def wall_range(given: list[str]) -> tuple[int, int]:
    """The x that walls may have, from `--wall`. Raises UserError for anything but two that leave room on both sides."""
    low, high = Rooms.low + 4, Rooms.high - 4
    try:
        first, last = (int(text) for text in given)
    except ValueError:
        raise UserError(f"--wall={','.join(given)}: must be two whole numbers, as in --wall=9,10") from None
    if not low <= first <= last <= high:
        raise UserError(f"--wall={','.join(given)}: must rise within {low:.0f} to {high:.0f}")
    return first, last


def main() -> None:
    """The entry point."""
    f = flags.FLAGS
    names = [name.strip() for name in f.variants]
    for name in names:
        if name not in VARIANTS and name not in BOUNDS:
            raise UserError(f"--variants: {name!r} is none of {', '.join([*BOUNDS, *VARIANTS])}")
    setting = Setting(
        rooms=dataclasses.replace(Rooms(), wall=wall_range(f.wall)), steps=f.steps, batch=f.batch, episodes=f.episodes,
        split=f.split, rate=f.rate,
        plan=dataclasses.replace(Mppi(), samples=f.samples, iterations=f.iterations))
    plain = as_json(setting)
    out, rows, began, done = Path(f.out), {}, time.time(), 0
    todo = [(name, seed) for seed in range(f.seeds) for name in names]  # a seed at a time: cut short, all variants have as many
    for index, (name, seed) in enumerate(todo):
        weights = VARIANTS[name]._asdict() if name in VARIANTS else None
        path = out / "runs" / f"{name.replace(' ', '_')}-{seed}.json"
        found = finished(path, plain, weights)
        if found is None:
            about = {"variant": name, "seed": seed, "setting": plain, "weights": weights}
            found = about | run(setting, name, seed, f.progress)
            write_json(path, found)
            done += 1
            left = (time.time() - began) / done * (len(todo) - index - 1)
            print(f"{name} {seed}: success {100 * found['success']:.1f} %, {found.get('seconds', 0)} s; "
                  f"{index + 1}/{len(todo)}, {left / 60:.0f} min left", flush=True)
        rows.setdefault(name, []).append(found)
        write_json(out / "ablation.json", {"setting": plain, "rows": rows})
        write_text(out / "ablation.md", table(rows) + "\n")
    print(table(rows))
    print(f"written to {out / 'ablation.json'}")


def define_flags() -> None:
    """The command line; defined on running only, so that other entry points can import this one."""
    flags.DEFINE_string("out", "runs/two_rooms", "where ablation.json goes")
    flags.DEFINE_list("variants", [*BOUNDS, *(name for name in VARIANTS if name != "ema")], "what is trained and measured")
    flags.DEFINE_list("wall", [str(x) for x in Rooms.wall], "x of the wall: from, to")
    flags.DEFINE_integer("seeds", 3, "runs of each variant", lower_bound=1)
    flags.DEFINE_integer("steps", Setting.steps, "training steps of each run", lower_bound=1)
    flags.DEFINE_integer("batch", Setting.batch, "walks in a training step", lower_bound=1)
    flags.DEFINE_float("rate", Setting.rate, "learning rate", lower_bound=0.0)
    flags.DEFINE_integer("episodes", Setting.episodes, "evaluation episodes of each run", lower_bound=1)
    flags.DEFINE_integer("samples", Mppi.samples, "plans that the planner tries in an iteration", lower_bound=20)
    flags.DEFINE_integer("iterations", Mppi.iterations, "iterations of the planner at each decision", lower_bound=1)
    flags.DEFINE_enum("split", "test", ["validation", "test"], "layouts to evaluate on; validation for choosing settings")
    flags.DEFINE_bool("progress", True, "progress lines")


if __name__ == "__main__":
    define_flags()
    cli.main(main)
