"""SQLite: the index of one node, in a file. Several processes may read and write it."""

from __future__ import annotations

import contextlib
import json
import logging
import operator
import os
import re
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path as File
from typing import Any
from weakref import WeakValueDictionary

import sqlalchemy as sa
from sqlalchemy.dialects.sqlite import dialect as sqlite_spelling
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.pool import QueuePool
from sqlalchemy.schema import CreateIndex, CreateTable
from sqlalchemy.sql.selectable import Join, TableValuedAlias
from sqlalchemy.types import NullType

from image_repo.catalogue import collation, encoding
from image_repo.catalogue.dialect import EnginePool
from image_repo.catalogue.evaluator import holds
from image_repo.catalogue.facets import Tally
from image_repo.catalogue.query import Condition, Filter, Path
from image_repo.catalogue.tables import VERSION, Json, Tables
from image_repo.catalogue.writing import first_key
from image_repo.concurrency import deadline
from image_repo.concurrency.locks import try_lock, wait_for
from image_repo.errors import CatalogueUnavailable, QueryTooSlow

try:  # Debian's SQLite is older than 3.51.3
    from pysqlite3 import dbapi2 as driver  # type: ignore[import-untyped]
except ImportError:
    driver = sqlite3

_log = logging.getLogger(__name__)

#: of :data:`driver`
_RELEASE: tuple[int, ...] = driver.sqlite_version_info
#: before it, two connections that write to a WAL at once can damage the file (sqlite.org/wal.html#walresetbug)
_WAL_IS_SAFE = _RELEASE >= (3, 51, 3)
#: documents are stored parsed (sqlite.org/jsonb.html)
_HAS_JSONB = _RELEASE >= (3, 45)
#: words can be stored without their text, and still be deleted
_FORGETS_WORDS = _RELEASE >= (3, 43)
#: seconds that a writer waits for another
_PATIENCE = 5.0
#: steps of SQLite's machine between two looks at the clock: some hundredths of a second
_STEPS = 200_000
#: page cache of a connection, in KiB
_CACHE = 16_384
#: result codes (sqlite.org/rescode.html) after which the file is of no use
_DAMAGED = (11, 26)

_NUMBERS = ("integer", "real")
#: in place of a value, which is JSON: there is one perhaps, below an array
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
_NOT_PLAIN = re.compile("[^a-y0-9]")
_DIALECT = sqlite_spelling(paramstyle="named")
#: the note that describes the tables
_MADE = ""


