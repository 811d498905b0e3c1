"""What each engine expresses in its own SQL; :mod:`.index` does the rest for all of them."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

from sqlalchemy import ColumnElement, Connection, Engine, FromClause
from sqlalchemy.sql.expression import Select

from image_repo.catalogue.facets import Tally
from image_repo.catalogue.query import Condition, Path
from image_repo.catalogue.tables import Tables


class EnginePool:
    """The engine of this process with its connections: they must not cross a fork."""

    def __init__(self, make: Callable[[], Engine]) -> None:
        self._make = make
        self._lock = threading.Lock()
        #: those of parent processes stay: to close them here would end the parent's connections and locks
        self._engines: dict[int, Engine] = {}

    def get(self) -> Engine:
        """Return the engine; make it where there is none yet."""
        engine = self._engines.get(os.getpid())
        if engine is None:
            with self._lock:
                engine = self._engines.get(os.getpid()) or self._engines.setdefault(os.getpid(), self._make())
        return engine

    def close(self) -> None:
        """Close the connections of this process."""
        if engine := self._engines.get(os.getpid()):
            engine.dispose()


class Dialect(Protocol):
    """One engine, its connections, and its SQL for conditions on documents.

    Paths and values are bound, never spliced. They are given as they are stored (:mod:`.encoding`).
    """

    description: str
    shared: bool
    tables: Tables

    def reading(self) -> AbstractContextManager[Connection]:
        """Connect for reading: one state of everything, statements bounded in time.

        :raises CatalogueUnavailable: when it does not answer
        :raises QueryTooSlow: when it takes too long
        """

    def writing(self) -> AbstractContextManager[Connection]:
        """Connect as the only writer; others wait. What was done is committed if the block ends well, else undone.

        :raises CatalogueUnavailable: when it does not answer, or others write for too long
        """

    def holds(self, condition: Condition) -> ColumnElement[bool]:
        """Return whether a condition holds for the document of a row; never null."""

    @property
    def texts(self) -> Callable[[Path, str], Select[Any]] | None:
        """A query for ids of documents and each value that a path reaches as text, to search regular expressions here.

        It takes the path and the type of the values: ``string``, or ``object`` for JSON.

        None where the engine does so, and :meth:`holds` takes them.
        """

    def tally(
        self, connection: Connection, path: Path, where: Sequence[ColumnElement[bool]], tally: Tally
    ) -> int | None:
        """Count the values that a path reaches.

        :param where: in which documents
        :returns: how many of them have something there; None where that has not been counted
        """

    def sorted_by(self, path: Path) -> Sequence[ColumnElement[Any]]:
        """Return columns that sort rows in the order of :mod:`.collation` by the value at a path."""

    def sorting(self, value: bytes) -> Sequence[Any]:
        """Return the values of :meth:`sorted_by` for such a value (:func:`.collation.sortable`)."""

    def among(self, column: ColumnElement[Any], values: Sequence[Any]) -> ColumnElement[bool]:
        """Return whether a column is one of many values."""

    def along(self, outer: FromClause, inner: FromClause, on: ColumnElement[bool]) -> FromClause:
        """Return a join that scans the first table in its order and looks the second one up."""

    def has_words(self, words: Sequence[str]) -> ColumnElement[bool]:
        """Return whether each word is a prefix of a word of the row."""

    def put_words(self, connection: Connection, words: Mapping[int, Sequence[str]]) -> None:
        """Store the words of rows, by id; they have none yet."""

    def drop_words(self, connection: Connection, ids: Sequence[int]) -> None:
        """Delete the words of rows."""

    def put_facts(self, connection: Connection, facts: Sequence[Sequence[Any]]) -> None:
        """Store facts (key, value, sort, name); those that exist stay."""

    def drop_facts(self, connection: Connection, facts: Sequence[Sequence[Any]]) -> None:
        """Delete facts."""

    def add_uses(self, connection: Connection, changes: Sequence[tuple[str, str, int]]) -> None:
        """Add to the uses of types at paths (path, type, change); what has none any more is deleted."""

    def settle(self) -> None:
        """Let the engine update its statistics after many writes; best effort."""

    def empty(self, connection: Connection) -> None:
        """Delete all documents, facts, words and notes."""

    def engine(self, connection: Connection) -> tuple[str, int]:
        """Return the engine with its version, and its size in bytes."""

    def check(self) -> None:
        """Do as :meth:`image_repo.catalogue.base.Index.check` says."""

    def close(self) -> None:
        """Close the connections."""
