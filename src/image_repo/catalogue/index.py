"""The index over SQL: what is the same for every engine."""

from __future__ import annotations

import contextlib
import json
import logging
import shlex
import sys
import threading
import time
from array import array
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from cachetools import TTLCache
from sqlalchemy import delete, select

from image_repo.catalogue import cursor, encoding
from image_repo.catalogue.base import Indexed, KeyUsage, Page, Row, Statistics
from image_repo.catalogue.cursor import Order, Place
from image_repo.catalogue.dialect import Dialect
from image_repo.catalogue.evaluator import holds, project
from image_repo.catalogue.facets import Tally
from image_repo.catalogue.matching import MOST_COUNTED, as_stored
from image_repo.catalogue.near import HASH_PATH
from image_repo.catalogue.planner import Listed, QueryPlan, QueryResult
from image_repo.catalogue.query import Condition, Filter, Path, Query, SortKey
from image_repo.catalogue.writing import UPLOADED, Over, Writer, counted_keys, indexed, missing_keys
from image_repo.errors import BadParameter, CatalogueUnavailable, QueryTooSlow

_log = logging.getLogger(__name__)
#: documents read at a time
_PAGE = 500
#: of a page as text; parsed and written again, it takes ten times as many
MAX_PAGE_BYTES = 16 << 20
#: documents of a page that are fetched at a time
_PART = 128
#: estimates in memory, and for how many seconds
_MOST_ESTIMATES, _ESTIMATED = 256, 5.0
#: operators that an index helps
_HELPED = ("eq", "gt", "gte", "lt", "lte")