class SqliteDialect:
    """Implements :class:`~.dialect.Dialect`.

    :param path: of the file; made with its folder, for nobody else
    :param scope: what the index is of: one of something else starts empty
    :param timeout: seconds that a query may take
    """

    shared = False
    texts = None

    def __init__(self, path: File, *, collection: str, scope: str, timeout: float, connections: int) -> None:
        self.description = f"SQLite in {path}"
        kind = Json("BLOB", "jsonb", sa.func.json) if _HAS_JSONB else Json("TEXT", None, lambda column: column + "")
        self.tables = Tables(collection, None, kind, sa.Text())
        self._collection = collection
        self._path = path
        self._scope = scope
        self._timeout = timeout
        self._patience = min(timeout, _PATIENCE)
        self._connections = connections
        self._tests: WeakValueDictionary[int, Any] = WeakValueDictionary()
        self._pool = EnginePool(self._make_engine)
        self._damaged = False
        self._words = f"{collection}_words"
        facts = self.tables.facts.name
        self._insert_facts = f"INSERT OR IGNORE INTO {facts} (key, value, sort, name) VALUES (?, ?, ?, ?)"  # noqa: S608
        self._delete_facts = f"DELETE FROM {facts} WHERE key = ? AND value = ? AND sort = ? AND name = ?"  # noqa: S608
        self._words_table = sa.table(self._words, sa.column("rowid"), sa.column("words"))

    # -- connections -----------------------------------------------------------------------

    @contextlib.contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        with self._asking(), self._pool.get().connect() as connection:
            yield connection

    @contextlib.contextmanager
    def writing(self) -> Iterator[sa.Connection]:
        with self._asking(), self._pool.get().connect() as connection:
            connection.execution_options(image_repo_writes=True)
            with connection.begin():
                yield connection

    @contextlib.contextmanager
    def _asking(self) -> Iterator[None]:
        try:
            yield
        except sa.exc.TimeoutError as error:
            raise CatalogueUnavailable("All connections to the catalogue are in use.") from error
        except sa.exc.DBAPIError as error:
            self._tell(error.orig)
            raise self._translated(error) from error
        except OSError as error:
            raise CatalogueUnavailable from error

    def _translated(self, error: sa.exc.DBAPIError) -> Exception:
        if "interrupted" in str(error.orig):
            return QueryTooSlow(f"It would take longer than the {self._timeout:g} seconds that a query may take.")
        return CatalogueUnavailable()

    def _tell(self, error: BaseException | None) -> None:
        """Remember that the file is damaged: the next check makes a new one."""
        self._damaged |= (getattr(error, "sqlite_errorcode", 0) & 0xFF) in _DAMAGED

    def _make_engine(self) -> sa.Engine:
        engine = sa.create_engine(
            "sqlite://",
            module=driver,
            creator=self._connect,
            poolclass=QueuePool,
            enable_from_linting=False,
            pool_size=self._connections,
            max_overflow=0,
            pool_timeout=self._patience,
        )
        sa.event.listen(engine, "begin", _begin)
        sa.event.listen(engine, "checkout", self._look)
        return engine

    def _look(self, connection: Any, *_: Any) -> None:
        """Refuse a connection whose file was replaced, and begin the time of its query."""
        if _identity(self._path) != connection.of:
            raise sa.exc.DisconnectionError
        connection.until = time.monotonic() + self._timeout

    def _connect(self) -> Any:
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            os.close(os.open(self._path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
        connection = driver.connect(
            str(self._path),
            timeout=self._patience,
            isolation_level=None,
            check_same_thread=False,
            factory=_Connection,
        )
        try:
            self._prepare(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _prepare(self, connection: Any) -> None:
        connection.of = _identity(self._path)
        connection.set_progress_handler(lambda: time.monotonic() > connection.until, _STEPS)
        connection.create_function("image_repo_finds", 2, self._finds, deterministic=True)
        connection.execute(f"PRAGMA cache_size = {-_CACHE}")
        with self._alone():
            wanted = "wal" if _WAL_IS_SAFE else "delete"
            if connection.execute("PRAGMA journal_mode").fetchone()[0] != wanted:
                connection.execute(f"PRAGMA journal_mode = {wanted}")
            connection.execute("PRAGMA synchronous = NORMAL")
            self._make_tables(connection)

    def _finds(self, number: int, text: Any) -> bool:
        test = self._tests.get(number)
        return isinstance(text, str) and test is not None and test(text)

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """Hold the file for one process of the machine at a time."""
        path = self._path.with_name(self._path.name + ".lock")
        handle = wait_for(lambda: try_lock(path), deadline.until(self._patience))
        if handle is None:
            raise BlockingIOError(f"{path} is locked for too long")
        try:
            yield
        finally:
            os.close(handle)

    # -- tables ----------------------------------------------------------------------------

    def _make_tables(self, connection: Any) -> None:
        """Make what is missing; drop what is of another version or scope."""
        made = f"{VERSION} {_HAS_JSONB} {_FORGETS_WORDS} {self._scope}"
        if self._found(connection) == made:
            return
        connection.execute("BEGIN IMMEDIATE")
        try:
            for name in (*self.tables.metadata.tables, self._words):
                connection.execute(f"DROP TABLE IF EXISTS {name}")
            for made_of in self.tables.metadata.sorted_tables:
                connection.execute(_spelled(CreateTable(made_of)))
                for index in made_of.indexes:
                    connection.execute(_spelled(CreateIndex(index)))
            without_text = "content='', contentless_delete=1, " if _FORGETS_WORDS else ""
            connection.execute(
                f"CREATE VIRTUAL TABLE {self._words} USING fts5(words, {without_text}detail=none, tokenize='ascii')"
            )
            connection.execute(_spelled(self.tables.notes.insert()), {"what": _MADE, "text": made})
            connection.execute(_spelled(self.tables.keys.insert()), first_key())
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise

    def _found(self, connection: Any) -> str | None:
        """Return what the tables describe themselves as; None where there are none."""
        notes = self.tables.notes
        if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = ?", (notes.name,)).fetchone():
            return None
        cursor = connection.execute(
            _spelled(sa.select(notes.c.text).where(notes.c.what == sa.bindparam("what"))), {"what": _MADE}
        )
        row = cursor.fetchone()
        return row[0] if row else None

    def settle(self) -> None:
        """Do nothing: SQLite needs no vacuum here."""

    def empty(self, connection: sa.Connection) -> None:
        notes = self.tables.notes
        for emptied in (self.tables.documents, self.tables.facts, self._words_table):
            connection.execute(sa.delete(emptied))
        connection.execute(sa.delete(notes).where(notes.c.what != _MADE))
        connection.execute(sa.update(self.tables.keys).values(filled=None, several=False))

    # -- words -----------------------------------------------------------------------------

    def has_words(self, words: Sequence[str]) -> sa.ColumnElement[bool]:
        wanted = " AND ".join(f'"{_word(word)}"*' for word in words)
        matches = sa.select(self._words_table.c.rowid).where(sa.literal_column(self._words).op("MATCH")(wanted))
        return self.tables.documents.c.id.in_(matches)

    def put_words(self, connection: sa.Connection, words: Mapping[int, Sequence[str]]) -> None:
        rows = [{"rowid": number, "words": " ".join(map(_word, of_row))} for number, of_row in words.items()]
        if rows:
            connection.execute(self._words_table.insert(), rows)

    def drop_words(self, connection: sa.Connection, ids: Sequence[int]) -> None:
        if ids:
            connection.execute(sa.delete(self._words_table).where(self.among(self._words_table.c.rowid, ids)))

    # -- facts -----------------------------------------------------------------------------

    def put_facts(self, connection: sa.Connection, facts: Sequence[Sequence[Any]]) -> None:
        if facts:
            connection.exec_driver_sql(self._insert_facts, sorted(map(tuple, facts)))

    def drop_facts(self, connection: sa.Connection, facts: Sequence[Sequence[Any]]) -> None:
        if facts:
            connection.exec_driver_sql(self._delete_facts, sorted(map(tuple, facts)))

    def along(self, outer: sa.FromClause, inner: sa.FromClause, on: sa.ColumnElement[bool]) -> sa.FromClause:
        return _CrossJoin(outer, inner, on)

    def among(self, column: sa.ColumnElement[Any], values: Sequence[Any]) -> sa.ColumnElement[bool]:
        each = sa.func.json_each(json.dumps(values)).table_valued("value")
        return column.in_(sa.select(each.c.value))

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
            # of empty bytes SQLite takes null
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
        spot = _Spot(self.tables.documents.c.document, condition.path)
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
        # SQLite groups by sorting, in memory: what is few and comes often is counted faster here.
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

    # -- health ----------------------------------------------------------------------------

    def engine(self, connection: sa.Connection) -> tuple[str, int]:
        pages, size = (
            connection.exec_driver_sql(f"PRAGMA {what}").scalar_one() for what in ("page_count", "page_size")
        )
        return f"SQLite {driver.sqlite_version}", pages * size

    def check(self) -> None:
        if self._is_damaged():
            self._move_aside()
        with self.reading() as connection:
            connection.execute(sa.select(sa.literal(1)))

    def _is_damaged(self) -> bool:
        """Return whether the file is unusable. In a file too large for the check, damage is found by queries."""
        try:
            with self.reading() as connection:
                verdict = connection.exec_driver_sql("PRAGMA quick_check(1)").scalar()
        except QueryTooSlow:
            return self._damaged
        except CatalogueUnavailable:
            if not self._damaged:
                raise
            return True
        return self._damaged or verdict != "ok"

    def _move_aside(self) -> None:
        _log.error("The catalogue %s is damaged: it is moved aside, and made again", self._path)
        with self._alone():
            for ending in ("-wal", "-shm", "-journal", ""):
                file = self._path.with_name(self._path.name + ending)
                with contextlib.suppress(FileNotFoundError):
                    file.replace(self._path.with_name(self._path.name + ".damaged" + ending))
        self._damaged = False

    def close(self) -> None:
        self._pool.close()


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
        document = encoding.kept(text)
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
        wanted = sorted(map(collation.double, numbers))
        choices |= {kind: _among(number, wanted, condition) for kind in _NUMBERS}
    if texts:
        choices["text"] = _among(text, texts, condition)
    return choices


def _among(value: sa.ColumnElement[Any], wanted: Sequence[Any], condition: Condition) -> sa.ColumnElement[bool]:
    one = value == wanted[0] if len(wanted) == 1 else value.in_(wanted)
    return sa.not_(one) if condition.op == "ne" else one


def _spell(path: Path) -> str:
    """Return a path of JSON1; members hold no quotes (:func:`.encoding.members`)."""
    return "$" + "".join(f'."{member}"' for member in path)


def _spelled(statement: Any) -> str:
    return str(statement.compile(dialect=_DIALECT))


def _word(word: str) -> str:
    """Return a word in letters that FTS5 does not split; prefixes stay prefixes."""
    return _NOT_PLAIN.sub(lambda match: f"z{ord(match[0]):06x}", word)


class _CrossJoin(Join):
    """A join in the order in which it is written (sqlite.org/optoverview.html, section 7.4)."""

    inherit_cache = True


@compiles(_CrossJoin, "sqlite")
def _cross_join(join: _CrossJoin, compiler: Any, **options: Any) -> str:
    left, right, on = (compiler.process(part, **options) for part in (join.left, join.right, join.onclause))
    return f"{left} CROSS JOIN {right} ON {on}"


class _Connection(driver.Connection):  # type: ignore[misc]
    """A connection with the identity of its file and the deadline of its query."""

    of: tuple[int, int] | None = None
    until = float("inf")


def _begin(connection: sa.Connection) -> None:
    writes = connection.get_execution_options().get("image_repo_writes", False)
    if writes and connection.connection.dbapi_connection:
        connection.connection.dbapi_connection.until = float("inf")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _identity(path: File) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return status.st_dev, status.st_ino
