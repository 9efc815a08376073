"""The report's sections that show numbers and texts. Each returns "" where the report has nothing to show for it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from hjepa_gfn.evaluation.drawing_curves import panel, pick_curves, read_curves
from hjepa_gfn.evaluation.report_html import esc, key_values, look_up, number, section
from hjepa_gfn.evaluation.report_numbers import duration, in_words, is_number, number_of_seeds

MODES = {
    "planning": "samples plans and acts on one",
    "optimisation": "goes back and forth from its plan",
    "habitual": "acts from the world state alone",
    "random": "uniform actions, the floor",
    "bot": "the expert, which sees the whole grid",
}
JEPA_METRICS = {
    "std": ("std", "mean over dimensions; near 1"),
    "rankme": ("RankMe", "effective dimensions in use"),
    "sigreg_over_floor": ("SIGReg / floor", "near 1; far above is collapse, far below a bug"),
    "pred_over_copy": ("prediction / copy error", "below 1: it beats predicting no change"),
    "pred_over_copy_far": ("the same, farthest horizon", "below 1"),
    "calibration": ("r² / σ²", "near 1: variances are right"),
    "codes_used": ("codes in use", "share of the codebook"),
    "direction": ("own direction", "linear probe's accuracy"),
    "carried": ("what is carried", "linear probe's accuracy"),
    "ahead": ("what is straight ahead", "linear probe's accuracy"),
}


def headline(report: Mapping[str, Any]) -> str:
    """One sentence with the main result."""
    rates = report.get("success_rate")
    rates = rates if isinstance(rates, dict) else {}
    found = {mode: in_words(rates[mode], percent=True) for mode in MODES if is_number(rates.get(mode))}
    if not found:
        return "No success rates were measured."
    n, level = number_of_seeds(report), report.get("level")
    where = (f"{n} " if n else "") + "unseen episodes" + (f" of {level}" if level else "")
    own = [(words, found[m]) for m, words in (("planning", "by planning"), ("habitual", "by habit")) if m in found]
    others = [
        f"{words} {found[m]}" for m, words in (("random", "random actions"), ("bot", "the expert bot")) if m in found
    ]
    if not own:
        return f"Success rates on {where}: {', '.join(others)}."
    compared = f" For comparison: {', '.join(others)}." if others else ""
    (how, rate), *rest = own
    also = "".join(f", and {other} {words}" for words, other in rest)
    return f"{how.capitalize()}, the agent solves {rate} of {where}{also}.{compared}"


def facts(report: Mapping[str, Any]) -> str:
    """The line under the title."""
    parts = []
    if number_of_seeds(report) is not None:
        parts.append(f"{in_words(number_of_seeds(report))} test seeds")
    if is_number(report.get("wall_seconds")):
        # a demo's time counts from its corpus on
        what = "from the corpus to this page" if report.get("training") else "of evaluation"
        parts.append(f"{duration(report['wall_seconds'])} {what}")
    return " · ".join(map(esc, parts))


def success_table(report: Mapping[str, Any]) -> str:
    """Success by mode with 95 % Wilson intervals, drawn and in figures."""
    rates = report.get("success_rate")
    rates = rates if isinstance(rates, dict) else {}
    rows = []
    for mode in [*MODES, *(m for m in rates if m not in MODES)]:
        rate, interval = rates.get(mode), look_up(report, f"success_interval.{mode}")
        known = isinstance(interval, list) and len(interval) == 2 and all(map(is_number, interval))
        between = f"{100 * interval[0]:.1f} – {100 * interval[1]:.1f} %" if known else ""
        n = look_up(report, f"modes.{mode}.episodes")
        words = MODES.get(mode, "") + (f"; {n} episodes" if n and n != number_of_seeds(report) else "")
        rows.append(
            f'<tr class="{"own" if mode in ("planning", "optimisation", "habitual") else ""}"><th>{esc(mode)}'
            f"<small>{esc(words)}</small></th>"
            f'<td class="rate">{number(report, f"success_rate.{mode}", percent=True)}</td>'
            f'<td class="interval">{between}</td>'
            f'<td class="bar">{_rate_bar(rate, interval if known else None)}</td></tr>'
        )
    return (
        '<table class="success"><thead><tr><th>mode</th><th class="rate">success</th><th class="interval">95 % interval'
        '</th><th class="bar"><span class="scale"><i>0</i><i>50</i><i>100 %</i></span></th></tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table>"
    )


def _rate_bar(rate: Any, interval: list[float] | None) -> str:
    if not is_number(rate):
        return ""
    at = lambda p: f"{4 + 292 * min(1.0, max(0.0, p)):.1f}"
    band = ""
    if interval:
        band = f'<line class="ci" x1="{at(interval[0])}" x2="{at(interval[1])}" y1="10" y2="10"/>'
    return (
        '<svg viewBox="0 0 300 20" preserveAspectRatio="none" aria-hidden="true"><line class="track" x1="4" x2="296"'
        f' y1="10" y2="10"/><line class="fill" x1="4" x2="{at(rate)}" y1="10" y2="10"/>{band}'
        f'<line class="at" x1="{at(rate)}" x2="{at(rate)}" y1="3" y2="17"/></svg>'
    )


def measures(report: Mapping[str, Any]) -> str:
    """Cards: how well plans explain texts, how tight the bounds are, how well the energy knows final from draft,
    whether it acts and aims as experts do."""
    nll = "text_nll_per_token"
    cards = [
        (
            "Text, nats a token",
            [
                ("without plan", f"{nll}.without_plan"),
                ("with plan", f"{nll}.with_plan"),
                ("with the posterior's plan", f"{nll}.with_posterior_plan"),
            ],
            "Held-out texts. Lower with the plan: the plan says what the text will say.",
        ),
        (
            "Bounds on log Z(x, c)",
            [("posterior ELBO", "posterior_elbo"), ("posterior EUBO", "posterior_eubo")],
            "The truth lies between; a narrow gap means that the posterior policy samples what it should.",
        ),
        (
            "Energy: final against draft",
            [("AUROC", "energy_auroc_final_vs_draft")],
            "How often a final plan has less energy than a draft; 0.5 is chance.",
        ),
        (
            "As experts do",
            [
                ("the habit's likeliest action", "held_out.habit_accuracy"),
                ("the cell that it aims at", "held_out.aim_accuracy"),
                ("where that is in view", "held_out.aim_accuracy_in_view"),
            ],
            "Held-out episodes, every step. Aims: what the expert next handled, or had ahead of it in the end.",
        ),
    ]
    shown = []
    for title, lines, note in cards:
        if all(look_up(report, key) is None for _, key in lines):
            continue
        rows = "".join(f"<dt>{esc(words)}</dt><dd>{number(report, key)}</dd>" for words, key in lines)
        shown.append(f'<div class="card"><h3>{esc(title)}</h3><dl>{rows}</dl><p>{esc(note)}</p></div>')
    body = f'<div class="cards">{"".join(shown)}</div>' if shown else ""
    return section("measures", "Plans, texts and energy", "", body)


def principles_table(report: Mapping[str, Any]) -> str:
    """Violations an episode by principle of the body of knowledge, for each mode and the teacher."""
    found = report.get("violations")
    found = {k: v for k, v in found.items() if isinstance(v, dict)} if isinstance(found, dict) else {}
    principles = [p for p in dict.fromkeys(p for v in found.values() for p in v)
                  if any(is_number(v.get(p)) and v[p] for v in found.values())]
    if not principles:
        return ""
    head = "".join(f"<th>{esc(mode)}</th>" for mode in found)
    rows = [
        f"<tr><th>{esc(principle)}</th>" + "".join(
            f"<td>{number(report, f'violations.{mode}.{principle}')}</td>" for mode in found) + "</tr>"
        for principle in principles
    ]
    body = f'<div class="wide"><table class="jepa"><thead><tr><th>principle</th>{head}</tr></thead><tbody>{"".join(rows)}'
    lead = "Mean violations in an episode, as the checkers of the body of knowledge find them in what was done. Principles " \
           "that nobody broke are left out."
    return section("principles", "The body of knowledge", lead, body + "</tbody></table></div>")


def jepa_table(report: Mapping[str, Any]) -> str:
    """Diagnostics per JEPA level, with what a healthy level shows."""
    levels = report.get("jepa")
    levels = {k: v for k, v in levels.items() if isinstance(v, dict)} if isinstance(levels, dict) else {}
    if not levels:
        return ""
    metrics = [*JEPA_METRICS, *dict.fromkeys(k for v in levels.values() for k in v if k not in JEPA_METRICS)]
    named = [JEPA_METRICS.get(metric, (metric, "")) for metric in metrics]
    head = "".join(f"<th>{esc(name)}<small>{esc(wanted)}</small></th>" for name, wanted in named)
    rows = []
    for level, values in levels.items():
        cells = "".join(
            f"<td{' class=bad' if _suspicious(m, values.get(m)) else ''}>{number(report, f'jepa.{level}.{m}')}</td>"
            for m in metrics
        )
        rows.append(f"<tr><th>{esc(level)}</th>{cells}</tr>")
    body = f'<div class="wide"><table class="jepa"><thead><tr><th>level</th>{head}</tr></thead><tbody>{"".join(rows)}'
    lead = "No single number is proof against collapse, neither a low loss nor a high rank. Read them together."
    return section("jepa", "World model", lead, body + "</tbody></table></div>")


def world_model(report: Mapping[str, Any], plots: Sequence[str]) -> str:
    """What the step level's world model knows of experts' episodes and of exploring walks: numbers and plots."""
    lines = [
        ("place of a lone object out of view, R²: read off the embedding", "memory.embedding.lone object out of view"),
        ("the same, off the percept (a map, or the view)", "memory.percept.lone object out of view"),
        ("own place, R²", "memory.embedding.position"),
        ("own direction, accuracy", "memory.embedding.direction"),
        ("what is carried, accuracy", "memory.embedding.carried"),
        ("ambiguity, AUROC: predicted variance where a percept shows cells that the last one did not",
         "memory.embedding.ambiguity_auroc_last"),
        ("the same, where it shows cells that none before it did", "memory.embedding.ambiguity_auroc"),
        ("r² / σ², experts", "dynamics.experts.calibration"), ("r² / σ², walks", "dynamics.walks.calibration"),
        ("true action predicts best, experts", "dynamics.experts.true_action_best"),
        ("true action predicts best, walks", "dynamics.walks.true_action_best"),
    ]
    if not isinstance(report.get("world_model"), dict):
        return ""
    if "belief" in report["world_model"].get("memory", {}):
        lines += [
            ("things out of view that the belief has in the right cell", "memory.belief.told in the right cell"),
            ("their places, R²: told by the belief", "memory.belief.things out of view"),
            ("the same, read off the embedding", "memory.embedding.things out of view"),
            ("the belief's ambiguity, AUROC, where a percept shows cells that none before it did",
             "memory.belief.ambiguity_auroc"),
            ("the belief's r² / σ², experts", "dynamics.experts.of the belief.calibration"),
            ("the belief's r² / σ², walks", "dynamics.walks.of the belief.calibration")]
    rows = "".join(f"<dt>{esc(words)}</dt><dd>{number(report, f'world_model.{key}')}</dd>" for words, key in lines)
    lead = "Held-out episodes of experts, and exploring walks on test seeds. Probes are fitted on half of the walks, to what " \
           "the simulator knows, and tested on the other half; the agent never sees their targets."
    body = f'<div class="cards"><div class="card"><h3>What it knows</h3><dl>{rows}</dl></div></div>{"".join(plots)}'
    return section("knowledge", "What the world model knows", lead, body)


def _suspicious(metric: str, value: Any) -> bool:
    """Plain signs of a level that has collapsed or learned nothing; marked on the page."""
    if not is_number(value):
        return False
    limits = {"std": value < 0.1, "pred_over_copy": value >= 1, "sigreg_over_floor": value > 20 or value < 0.5}
    return limits.get(metric, False)


def texts_section(texts: list[Any]) -> str:
    """Drafts against final plans: each version, the critique that led on from it, the agent's energy of its plan."""
    blocks = []
    for text in texts:
        energies = [v.get("energy") for v in text.versions if is_number(v.get("energy"))]
        versions = "".join(_version(v, energies) for v in text.versions)
        blocks.append(
            f'<article class="text"><header><h3>{esc(text.mission)}</h3><p>{esc(text.situation)}</p>'
            f'<p class="meta">seed {esc(text.seed)}</p></header><ol>{versions}</ol></article>'
        )
    lead = (
        "What the exemplary actor wrote: drafts, the critique that each of them met, and the final plan. The bars are "
        "the energies that the agent gives to these plans; it should like the final one best (least energy)."
    )
    return section("texts", "Drafts against final plans", lead, "".join(blocks))


