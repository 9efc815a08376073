"""What a JEPA needs to be planned with, on the two-room task: `python -m experiments.two_rooms --out=runs/two_rooms`.

Trains a one-level JEPA on random exploring walks once for each variant and seed, plans with MPPI in its latent space to a
goal's picture in the other room, in layouts (wall, door) that training never had, and prints success beside what the
representation holds. The variants are EB-JEPA's ablation (each regularising term left out in turn), SIGReg in place of variance
and covariance, and prediction alone; a random walk stands below them, a planner that knows the simulator above. Every finished
run lies in `<out>/runs` and is not run again; ablation.json and ablation.md have all.
"""
from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
from absl import flags

from experiments import cli
from experiments.two_rooms_settings import BOUNDS, SETTINGS, SLOW, VARIANTS, Setting, as_json, changed, weights_of
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
from hjepa_gfn.models.pixel_jepa import PixelJepa
from hjepa_gfn.training.pixel_jepa import train

# EB-JEPA, examples/ac_video_jepa/README.md, random wall: success in % of 20 episodes, mean over 3 seeds and 3 last epochs.
PUBLISHED_SUCCESS = {"full": 97, "no variance": 47, "no covariance": 46, "no similarity": 61, "no inverse": 1}
SHOWN = (
    "success", "reached", "crossed", "distance", "probe_position", "probe_layout", "std", "pred_over_copy",
    "pred_over_copy_far", "creep", "through")


