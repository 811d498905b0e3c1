"""The query planner: decides how the documents of a query are found, and in which order they are read.

Engines choose badly where they know nothing of what is in documents. So it is decided here: where facts alone answer
in the order that is wanted, they do. Otherwise all that match are gathered, by the narrowest way: few are then put in
order. Of many a page is found sooner along the order, where there are facts for it, than by sorting them.
"""

from __future__ import annotations

import heapq
from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from operator import itemgetter
from typing import Any, NamedTuple, TypeAlias

from sqlalchemy import ColumnElement, Connection, FromClause, and_, func, or_, select, true
from sqlalchemy.sql.expression import Select

from image_repo.catalogue import collation, encoding
from image_repo.catalogue.cursor import Order, Place
from image_repo.catalogue.dialect import Dialect
from image_repo.catalogue.query import Condition, Filter, Path
from image_repo.catalogue.sort_keys import ELEMENT, LEAD, Key, Reach, reaches
from image_repo.catalogue.writing import all_keys

#: how many are counted one by one; from there on an estimate does
MOST_COUNTED = 10_000
#: a way that leads to more documents than these is none: all are gone through
_MOST_AWAY = 20_000
#: documents that an estimate asks
_SAMPLE = 256
#: texts at a time, where they come to us to be searched
_STREAM = 5_000

#: names, or ids
Listed: TypeAlias = "Sequence[str] | array[int]"
_NAME, _DIGEST = ("name",), ("sha256",)


@dataclass(frozen=True, slots=True)
class Walk:
    """A keyset walk through names in order, over facts or over names alone.

    :param within: what of the table
    :param column: by which it goes; None where all have the same
    :param covers: the conditions that all of it fulfils
    """

    table: FromClause
    within: tuple[ColumnElement[bool], ...]
    column: ColumnElement[bytes] | None
    descending: bool
    names_descending: bool
    covers: frozenset[int]

    @property
    def name(self) -> ColumnElement[str]:
        name: ColumnElement[str] = self.table.c.name
        return name

    def behind(self, after: Place) -> ColumnElement[bool]:
        """Return the condition for what comes after a place, spelled so that both engines seek to it (keyset
        pagination).
        """
        further = self.name < after.name if self.names_descending else self.name > after.name
        if self.column is None:
            return further
        value = after.values[0]
        if self.descending:
            return and_(self.column <= value, or_(self.column < value, further))
        return and_(self.column >= value, or_(self.column > value, further))

    def ordered(self, query: Select[Any]) -> Select[Any]:
        if self.column is not None:
            query = query.order_by(self.column.desc() if self.descending else self.column.asc())
        return query.order_by(self.name.desc() if self.names_descending else self.name.asc())


