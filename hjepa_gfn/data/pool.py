"""Runs chunks on worker processes, in whatever order they finish."""

import contextlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool

from hjepa_gfn.data.chunks import Header
from hjepa_gfn.data.job import Job
from hjepa_gfn.data.worker import Worker, run_chunk, start_worker
from hjepa_gfn.errors import UserError

Task = tuple[str, int]  # split and number of a chunk
Run = Callable[[list[Task]], Iterable[Header]]


@contextlib.contextmanager
def pool(job: Job, workers: int) -> Iterator[Run]:
    """A function that makes chunks (their files are written by the workers) and gives their headers as they are done."""
    if workers == 1:
        worker = Worker(job)
        yield lambda tasks: (worker.run(*task) for task in tasks)
        return
    # Spawned, not forked: the parent may already run JAX's threads, which a fork would leave locked.
    context = multiprocessing.get_context("spawn")
    executor = ProcessPoolExecutor(workers, context, _start, (job,))

    def run(tasks: list[Task]) -> Iterator[Header]:
        futures = [executor.submit(run_chunk, *task) for task in tasks]
        for future in as_completed(futures):
            yield future.result()

    try:
        yield run
    except BrokenProcessPool as error:
        raise UserError("a worker process was killed (out of memory?): the same command goes on where it was") from error
    finally:
        executor.shutdown(cancel_futures=True)  # what runs is finished and kept


def _start(job: Job) -> None:
    # Ctrl-C goes to the whole process group: the parent decides what becomes of the workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if parent := multiprocessing.parent_process():
        threading.Thread(target=_follow, args=(parent,), daemon=True).start()
    start_worker(job)


def _follow(parent: multiprocessing.process.BaseProcess) -> None:
    """Ends this worker when its parent is gone: a killed parent would leave it waiting for work for ever."""
    parent.join()
    os._exit(1)
