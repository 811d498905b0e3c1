"""The reconciler: compares an index with a listing of the container, and makes the index follow.

A listing has the name and the stamp of each thing. What the index has under another stamp, or not at all, is loaded
and written anew. What was not listed is looked up once more, and removed. Nothing is written twice: a rebuild that was
killed goes on where it was. Memory does not grow with the number of things, but for eight bytes each.
"""

from __future__ import annotations

import hashlib
import itertools
import logging
import os
from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

from image_repo.catalogue import indexer
from image_repo.catalogue.base import Row
from image_repo.catalogue.indexer import UNREAD
from image_repo.catalogue.query import Filter
from image_repo.concurrency.invalidation import InvalidationEpochs
from image_repo.errors import Busy, CatalogueUnavailable, Problem
from image_repo.model import first_names
from image_repo.model.formats import split_ending
from image_repo.model.names import ImageName
from image_repo.model.record import MEDIA_TYPE as RECORD
from image_repo.repository.metadata import fitting
from image_repo.repository.repository import Repository
from image_repo.repository.resolver import image_of, original_of, read_record_object
from image_repo.stores.base import Entry, NotReadable

if TYPE_CHECKING:
    from image_repo.catalogue.index import Index

log = logging.getLogger(__name__)
T = TypeVar("T")

#: names compared at a time
_AT_ONCE = 1_000
#: rows that are written in one transaction; other writers wait for it
_ROWS = 100
#: names held back until the end of a listing, because their other objects may stand anywhere in it
_MOST_APART = 50_000
#: records without an original that are remembered, so that they are not read again and again
_MOST_VOID = 1 << 17

_Each = Callable[[Callable[[str], "Row | Problem | None"], Iterable[str]], Iterable["Row | Problem | None"]]
#: name and stamp of each thing that the container holds
Listing = Iterable[tuple[str, str]]


@dataclass(slots=True)
class SweepOutcome:
    """What a sweep has done so far.

    :param seen: things that the container lists, records that have lost their original too
    :param whole: those that are indexed completely
    :param written: rows that were new or differed
    :param removed: rows of things that are gone
    :param unread: rows that are known only from a listing
    :param failed: things that the index refuses, and why
    """

    seen: int = 0
    whole: int = 0
    written: int = 0
    removed: int = 0
    unread: int = 0
    failed: list[tuple[str, str]] = field(default_factory=list)

    @property
    def there(self) -> int:
        """Things that are indexed now."""
        return self.whole + self.unread


