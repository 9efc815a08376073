"""Writes chunks: runs the exemplary actor on the seeds of one chunk after another. Runs in worker processes."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from hjepa_gfn.data.chunks import Header, read_header, write_chunk
from hjepa_gfn.data.job import Job
from hjepa_gfn.data.reuse import Reusing
from hjepa_gfn.data.workshop import Actor
from hjepa_gfn.errors import UserError
from hjepa_gfn.exemplary.products import PREDICTION
from hjepa_gfn.exemplary.traces import Trace
from hjepa_gfn.worlds.families import draw_level
from hjepa_gfn.worlds.seeds import ASTRAY, SPLITS, split_seeds

_PATIENCE = 10  # situations without an answer, one after another, until a worker gives up


class Worker:
    """Makes chunks of one job. What a chunk holds depends on the job, the split and the chunk's number only."""

    def __init__(self, job: Job):
        """Actors are made when their level first comes up."""
        self._job = job
        backend = job.workshop.make_backend(job.backend, job.settings, job.seed)
        self._backend = Reusing(backend, job.old, job.workshop)
        self._actors: dict[tuple[str, bool], Actor] = {}
        self._in_a_row = 0  # situations that the back end could not answer, one after another

    def run(self, split: str, number: int) -> Header:
        """Makes a chunk and writes its file. A chunk that is there and whole is left as it is."""
        job, folder = self._job, Path(self._job.folder)
        done = read_header(folder, split, number)
        if done and not done.unanswered:
            return done
        answers, asked = self._backend.count, self._backend.asked
        lines, records, unanswered = [], [], 0
        seeds = chunk_seeds(job, split, number)
        for at, seed in enumerate(seeds):
            missing = False
            for trace in self._traces(seed, split):
                if trace:
                    lines.append(trace.to_json())
                    records.append({"at": at, **record_of(trace)})
                missing |= self._is_unanswered(trace)
            unanswered += missing
            if self._backend.stopped:  # what it left unanswered is not to be kept
                raise UserError(f"{self._backend.stopped}; once that is put right, the same command goes on where it was")
        answers, asked = self._backend.count - answers, self._backend.asked - asked
        header = Header(split, number, len(seeds), answers, asked, unanswered, records)
        write_chunk(folder, header, lines)
        return header

    def _traces(self, seed: int, split: str) -> Iterator[Trace | None]:
        """The trace of an episode's plans, or None; and, where there is one, that of a prediction, for a share of episodes."""
        job = self._job
        imagine, robust = np.random.default_rng([job.seed, seed, 1]).random(2) < (job.imagined, job.robustness)
        if split == "train" and np.random.default_rng([job.seed, seed, 3]).random() < job.astray:
            seed += ASTRAY
        kind = draw_level(job.family, seed), bool(robust)
        if kind not in self._actors:
            self._actors[kind] = job.workshop.make_actor(kind[0], job.seed, job.textbooks, self._backend, kind[1])
        actor = self._actors[kind]
        trace = (actor.imagine if imagine else actor.trace)(seed, split, job.family)
        yield trace
        if trace and np.random.default_rng([job.seed, seed, 2]).random() < job.predictions:
            yield actor.predict(seed, split, job.family)

    def _is_unanswered(self, trace: Trace | None) -> bool:
        """Whether there is no trace because the back end failed. Rules do not fail: what they cannot solve has no plan."""
        if trace or self._job.backend == "rules" or not self._backend.failure:
            self._in_a_row = 0
            return False
        self._in_a_row += 1
        if self._in_a_row == _PATIENCE:
            raise UserError(
                f"--backend={self._job.backend}: no answer for {_PATIENCE} situations in a row ({self._backend.failure}); "
                "once that is put right, the same command goes on where it was"
            )
        return True


def chunk_seeds(job: Job, split: str, number: int) -> list[int]:
    """The episode seeds of a chunk; none where the split has no more."""
    first = number * job.chunk
    return split_seeds(split, max(0, min(job.chunk, len(SPLITS[split]) - first)), job.seed, first)


def record_of(trace: Trace) -> dict[str, Any]:
    """What the builder counts of a trace."""
    if trace.product == PREDICTION.name:
        return {"prediction": True, "true": trace.success, "converged": trace.converged, "answers": len(trace.entries)}
    return {
        "level": trace.level, "imagined": not trace.trajectory.action, "converged": trace.converged, "robust": trace.robust,
        "drafts": len(trace.drafts), "answers": len(trace.entries),
    }  # fmt: skip


_worker: Worker | None = None  # of a worker process


def start_worker(job: Job) -> None:
    """Makes this process's worker."""
    global _worker
    _worker = Worker(job)


def run_chunk(split: str, number: int) -> Header:
    """Makes a chunk with this process's worker."""
    return _worker.run(split, number)
