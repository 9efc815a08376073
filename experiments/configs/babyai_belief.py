"""The configuration of `make demo`: `babyai_gotolocal` with a belief over the world's state, trained on exploring walks besides
the exemplary actor's episodes. For the world model alone (no plans), with the own direction and load kept by the JEPA's states,
a quarter of an hour on two cores:

    python -m experiments.train --config=babyai_belief:world_model --workdir=runs/world --data_dir=CORPUS
    python -m experiments.diagnose --checkpoint=runs/world --data_dir=CORPUS
"""
from ml_collections import ConfigDict

from experiments.configs.babyai_gotolocal import get_config as demo


def get_config(part: str = "agent") -> ConfigDict:
    if part not in ("agent", "world_model"):
        raise ValueError(f"no part {part!r}: there are agent, world_model")
    c = demo()
    c.data.worlds = 512
    c.model.belief.size = 13
    c.schedule.every.belief = 1
    if part == "world_model":
        # views: with a map of what was seen little would be left to remember
        c.data.map, c.data.heading, c.agent.fill = 0, "compass", "belief"
        c.em.rows.habit = 8
        c.model.compass = True
        # on PickupLoc, where little is carried, 0.6 and 5.0 keep the load readable
        c.jepa.update(dict(anti_collapse="gaussian", regularise=1.0, compass=3.0))
        c.schedule.update(dict(jepa_steps=1600, ground_steps=0, em_steps=600))
        c.schedule.every.update(dict(habit=0, ground=0, e_step=0, sleep=0, m_step=0, contrast=0, indicators=0))
    return c
