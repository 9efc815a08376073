"""The exemplary actor: writes text plans with explanations, criticises and refines them, executes the last one."""

from hjepa_gfn.exemplary.actor import ExemplaryActor
from hjepa_gfn.exemplary.forecasts import Prediction, parse_prediction, prediction_in_words
from hjepa_gfn.exemplary.loop import exemplify
from hjepa_gfn.exemplary.phrases import parse_plan, plan_in_words
from hjepa_gfn.exemplary.prediction_quality import prediction_quality
from hjepa_gfn.exemplary.quality import print_quality, quality
from hjepa_gfn.exemplary.scoring import score_episode
from hjepa_gfn.exemplary.toolbox import Toolbox
from hjepa_gfn.exemplary.traces import Trace, Trajectory, Version, read_traces

__all__ = [
    "ExemplaryActor", "Prediction", "Toolbox", "Trace", "Trajectory", "Version", "exemplify", "parse_plan", "parse_prediction",
    "plan_in_words", "prediction_in_words", "prediction_quality", "print_quality", "quality", "read_traces", "score_episode",
]  # fmt: skip
