"""The demo's agent with a third level, of clauses, on missions of several clauses: plans of three scales.

    python -m experiments.train --config=babyai_clauses --workdir=runs/clauses --data_dir=CORPUS
"""
from ml_collections import ConfigDict

from experiments.configs.babyai_gotolocal import get_config as demo


def get_config() -> ConfigDict:
    c = demo()
    c.level = "BabyAI-GoToSeqS5R2-v0"
    c.data.map, c.data.heading = 0, "compass"  # as it was measured
    c.data.window = 24  # missions of several clauses are long, and so are their texts
    c.data.mission_length = 28
    c.data.text_length = 112
    c.agent.max_steps = 400  # the longest that these levels allow: 100 a clause
    # legs and clauses of a window: a clause ends where the legs that are kept do
    c.model.max_legs = 6
    clauses = dict(name="clause", code=(5, 5), action=(5, 5, 3), longest=6, segments="clauses", most=3)
    c.model.levels = [*c.model.levels, clauses]
    return c