def _version(version: Mapping[str, Any], energies: list[float]) -> str:
    kind, energy = str(version.get("kind", "")), version.get("energy")
    bar = ""
    if is_number(energy):
        low, high = min(energies), max(energies)
        share = 100 if high == low else 12 + 88 * (energy - low) / (high - low)
        least = energy == low and high > low
        best = (" best" if kind == "final" else " wrong") if least else ""
        bar = (
            f'<div class="energy{best}"><i style="width:{share:.0f}%"></i><span data-value="{energy!r}">energy '
            f"{in_words(energy)}{' · least' if least else ''}</span></div>"
        )
    critique = ""
    if version.get("critique"):
        principle = f' <span class="tag">{esc(version["principle"])}</span>' if version.get("principle") else ""
        critique = f'<p class="critique"><b>critique</b> {esc(version["critique"])}{principle}</p>'
    name = "final" if kind == "final" else "draft"
    words = f'<span class="kind">{esc(kind)}</span><p>{esc(version.get("text", ""))}</p>'
    return f'<li class="{name}">{words}{bar}{critique}</li>'


def curves_section(curves: list[Mapping[str, Any]]) -> str:
    """Small multiples of the learning curves."""
    every = read_curves(curves)
    picked = pick_curves(every)
    if not picked:
        return ""
    last = max((float(c.steps[-1]) for c in picked if len(c.steps)), default=1.0)
    panels = "".join(panel(curve, last, k) for k, curve in enumerate(picked))
    lead = (
        "Over training steps. Faint: the logged values; strong: their moving average, its last value at the top right."
    )
    if len(picked) < len(every):
        lead += f" {len(picked)} of {len(every)} logged metrics; metrics.jsonl has all."
    return section("curves", "Learning curves", lead, f'<div class="curves">{panels}</div>')


def appendix(report: Mapping[str, Any]) -> str:
    """Training facts, configuration and the whole of report.json, folded away."""
    folds = []
    for key, title in (("training", "Training"), ("config", "Configuration")):
        if isinstance(report.get(key), dict) and report[key]:
            folds.append((title, f'<div class="wide">{key_values(report[key])}</div>'))
    folds.append(("report.json", f"<pre>{esc(json.dumps(report, indent=2, allow_nan=False))}</pre>"))
    body = "".join(f"<details><summary>{esc(title)}</summary>{inner}</details>" for title, inner in folds)
    return section("appendix", "Everything else", "", body)
