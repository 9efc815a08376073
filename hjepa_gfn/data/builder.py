"""Builds a corpus: runs the exemplary actor on many episodes, writes its traces, makes the TFDS dataset of them.

The same arguments give the same bytes, whatever the number of workers and however often the build was killed: finished
chunks lie in a directory beside the target, `.NAME.building-KEY`, and are used again by the same command. The corpus
appears under its name only when whole.
"""

import os
import shutil
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from hjepa_gfn.data import assembly
from hjepa_gfn.data.chunks import Header, read_header
from hjepa_gfn.data.directory import MANIFEST, CorpusInfo, check_corpus, check_is_ours, digest_of
from hjepa_gfn.data.job import Job
from hjepa_gfn.data.lock import locked
from hjepa_gfn.data.pool import Run, pool
from hjepa_gfn.data.workshop import WORKSHOP, Workshop, shaping
from hjepa_gfn.errors import UserError
from hjepa_gfn.worlds.families import check_family
from hjepa_gfn.worlds.seeds import SPLITS

_CHUNK = 25  # seeds a worker takes at a time, where thinking is cheap; elsewhere 1
_MIN_SHARE = 0.1  # of the episodes tried must be solved by the actor


def build(
    family: str,
    out_dir: str | os.PathLike,
    n_train: int,
    n_validation: int,
    seed: int = 0,
    workers: int = 2,
    progress: bool = True,
    *,
    imagined: float = 0.0,
    robustness: float = 0.0,
    predictions: float = 0.0,
    astray: float = 0.0,
    textbooks: Sequence[str] = (),
    backend: str = "rules",
    settings: dict[str, Any] | None = None,
    reuse: str | os.PathLike = "",
    overwrite: bool = False,
    chunk: int = 0,
    beam_runner: str = "",
    beam_options: Sequence[str] = (),
    workshop: Workshop = WORKSHOP,
) -> Path:
    """Builds a corpus; a whole corpus made with the same arguments is left as it is, an interrupted build goes on.

    A corpus at `out_dir` that differs in its textbooks only is brought up to date: its answers are used again wherever the
    question is still the same.

    Args:
        family: a family of levels, "mixed", or gym id of a BabyAI level.
        out_dir: the directory to make.
        n_train, n_validation: episodes in each split. Episodes that the actor cannot solve are passed over.
        seed: which episodes of the splits, which mistakes, which wording.
        workers: processes that run episodes; without effect on the result.
        progress: show a progress bar on standard error.
        imagined: share of samples that are text only: plans for situations that are sampled and never executed.
        robustness: share of episodes whose final plan is tried with another explanation.
        predictions: share of episodes that also give the trace of a prediction. It follows the trace of the episode's plans in
            the traces' file; the dataset leaves predictions out.
        astray: share of training episodes that begin where an agent has gone astray (`worlds.astray`).
        textbooks: directories or files with more textbooks.
        backend, settings: who thinks; see `exemplary.backends.make_backend`.
        reuse: a corpus whose answers are used again.
        overwrite: replace an existing corpus, whole or not.
        chunk: seeds in a chunk, the unit of work that a kill can lose; 0: 25 for "rules", else 1. Without effect on the
            result.
        beam_runner, beam_options: run the chunks as an Apache Beam pipeline, instead of on `workers` processes.
        workshop: how actors and back ends are made.

    Returns:
        The directory.

    Raises:
        UserError: unknown level, bad numbers, another builder at work, or an existing directory that is incomplete, corrupt
            or another corpus.
    """
    check_family(family)
    _check_numbers(n_train, n_validation, seed, workers, imagined, robustness, chunk, predictions, astray)
    out = Path(out_dir).absolute()
    books = workshop.textbooks(textbooks)
    editions = {book.discipline: book.sha for book in books}
    settings = dict(settings or {})
    if "max_cost" in settings:
        settings["max_cost"] /= workers  # each has a purse of its own
    info = CorpusInfo(
        family, n_train, n_validation, seed, imagined, robustness, backend, shaping(settings), editions, {}, {}, predictions,
        astray)
    if _what_is_there(out, info, overwrite) == "the same" and not assembly.leftovers(out):
        return out  # before the lock: many may read at once, on a read-only disk too
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--out={out_dir}: cannot write there: {error.strerror}") from error
    with locked(out.with_name(f".{out.name}.lock"), f"--out={out_dir}"):
        assembly.recover(out)
        found = _what_is_there(out, info, overwrite)
        if found == "the same":
            return out
        old = Path(reuse).absolute() if reuse else out if found == "other textbooks" else None
        if reuse:
            check_corpus(old)
        old_sha = digest_of(old / MANIFEST) if old else ""
        chunk = chunk or (_CHUNK if backend == "rules" else 1)
        job = Job(
            family, seed, imagined, robustness, backend, settings, books, chunk, str(old or ""), old_sha, workshop,
            predictions=predictions, astray=astray,
        )  # fmt: skip
        work = out.with_name(f".{out.name}.building-{job.key()[:12]}")
        run = beam_pool(beam_runner, beam_options) if beam_runner else pool
        used = _make_chunks(job.at(work / "chunks"), info, lambda job: run(job, workers), progress)
        assembly.assemble(work, info, used)
        assembly.put_in_place(work, out)
    return out


