"""SQLite: conditions, order and facets of JSON documents, in terms of JSON1 (sqlite.org/json1.html)."""

from __future__ import annotations

import operator
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any
from weakref import WeakValueDictionary

import sqlalchemy as sa
from sqlalchemy.sql.selectable import TableValuedAlias
from sqlalchemy.types import NullType

from image_repo.catalogue import collation, encoding
from image_repo.catalogue.evaluator import holds
from image_repo.catalogue.facets import Tally
from image_repo.catalogue.query import Condition, Filter, Path
from image_repo.catalogue.tables import Tables

_NUMBERS = ("integer", "real")
#: in place of a JSON value: one may be below an array
_BELOW = "-"
#: values at a time
_STREAM = 10_000
#: kinds of JSON1 that are the value
_WORDS = {"null": collation.NULL, "false": collation.FALSE, "true": collation.TRUE}
_WORD_OF = {"None": "null", "False": "false", "True": "true"}
_COMPARES: Mapping[str, Callable[[Any, Any], sa.ColumnElement[bool]]] = {
    "gt": operator.gt,
    "gte": operator.ge,
    "lt": operator.lt,
    "lte": operator.le,
}


class SqliteJson:
    """The part of :class:`~.dialect.Dialect` that reads documents."""

    def __init__(self, tables: Tables) -> None:
        self.tables = tables
        self._tests: WeakValueDictionary[int, Any] = WeakValueDictionary()

    def finds(self, number: int, text: Any) -> bool:
        """Return whether a regular expression matches; called by SQLite.

        :param number: the ``id`` of its test
        """
        test = self._tests.get(number)
        return isinstance(text, str) and test is not None and test(text)

    # -- order -----------------------------------------------------------------------------

    def sorted_by(self, path: Path) -> Sequence[sa.ColumnElement[Any]]:
        spot = _Spot(self.tables.documents.c.document, path)
        nothing = (
            sa.case((spot.is_below_array(), collation.OTHER), else_=collation.MISSING)
            if path[1:]
            else collation.MISSING
        )
        kinds = [
            (spot.kind.in_(_NUMBERS), collation.NUMBER),
            (spot.kind == "text", collation.TEXT),
            *((spot.kind == word, kind) for word, kind in _WORDS.items()),
            (spot.kind.is_(None), nothing),
        ]
        values: list[Any] = [
            (spot.kind.in_(_NUMBERS), spot.number),
            # SQLite makes null of empty bytes
            (
                spot.kind == "text",
                sa.func.coalesce(sa.func.substr(sa.cast(spot.value, sa.LargeBinary), 1, collation.MOST_TEXT), b""),
            ),
        ]
        return sa.case(*kinds, else_=collation.OTHER), sa.case(*values, else_=0)

    def sorting(self, value: bytes) -> Sequence[Any]:
        kind = value[0]
        if kind == collation.NUMBER:
            return kind, collation.number(value)
        return kind, value[1:] if kind == collation.TEXT else 0

    # -- conditions ------------------------------------------------------------------------

    def holds(self, condition: Condition) -> sa.ColumnElement[bool]:
        return self._holds(condition, self.tables.documents.c.document)

    def _holds(self, condition: Condition, document: sa.ColumnElement[Any]) -> sa.ColumnElement[bool]:
        spot = _Spot(document, condition.path)
        if condition.op == "element":
            *tables, last = spot.chain()
            return sa.exists(
                sa.select(sa.literal(1)).select_from(*tables, last).where(self._is_element(condition, last))
            )
        if condition.op == "exists":
            there = spot.exists()
            return there if condition.values[0] else sa.not_(there)
        each = spot.elements()
        fits = _chosen(each.c.type, self._fitting(condition, each.c.value), _default(condition))
        inside: sa.ColumnElement[bool] = sa.exists(sa.select(sa.literal(1)).select_from(each).where(fits))
        if condition.op == "ne":
            inside = sa.or_(inside, sa.func.json_array_length(spot.document, spot.path) == 0)
        choices = self._fitting(condition, spot.value) | {"array": inside, "": self._below(condition, spot)}
        return _chosen(sa.func.coalesce(spot.kind, ""), choices, _default(condition))

    def _is_element(self, condition: Condition, values: TableValuedAlias) -> sa.ColumnElement[bool]:
        """Return whether a row of a table of values is an object that fulfils the conditions of ``element``."""
        inside = sa.and_(*(self._holds(each, values.c.value) for each in condition.inside))
        return sa.case((values.c.type == "object", inside), else_=sa.false())

    def _below(self, condition: Condition, spot: _Spot) -> sa.ColumnElement[bool]:
        """Return the condition where plain members lead nowhere: an array may be on the way."""
        if not condition.path[1:]:
            return _default(condition)
        *tables, last = spot.chain()
        values = sa.select(sa.literal(1)).select_from(*tables, last)
        fits = _chosen(last.c.type, self._fitting(condition, last.c.value), _default(condition))
        below = sa.exists(values.where(fits))
        if condition.op == "ne":
            return sa.or_(sa.not_(spot.is_below_array()), below, sa.not_(sa.exists(values)))
        return sa.and_(spot.is_below_array(), below)

    def _fitting(self, condition: Condition, value: sa.ColumnElement[Any]) -> dict[str, sa.ColumnElement[bool]]:
        """Return, for kinds of values as JSON1 calls them, whether one fits; others fit by default."""
        number = sa.cast(value, sa.REAL)
        if condition.op == "regex":
            self._tests[id(condition.test)] = condition.test
            return {"text": sa.func.image_repo_finds(id(condition.test), value) == 1}
        if condition.op in ("eq", "ne"):
            return _equal(condition, number, value)
        (than,) = condition.values
        if isinstance(than, str):
            return {"text": _COMPARES[condition.op](value, than)}
        if isinstance(than, bool) or than is None:
            return {}
        return {kind: _COMPARES[condition.op](number, collation.double(than)) for kind in _NUMBERS}

    def tally(
        self, connection: sa.Connection, path: Path, where: Sequence[sa.ColumnElement[bool]], tally: Tally
    ) -> int | None:
        # SQLite groups by sorting, in memory: few values that occur often are counted faster here.
        spot = _Spot(self.tables.documents.c.document, path)
        value: sa.ColumnElement[Any] = spot.document.op("->", return_type=sa.Text())(spot.path)
        if path[1:]:
            value = sa.func.coalesce(value, sa.case((spot.is_below_array(), _BELOW)))
        rows = connection.execute(sa.select(value).where(*where))
        count, below = _count(rows.cursor, tally)  # the driver's own rows: a million of them take a third of the time
        rows.close()
        if below:
            rest = sa.select(spot.document_text).where(spot.kind.is_(None), spot.is_below_array(), *where)
            count += _count_below(connection.execute(rest.execution_options(yield_per=100)).scalars(), path, tally)
        return count


