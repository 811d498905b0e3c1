"""The whole collection: queried through the catalogue, changed through the writer.

The catalogue finds the records for which a filter holds. The record itself is tested once more under the lock of its
name, because it may be newer than the catalogue.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice
from typing import Any, Literal

from image_repo.access.control import Action
from image_repo.access.principal import Principal
from image_repo.catalogue import indexer
from image_repo.catalogue.base import Document, KeyUsage, Page, Statistics
from image_repo.catalogue.evaluator import holds
from image_repo.catalogue.grammar import IMAGES
from image_repo.catalogue.key_usage import count_keys
from image_repo.catalogue.query import Filter, Path, Query, SortKey
from image_repo.catalogue.unknown_keys import refuse_unknown_keys, unknown_keys
from image_repo.errors import Busy, CatalogueUnavailable, ImageNotFound, PreconditionFailed, Problem
from image_repo.model.names import ImageName
from image_repo.model.strict_json import is_same
from image_repo.repository.metadata import Conditions, merge
from image_repo.repository.repository import Repository

log = logging.getLogger(__name__)

#: changes of one request at a time
_AT_ONCE = 4
#: changes of many that one process makes at a time
_MOST_REQUESTS = 2
#: failures that are reported one by one
MOST_FAILURES = 100
#: seconds for which it is remembered whether the catalogue is being made
_REMEMBERED = 1.0

#: of a record: it is different now, it was so already, or the filter does not hold for it any more
Outcome = Literal["modified", "same", "other"]
#: changes one name
Act = Callable[[ImageName, Conditions], object]


@dataclass(frozen=True, slots=True)
class Failure:
    """A record that could not be changed."""

    name: str
    problem: Problem

    def public(self) -> dict[str, Any]:
        """Return it as clients see it."""
        problem = self.problem
        return {"name": self.name, "status": problem.status, "title": problem.title, "detail": problem.detail}


@dataclass(slots=True)
class Changed:
    """The outcome of a bulk change.

    :param matched: records that the filter held for
    :param modified: those of them that are different now, or gone
    :param failed: the first :data:`MOST_FAILURES` that could not be changed
    :param more: how many further ones
    :param ended: why it ended before all were looked at; None when all were
    :param last: the name of the last record that was looked at: names are gone through in their order
    :param passing: whether something failed for a reason that passes
    """

    matched: int = 0
    modified: int = 0
    failed: list[Failure] = field(default_factory=list)
    more: int = 0
    ended: Problem | None = None
    last: str | None = None
    passing: bool = False

    @property
    def is_whole(self) -> bool:
        """Return whether all was done."""
        return not self.failed and self.ended is None

    def add(self, batch: Sequence[str], outcomes: Sequence[Outcome | Problem]) -> None:
        """Counts what became of records, which come in the order of their names."""
        for name, outcome in zip(batch, outcomes, strict=True):
            self._add(name, outcome)
        self.last = batch[-1]
        if all(isinstance(each, Problem) and each.retry_after is not None for each in outcomes):
            self.ended = self.failed[-1].problem  # the store cannot be reached: nor would the rest be

    def _add(self, name: str, outcome: Outcome | Problem) -> None:
        if outcome == "other":
            return
        self.matched += 1
        if isinstance(outcome, Problem):
            self.passing = self.passing or outcome.retry_after is not None
            if len(self.failed) < MOST_FAILURES:
                self.failed.append(Failure(name, outcome))
            else:
                self.more += 1
        elif outcome == "modified":
            self.modified += 1


class Collection:
    """Everything in a repository, by its records.

    :param batch: names that are taken from the catalogue at a time, when many are changed
    :param progress: seconds between two lines in the log meanwhile
    :raises CatalogueDisabled, CatalogueUnavailable, QueryTooSlow: from every call
    """

    def __init__(self, repo: Repository, batch: int = 200, progress: float = 10.0) -> None:
        self._repo = repo
        self._batch = batch
        self._every = progress
        self._free = threading.BoundedSemaphore(_MOST_REQUESTS)
        self._rebuilding: tuple[float, str | None] = (float("-inf"), None)

    # -- asking ----------------------------------------------------------------------

    def page(self, principal: Principal, query: Query) -> Page:
        """Return a page, of each document what the query selects."""
        page = self._repo.indexer.index.page(replace(query, filter=self._visible(principal, query.filter)))
        return replace(page, documents=[_view(principal, document) for document in page.documents])

    def each(self, principal: Principal, criteria: Filter, order: Sequence[SortKey] = ()) -> Iterator[Document]:
        """Return every document for which a filter holds; by name where no order is given."""
        documents = self._repo.indexer.index.each(self._visible(principal, criteria), order)
        return (_view(principal, document) for document in documents) if principal.namespace else documents

    def count(self, principal: Principal, criteria: Filter) -> int:
        """Return how many documents a filter holds for."""
        return self._repo.indexer.index.count(self._visible(principal, criteria))

    def statistics(self, principal: Principal, criteria: Filter, path: Path, most: int = 1_000) -> Statistics:
        """Return the values of a key, the most frequent first.

        :param most: how many of them
        """
        statistics = self._repo.indexer.index.statistics(self._visible(principal, criteria), path, most)
        return _view_of_names(principal, statistics) if path == ("name",) else statistics

    def keys(self, principal: Principal, most: int = 1_000) -> tuple[list[KeyUsage], int]:
        """Return the keys of all documents, the most frequent first, and how many there are.

        :param most: the most keys that are returned
        """
        visible, index = self._visible(principal, Filter()), self._repo.indexer.index
        if visible.is_empty:
            return index.keys(most)
        usages = count_keys(index.each(visible))
        return usages[:most], len(usages)

    def unknown_keys(self, principal: Principal, paths: Iterable[Path]) -> Mapping[str, str | None]:
        """Return those keys that no document has, each with what was probably meant; none during a rebuild."""
        unknown = self._unknown_keys(principal, paths)
        return unknown if unknown and self.rebuilding(surely=True) is None else {}

    def refuse_unknown_keys(self, principal: Principal, criteria: Filter) -> None:
        """Refuse a filter on keys that no document has, where the response could not say so.

        :raises BadParameter: with the key, and the nearest
        """
        refuse_unknown_keys(self.unknown_keys(principal, (part.path for part in criteria.parts())))

    def _unknown_keys(self, principal: Principal, paths: Iterable[Path]) -> Mapping[str, str | None]:
        return unknown_keys(self._repo.indexer.index, IMAGES, self._visible(principal, Filter()), paths)

    def _visible(self, principal: Principal, criteria: Filter) -> Filter:
        """Return the filter, restricted to what the principal may see."""
        visible = self._repo.access.authorise(principal, Action.LIST, "").visible
        return criteria.below(principal.namespace) & visible

    def rebuilding(self, *, surely: bool = False) -> str | None:
        """Return how far a rebuild of the catalogue is, 0 to 1 as text; None when it is complete.

        :param surely: whether an answer of a moment ago will not do
        """
        asked_at, known = self._rebuilding
        now = time.monotonic()
        if surely or now - asked_at > _REMEMBERED:
            known = indexer.lacking(self._repo.indexer.index)
            self._rebuilding = (now, known)
        return known

    # -- changing many ---------------------------------------------------------------

    def count_changes(self, principal: Principal, criteria: Filter, *, everything: bool = False) -> int:
        """Return how many records a change would match; the parameters are those of :meth:`update`."""
        self._refuse_typos(principal, criteria, everything=everything)
        return self.count(principal, criteria)

    def update(
        self,
        principal: Principal,
        criteria: Filter,
        patch: Any,
        *,
        everything: bool = False,
        seconds: float | None = None,
    ) -> Changed:
        """Merge a patch (RFC 7396) into the user's data of every record for which a filter holds.

        :param everything: whether conditions may hold only because no record has their key
        :param seconds: after which it ends, with what is done until then; None for no end
        :raises BadParameter: for a condition that holds only because no record has its key
        :raises Busy: when as many changes of many are under way as may
        """
        self._refuse_typos(principal, criteria, everything=everything)
        patch_data = self._repo.writer.patch_data
        act: Act = lambda name, fits: patch_data(principal, name, patch, fits)  # noqa: E731
        return self._change("PATCH", principal, criteria, patch, act, seconds)

    def delete(
        self,
        principal: Principal,
        criteria: Filter,
        *,
        everything: bool = False,
        permanent: bool = False,
        seconds: float | None = None,
    ) -> Changed:
        """Delete every image, and every description, for which a filter holds.

        :param everything: whether conditions may hold only because no record has their key
        :param permanent: whether nothing goes into the bin
        :param seconds: after which it ends, with what is done until then; None for no end
        :raises BadParameter: for a condition that holds only because no record has its key
        :raises Busy: when as many changes of many are under way as may
        """
        self._refuse_typos(principal, criteria, everything=everything)
        delete = partial(self._repo.writer.delete, principal, disposal="erase" if permanent else "bin")
        return self._change("DELETE", principal, criteria, None, delete, seconds)

    def _refuse_typos(self, principal: Principal, criteria: Filter, *, everything: bool) -> None:
        """Refuse a filter that may hold for everything because a key is misspelt.

        :raises CatalogueUnavailable: when that is not known, because the catalogue is being rebuilt
        """
        if everything:
            return
        unknown = self._unknown_keys(principal, (part.path for part in criteria.parts() if part.holds_for_nothing))
        if unknown and self.rebuilding(surely=True) is not None:
            raise CatalogueUnavailable("The catalogue is still being made: which keys there are is not known yet.")
        refuse_unknown_keys(unknown, ", so that this condition holds for every record; all=True where that is meant")

    def _change(
        self, verb: str, principal: Principal, criteria: Filter, patch: Any, act: Act, seconds: float | None
    ) -> Changed:
        """Change every image of a filter; the names that ``act`` gets, and those in the outcome, are the caller's."""
        criteria = self._visible(principal, criteria)
        until = time.monotonic() + seconds if seconds is not None else float("inf")
        changes = Changed()
        progress = _Progress(verb, changes, self._every)
        with self._admitted(), ThreadPoolExecutor(_AT_ONCE, "bulk") as pool, progress:
            # The walk goes on behind a name: what is changed, or deleted, does not move it.
            names = (principal.relative(document["name"]) for document in self._repo.indexer.index.each(criteria))
            while changes.ended is None and (batch := _next(names, self._batch, changes)):
                outcomes = pool.map(lambda name: self._attempt(principal, name, _Judge(criteria, patch), act), batch)
                changes.add(batch, list(outcomes))
                progress.log()
                if time.monotonic() > until:
                    changes.ended = changes.ended or Busy("It took as long as a request may.")
        return changes

    def _attempt(self, principal: Principal, name: str, judge: _Judge, act: Act) -> Outcome | Problem:
        try:
            return self._act(principal, ImageName(name), judge, act)
        except Problem as problem:
            return problem
        except Exception:  # whatever it is, the others go on
            log.exception("%r could not be changed", name)
            return Problem()

    def _act(self, principal: Principal, name: ImageName, judge: _Judge, act: Act) -> Outcome:
        try:
            act(name, Conditions(holds=judge))
        except ImageNotFound:
            judge.outcome = "other"
        except PreconditionFailed:
            if judge.outcome == "modified":
                raise
        if judge.outcome == "other":  # the catalogue may be out of date
            with suppress(Problem):
                self._repo.metadata.reindex(principal.qualify(name))
        return judge.outcome

    @contextmanager
    def _admitted(self) -> Iterator[None]:
        if not self._free.acquire(blocking=False):
            raise Busy("As many changes of many records are under way as may.")
        try:
            yield
        finally:
            self._free.release()


