"""Small pieces of HTML that the report's sections share."""

from __future__ import annotations

import html
from collections.abc import Mapping
from typing import Any

from hjepa_gfn.evaluation.report_numbers import flatten, in_words


def esc(text: Any) -> str:
    """Text made safe for HTML content and attributes."""
    return html.escape(str(text), quote=True)


def look_up(report: Mapping[str, Any], key: str) -> Any:
    """Value at a dotted key, None where any part is missing."""
    value: Any = report
    for part in key.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def number(report: Mapping[str, Any], key: str, percent: bool = False) -> str:
    """The number at a dotted key of the report, rounded to read; the exact value is in `data-value` and the tooltip."""
    value = look_up(report, key)
    if value is None:
        return '<span class="none">not measured</span>'
    exact = esc(repr(value) if isinstance(value, float) else value)
    shown = esc(in_words(value, percent))
    return f'<span class="num" data-key="{esc(key)}" data-value="{exact}" title="{exact}">{shown}</span>'


def section(anchor: str, title: str, lead: str, body: str) -> str:
    """A section with its heading and a sentence on how to read it; nothing at all where there is no body."""
    if not body:
        return ""
    lead = f'<p class="lead">{esc(lead)}</p>' if lead else ""
    return f'<section id="{anchor}"><h2>{esc(title)}</h2>{lead}{body}</section>'


def key_values(values: Mapping[str, Any]) -> str:
    """A nested dict as a two-column table of dotted keys."""
    rows = []
    for key, value in flatten(values):
        shown = ", ".join(in_words(item) for item in value) if isinstance(value, list) else in_words(value)
        rows.append(f"<tr><th>{esc(key)}</th><td>{esc(shown)}</td></tr>")
    return f'<table class="pairs">{"".join(rows)}</table>' if rows else ""
