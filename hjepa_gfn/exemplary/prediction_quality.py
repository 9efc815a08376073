"""What predictions are worth: how many are true, in the draft and at the end, and which principles refinement mends."""

from collections import Counter
from collections.abc import Iterable
from typing import Any

import numpy as np

from hjepa_gfn.errors import UserError
from hjepa_gfn.exemplary.forecasts import Prediction
from hjepa_gfn.exemplary.foresight.case import PredictionCase, Question
from hjepa_gfn.exemplary.foresight.checks import PREDICTION_CHECKS, faults
from hjepa_gfn.exemplary.foresight.truth import is_true
from hjepa_gfn.exemplary.quality import diversity
from hjepa_gfn.exemplary.rollout import roll
from hjepa_gfn.exemplary.scoring import situation_of
from hjepa_gfn.exemplary.traces import Trace, Version

STAGES = ("draft", "final")


def prediction_quality(traces: Iterable[Trace]) -> dict[str, Any]:
    """The quality report of predictions' traces, as JSON values. Judged against the simulator.

    Returns:
        `traces`; `converged`, `robust` (of those tried): shares; `sweeps`, `drafts` (distinct predictions before the final
        one), `words`: means. With "draft" (the first one) and "final": `true`, share in which all that is claimed did happen;
        `sound`, share that says all that can be known from what is in view, and nothing else; `known`, for each part the share
        in which it is claimed; `faults`, by principle, mean number. `plans_succeed`: share of predicted plans that fulfil the
        mission; `diversity`.

    Raises:
        UserError: no predictions.
    """
    traces = list(traces)
    if not traces:
        raise UserError("no predictions: there is nothing to report on")
    true, sound, known = {s: [] for s in STAGES}, {s: [] for s in STAGES}, {s: [] for s in STAGES}
    found: dict[str, Counter] = {stage: Counter() for stage in STAGES}
    succeed = []
    for trace in traces:
        _, state = situation_of(trace.level, trace.seed)
        rollout = roll(state, (question := Question(trace.situation)).actions)
        succeed.append(rollout.success)
        for stage, version in zip(STAGES, (trace.versions[0], trace.final)):
            case = PredictionCase(question, version.value, version.explanation, rollout)
            true[stage].append(is_true(version.value, rollout))
            sound[stage].append(version.value == case.sound)
            known[stage].append([part is not None for part in version.value])
            found[stage].update(fault.principle for fault in faults(case))
    tried = [trace.robust for trace in traces if trace.robust is not None]
    versions: list[Version] = [version for trace in traces for version in trace.versions]
    texts = {kind: [version.text for version in versions if version.kind == kind] for kind in STAGES}
    share = lambda flags: round(float(np.mean(flags)), 4)
    return {
        "traces": len(traces),
        "converged": share([trace.converged for trace in traces]),
        "robust": share(tried) if tried else None,
        "sweeps": share([max(e.sweep for e in trace.entries if not e.reason.startswith("converse")) for trace in traces]),
        "drafts": share([len(trace.drafts) for trace in traces]),
        "words": share([len(version.text.split()) for version in versions]),
        "plans_succeed": share(succeed),
        "true": {stage: share(true[stage]) for stage in STAGES},
        "sound": {stage: share(sound[stage]) for stage in STAGES},
        "known": {s: dict(zip(Prediction._fields, np.mean(known[s], axis=0).round(4).tolist())) for s in STAGES},
        "faults": {
            principle: {stage: round(found[stage][principle] / len(traces), 4) for stage in STAGES}
            for principle in PREDICTION_CHECKS
        },
        "diversity": {kind: diversity(words) for kind, words in texts.items()},
    }


def print_prediction_quality(report: dict[str, Any]) -> None:
    """The report as a table, on standard output."""
    robust = "-" if report["robust"] is None else format(report["robust"], ".1%")
    print(
        f"{report['traces']} predictions (of plans of which {report['plans_succeed']:.1%} succeed): "
        f"{report['converged']:.1%} converged, robust {robust}; {report['sweeps']:.2f} sweeps, {report['drafts']:.2f} drafts, "
        f"{report['words']:.1f} words on average"
    )
    print(f"\n  {'':42s}{'draft':>8s}{'final':>8s}")
    rows = [("all that is claimed did happen", report["true"]), ("all that can be known, and nothing else", report["sound"])]
    for name in Prediction._fields:
        rows.append((f"claims {name}", {stage: report["known"][stage][name] for stage in STAGES}))
    rows += [(f"faults: {principle}", means) for principle, means in report["faults"].items()]
    for name, values in rows:
        print(f"  {name:42s}{values['draft']:8.3f}{values['final']:8.3f}")
    row = report["diversity"]
    print("  texts: " + "; ".join(f"{kind}: {row[kind]['distinct']} of {row[kind]['texts']} distinct, vocabulary "
                                  f"{row[kind]['vocabulary']}" for kind in STAGES))  # fmt: skip
