"""Two actors on missions of several clauses: the upper plans clauses and legs, the lower legs and steps.

    python -m experiments.train --config=babyai_hierarchy --workdir=runs/hierarchy --data_dir=CORPUS
"""
from ml_collections import ConfigDict

from experiments.configs.babyai_clauses import get_config as clauses


def get_config() -> ConfigDict:
    c = clauses()
    c.model.actors = (dict(scales=("clause", "subgoal")), dict(scales=("subgoal", "step")))
    c.model.share_layers = True
    c.agent.go_on = False  # plans are made from one percept: what is left of them serves worse than new ones
    c.agent.plan_samples, c.agent.returns = 8, 2.0  # of many plans one that leads on: missions lead to several things
    c.agent.stood = 4.0  # what leads back counts less than in a single room: missions lead through the same place twice
    # the first actor's plan, which is moved, does not say what to do first
    c.agent.optimise.update(dict(chains=1, choose="sample"))
    return c
