"""An import changes nothing but the module itself: no call for its effect, no assignment into another module."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCES = Path(__file__).parents[1] / "src" / "image_repo"
#: scripts, whose import is their run
SCRIPTS = {"__main__.py", "wsgi.py"}
CHECKED = sorted({str(path.relative_to(SOURCES)) for path in SOURCES.rglob("*.py")} - SCRIPTS)


def effects(body: list[ast.stmt]) -> Iterator[str]:
    for statement in body:
        if isinstance(statement, ast.If) and ast.unparse(statement.test) == "__name__ == '__main__'":
            continue
        if isinstance(statement, (ast.If, ast.Try, ast.With, ast.For)):
            yield from effects([*statement.body, *getattr(statement, "orelse", ())])
        elif isinstance(statement, ast.Expr) and not isinstance(statement.value, ast.Constant):
            yield ast.unparse(statement)
        elif isinstance(statement, (ast.Assign, ast.AugAssign, ast.AnnAssign, ast.Delete)):
            targets = getattr(statement, "targets", None) or [getattr(statement, "target", None)]
            if any(isinstance(target, (ast.Attribute, ast.Subscript)) for target in targets):
                yield ast.unparse(statement)


@pytest.mark.parametrize("module", CHECKED)
def test_an_import_has_no_effect_on_the_process(module: str) -> None:
    assert list(effects(ast.parse((SOURCES / module).read_text()).body)) == []


def test_effects_are_seen() -> None:
    text = "import a\na.off()\nif a:\n    a.most = 3\ntry:\n    a.b['c'] = 1\nfinally:\n    pass\nx = a.made()\n"
    assert list(effects(ast.parse(text).body)) == ["a.off()", "a.most = 3", "a.b['c'] = 1"]
