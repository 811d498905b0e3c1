"""Statistics, counted by the engine: from facts where there are all of them, else from the documents."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import Connection, func, literal, null, select, union_all

from image_repo.catalogue import Statistics, order, storing
from image_repo.catalogue.asking import Asked
from image_repo.catalogue.dialect import BELOW_ARRAY, IN_ARRAY, Dialect
from image_repo.catalogue.facts import LEAD, Key
from image_repo.catalogue.query import Condition, Filter, Path
from image_repo.catalogue.tally import Group, Tally, finite

#: which line of the answer a row is
_VALUE, _KIND, _LEAST, _GREATEST = range(4)
#: groups at a time
_STREAM = 5_000


def statistics(connection: Connection, dialect: Dialect, wanted: Filter, path: Path, most: int) -> Statistics:
    """As :meth:`image_repo.catalogue.Index.statistics` says."""
    asked = Asked(connection, dialect, wanted)
    kept = storing.members(path)
    leads = asked.leads_of(kept) if wanted.is_empty else None
    found = _of_facts(connection, dialect, leads, most) if leads else None
    return found or _of_documents(connection, dialect, asked, wanted, path, most)


# -- from facts --------------------------------------------------------------------------------


class _CutOffError(Exception):
    """Two long texts may stand as one."""


def _of_facts(connection: Connection, dialect: Dialect, key: Key, most: int) -> Statistics | None:
    """Statistics of a key that no array is under; None where long text is cut off."""
    facts = dialect.tables.facts
    there = [facts.c.key == key.number, facts.c.sort == LEAD, facts.c.value > bytes((order.MISSING,))]
    asked = select(facts.c.value, func.count()).where(*there).group_by(facts.c.value)
    rows = connection.execute(asked.execution_options(yield_per=_STREAM))
    count = [0]
    try:
        told = Tally(most).of(_decoded(rows, count))
    except _CutOffError:
        rows.close()
        return None
    return replace(told, count=count[0])


def _decoded(rows: Any, count: list[int]) -> Iterator[Group]:
    for value, times in rows:
        count[0] += times
        kind = value[0]
        if kind == order.TEXT:
            if len(value) > order.MOST_TEXT:
                raise _CutOffError
            yield Group(kind, storing.original(bytes(value[1:]).decode()), times)
        elif kind == order.NUMBER:
            yield Group(kind, order.number(value), times)
        elif kind != order.OTHER:
            yield Group(kind, _WORDS[kind], times)


_WORDS = {order.NULL: None, order.FALSE: False, order.TRUE: True}


# -- from documents ----------------------------------------------------------------------------


def _of_documents(
    connection: Connection, dialect: Dialect, asked: Asked, wanted: Filter, path: Path, most: int
) -> Statistics:
    kept = storing.members(path)
    answer = _Answer(connection.execute(_summary(dialect, asked, kept, most, arrays=False)).all())
    if not answer.has_arrays and dialect.tells_arrays:
        return answer.told(answer.documents)
    if answer.has_arrays:
        answer = _Answer(connection.execute(_summary(dialect, asked, kept, most, arrays=True)).all())
    there = Condition(path, "exists", (True,))
    both = Filter((*wanted.conditions, there), wanted.prefix, wanted.words)
    return answer.told(Asked(connection, dialect, both).count())


def _summary(dialect: Dialect, asked: Asked, path: Path, most: int, *, arrays: bool) -> Any:
    """One statement that tells the most frequent values, and what there is of each kind."""
    reached = dialect.reached(path, asked.matching(), arrays=arrays).subquery()
    kind, number, text = reached.c.kind, reached.c.number, reached.c.text
    groups = (
        select(kind, number, text, func.sum(reached.c.times).label("times"))
        .group_by(kind, number, text)
        .cte("groups")
        .prefix_with("MATERIALIZED")
    )
    each = groups.c
    frequent = (
        select(literal(_VALUE), each.kind, each.number, each.text, each.times, literal(1))
        .where(each.kind.between(order.NULL, order.TEXT))
        .order_by(each.times.desc(), each.kind, each.number, each.text)
        .limit(most)
        .subquery()
    )
    total = func.sum(each.number * each.times)
    lines = [
        select(literal(_KIND), each.kind, total, null(), func.sum(each.times), func.count()),
        select(literal(_LEAST), each.kind, func.min(each.number), func.min(each.text), literal(0), literal(0)),
        select(literal(_GREATEST), each.kind, func.max(each.number), func.max(each.text), literal(0), literal(0)),
    ]
    return union_all(select(frequent), *(line.group_by(each.kind) for line in lines))


class _Answer:
    """What such a statement told."""

    def __init__(self, rows: Sequence[Any]) -> None:
        self._values = [row for row in rows if row[0] == _VALUE]
        self._kinds = {row[1]: row for row in rows if row[0] == _KIND}
        self._ends = {(row[0], row[1]): row for row in rows if row[0] in (_LEAST, _GREATEST)}

    @property
    def has_arrays(self) -> bool:
        """Whether something is in arrays that has not been looked into."""
        return bool(self._kinds.keys() & {IN_ARRAY, BELOW_ARRAY})

    @property
    def documents(self) -> int:
        """How many documents have the key, where no array is there."""
        return sum(int(row[4]) for kind, row in self._kinds.items() if kind != order.MISSING)

    def told(self, count: int) -> Statistics:
        """The statistics.

        :param count: documents that have the key
        """
        values = [_told(row) for row in self._values]
        numbers = self._kinds.get(order.NUMBER)
        distinct = sum(row[5] for kind, row in self._kinds.items() if order.NULL <= kind <= order.TEXT)
        return Statistics(
            most=self._end(_GREATEST, (order.TEXT, order.NUMBER)),
            least=self._end(_LEAST, (order.NUMBER, order.TEXT)),
            mean=finite(numbers[2] / int(numbers[4])) if numbers else None,
            count=count,
            values=[(each.told, each.times) for each in values],
            more=distinct - len(values),
        )

    def _end(self, which: int, kinds: tuple[int, int]) -> Any:
        for kind in kinds:
            if (which, kind) in self._ends:
                return _told(self._ends[which, kind]).told
        return None


def _told(row: Any) -> Group:
    _, kind, number, text, times, _ = row
    if kind == order.NUMBER:
        return Group(kind, number, int(times))
    return Group(kind, storing.original(text) if kind == order.TEXT else _WORDS[kind], int(times))
