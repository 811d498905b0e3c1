"""PostgreSQL: conditions, order and facets of JSON documents, in terms of JSONB and SQL/JSON paths."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import BIT, JSONB, JSONPATH
from sqlalchemy.sql.expression import Select
from sqlalchemy.types import Double

from image_repo.catalogue import collation
from image_repo.catalogue.facets import Tally
from image_repo.catalogue.query import Condition, Path, Scalar
from image_repo.catalogue.tables import Tables

#: groups at a time
_STREAM = 5_000
#: whole numbers from here on round to the next double, so that several are one
_EXACT = 2.0**53
#: what is at least this rounds to infinity
_INFINITE = 2**1024 - 2**970
_COMPARES = {"gt": ">", "gte": ">=", "lt": "<", "lte": "<="}


class PostgresJson:
    """The part of :class:`~.dialect.Dialect` that reads documents."""

    def __init__(self, tables: Tables) -> None:
        self.tables = tables

    # -- order -----------------------------------------------------------------------------

    def sorted_by(self, path: Path) -> Sequence[sa.ColumnElement[Any]]:
        """Return one column, equal to what :func:`.collation.sortable` makes of the value."""
        value, above = self.tables.documents.c.document, []
        for member in path:
            above.append(sa.func.jsonb_typeof(value) == "array")
            value = _member(value, member)
        kind = sa.func.jsonb_typeof(value)
        plain = value.op("#>>", return_type=sa.Text())(sa.cast([], sa.ARRAY(sa.Text)))
        in_bytes = sa.func.substring(sa.func.convert_to(plain, "UTF8"), 1, collation.MOST_TEXT)
        nothing = sa.case((sa.or_(*above), _kind(collation.OTHER)), else_=_kind(collation.MISSING))
        return (
            sa.case(
                (kind == "number", _kind(collation.NUMBER).op("||")(_double_bytes(sa.cast(plain, sa.Numeric)))),
                (kind == "string", _kind(collation.TEXT).op("||")(in_bytes)),
                (kind == "null", _kind(collation.NULL)),
                (kind == "boolean", sa.case((plain == "true", _kind(collation.TRUE)), else_=_kind(collation.FALSE))),
                (kind.is_(None), nothing),
                else_=_kind(collation.OTHER),
            ),
        )

    def sorting(self, value: bytes) -> Sequence[Any]:
        return (value,)

    # -- conditions ------------------------------------------------------------------------

    def holds(self, condition: Condition) -> sa.ColumnElement[bool]:
        params: dict[str, Any] = {}
        path = _spell(condition.path)
        if condition.op == "exists":
            there = self._has(path, {})
            return there if condition.values[0] else sa.not_(there)
        if condition.op == "ne":
            differs = self._has(f"{path} ? (!({_equal(condition.values, params)}))", params)
            return sa.or_(differs, sa.not_(self._has(f"{path}[*]", {})))
        return self._has(f"{path} ? ({_fits(condition, params)})", params)

    def tally(
        self, connection: sa.Connection, path: Path, where: Sequence[sa.ColumnElement[bool]], tally: Tally
    ) -> int | None:
        documents = self.tables.documents
        values = sa.func.jsonb_path_query(documents.c.document, _path(f"{_spell(path)}[*]"), type_=JSONB)
        each = values.table_valued(sa.column("value", JSONB)).render_derived()
        inside = documents.join(each, sa.true())
        grouped = sa.select(sa.cast(each.c.value, sa.Text), sa.func.count()).select_from(inside).where(*where)
        rows = connection.execute(grouped.group_by(each.c.value).execution_options(yield_per=_STREAM))
        for part in rows.partitions():
            # elements of arrays in arrays are no values of the path
            scalars = [(text, times) for text, times in part if text[0] not in "[{"]
            tally.add_json([text for text, _ in scalars], [times for _, times in scalars])
        return None

    def texts(self, path: Path, kind: str) -> Select[Any]:
        documents = self.tables.documents
        values = sa.func.jsonb_path_query(documents.c.document, _path(f'{_spell(path)} ? (@.type() == "{kind}")'))
        each = values.table_valued("value").render_derived()
        plain = sa.cast(each.c.value, JSONB).op("#>>", return_type=sa.Text())(sa.cast([], sa.ARRAY(sa.Text)))
        return sa.select(documents.c.id, plain).select_from(documents.join(each, sa.true()))

    def _has(self, path: str, params: dict[str, Any]) -> sa.ColumnElement[bool]:
        spelled = sa.cast(sa.literal(json.dumps(params), sa.Text), JSONB)
        document = self.tables.documents.c.document
        return sa.func.jsonb_path_exists(document, _path(path), spelled, True)


def _spell(path: Path) -> str:
    """Return a path of SQL/JSON, lax: into arrays (postgresql.org/docs/current/functions-json.html#FUNCTIONS-SQLJSON-
    PATH).
    """
    return "$" + "".join("." + json.dumps(member, ensure_ascii=False) for member in path)


def _path(path: str) -> sa.ColumnElement[Any]:
    return sa.cast(sa.literal(path, sa.Text), JSONPATH)


def _member(value: Any, member: str) -> Any:
    """Return a member of an object; null for anything else, arrays too."""
    return value.op("->", return_type=JSONB)(sa.literal(member, sa.Text))


def _kind(kind: int) -> sa.ColumnElement[bytes]:
    return sa.literal(bytes((kind,)), sa.LargeBinary)


def _double_bytes(number: sa.ColumnElement[Any]) -> sa.ColumnElement[bytes]:
    """Return a number as :func:`.collation.sortable` writes it."""
    sent = sa.func.float8send(_double(number), type_=sa.LargeBinary())
    bits = sa.cast(sa.cast(sa.func.concat("x", sa.func.encode(sent, "hex")), BIT(64)), sa.BigInteger)
    return sa.case((number >= 0, sa.func.set_bit(sent, 7, 1)), else_=sa.func.int8send(bits.op("#")(-1)))


def _double(number: sa.ColumnElement[Any]) -> sa.ColumnElement[float]:
    return sa.case(
        (
            number >= sa.cast(sa.literal(str(_INFINITE), sa.Text), sa.Numeric),
            sa.cast(sa.literal("Infinity", sa.Text), Double),
        ),
        (
            number <= sa.cast(sa.literal(str(-_INFINITE), sa.Text), sa.Numeric),
            sa.cast(sa.literal("-Infinity", sa.Text), Double),
        ),
        else_=sa.cast(number, Double),
    )


def _fits(condition: Condition, params: dict[str, Any]) -> str:
    """Return the predicate that a value, as ``@``, fulfils a condition."""
    if condition.op == "element":
        inside = (_inside(each, params) for each in condition.inside)
        return " && ".join(('@.type() == "object"', *inside))
    if condition.op == "eq":
        return _equal(condition.values, params)
    return _compares(condition.op, condition.values[0], params)


def _inside(condition: Condition, params: dict[str, Any]) -> str:
    """Return the predicate that an object, as ``@``, fulfils a condition with a path from there."""
    path = "@" + _spell(condition.path)[1:]
    if condition.op == "exists":
        return f"exists({path})" if condition.values[0] else f"!exists({path})"
    if condition.op == "ne":
        return f"(exists({path} ? (!({_equal(condition.values, params)}))) || !exists({path}[*]))"
    return f"exists({path} ? ({_fits(condition, params)}))"


def _equal(values: Sequence[Scalar], params: dict[str, Any]) -> str:
    """Return the predicate that a value is one of these."""
    parts = []
    if None in values:
        parts.append('@.type() == "null"')
    parts += _one_of("boolean", [each for each in values if isinstance(each, bool)], params)
    parts += _one_of("string", [each for each in values if isinstance(each, str)], params)
    numbers = {
        collation.double(each) for each in values if isinstance(each, int | float) and not isinstance(each, bool)
    }
    parts += _one_of("number", [each for each in numbers if abs(each) < _EXACT], params)
    for number in numbers:
        if abs(number) >= _EXACT:
            within = [_compares("gte", number, params), _compares("lte", number, params)]
            parts.append(f"({' && '.join(within)})")
    return " || ".join(parts) or "1 == 0"


def _one_of(kind: str, values: Sequence[Scalar], params: dict[str, Any]) -> list[str]:
    """Return the predicate that a value is of a kind and one of these; none where there are no values."""
    if not values:
        return []
    name = f"v{len(params)}"
    params[name] = values
    return [f'(@.type() == "{kind}" && @ == ${name}[*])']


def _compares(op: str, than: Scalar, params: dict[str, Any]) -> str:
    """Return the predicate that a value is of the same kind and compares so."""
    if than is None or isinstance(than, bool):
        return "1 == 0"
    name = f"v{len(params)}"
    if isinstance(than, str):
        params[name] = than
        return f'@.type() == "string" && @ {_COMPARES[op]} ${name}'
    least, most = _range(collation.double(than))
    bound = least if op in ("gte", "lt") else most
    if bound is None:  # nothing is beyond infinity
        return "1 == 0" if (op in ("gt", "gte")) is (than > 0) else '@.type() == "number"'
    params[name] = bound
    return f'@.type() == "number" && @ {_COMPARES[op]} ${name}'


def _range(number: float) -> tuple[float | None, float | None]:
    """Return the least and the greatest number that round to a double; None where there is no such bound.

    PostgreSQL compares all digits. Below 2**53 the documents' numbers have one spelling for each double.
    """
    if math.isinf(number):
        return (_INFINITE, None) if number > 0 else (None, -_INFINITE)
    if abs(number) < _EXACT:
        return number, number
    whole = int(number)
    if number < 0:
        least, most = _range(-number)
        return -most if most is not None else None, -least if least is not None else None
    below = (int(math.nextafter(number, 0)) + whole) // 2
    above = math.nextafter(number, math.inf)
    beyond = (whole + int(above)) // 2 if math.isfinite(above) else _INFINITE
    return (below if collation.double(below) == number else below + 1), (
        beyond if collation.double(beyond) == number else beyond - 1
    )
