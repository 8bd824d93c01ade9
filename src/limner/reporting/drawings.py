"""The charts as files of their own, for the Markdown report: as they stand on light paper."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from limner.reporting.charts import Chart

INKS = (
    ":root{--paper:#fff;--ink:#1c1f26;--muted:#5a5e67;--rule:#d8d5cc;--hair:#e7e4dc;"
    "--serif:Palatino,Georgia,serif;--sans:Helvetica,Arial,sans-serif}"
)


def chart_file(chart: Chart) -> str:
    """Where a chart lies beside the report."""
    return f"images/charts/{chart.name}.svg"


def write_charts(charts: Iterable[Chart], css: str, folder: Path) -> None:
    """Write each chart below `folder` with the rules that draw it, the columns' colours among them."""
    for chart in charts:
        file = folder / chart_file(chart)
        file.parent.mkdir(parents=True, exist_ok=True)
        opening, rest = str(chart.svg).split(">", 1)
        opening = opening.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1)
        ground = '<rect width="100%" height="100%" fill="#fff"/>'
        file.write_text(f"{opening}><style>{INKS}{css}</style>{ground}{rest}", encoding="utf-8")
