"""PostgreSQL: an index that the nodes of a repository share."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import TSQUERY, TSVECTOR
from sqlalchemy.engine import URL
from sqlalchemy.pool import QueuePool
from sqlalchemy.schema import CreateSchema

from image_repo.catalogue.dialect import EnginePool
from image_repo.catalogue.postgres_json import PostgresJson
from image_repo.catalogue.tables import MADE, VERSION, Json, Tables
from image_repo.catalogue.watchdog import Watchdog
from image_repo.catalogue.writing import first_keys
from image_repo.errors import CatalogueUnavailable, ConfigurationError, QueryTooSlow

_log = logging.getLogger(__name__)

#: for another writer, and for a connection
_LOCK_TIMEOUT_S = 5.0
#: seconds after which an idle connection is tested first
_IDLE_S = 30.0
#: codes of errors (postgresql.org/docs/current/errcodes-appendix.html)
_TOO_SLOW, _GONE = "57014", ("42P01", "3F000")


class PostgresDialect(PostgresJson):
    """Implements :class:`~.dialect.Dialect`. What belongs to one scope is in a schema of its own.

    :param url: with user and password
    :param timeout: seconds that a query may take
    :raises ConfigurationError: when psycopg is not installed
    """

    shared = True

    def __init__(self, url: URL, *, collection: str, scope: str, timeout: float, connections: int) -> None:
        try:
            import psycopg  # noqa: F401, PLC0415, an extra
        except ImportError as error:
            raise ConfigurationError(
                ["catalogue.url: PostgreSQL needs psycopg: pip install 'image_repo[postgres]'"]
            ) from error
        self._url = url.set(drivername="postgresql+psycopg")
        self._schema = f"image_repo_{hashlib.sha256(scope.encode()).hexdigest()[:16]}"
        self.description = f"PostgreSQL at {url.host or 'a local socket'}"
        kind = Json("JSONB", None, lambda column: sa.cast(column, sa.Text), respells=True)
        super().__init__(Tables(collection, self._schema, kind, sa.Text(collation="C")))
        self._words = sa.Table(
            f"{collection}_words",
            self.tables.metadata,
            sa.Column("id", sa.BigInteger, primary_key=True, autoincrement=False),
            sa.Column("words", TSVECTOR, nullable=False),
        )
        sa.Index(f"{collection}_words_words", self._words.c.words, postgresql_using="gin")
        self._timeout = timeout
        self._patience = min(timeout * 0.8, _LOCK_TIMEOUT_S)
        self._connections = connections
        self._pool = EnginePool(self._make_engine)
        self._there = False
        self._waits = Watchdog(2 * timeout + self._patience)
        facts = f'"{self._schema}".{self.tables.facts.name}'
        rows = "unnest(%s::int[], %s::bytea[], %s::bytea[], %s::text[])"
        self._insert_facts = f"INSERT INTO {facts} (key, value, sort, name) SELECT * FROM {rows} ON CONFLICT DO NOTHING"  # noqa: S608
        self._delete_facts = (
            f"DELETE FROM {facts} f USING {rows} AS g (key, value, sort, name) "  # noqa: S608
            "WHERE f.key = g.key AND f.value = g.value AND f.sort = g.sort AND f.name = g.name"
        )

        paths = f'"{self._schema}".{self.tables.paths.name}'
        self._add_uses = (
            f"INSERT INTO {paths} AS present (path, type, uses) "  # noqa: S608
            "SELECT * FROM unnest(%s::text[], %s::text[], %s::bigint[]) "
            "ON CONFLICT (path, type) DO UPDATE SET uses = present.uses + excluded.uses"
        )
        self._drop_unused = (
            f"DELETE FROM {paths} p USING unnest(%s::text[], %s::text[]) AS g (path, type) "  # noqa: S608
            "WHERE p.path = g.path AND p.type = g.type AND p.uses <= 0"
        )

    # -- connections -----------------------------------------------------------------------

    @contextlib.contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        with self._asking():
            self._ensure()
            with self._connected() as connection:
                connection.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
                yield connection

    @contextlib.contextmanager
    def writing(self) -> Iterator[sa.Connection]:
        with self._asking():
            self._ensure()
            with self._connected() as connection:
                self._be_alone(connection)
                yield connection
                with self._patience_with(connection):
                    connection.commit()

    @contextlib.contextmanager
    def _connected(self) -> Iterator[sa.Connection]:
        """Connect; what is not committed is rolled back."""
        with self._pool.get().connect() as connection:
            try:
                yield connection
            finally:
                if not connection.invalidated:
                    with self._patience_with(connection):
                        connection.rollback()

    def _patience_with(self, connection: sa.Connection) -> contextlib.AbstractContextManager[None]:
        return self._waits.for_one(_file(connection.connection.dbapi_connection))

    def _be_alone(self, connection: sa.Connection) -> None:
        """Lock out other writers, over all nodes, until the transaction ends."""
        number = int.from_bytes(hashlib.sha256(self._schema.encode()).digest()[:8], signed=True)
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(number)))

    @contextlib.contextmanager
    def _asking(self) -> Iterator[None]:
        try:
            yield
        except sa.exc.TimeoutError as error:
            raise CatalogueUnavailable("All connections to the catalogue are in use.") from error
        except sa.exc.DBAPIError as error:
            code = getattr(error.orig, "sqlstate", None)
            if code in _GONE:
                self._there = False
            if code == _TOO_SLOW:
                message = f"It would take longer than the {self._timeout:g} seconds that a query may take."
                raise QueryTooSlow(message) from error
            raise CatalogueUnavailable from error

    def _make_engine(self) -> sa.Engine:
        waiting = max(2, round(self._patience))
        arguments = {
            "connect_timeout": waiting,
            "tcp_user_timeout": waiting * 1000,
            "application_name": "image_repo",
            "client_encoding": "UTF8",
            # statements prepared by name do not survive a pooler between us
            "prepare_threshold": None,
        }
        engine = sa.create_engine(
            self._url,
            poolclass=QueuePool,
            pool_size=self._connections,
            max_overflow=0,
            pool_timeout=self._patience,
            enable_from_linting=False,
            connect_args=arguments,
        )
        self._waits = Watchdog(2 * self._timeout + self._patience)
        sa.event.listen(engine, "connect", self._prepare)
        sa.event.listen(engine, "checkout", self._try)
        sa.event.listen(engine, "before_cursor_execute", self._ask)
        sa.event.listen(engine, "after_cursor_execute", self._answered)
        sa.event.listen(engine, "checkin", self._given_back)
        return engine

    def _ask(self, connection: sa.Connection, *_: Any) -> None:
        self._waits.begin(_file(connection.connection.dbapi_connection))

    def _answered(self, connection: sa.Connection, *arguments: Any) -> None:
        """End the watch, unless rows come in parts."""
        if "yield_per" not in arguments[3].execution_options:
            self._waits.end(_file(connection.connection.dbapi_connection))

    def _given_back(self, connection: Any, _: Any) -> None:
        if connection is not None:
            self._waits.end(_file(connection))

    def _try(self, connection: Any, record: Any, _: Any) -> None:
        """Test a connection that was idle for long."""
        now = time.monotonic()
        if now - record.info.get("used", now) > _IDLE_S:
            try:
                with self._waits.for_one(_file(connection)):
                    connection.execute("SELECT 1")
                    connection.rollback()
            except self._url.get_dialect().import_dbapi().Error as error:
                raise sa.exc.DisconnectionError from error
        record.info["used"] = now

    def _prepare(self, connection: Any, _: Any) -> None:
        encoding = connection.info.parameter_status("server_encoding")
        if encoding != "UTF8":  # names and data would be compared byte by byte, or could not be stored
            raise CatalogueUnavailable(
                f"The database has the encoding {encoding}; expected UTF8: "
                "createdb --encoding=UTF8 --template=template0"
            )
        settings = {
            "statement_timeout": round(self._timeout * 1000),
            "lock_timeout": round(self._patience * 1000),
            "idle_in_transaction_session_timeout": 600_000,
            # compiling takes longer than these queries
            "jit": "off",
        }
        connection.autocommit = True
        for name, value in settings.items():
            connection.execute(f"SET {name} = {value}")
        connection.autocommit = False

    # -- tables ----------------------------------------------------------------------------

    def _ensure(self) -> None:
        """Make what is missing, once; drop what is of another version."""
        if self._there:
            return
        layout = str(VERSION)
        with self._pool.get().connect() as connection, connection.begin():
            self._be_alone(connection)
            connection.execute(CreateSchema(self._schema, if_not_exists=True))
            if self._found(connection) != layout:
                self.tables.metadata.drop_all(connection)
                self.tables.metadata.create_all(connection)
                connection.execute(self.tables.notes.insert().values(what=MADE, text=layout))
                connection.execute(self.tables.keys.insert().values(first_keys()))
        self._there = True

    def _found(self, connection: sa.Connection) -> str | None:
        notes = self.tables.notes
        name = f'"{self._schema}".{notes.name}'
        if connection.execute(sa.select(sa.func.to_regclass(name))).scalar() is None:
            return None
        return connection.execute(sa.select(notes.c.text).where(notes.c.what == MADE)).scalar()

    def settle(self) -> None:
        """Vacuum: until then, each fact is looked up in its table to see whether it is visible to all."""
        tables = (f'"{self._schema}".{table.name}' for table in (self.tables.facts, self.tables.documents))
        with (
            contextlib.suppress(CatalogueUnavailable, QueryTooSlow),
            self._asking(),
            self._pool.get().connect() as locking,
        ):
            alone = locking.execution_options(isolation_level="AUTOCOMMIT")
            for table in tables:
                alone.exec_driver_sql(f"VACUUM (ANALYZE) {table}")

    def empty(self, connection: sa.Connection) -> None:
        self.tables.empty(connection, self._words)

    # -- words and facts -------------------------------------------------------------------

    def has_words(self, words: Sequence[str]) -> sa.ColumnElement[bool]:
        expression = sa.cast(" & ".join(f"'{_quoted(word)}':*" for word in words), TSQUERY)
        matches = sa.select(self._words.c.id).where(self._words.c.words.op("@@")(expression))
        return self.tables.documents.c.id.in_(matches)

    def put_words(self, connection: sa.Connection, words: Mapping[int, Sequence[str]]) -> None:
        rows = [{"id": number, "terms": list(terms)} for number, terms in words.items()]
        if rows:
            terms = sa.cast(sa.text(":terms"), sa.ARRAY(sa.Text))
            connection.execute(self._words.insert().values(words=sa.func.array_to_tsvector(terms)), rows)

    def drop_words(self, connection: sa.Connection, ids: Sequence[int]) -> None:
        if ids:
            connection.execute(sa.delete(self._words).where(self.among(self._words.c.id, ids)))

    def put_facts(self, connection: sa.Connection, facts: Sequence[Sequence[Any]]) -> None:
        if facts:
            connection.exec_driver_sql(self._insert_facts, _columns(facts))

    def drop_facts(self, connection: sa.Connection, facts: Sequence[Sequence[Any]]) -> None:
        if facts:
            connection.exec_driver_sql(self._delete_facts, _columns(facts))

    def add_uses(self, connection: sa.Connection, changes: Sequence[tuple[str, str, int]]) -> None:
        if changes:
            connection.exec_driver_sql(self._add_uses, _columns(changes))
        fewer = [(path, type_) for path, type_, change in changes if change < 0]
        if fewer:
            connection.exec_driver_sql(self._drop_unused, _columns(fewer))

    def among(self, column: sa.ColumnElement[Any], values: Sequence[Any]) -> sa.ColumnElement[bool]:
        kind = sa.BigInteger() if isinstance(column.type, sa.Integer) else sa.Text()
        return column == sa.any_(sa.literal(list(values), sa.ARRAY(kind)))

    def along(self, outer: sa.FromClause, inner: sa.FromClause, on: sa.ColumnElement[bool]) -> sa.FromClause:
        return outer.join(inner, on)

    # -- health ----------------------------------------------------------------------------

    def engine(self, connection: sa.Connection) -> tuple[str, int]:
        version = connection.exec_driver_sql("SHOW server_version").scalar_one()
        spelled = map(connection.dialect.identifier_preparer.format_table, self.tables.metadata.sorted_tables)
        sizes = (sa.select(sa.func.pg_total_relation_size(sa.func.to_regclass(name))) for name in spelled)
        return f"PostgreSQL {version}", sum(connection.execute(size).scalar() or 0 for size in sizes)

    def check(self) -> None:
        self._there = False
        with self.reading() as connection:
            connection.execute(sa.select(sa.literal(1)))

    def close(self) -> None:
        self._pool.close()


def _file(connection: Any) -> int:
    """Return the descriptor of a driver's connection; -1 when it is closed."""
    return -1 if connection is None or connection.closed else int(connection.fileno())


def _columns(rows: Sequence[Sequence[Any]]) -> tuple[list[Any], ...]:
    """Return rows as columns; sorted, so that two writers do not deadlock."""
    return tuple(map(list, zip(*sorted(map(tuple, rows)), strict=True)))


def _quoted(word: str) -> str:
    return word.replace("\\", "\\\\").replace("'", "''")
