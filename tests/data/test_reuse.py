"""A changed textbook must lead to the corpus that a fresh build makes, and ask again only what it changed."""

import collections

import pytest

from hjepa_gfn.data import builder, worker
from hjepa_gfn.data.directory import check_corpus
from hjepa_gfn.data.workshop import shaping
from hjepa_gfn.errors import UserError
from hjepa_gfn.exemplary.traces import read_traces
from tests.data import corpora, fake

CHANGED = dict(textbooks=["/x/safety-2"])  # the second of two textbooks, in another edition


@pytest.fixture
def asked(monkeypatch):
    """A list that every question to the fake back end is put on."""
    questions = []
    for kind in ("draft", "review", "explain_otherwise"):
        usual = getattr(fake.Backend, kind)

        def counting(self, situation, *rest, _kind=kind, _usual=usual):
            questions.append((_kind, rest[0].discipline if _kind == "review" else ""))
            return _usual(self, situation, *rest)

        monkeypatch.setattr(fake.Backend, kind, counting)
    return questions


def test_only_questions_that_changed_are_asked_again(tmp_path, asked, capsys):
    fresh = corpora.fingerprint(corpora.make(tmp_path / "fresh", **CHANGED))
    answers = len(asked)
    asked.clear()
    out = corpora.make(tmp_path / "c")
    first = asked.copy()
    asked.clear()
    corpora.make(out, **CHANGED, progress=True)
    assert corpora.fingerprint(out) == fresh
    drafts = first.count(("draft", ""))  # one a situation that was thought about
    again = collections.Counter(asked)
    # those of the last chunk that are beyond the corpus's end left no traces
    assert again["draft", ""] == drafts - corpora.N_TRAIN - corpora.N_VALIDATION
    # every review by the changed textbook, and those by the other one that saw a text that was new
    assert again["review", "safety"] == 2 * drafts
    assert 0 < again["review", "causality"] < drafts / 2
    assert f"{answers - len(asked)} of {answers} answers were taken from {out}" in capsys.readouterr().err


def test_nothing_is_asked_where_nothing_changed(tmp_path, asked):
    out = corpora.make(tmp_path / "c")
    asked.clear()
    corpora.make(tmp_path / "d", reuse=out)
    beyond = {kind: [k for k, _ in asked].count(kind) for kind in ("draft", "review")}
    assert beyond["draft"] < 10 and beyond["review"] == 4 * beyond["draft"]  # the last chunks, beyond the corpus's end
    assert corpora.fingerprint(tmp_path / "d") == corpora.fingerprint(out)


def test_a_changed_textbook_is_a_difference_in_words(tmp_path):
    info = check_corpus(corpora.shared())
    changed = {book.discipline: book.sha for book in fake.textbooks(["/x/safety-2"])}
    other = type(info)(**{**vars(info), "textbooks": changed})
    assert "textbook 'safety' is edition" in info.difference(other) and info.same_but_textbooks(other)
    more = type(info)(**{**vars(info), "textbooks": {**info.textbooks, "design": "ab"}, "seed": 3})
    assert not info.same_but_textbooks(more) and info.difference(more) == "seed is 0, not 3"
    assert type(info)(**{**vars(more), "seed": 0}).difference(info) == "textbook 'design' is among its textbooks"
    assert info.difference(type(info)(**{**vars(more), "seed": 0})) == "textbook 'design' is not among its textbooks"
    turned = type(info)(**{**vars(info), "textbooks": dict(reversed(info.textbooks.items()))})
    assert "order causality, safety, not safety, causality" in info.difference(turned)


def test_textbooks_and_other_differences_are_another_corpus(tmp_path):
    out = corpora.make(tmp_path / "c")
    before = corpora.fingerprint(out)
    with pytest.raises(UserError, match="another corpus .seed is 0, not 4"):
        corpora.make(out, **CHANGED, seed=4)
    assert corpora.fingerprint(out) == before


def test_reuse_of_no_corpus_is_refused(tmp_path):
    with pytest.raises(UserError, match="nowhere: no such data directory"):
        corpora.make(tmp_path / "c", reuse=tmp_path / "nowhere")
    assert list(tmp_path.iterdir()) == []


def test_traces_name_the_edition_that_reviewed(tmp_path):
    out = corpora.make(tmp_path / "c", **CHANGED)
    entries = [entry for trace in read_traces(out / "traces/train.jsonl") for entry in trace.entries]
    shas = {entry.textbook_sha for entry in entries if entry.discipline == "safety"}
    assert shas == {fake.book("safety", 2).sha} == {check_corpus(out).textbooks["safety"]}


def test_a_back_end_that_stops_ends_the_build_and_keeps_what_is_done(tmp_path, monkeypatch):
    whole = corpora.fingerprint(corpora.shared())
    limit = [30]

    def stopped(self):
        limit[0] -= 1
        return "spending limit reached" if limit[0] < 0 else ""

    monkeypatch.setattr(fake.Backend, "stopped", property(stopped), raising=False)
    with pytest.raises(UserError, match="spending limit reached; once that is put right, the same command goes on"):
        corpora.make(tmp_path / "c")
    monkeypatch.undo()
    made = []
    run = worker.Worker._traces
    monkeypatch.setattr(worker.Worker, "_traces", lambda self, *a: made.append(a) or run(self, *a))
    corpora.make(tmp_path / "c")
    assert len(made) < 70 and corpora.fingerprint(tmp_path / "c") == whole


def test_settings_of_manner_do_not_make_another_corpus(tmp_path):
    assert shaping({"max_cost": 3.0, "temperature": 0.5, "base_url": "http://x"}) == {"temperature": 0.5}
    out = corpora.make(tmp_path / "c", settings={"temperature": 0.5, "max_cost": 3.0})
    before = corpora.fingerprint(out)
    corpora.make(out, settings={"temperature": 0.5, "max_cost": 4.0})
    assert corpora.fingerprint(out) == before and check_corpus(out).settings == {"temperature": 0.5}
    with pytest.raises(UserError, match="another corpus .settings is"):
        corpora.make(out, settings={"temperature": 0.6})


def test_a_purse_is_shared_out_among_workers(tmp_path, monkeypatch):
    found = []
    monkeypatch.setattr(builder, "_make_chunks", lambda job, *rest: found.append(job.settings) or 1 / 0)
    with pytest.raises(ZeroDivisionError):
        corpora.make(tmp_path / "c", settings={"max_cost": 3.0}, workers=2)
    assert found == [{"max_cost": 1.5}]


def test_a_back_end_that_gives_no_answers_ends_the_build(tmp_path, monkeypatch):
    """Situations that a server did not answer are not taken for ones without a plan: they are asked again."""
    arguments = dict(backend="other:model", chunk=0, imagined=0.0)
    whole = corpora.fingerprint(corpora.make(tmp_path / "whole", **arguments))
    usual = fake.Actor._trace

    def down(self, episode_seed, split, family):
        trace = usual(self, episode_seed, split, family)
        return trace if trace.seed <= 20 else None

    draft = fake.Backend.draft

    def fails(self, situation, *rest):
        return draft(self, situation, *rest)._replace(failure="no server" if situation.seed > 20 else "")

    monkeypatch.setattr(fake.Actor, "_trace", down)
    monkeypatch.setattr(fake.Backend, "draft", fails)
    with pytest.raises(UserError, match="no answer for 10 situations in a row .no server.; once that is put right"):
        corpora.make(tmp_path / "c", **arguments)
    monkeypatch.undo()
    corpora.make(tmp_path / "c", **arguments)
    assert corpora.fingerprint(tmp_path / "c") == whole
