"""A build may die at any moment: the next one goes on, and the corpus is the same, byte for byte."""

import json
import os
import random
import signal
import subprocess
import sys
import time

import pytest

from hjepa_gfn.data import assembly, builder
from hjepa_gfn.data.chunks import Header, chunk_path, read_chunk, write_chunk
from hjepa_gfn.data.lock import locked
from hjepa_gfn.errors import UserError
from tests.data import corpora, fake
from tests.data.processes import session_is_alive, wait_until

SIZES = dict(n_train=150, n_validation=10, chunk=4, predictions=0.4)
PROGRAM = """
import sys, pathlib
from tests.data import corpora
corpora.make(pathlib.Path(sys.argv[1]), n_train=150, n_validation=10, chunk=4, predictions=0.4, workers=2)
"""


def start(out, seconds=0.0, **environment):
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "FAKE_SECONDS": str(seconds), **environment}
    return subprocess.Popen([sys.executable, "-c", PROGRAM, str(out)], env=environment, start_new_session=True)


def work_of(out):
    return next(out.parent.glob(f".{out.name}.building-*"), None)


def chunks_of(out):
    work = work_of(out)
    return len(list(work.glob("chunks/*.jsonl"))) if work else 0


def test_ten_kills_leave_the_same_corpus_and_lose_little(tmp_path):
    rng = random.Random(0)
    out, log = tmp_path / "corpus", tmp_path / "log"
    for kill in range(10):
        enough = chunks_of(out) + rng.randint(0, 5)
        with start(out, 0.02, FAKE_LOG=str(log)) as process:
            while process.poll() is None:
                work = work_of(out)
                if (work and (work / "corpus").exists()) if kill == 9 else chunks_of(out) >= enough:  # 9: in the assembly
                    break
                time.sleep(0.005)
            time.sleep(rng.random() * 0.05)
            process.kill()
        assert process.returncode == -signal.SIGKILL, "finished before it was killed: make the test's corpus larger"
        assert not out.exists()
        wait_until(lambda: not session_is_alive(process.pid))  # workers do not outlive their parent
    with start(out, FAKE_LOG=str(log)) as process:
        assert process.wait() == 0
    whole = corpora.make(tmp_path / "whole", **SIZES)
    assert corpora.fingerprint(out) == corpora.fingerprint(whole)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["corpus", "log", "whole"]
    made = log.read_text().split("\n")[:-1]
    assert len(made) - len(set(made)) <= 10 * 2 * SIZES["chunk"]  # what two workers had in hand at each kill


