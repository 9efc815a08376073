"""A corpus must be the same whoever builds it, whole or absent, and never damaged by mistakes of its user."""

import json
import shutil
import subprocess
import sys

import pytest
import tensorflow_datasets as tfds

from hjepa_gfn.data import assembly
from hjepa_gfn.data.directory import MANIFEST, check_corpus
from hjepa_gfn.data.episodes import PlanCorpus, config_of
from hjepa_gfn.data.store import load_episodes
from hjepa_gfn.errors import UserError
from hjepa_gfn.exemplary.traces import read_traces
from hjepa_gfn.worlds.families import draw_level, family_names
from hjepa_gfn.worlds.seeds import SPLITS
from tests.data import corpora, fake
from tests.data.corpora import fingerprint


@pytest.fixture
def corpus(tmp_path):
    """A copy of the shared corpus that a test may damage."""
    return shutil.copytree(corpora.shared(), tmp_path / "corpus")


def test_rebuilding_gives_the_same_bytes_with_any_number_of_workers_and_size_of_chunks(tmp_path):
    names = fingerprint(corpora.shared())
    assert fingerprint(corpora.make(tmp_path / "two", workers=2, chunk=3)) == names
    assert fingerprint(corpora.make(tmp_path / "one", chunk=100)) == names
    assert any(name.endswith("array_record-00000-of-00001") for name in names)


def test_another_process_gives_the_same_bytes(tmp_path):
    program = "import sys, pathlib; from tests.data import corpora; corpora.make(pathlib.Path(sys.argv[1]))"
    subprocess.run([sys.executable, "-c", program, tmp_path / "c"], check=True)
    assert fingerprint(tmp_path / "c") == fingerprint(corpora.shared())


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
            assert (store.level[i], store.mission[i], store.situation[i]) == (trace.level, trace.mission, trace.situation.text)
            assert store.final[i] == trace.final.text
            assert store.converged[i] == trace.converged
            assert store.robust[i] == {None: -1, False: 0, True: 1}[trace.robust]
            assert store.drafts[i] == [draft.text for draft in trace.drafts]
            assert store.told().final[i] == trace.final.told
            assert store.told().drafts[i] == [draft.told for draft in trace.drafts]
            assert store.critiques[i] == [draft.critique for draft in trace.drafts]
            assert store.principles[i] == [draft.principle for draft in trace.drafts]
            steps, start, moves = store.steps[i], store.offset[i], trace.trajectory
            assert store.action[start : start + steps].tolist() == moves.action
            assert store.segment[start : start + steps].tolist() == moves.segment
            assert store.clause[start : start + steps].tolist() == [moves.clause[leg] for leg in moves.segment]
            assert (store.view[start : start + steps + 1] == trace.trajectory.view).all()
            assert (store.direction[start : start + steps + 1] == trace.trajectory.direction).all()
    assert any("</tool> because" in text for text in store.told().final)
    assert any(store.principles) and set(store.robust) == {-1, 1} and store.clause.max() > 0


def test_examples_keep_every_answer():
    traces = list(read_traces(corpora.shared() / "traces/train.jsonl"))
    builder = PlanCorpus(config=config_of("mixed"), data_dir=str(corpora.shared()))
    for trace, example in zip(traces, builder.as_data_source("train"), strict=True):
        versions = example["versions"]
        assert [text.decode() for text in versions["text"]] == [entry.text for entry in trace.entries]
        assert [sha.decode() for sha in versions["textbook_sha"]] == [entry.textbook_sha for entry in trace.entries]
        assert [ids.decode().split() for ids in versions["principle_ids"]] == [[*e.principle_ids] for e in trace.entries]
        assert list(versions["accepted"]) == [entry.accepted for entry in trace.entries]
        assert list(versions["version"]) == [entry.version for entry in trace.entries]
        assert list(example["clause"]) == trace.trajectory.clause
        assert [goal.decode() for goal in example["goals"]] == [clause.goal for clause in trace.final.plan]
        assert [name.decode() for name in example["subgoals"]] == trace.trajectory.subgoal
        assert example["family"].decode() == trace.family == "mixed"
        assert [step["clause"] for step in example["steps"]][-1] == -1


