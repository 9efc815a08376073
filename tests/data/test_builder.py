"""A corpus must be the same whoever builds it, whole or absent, and never damaged by mistakes of its user."""

import hashlib
import json
import shutil

import pytest

from hjepa_gfn.data import builder
from hjepa_gfn.data.directory import MANIFEST, check_corpus
from hjepa_gfn.data.store import load_episodes
from hjepa_gfn.errors import UserError
from hjepa_gfn.exemplary import read_traces
from hjepa_gfn.worlds.seeds import SPLITS
from tests.data import corpora


def fingerprint(folder):
    """SHA-256 of every file under a folder."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture
def corpus(tmp_path):
    """A copy of the shared corpus that a test may damage."""
    return shutil.copytree(corpora.shared(), tmp_path / "corpus")


def test_rebuilding_gives_the_same_bytes_with_any_number_of_workers(tmp_path, monkeypatch):
    monkeypatch.setattr(builder, "_CHUNK", 7)  # small enough that two workers really share the episodes
    again = corpora.make(tmp_path / "again", workers=2)
    names = fingerprint(again)
    assert names == fingerprint(corpora.shared())
    assert any(name.endswith("array_record-00000-of-00001") for name in names)


def test_another_seed_gives_another_corpus(tmp_path):
    other = corpora.make(tmp_path / "other", seed=1, n_train=10, n_validation=2)
    mine = {trace.seed for trace in read_traces(corpora.shared() / "traces/train.jsonl")}
    assert not mine & {trace.seed for trace in read_traces(other / "traces/train.jsonl")}


def test_nothing_but_the_corpus_is_left(tmp_path):
    out = corpora.make(tmp_path / "deep" / "corpus", n_train=3, n_validation=1)
    assert [path.name for path in out.parent.iterdir()] == ["corpus"]
    assert sorted(path.name for path in out.iterdir()) == ["corpus.json", "plan_corpus", "traces"]


def test_dataset_holds_what_the_traces_hold():
    for split, n in (("train", corpora.N_TRAIN), ("validation", corpora.N_VALIDATION)):
        traces = list(read_traces(corpora.shared() / f"traces/{split}.jsonl"))
        store = load_episodes(corpora.shared(), split)
        assert len(store) == len(traces) == n
        for i, trace in enumerate(traces):
            assert trace.split == split and trace.seed == store.seed[i] and trace.seed in SPLITS[split]
            assert (store.mission[i], store.situation[i]) == (trace.mission, trace.situation)
            assert store.final[i] == trace.final.text
            assert store.drafts[i] == [draft.text for draft in trace.drafts]
            assert store.critiques[i] == [draft.critique for draft in trace.drafts]
            steps, start = store.steps[i], store.offset[i]
            assert store.action[start : start + steps].tolist() == trace.trajectory.action
            assert store.segment[start : start + steps].tolist() == trace.trajectory.segment
            assert (store.view[start : start + steps + 1] == trace.trajectory.view).all()
            assert (store.direction[start : start + steps + 1] == trace.trajectory.direction).all()


def test_samples_without_trajectory_are_kept():
    store = load_episodes(corpora.shared(), "train")
    share = (store.steps == 0).mean()
    assert 0.05 < share < 0.4
    assert len(store.view) == (store.steps + 1).sum()


def test_unsolvable_episodes_are_passed_over(tmp_path):
    out = corpora.make(tmp_path / "c", level="BabyAI-UnlockToUnlock-v0", n_train=10, n_validation=2)
    seeds = [trace.seed for trace in read_traces(out / "traces/train.jsonl")]
    assert len(seeds) == 10 and seeds == sorted(seeds) and seeds[-1] > 9
    assert check_corpus(out).unsolved["train"] == seeds[-1] - 9


def test_a_level_that_the_planner_cannot_solve_is_refused(tmp_path):
    with pytest.raises(UserError, match="KeyInBox.*solved only 0"):
        corpora.make(tmp_path / "c", level="BabyAI-KeyInBox-v0", n_train=1, n_validation=1)
    assert list(tmp_path.iterdir()) == []


def test_a_whole_corpus_is_used_again_and_not_touched(corpus):
    before = {path: path.stat().st_mtime_ns for path in corpus.rglob("*")}
    corpora.make(corpus)
    assert before == {path: path.stat().st_mtime_ns for path in corpus.rglob("*")}


@pytest.mark.parametrize(
    "change", [dict(n_train=61), dict(seed=3), dict(text_only=0.0), dict(level="BabyAI-GoToObj-v0")]
)
def test_another_corpus_is_not_overwritten(corpus, change):
    before = fingerprint(corpus)
    with pytest.raises(UserError, match=f"another corpus.*{next(iter(change))}"):
        corpora.make(corpus, **change)
    assert fingerprint(corpus) == before


def damage_missing_manifest(folder):
    (folder / MANIFEST).unlink()
    return "incomplete"


def damage_cut_manifest(folder):
    (folder / MANIFEST).write_text((folder / MANIFEST).read_text()[:100])
    return "corrupt"


def damage_foreign_manifest(folder):
    (folder / MANIFEST).write_text("[1]")
    return "corrupt"


def damage_missing_shard(folder):
    next(folder.rglob("*train.array_record*")).unlink()
    return "incomplete"


def damage_cut_shard(folder):
    shard = next(folder.rglob("*train.array_record*"))
    shard.write_bytes(shard.read_bytes()[:1000])
    return "corrupt"


def damage_flipped_bit(folder):
    shard = next(folder.rglob("*train.array_record*"))
    data = bytearray(shard.read_bytes())
    data[500] ^= 1
    shard.write_bytes(data)
    return "corrupt"


def damage_other_format(folder):
    record = json.loads((folder / MANIFEST).read_text())
    (folder / MANIFEST).write_text(json.dumps({**record, "format": 99}))
    return "format 99"


DAMAGES = [value for name, value in sorted(globals().items()) if name.startswith("damage_")]


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_damaged_directories_are_named_and_left_alone(corpus, damage):
    complaint = damage(corpus)
    before = fingerprint(corpus)
    for use in (lambda: load_episodes(corpus, "train"), lambda: corpora.make(corpus)):
        with pytest.raises(UserError, match=f"{corpus}.*{complaint}") as error:
            use()
        assert "\n" not in str(error.value)
    assert fingerprint(corpus) == before


def test_overwrite_replaces_a_damaged_corpus(corpus):
    damage_cut_shard(corpus)
    corpora.make(corpus, overwrite=True)
    assert fingerprint(corpus) == fingerprint(corpora.shared())
    assert [path.name for path in corpus.parent.iterdir()] == ["corpus"]


def test_other_peoples_files_are_never_replaced(tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(UserError, match="thesis.tex"):
        corpora.make(tmp_path, overwrite=True)
    with pytest.raises(UserError, match="is a file"):
        corpora.make(tmp_path / "thesis.tex", overwrite=True)
    assert (tmp_path / "thesis.tex").read_text() == "years of work"


def test_a_failing_build_leaves_nothing_and_keeps_the_old(corpus, monkeypatch):
    before = fingerprint(corpus)
    monkeypatch.setattr(builder, "_write_dataset", lambda root: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        corpora.make(corpus, seed=5, overwrite=True)
    assert fingerprint(corpus) == before
    assert [path.name for path in corpus.parent.iterdir()] == ["corpus"]


@pytest.mark.parametrize(
    "change, complaint",
    [
        (dict(level="BabyAI-Nowhere-v0"), "unknown level"),
        (dict(n_train=0), "n_train"),
        (dict(n_validation=100_001), "n_validation"),
        (dict(seed=-1), "seed"),
        (dict(workers=0), "workers"),
        (dict(text_only=1.5), "text_only"),
    ],
)
def test_bad_arguments(tmp_path, change, complaint):
    with pytest.raises(UserError, match=complaint):
        corpora.make(tmp_path / "c", **change)
    assert list(tmp_path.iterdir()) == []


def test_missing_directory_and_unknown_split(tmp_path):
    with pytest.raises(UserError, match="nowhere: no such data directory"):
        load_episodes(tmp_path / "nowhere", "train")
    with pytest.raises(UserError, match="no split 'test'"):
        load_episodes(corpora.shared(), "test")
