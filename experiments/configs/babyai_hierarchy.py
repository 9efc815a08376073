"""Two actors on missions of several clauses: the upper plans clauses and legs, the lower legs and steps.

    python -m experiments.train --config=babyai_hierarchy --workdir=runs/hierarchy --data_dir=CORPUS
"""
from ml_collections import ConfigDict

from experiments.configs.babyai_clauses import get_config as clauses


def get_config() -> ConfigDict:
    c = clauses()
    c.model.actors = (dict(scales=("clause", "subgoal")), dict(scales=("subgoal", "step")))
    c.model.share_layers = True
    c.agent.plan_samples = 1  # the first actor's plan does not say what to do first
    c.agent.optimise.update(dict(chains=1, choose="sample"))
    return c