def run(setting: Setting, variant: str, seed: int, progress: bool) -> dict[str, Any]:
    """One trained model, measured; or one of `BOUNDS`."""
    training, began = setting.training, time.time()
    rooms, taken = training.rooms, {}

    def lap(name: str) -> None:
        taken[name] = round(time.time() - began - sum(taken.values()), 1)

    tasks, key = draw_tasks(rooms, setting.split, setting.episodes, seed), jax.random.key(1_000_003 + seed)
    if variant == "random walk":
        return outcome(rooms, tasks, jax.jit(lambda: roaming(rooms, key, tasks))())
    if variant == "true dynamics":
        position = jax.jit(lambda: planned(rooms, setting.plan, true_sight, true_advance(rooms), key, tasks))()
        return outcome(rooms, tasks, position) | {"seconds": round(time.time() - began, 1)}
    model = PixelJepa(training.sizes)
    params, losses, first = train(
        training, weights_of(setting, variant), seed, slow=variant in SLOW, label=f"{variant} {seed}", progress=progress)
    lap("train")
    found = {"losses": losses}
    found |= representation(model, params, rooms, jax.random.fold_in(key, 1), training.horizon, setting.split)
    lap("representation")
    found |= outcome(rooms, tasks, planner(model, rooms, setting.plan)(params, key, tasks))
    lap("plan")
    return found | {"seconds_of": taken | {"first_chunk": round(first, 1)}, "seconds": round(time.time() - began, 1)}


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
            digits = 1 if key in ("success", "reached", "crossed", "through") else 2
            scale = 100.0 if digits == 1 else 1.0
            cells.append(f"{scale * np.mean(values):.{digits}f} ± {scale * np.std(values):.{digits}f}" if values else "")
        lines.append(f"| {name} | {len(runs)} | {PUBLISHED_SUCCESS.get(name, '')} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    """The entry point."""
    f = flags.FLAGS
    names = [name.strip() for name in f.variants]
    for name in names:
        if name not in VARIANTS and name not in BOUNDS:
            raise UserError(f"--variants: {name!r} is none of {', '.join([*BOUNDS, *VARIANTS])}")
    setting = changed(SETTINGS[f.setting], {name: f[name].value for name in CHANGES}, f.wall)
    plain = as_json(setting)
    out, rows, began, done = Path(f.out), {}, time.time(), 0
    todo = [(name, seed) for seed in range(f.seeds) for name in names]  # a seed at a time: cut short, all variants have as many
    for index, (name, seed) in enumerate(todo):
        weights = weights_of(setting, name)._asdict() if name in VARIANTS else None
        path = out / "runs" / f"{name.replace(' ', '_')}-{seed}.json"
        found = finished(path, plain, weights)
        if found is None:
            if f.time_limit is not None and time.time() - began > f.time_limit:
                continue
            about = {"variant": name, "seed": seed, "setting": plain, "weights": weights}
            found = about | run(setting, name, seed, f.progress)
            write_json(path, found)
            done += 1
            left = (time.time() - began) / done * (len(todo) - index - 1)
            print(f"{name} {seed}: success {100 * found['success']:.1f} %, {found.get('seconds', 0)} s "
                  f"{found.get('seconds_of', '')}; {index + 1}/{len(todo)}, {left / 60:.0f} min left", flush=True)
        rows.setdefault(name, []).append(found)
        write_json(out / "ablation.json", {"setting": plain, "rows": rows})
        write_text(out / "ablation.md", table(rows) + "\n")
    missing = len(todo) - sum(map(len, rows.values()))
    print(table(rows))
    print(f"written to {out / 'ablation.json'}" + (f"; {missing} runs not begun within --time_limit" if missing else ""))


CHANGES = (
    "steps", "batch", "window", "rate", "chunk", "dtype", "episodes", "split", "samples", "iterations", "knots", "hold",
    "replan", "warm", "longest", "roam", "horizon", "from_first", "predictor")


def define_flags() -> None:
    """The command line; defined on running only, so that other entry points can import this one."""
    flags.DEFINE_string("out", "runs/two_rooms", "where ablation.json goes")
    flags.DEFINE_enum("setting", "small", list(SETTINGS), "small: for two cores; published: EB-JEPA's; short: its, cut")
    flags.DEFINE_list("variants", [*BOUNDS, *(name for name in VARIANTS if name != "ema")], "what is trained and measured")
    flags.DEFINE_integer("seeds", 3, "runs of each variant", lower_bound=1)
    flags.DEFINE_float("time_limit", None, "seconds after which no further run is begun", lower_bound=0.0)
    flags.DEFINE_bool("progress", True, "progress lines")
    flags.DEFINE_list("wall", None, "x of the wall: from, to")
    flags.DEFINE_integer("steps", None, "training steps of each run", lower_bound=1)
    flags.DEFINE_integer("batch", None, "walks in a training step", lower_bound=1)
    flags.DEFINE_integer("window", None, "steps of a walk in training", lower_bound=1)
    flags.DEFINE_integer("horizon", None, "steps of open-loop prediction", lower_bound=1)
    flags.DEFINE_bool("from_first", None, "whether only a walk's first state is predicted from")
    flags.DEFINE_enum("predictor", None, ["residual", "gru"], "what foresees; EB-JEPA's is a GRU")
    flags.DEFINE_integer("roam", None, "steps of a whole walk, of which training sees a window; 0: the window", lower_bound=0)
    flags.DEFINE_float("rate", None, "learning rate", lower_bound=0.0)
    flags.DEFINE_integer("chunk", None, "training steps in one compiled call", lower_bound=1)
    flags.DEFINE_enum("dtype", None, ["float32", "bfloat16"], "of the Impala encoder and the GRU's matmuls")
    flags.DEFINE_integer("episodes", None, "evaluation episodes of each run", lower_bound=1)
    flags.DEFINE_enum("split", None, ["validation", "test"], "layouts to evaluate on; validation for choosing settings")
    flags.DEFINE_integer("samples", None, "plans that the planner tries in an iteration", lower_bound=20)
    flags.DEFINE_integer("iterations", None, "iterations of the planner at each decision", lower_bound=1)
    flags.DEFINE_integer("knots", None, "actions of a plan", lower_bound=1)
    flags.DEFINE_integer("hold", None, "steps that each of them is held for", lower_bound=1)
    flags.DEFINE_integer("replan", None, "actions that are taken before it plans again", lower_bound=1)
    flags.DEFINE_float("longest", None, "length that the planner's actions are cut to", lower_bound=0.0)
    flags.DEFINE_bool("warm", None, "whether a search begins at the rest of the plan before")


if __name__ == "__main__":
    define_flags()
    cli.main(main)