class _Spot:
    """A path in a document, in terms of JSON1 (sqlite.org/json1.html)."""

    def __init__(self, document: sa.ColumnElement[Any], path: Path) -> None:
        self.document: sa.ColumnElement[Any] = sa.type_coerce(document, NullType())
        self.document_text: sa.ColumnElement[str] = document
        self.members = path
        self.path = _spell(path)
        #: ``integer real text true false null array object``; null where plain members lead nowhere
        self.kind: sa.ColumnElement[str] = sa.func.json_type(self.document, self.path)
        self.value: sa.ColumnElement[Any] = sa.func.json_extract(self.document, self.path, type_=NullType())
        self.number: sa.ColumnElement[float] = sa.cast(self.value, sa.REAL)

    def is_below_array(self) -> sa.ColumnElement[bool]:
        """Return whether an array is on the way."""
        above = [_spell(self.members[:length]) for length in range(1, len(self.members))]
        return sa.func.coalesce(
            sa.or_(*(sa.func.json_type(self.document, path) == "array" for path in above)), sa.false()
        )

    def elements(self) -> TableValuedAlias:
        """Return the elements of the array there."""
        return sa.func.json_each(self.document, self.path).table_valued("value", "type")

    def chain(self) -> list[TableValuedAlias]:
        """Return tables that lead to all values reached, each into the elements of arrays; the last has the values."""
        tables: list[TableValuedAlias] = []
        value: Any = self.document
        is_object: sa.ColumnElement[bool] = sa.true()
        for member in self.members:
            tables.append(sa.func.json_each(_listed(value, is_object, _spell((member,)))).table_valued("value", "type"))
            value, is_object = tables[-1].c.value, tables[-1].c.type == "object"
        return tables

    def exists(self) -> sa.ColumnElement[bool]:
        """Return whether something is there, an empty array or null too."""
        there = self.kind.isnot(None)
        if not self.members[1:]:
            return there
        *tables, last = _Spot(self.document, self.members[:-1]).chain()
        has = sa.case((last.c.type == "object", sa.func.json_type(last.c.value, _spell(self.members[-1:])).isnot(None)))
        return sa.or_(
            there,
            sa.and_(self.is_below_array(), sa.exists(sa.select(sa.literal(1)).select_from(*tables, last).where(has))),
        )


