"""What traces are worth: how refinement fares by the principles, whether it converges, how varied the texts are."""

from collections import Counter, defaultdict
from collections.abc import Iterable
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from hjepa_gfn.errors import UserError
from hjepa_gfn.exemplary.checkers import CHECKERS, Case, Exemption, Violation, findings
from hjepa_gfn.exemplary.phrases import actions_of, explanation_of, parse_plan
from hjepa_gfn.exemplary.rollout import roll
from hjepa_gfn.exemplary.scoring import situation_of
from hjepa_gfn.exemplary.traces import Trace


class _Judged(NamedTuple):
    """A text and what the checkers make of it."""

    violations: Counter
    exemptions: list[Exemption]
    success: bool


def quality(traces: Iterable[Trace]) -> dict[str, Any]:
    """The quality report of traces, as JSON values.

    Returns:
        `traces`, `converged`, `robust` (of those tried), `success`, `parsed` (finals that state a plan): shares;
        `sweeps`, `drafts` (distinct plans before the final one), `words`: means; `curve`: for each principle, mean violations
        in the draft and after each sweep; `final_violations`, `exemptions`: by principle; `worsened`: for each discipline,
        refinements, and how many of them left more violations or lost the mission; `answers`: by verdict and what became of
        them; `diversity`: of drafts and finals, vocabulary and distinct n-grams.

    Raises:
        UserError: no traces.
    """
    traces = list(traces)
    if not traces:
        raise UserError("no traces: there is nothing to report on")
    curves: dict[str, list[list[int]]] = defaultdict(list)
    worsened = defaultdict(lambda: {"refinements": 0, "more_violations": 0, "mission_lost": 0})
    exempt: dict[str, dict[str, Any]] = {}
    finals: Counter = Counter()
    longest = max(max(entry.sweep for entry in trace.entries if not _converse(entry)) for trace in traces)
    for trace in traces:
        judge = _judge_of(trace)
        versions = [entry for entry in trace.entries if entry.accepted]
        for before, after in pairwise(versions):
            old, new, row = judge(before.text), judge(after.text), worsened[after.discipline]
            row["refinements"] += 1
            row["more_violations"] += new.violations.total() > old.violations.total()
            row["mission_lost"] += old.success and not new.success
        by_sweep = [judge([v for v in versions if v.sweep <= sweep][-1].text).violations for sweep in range(longest + 1)]
        for principle in CHECKERS:
            curves[principle].append([counts[principle] for counts in by_sweep])
        last = judge(versions[-1].text)
        finals.update(last.violations)
        for exemption in last.exemptions:
            row = exempt.setdefault(exemption.principle, {"count": 0, "example": f"{trace.situation.id}: {exemption.reason}"})
            row["count"] += 1
    tried = [trace.robust for trace in traces if trace.robust is not None]
    versions = [version for trace in traces for version in trace.versions]
    texts = [[version.text for version in versions if version.kind == kind] for kind in ("draft", "final")]
    return {
        "traces": len(traces),
        "converged": float(np.mean([trace.converged for trace in traces])),
        "robust": float(np.mean(tried)) if tried else None,
        "success": float(np.mean([trace.success for trace in traces])),
        "parsed": float(np.mean([_states_a_plan(trace) for trace in traces])),
        "sweeps": float(np.mean([max(e.sweep for e in trace.entries if not _converse(e)) for trace in traces])),
        "drafts": float(np.mean([len(trace.drafts) for trace in traces])),
        "words": float(np.mean([len(text.split()) for kind in texts for text in kind])),
        "curve": {p: np.mean(rows, axis=0).round(4).tolist() for p, rows in curves.items()},
        "final_violations": {p: finals[p] for p in CHECKERS if finals[p]},
        "exemptions": exempt,
        "worsened": dict(worsened),
        "answers": dict(Counter(_fate(entry) for trace in traces for entry in trace.entries)),
        "diversity": {kind: diversity(words) for kind, words in zip(("draft", "final"), texts)},
    }


def diversity(texts: list[str]) -> dict[str, float]:
    """Texts, distinct texts, vocabulary, and the share of distinct ones among all n-grams, n = 1, 2, 3."""
    words = [text.split() for text in texts]
    vocabulary = {word for text in words for word in text}
    found: dict[str, float] = {"texts": len(texts), "distinct": len(set(texts)), "vocabulary": len(vocabulary)}
    for n in (1, 2, 3):
        grams = [tuple(text[i : i + n]) for text in words for i in range(len(text) - n + 1)]
        found[f"distinct_{n}"] = round(len(set(grams)) / max(len(grams), 1), 4)
    return found


def print_quality(report: dict[str, Any]) -> None:
    """The report as a table, on standard output."""
    print(f"{report['traces']} traces: {report['converged']:.1%} converged, {report['success']:.1%} succeed, "
          f"{report['parsed']:.1%} parse, robust {'-' if report['robust'] is None else format(report['robust'], '.1%')}; "
          f"{report['sweeps']:.2f} sweeps, {report['drafts']:.2f} drafts, {report['words']:.1f} words on average")  # fmt: skip
    print(f"\n  {'violations by principle':24s}{'draft':>8s}  after each sweep")
    for principle, means in report["curve"].items():
        exempt = report["exemptions"].get(principle, {}).get("count", 0)
        note = f"  ({exempt} exempt)" if exempt else ""
        print(f"  {principle:24s}{means[0]:8.3f}  {' '.join(f'{mean:7.3f}' for mean in means[1:])}{note}")
    print(f"\n  {'discipline':24s}{'refined':>8s}{'more violations':>18s}{'mission lost':>14s}")
    for discipline, row in report["worsened"].items():
        print(f"  {discipline:24s}{row['refinements']:8d}{row['more_violations']:18d}{row['mission_lost']:14d}")
    print(f"\n  {'texts':24s}" + "".join(f"{name:>12s}" for name in report["diversity"]["final"]))
    for kind, row in report["diversity"].items():
        print(f"  {kind:24s}" + "".join(f"{value:12.4g}" for value in row.values()))
    print("  answers: " + ", ".join(f"{fate} {n}" for fate, n in report["answers"].items()))


def _judge_of(trace: Trace) -> Any:
    situation, state = situation_of(trace.level, trace.seed)
    known: dict[str, _Judged] = {}

    def judge(text: str) -> _Judged:
        if text not in known:
            plan = parse_plan(text)
            rollout = roll(state, tuple(actions_of(plan)))
            found = findings(Case(situation, plan, explanation_of(text), rollout))
            broken = Counter(finding.principle for finding in found if isinstance(finding, Violation))
            known[text] = _Judged(broken, [f for f in found if isinstance(f, Exemption)], rollout.success)
        return known[text]

    return judge


def _converse(entry: Any) -> bool:
    return entry.reason.startswith("converse check")


def _fate(entry: Any) -> str:
    if _converse(entry):
        return "converse check"
    if entry.failure:
        return "failed"
    if entry.accepted or entry.verdict == "keep":
        return {"propose": "proposed", "refine": "refined", "keep": "kept"}[entry.verdict]
    return "turned down"


def _states_a_plan(trace: Trace) -> bool:
    try:
        return bool(parse_plan(trace.final.text))
    except UserError:
        return False
