"""What kinds of values the keys of many records have, told at the end of a walk; memory does not grow with it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from image_repo.exchange.formats.notes import Notes

#: the most keys that become columns
MOST = 1_000
#: the longest key, in characters
_LONGEST = 200
#: whole numbers up to here are the same in every reader
_EXACT = 1 << 53

#: text that says no more than its number does
_WHOLE = re.compile(r"0|-?[1-9][0-9]{0,14}")
_DECIMAL = re.compile(r"-?(0|[1-9][0-9]{0,8})\.[0-9]{1,9}")

Kind = Literal["boolean", "integer", "float", "text"]


@dataclass(slots=True)
class Column:
    """A key and what was seen of it.

    :param name: ``name``, ``exif.iso``, ``data.site``
    :param numeric: whether text that is a number counts as one, as it does in queries: forms send nothing but text
    :param kinds: of its values; ``other`` for what has no kind of its own
    :param single: whether a value was seen that is no list
    :param many: whether a list was
    """

    name: str
    numeric: bool = False
    kinds: set[str] = field(default_factory=set)
    single: bool = False
    many: bool = False

    def see(self, value: Any) -> None:
        """Takes a value into account; null is none."""
        if isinstance(value, list):
            self.many = True
            self.kinds.update(_kind(each, numeric=self.numeric) for each in value)
        elif value is not None:
            self.single = True
            self.kinds.add(_kind(value, numeric=self.numeric))

    @property
    def repeated(self) -> bool:
        """Whether every value is a list of one kind of things."""
        return self.many and not self.single and self._common is not None

    @property
    def kind(self) -> Kind:
        """What every value can be told as."""
        return "text" if self.many and not self.repeated else self._common or "text"

    @property
    def _common(self) -> Kind | None:
        return next((kind for kind, seen in _TOGETHER if self.kinds <= seen), None)

    def tell(self, value: Any) -> Any:
        """A value, not null, as one of :attr:`kind`: what does not fit is told as JSON text."""
        common = self._common
        if self.repeated:
            return [_as(self.kind, each) for each in value]
        if common is not None and not self.many:
            return _as(common, value)
        return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, allow_nan=False)


#: what all values of these kinds can be told as
_TOGETHER: tuple[tuple[Kind, frozenset[str]], ...] = (
    ("text", frozenset(("text",))),
    ("boolean", frozenset(("boolean",))),
    ("integer", frozenset(("integer", "whole text"))),
    ("float", frozenset(("integer", "whole text", "float", "decimal text"))),
    ("text", frozenset(("text", "whole text", "decimal text"))),
)


class Columns:
    """The columns of a table that is not known before the last record."""

    def __init__(self, notes: Notes, label: Callable[[str], str]) -> None:
        self._notes = notes
        self._label = label
        self._columns: dict[str, Column] = {}

    def see(self, record: Mapping[str, Any]) -> None:
        """Takes a flat record into account."""
        for name, value in record.items():
            column = self._column(name)
            if column:
                column.see(value)

    def tell(self, record: Mapping[str, Any]) -> dict[str, Any]:
        """The record as the table tells it, without what is null: a few records must not make all of them long."""
        known = ((self._columns.get(name), value) for name, value in record.items() if value is not None)
        return {self._label(column.name): column.tell(value) for column, value in known if column}

    def __iter__(self) -> Iterator[Column]:
        """Those that have any value."""
        return (one for one in self._columns.values() if one.single or one.many)

    def _column(self, name: str) -> Column | None:
        found = self._columns.get(name)
        if found is None and (len(self._columns) >= MOST or len(name) > _LONGEST):
            self._notes.add(name, f"left out: more than {MOST} keys, or one of more than {_LONGEST} characters")
            return None
        return self._columns.setdefault(name, Column(name, numeric=name.startswith("data.")))


def _kind(value: Any, *, numeric: bool) -> str:
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int):
        return "integer" if abs(value) <= _EXACT else "other"
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
