"""The variants of the ablation: every term with and without inverse dynamics, and nothing else changed."""

import sys
from pathlib import Path
from types import SimpleNamespace

import jax
import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))
import tiny  # noqa: E402

from experiments.configs.babyai_gotolocal import get_config
from experiments.jepa_ablation import WEIGHT, train, variants
from hjepa_gfn.errors import UserError
from hjepa_gfn.objectives.anti_collapse import TERMS


def test_variants_are_all_terms_with_and_without_inverse_dynamics():
    config = get_config()
    found = dict(variants(config))
    assert set(found) == {f"{term}{inverse}" for term in TERMS for inverse in ("", " + inverse")}
    for name, options in found.items():
        term = name.removesuffix(" + inverse")
        assert (options.anti_collapse, options.regularise) == (term, WEIGHT[term])
        assert options.inverse == (config.jepa.inverse if name != term else 0.0)
        same = set(config.jepa) - {"anti_collapse", "regularise", "inverse"}
        assert all(options[field] == config.jepa[field] for field in same)
    assert config.jepa.anti_collapse == "sigreg", "the config is left as it was"


def test_variants_can_be_named():
    config = get_config()
    (name, plain), (both, between) = variants(config, ["gaussian", "gaussian+inverse + between"])
    assert (name, both) == ("gaussian", "gaussian + inverse + between")
    assert (plain.inverse, plain.between) == (0.0, 0.0)
    assert (between.inverse, between.between, between.regularise) == (config.jepa.inverse, 1.0, WEIGHT["gaussian"])
    for wrong in ("gauss", "sigreg + reach", "inverse"):
        with pytest.raises(UserError, match="one of none, ema"):
            list(variants(config, [wrong]))


def test_the_step_between_levels_moves_the_lower_encoder_and_nothing_else_more():
    config = get_config()
    window = tiny.window([[2, 1], [3, 2], [1, 1, 1], [2, 2]])
    batches = SimpleNamespace(batch=lambda step: {"random": window})
    run = lambda options: train(tiny.system(), config, options, batches, 1, [0])[0]  # noqa: E731
    (_, without), (_, between) = variants(config, ["sigreg", "sigreg + between"])
    gap = jax.tree.map(lambda a, b: float(abs(a - b).max()), run(without), run(between))
    moved = {jax.tree_util.keystr(path[:2]) for path, value in jax.tree_util.tree_leaves_with_path(gap) if value > 1e-4}
    assert moved == {"['level_1']['encoder']"}, "elsewhere gradients are clipped a little more, which Adam hardly notices"
