"""Writes the two reports, a self-contained HTML page and a Markdown one, from one collection of facts."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from limner.errors import LimnerError
from limner.progress import SILENT, Progress
from limner.reporting.charts import colour_class, swatch
from limner.reporting.columns import Column
from limner.reporting.comparison import row_title
from limner.reporting.drawings import write_charts
from limner.reporting.facts import ReportInputs, collect
from limner.reporting.findings import NOT_MEASURABLE, is_from_base, percent, signed, signless
from limner.reporting.markdown import render_markdown
from limner.reporting.pictures import PREFIX, Gallery, Thumbnail
from limner.reporting.record import duration

SIZE_LIMIT_BYTES = 15 * 2**20
PAGE, MARKDOWN = "index.html", "README.md"
CHART_STYLE = "chart.css"
STYLES = ("report.css", CHART_STYLE, "compare.css", "narrow.css")  # the last have the last word: narrow screens, print
SCRIPTS = ("report.js", "compare.js")


def write_report(
    inputs: ReportInputs,
    folder: Path,
    *,
    size_limit_bytes: int = SIZE_LIMIT_BYTES,
    progress: Progress = SILENT,
) -> None:
    """Write `index.html` (at most `size_limit_bytes`), `README.md` and `images/` into an existing folder.

    Raises LimnerError when a picture that a manifest names is not there.
    """
    gallery = Gallery()
    facts = collect(inputs, gallery)
    with progress.task("report", 3, unit="parts") as advance:
        gallery.copy_to(folder)
        write_charts(facts["charts"], _template_text(CHART_STYLE) + _light_colours(facts["columns"]), folder)
        advance(1)
        (folder / MARKDOWN).write_text(render_markdown(facts), encoding="utf-8")
        advance(1)
        (folder / PAGE).write_bytes(_fitting_page(facts, gallery, size_limit_bytes))
        advance(1)


def render_page(facts: Mapping[str, Any], thumbs: Mapping[str, Thumbnail]) -> str:
    """The HTML page with these thumbnails; pictures that have none are linked."""
    script = Markup("".join(map(_template_text, SCRIPTS)))
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    environment = _environment()
    environment.filters["thumb"] = thumbs.get
    css = Markup("".join(map(_template_text, STYLES)) + _colour_rules(facts["columns"]))
    return environment.get_template("page.html").render(facts, css=css, script=script, script_digest=digest)


def _fitting_page(facts: Mapping[str, Any], gallery: Gallery, limit_bytes: int) -> bytes:
    blank = len(render_page(facts, _blanks(gallery)).encode())
    for thumbs in gallery.thumbnails(limit_bytes - blank):
        page = render_page(facts, thumbs).encode()
        if len(page) <= limit_bytes:
            return page
    raise LimnerError(
        f"the report's text alone has {blank / 2**20:.1f} MiB, more than {limit_bytes / 2**20:.1f}; "
        "split the study into several with fewer prompts or seeds"
    )


def _blanks(gallery: Gallery) -> dict[str, Thumbnail]:
    return dict.fromkeys(gallery.files, Thumbnail(PREFIX, 1000, 1000))


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("limner.reporting"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "duration": duration,
        "figure": lambda value, decimals=3: NOT_MEASURABLE if value is None else signless(value, decimals),
        "signed": lambda value, decimals=3: NOT_MEASURABLE if value is None else signed(value, decimals),
        "percent": percent,
        "unbroken": _unbroken,
        "href": lambda file: Markup(quote(file)),
    }
    environment.globals |= {"colour": colour_class, "swatch": swatch, "row_title": row_title}
    environment.tests["from_base"] = is_from_base
    return environment


def _unbroken(text: str) -> str:
    """A sentence whose lines do not end before or after a sign of relation."""
    return re.sub(r" ([=<]) ", "\u00a0\\1\u00a0", text)


@cache
def _template_text(name: str) -> str:
    return resources.files("limner.reporting").joinpath("templates", name).read_text(encoding="utf-8")


def _colour_rules(columns: Sequence[Column]) -> str:
    dark = "".join(f".k{i}{{--k:{column.dark}}}" for i, column in enumerate(columns))
    return f"\n{_light_colours(columns)}\n@media screen and (prefers-color-scheme:dark){{{dark}}}\n"


def _light_colours(columns: Sequence[Column]) -> str:
    return "".join(f".k{i}{{--k:{column.light}}}" for i, column in enumerate(columns))
