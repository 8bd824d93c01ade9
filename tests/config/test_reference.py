"""The settings page is made from the settings."""

from __future__ import annotations

from pathlib import Path

from limner.config.reference import settings_markdown

PAGE = Path(__file__).parents[2] / "docs" / "settings.md"


def test_the_page_is_what_the_code_says():
    assert PAGE.read_text(encoding="utf-8") == settings_markdown(), "run: make settings"