def test_finished_chunks_are_not_made_again(tmp_path, monkeypatch):
    whole = corpora.fingerprint(corpora.shared())
    monkeypatch.setattr(assembly, "write_dataset", lambda root, family: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        corpora.make(tmp_path / "c")
    monkeypatch.undo()
    monkeypatch.setattr(fake.Actor, "trace", lambda *arguments: 1 / 0)
    corpora.make(tmp_path / "c")
    assert corpora.fingerprint(tmp_path / "c") == whole


def interrupted(out, monkeypatch, **changes):
    """A build that stopped when all its chunks were there; its working directory."""
    with monkeypatch.context() as patch, pytest.raises(ZeroDivisionError):
        patch.setattr(assembly, "write_dataset", lambda root, family: 1 / 0)
        corpora.make(out, **changes)
    return work_of(out)


def torn(data):
    return data[: len(data) // 2]


def flipped(data):
    return data[:-30] + bytes([data[-30] ^ 1]) + data[-29:]


def empty(data):
    return b""


def other_header(data):
    return b'{"split": "train"}\n' + data


def line_less(data):
    return data[: data[:-1].rindex(b"\n") + 1]


@pytest.mark.parametrize("damage", [torn, flipped, empty, other_header, line_less])
def test_damaged_chunks_are_made_again(tmp_path, monkeypatch, damage):
    work = interrupted(tmp_path / "c", monkeypatch)
    path = chunk_path(work / "chunks", "train", 2)
    path.write_bytes(damage(path.read_bytes()))
    corpora.make(tmp_path / "c")
    assert corpora.fingerprint(tmp_path / "c") == corpora.fingerprint(corpora.shared())


def test_a_chunk_under_another_name_is_none(tmp_path):
    write_chunk(tmp_path, Header("train", 1, 2, 0, 0, 0, [{"at": 0}]), ["{}"])
    assert read_chunk(tmp_path, "train", 1)[1] == ["{}"]
    for split, number in (("train", 2), ("validation", 1)):
        chunk_path(tmp_path, split, number).write_bytes(chunk_path(tmp_path, "train", 1).read_bytes())
        assert read_chunk(tmp_path, split, number) is None


@pytest.mark.parametrize(
    "change",
    [dict(seed=1), dict(imagined=0.3), dict(robustness=0.0), dict(predictions=0.5), dict(astray=0.5),
     dict(textbooks=["/x/safety-2"]), dict(family="GoTo"), dict(settings={"temperature": 1.0}), dict(backend="other", chunk=7)],
    ids=lambda change: next(iter(change)),
)  # fmt: skip
def test_unfinished_work_of_other_arguments_is_not_used(tmp_path, monkeypatch, change):
    work = interrupted(tmp_path / "c", monkeypatch)
    corpora.make(tmp_path / "c", **change)
    assert work_of(tmp_path / "c") == work  # left for whoever began it
    assert corpora.fingerprint(tmp_path / "c") == corpora.fingerprint(corpora.make(tmp_path / "d", **change))


def test_unfinished_work_of_another_program_is_not_used(tmp_path, monkeypatch):
    from hjepa_gfn.data import job

    work = interrupted(tmp_path / "c", monkeypatch)
    monkeypatch.setattr(job, "program_sha", lambda: "another")
    assert interrupted(tmp_path / "c2", monkeypatch).name.rpartition("-")[2] != work.name.rpartition("-")[2]


def test_a_larger_corpus_goes_on_from_a_smaller_one(tmp_path, monkeypatch):
    interrupted(tmp_path / "c", monkeypatch)
    made = []
    trace = fake.Actor.trace
    monkeypatch.setattr(fake.Actor, "trace", lambda self, *a: made.append(a) or trace(self, *a))
    corpora.make(tmp_path / "c", n_train=80)
    assert 10 < len(made) < 40
    assert corpora.fingerprint(tmp_path / "c") == corpora.fingerprint(corpora.make(tmp_path / "d", n_train=80))


def test_two_builders_at_once(tmp_path):
    out = tmp_path / "corpus"
    with start(out, 0.02) as first:
        wait_until(lambda: chunks_of(out) > 0)
        with pytest.raises(UserError, match=f"being built by another process .process {first.pid} on"):
            corpora.make(out, **SIZES)
        assert first.wait() == 0
    assert corpora.fingerprint(out) == corpora.fingerprint(corpora.make(tmp_path / "whole", **SIZES))
    corpora.make(out, **SIZES)


def test_the_lock_of_a_dead_process_is_taken_over(tmp_path):
    lock = tmp_path / "lock"
    program = "import os, sys; from pathlib import Path; from hjepa_gfn.data.lock import locked\n"
    program += "with locked(Path(sys.argv[1]), 'it'): os._exit(9)"
    assert subprocess.run([sys.executable, "-c", program, lock]).returncode == 9
    assert lock.exists()
    with locked(lock, "it"):
        assert f"process {os.getpid()} on" in lock.read_text()
        with pytest.raises(UserError, match="it is being built by another process"), locked(lock, "it"):
            pass
        assert lock.exists()  # the loser does not remove it
    assert not lock.exists()


@pytest.mark.parametrize("moment", ["before", "between", "after"])
def test_killed_while_the_corpus_takes_its_place(tmp_path, monkeypatch, moment):
    out, other = tmp_path / "c", dict(textbooks=["/x/safety-2"])
    corpora.make(out)
    monkeypatch.setattr(assembly.os, "replace", replacement := Kill(os.replace, moment, out))
    with pytest.raises(KeyboardInterrupt):
        corpora.make(out, **other)
    monkeypatch.undo()
    assert replacement.calls
    assert out.exists() == (moment != "between")
    corpora.make(out, **other)
    assert json.loads((out / "corpus.json").read_text())["textbooks"]["safety"] == fake.book("safety", 2).sha
    assert [path.name for path in tmp_path.iterdir()] == ["c"]


class Kill:
    """os.replace that dies at a moment of moving corpora."""

    def __init__(self, replace, moment, out):
        self.replace, self.moment, self.out, self.calls = replace, moment, out, 0

    def __call__(self, source, target):
        if os.fspath(source) != os.fspath(self.out) and os.fspath(target) != os.fspath(self.out):
            return self.replace(source, target)
        self.calls += 1
        if self.moment == "before" or (self.moment == "between" and self.calls == 2):
            raise KeyboardInterrupt
        self.replace(source, target)
        if self.moment == "after" and self.calls == 2:
            raise KeyboardInterrupt


def test_workers_that_die_are_reported(tmp_path, monkeypatch):
    from concurrent.futures.process import BrokenProcessPool

    def broken(self, *arguments):
        raise BrokenProcessPool("killed")

    monkeypatch.setattr(builder, "_make_split", broken)
    with pytest.raises(UserError, match="a worker process was killed.*same command goes on"):
        corpora.make(tmp_path / "c", workers=2)