class Sweep:
    """Compares an index with a listing, again and again.

    :param load: returns the row of a name, from the container; None where nothing is
    :param settle: makes the index follow the container for a name, while others write to it
    :param marks: show writes to a name
    :param at_once: how many are loaded at a time
    """

    def __init__(
        self,
        index: Index,
        load: Callable[[str], Row | None],
        settle: Callable[[str], object] | None = None,
        *,
        marks: InvalidationEpochs | None = None,
        at_once: int = 1,
    ) -> None:
        self._index = index
        self._load = load
        self._settle = settle or (lambda name: overwrite(index, name, load(name)))
        self._marks = marks
        self._workers = at_once
        #: hashes of records without an original: they are not read again and again
        self._void: dict[int, None] = {}

    def run(self, listing: Listing) -> Iterator[SweepOutcome]:
        """Make the index follow; return the state after each step.

        :raises StoreUnavailable, CatalogueUnavailable: when one of them does not answer; what was done stays
        """
        outcome, there = SweepOutcome(), _Hashes()
        with ExitStack() as stack:
            pool = stack.enter_context(ThreadPoolExecutor(self._workers)) if self._workers > 1 else None
            each: _Each = pool.map if pool else map
            for batch in _batches(listing, _AT_ONCE):
                for part in self._differing(batch, outcome, there):
                    self._bring([name for name, _ in part], dict(part), each, outcome, there)
                    yield outcome
                outcome.seen += len(batch)
                yield outcome
        there.seal()
        yield from self._remove(there, outcome)

    def _differing(
        self, batch: Sequence[tuple[str, str]], outcome: SweepOutcome, there: _Hashes
    ) -> Iterator[list[tuple[str, str]]]:
        """Return what has to be loaded, in parts that are small enough for one transaction."""
        stamps = self._index.stamps([name for name, _ in batch])
        differing = []
        for name, stamp in batch:
            have = stamps.get(name)
            if have is None or indexer.bare(have) != stamp:
                if _hash(f"{stamp}\0{name}") not in self._void:
                    differing.append((name, stamp))
                continue
            there.add(name)
            outcome.unread += have.endswith(UNREAD)
            outcome.whole += not have.endswith(UNREAD)
        yield from _batches(differing, _ROWS)

    def _bring(
        self,
        names: list[str],
        stamps: dict[str, str],
        each: _Each,
        outcome: SweepOutcome,
        there: _Hashes,
    ) -> None:
        """Load what differs and write it, unless another process writes it."""
        before = self._marked(names)
        have = self._index.stamps(names)  # once more: a later writer marks the name after this
        names = [name for name in names if indexer.bare(have.get(name, "\0")) != stamps[name]]
        rows = dict(zip(names, each(self._try, names), strict=True))
        for name, result in rows.items():
            if result is None:
                self._nothing(name, stamps[name])
                continue
            there.add(name)
            if isinstance(result, Problem):
                outcome.failed.append((name, str(result)))
        self._put([row for row in rows.values() if isinstance(row, Row)], outcome)
        after = self._marked(names)
        for name in (name for name in names if before.get(name) != after.get(name)):
            self._settle(name)

    def _try(self, name: str) -> Row | Problem | None:
        """Return the row of a name, or the problem of this name alone."""
        try:
            return self._load(name)
        except Problem as problem:
            if problem.retry_after is not None:
                raise
            log.warning("%s cannot be indexed: %s", name, problem)
            return problem

    def _nothing(self, name: str, stamp: str) -> None:
        if len(self._void) >= _MOST_VOID:
            self._void.pop(next(iter(self._void)))
        self._void[_hash(f"{stamp}\0{name}")] = None

    def _put(self, rows: list[Row], outcome: SweepOutcome) -> None:
        refused = _put_rows(self._index.put, rows)
        outcome.failed += refused.items()
        written = [row for row in rows if row.name not in refused]
        unread = sum(row.stamp.endswith(UNREAD) for row in written)
        outcome.written += len(written)
        outcome.unread += unread
        outcome.whole += len(written) - unread

    def _marked(self, names: Iterable[str]) -> dict[str, int]:
        return {name: self._marks.read(name) for name in names} if self._marks else {}

    def _remove(self, there: _Hashes, outcome: SweepOutcome) -> Iterator[SweepOutcome]:
        """Remove what was not listed, after another look at each name: a listing may lag behind."""
        if self._index.count(Filter()) <= len(there):
            return
        for names in paged_names(self._index):
            gone = [name for name in names if name not in there]
            for at, name in enumerate(gone, 1):
                self._settle(name)
                if at % _ROWS == 0:
                    yield outcome
            outcome.removed += len(gone) - len(self._index.stamps(gone))
            yield outcome


def overwrite(index: Index, name: str, row: Row | None) -> None:
    """Make an index hold this row of a name, or none."""
    if row is None:
        index.remove([name])
    else:
        index.put([row])


def sweep(
    index: Index, listing: Listing, load: Callable[[str], Row | None], settle: Callable[[str], object] | None = None
) -> SweepOutcome:
    """Compare an index with a listing once, to the end: as :class:`Sweep`."""
    return run_to_end(Sweep(index, load, settle).run(listing))


def run_to_end(steps: Iterator[SweepOutcome]) -> SweepOutcome:
    """Run all steps, and return the last outcome."""
    outcome = SweepOutcome()
    for outcome in steps:  # noqa: B007
        pass
    return outcome


class _Hashes:
    """A set of names that takes eight bytes each. One name in 10¹³ is taken for another, in this process only."""

    def __init__(self) -> None:
        self._salt = os.urandom(16)
        self._buckets = [array("Q") for _ in range(256)]

    def add(self, name: str) -> None:
        """Add a name, before :meth:`seal`."""
        hashed = self._hash(name)
        self._buckets[hashed >> 56].append(hashed)

    def seal(self) -> None:
        """Sort the set, so that names can be looked up."""
        for at, bucket in enumerate(self._buckets):
            self._buckets[at] = array("Q", sorted(set(bucket)))

    def __contains__(self, name: str) -> bool:
        hashed = self._hash(name)
        bucket = self._buckets[hashed >> 56]
        at = bisect_left(bucket, hashed)
        return at < len(bucket) and bucket[at] == hashed

    def __len__(self) -> int:
        return sum(map(len, self._buckets))

    def _hash(self, name: str) -> int:
        return _hash(name, self._salt)


def _hash(text: str, salt: bytes = b"") -> int:
    digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8, salt=salt)
    return int.from_bytes(digest.digest(), "big")


def _batches(things: Iterable[T], size: int) -> Iterator[list[T]]:
    everything = iter(things)
    while batch := list(itertools.islice(everything, size)):
        yield batch


