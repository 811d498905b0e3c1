"""The types of the columns of a table, inferred from all of its records. Memory does not grow with their number."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from image_repo.exchange.formats.notes import Notes

#: keys that become columns
MAX_COLUMNS = 1_000
_MAX_KEY_CHARACTERS = 200
#: integers that are exact in every reader
_MAX_EXACT_INTEGER = 1 << 53

#: text that is nothing but a number
_WHOLE = re.compile(r"0|-?[1-9][0-9]{0,14}")
_DECIMAL = re.compile(r"-?(0|[1-9][0-9]{0,8})\.[0-9]{1,9}")

Kind = Literal["boolean", "integer", "float", "text"]


@dataclass(slots=True)
class Column:
    """A key and the types of its values.

    :param name: ``name``, ``exif.iso``, ``data.site``
    :param numeric: whether text that is a number counts as a number, as in queries: forms send only text
    :param kinds: of its values; ``other`` for those without a kind of their own
    :param single: whether some value is no list
    :param many: whether some value is a list
    """

    name: str
    numeric: bool = False
    kinds: set[str] = field(default_factory=set)
    single: bool = False
    many: bool = False

    def add(self, value: Any) -> None:
        """Add a value; null is none."""
        if isinstance(value, list):
            self.many = True
            self.kinds.update(_kind(each, numeric=self.numeric) for each in value)
        elif value is not None:
            self.single = True
            self.kinds.add(_kind(value, numeric=self.numeric))

    @property
    def repeated(self) -> bool:
        """Return whether every value is a list of one kind."""
        return self.many and not self.single and self._common is not None

    @property
    def kind(self) -> Kind:
        """Return the kind that holds every value."""
        return "text" if self.many and not self.repeated else self._common or "text"

    @property
    def _common(self) -> Kind | None:
        return next((kind for kind, compatible in _COMPATIBLE if self.kinds <= compatible), None)

    def convert(self, value: Any) -> Any:
        """Return a value, not null, as :attr:`kind`, or as JSON text if it has no common kind."""
        common = self._common
        if self.repeated:
            return [_as(self.kind, each) for each in value]
        if common is not None and not self.many:
            return _as(common, value)
        return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, allow_nan=False)


#: the kind that holds all values of these kinds
_COMPATIBLE: tuple[tuple[Kind, frozenset[str]], ...] = (
    ("text", frozenset(("text",))),
    ("boolean", frozenset(("boolean",))),
    ("integer", frozenset(("integer", "whole text"))),
    ("float", frozenset(("integer", "whole text", "float", "decimal text"))),
    ("text", frozenset(("text", "whole text", "decimal text"))),
)


class Columns:
    """The columns of a table, which are complete after the last record."""

    def __init__(self, notes: Notes, label: Callable[[str], str]) -> None:
        self._notes = notes
        self._label = label
        self._columns: dict[str, Column] = {}

    def add(self, record: Mapping[str, Any]) -> None:
        """Add a flat record."""
        for name, value in record.items():
            column = self._column(name)
            if column:
                column.add(value)

    def row(self, record: Mapping[str, Any]) -> dict[str, Any]:
        """Return the record with the types of its columns, without nulls: rare keys must not lengthen every row."""
        cells = ((self._columns.get(name), value) for name, value in record.items() if value is not None)
        return {self._label(column.name): column.convert(value) for column, value in cells if column}

    def __iter__(self) -> Iterator[Column]:
        """Iterate over the columns with any value."""
        return (column for column in self._columns.values() if column.single or column.many)

    def _column(self, name: str) -> Column | None:
        if name not in self._columns and (len(self._columns) >= MAX_COLUMNS or len(name) > _MAX_KEY_CHARACTERS):
            self._notes.add(
                name, f"left out: more than {MAX_COLUMNS} keys, or one of more than {_MAX_KEY_CHARACTERS} characters"
            )
            return None
        return self._columns.setdefault(name, Column(name, numeric=name.startswith("data.")))


def _kind(value: Any, *, numeric: bool) -> str:
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int):
        return "integer" if abs(value) <= _MAX_EXACT_INTEGER else "other"
    if isinstance(value, float):
        return "float"
    if not isinstance(value, str):
        return "other"
    if numeric and _WHOLE.fullmatch(value):
        return "whole text"
    return "decimal text" if numeric and _DECIMAL.fullmatch(value) else "text"


def _as(kind: Kind, value: Any) -> Any:
    if not isinstance(value, str) or kind == "text":
        return value
    return int(value) if kind == "integer" else float(value)
