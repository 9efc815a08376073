"""The exactness tool in small: losses reach the exact distributions, the sampler is stationary, a missed bar exits with 1."""

import json

import numpy as np
import pytest
from absl import flags

from experiments import exactness
from hjepa_gfn.evaluation.exact_losses import LOSSES
from hjepa_gfn.plans import PlanSpec

SMALL = exactness.Setting(PlanSpec((2, 2), (2, 2), capacity=4, max_edits=3), seeds=1, contexts=2, steps=700)


def test_losses_reach_the_exact_distributions_and_the_sampler_is_stationary(capsys):
    report = exactness.run(SMALL, ("SubTB, stop form", "TB"))
    out = capsys.readouterr().out
    assert report["missed"] == [] and "all met" in out and "134 plans, 217 labelled edges" in out
    for name, row in report["losses"].items():
        assert row["total_variation"]["worst"] <= 0.01 and row["log_z_error"]["worst"] < 0.05, name
        assert row["jensen_shannon"]["worst"] < 1e-3
        assert -1e-9 < row["log_z_minus_elbo"]["mean"] < 1e-2 and -1e-9 < row["eubo_minus_log_z"]["mean"] < 1e-2
    assert len(report["stationary_error"]) == 5 and max(report["stationary_error"].values()) <= 1e-10
    json.dumps(report)


def test_untrained_tables_miss_the_bar(monkeypatch):
    monkeypatch.setattr(exactness, "stationary_errors", lambda *args: {"uniform": 0.0})
    report = exactness.run(exactness.dataclasses.replace(SMALL, steps=1), ("TB",))
    assert report["missed"] == ["TB"] and report["losses"]["TB"]["total_variation"]["mean"] > 0.2
    assert all(np.isfinite(v) for cell in report["losses"]["TB"].values() for v in cell.values())


@pytest.mark.parametrize("missed", [[], ["TB"]])
def test_exit_code_and_json(missed, tmp_path, monkeypatch):
    values = flags.FlagValues()
    monkeypatch.setattr(exactness.flags, "FLAGS", values)
    flags.DEFINE_string("json", str(tmp_path / "deep" / "out.json"), "", flag_values=values)
    flags.DEFINE_bool("quick", True, "", flag_values=values)
    values(["exactness"])
    monkeypatch.setattr(exactness, "run", lambda setting: {"missed": missed, "quick": setting == exactness.QUICK})
    if missed:
        with pytest.raises(SystemExit) as stopped:
            exactness.main()
        assert stopped.value.code == 1
    else:
        exactness.main()
    assert json.loads((tmp_path / "deep" / "out.json").read_text()) == {"missed": missed, "quick": True}


def test_every_loss_of_the_package_is_trained():
    assert set(LOSSES) == {
        "TB", "TB, stop form", "VarGrad-TB", "DB", "modified DB", "SubTB", "SubTB, stop form", "FL-DB", "FL-SubTB", "LED-SubTB",
        "back-and-forth", "sleep"}