class QueryPlan:
    """A filter, planned for one connection and the state that it sees."""

    def __init__(self, connection: Connection, dialect: Dialect, wanted: Filter) -> None:
        self._connection = connection
        self._dialect = dialect
        self._tables = dialect.tables
        self._filter = wanted
        self._conditions = as_kept(wanted).conditions
        self._keys = all_keys(connection, dialect, filled=True)
        self._reaches = reaches(self._conditions, self._keys)
        self._widths: dict[Reach, int] = {}

    # -- what is asked ---------------------------------------------------------------------

    @cached_property
    def _parts(self) -> list[ColumnElement[bool]]:
        """The conditions of a document: one for each of the filter, then the others."""
        parts = [self._holds(condition) for condition in self._conditions]
        if self._filter.prefix:
            parts.append(_begins(self._tables.documents.c.name, self._filter.prefix))
        if self._filter.words:
            parts.append(self._dialect.has_words(self._filter.words))
        number = self._tables.documents.c.id
        for place, condition in enumerate(self._conditions):
            if texts := self._texts(condition):
                parts[place] = self._dialect.among(number, self._searched(condition, texts, and_(self._way(), *parts)))
        return parts

    def _holds(self, condition: Condition) -> ColumnElement[bool]:
        return true() if self._texts(condition) else self._dialect.holds(condition)

    def _texts(self, condition: Condition) -> Callable[[Path], Select[Any]] | None:
        """Return the query for texts that are searched here, because the engine has no safe regular expressions."""
        return self._dialect.texts if condition.op == "regex" else None

    @property
    def is_searched(self) -> bool:
        """Whether finding what matches means to read much: then it is done once."""
        return any(map(self._texts, self._conditions))

    def _searched(
        self, condition: Condition, texts: Callable[[Path], Select[Any]], where: ColumnElement[bool]
    ) -> list[int]:
        """Return ids of documents whose text matches a regular expression: RE2 searches here, in bounded time."""
        test = condition.test
        if test is None:
            return []
        documents = self._tables.documents
        is_name = condition.path == _NAME
        query = select(documents.c.id, documents.c.name) if is_name else texts(condition.path)
        rows = self._connection.execute(query.where(where).execution_options(yield_per=_STREAM))
        matches: dict[int, None] = {}
        for part in rows.partitions():
            matches |= {number: None for number, text in part if number not in matches and test(text)}
        return list(matches)

    def _where(self, covered: frozenset[int] = frozenset()) -> ColumnElement[bool]:
        return and_(true(), *(part for place, part in enumerate(self._parts) if place not in covered))

    def _is_covered(self, covers: frozenset[int]) -> bool:
        return len(covers) == len(self._conditions) + bool(self._filter.prefix) + bool(self._filter.words)

    def matching(self) -> Sequence[ColumnElement[bool]]:
        """Return the conditions of all documents that match."""
        return self._way(), self._where()

    def leads(self, path: Path) -> Iterator[tuple[bytes, int]]:
        """Return each value at a path as sortable bytes, and how often it occurs; nothing where facts do not tell."""
        facts = self._tables.facts
        for key in self._keys:
            if key.path == path and key.sort is None and not key.several:
                there = [facts.c.key == key.number, facts.c.sort == LEAD, facts.c.value > bytes((collation.MISSING,))]
                grouped = select(facts.c.value, func.count()).where(*there).group_by(facts.c.value)
                return map(tuple, self._connection.execute(grouped.execution_options(yield_per=_STREAM)))
        return iter(())

    # -- how many --------------------------------------------------------------------------

    def count(self, most: int | None = None) -> int:
        """Count what matches.

        :param most: where counting ends
        """
        for reach in self._reaches:
            if reach.exact and self._is_covered(reach.covers):
                return self._count(self._names_of(reach), most)
        query = select(self._tables.documents.c.id).where(self._way(), self._where())
        return self._count(query, most)

    def _count(self, query: Select[Any], most: int | None) -> int:
        counting = select(func.count()).select_from(query.limit(most).subquery())
        return int(self._connection.execute(counting).scalar_one())

    def estimate(self) -> int:
        """Estimate how many match, where they are too many to count, from a sample."""
        numbers = self._tables.documents.c.id
        # each by itself, so that SQLite takes it from an end
        ends = (select(end(numbers)).scalar_subquery() for end in (func.min, func.max))
        first, last = self._connection.execute(select(*ends)).one()
        if first is None:
            return 0
        span = last - first + 1
        sample = sorted({first + step * span // _SAMPLE for step in range(_SAMPLE)})
        fitting = select(numbers).where(self._dialect.among(numbers, sample), self._where())
        hits = self._count(fitting, None)
        return max(MOST_COUNTED + 1, int(hits * span // len(sample)))

    def gathered(self, most: int) -> list[str]:
        """Return the names of those that match, in no order, at most so many."""
        query = select(self._tables.documents.c.name).where(self._way(), self._where())
        for reach in self._reaches:
            if reach.exact and self._is_covered(reach.covers):
                query = self._names_of(reach)
        return list(self._connection.execute(query.limit(most)).scalars())

    def _way(self) -> ColumnElement[bool]:
        """Return the narrowest access path as a condition; true where there is none."""
        documents = self._tables.documents
        columns: dict[Path, ColumnElement[str]] = {_NAME: documents.c.name, _DIGEST: documents.c.digest}
        for condition in self._conditions:
            column = columns.get(condition.path)
            if column is not None and condition.op == "eq" and all(isinstance(each, str) for each in condition.values):
                return self._dialect.among(column, condition.values)
        narrow = min(self._reaches, key=self._width, default=None) if self._reaches else None
        if narrow is None or self._width(narrow) > _MOST_AWAY:
            return true()
        return documents.c.name.in_(self._names_of(narrow, distinct=False))

    def _width(self, reach: Reach) -> int:
        """Return to how many names a reach leads, up to a maximum."""
        if reach not in self._widths:
            self._widths[reach] = self._count(self._names_of(reach, distinct=False), _MOST_AWAY + 1)
        return self._widths[reach]

    def _names_of(self, reach: Reach, *, distinct: bool = True) -> Select[Any]:
        """Return the query for the names of a reach."""
        query = select(self._tables.facts.c.name).where(*self._within(reach))
        return query.distinct() if distinct and reach.may_repeat else query

    def _within(self, reach: Reach) -> tuple[ColumnElement[bool], ...]:
        facts = self._tables.facts
        key = facts.c.key == reach.key.number
        if reach.is_point:
            return key, facts.c.value == reach.points[0]
        if reach.points:
            return key, facts.c.value.in_(reach.points)
        return key, facts.c.value >= reach.low, facts.c.value < reach.high

    # -- in order --------------------------------------------------------------------------

    def walks(self, order: Order) -> list[Walk]:
        """Return the walks in this order; of several, each has a part of the names. Empty where there is none."""
        if not order.keys:
            return self._walks_by_name(order)
        if len(order.keys) > 1:
            return []
        (key,) = order.keys
        facts = self._tables.facts
        walks = [
            Walk(facts, self._within(reach), facts.c.sort, key.descending, order.names_descending, reach.covers)
            for reach in self._reaches
            if reach.exact and reach.is_point and reach.key.sort == key.path
        ]
        for lead in self._keys:
            if lead.path == key.path and lead.sort is None:
                within, covers = self._leads(lead)
                walks.append(Walk(facts, within, facts.c.value, key.descending, order.names_descending, covers))
        return sorted(walks, key=lambda walk: -len(walk.covers))[:1]

    def _leads(self, lead: Key) -> tuple[tuple[ColumnElement[bool], ...], frozenset[int]]:
        """Return the leads of a key, narrowed by a condition where no array can fulfil it."""
        facts = self._tables.facts
        of_key = [reach for reach in self._reaches if reach.key == lead and reach.exact and not lead.several]
        if of_key:
            reach = max(of_key, key=lambda reach: len(reach.covers))
            return (*self._within(reach), facts.c.sort == LEAD), reach.covers
        return (facts.c.key == lead.number, facts.c.sort == LEAD), frozenset()

    def _walks_by_name(self, order: Order) -> list[Walk]:
        facts, documents = self._tables.facts, self._tables.documents
        for reach in self._reaches:
            if reach.exact and reach.is_point and reach.key.sort is None and self._is_covered(reach.covers):
                return [
                    Walk(
                        facts,
                        (*self._within(reach), facts.c.sort == which),
                        None,
                        False,
                        order.names_descending,
                        reach.covers,
                    )
                    for which in ((LEAD, ELEMENT) if reach.key.several else (LEAD,))
                ]
        for reach in self._reaches:  # those that stand in another order, where they are soon sorted
            if reach.exact and reach.is_point and self._is_covered(reach.covers) and self._width(reach) <= _MOST_AWAY:
                return [Walk(facts, self._within(reach), None, False, order.names_descending, reach.covers)]
        within = (_begins(documents.c.name, self._filter.prefix),) if self._filter.prefix else ()
        covers = frozenset((len(self._conditions),)) if self._filter.prefix else frozenset()
        return [Walk(documents, within, None, False, order.names_descending, covers)]

    def is_complete(self, walks: Sequence[Walk]) -> bool:
        """Return whether the walks lead to all that matches, and to nothing else."""
        return bool(walks) and self._is_covered(walks[0].covers)

    def walked(self, walks: Sequence[Walk], after: Place | None, skip: int, limit: int) -> list[str]:
        """Return the names on these walks that match, in order."""
        if len(walks) > 1:
            parts = [self._stroll(walk, after, 0, skip + limit) for walk in walks]
            return list(heapq.merge(*parts, reverse=walks[0].names_descending))[skip : skip + limit]
        (walk,) = walks
        if skip == 0 and walk.column is not None and walk.descending != walk.names_descending:
            return self._climb(walk, walk.column, after, limit)
        return self._stroll(walk, after, skip, limit)

    def _stroll(self, walk: Walk, after: Place | None, skip: int, limit: int) -> list[str]:
        query = walk.ordered(self._on(walk, walk.name))
        if after is not None:
            query = query.where(walk.behind(after))
        return list(self._connection.execute(query.limit(limit).offset(skip)).scalars())

    def _climb(self, walk: Walk, column: ColumnElement[bytes], after: Place | None, limit: int) -> list[str]:
        """Walk where values and names go in opposite directions, an order that no table has."""
        along = replace(walk, names_descending=walk.descending)
        names: list[str] = []
        beyond: bytes | None = None
        if after is not None:
            beyond = after.values[0]
            names = self._stroll(replace(walk, within=(*walk.within, column == beyond), column=None), after, 0, limit)
        while len(names) < limit:
            wanted = limit - len(names)
            query = along.ordered(self._on(along, column, along.name))
            if beyond is not None:
                query = query.where(column < beyond if walk.descending else column > beyond)
            rows = [(bytes(value), name) for value, name in self._connection.execute(query.limit(wanted))]
            if not rows:
                break
            beyond = rows[-1][0]
            names += _upwards([each for each in rows if each[0] != beyond], walk)
            of_last = replace(walk, within=(*walk.within, column == beyond), column=None)
            names += self._stroll(of_last, None, 0, limit - len(names))
            if len(rows) < wanted:
                break
        return names

    def _on(self, walk: Walk, *columns: ColumnElement[Any]) -> Select[Any]:
        """Return the query for what matches on a walk."""
        query = select(*columns).where(*walk.within)
        if self._is_covered(walk.covers):
            return query
        if walk.table is self._tables.documents:
            return query.where(self._where(walk.covers))
        documents = self._tables.documents
        along = self._dialect.along(walk.table, documents, walk.name == documents.c.name)
        return query.select_from(along).where(self._where(walk.covers))

    def some_in_order(
        self, names: Sequence[str], order: Order, after: Place | None = None, skip: int = 0, limit: int | None = None
    ) -> list[str]:
        """Return some of these names, sorted."""
        documents = self._tables.documents
        end = None if limit is None else skip + limit
        if order.keys:
            query = select(documents.c.name).where(self._dialect.among(documents.c.name, names))
            return list(self._connection.execute(self._sorted(query, order, after, skip, limit)).scalars())
        if after is not None:
            names = [name for name in names if (name < after.name if order.names_descending else name > after.name)]
        return sorted(names, reverse=order.names_descending)[skip:end]

    def all_in_order(
        self, order: Order, after: Place | None = None, skip: int = 0, limit: int | None = None
    ) -> Iterator[int]:
        """Return the ids of all that match, sorted."""
        query = select(self._tables.documents.c.id).where(self._way(), self._where())
        query = self._sorted(query, order, after, skip, limit)
        return iter(self._connection.execute(query.execution_options(yield_per=_STREAM)).scalars())

    def _sorted(
        self, query: Select[Any], order: Order, after: Place | None, skip: int, limit: int | None
    ) -> Select[Any]:
        if after is not None:
            query = query.where(self._behind(order, after))
        for key in order.keys:
            for column in self._dialect.sorted_by(key.path):
                query = query.order_by(column.desc() if key.descending else column.asc())
        name = self._tables.documents.c.name
        return query.order_by(name.desc() if order.names_descending else name.asc()).limit(limit).offset(skip or None)

    def _behind(self, order: Order, after: Place) -> ColumnElement[bool]:
        """Return the condition for what comes after a place in an order."""
        name = self._tables.documents.c.name
        behind: ColumnElement[bool] = name < after.name if order.names_descending else name > after.name
        for key, value in zip(reversed(order.keys), reversed(after.values), strict=True):
            columns = list(zip(self._dialect.sorted_by(key.path), self._dialect.sorting(value), strict=True))
            for column, bound in reversed(columns):
                further = column < bound if key.descending else column > bound
                behind = or_(further, and_(column == bound, behind))
        return behind

    # -- documents -------------------------------------------------------------------------

    def fetched(self, listed: Listed) -> list[QueryResult]:
        """Return the documents of these, in their order."""
        return self.numbered(listed) if isinstance(listed, array) else self.named(listed)

    def named(self, names: Sequence[str]) -> list[QueryResult]:
        name = self._tables.documents.c.name
        by_name = {each.name: each for each in self._documents(self._dialect.among(name, names))}
        return [by_name[each] for each in names if each in by_name]

    def numbered(self, ids: Sequence[int]) -> list[QueryResult]:
        by_id = {each.id: each for each in self._documents(self._dialect.among(self._tables.documents.c.id, list(ids)))}
        return [by_id[each] for each in ids if each in by_id]

    def _documents(self, where: ColumnElement[bool]) -> list[QueryResult]:
        documents = self._tables.documents
        query = select(documents.c.id, documents.c.name, self._tables.told).where(where)
        return [QueryResult(*row) for row in self._connection.execute(query)]


class QueryResult(NamedTuple):
    """A stored document."""

    id: int
    name: str
    text: str


def _upwards(rows: Sequence[tuple[bytes, str]], walk: Walk) -> list[str]:
    """Return the names of whole values, in the order of the walk."""
    by_name = sorted(rows, key=itemgetter(1), reverse=walk.names_descending)
    return [name for _, name in sorted(by_name, key=itemgetter(0), reverse=walk.descending)]


def _begins(name: ColumnElement[str], prefix: str) -> ColumnElement[bool]:
    begin = encoding.storable(prefix)
    end = _behind_all(begin)
    return and_(name >= begin, name < end) if end else name >= begin


def _behind_all(prefix: str) -> str | None:
    """Return the least text after all that have this prefix; None where there is none."""
    bare = prefix.rstrip("\U0010ffff")
    if not bare:
        return None
    last = ord(bare[-1]) + 1
    return bare[:-1] + chr(0xE000 if last == 0xD800 else last)


def as_kept(wanted: Filter) -> Filter:
    """Return a filter in the spelling of stored documents."""
    return replace(wanted, conditions=tuple(map(_kept, wanted.conditions)))


def _kept(condition: Condition) -> Condition:
    values = tuple(encoding.storable(value) if isinstance(value, str) else value for value in condition.values)
    test = condition.test
    return Condition(
        encoding.members(condition.path), condition.op, values, test and (lambda text: test(encoding.original(text)))
    )
