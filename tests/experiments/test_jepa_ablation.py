"""The variants of the ablation: every term with and without inverse dynamics, and nothing else changed."""

from experiments.configs.babyai_gotolocal import get_config
from experiments.jepa_ablation import WEIGHT, variants
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