class Index:
    """The index in the database of a :class:`~.dialect.Dialect`. Every call may be made from any thread, and is bounded
    in time.

    :param slow: seconds after which a query is logged
    :raises CatalogueUnavailable: from each method, when the engine does not answer
    :raises QueryTooSlow: from those that read, when it takes longer than the configuration allows
    """

    def __init__(self, dialect: Dialect, slow: float) -> None:
        self._dialect = dialect
        self._tables = dialect.tables
        self._writer = Writer(dialect)
        self._slow = slow
        self._estimates = _Estimates()
        #: for people, without secrets: ``SQLite in /var/…``, ``PostgreSQL at db.example``
        self.description = dialect.description
        #: whether the nodes of a repository can share it
        self.shared = dialect.shared

    # -- writing ---------------------------------------------------------------------------

    def put(self, rows: Iterable[Row], over: Over | None = None) -> None:
        """Write rows, over what was there under their names; all or none.

        :param over: returns whether a row replaces the one that has this stamp; then new names are passed over
        """
        self._writer.put(rows, over)
        self._estimates.forget()

    def remove(self, names: Iterable[str]) -> int:
        """Remove rows, and return how many there were."""
        removed = self._writer.remove(names)
        self._estimates.forget()
        return removed

    def add_index(self, key: Indexed) -> None:
        """Index a key from now on; nothing where it is indexed."""
        self._writer.add_index(key)
        self._dialect.settle()

    def drop_index(self, key: Indexed) -> bool:
        """Drop the index of a key, and return whether there was one."""
        return self._writer.drop_index(key)

    def clear(self) -> None:
        """Delete everything but the list of indexed keys."""
        with self._dialect.writing() as connection:
            self._dialect.empty(connection)
        self._estimates.forget()

    # -- reading ---------------------------------------------------------------------------

    def page(self, query: Query) -> Page:
        """Return a page of whole documents.

        :raises BadParameter: for an ``after`` that is no cursor of this order
        """
        sorted_by = Order.of(query.order)
        after = None if query.after is None else cursor.load(query.after, sorted_by)
        with self._watched(query.filter, query.order), self._dialect.reading() as connection:
            plan = QueryPlan(connection, self._dialect, query.filter)
            listed, count = self._paged(plan, query, sorted_by, after)
            documents, last = _documents(plan, listed[: query.limit], query.select)
        return Page(
            documents,
            count,
            query.exact or count <= MOST_COUNTED,
            cursor.dump(_place(last, sorted_by), sorted_by) if last and len(listed) > query.limit else None,
        )

    def _paged(self, plan: QueryPlan, query: Query, sorted_by: Order, after: Place | None) -> tuple[Listed, int]:
        """Return a page and one row more, and how many match."""
        skip, limit = query.skip, query.limit + 1
        estimate = None if query.exact else self._estimates.of(query.filter)
        if estimate is not None:
            return _in_order(plan, sorted_by, after, skip, limit), estimate
        if plan.is_complete(plan.walks(sorted_by)):
            listed = _in_order(plan, sorted_by, after, skip, limit)
            count = _counted(plan, exact=query.exact)
        else:
            some = plan.gathered(MOST_COUNTED + 1)
            if len(some) <= MOST_COUNTED:
                return plan.some_in_order(some, sorted_by, after, skip, limit), len(some)
            listed = _in_order(plan, sorted_by, after, skip, limit)
            count = plan.count() if query.exact else plan.estimate()
        if count > MOST_COUNTED and not query.exact:
            self._estimates.store(query.filter, count)
        return listed, count

    def count(self, criteria: Filter) -> int:
        """Return how many documents match, exactly."""
        with self._watched(criteria), self._dialect.reading() as connection:
            return QueryPlan(connection, self._dialect, criteria).count()

    def each(self, criteria: Filter, order: Sequence[SortKey] = ()) -> Iterator[dict[str, Any]]:
        """Return every document that matches, page by page: bounded in memory, and nothing is locked."""
        sorted_by = Order.of(order)
        listed = self._listed(criteria, sorted_by)
        results = self._along(criteria, sorted_by) if listed is None else self._fetched(criteria, listed)
        # What has changed since it was listed may not match any more.
        still = as_stored(criteria)
        return (encoding.load(each.text) for each in results if holds(still, encoding.decode(each.text)))

    def _listed(self, criteria: Filter, sorted_by: Order) -> Listed | None:
        """Return names or ids of all that match, in order; None where a walk gives them in that order."""
        with self._watched(criteria, sorted_by.keys), self._dialect.reading() as connection:
            plan = QueryPlan(connection, self._dialect, criteria)
            walks = plan.walks(sorted_by)
            if plan.is_complete(walks):
                return None
            some = plan.gathered(MOST_COUNTED + 1)
            if len(some) <= MOST_COUNTED:
                return plan.some_in_order(some, sorted_by)
            return None if walks and not plan.is_searched else array("q", plan.all_in_order(sorted_by))

    def _fetched(self, criteria: Filter, listed: Listed) -> Iterator[QueryResult]:
        for first in range(0, len(listed), _PAGE):
            part = listed[first : first + _PAGE]
            with self._dialect.reading() as connection:
                results = QueryPlan(connection, self._dialect, criteria).fetched(part)
            yield from results

    def _along(self, criteria: Filter, sorted_by: Order) -> Iterator[QueryResult]:
        after: Place | None = None
        while True:
            with self._dialect.reading() as connection:
                plan = QueryPlan(connection, self._dialect, criteria)
                results = plan.fetched(_in_order(plan, sorted_by, after, 0, _PAGE))
            yield from results
            if len(results) < _PAGE:
                return
            after = _place(results[-1], sorted_by)

    def statistics(self, criteria: Filter, path: Path, most: int = 1_000) -> Statistics:
        """Return the values of a key (a facet), and how often each occurs.

        :param most: the most values that are returned
        """
        with self._watched(criteria, (SortKey(path),)), self._dialect.reading() as connection:
            members = encoding.members(path)
            plan = QueryPlan(connection, self._dialect, criteria)
            tally = Tally()
            count = tally.add_sortable(plan.leads(members)) if criteria.is_empty else None
            if not count:
                tally = Tally()
                count = self._dialect.tally(connection, members, plan.matching(), tally)
            if count is None:
                with_key = (*criteria.conditions, Condition(path, "exists", (True,)))
                count = QueryPlan(connection, self._dialect, replace(criteria, conditions=with_key)).count()
            return tally.statistics(count, most)

    @contextlib.contextmanager
    def _watched(self, criteria: Filter, order: Sequence[SortKey] = ()) -> Iterator[None]:
        """Log a query that takes long."""
        begun = time.monotonic()
        try:
            yield
        finally:
            taken = time.monotonic() - begun
            if taken > self._slow:
                self._log_slow(taken, criteria, order)

    def _log_slow(self, taken: float, criteria: Filter, order: Sequence[SortKey]) -> None:
        """Log a slow query, with the keys that would help."""
        covered: set[Path] = {("name",), ("sha256",), UPLOADED, HASH_PATH}
        with contextlib.suppress(CatalogueUnavailable, QueryTooSlow):
            covered |= {key.path for key in self.indexed()}
        paths = [one.path for one in criteria.conditions if one.op in _HELPED] + [key.path for key in order]
        lacking = dict.fromkeys(".".join(path) for path in paths if path not in covered)
        hint = "".join(f"; `image_repo index {shlex.quote(path)}` would help" for path in lacking)
        _log.warning("A query of the catalogue took %.1f s%s", taken, hint)

    def keys(self, most: int = 1_000) -> tuple[list[KeyUsage], int]:
        """Return the keys of all documents, the most frequent first, and how many there are.

        :param most: the most keys that are returned
        """
        with self._dialect.reading() as connection:
            return counted_keys(connection, self._dialect, most)

    def missing_keys(self, paths: Collection[Path]) -> list[Path]:
        """Return those of some paths at which no document has anything. Too long ones are not among them."""
        with self._dialect.reading() as connection:
            return missing_keys(connection, self._dialect, paths)

    # -- single things ---------------------------------------------------------------------

    def stamps(self, names: Collection[str]) -> dict[str, str]:
        """Return the stamps of those names that are indexed."""
        documents = self._tables.documents
        query = select(documents.c.name, documents.c.stamp)
        with self._dialect.reading() as connection:
            rows = connection.execute(query.where(self._dialect.among(documents.c.name, list(names))))
            return {row.name: row.stamp for row in rows}

    def names(self, after: str = "", limit: int = 1_000) -> list[str]:
        """Return names after a given one, in order."""
        name = self._tables.documents.c.name
        with self._dialect.reading() as connection:
            query = select(name).where(name > encoding.storable(after)).order_by(name).limit(limit)
            return list(connection.execute(query).scalars())

    def indexed(self) -> list[Indexed]:
        """Return the keys that have an index of their own."""
        with self._dialect.reading() as connection:
            return indexed(connection, self._dialect)

    def note(self, what: str) -> str | None:
        """Return the text stored with :meth:`keep_note`, such as the progress of a rebuild."""
        notes = self._tables.notes
        with self._dialect.reading() as connection:
            return connection.execute(select(notes.c.text).where(notes.c.what == what)).scalar()

    def keep_note(self, what: str, text: str | None) -> None:
        """Store a short text, or delete it."""
        notes = self._tables.notes
        with self._dialect.writing() as connection:
            connection.execute(delete(notes).where(notes.c.what == what))
            if text is not None:
                connection.execute(notes.insert().values(what=what, text=text))

    def engine(self) -> tuple[str, int]:
        """Return the engine with its version, and its size in bytes."""
        with self._dialect.reading() as connection:
            return self._dialect.engine(connection)

    def check(self) -> None:
        """Connect to the engine, make missing tables, and find damage."""
        self._dialect.check()

    def close(self) -> None:
        """Close the connections."""
        self._dialect.close()


