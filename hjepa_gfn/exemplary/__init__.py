"""The exemplary actor: writes text plans with explanations, criticises and refines them, executes the last one."""

from hjepa_gfn.exemplary.actor import ExemplaryActor
from hjepa_gfn.exemplary.phrases import parse_plan, plan_in_words
from hjepa_gfn.exemplary.traces import Trace, Trajectory, Version, read_traces

__all__ = ["ExemplaryActor", "Trace", "Trajectory", "Version", "parse_plan", "plan_in_words", "read_traces"]
