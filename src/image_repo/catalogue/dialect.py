"""What an engine says in its own words; :mod:`.index` does the rest for all of them."""

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
    """One engine, its connections, and how it spells what is asked of documents.

    Paths and values are bound, never spliced. They are given as they stand in what is kept (:mod:`.storing`).
    """

    description: str
    shared: bool
    tables: Tables

    def reading(self) -> AbstractContextManager[Connection]:
        """A connection that sees one state of everything, and whose statements are bounded in time.

        :raises CatalogueUnavailable: when it cannot be asked
        :raises QueryTooSlow: when it takes too long
        """

    def writing(self) -> AbstractContextManager[Connection]:
        """The only connection that writes: others wait. What it did stays if the block ends well, else nothing of it.

        :raises CatalogueUnavailable: when it cannot be asked, or others write for too long
        """

    def holds(self, condition: Condition) -> ColumnElement[bool]:
        """Whether a condition holds for the document of a row; never null."""

    @property
    def texts(self) -> Callable[[Path], Select[Any]] | None:
        """Gives ids of documents, and each text that a path reaches: there we search for regular expressions ourselves.

        None where the engine does so, and :meth:`holds` takes them.
        """

    def tally(
        self, connection: Connection, path: Path, where: Sequence[ColumnElement[bool]], tally: Tally
    ) -> int | None:
        """Counts what a path reaches.

        :param where: in which documents
        :returns: how many of them have something there; None where that has not been counted
        """

    def sorted_by(self, path: Path) -> Sequence[ColumnElement[Any]]:
        """What puts rows into the order of :mod:`.order` by the value at a path."""

    def sorting(self, value: bytes) -> Sequence[Any]:
        """What :meth:`sorted_by` is for such a value (:func:`.order.sortable`)."""

    def among(self, column: ColumnElement[Any], values: Sequence[Any]) -> ColumnElement[bool]:
        """Whether a column is one of values, of which there may be many."""

    def along(self, outer: FromClause, inner: FromClause, on: ColumnElement[bool]) -> FromClause:
        """A join that goes along the first table and looks the second one up."""

    def has_words(self, words: Sequence[str]) -> ColumnElement[bool]:
        """Whether each is the beginning of a word of the row."""

    def put_words(self, connection: Connection, words: Mapping[int, Sequence[str]]) -> None:
        """Keeps the words of rows, by id; they have none as yet."""

    def drop_words(self, connection: Connection, ids: Sequence[int]) -> None:
        """Forgets the words of rows."""

    def put_facts(self, connection: Connection, facts: Sequence[Sequence[Any]]) -> None:
        """Keeps facts: key, value, sort, name. Those that are there already stay."""

    def drop_facts(self, connection: Connection, facts: Sequence[Sequence[Any]]) -> None:
        """Forgets facts."""

    def settle(self) -> None:
        """Has the engine look at what was written, after much of it; best effort."""

    def empty(self, connection: Connection) -> None:
        """Throws all documents, facts, words and notes away."""

    def engine(self, connection: Connection) -> tuple[str, int]:
        """What it is, with its version, and how many bytes it takes."""

    def check(self) -> None:
        """As :meth:`image_repo.catalogue.base.Index.check` says."""

    def close(self) -> None:
        """Gives connections back."""
