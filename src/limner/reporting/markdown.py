"""The Markdown report: the same facts, with the pictures that lie beside it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from limner.reporting.drawings import chart_file
from limner.reporting.extremes import Copied, Ranked
from limner.reporting.findings import NOT_MEASURABLE, ColumnScores, is_from_base, percent, signed, signless
from limner.reporting.plates import Group, Plate, Row, Shown
from limner.reporting.record import SettingsTable, duration
from limner.reporting.scorecard import Card, control_metrics

PICTURE_WIDTH_PX = 180


def render_markdown(facts: Mapping[str, Any]) -> str:
    """The Markdown report; everything that is not the template's own text is escaped."""
    environment = Environment(
        loader=PackageLoader("limner.reporting"),
        finalize=escape_markdown,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        autoescape=False,
    )
    environment.filters |= {"duration": duration, "verbatim": Markup, "image": image}
    environment.globals |= {
        "plate_table": plate_table,
        "score_table": score_table,
        "settings_table": settings_table,
        "chart_file": chart_file,
        "ranked_table": ranked_table,
        "scorecard_table": scorecard_table,
    }
    text = environment.get_template("readme.md").render(facts)
    return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"


def escape_markdown(value: Any) -> str:
    """Text on one line with all that Markdown or HTML would read as markup escaped; Markup is left as it is."""
    if isinstance(value, Markup):
        return str(value)
    text = re.sub(r"\s+", " ", str(value)).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_\[\]|#~])", r"\\\1", text)


def image(file: str, alt: str, width_px: int = PICTURE_WIDTH_PX) -> Markup:
    """A picture of a width that lets several stand side by side, leading to its full size."""
    described = Markup(escape(re.sub(r"\s+", " ", alt)).replace("|", "&#124;"))
    return Markup('<a href="{0}"><img src="{0}" width="{1}" alt="{2}"></a>').format(quote(file), width_px, described)


def table(heads: Iterable[Any], rows: Iterable[Iterable[Any]], numbers_from: int | None = None) -> Markup:
    """A table with escaped cells; columns from `numbers_from` on are set flush right."""
    named = [escape_markdown(head) for head in heads]
    rule = ["---:" if numbers_from is not None and i >= numbers_from else "---" for i in range(len(named))]
    body = [[escape_markdown(cell) for cell in row] for row in rows]
    return Markup("\n".join(f"| {' | '.join(line)} |" for line in [named, rule, *body]))


def plate_table(plate: Plate) -> Markup:
    """A table of pictures, a row a seed."""
    reference_heads = ["reference", "edges"] if plate.has_references else []
    heads = [
        "",
        *reference_heads,
        *(f"{c.name} ({c.detail})" if c.detail else c.name for c in plate.columns),
    ]
    rows = [
        [
            _row_name(group, row),
            *_reference_cells(group, row, bool(reference_heads)),
            *(_cell(plate, group, shown) for shown in row.cells),
        ]
        for group in plate.groups
        for row in group.rows
    ]
    return table(heads, rows)


def _row_name(group: Group, row: Row) -> Markup:
    return Markup(f"**{escape_markdown(group.name)}**<br>{escape_markdown(group.text)}<br>{escape_markdown(row.title)}")


def _reference_cells(group: Group, row: Row, wanted: bool) -> list[str | Markup]:
    if not wanted:
        return []
    if not group.reference or not group.edges or row is not group.rows[0]:
        return ["", ""]
    return [image(group.reference, f"Reference {group.name}"), image(group.edges, f"Edges of {group.name}")]


def _cell(plate: Plate, group: Group, shown: Shown | None) -> str | Markup:
    if shown is None:
        return ""
    if shown.flagged:
        return Markup('blanked by the safety checker<br><a href="{0}">the file</a>').format(quote(shown.file))
    lines = [
        f"{each.label} {each.written}" + (f" ({each.written_gain})" if each.written_gain else "")
        for each in plate.said(group, shown)
    ]
    lines += [shown.note] if shown.note else []
    return Markup("<br>").join([image(shown.file, shown.alt), *map(Markup, lines)])


def score_table(scores: Mapping[str, Any]) -> Markup:
    """Means and spreads, a row a column."""
    heads = ["Variant", "Pictures"]
    for metric, title in scores["metrics"]:
        heads += [title, "Gain over base", "Share of the span"] if metric in scores["with_gains"] else [title]
    return table(heads, (_score_row(finding, scores) for finding in scores["findings"]), numbers_from=1)


def _score_row(finding: ColumnScores, scores: Mapping[str, Any]) -> Sequence[str]:
    cells = [finding.column.name, str(finding.count)]
    for metric, _ in scores["metrics"]:
        value = finding.values[metric]
        absent = "–" if finding.column.is_base and is_from_base(metric) else NOT_MEASURABLE
        cells.append(absent if value is None else str(value))
        if metric in scores["with_gains"]:
            cells.append(_gain(finding, metric))
            cells.append(percent(finding.shares[metric]))
    return cells


def _gain(finding: ColumnScores, metric: str) -> str:
    gain = finding.gains[metric]
    if finding.column.is_base:
        return "–"
    if gain is None:
        return NOT_MEASURABLE
    around = "" if gain.deviation is None else f" ± {signless(gain.deviation, gain.decimals)}"
    return signed(gain.mean, gain.decimals) + around


def settings_table(settings: SettingsTable) -> Markup:
    """Settings, a row each, with their origin where it is known."""
    has_origin = any(row.origin for row in settings.rows)
    heads = ["Setting", *(settings.heads or ["Value"]), *(["From"] if has_origin else [])]
    return table(heads, ([r.name, *r.values, *([r.origin] if has_origin else [])] for r in settings.rows))


def ranked_table(ranked: Sequence[Ranked]) -> Markup:
    """Renders by their likeness, with the photo that one repeats."""
    heads = ["", "Picture", "Likeness", "Gain over base", "Variant", "Prompt", "Seed", "Nearest photo, if copied"]
    return table(heads, map(_ranked_row, ranked))


def _ranked_row(each: Ranked) -> list[str | Markup]:
    shown = each.shown
    picture = "" if shown.flagged else image(shown.file, shown.alt, 120)
    gain = NOT_MEASURABLE if each.gain is None else signed(each.gain)
    about = [str(each.ranking), picture, _figure(each.likeness), gain, shown.column.name, each.prompt, each.seed]
    return [*about, _copied(each.copied) if each.copied else ""]


def _copied(copied: Copied) -> Markup:
    said = Markup(f"{signless(copied.similarity)}, nearer than any two photos ({signless(copied.limit)})")
    if copied.file is None:
        return said
    return Markup("<br>").join([image(copied.file, f"Photo {copied.source}", 60), said])


def scorecard_table(cards: Sequence[Card]) -> Markup:
    """The scorecard's metrics, a row a column and reference, a column for each metric and conditioning scale."""
    heads = ["Reference", "Variant"]
    for scale in cards[0].scales:
        heads += [f"{metric.words['en'].title}, {scale}" for metric in control_metrics()]
    rows = (
        [
            card.name,
            column.name,
            *(NOT_MEASURABLE if each is None else str(each) for of_scale in means for each in of_scale),
        ]
        for card in cards
        for column, means in card.rows
    )
    return table(heads, rows, numbers_from=2)


def _figure(value: float | None) -> str:
    return NOT_MEASURABLE if value is None else signless(value)
