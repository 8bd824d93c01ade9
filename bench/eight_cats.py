"""`python -m bench.eight_cats POOLED --measured "DATE, HARDWARE"`: docs/eight-cats.md and its chart from pooled.json.

What was written by hand under one heading of the document is kept.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from limner.artifacts import read_record, write_whole
from limner.metrics import LIKENESS, PROMPT_FIDELITY
from limner.records import PooledRecord
from limner.reporting.language import Language
from limner.reporting.pooled import Pooled, markdown_of
from limner.reporting.pooled_chart import rank_chart
from limner.reporting.sentences import Speaker
from limner.statistics import Conclusions
from limner.statistics.findings import Finding, Pair, RankTrend
from limner.subjects import pooled_of

BY_HAND = "## What follows"
SHOWN, LEFT_OUT = ("Variants", "Notes"), "Conclusions"
FOLD = "Prompt by prompt, subject by subject, and the spread of the means"
COMMAND = "limner subjects configs/eight-cats.toml FOLDER --out runs/eight-cats"
CLAIMS = (
    ("A: the full checkpoint is more alike than the LoRAs", LIKENESS.name, "full"),
    ("A: likeness grows with the rank", LIKENESS.name, "trend"),
    ("B: the full model is closer to the prompt", PROMPT_FIDELITY.name, "full"),
    ("B: the LoRAs are all alike (similarly bad)", LIKENESS.name, "loras"),
)
"""What the courseworks concluded by eye, the score that speaks of it, and which findings do."""


def document(pooled: Pooled, measured: str, chart: str, by_hand: str) -> str:
    """The whole document."""
    page = markdown_of(replace(pooled, title="Eight cats"), chart).rstrip("\n")
    made = (
        f"Measured {measured}, by `{COMMAND}`, which writes every comparison, shown or not, to `README.md` there; this "
        "page is `python -m bench.eight_cats` of its `pooled.json`."
    )
    title, _, rest = page.partition("\n\n")
    return arranged(f"{title}\n\n{made}\n\n{rest}", "\n\n".join(claims(pooled)), by_hand)


def arranged(page: str, claimed: str, by_hand: str) -> str:
    """The answers first, then the table of the variants; single prompts and subjects are folded, sentences left out."""
    head, *sections = page.split("\n\n## ")
    chapters = {section.partition("\n")[0]: section.partition("\n")[2].strip() for section in sections}
    shown = [f"## {name}\n\n{text}" for name, text in chapters.items() if name in SHOWN]
    folded = "\n\n".join(f"### {name}\n\n{text}" for name, text in chapters.items() if name not in (*SHOWN, LEFT_OUT))
    fold = f"<details><summary>{FOLD}</summary>\n\n{folded}\n\n</details>"
    return "\n\n".join([head, claimed, by_hand or BY_HAND, *shown, fold]).rstrip("\n") + "\n"


def claims(pooled: Pooled) -> Iterator[str]:
    """Beside each conclusion of the courseworks, what these figures say of it."""
    speaker = Speaker(Language("en"), cluster="subject")
    yield "## What the courseworks concluded, and these figures"
    yield (
        "Two university courseworks each taught Stable Diffusion 1.5 one face, trained each variant once and judged by "
        "eye. This is a miniature model and cats, so what follows is about the methods, not about their pictures."
    )
    for claim, role, kind in CLAIMS:
        said = speaker.sentences(Conclusions(tuple(_about(pooled.conclusions, role, kind, pooled.not_low))))
        yield f"**{claim}.**"
        yield "\n".join(f"- {each}" for each in said or ["No measured score is about this claim."])


def kept_by_hand(there: str) -> str:
    """What the document has under its heading for words by hand; "" where it has none."""
    if BY_HAND not in there:
        return ""
    return BY_HAND + there.partition(BY_HAND)[2].partition("\n\n## ")[0].rstrip()


def _about(findings: Iterable[Finding], role: str, kind: str, not_low: list[str]) -> Iterator[Finding]:
    for finding in findings:
        if isinstance(finding, RankTrend) and kind == "trend" and _role(finding.metric) == role:
            yield finding
        elif isinstance(finding, Pair) and _role(finding.metric) == role and kind in ("full", "loras"):
            sides = {finding.first, finding.second}
            with_full = "full" in sides
            if with_full == (kind == "full") and (with_full or not sides & set(not_low)):
                yield finding


def _role(metric: str) -> str:
    return metric.partition("/")[0]


def main() -> None:
    """Write the document and its chart."""
    parser = argparse.ArgumentParser(prog="python -m bench.eight_cats", description=__doc__)
    parser.add_argument("pooled", type=Path)
    parser.add_argument("--measured", required=True, help="when and on what, for example “2026-11-25, two H200”")
    parser.add_argument("--out", type=Path, default=Path("docs/eight-cats.md"))
    options = parser.parse_args()
    pooled = pooled_of(read_record(options.pooled, PooledRecord))
    chart, drawn = options.out.with_suffix(".svg"), rank_chart(pooled)
    if drawn:
        write_whole(chart, drawn.encode())
    there = options.out.read_text(encoding="utf-8") if options.out.exists() else ""
    text = document(pooled, options.measured, chart.name if drawn else "", kept_by_hand(there))
    write_whole(options.out, text.encode())


if __name__ == "__main__":
    main()
