"""SQLite: the index of one node, in a file. Several processes may read and write it."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path as File
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.sqlite import dialect as sqlite_spelling
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.pool import QueuePool
from sqlalchemy.schema import CreateIndex, CreateTable
from sqlalchemy.sql.selectable import Join

from image_repo.catalogue.dialect import EnginePool
from image_repo.catalogue.sqlite_json import SqliteJson
from image_repo.catalogue.tables import MADE, VERSION, Json, Tables
from image_repo.catalogue.writing import first_keys
from image_repo.concurrency import deadline
from image_repo.concurrency.locks import try_lock, wait_for
from image_repo.concurrency.shared_file import identity
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
#: for another writer
_LOCK_TIMEOUT_S = 5.0
#: steps of SQLite's machine between two looks at the clock: some hundredths of a second
_STEPS = 200_000
#: page cache of a connection, in KiB
_CACHE = 16_384
#: result codes (sqlite.org/rescode.html) after which the file is unusable
_DAMAGED = (11, 26)

_NOT_PLAIN = re.compile("[^a-y0-9]")
_DIALECT = sqlite_spelling(paramstyle="named")


class SqliteDialect(SqliteJson):
    """Implements :class:`~.dialect.Dialect`.

    :param path: of the file; made with its folder, private to this user
    :param scope: of the index; one of another scope starts empty
    :param timeout: seconds that a query may take
    """

    shared = False
    texts = None

    def __init__(self, path: File, *, collection: str, scope: str, timeout: float, connections: int) -> None:
        self.description = f"SQLite in {path}"
        kind = Json("BLOB", "jsonb", sa.func.json) if _HAS_JSONB else Json("TEXT", None, lambda column: column + "")
        super().__init__(Tables(collection, None, kind, sa.Text()))
        self._collection = collection
        self._path = path
        self._scope = scope
        self._timeout = timeout
        self._patience = min(timeout, _LOCK_TIMEOUT_S)
        self._connections = connections
        self._pool = EnginePool(self._make_engine)
        self._damaged = False
        self._words = f"{collection}_words"
        facts = self.tables.facts.name
        self._insert_facts = f"INSERT OR IGNORE INTO {facts} (key, value, sort, name) VALUES (?, ?, ?, ?)"  # noqa: S608
        self._delete_facts = f"DELETE FROM {facts} WHERE key = ? AND value = ? AND sort = ? AND name = ?"  # noqa: S608
        paths = self.tables.paths.name
        self._add_uses = (
            f"INSERT INTO {paths} AS present (path, type, uses) VALUES (?, ?, ?) "  # noqa: S608
            "ON CONFLICT (path, type) DO UPDATE SET uses = present.uses + excluded.uses"
        )
        self._drop_unused = f"DELETE FROM {paths} WHERE path = ? AND type = ? AND uses <= 0"  # noqa: S608
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
        if identity(self._path) != connection.of:
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
        connection.of = identity(self._path)
        connection.set_progress_handler(lambda: time.monotonic() > connection.until, _STEPS)
        connection.create_function("image_repo_finds", 2, self.finds, deterministic=True)
        connection.execute(f"PRAGMA cache_size = {-_CACHE}")
        with self._alone():
            expression = "wal" if _WAL_IS_SAFE else "delete"
            if connection.execute("PRAGMA journal_mode").fetchone()[0] != expression:
                connection.execute(f"PRAGMA journal_mode = {expression}")
            connection.execute("PRAGMA synchronous = NORMAL")
            self._make_tables(connection)

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
        layout = f"{VERSION} {_HAS_JSONB} {_FORGETS_WORDS} {self._scope}"
        if self._found(connection) == layout:
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
            connection.execute(_spelled(self.tables.notes.insert()), {"what": MADE, "text": layout})
            for key in first_keys():
                connection.execute(_spelled(self.tables.keys.insert()), key)
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
            _spelled(sa.select(notes.c.text).where(notes.c.what == sa.bindparam("what"))), {"what": MADE}
        )
        row = cursor.fetchone()
        return row[0] if row else None

    def settle(self) -> None:
        """Do nothing: SQLite needs no vacuum here."""

    def empty(self, connection: sa.Connection) -> None:
        self.tables.empty(connection, self._words_table)

    # -- words -----------------------------------------------------------------------------

    def has_words(self, words: Sequence[str]) -> sa.ColumnElement[bool]:
        expression = " AND ".join(f'"{_word(word)}"*' for word in words)
        matches = sa.select(self._words_table.c.rowid).where(sa.literal_column(self._words).op("MATCH")(expression))
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

    def add_uses(self, connection: sa.Connection, changes: Sequence[tuple[str, str, int]]) -> None:
        if changes:
            connection.exec_driver_sql(self._add_uses, sorted(changes))
        fewer = [(path, type_) for path, type_, change in changes if change < 0]
        if fewer:
            connection.exec_driver_sql(self._drop_unused, fewer)

    def along(self, outer: sa.FromClause, inner: sa.FromClause, on: sa.ColumnElement[bool]) -> sa.FromClause:
        return _CrossJoin(outer, inner, on)

    def among(self, column: sa.ColumnElement[Any], values: Sequence[Any]) -> sa.ColumnElement[bool]:
        each = sa.func.json_each(json.dumps(values)).table_valued("value")
        return column.in_(sa.select(each.c.value))

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