def paged_names(index: Index) -> Iterator[list[str]]:
    """Return all names of an index, a page at a time."""
    after = ""
    while names := index.names(after, _AT_ONCE):
        yield names
        after = names[-1]


# -- images --------------------------------------------------------------------------


@dataclass(slots=True)
class _Found:
    """What a listing shows of one name.

    :param original: the newest; those with an ending before those without
    :param record: the entity tag of our record's object, empty where there is none
    """

    original: Entry | None = None
    record: str = ""

    def add(self, entry: Entry) -> None:
        """Add one of its objects."""
        if entry.media_type == RECORD:
            self.record = entry.etag
        elif self.original is None or _rank(entry) > _rank(self.original):
            self.original = entry

    def merge(self, other: _Found) -> None:
        """Add what stands elsewhere in the listing."""
        self.record = self.record or other.record
        if other.original:
            self.add(other.original)

    @property
    def stamp(self) -> str:
        original = self.original
        return indexer.stamp(original.key if original else "", original.etag if original else "", self.record)


def _rank(entry: Entry) -> tuple[bool, float, str]:
    return image_of(entry.key, "") is not None, entry.modified, entry.key


class Images:
    """The images that the container lists, and their rows."""

    def __init__(self, repo: Repository) -> None:
        self._repo = repo
        self._at_hand: dict[str, _Found] = {}

    def listing(self) -> Iterator[tuple[str, str]]:
        """Return name and stamp of every image and description."""
        apart: dict[str, _Found] = {}
        beside = _Hashes()
        for name, entries, spelled in self._grouped():
            has_spellings = not first_names.is_quoted_the_same(name)
            if spelled and (entries.original or not has_spellings):
                if has_spellings:
                    beside.add(name)
                yield self._hand(name, entries)
                continue
            # Its original, or its record, may have another spelling and stand anywhere.
            apart.setdefault(name, _Found()).merge(entries)
            if len(apart) > _MOST_APART:
                yield from self._asked(apart)
                apart = {}
        beside.seal()
        yield from self._asked(name for name in apart if name in beside)
        yield from (self._hand(name, entries) for name, entries in apart.items() if name not in beside)

    def load(self, name: str) -> Row | None:
        """Return the row of a name that was just listed, with as few requests as possible."""
        entries = self._at_hand.get(name)
        if entries is None:
            return self._repo.metadata.row(ImageName(name))
        image = ImageName(name)
        current = original_of(image, entries.original) if entries.original else None
        if not entries.record:
            return Row(name, indexer.listed(current, None), entries.stamp + UNREAD) if current else None
        stored, etag = read_record_object(self._repo.origin, image)
        if etag != entries.record:
            return self._repo.metadata.row(image)
        known = fitting(stored, current)
        if known is None and current and stored:
            # The listing may lag behind; and it has no entity tag of a segmented object.
            head = self._repo.origin.head(current.key)
            current = original_of(image, head) if head else None
            known = fitting(stored, current)
        if known:
            return Row(name, self._repo.metadata.redact(known).public(), entries.stamp)
        return Row(name, indexer.listed(current, stored), entries.stamp + UNREAD) if current else None

    def _hand(self, name: str, entries: _Found) -> tuple[str, str]:
        if len(self._at_hand) > 2 * _AT_ONCE:
            # Those of the batch before are not needed any more.
            self._at_hand = dict(itertools.islice(self._at_hand.items(), _AT_ONCE, None))
        self._at_hand[name] = entries
        return name, entries.stamp

    def _asked(self, names: Iterable[str]) -> Iterator[tuple[str, str]]:
        """Return names that the listing does not describe completely: the container is asked for each."""
        for name in names:
            row = self._repo.metadata.row(ImageName(name))
            if row:
                self._at_hand.pop(name, None)
                yield name, indexer.bare(row.stamp)

    def _grouped(self) -> Iterator[tuple[str, _Found, bool]]:
        """Return what each place shows of a name, and whether all its keys are spelled as the name is."""
        waiting: dict[str, tuple[str, _Found]] = {}
        for entry in self._entries():
            for stem in [stem for stem in waiting if entry.key >= stem + "/"]:
                text, entries = waiting.pop(stem)
                yield text, entries, stem == text
            name = _named(entry)
            if name is not None:
                stem = name if entry.key.startswith(name) else split_ending(entry.key)[0]
                waiting.setdefault(stem, (name, _Found()))[1].add(entry)
        for stem, (text, entries) in waiting.items():
            yield text, entries, stem == text

    def _entries(self) -> Iterator[Entry]:
        """Return all entries but those that begin with a dot: renditions may be in the same container."""
        yield from self._repo.origin.keys(before=".")
        yield from self._repo.origin.keys(after="/")


