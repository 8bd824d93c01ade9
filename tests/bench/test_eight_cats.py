"""The document of the eight cats: claims beside the figures that speak of them; what was written by hand stays."""

from __future__ import annotations

import sys

from bench.eight_cats import BY_HAND, main
from limner.artifacts import write_record
from limner.records import PooledRecord
from limner.reporting.pooled import markdown_of
from limner.subjects import pooled_of
from tests.reporting.test_pooled import summary


def test_claims_stand_beside_their_findings_and_words_by_hand_are_kept(tmp_path, monkeypatch):
    record = PooledRecord(title="eight-cats", subjects=[summary(place) for place in range(8)], faults={})
    write_record(tmp_path / "pooled.json", record)
    out = tmp_path / "eight-cats.md"
    command = ["bench.eight_cats", str(tmp_path / "pooled.json"), "--measured", "2026-11-25, one GPU"]
    monkeypatch.setattr(sys, "argv", [*command, "--out", str(out)])
    main()
    text = out.read_text()
    assert text.startswith("# Eight cats: 8 subjects together\n\nMeasured 2026-11-25, one GPU")
    claim = text.partition("**A: the full checkpoint is more alike than the LoRAs.**")[2].partition("**A:")[0]
    assert "is higher for full than for lora-4, by 0.20" in claim
    alike = text.partition("**B: the LoRAs are all alike (similarly bad).**")[2].partition(BY_HAND)[0]
    assert "lora-128" not in alike  # its rank is no longer low
    assert (tmp_path / "eight-cats.svg").exists()
    out.write_text(text.replace(BY_HAND, f"{BY_HAND}\n\nWritten by hand."))
    main()
    again = out.read_text()
    assert again.count("Written by hand.") == again.count("## Variants") == 1
    places = [
        again.index(mark) for mark in ("**A: the full", "Written by hand.", "## Variants", "<details>", "## Subject by")
    ]
    assert places == sorted(places)
    assert "No difference in diversity" not in again  # the run's own page lists them
    assert "## Conclusions" in markdown_of(pooled_of(record))
    assert "## Conclusions" not in again
