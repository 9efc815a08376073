"""The question that a prediction answers: in this situation, suppose that the agent does this. What happens?"""

import dataclasses
import hashlib

import numpy as np

from hjepa_gfn.exemplary.products import PREDICTION
from hjepa_gfn.exemplary.protocol import Situation
from hjepa_gfn.exemplary.traces import Trace

DRAFTS_SHARE = 0.7  # so often is a draft's plan predicted, where there are drafts: how plans fail is what there is to learn


def supposing(situation: Situation, plan: str) -> Situation:
    """The situation in which a prediction is asked for. `plan`: the statement of a plan, with its full stop."""
    text = f"{situation.text} suppose you do this: {plan}"
    return dataclasses.replace(situation, text=text, product=PREDICTION.name, supposed=plan)


def drawn_plan(trace: Trace, seed: int) -> str:
    """The statement of one of a trace's plans, drawn by the seed and the situation: the final one, or a draft."""
    words = f"supposed\n{seed}\n{trace.situation.id}"
    rng = np.random.default_rng(np.frombuffer(hashlib.sha256(words.encode()).digest()[:16], np.uint32))
    a_draft, which = rng.random(2)
    drafts = trace.drafts
    version = drafts[int(which * len(drafts))] if drafts and a_draft < DRAFTS_SHARE else trace.final
    return version.text.partition(".")[0].strip() + "."
