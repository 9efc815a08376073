"""From finished chunks to the finished corpus, and into its place."""

import contextlib
import glob
import io
import os
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from hjepa_gfn.data.chunks import read_chunk
from hjepa_gfn.data.directory import TRACES, CorpusInfo, write_manifest
from hjepa_gfn.exemplary.traces import TraceWriter


@contextlib.contextmanager
def _same_bytes() -> Iterator[None]:
    """Lets TFDS write the fields of an example in one order: by itself it writes them in another one in every process."""
    from tensorflow_datasets.core.example_serializer import ExampleSerializer

    def in_order(self: ExampleSerializer, example: Any) -> bytes:
        return self.get_tf_example(example).SerializeToString(deterministic=True)

    usual = ExampleSerializer.serialize_example
    ExampleSerializer.serialize_example = in_order
    try:
        yield
    finally:
        ExampleSerializer.serialize_example = usual


_FINISHED = "finished"  # a mark in a working directory: its corpus was whole


def assemble(work: Path, info: CorpusInfo, used: dict[str, int]) -> None:
    """Makes `work`/corpus of the first traces of the chunks in `work`/chunks.

    `used`: per split, how many chunks there are. The order of the traces is the order of the seeds, whoever made them.
    """
    root, chunks = work / "corpus", work / "chunks"
    (work / _FINISHED).unlink(missing_ok=True)
    shutil.rmtree(root, ignore_errors=True)  # half of an assembly that was killed
    (root / TRACES).mkdir(parents=True)
    unsolved, counts = {}, {}
    for split, n in (("train", info.n_train), ("validation", info.n_validation)):
        kept, tried, episodes = [], 0, 0
        with TraceWriter(root / TRACES / f"{split}.jsonl") as writer:
            for number in range(used[split]):
                header, lines = read_chunk(chunks, split, number)
                for record, line in zip(header.traces, lines):
                    episodes += not record.get("prediction")
                    if episodes > n:
                        break
                    writer.append(line)
                    kept.append(record)
                    if episodes == n:
                        unsolved[split] = tried + record["at"] + 1 - n
                tried += header.tried
        counts[split] = count(kept)
    info = CorpusInfo(**{**vars(info), "unsolved": unsolved, "counts": counts})
    write_dataset(root, info.family)
    write_manifest(root, info)
    (work / _FINISHED).touch()


def count(records: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """What a manifest says of a split's traces: how many of which kind, answers, drafts, and traces by level.

    Predictions, where there are any, are counted by themselves.
    """
    everything = list(records)
    predictions = [record for record in everything if record.get("prediction")]
    records = [record for record in everything if not record.get("prediction")]
    levels: dict[str, int] = {}
    for record in records:
        levels[record["level"]] = levels.get(record["level"], 0) + 1
    counts = {
        "episodes": len(records),
        "imagined": sum(record["imagined"] for record in records),
        "converged": sum(record["converged"] for record in records),
        "robust": sum(record["robust"] is True for record in records),
        "fragile": sum(record["robust"] is False for record in records),
        "drafts": sum(record["drafts"] for record in records),
        "answers": sum(record["answers"] for record in records),
        "levels": dict(sorted(levels.items())),
    }
    if predictions:
        counts["predictions"] = {
            "traces": len(predictions),
            **{name: sum(record[name] for record in predictions) for name in ("converged", "true", "answers")},
        }
    return counts


def write_dataset(root: Path, family: str) -> None:
    """Makes the TFDS dataset of the traces in `root`."""
    from hjepa_gfn.data.episodes import PlanCorpus, config_of, tfds  # here, so that worker processes need not load TFDS

    tfds.disable_progress_bar()
    downloads = root / "downloads"  # TFDS makes this folder, and announces a download; there is none
    with contextlib.redirect_stdout(io.StringIO()), _same_bytes():
        builder = PlanCorpus(config=config_of(family), traces_dir=str(root / TRACES), data_dir=str(root))
        builder.download_and_prepare(download_dir=str(downloads))
    shutil.rmtree(downloads, ignore_errors=True)


def old_place(out: Path) -> Path:
    """Where a corpus waits while its successor takes its place."""
    return out.with_name(f".{out.name}.old")


def put_in_place(work: Path, out: Path) -> None:
    """Moves `work`/corpus to its place; the one that was there, and `work`, are deleted after that. See `recover`."""
    old = old_place(out)
    if out.exists():
        os.replace(out, old)
    os.replace(work / "corpus", out)
    recover(out)


def recover(out: Path) -> None:
    """Ends what `put_in_place` began, or undoes it, where it was killed."""
    old = old_place(out)
    if old.exists() and not out.exists():  # killed between its two moves
        os.replace(old, out)
    for folder in leftovers(out):
        shutil.rmtree(folder)


def leftovers(out: Path) -> list[Path]:
    """What a killed `put_in_place` did not come to delete."""
    works = out.parent.glob(f".{glob.escape(out.name)}.building-*")
    moved = [work for work in works if (work / _FINISHED).exists() and not (work / "corpus").exists()]
    return [*moved, old_place(out)] if old_place(out).exists() else moved
