"""Builds a corpus: runs the exemplary actor on many episodes, writes its traces, makes the TFDS dataset of them.

The same arguments give the same bytes, whatever the number of workers. The directory appears under its name only when
whole.
"""

import contextlib
import io
import multiprocessing
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
from tqdm import tqdm

from hjepa_gfn.data.directory import TRACES, CorpusInfo, check_corpus, check_is_ours, write_manifest
from hjepa_gfn.errors import UserError
from hjepa_gfn.exemplary.actor import ExemplaryActor
from hjepa_gfn.exemplary.traces import TraceWriter
from hjepa_gfn.worlds.babyai import check_level
from hjepa_gfn.worlds.seeds import SPLITS, split_seeds

_CHUNK = 25  # episodes a worker takes at a time
_MIN_SHARE = 0.1  # of the episodes tried must be solved by the planner


def build(
    level: str,
    out_dir: str | os.PathLike,
    n_train: int,
    n_validation: int,
    seed: int = 0,
    workers: int = 2,
    progress: bool = True,
    *,
    text_only: float = 0.0,
    overwrite: bool = False,
) -> Path:
    """Builds the corpus of a level; a whole corpus made with the same arguments is left as it is.

    Args:
        level: gym id of a BabyAI level.
        out_dir: the directory to make.
        n_train, n_validation: episodes in each split. Episodes that the planner cannot solve are passed over.
        seed: which episodes of the splits, which mistakes, which wording.
        workers: processes that run episodes; without effect on the result.
        progress: show a progress bar on standard error.
        text_only: share of episodes that keep texts and initial percept, but no trajectory.
        overwrite: replace an existing corpus, whole or not.

    Returns:
        The directory.

    Raises:
        UserError: unknown level, bad numbers, or an existing directory that is incomplete, corrupt or another corpus.
    """
    check_level(level)
    _check_numbers(n_train, n_validation, seed, workers, text_only)
    out = Path(out_dir).absolute()
    info = CorpusInfo(level, n_train, n_validation, seed, text_only, {})
    if _is_there(out, info, overwrite):
        return out
    partial = out.with_name(f".{out.name}.partial-{os.getpid()}")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        (partial / TRACES).mkdir(parents=True)
    except OSError as error:
        raise UserError(f"--out={out_dir}: cannot write there: {error.strerror}") from error
    try:
        unsolved = _write_traces(partial / TRACES, info, workers, progress)
        _write_dataset(partial)
        write_manifest(partial, CorpusInfo(level, n_train, n_validation, seed, text_only, unsolved))
        _put_in_place(partial, out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return out


def _check_numbers(n_train: int, n_validation: int, seed: int, workers: int, text_only: float) -> None:
    for name, n, split in (("n_train", n_train, "train"), ("n_validation", n_validation, "validation")):
        if not 1 <= n <= len(SPLITS[split]):
            raise UserError(f"{name} must be between 1 and {len(SPLITS[split])}, not {n}")
    if seed < 0:
        raise UserError(f"seed must be at least 0, not {seed}")
    if workers < 1:
        raise UserError(f"workers must be at least 1, not {workers}")
    if not 0 <= text_only <= 1:
        raise UserError(f"text_only must be between 0 and 1, not {text_only}")


def _is_there(out: Path, wanted: CorpusInfo, overwrite: bool) -> bool:
    """Whether the wanted corpus exists already. Raises UserError if something else is in its place."""
    if not out.exists():
        return False
    if not out.is_dir():
        raise UserError(f"--out={out} is a file: give a directory")
    if not any(out.iterdir()):
        return False
    check_is_ours(out)
    if overwrite:
        return False
    if difference := check_corpus(out).difference(wanted):
        raise UserError(f"data directory {out} holds another corpus ({difference}): give another --out, or --overwrite")
    return True


def _put_in_place(partial: Path, out: Path) -> None:
    old = out.with_name(f".{out.name}.old-{os.getpid()}")
    if out.exists():
        os.replace(out, old)
    os.replace(partial, out)
    shutil.rmtree(old, ignore_errors=True)


def _write_traces(folder: Path, info: CorpusInfo, workers: int, progress: bool) -> dict[str, int]:
    sizes = {"train": info.n_train, "validation": info.n_validation}
    bar = tqdm(total=sum(sizes.values()), desc=f"corpus of {info.level}", unit=" episodes", disable=not progress)
    with bar, _pool(info, workers if sum(sizes.values()) > 4 * _CHUNK else 1) as run:
        unsolved = {}
        for split, n in sizes.items():
            with TraceWriter(folder / f"{split}.jsonl") as writer:
                unsolved[split] = _write_split(split, n, info, run, writer, bar)
    return unsolved


def _write_split(split: str, n: int, info: CorpusInfo, run: Callable, writer: TraceWriter, bar: tqdm) -> int:
    """Writes the traces of the first n solvable seeds, in the seeds' order. Returns how many seeds were passed over."""
    limit = min(len(SPLITS[split]), int(n / _MIN_SHARE) + 100)
    seeds = split_seeds(split, limit, info.seed)
    tried = written = 0
    while written < n:
        batch = seeds[tried : tried + n - written]
        if not batch:
            raise UserError(f"level {info.level!r}: the planner solved only {written} of {tried} episodes, not {n}")
        for line in run((seed, split) for seed in batch):
            if line is not None:
                writer.append(line)
                written += 1
                bar.update()
        tried += len(batch)
    return tried - n


@contextlib.contextmanager
def _pool(info: CorpusInfo, workers: int) -> Iterator[Callable]:
    """A function that maps (seed, split) pairs to traces as JSON (None: unsolved), in order, on worker processes."""
    if workers == 1:
        _start_worker(info.level, info.seed, info.text_only)
        yield lambda tasks: map(_run_episode, tasks)
        return
    # Spawned, not forked: the parent may already run JAX's threads, which a fork would leave locked.
    context = multiprocessing.get_context("spawn")
    arguments = (info.level, info.seed, info.text_only)
    with ProcessPoolExecutor(workers, context, _start_worker, arguments) as executor:
        yield lambda tasks: executor.map(_run_episode, tasks, chunksize=_CHUNK)


_worker: dict = {}  # what a worker process keeps between episodes


def _start_worker(level: str, seed: int, text_only: float) -> None:
    if parent := multiprocessing.parent_process():
        threading.Thread(target=_follow, args=(parent,), daemon=True).start()
    _worker.update(actor=ExemplaryActor(level, seed), seed=seed, text_only=text_only)


def _follow(parent: multiprocessing.process.BaseProcess) -> None:
    """Ends this worker when its parent is gone: a killed parent would leave it waiting for work for ever."""
    parent.join()
    os._exit(1)


def _run_episode(task: tuple[int, str]) -> str | None:
    episode_seed, split = task
    trace = _worker["actor"].trace(episode_seed, split)
    if trace is None:
        return None
    if np.random.default_rng([_worker["seed"], episode_seed, 1]).random() < _worker["text_only"]:
        trace = trace.without_trajectory()
    return trace.to_json()


def _write_dataset(root: Path) -> None:
    from hjepa_gfn.data.episodes import PlanCorpus, tfds  # here, so that worker processes need not load TFDS

    tfds.disable_progress_bar()
    downloads = root / "downloads"  # TFDS makes this folder, and announces a download; there is none
    with contextlib.redirect_stdout(io.StringIO()):
        builder = PlanCorpus(traces_dir=str(root / TRACES), data_dir=str(root))
        builder.download_and_prepare(download_dir=str(downloads))
    shutil.rmtree(downloads, ignore_errors=True)