class _Estimates:
    """Recent estimates of how many match, so that the next page need not count anew."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: TTLCache[str, int] = TTLCache(_MOST_ESTIMATES, _ESTIMATED)

    def of(self, criteria: Filter) -> int | None:
        with self._lock:
            return self._known.get(_canonical_text(criteria))

    def store(self, criteria: Filter, count: int) -> None:
        with self._lock:
            self._known[_canonical_text(criteria)] = count

    def forget(self) -> None:
        """Forget all after a write here; writes of other nodes show after a few seconds."""
        with self._lock:
            self._known.clear()


def _canonical_text(criteria: Filter) -> str:
    """Return a filter as text: in Python, true equals 1."""
    return repr([criteria.prefix, criteria.words, list(map(_spell_condition, criteria.conditions))])


def _spell_condition(condition: Condition) -> tuple[object, ...]:
    return condition.path, condition.op, condition.values, list(map(_spell_condition, condition.inside))


def _counted(plan: QueryPlan, *, exact: bool) -> int:
    count = plan.count(None if exact else MOST_COUNTED + 1)
    return plan.estimate() if not exact and count > MOST_COUNTED else count


def _in_order(plan: QueryPlan, sorted_by: Order, after: Place | None, skip: int, limit: int) -> Listed:
    """Return documents in order: along a walk where there is one, else sorted."""
    walks = plan.walks(sorted_by)
    if walks:
        return plan.walked(walks, after, skip, limit)
    return array("q", plan.all_in_order(sorted_by, after, skip, limit))


def _documents(
    plan: QueryPlan, listed: Listed, select: Sequence[Path]
) -> tuple[list[dict[str, Any]], QueryResult | None]:
    """Return the documents of a page, fetched part by part, and the last of them.

    :raises BadParameter: where that is more than :data:`MAX_PAGE_BYTES`
    """
    documents: list[dict[str, Any]] = []
    last, size = None, 0
    for first in range(0, len(listed), _PART):
        for last in plan.fetched(listed[first : first + _PART]):
            documents.append(project(encoding.load(last.text), select))
            # what text takes in memory, without counting its letters
            size += sys.getsizeof(json.dumps(documents[-1], ensure_ascii=False) if select else last.text)
            if size > MAX_PAGE_BYTES:
                most = len(documents) - 1
                message = f"The first {most} of them have {MAX_PAGE_BYTES >> 20} MiB, and no more is returned at once."
                raise BadParameter("limit", f"{message} Expected a lower limit, or select=.", most=most)
    return documents, last


def _place(result: QueryResult, sorted_by: Order) -> Place:
    return cursor.of(result.name, encoding.decode(result.text), sorted_by)
