"""Wilson intervals, plain JSON values, and numbers in words."""

import dataclasses
import json
import pathlib

import jax.numpy as jnp
import numpy as np
import pytest

from hjepa_gfn.evaluation.report_numbers import complete_report, duration, flatten, in_words, plain, wilson_interval


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    [
        # Newcombe 1998, table I, method 3 (score, no continuity correction).
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0000, 0.1611),
        (1, 29, 0.0061, 0.1718),
        (10, 10, 0.7225, 1.0),
    ],
)
def test_wilson_interval_gives_the_published_values(successes, n, low, high):
    assert wilson_interval(successes, n) == pytest.approx((low, high), abs=5e-5)


def test_wilson_interval_at_the_edges():
    assert wilson_interval(0, 0) == (0.0, 1.0)
    assert wilson_interval(7, 7)[1] == 1.0
    assert wilson_interval(0, 7)[0] == 0.0
    for successes, n in ((3, 2), (-1, 2), (0, -1)):
        with pytest.raises(ValueError, match="successes must be in"):
            wilson_interval(successes, n)


def test_plain_makes_what_json_can_hold():
    @dataclasses.dataclass
    class Size:
        width: int
        loss: np.float32

    value = {
        "f32": np.float32(0.5),
        "bf16": jnp.bfloat16(1.5),
        "jax": jnp.float32(0.25),
        "array": np.array([[1.0, np.nan], [np.inf, 2.0]]),
        "bool": np.bool_(True),
        "int": np.int64(3),
        "bad": [float("nan"), float("-inf"), jnp.inf],
        7: (1, range(2), {"b", "a"}),
        "dataclass": Size(3, np.float32(2)),
        "path": pathlib.PurePosixPath("a/b"),
        "none": None,
    }
    expected = {
        "f32": 0.5,
        "bf16": 1.5,
        "jax": 0.25,
        "array": [[1.0, None], [None, 2.0]],
        "bool": True,
        "int": 3,
        "bad": [None, None, None],
        "7": [1, [0, 1], ["a", "b"]],
        "dataclass": {"width": 3, "loss": 2.0},
        "path": "a/b",
        "none": None,
    }
    assert plain(value) == expected
    assert json.loads(json.dumps(plain(value), allow_nan=False)) == expected


def test_complete_report_fills_in_missing_intervals_only():
    report = {"success_rate": {"planning": 0.8, "habitual": 1.0, "bot": None}, "seeds": 10}
    done = complete_report({**report, "success_interval": {"habitual": [0.5, 0.6]}})
    assert done["success_interval"]["habitual"] == [0.5, 0.6]
    assert done["success_interval"]["planning"] == pytest.approx([0.4902, 0.9433], abs=5e-5)
    assert set(done["success_interval"]) == {"planning", "habitual"}
    assert complete_report({**report, "seeds": list(range(10))})["success_interval"]["planning"] == pytest.approx(
        [0.4902, 0.9433], abs=5e-5
    )
    assert "success_interval" not in report, "the caller's report must stay as it is"
    assert "success_interval" not in complete_report({"success_rate": {"planning": 0.8}})
    assert complete_report({}) == {}


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (0.5, "0.500"),
        (1.234, "1.23"),
        (-31.25, "\u221231.25"),
        (52.3456, "52.35"),
        (123.456, "123.5"),
        (0.01234, "0.0123"),
        (1.2e-5, "1.20e\u221205"),
        (256, "256"),
        (1234567, "1\u202f234\u202f567"),
        (0.0, "0"),
        (None, "–"),
        (float("nan"), "–"),
        (True, "yes"),
        ("text", "text"),
    ],
)
def test_numbers_in_words(value, words):
    assert in_words(value) == words


def test_percent_and_duration_and_flatten():
    assert in_words(0.91015625, percent=True) == "91.0\u00a0%"
    assert [duration(s) for s in (48.2, 723, 7500)] == ["48 s", "12 min 3 s", "2 h 5 min"]
    assert flatten({"a": {"b": 1, "c": {"d": [2]}}, "e": None}) == [("a.b", 1), ("a.c.d", [2]), ("e", None)]
