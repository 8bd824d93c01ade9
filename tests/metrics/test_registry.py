"""Nobody outside metrics/ knows a metric by its name."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import limner
from limner.metrics import all_metrics

SOURCES = Path(limner.__file__).parent


def not_metrics(node: ast.AST) -> Iterator[ast.AST | None]:
    """Strings that are called as a metric is and are none: fields of settings and records, and functions' names."""
    if isinstance(node, ast.Dict):
        yield from node.keys
    if isinstance(node, ast.Tuple) and isinstance(node.elts[0] if node.elts else None, ast.Constant):
        table = node.elts[0]
        yield from node.elts if isinstance(table, ast.Constant) and table.value == "measure" else []
    if isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == "__all__" for t in node.targets):
        yield from ast.walk(node.value)


def named_in(file: Path) -> Iterator[str]:
    """Strings that are a metric's name or begin as one of its rows does."""
    names = {metric.name for metric in all_metrics()}
    tree = ast.parse(file.read_text(encoding="utf-8"))
    other = {id(part) for node in ast.walk(tree) for part in not_metrics(node)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in other:
            name, slash, _ = node.value.partition("/")
            if name in names and (slash or node.value == name):
                yield f"{file.relative_to(SOURCES)}:{node.lineno}: {node.value}"


def test_no_metric_is_named_outside_its_room():
    rooms = [file for file in SOURCES.rglob("*.py") if "metrics" not in file.relative_to(SOURCES).parts]
    assert [each for file in rooms for each in named_in(file)] == []


def test_every_metric_has_words_in_both_languages_and_a_place():
    for metric in all_metrics():
        for code in ("en", "ru"):
            words = metric.words[code]
            assert all((words.title, words.noun, words.short, words.meaning)), metric.name
        assert metric.shown or not metric.compared, metric.name
