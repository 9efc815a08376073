"""The chunks of a corpus as an Apache Beam pipeline: the same worker, the same files, the same corpus.

Beam needs the extra `beam`. The workers write chunks to the build's working directory, beside the target: with a runner on
other machines, that has to be a disk that all of them share.
"""

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

try:
    import apache_beam as beam
    from apache_beam.options.pipeline_options import PipelineOptions
except ImportError as error:
    from hjepa_gfn.errors import UserError

    raise UserError(
        f"--beam_runner needs Apache Beam ({error}): install it with pip install -c constraints.txt -e '.[beam]'"
    ) from error

from hjepa_gfn.data.chunks import Header, read_header
from hjepa_gfn.data.job import Job
from hjepa_gfn.data.pool import Run, Task
from hjepa_gfn.data.worker import Worker
from hjepa_gfn.errors import UserError


class MakeChunk(beam.DoFn):
    """(split, number) -> the same, once the chunk's file is written."""

    def __init__(self, job: Job):
        """`job`: goes to the workers by pickling."""
        self._job = job

    def setup(self) -> None:
        """Once a worker: simulators and back ends are kept."""
        self._worker = Worker(self._job)

    def process(self, task: Task) -> Iterable[Task]:
        """Makes a chunk; a chunk that a retried bundle finds finished is left as it is."""
        self._worker.run(*task)
        yield task


def beam_pool(runner: str, options: Sequence[str]) -> Callable:
    """As `pool.pool`, by a pipeline on a runner, e.g. "DirectRunner"; `options`: flags of Beam's own.

    Raises:
        UserError: no such runner.
    """

    @contextlib.contextmanager
    def start(job: Job, workers: int) -> Iterator[Run]:
        del workers  # the runner's affair

        def run(tasks: list[Task]) -> Iterator[Header]:
            _run_pipeline(job, tasks, runner, options)
            for split, number in tasks:
                if not (header := read_header(Path(job.folder), split, number)):
                    raise UserError(f"--beam_runner={runner}: chunk {number} of {split} was made, but is not in {job.folder}: "
                                    "all workers must share that disk")  # fmt: skip
                yield header

        yield run

    return start


def _run_pipeline(job: Job, tasks: list[Task], runner: str, options: Sequence[str]) -> None:
    if not tasks:
        return
    try:
        # flags=list: an empty list, not None, or Beam would read the program's own command line
        pipeline = beam.Pipeline(runner=runner, options=PipelineOptions(flags=list(options), save_main_session=False))
    except (ValueError, ImportError, AttributeError) as error:
        raise UserError(f"--beam_runner={runner}: no such runner: try DirectRunner ({error})") from error
    with pipeline:
        made = pipeline | beam.Create(tasks) | beam.Reshuffle() | beam.ParDo(MakeChunk(job))
        made | beam.Map(lambda task: None)  # noqa: B018
