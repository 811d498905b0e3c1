"""An index over SQL: what is the same whichever engine it is."""

from __future__ import annotations

import itertools
import json
import logging
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, delete, func, or_, select, true
from sqlalchemy.sql.expression import Select

from image_repo.catalogue import Indexed, Page, Row, Statistics, order, places, storing, tally
from image_repo.catalogue.dialect import Dialect
from image_repo.catalogue.holds import project
from image_repo.catalogue.query import Condition, Filter, Path, Query, SortKey
from image_repo.catalogue.words import words_of

_log = logging.getLogger(__name__)
#: how many are counted one by one; from there on an estimate does
MOST_COUNTED = 10_000
#: documents at a time, of those that are gone through
_PAGE = 500
#: rows that are written at a time
_BATCH = 500


class SqlIndex:
    """Implements :class:`image_repo.catalogue.Index` over a :class:`~.dialect.Dialect`.

    :param slow: seconds; what takes longer is told in the log
    """

    def __init__(self, dialect: Dialect, slow: float) -> None:
        self._dialect = dialect
        self._tables = dialect.tables
        self._slow = slow
        self.description = dialect.description
        self.shared = dialect.shared

    # -- writing ---------------------------------------------------------------------------

    def put(self, rows: Iterable[Row]) -> None:
        with self._dialect.writing() as connection:
            waiting = iter(rows)
            while batch := list(itertools.islice(waiting, _BATCH)):
                self._write(connection, {row.name: row for row in batch})

    def _write(self, connection: Connection, rows: dict[str, Row]) -> None:
        documents = self._tables.documents
        known = self._known(connection, list(rows))
        free = (connection.execute(select(func.max(documents.c.id))).scalar() or 0) + 1
        ids = known | dict(zip((name for name in rows if name not in known), itertools.count(free), strict=False))
        written = [
            {
                "id": ids[name],
                "name": name,
                "stamp": row.stamp,
                "digest": row.document.get("sha256") or None,
                "document": storing.dump(row.document),
            }
            for name, row in rows.items()
        ]
        if known:
            connection.execute(delete(documents).where(self._dialect.among(documents.c.id, list(known.values()))))
            self._dialect.drop_words(connection, list(known.values()))
        connection.execute(documents.insert(), written)
        self._dialect.put_words(
            connection, [(ids[name], words_of(row.document)) for name, row in rows.items()], new=True
        )

    def _known(self, connection: Connection, names: Sequence[str]) -> dict[str, int]:
        documents = self._tables.documents
        asked = select(documents.c.name, documents.c.id).where(self._dialect.among(documents.c.name, names))
        return {row.name: row.id for row in connection.execute(asked)}

    def remove(self, names: Iterable[str]) -> int:
        gone = 0
        documents = self._tables.documents
        with self._dialect.writing() as connection:
            waiting = iter(names)
            while batch := list(itertools.islice(waiting, _BATCH)):
                ids = list(self._known(connection, batch).values())
                connection.execute(delete(documents).where(self._dialect.among(documents.c.id, ids)))
                self._dialect.drop_words(connection, ids)
                gone += len(ids)
        return gone

    def clear(self) -> None:
        with self._dialect.writing() as connection:
            self._dialect.empty(connection)

    # -- reading ---------------------------------------------------------------------------

    def page(self, query: Query) -> Page:
        after = None if query.after is None else places.load(query.after, query.order)
        where = self._where(query.filter)
        with self._dialect.reading() as connection:
            count = self._count(connection, where, None if query.exact else MOST_COUNTED + 1)
            found = self._documents(connection, where, query.order, after, query.skip, query.limit + 1)
        told = found[: query.limit]
        more = len(found) > len(told) and told
        return Page(
            [project(document, query.select) for document in told],
            count,
            query.exact or count <= MOST_COUNTED,
            places.dump(places.of(told[-1], query.order), query.order) if more else None,
        )

    def count(self, wanted: Filter) -> int:
        with self._dialect.reading() as connection:
            return self._count(connection, self._where(wanted), None)

    def each(self, wanted: Filter, order: Sequence[SortKey] = ()) -> Iterator[dict[str, Any]]:
        where = self._where(wanted)
        after: places.Place | None = None
        while True:
            with self._dialect.reading() as connection:
                found = self._documents(connection, where, order, after, 0, _PAGE)
            yield from found
            if len(found) < _PAGE:
                return
            after = places.of(found[-1], order)

    def _count(self, connection: Connection, where: ColumnElement[bool], most: int | None) -> int:
        asked = select(self._tables.documents.c.id).where(where).limit(most).subquery()
        return connection.execute(select(func.count()).select_from(asked)).scalar_one()

    def _documents(
        self,
        connection: Connection,
        where: ColumnElement[bool],
        keys: Sequence[SortKey],
        after: places.Place | None,
        skip: int,
        limit: int,
    ) -> list[dict[str, Any]]:
        """Documents that match, in order."""
        documents = self._tables.documents
        asked = select(documents.c.id).where(where)
        if after is not None:
            asked = asked.where(self._behind(keys, after))
        ids = connection.execute(self._in_order(asked, keys).limit(limit).offset(skip)).scalars().all()
        told = select(documents.c.id, documents.c.document).where(self._dialect.among(documents.c.id, ids))
        found = {number: storing.load(text) for number, text in connection.execute(told)}
        return [found[number] for number in ids]

    def _in_order(self, asked: Select[Any], keys: Sequence[SortKey]) -> Select[Any]:
        for key in keys:
            for column in self._sorted_by(key.path):
                asked = asked.order_by(column.desc() if key.descending else column.asc())
        return asked.order_by(self._tables.documents.c.name)

    def _sorted_by(self, path: Path) -> Sequence[ColumnElement[Any]]:
        return self._dialect.sorted_by(storing.members(path))

    def _behind(self, keys: Sequence[SortKey], after: places.Place) -> ColumnElement[bool]:
        """What comes behind a place in an order."""
        behind: ColumnElement[bool] = self._tables.documents.c.name > storing.storable(after.name)
        for key, value in zip(reversed(keys), reversed(after.values), strict=True):
            columns = zip(self._sorted_by(key.path), self._dialect.sorting(value), strict=True)
            for column, bound in reversed(list(columns)):
                further = column < bound if key.descending else column > bound
                behind = or_(further, and_(column == bound, behind))
        return behind

    def _where(self, wanted: Filter) -> ColumnElement[bool]:
        parts = [self._dialect.holds(_storable(condition)) for condition in wanted.conditions]
        name = self._tables.documents.c.name
        if wanted.prefix:
            begin = storing.storable(wanted.prefix)
            parts.append(name >= begin)
            end = _behind_all(begin)
            parts.append(name < end if end else true())
        if wanted.words:
            parts.append(self._dialect.has_words(wanted.words))
        return and_(true(), *parts)

    # -- single things ---------------------------------------------------------------------

    def statistics(self, wanted: Filter, path: Path, most: int = 1_000) -> Statistics:
        groups: Counter[tally.Group] = Counter()
        count = 0
        there = Condition(path, "exists", (True,))
        for document in self.each(Filter((*wanted.conditions, there), wanted.prefix, wanted.words)):
            groups.update(filter(None, map(tally.group_of, order.reached(document, path))))
            count += 1
        return tally.statistics(groups, count, most)

    def named_by(self, sha256: str) -> list[str]:
        documents = self._tables.documents
        with self._dialect.reading() as connection:
            asked = select(documents.c.name).where(documents.c.digest == storing.storable(sha256))
            return list(connection.execute(asked.order_by(documents.c.name)).scalars())

    def stamps(self, names: Collection[str]) -> dict[str, str]:
        documents = self._tables.documents
        asked = select(documents.c.name, documents.c.stamp)
        with self._dialect.reading() as connection:
            found = connection.execute(asked.where(self._dialect.among(documents.c.name, list(names))))
            return {row.name: row.stamp for row in found}

    def names(self, after: str = "", limit: int = 1_000) -> list[str]:
        name = self._tables.documents.c.name
        with self._dialect.reading() as connection:
            asked = select(name).where(name > storing.storable(after)).order_by(name).limit(limit)
            return list(connection.execute(asked).scalars())

    def indexed(self) -> list[Indexed]:
        keys = self._tables.keys
        with self._dialect.reading() as connection:
            found = connection.execute(select(keys.c.path, keys.c.sort).order_by(keys.c.id))
            return [_indexed(path, sort) for path, sort in found]

    def add_index(self, key: Indexed) -> None:
        keys = self._tables.keys
        with self._dialect.writing() as connection:
            if not connection.execute(select(keys.c.id).where(self._is(key))).first():
                free = (connection.execute(select(func.max(keys.c.id))).scalar() or 0) + 1
                path, sort = _written(key)
                connection.execute(keys.insert().values(id=free, path=path, sort=sort, several=False))

    def drop_index(self, key: Indexed) -> bool:
        with self._dialect.writing() as connection:
            return connection.execute(delete(self._tables.keys).where(self._is(key))).rowcount > 0

    def _is(self, key: Indexed) -> ColumnElement[bool]:
        keys = self._tables.keys
        path, sort = _written(key)
        return and_(keys.c.path == path, keys.c.sort.is_(None) if sort is None else keys.c.sort == sort)

    def note(self, what: str) -> str | None:
        notes = self._tables.notes
        with self._dialect.reading() as connection:
            return connection.execute(select(notes.c.text).where(notes.c.what == what)).scalar()

    def keep_note(self, what: str, text: str | None) -> None:
        notes = self._tables.notes
        with self._dialect.writing() as connection:
            connection.execute(delete(notes).where(notes.c.what == what))
            if text is not None:
                connection.execute(notes.insert().values(what=what, text=text))

    def check(self) -> None:
        self._dialect.check()

    def close(self) -> None:
        self._dialect.close()


def _storable(condition: Condition) -> Condition:
    """A condition as it is asked of what is kept."""
    values = tuple(storing.storable(value) if isinstance(value, str) else value for value in condition.values)
    return Condition(storing.members(condition.path), condition.op, values, condition.test)


def _written(key: Indexed) -> tuple[str, str | None]:
    return json.dumps(key.path), None if key.sort is None else json.dumps(key.sort)


def _indexed(path: str, sort: str | None) -> Indexed:
    return Indexed(tuple(json.loads(path)), None if sort is None else tuple(json.loads(sort)))


def _behind_all(prefix: str) -> str | None:
    """The least text behind all that begin so; None where there is none."""
    bare = prefix.rstrip("\U0010ffff")
    if not bare:
        return None
    last = ord(bare[-1]) + 1
    return bare[:-1] + chr(0xE000 if last == 0xD800 else last)
