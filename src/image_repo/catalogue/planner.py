"""The query planner: decides how the documents of a query are found, and in which order they are read.

Engines plan badly without statistics of the documents' contents. So the plan is made here. Where facts alone answer in
the requested order, they do. Otherwise all matches are gathered by the narrowest access path, and a few are sorted. Of
many, a page is found sooner by a walk along the order, where there are facts for it, than by sorting.
"""

from __future__ import annotations

import heapq
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from operator import itemgetter
from typing import Any, NamedTuple, TypeAlias

from sqlalchemy import ColumnElement, FromClause, and_, or_, select
from sqlalchemy.sql.expression import Select

from image_repo.catalogue.cursor import Order, Place
from image_repo.catalogue.matching import MAX_NARROW, STREAM, Matching, begins
from image_repo.catalogue.sort_keys import ELEMENT, LEAD, Key

#: names, or ids
Listed: TypeAlias = "Sequence[str] | array[int]"


@dataclass(frozen=True, slots=True)
class Walk:
    """A keyset walk through names in order, over facts or over names alone.

    :param within: conditions on the table
    :param column: of its order; None where all have the same value
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


class QueryPlan(Matching):
    """A filter, planned for one connection and the state that it sees."""

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
        for reach in self._reaches:  # in another order, where they are few to sort
            if reach.exact and reach.is_point and self._is_covered(reach.covers) and self._width(reach) <= MAX_NARROW:
                return [Walk(facts, self._within(reach), None, False, order.names_descending, reach.covers)]
        within = (begins(documents.c.name, self._filter.prefix),) if self._filter.prefix else ()
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
            remaining = limit - len(names)
            query = along.ordered(self._on(along, column, along.name))
            if beyond is not None:
                query = query.where(column < beyond if walk.descending else column > beyond)
            rows = [(bytes(value), name) for value, name in self._connection.execute(query.limit(remaining))]
            if not rows:
                break
            beyond = rows[-1][0]
            names += _upwards([each for each in rows if each[0] != beyond], walk)
            of_last = replace(walk, within=(*walk.within, column == beyond), column=None)
            names += self._stroll(of_last, None, 0, limit - len(names))
            if len(rows) < remaining:
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
        return iter(self._connection.execute(query.execution_options(yield_per=STREAM)).scalars())

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
        query = select(documents.c.id, documents.c.name, self._tables.written).where(where)
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
