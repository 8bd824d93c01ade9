"""The documents of the run folder are what the records say, and the schema knows every field."""

from __future__ import annotations

import json
from pathlib import Path

from limner.records import RECORDS
from limner.records.reference import FILES, run_folder_markdown, run_folder_schema

DOCS = Path(__file__).parents[2] / "docs"


def test_the_page_is_made_from_the_records():
    assert (DOCS / "run-folder.md").read_text(encoding="utf-8") == run_folder_markdown(), "run: make run-folder"


def test_the_schema_is_made_from_the_records():
    assert json.loads((DOCS / "run-folder.schema.json").read_text()) == run_folder_schema(), "run: make run-folder"


def test_every_field_of_every_record_has_a_sentence_and_every_file_its_schema():
    schema = run_folder_schema()
    assert len(schema["files"]) == len(RECORDS) + len(FILES) + len({"events.jsonl"})
    for name, definition in schema["$defs"].items():
        for field, said in definition.get("properties", {}).items():
            assert said.get("description"), f"{name}.{field}"
