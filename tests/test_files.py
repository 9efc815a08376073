"""Atomic files."""

import os

import pytest

from hjepa_gfn.errors import UserError
from hjepa_gfn.files import read_json, write_json, write_text


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "deep" / "a.txt"
    write_text(path, "old")

    def full(source, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError):
        write_text(path, "new")
    assert path.read_text() == "old" and os.listdir(path.parent) == ["a.txt"]


def test_json(tmp_path):
    write_json(tmp_path / "a.json", {"x": [1, None, "é"]})
    assert read_json(tmp_path / "a.json") == {"x": [1, None, "é"]}
    with pytest.raises(ValueError):
        write_json(tmp_path / "a.json", float("nan"))
    (tmp_path / "b.json").write_text("{")
    with pytest.raises(UserError, match="b.json: cannot be read as JSON"):
        read_json(tmp_path / "b.json")
    with pytest.raises(UserError, match="c.json: no such file"):
        read_json(tmp_path / "c.json")


def test_errors_are_one_line():
    assert str(UserError("one\n  two")) == "one two"
