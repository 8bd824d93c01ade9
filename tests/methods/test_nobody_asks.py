"""Outside `methods/` and the settings nobody asks which way of teaching a variant is: read from the syntax trees."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import limner
from limner.methods import all_methods

SOURCES = Path(limner.__file__).parent
MAY_ASK = ("methods/", "settings/")
RE_EXPORT = ("config/__init__.py", "__init__.py")  # they name the settings classes for others and do nothing with them
CLASSES = frozenset(
    {kind.__name__ for method in all_methods() for kind in (method.settings, type(method))} | {"FULL", "LORA"}
)
NAMES = frozenset(method.name for method in all_methods())


def questions(text: str, *, may_name_classes: bool = False) -> Iterator[str]:
    """Lines at which a module asks for a method: by its class, or by a comparison with its name."""
    for node in ast.walk(ast.parse(text)):
        if said := _asked(node, may_name_classes):
            yield f"{getattr(node, 'lineno', 0)}: {said}"


def _asked(node: ast.AST, may_name_classes: bool) -> str:
    match node:
        case ast.ImportFrom() if not may_name_classes:
            return ", ".join(sorted(CLASSES & {each.name for each in node.names}))
        case ast.Name(id=name) | ast.Attribute(attr=name) if name in CLASSES and not may_name_classes:
            return name
        case ast.Call(func=ast.Name(id="isinstance" | "issubclass")):
            return "isinstance" if CLASSES & _words(node) else ""
        case ast.Compare():
            return _compared([node.left, *node.comparators])
        case ast.Match():
            return _compared([node.subject, *(case.pattern for case in node.cases)])
    return _table(node)


def _table(node: ast.AST) -> str:
    keys = {key.value for key in node.keys if isinstance(key, ast.Constant)} if isinstance(node, ast.Dict) else set()
    return "a table by method" if keys and keys <= NAMES else ""


def _compared(sides: list[ast.expr | ast.pattern]) -> str:
    for side in sides:
        if isinstance(side, ast.Attribute) and side.attr == "method":
            return ".method is compared"
        if NAMES & {each.value for each in ast.walk(side) if isinstance(each, ast.Constant) and _is_word(each)}:
            return "a method's name is compared"
    return ""


def _is_word(constant: ast.Constant) -> bool:
    return isinstance(constant.value, str)


def _words(node: ast.AST) -> set[str]:
    return {each.id for each in ast.walk(node) if isinstance(each, ast.Name)} | {
        each.attr for each in ast.walk(node) if isinstance(each, ast.Attribute)
    }


def test_nobody_asks_which_method_it_is():
    asked = []
    for file in sorted(SOURCES.rglob("*.py")):
        name = file.relative_to(SOURCES).as_posix()
        if not name.startswith(MAY_ASK):
            lines = questions(file.read_text(encoding="utf-8"), may_name_classes=name in RE_EXPORT)
            asked += [f"{name}:{line}" for line in lines]
    assert asked == []


@pytest.mark.parametrize(
    "snippet",
    [
        "if isinstance(variant, LoraVariant): pass",
        "if isinstance(variant, config.FullVariant | None): pass",
        "from limner.config import FullVariant",
        "from limner.methods import LORA",
        "rank = methods.LoraVariant(rank=[1])",
        'if name == "lora": pass',
        'if "full" != kind: pass',
        'ranked = [run for run in runs if run.name in ("lora", "dora")]',
        "same = variant.method == other",
        "if wanted is run.method: pass",
        'match name:\n    case "lora":\n        pass',
        'steps = {"full": 800, "lora": 500}',
    ],
)
def test_a_question_would_be_seen(snippet):
    assert list(questions(snippet))


@pytest.mark.parametrize(
    "snippet",
    [
        "steps = run.method.points(run.variant)",
        "from limner.methods import method_of",
        'title = f"lora {name}"',
        'known = {"full": files, "sizes": sizes}',
        "if run.method.thaws: pass",
        "if isinstance(layer, LowRankLayer): pass",
    ],
)
def test_what_asks_for_no_method_is_let_be(snippet):
    assert not list(questions(snippet))


def test_those_that_pass_the_classes_on_may_still_not_ask():
    assert list(questions("isinstance(variant, LoraVariant)", may_name_classes=True))
    assert not list(questions("from limner.methods import FullVariant", may_name_classes=True))
