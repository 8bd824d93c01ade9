"""Reads a report as a browser or a Markdown reader would."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

LOADING = {"img": "src", "script": "src", "link": "href", "iframe": "src", "source": "src", "object": "data"}
VOID = {"meta", "img", "br", "link", "input", "hr"}


class Page(HTMLParser):
    """The elements of a page, its text, and whether its tags close as they should."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.text = ""
        self.scripts: list[str] = []
        self._open: list[str] = []
        self.misnested: list[str] = []
        self.source = path.read_text(encoding="utf-8")
        self.feed(self.source)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self._open.append(tag)
        if tag == "script":
            self.scripts.append("")

    def handle_endtag(self, tag):
        if not self._open or self._open.pop() != tag:
            self.misnested.append(tag)

    def handle_data(self, data):
        if self._open and self._open[-1] == "script":
            self.scripts[-1] += data
        elif not self._open or self._open[-1] != "style":
            self.text += data

    def all(self, tag: str, **wanted: str) -> list[dict[str, str]]:
        return [a for t, a in self.elements if t == tag and all(a.get(k) == v for k, v in wanted.items())]

    @property
    def loads(self) -> list[str]:
        """Everything the page would fetch when it is opened."""
        found = [a[LOADING[t]] for t, a in self.elements if t in LOADING and a.get(LOADING[t])]
        styles = [a["style"] for _, a in self.elements if "style" in a]
        css = "".join(re.findall(r"<style>(.*?)</style>", self.source, re.S)) + "".join(styles)
        return found + re.findall(r"url\(([^)]*)\)", css) + re.findall(r"@import\s+([^;]+)", css)


def markdown_links(text: str) -> list[str]:
    """Targets of links and pictures, unquoted."""
    found = re.findall(r'(?:src|href)="([^"]+)"', text) + re.findall(r"(?<!\\)\]\(([^)]+)\)", text)
    return [unquote(link) for link in found]
