"""Traces on disk."""

import numpy as np
import pytest

from hjepa_gfn.errors import UserError
from hjepa_gfn.exemplary import ExemplaryActor, read_traces
from hjepa_gfn.exemplary.phrases import parse_plan
from hjepa_gfn.exemplary.spans import spans_in, strip_spans
from hjepa_gfn.exemplary.traces import Trace, TraceWriter


@pytest.fixture(scope="module")
def trace():
    return ExemplaryActor("BabyAI-GoToLocal-v0").trace(3, "train")


def assert_same(a, b):
    assert a.to_json() == b.to_json()
    np.testing.assert_array_equal(a.trajectory.view, b.trajectory.view)
    assert a.versions == b.versions


def test_json_and_back(trace):
    line = trace.to_json()
    assert "\n" not in line
    assert_same(Trace.from_json(line), trace)


def test_file_is_append_only(trace, tmp_path):
    path = tmp_path / "traces.jsonl"
    for _ in range(2):
        with TraceWriter(path) as writer:
            writer.append(trace.to_json())
    read = list(read_traces(path))
    assert len(read) == 2
    assert_same(read[1], trace)


def test_without_trajectory_keeps_texts_and_first_percept(trace):
    short = trace.without_trajectory()
    assert short.versions == trace.versions
    assert short.trajectory.action == [] and len(short.trajectory.view) == 1
    assert_same(Trace.from_json(short.to_json()), short)


@pytest.mark.parametrize(
    "damage",
    [lambda line: line[:-20], lambda line: "{}", lambda line: "3", lambda line: line.replace("view", "vew")],
)
def test_a_broken_line_is_named(trace, tmp_path, damage):
    path = tmp_path / "traces.jsonl"
    path.write_text(trace.to_json() + "\n" + damage(trace.to_json()) + "\n")
    with pytest.raises(UserError, match="line 2"):
        list(read_traces(path))


def test_missing_file(tmp_path):
    with pytest.raises(UserError, match="nowhere.jsonl"):
        list(read_traces(tmp_path / "nowhere.jsonl"))


def test_told_texts_hold_what_the_simulator_said_of_their_own_plan(trace):
    for version in trace.versions:
        (span,) = spans_in(version.told)
        assert span.name == "roll_forward"
        assert span.result.startswith("fulfils the mission") or version.kind == "draft"
        assert strip_spans(version.told) == version.text
        assert parse_plan(version.told) == version.plan and version.told.index("<tool>") == version.text.index(".") + 2
    assert len({version.told for version in trace.versions}) > 1
