"""The training loop: restore or initialise, iterate, log, save; a killed run that is started again is the same run."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
from jax.sharding import Mesh

from hjepa_gfn.distributed import ShardingRules, abstract_state, host_shards, init_state, jit_step, put_batch
from hjepa_gfn.errors import UserError
from hjepa_gfn.files import write_bytes, write_json
from hjepa_gfn.training.ahead import Ahead, first_uses, shapes_of
from hjepa_gfn.training.books import Books
from hjepa_gfn.training.checkpoints import Checkpoints
from hjepa_gfn.training.metrics import Window
from hjepa_gfn.training.preemption import StopSignal
from hjepa_gfn.training.profiling import Profile
from hjepa_gfn.training.progress import Progress
from hjepa_gfn.training.runconfig import FREE_FIELDS, check_same, plain
from hjepa_gfn.training.task import State, Task


def run(
    task: Task,
    workdir: str | os.PathLike[str],
    *,
    mesh: Mesh,
    checkpoint_every: int,
    log_every: int,
    keep: int = 2,
    progress: bool = True,
    seed: int = 0,
    rules: ShardingRules = ShardingRules(),  # noqa: B008 (frozen)
    config: Any = None,
    free_fields: Sequence[str] = FREE_FIELDS,
    files: Mapping[str, str | bytes] | None = None,
    show: Sequence[str] = (),
    profile_steps: tuple[int, int] | None = None,
    async_saves: bool | None = None,
    alarm: Callable[[int, Mapping[str, float]], str | None] | None = None,
) -> State:
    """Runs `task` from where `workdir` left it to `task.total_steps`.

    Leaves in `workdir`: `checkpoints/<step>`, `metrics.jsonl`, `timings.jsonl` (see `timing`), `goodput.json` (see `goodput`),
    `tensorboard/`, `config.json` and `files`. Metrics are means over each window of `log_every` iterations.

    Args:
      task: the run, as pure functions.
      workdir: made if missing; a run that is already in there is continued.
      mesh: where state and batches live. May differ from the mesh of the run that is continued.
      checkpoint_every, log_every: in iterations; the end of the run is always saved and logged.
      keep: how many checkpoints to keep.
      progress: whether to print a progress line to stderr.
      seed: of `task.init`'s key.
      rules: logical axes to mesh axes.
      config: stored (as JSON) with each checkpoint, and compared on resuming, except `free_fields`.
      files: files to store in `workdir` at the start, `{"tokenizer.json": ..., "codebooks.npz": npz_bytes(...)}`.
      show: the metrics on the progress line; by default the first two losses.
      profile_steps: the first and the last iteration, counted from 0, of which to leave a profiler's trace in `profile/`.
      async_saves: whether to go on while checkpoints are written; by default wherever that needs no copy (see `Checkpoints`).
      alarm: called before each row of metrics and each save with the number of iterations and the means since the last row;
        what it says, if anything, ends the run, and nothing is saved any more (see `training.alarm`).

    Returns:
      The final state, on the mesh.

    Raises:
      UserError: the newest checkpoint is corrupt or of another config; a loss is no longer finite; or the alarm went off.
      SystemExit: 143 after SIGTERM, 130 after Ctrl-C, with the state saved.
    """
    workdir = Path(workdir).absolute()
    config = plain(config)
    try:
        workdir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"workdir {workdir}: cannot be made ({error.strerror})") from error

    abstract = abstract_state(task.init, mesh, rules)
    checkpoints = Checkpoints(workdir, keep, asynchronous=async_saves)
    try:
        with StopSignal() as stop:
            restored = checkpoints.restore_newest(
                abstract, lambda meta: check_same(meta["config"], config, str(workdir), free_fields)
            )
            if restored:
                state, step = restored.state, restored.step
                window, useful = Window.from_json(restored.meta["window"]), restored.meta.get("useful_seconds", 0.0)
            else:
                state, step, window, useful = init_state(task.init, jax.random.key(seed), abstract), 0, Window(), 0.0
            if jax.process_index() == 0:
                write_json(workdir / "config.json", config)
                for name, text in (files or {}).items():
                    write_bytes(workdir / name, text.encode() if isinstance(text, str) else text)
            line = Progress(task.total_steps, step, show=show, enabled=progress and jax.process_index() == 0)
            if step == task.total_steps:
                line.close(step)
                return state
            return _iterate(
                task, state, step, window,
                compiled=_compile(task, abstract, mesh, rules), mesh=mesh, workdir=workdir, checkpoints=checkpoints,
                saved=restored.step if restored else -1, stop=stop, config=config, line=line,
                books=Books(workdir, step, useful, task.train_steps.keys(), line), profile=Profile(workdir, profile_steps),
                checkpoint_every=checkpoint_every, log_every=log_every, alarm=alarm,
            )  # fmt: skip
    finally:
        checkpoints.close()


def _compile(task: Task, abstract: Any, mesh: Mesh, rules: ShardingRules) -> dict[str | None, Callable[..., Any]]:
    """The jitted train steps by name, and the end of the iteration under None."""
    steps: dict[str | None, Callable[..., Any]] = {}
    for name, step in task.train_steps.items():
        steps[name] = step if hasattr(step, "lower") else jit_step(step, abstract, mesh, rules)
    finish = task.finish_iteration
    steps[None] = finish if hasattr(finish, "lower") else jit_step(finish, abstract, mesh, rules, returns_metrics=False)
    return steps


def _unjitted(task: Task, step: int) -> list[str]:
    """The train steps that come up from `step` on, in order; those that were jitted already are used as they are."""
    order = first_uses(task.schedule, range(step, task.total_steps), len(task.train_steps))
    return [name for name in order if not hasattr(task.train_steps[name], "lower")]


def _iterate(
    task: Task,
    state: State,
    step: int,
    window: Window,
    *,
    compiled: Mapping[str | None, Callable[..., Any]],
    mesh: Mesh,
    workdir: Path,
    checkpoints: Checkpoints,
    saved: int,
    stop: StopSignal,
    config: Any,
    line: Progress,
    books: Books,
    profile: Profile,
    checkpoint_every: int,
    log_every: int,
    alarm: Callable[[int, Mapping[str, float]], str | None] | None,
) -> State:
    """From `step` finished iterations to the end. Everything that touches the disk happens between two iterations."""
    shards, timings, steps, ahead = host_shards(mesh), books.timings, dict(compiled), None

    def save() -> None:
        nonlocal saved
        if saved != step:
            meta = {"config": config, "window": window.to_json(), "useful_seconds": books.useful()}
            with timings.host("save"):
                checkpoints.save(step, state, meta)
            saved = step

    try:
        while step < task.total_steps:
            profile.before(step)
            with timings.host("data"):
                batch = put_batch(task.batch(step, *shards), mesh)
            # the hosts of a pod compile together, when each is at the same step
            if ahead is None and jax.process_count() == 1:
                ahead = Ahead(compiled, _unjitted(task, step), shapes_of(state), shapes_of(batch))
                steps |= {name: ahead[name] for name in ahead}
            for name in task.schedule(step):
                # Nothing may cross to or from the device unasked: an implicit transfer stalls the pipeline at every
                # step.
                with jax.transfer_guard("disallow"), jax.profiler.TraceAnnotation(name, step_num=step):
                    state, metrics = timings.step(name, steps[name], state, batch)
                window.add(name, metrics)
            with jax.transfer_guard("disallow"):
                _, state = timings.call("finish_iteration", compiled[None], state)
            profile.after(step, state)
            step += 1

            last = step == task.total_steps
            number = stop.received(step)
            means = None
            if last or number or step % log_every == 0 or step % checkpoint_every == 0:
                # before it could overwrite a good checkpoint
                _refuse_divergence(window, step, saved, workdir)
                if alarm and (said := alarm(step, window.means())):
                    raise UserError(f"{said} at step {step} of {workdir}; {_newest(saved)}")
            if last or step % log_every == 0:
                means = window.close()
                books.row(step, means)
            if last or number or step % checkpoint_every == 0:
                save()
            line.update(step, means)
            if last or number:
                books.write()
            if number:
                _leave(number, step, task.total_steps, checkpoints, line)
        line.close(step)
        return state
    finally:
        if ahead:
            ahead.close()
        profile.close()
        books.close()


def _refuse_divergence(window: Window, step: int, saved: int, workdir: Path) -> None:
    if name := window.non_finite_loss():
        raise UserError(f"{name} is not finite at step {step} of {workdir}; {_newest(saved)}: lower the learning rate")


def _newest(saved: int) -> str:
    return f"the newest checkpoint is of step {saved}" if saved >= 0 else "there is no checkpoint yet"


def _leave(number: int, step: int, total: int, checkpoints: Checkpoints, line: Progress) -> None:
    line.close(step)
    checkpoints.close()  # an asynchronous save must be whole before we say so
    name = signal.Signals(number).name
    print(f"stopped by {name} after {step}/{total} iterations, saved in {checkpoints.path / str(step)}; "
          "run the same command to go on", file=sys.stderr)  # fmt: skip
    raise SystemExit(128 + number)