def test_a_dataset_is_read_without_the_program_that_made_it():
    folder = corpora.shared() / "plan_corpus" / "mixed" / "2.1.0"
    source = tfds.builder_from_directory(folder).as_data_source("train")
    assert len(source) == corpora.N_TRAIN and source[0]["level"].decode().startswith("BabyAI-")


def test_every_family_has_a_configuration(tmp_path):
    assert [config.name for config in PlanCorpus.BUILDER_CONFIGS] == family_names()
    out = corpora.make(tmp_path / "c", family="BabyAI-GoToLocal-v0", n_train=3, n_validation=1)
    assert (out / "plan_corpus/BabyAI-GoToLocal-v0/2.1.0").is_dir()
    assert set(load_episodes(out, "train").level) == {"BabyAI-GoToLocal-v0"}
    with pytest.raises(UserError, match="unknown level or family 'nowhere'"):
        config_of("nowhere")


def test_levels_are_drawn_from_the_family(tmp_path):
    for i, level in enumerate((store := load_episodes(corpora.shared(), "train")).level):
        assert level == draw_level("mixed", int(store.seed[i]))
    assert len(set(store.level)) > 20


def test_the_manifest_counts():
    info = check_corpus(corpora.shared())
    traces = list(read_traces(corpora.shared() / "traces/train.jsonl"))
    found = info.counts["train"]
    assert found["episodes"] == len(traces) and found["imagined"] == sum(not t.trajectory.action for t in traces)
    assert found["drafts"] == sum(len(t.drafts) for t in traces) and found["answers"] == sum(len(t.entries) for t in traces)
    assert found["converged"] == sum(t.converged for t in traces) and found["robust"] == sum(t.robust is True for t in traces)
    assert sum(found["levels"].values()) == len(traces) and found["levels"] == dict(sorted(found["levels"].items()))
    assert info.textbooks == {book.discipline: book.sha for book in fake.textbooks([])} and info.backend == "rules"


def test_samples_without_trajectory_are_kept():
    store = load_episodes(corpora.shared(), "train")
    share = (store.steps == 0).mean()
    assert 0.05 < share < 0.4
    assert len(store.view) == (store.steps + 1).sum()


def test_unsolvable_episodes_are_passed_over(tmp_path):
    """The first solvable seeds, in order, where imagined situations need no solution."""
    out = corpora.make(tmp_path / "c", n_train=30, imagined=0.0)
    solved = [seed for seed in range(100) if fake.solvable(draw_level("mixed", seed), seed)][:30]
    assert [trace.seed for trace in read_traces(out / "traces/train.jsonl")] == solved
    assert check_corpus(out).unsolved["train"] == solved[-1] + 1 - 30 > 0


def test_a_level_that_the_actor_cannot_solve_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(fake, "solvable", lambda level, seed: seed == 3)
    with pytest.raises(UserError, match="'GoTo': the actor solved only 1 of [0-9]+ episodes, not 2"):
        corpora.make(tmp_path / "c", family="GoTo", n_train=2, n_validation=1, imagined=0.0)
    assert list(tmp_path.iterdir()) == []


def test_a_whole_corpus_is_used_again_and_not_touched(corpus):
    before = {path: path.stat().st_mtime_ns for path in corpus.rglob("*")}
    corpora.make(corpus)
    assert before == {path: path.stat().st_mtime_ns for path in corpus.rglob("*")}


@pytest.mark.parametrize(
    "change", [dict(n_train=61), dict(seed=3), dict(imagined=0.0), dict(family="BabyAI-GoToObj-v0"), dict(backend="openai:x")]
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


def test_a_failing_build_keeps_the_old(corpus, monkeypatch):
    before = fingerprint(corpus)
    monkeypatch.setattr(assembly, "write_dataset", lambda root, family: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        corpora.make(corpus, seed=5, overwrite=True)
    assert fingerprint(corpus) == before
    assert not corpus.with_name(".corpus.lock").exists()


@pytest.mark.parametrize(
    "change, complaint",
    [
        (dict(family="BabyAI-Nowhere-v0"), "unknown level"),
        (dict(n_train=0), "n_train"),
        (dict(n_validation=100_001), "n_validation"),
        (dict(seed=-1), "seed"),
        (dict(workers=0), "workers"),
        (dict(imagined=1.5), "imagined"),
        (dict(robustness=-0.1), "robustness"),
        (dict(chunk=-1), "chunk"),
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
