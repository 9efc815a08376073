"""The same corpus by Apache Beam, with the direct runner."""

import builtins
import importlib.util
import sys

import pytest

from hjepa_gfn.data import builder
from hjepa_gfn.errors import UserError
from tests.data import corpora

needs_beam = pytest.mark.skipif(importlib.util.find_spec("apache_beam") is None, reason="apache-beam is an extra")


@needs_beam
def test_beam_makes_the_same_bytes(tmp_path, monkeypatch):
    corpora.shared()
    monkeypatch.setattr(builder, "pool", lambda *arguments: pytest.fail("not by Beam"))
    out = corpora.make(tmp_path / "c", beam_runner="DirectRunner")
    assert corpora.fingerprint(out) == corpora.fingerprint(corpora.shared())
    assert [path.name for path in tmp_path.iterdir()] == ["c"]


@needs_beam
def test_beam_goes_on_where_another_build_stopped(tmp_path, monkeypatch):
    corpora.shared()
    with monkeypatch.context() as patch, pytest.raises(ZeroDivisionError):
        patch.setattr(builder.assembly, "assemble", lambda *arguments: 1 / 0)
        corpora.make(tmp_path / "c")
    monkeypatch.setattr("hjepa_gfn.data.worker.Worker.run", lambda *arguments: pytest.fail("made again"))
    out = corpora.make(tmp_path / "c", beam_runner="DirectRunner")
    assert corpora.fingerprint(out) == corpora.fingerprint(corpora.shared())


@needs_beam
def test_unknown_runners_are_refused(tmp_path):
    with pytest.raises(UserError, match="--beam_runner=NoRunner: no such runner: try DirectRunner"):
        corpora.make(tmp_path / "c", beam_runner="NoRunner")


def test_without_beam_the_extra_is_named(tmp_path, monkeypatch):
    usual = builtins.__import__

    def missing(name, *arguments, **keywords):
        if name.partition(".")[0] == "apache_beam":
            raise ImportError("No module named 'apache_beam'")
        return usual(name, *arguments, **keywords)

    monkeypatch.delitem(sys.modules, "hjepa_gfn.data.beam", raising=False)
    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(UserError, match=r"--beam_runner needs Apache Beam.*pip install .*\[beam\]"):
        corpora.make(tmp_path / "c", beam_runner="DirectRunner")
