"""No function of the package is so long that it must be scrolled to be read."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

SOURCES = Path(__file__).parents[1] / "src" / "image_repo"
MAX_LINES = 45


def long_functions(text: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            if lines > MAX_LINES:
                yield f"{node.name}: {lines} lines"


def test_no_function_has_more_than_45_lines() -> None:
    long = {str(path.relative_to(SOURCES)): list(long_functions(path.read_text())) for path in SOURCES.rglob("*.py")}
    assert {path: names for path, names in long.items() if names} == {}


def test_a_long_function_is_seen() -> None:
    body = "    pass\n" * MAX_LINES
    assert list(long_functions(f"class A:\n    def short(self):\n    {body}")) == []
    assert list(long_functions(f"def long():\n{body}")) == ["long: 46 lines"]
