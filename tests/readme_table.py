"""The README's table of parameters, made from the table of operations. Run as a script, it writes the README."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from image_repo.model.operations import PARAMETERS
from image_repo.web.openapi import READ_OPTIONS

README = Path(__file__).parents[1] / "README.md"
_TABLE = re.compile(r"(?<=<!-- parameters -->\n).*?(?=<!-- end of parameters -->\n)", re.DOTALL)


def table() -> str:
    """Return the table in Markdown."""
    return "".join(f"| {' | '.join(row)} |\n" for row in _rows())


def with_table(readme: str) -> str:
    """Return the README with its table made anew.

    :raises ValueError: when the markers of the table are missing
    """
    text, count = _TABLE.subn(lambda _: table(), readme)
    if count != 1:
        raise ValueError(f"Expected one table of parameters but found {count}")
    return text


def _rows() -> Iterator[tuple[str, ...]]:
    yield "parameter", "also", "takes", "what it does"
    yield ("---",) * 4
    for name, parameter in PARAMETERS.items():
        yield f"`{name}`", _code(parameter.aliases), _range(parameter.read.schema), parameter.help
    for name, (schema, text) in READ_OPTIONS.items():
        yield f"`{name}`", "", _range(schema), text


def _code(names: tuple[str, ...]) -> str:
    return " ".join(f"`{name}`" for name in names)


def _range(schema: Mapping[str, Any]) -> str:
    if "maximum" in schema:
        return f"{schema['minimum']:g} to {schema['maximum']:g}"
    return "`True`" if schema["type"] == "boolean" else ""


if __name__ == "__main__":
    README.write_text(with_table(README.read_text()))
