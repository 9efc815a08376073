"""Metrics: means over windows, files that survive a kill."""

import json

import jax.numpy as jnp
import pytest

from hjepa_gfn.errors import UserError
from hjepa_gfn.training.metrics import MetricsWriter, Window, read_metrics


def test_a_window_gives_means_and_starts_again():
    window = Window()
    window.add("jepa", {"loss": jnp.float32(1.0)})
    window.add("jepa", {"loss": jnp.float32(3.0)})
    window.add("prior", {"loss": jnp.float32(0.5), "elbo": jnp.float32(-2.0)})
    assert window.close() == {"jepa/loss": 2.0, "prior/elbo": -2.0, "prior/loss": 0.5}
    assert window.close() == {}


def test_a_window_survives_json_bit_by_bit():
    values = [jnp.float32(0.1), jnp.float32(1e-30), jnp.float32(3.3333333)]
    whole, half = Window(), Window()
    for value in values:
        whole.add("a", {"x": value})
    for value in values[:2]:
        half.add("a", {"x": value})
    half = Window.from_json(json.loads(json.dumps(half.to_json())))
    half.add("a", {"x": values[2]})
    assert half.close() == whole.close()


def test_losses_that_are_not_finite_are_found():
    window = Window()
    window.add("a", {"auroc": jnp.float32(jnp.nan), "loss": jnp.float32(1)})
    assert window.non_finite_loss() is None
    window.add("b", {"text_loss": jnp.float32(jnp.inf)})
    assert window.non_finite_loss() == "b/text_loss"


def test_resuming_cuts_the_rows_after_the_checkpoint(tmp_path):
    writer = MetricsWriter(tmp_path, 0)
    for step in (10, 20, 30):
        writer.write(step, {"a/loss": step / 10, "a/nan": float("nan")}, {"speed": 1.0})
    writer.close()
    with open(tmp_path / "metrics.jsonl", "a") as file:
        file.write('{"step": 40, "a/lo')
    assert [row["step"] for row in read_metrics(tmp_path)] == [10, 20, 30]
    writer = MetricsWriter(tmp_path, 25)
    writer.write(30, {"a/loss": 7.0})
    writer.close()
    assert read_metrics(tmp_path / "metrics.jsonl") == [
        {"step": 10, "a/loss": 1.0, "a/nan": None},
        {"step": 20, "a/loss": 2.0, "a/nan": None},
        {"step": 30, "a/loss": 7.0},
    ]


def test_a_damaged_line_is_named(tmp_path):
    assert read_metrics(tmp_path) == []
    (tmp_path / "metrics.jsonl").write_text('{"step": 1}\n[]\n{"step": 3}\n')
    with pytest.raises(UserError, match=r"metrics\.jsonl:2: not a row of metrics"):
        read_metrics(tmp_path)