def _named(entry: Entry) -> str | None:
    """Return the name of the image that an object belongs to, as an original or as its record."""
    if entry.media_type != RECORD:
        image = image_of(entry.key, entry.media_type)
        return image.text if image else None
    name = entry.key.removesuffix(".json")
    image = ImageName.of_key(name) if name != entry.key else None
    return name if image and image.text == name else None


def images(repo: Repository, *, at_once: int = 1) -> tuple[Images, Sweep]:
    """Return the images of a repository, and the sweep that compares the index with them.

    :raises CatalogueDisabled, CatalogueUnavailable: when there is no index
    """
    listed = Images(repo)

    def settle(name: str) -> None:
        try:
            repo.metadata.reindex(ImageName(name))
        except Busy:  # its writer indexes it
            repo.indexer.outbox.add(name)
        except NotReadable as problem:  # its row stays until it can be read
            log.warning("%s is passed over: %s", name, problem.detail)

    return listed, Sweep(repo.indexer.index, listed.load, settle, marks=repo.epochs, at_once=at_once)


def unread(index: Index) -> Iterator[list[tuple[ImageName, str]]]:
    """Return the images that the index knows only from a listing, with the stamps of their rows.

    Those whose originals cannot be understood are not among them.
    """
    for names in paged_names(index):
        stamps = index.stamps(names)
        yield [(ImageName(name), stamps[name]) for name in names if stamps.get(name, "").endswith(UNREAD)]


def complete(repo: Repository, *, at_once: int = 1, rows: int = 1) -> Iterator[int]:
    """Read the originals that the index knows only from a listing; return after each step how many those were.

    :param at_once: how many are read at a time
    :param rows: how many a step reads, and writes to the index in one transaction
    :raises StoreUnavailable, CatalogueUnavailable: when one of them does not answer; what was read stays
    """
    with ThreadPoolExecutor(at_once) as pool:
        for images in unread(repo.indexer.index):
            yield 0
            for part in _batches(images, rows):
                _complete_all(repo, part, pool)
                yield len(part)


def _put_rows(put: Callable[[list[Row]], object], rows: list[Row]) -> dict[str, str]:
    """Write rows; where the index refuses one, all the others.

    :returns: the names of what it refuses, with reasons
    :raises CatalogueUnavailable: when it does not answer
    """
    try:
        if rows:
            put(rows)
    except CatalogueUnavailable:
        raise
    except Exception as error:
        if len(rows) > 1:
            return {name: reason for row in rows for name, reason in _put_rows(put, [row]).items()}
        log.warning("the catalogue does not take %s: %s", rows[0].name, error)
        return {rows[0].name: str(error)}
    return {}


def _complete_all(repo: Repository, images: Sequence[tuple[ImageName, str]], pool: ThreadPoolExecutor) -> None:
    rows: list[Row] = []
    try:
        for row in pool.map(lambda image: _complete_one(repo, *image), images):
            rows += [row] if row else []
    finally:
        # what was written to meanwhile is indexed by its writer
        _put_rows(lambda some: repo.indexer.index.put(some, indexer.completes), rows)


def _complete_one(repo: Repository, name: ImageName, stamp: str) -> Row | None:
    try:
        return repo.metadata.complete(name, stamp)
    except Busy:  # the next look finds it again
        log.info("the original of %s is read another time", name)
    except NotReadable as problem:  # as does the next sweep
        log.warning("%s is passed over: %s", name, problem.detail)
    return None


# -- what differs --------------------------------------------------------------------


@dataclass(slots=True)
class Difference:
    """How an index differs from the container, counted."""

    missing: int = 0
    stale: int = 0
    unread: int = 0
    gone: int = 0


def compare(index: Index, listing: Listing) -> Difference:
    """Compare an index with a listing, and change nothing.

    :raises StoreUnavailable, CatalogueUnavailable: when one of them does not answer
    """
    difference, there = Difference(), _Hashes()
    for batch in _batches(listing, _AT_ONCE):
        stamps = index.stamps([name for name, _ in batch])
        for name, stamp in batch:
            there.add(name)
            have = stamps.get(name)
            difference.missing += have is None
            difference.stale += have is not None and indexer.bare(have) != stamp
            difference.unread += have is not None and have.endswith(UNREAD)
    there.seal()
    difference.gone = sum(name not in there for names in paged_names(index) for name in names)
    return difference