def _view(principal: Principal, document: Document) -> dict[str, Any]:
    """Return a document under the name that a caller uses."""
    if not principal.namespace or "name" not in document:
        return dict(document)
    return {**document, "name": principal.relative(document["name"])}


def _view_of_names(principal: Principal, statistics: Statistics) -> Statistics:
    """Return statistics over names as a caller uses them: all of one namespace begin alike, and keep their order."""
    most, least = (value and principal.relative(value) for value in (statistics.most, statistics.least))
    values = [(principal.relative(name), count) for name, count in statistics.values]
    return replace(statistics, most=most, least=least, values=values)


def _next(names: Iterator[str], most: int, changes: Changed) -> list[str]:
    """Return the next names; none when the catalogue fails, which then ends the change.

    :raises Problem: when it fails at the first ones
    """
    try:
        return list(islice(names, most))
    except Problem as problem:
        if not changes.matched:
            raise
        changes.ended = problem
        return []


class _Judge:
    """A condition that tests a record under the lock of its name, and remembers why it is not to be changed.

    :param patch: what is merged into its data; None when it is deleted
    """

    def __init__(self, criteria: Filter, patch: Any) -> None:
        self._wanted = criteria
        self._patch = patch
        self.outcome: Outcome = "other"

    def __call__(self, document: Document) -> bool:
        """Return whether the record is to be changed."""
        if not holds(self._wanted, document):
            self.outcome = "other"
        elif self._patch is not None and is_same(merge(document["data"], self._patch), document["data"]):
            self.outcome = "same"
        else:
            self.outcome = "modified"
        return self.outcome == "modified"


class _Progress:
    """Progress of a bulk change in the log, now and then and at the end."""

    def __init__(self, verb: str, changes: Changed, every: float) -> None:
        self._verb = verb
        self._changes = changes
        self._every = every
        self._began = self._last = time.monotonic()

    def __enter__(self) -> _Progress:
        return self

    def __exit__(self, *_: object) -> None:
        self._log("ended")

    def log(self) -> None:
        """Log the progress, unless that was done just now."""
        if time.monotonic() - self._last >= self._every:
            self._last = time.monotonic()
            self._log("goes on")

    def _log(self, what: str) -> None:
        changes = self._changes
        log.info(
            "%s of many %s: %d matched, %d modified, %d failed in %.1f s",
            self._verb,
            what,
            changes.matched,
            changes.modified,
            len(changes.failed) + changes.more,
            time.monotonic() - self._began,
        )
