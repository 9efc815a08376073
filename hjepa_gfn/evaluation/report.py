"""The evaluation's report: `report.json` for machines and a self-contained `report.html` for people."""

from __future__ import annotations

import json
import os
import pathlib
import string
import tempfile
from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any

from hjepa_gfn.errors import UserError
from hjepa_gfn.evaluation import report_sections as sections
from hjepa_gfn.evaluation.report_html import esc, section
from hjepa_gfn.evaluation.report_numbers import complete_report, wilson_interval
from hjepa_gfn.evaluation.report_player import gallery, playback
from hjepa_gfn.evaluation.report_views import EdgeView, EpisodeView, PlanView, TextView

__all__ = ["EdgeView", "EpisodeView", "PlanView", "TextView", "render_page", "wilson_interval", "write_report"]


def write_report(
    out_dir: str | os.PathLike[str],
    report: Mapping[str, Any],
    curves: Sequence[Mapping[str, Any]] = (),
    episodes: Sequence[EpisodeView] = (),
    texts: Sequence[TextView] = (),
    plots: Sequence[str] = (),
) -> tuple[pathlib.Path, pathlib.Path]:
    """Writes report.json and report.html into `out_dir` (made if need be); each file appears whole or not at all.

    Args:
      out_dir: directory for the two files.
      report: the numbers; keys of the page are success_rate, success_interval (filled in where it is missing), seeds,
        level, wall_seconds, posterior_elbo, posterior_eubo, text_nll_per_token, energy_auroc_final_vs_draft, jepa,
        training and config. Any may be missing, others may be there. Array scalars become plain numbers, NaN and
        infinities null.
      curves: rows of metrics.jsonl, {"step": ..., "<group>/<metric>": value}.
      episodes: to be played back; those that no longer fit into a page of 6 MB are left out, and the page says so.
      plots: of the world model, as SVG (`diagnosis`).
      texts: what the exemplary actor wrote, with the energies the agent gives to it.

    Returns:
      Paths of report.json and report.html.

    Raises:
      UserError: if `out_dir` cannot be written to.
      ValueError: if a frame is not [H, W, 3].
    """
    out = pathlib.Path(out_dir)
    numbers = complete_report(report)
    page = render_page(numbers, list(curves), list(episodes), list(texts), list(plots))
    try:
        out.mkdir(parents=True, exist_ok=True)
        _write_whole(out / "report.html", page)
        _write_whole(out / "report.json", json.dumps(numbers, indent=2, allow_nan=False) + "\n")
    except OSError as error:
        reason = error.strerror or error
        raise UserError(f"cannot write the report to {out}: {reason}; give a directory that takes files") from error
    return out / "report.json", out / "report.html"


def render_page(
    numbers: dict[str, Any], curves: list[Mapping[str, Any]], episodes: list[EpisodeView], texts: list[TextView],
    plots: Sequence[str] = (),
) -> str:
    """The HTML page for numbers from `complete_report`; it needs no network and no other file."""
    body = [
        section("success", "Success", "", sections.success_table(numbers)),
        playback(episodes),
        gallery(episodes),
        sections.texts_section(texts),
        sections.measures(numbers),
        sections.principles_table(numbers),
        sections.jepa_table(numbers),
        sections.world_model(numbers, plots),
        sections.curves_section(curves),
        sections.appendix(numbers),
    ]
    level = numbers.get("level")
    return string.Template(_template("page.html")).substitute(
        title=esc(f"hjepa_gfn on {level}" if level else "hjepa_gfn"),
        level=esc(level or "Evaluation"),
        headline=esc(sections.headline(numbers)),
        facts=sections.facts(numbers),
        body="\n".join(part for part in body if part),
        style=_template("page.css") + _template("inspector.css"),
        script=_template("page.js"),
    )


def _template(name: str) -> str:
    return resources.files("hjepa_gfn.evaluation").joinpath("templates", name).read_text("utf-8")


def _write_whole(path: pathlib.Path, text: str) -> None:
    """Writes beside, syncs, then renames: a reader never meets half a file."""
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(name, 0o644)  # mkstemp makes it readable to its owner only
        os.replace(name, path)
    except BaseException:
        pathlib.Path(name).unlink(missing_ok=True)
        raise