def _listed(value: Any, is_object: sa.ColumnElement[bool], path: str) -> sa.ColumnElement[Any]:
    """Return the member of an object as an array: itself, or an array of it, empty when there is none."""
    kind = sa.case((is_object, sa.func.json_type(value, path)))
    member = value.op("->")(path)
    return sa.case((kind == "array", member), (kind.is_(None), "[]"), else_=sa.func.json_array(member))


def _count(rows: Any, tally: Tally) -> tuple[int, int]:
    """Count values given as JSON; return how many documents have one, and how many have it below an array."""
    count = below = 0
    while part := rows.fetchmany(_STREAM):
        counter = Counter(part)
        counter.pop((None,), None)
        below += counter.pop((_BELOW,), 0)
        count += counter.total()
        tally.add_json([text for (text,) in counter], counter.values())
    return count, below


def _count_below(documents: Iterable[str], path: Path, tally: Tally) -> int:
    """Count what a path reaches in documents with arrays on its way; return how many have something there."""
    there = Filter((Condition(path, "exists", (True,)),))
    count = 0
    for text in documents:
        document = encoding.decode(text)
        tally.add_all(map(_original, collation.reached(document, path)))
        count += holds(there, document)
    return count


def _original(value: Any) -> Any:
    return encoding.original(value) if isinstance(value, str) else value


def _default(condition: Condition) -> sa.ColumnElement[bool]:
    return sa.true() if condition.op == "ne" else sa.false()


def _chosen(
    kind: sa.ColumnElement[str], choices: Mapping[str, sa.ColumnElement[bool]], default: sa.ColumnElement[bool]
) -> sa.ColumnElement[bool]:
    """Return a choice by the kind of a value, so that the kind is read once."""
    return sa.case(choices, value=kind, else_=default) if choices else default


def _equal(
    condition: Condition, number: sa.ColumnElement[float], text: sa.ColumnElement[str]
) -> dict[str, sa.ColumnElement[bool]]:
    """Return, for each kind of values, whether one is among those of a condition, or not."""
    right: sa.ColumnElement[bool] = sa.not_(_default(condition))
    texts = sorted({each for each in condition.values if isinstance(each, str)})
    words = {_WORD_OF[str(each)] for each in condition.values if each is None or isinstance(each, bool)}
    numbers = {each for each in condition.values if isinstance(each, int | float) and not isinstance(each, bool)}
    choices = dict.fromkeys(sorted(words), right)
    if numbers:
        sortable = sorted(map(collation.double, numbers))
        choices |= {kind: _among(number, sortable, condition) for kind in _NUMBERS}
    if texts:
        choices["text"] = _among(text, texts, condition)
    return choices


def _among(value: sa.ColumnElement[Any], sortable: Sequence[Any], condition: Condition) -> sa.ColumnElement[bool]:
    one = value == sortable[0] if len(sortable) == 1 else value.in_(sortable)
    return sa.not_(one) if condition.op == "ne" else one


def _spell(path: Path) -> str:
    """Return a path of JSON1; members hold no quotes (:func:`.encoding.members`)."""
    return "$" + "".join(f'."{member}"' for member in path)
