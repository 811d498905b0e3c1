"""Writes to an index: rows, and the indexed keys. One writer at a time."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Connection, and_, bindparam, delete, func, select, update

from image_repo.catalogue import encoding
from image_repo.catalogue.base import Indexed, KeyUsage, Row
from image_repo.catalogue.dialect import Dialect
from image_repo.catalogue.key_usage import ANY, KeyType, key_types, usages
from image_repo.catalogue.near import BANDS_PATH
from image_repo.catalogue.query import Path
from image_repo.catalogue.sort_keys import Fact, Key, facts_of, has_several
from image_repo.catalogue.tokenizer import words_of

#: rows written at a time
_BATCH = 500
#: documents whose facts are written at a time: others write in between
_FILL = 4_000
#: the key that is always indexed: the time of the upload
UPLOADED = ("uploaded",)
#: of a path that is counted
_MAX_PATH_BYTES = 2_000
#: in place of the path of a key that is being dropped
_GONE = ""


#: returns whether a row replaces the one that has this stamp
Over = Callable[[str, Row], bool]


class _Old(NamedTuple):
    """A row that is there."""

    id: int
    stamp: str
    document: Any


class Writer:
    """Writes by :class:`~.dialect.Dialect`."""

    def __init__(self, dialect: Dialect) -> None:
        self._dialect = dialect
        self._tables = dialect.tables

    # -- rows ------------------------------------------------------------------------------

    def put(self, rows: Iterable[Row], over: Over | None = None) -> None:
        with self._dialect.writing() as connection:
            keys: Sequence[Key] = all_keys(connection, self._dialect, filled=False)
            waiting = iter(rows)
            while batch := {row.name: row for row in itertools.islice(waiting, _BATCH)}:
                old = self._old(connection, list(batch))
                if over:
                    batch = {name: row for name, row in batch.items() if name in old and over(old[name].stamp, row)}
                    old = {name: old[name] for name in batch}
                keys = self._put(connection, batch, old, keys) if batch else keys

    def remove(self, names: Iterable[str]) -> int:
        gone = 0
        documents = self._tables.documents
        with self._dialect.writing() as connection:
            keys = all_keys(connection, self._dialect, filled=False)
            waiting = iter(names)
            while batch := list(itertools.islice(waiting, _BATCH)):
                old = self._old(connection, batch)
                ids = [each.id for each in old.values()]
                facts = [(*fact, name) for name, each in old.items() for fact in facts_of(each.document, keys)]
                self._dialect.drop_facts(connection, facts)
                self._dialect.drop_words(connection, ids)
                connection.execute(delete(documents).where(self._dialect.among(documents.c.id, ids)))
                self._count_keys(connection, [], [each.document for each in old.values()])
                gone += len(ids)
        return gone

    def _put(
        self, connection: Connection, rows: dict[str, Row], old: dict[str, _Old], keys: Sequence[Key]
    ) -> Sequence[Key]:
        """Write rows, and return the keys as they are afterwards."""
        documents = self._tables.documents
        free = itertools.count((connection.execute(select(func.max(documents.c.id))).scalar() or 0) + 1)
        new: list[dict[str, Any]] = []
        changed: list[dict[str, Any]] = []
        there = {}
        for name, row in rows.items():
            text = encoding.dump(row.document)
            there[name] = encoding.decode(text)
            values = {"stamp": row.stamp, "digest": _digest(row), "document": text}
            if self._tables.respells:
                values["as_written"] = text if encoding.is_respelled(text) else None
            if name in old:
                changed.append({"number": old[name].id, **values})
            else:
                new.append({"id": next(free), "name": name, **values})
        if new:
            connection.execute(documents.insert(), new)
        if changed:
            changing = update(documents).where(documents.c.id == bindparam("number"))
            connection.execute(
                changing.values(**{name: bindparam(name) for name in changed[0] if name != "number"}), changed
            )
        self._put_words(connection, rows, old, {row["name"]: row["id"] for row in new})
        self._put_facts(connection, there, old, keys)
        self._count_keys(connection, there.values(), [each.document for each in old.values()])
        return self._notice_several(connection, there.values(), keys)

    def _old(self, connection: Connection, names: Sequence[str]) -> dict[str, _Old]:
        documents = self._tables.documents
        query = select(documents.c.name, documents.c.id, documents.c.stamp, self._tables.written)
        rows = connection.execute(query.where(self._dialect.among(documents.c.name, names)))
        return {name: _Old(number, stamp, encoding.decode(text)) for name, number, stamp, text in rows}

    def _put_words(
        self, connection: Connection, rows: dict[str, Row], old: dict[str, _Old], new: dict[str, int]
    ) -> None:
        words = {name: words_of(row.document) for name, row in rows.items()}
        changed = {
            each.id: words[name] for name, each in old.items() if set(words_of(each.document)) != set(words[name])
        }
        if changed:
            self._dialect.drop_words(connection, list(changed))
        self._dialect.put_words(connection, {**changed, **{number: words[name] for name, number in new.items()}})

    def _put_facts(
        self, connection: Connection, there: dict[str, Any], old: dict[str, _Old], keys: Sequence[Key]
    ) -> None:
        gone: list[tuple[int, bytes, bytes, str]] = []
        new: list[tuple[int, bytes, bytes, str]] = []
        for name, document in there.items():
            facts = facts_of(document, keys)
            before: set[Fact] = facts_of(old[name].document, keys) if name in old else set()
            gone += [(*fact, name) for fact in before - facts]
            new += [(*fact, name) for fact in facts - before]
        self._dialect.drop_facts(connection, gone)
        self._dialect.put_facts(connection, new)

    def _count_keys(self, connection: Connection, there: Iterable[Any], old: Iterable[Any]) -> None:
        """Count the keys of documents that come, and no longer those of documents that go."""
        difference: Counter[KeyType] = Counter()
        for document in there:
            difference.update(key_types(document))
        for document in old:
            difference.subtract(key_types(document))
        written = {path: _write_stored(path) for path, _ in difference}
        changes = [(written[path], type_, change) for (path, type_), change in difference.items() if change]
        self._dialect.add_uses(connection, [change for change in changes if is_counted(change[0])])

    def _notice_several(self, connection: Connection, documents: Iterable[Any], keys: Sequence[Key]) -> Sequence[Key]:
        """Note permanently which keys lead to arrays."""
        all_there = list(documents)
        numbers = [key.number for key in keys if not key.several and any(has_several(each, key) for each in all_there)]
        if not numbers:
            return keys
        table = self._tables.keys
        connection.execute(update(table).where(self._dialect.among(table.c.id, numbers)).values(several=True))
        return [replace(key, several=key.several or key.number in numbers) for key in keys]

    # -- keys ------------------------------------------------------------------------------

    def add_index(self, key: Indexed) -> None:
        with self._dialect.writing() as connection:
            self._add(connection, key)
        while self._fill(key):
            pass

    def drop_index(self, key: Indexed) -> bool:
        keys = self._tables.keys
        with self._dialect.writing() as connection:
            number = connection.execute(select(keys.c.id).where(self._is(key))).scalar()
            if number is not None:
                connection.execute(update(keys).where(keys.c.id == number).values(path=_GONE))
        while self._sweep():
            pass
        return number is not None

    def _add(self, connection: Connection, key: Indexed) -> None:
        keys = self._tables.keys
        if connection.execute(select(keys.c.id).where(self._is(key))).first():
            return
        free = (connection.execute(select(func.max(keys.c.id))).scalar() or 0) + 1
        path, sort = _written(key)
        connection.execute(keys.insert().values(id=free, path=path, sort=sort, filled=0, several=False))

    def _fill(self, key: Indexed) -> bool:
        """Write some more facts of a key; return False when all are written. An interrupted call goes on from there."""
        keys, documents = self._tables.keys, self._tables.documents
        with self._dialect.writing() as connection:
            row = connection.execute(select(keys).where(self._is(key))).first()
            if row is None or row.filled is None:
                return False
            query = select(documents.c.id, documents.c.name, self._tables.written).where(documents.c.id > row.filled)
            rows = connection.execute(query.order_by(documents.c.id).limit(_FILL)).all()
            filled = Key(row.id, *_paths(row.path, row.sort), row.several)
            there = [(name, encoding.decode(text)) for _, name, text in rows]
            facts = [(*fact, name) for name, document in there for fact in facts_of(document, [filled])]
            self._dialect.put_facts(connection, facts)
            self._notice_several(connection, [document for _, document in there], [filled])
            last = rows[-1].id if len(rows) == _FILL else None
            connection.execute(update(keys).where(keys.c.id == row.id).values(filled=last))
            return last is not None

    def _sweep(self) -> bool:
        """Delete some facts of a dropped key; return False when none is left."""
        keys, facts = self._tables.keys, self._tables.facts
        with self._dialect.writing() as connection:
            number = connection.execute(select(keys.c.id).where(keys.c.path == _GONE).limit(1)).scalar()
            if number is None:
                return False
            query = select(facts).where(facts.c.key == number).order_by(*facts.primary_key).limit(10 * _BATCH)
            rows = [tuple(row) for row in connection.execute(query)]
            self._dialect.drop_facts(connection, rows)
            if not rows:
                connection.execute(delete(keys).where(keys.c.id == number))
            return True

    def _is(self, key: Indexed) -> ColumnElement[bool]:
        keys = self._tables.keys
        path, sort = _written(key)
        same_sort = keys.c.sort.is_(None) if sort is None else keys.c.sort == sort
        return and_(keys.c.path == path, same_sort, keys.c.id > 0)


def first_keys() -> list[dict[str, Any]]:
    """Return the rows of the keys that are always indexed."""
    return [
        {"id": -number, "path": _write(path), "sort": None, "filled": None, "several": False}
        for number, path in enumerate((UPLOADED, BANDS_PATH))
    ]


def all_keys(connection: Connection, dialect: Dialect, *, filled: bool) -> list[Key]:
    """Return the indexed keys.

    :param filled: only those under which all facts are there
    """
    keys = dialect.tables.keys
    query = select(keys).where(keys.c.path != _GONE).order_by(keys.c.id)
    rows = connection.execute(query.where(keys.c.filled.is_(None)) if filled else query)
    return [Key(row.id, *_paths(row.path, row.sort), row.several) for row in rows]


def indexed(connection: Connection, dialect: Dialect) -> list[Indexed]:
    """Return the keys as :meth:`image_repo.catalogue.base.Index.indexed` says."""
    keys = [key for key in all_keys(connection, dialect, filled=True) if key.number > 0]
    return [
        Indexed(encoding.original_members(key.path), key.sort and encoding.original_members(key.sort)) for key in keys
    ]


def _digest(row: Row) -> str | None:
    digest = row.document.get("sha256")
    return encoding.storable(digest) if isinstance(digest, str) and digest else None


def _written(key: Indexed) -> tuple[str, str | None]:
    """Return the paths of a key as they are stored: JSON of stored members."""
    return _write(key.path), None if key.sort is None else _write(key.sort)


def _write(path: Path) -> str:
    return _write_stored(encoding.members(path))


def _write_stored(path: Path) -> str:
    return json.dumps(path, ensure_ascii=False)


def is_counted(path: str) -> bool:
    """Return whether a stored path is short enough to be counted: PostgreSQL indexes no more than 2,700 bytes."""
    return len(path.encode()) <= _MAX_PATH_BYTES


def missing_keys(connection: Connection, dialect: Dialect, paths: Collection[Path]) -> list[Path]:
    """Return what :meth:`image_repo.catalogue.base.Index.missing_keys` says."""
    table = dialect.tables.paths
    written = {path: text for path in paths if is_counted(text := _write(path))}
    query = select(table.c.path).where(dialect.among(table.c.path, list(written.values())), table.c.type == ANY)
    there = set(connection.execute(query).scalars()) if written else set()
    return [path for path, text in written.items() if text not in there]


def counted_keys(connection: Connection, dialect: Dialect, most: int) -> tuple[list[KeyUsage], int]:
    """Return what :meth:`image_repo.catalogue.base.Index.keys` says."""
    table = dialect.tables.paths
    query = select(table.c.path).where(table.c.type == ANY).order_by(table.c.uses.desc(), table.c.path)
    first = list(connection.execute(query.limit(most)).scalars())
    total = connection.execute(select(func.count()).select_from(table).where(table.c.type == ANY)).scalar_one()
    rows = connection.execute(select(table).where(dialect.among(table.c.path, first)))
    return usages({(encoding.original_members(json.loads(row.path)), row.type): row.uses for row in rows}), total


def _paths(path: str, sort: str | None) -> tuple[Path, Path | None]:
    return tuple(json.loads(path)), None if sort is None else tuple(json.loads(sort))