def beam_pool(runner: str, options: Sequence[str]) -> Callable:
    """As `pool.pool`, on Apache Beam. Raises UserError where Beam is not installed."""
    from hjepa_gfn.data.beam import beam_pool as make  # here: Beam is an extra

    return make(runner, options)


def _check_numbers(
    n_train: int, n_validation: int, seed: int, workers: int, imagined: float, robustness: float, chunk: int,
    predictions: float, astray: float,
) -> None:
    for name, n, split in (("n_train", n_train, "train"), ("n_validation", n_validation, "validation")):
        if not 1 <= n <= len(SPLITS[split]):
            raise UserError(f"{name} must be between 1 and {len(SPLITS[split])}, not {n}")
    if seed < 0:
        raise UserError(f"seed must be at least 0, not {seed}")
    if workers < 1:
        raise UserError(f"workers must be at least 1, not {workers}")
    for name, share in (("imagined", imagined), ("robustness", robustness), ("predictions", predictions),
                        ("astray", astray)):
        if not 0 <= share <= 1:
            raise UserError(f"{name} must be between 0 and 1, not {share}")
    if chunk < 0:
        raise UserError(f"chunk must be at least 0, not {chunk}")


def _what_is_there(out: Path, wanted: CorpusInfo, overwrite: bool) -> str:
    """"nothing", "the same" or "other textbooks". Raises UserError if something else is in the corpus's place."""
    if not out.exists():
        return "nothing"
    if not out.is_dir():
        raise UserError(f"--out={out} is a file: give a directory")
    if not any(out.iterdir()):
        return "nothing"
    check_is_ours(out)
    if overwrite:
        return "nothing"
    there = check_corpus(out)
    difference = there.difference(wanted)
    if difference is None:
        return "the same"
    if there.same_but_textbooks(wanted):
        return "other textbooks"
    raise UserError(f"data directory {out} holds another corpus ({difference}): give another --out, or --overwrite")


def _make_chunks(job: Job, info: CorpusInfo, start: Callable[[Job], Any], progress: bool) -> dict[str, int]:
    """Makes all chunks that the corpus needs; returns how many they are, per split."""
    sizes = {"train": info.n_train, "validation": info.n_validation}
    done = {split: _finished(job, split, range(-(-n // job.chunk))) for split, n in sizes.items()}
    total, began = sum(sizes.values()), _solved(done, sizes)
    bar = tqdm(total=total, initial=began, desc=f"corpus of {job.family}", unit=" episodes", disable=not progress)
    with bar, start(job) as run:
        for split, n in sizes.items():
            _make_split(job, split, n, done, sizes, run, bar)
    headers = [header for chunks in done.values() for header in chunks.values()]
    answers, asked = sum(h.answers for h in headers), sum(h.asked for h in headers)
    if job.old and progress:
        print(f"{answers - asked} of {answers} answers were taken from {job.old}", file=sys.stderr)
    return {split: len(chunks) for split, chunks in done.items()}


def _make_split(
    job: Job, split: str, n: int, done: dict[str, dict[int, Header]], sizes: dict[str, int], run: Run, bar: tqdm
) -> None:
    """Makes chunks of a split, in their order but for what runs at once, until they hold n traces."""
    limit = -(-min(len(SPLITS[split]), int(n / _MIN_SHARE) + 100) // job.chunk)  # chunks
    wanted = 0
    while (solved := sum(done[split][number].episodes for number in range(wanted))) < n:
        if wanted == limit:
            tried = sum(header.tried for header in done[split].values())
            shutil.rmtree(Path(job.folder).parent, ignore_errors=True)  # of no use to anybody
            raise UserError(f"{job.family!r}: the actor solved only {solved} of {tried} episodes, not {n}")
        wanted = min(wanted + -(-(n - solved) // job.chunk), limit)
        done[split] |= _finished(job, split, [number for number in range(wanted) if number not in done[split]])
        missing = [(split, number) for number in range(wanted) if number not in done[split]]
        for header in run(missing):
            done[split][header.chunk] = header
            bar.update(_solved(done, sizes) - bar.n)


def _finished(job: Job, split: str, numbers: Iterable[int]) -> dict[int, Header]:
    """The whole chunks of a split among those of these numbers."""
    found = ((number, read_header(Path(job.folder), split, number)) for number in numbers)
    return {number: header for number, header in found if header and not header.unanswered}


def _solved(done: dict[str, dict[int, Header]], sizes: dict[str, int]) -> int:
    return sum(min(n, sum(header.episodes for header in done[split].values())) for split, n in sizes.items())
