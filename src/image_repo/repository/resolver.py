"""Resolver: name → original.

A name is resolved to the object of its original, and to that object's entity tag, the version. A resolution holds for
``freshness`` seconds, unless a process of this node writes to the name. The last one is also on disk, so that known
images are served while the container cannot be reached, also after a restart.
"""

from __future__ import annotations

import contextlib
import json
import logging
import math
import threading
import time
import unicodedata
from collections.abc import Callable
from concurrent.futures import CancelledError
from dataclasses import asdict, dataclass
from typing import Any

from cachetools import LRUCache

from image_repo.caches.tiers import Tier
from image_repo.concurrency import deadline
from image_repo.concurrency.background import BackgroundWorker
from image_repo.concurrency.invalidation import InvalidationEpochs
from image_repo.concurrency.limiter import aside
from image_repo.concurrency.single_flight import Flight, SingleFlight
from image_repo.errors import RenderTimeout, StoreUnavailable
from image_repo.model import first_names
from image_repo.model.formats import ENDINGS, split_ending
from image_repo.model.key import prefix_of
from image_repo.model.names import ImageName
from image_repo.model.original import Original
from image_repo.model.record import MEDIA_TYPE as RECORD
from image_repo.model.record import Record, record_key
from image_repo.model.rendition import Rendition
from image_repo.stores.base import Entry, Store

log = logging.getLogger(__name__)

#: seconds after which a name is looked for in the listing again, where a HEAD alone would do:
#: so a second original that another tool laid beside the first is found
LISTING_AGE = 60.0
#: seconds that a request waits for the store where the last known original could be served
_PATIENCE = 1.0
#: the same for a name that was validated in the last :data:`_HOT_S`, or so many times what the store usually takes
_HOT_PATIENCE_S, _HOT_S, _USUAL_TIMES = 0.03, 60.0, 8.0
#: threads that revalidate: enough that a circuit breaker notices when none of them gets an answer
_REVALIDATIONS_AT_ONCE = 4
_MOST_NAMES = 100_000
_MOST_REVALIDATIONS = 256
#: seconds to wait for another thread that resolves the name
_RESOLUTION_TIMEOUT_S = 60.0
_MOST_RECORD_BYTES = 2 << 20


@dataclass(frozen=True, slots=True)
class _Resolution:
    """The original of a name, with the times of its validation and of the last listing, in monotonic seconds."""

    original: Original | None
    validated: float
    listed: float
    mark: int


@dataclass(frozen=True, slots=True)
class Lease:
    """Until when a resolution may be used without revalidation, while the mark of its name stays the same.

    :param slot: where the mark is
    :param until: monotonic seconds
    """

    slot: int
    mark: int
    until: float


def original_of(name: ImageName, entry: Entry) -> Original:
    """Return the original of a name from a store's entry."""
    format_ = split_ending(entry.key)[1]
    media_type = format_.media_type if format_ else entry.media_type
    # Swift's Last-Modified is its time rounded up: a listing has fractions, a HEAD does not.
    return Original(name, entry.key, entry.etag, entry.size, float(math.ceil(entry.modified)), media_type)


def image_of(key: str, media_type: str) -> ImageName | None:
    """Return the name of the image whose original an object is; None when it is no original.

    Originals have a known ending, or none and the media type of an image, and a key that is a valid name.
    """
    stem, format_ = split_ending(key)
    if not format_ and not media_type.startswith("image/"):
        return None
    return ImageName.of_key(first_names.name_of_original(stem) or stem)


class Resolver:
    """Name → :class:`Original`.

    :param marks: of the names that a process of the node wrote to
    :param disk: for the last known originals; best effort
    :param changed: called with a name that another process has written to
    :param learnt: called with a name and its original where the container has another one than was known here
    :param outdated: called with a name after a write of ours, and where the container has another original than before
    :param clock: monotonic seconds
    """

    def __init__(
        self,
        origin: Store,
        marks: InvalidationEpochs,
        disk: Tier | None,
        *,
        freshness: float,
        changed: Callable[[ImageName], object] = lambda _: None,
        learnt: Callable[[ImageName, Original | None], object] = lambda _, __: None,
        outdated: Callable[[ImageName], object] = lambda _: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._origin = origin
        self.marks = marks
        self._disk = disk
        self._freshness = freshness
        self._changed = changed
        self._learnt = learnt
        self._outdated = outdated
        self._clock = clock
        self._resolutions: LRUCache[str, _Resolution] = LRUCache(_MOST_NAMES)
        self._lock = threading.Lock()
        self._flights = SingleFlight(None)
        self._worker = BackgroundWorker("image_repo-revalidation", _MOST_REVALIDATIONS, _REVALIDATIONS_AT_ONCE)
        #: seconds that the store takes to answer, a moving average
        self._usual = 0.0

    def resolve(self, name: ImageName, *, absence: bool = False) -> Original | None:
        """Return the original of a name, at most ``freshness`` seconds old; None when there is none.

        :param absence: whether a fresh "there is none" may be returned; otherwise the container is read again, because
            another tool may just have put the original there
        :raises StoreUnavailable: when the container cannot be read, and no original is remembered
        """
        known = self._remembered(name)
        if known and (known.original or absence) and self._is_fresh(name, known):
            return known.original
        mark = self.marks.read(name.text)
        last = known.original if known and known.mark == mark else self._from_disk(name)
        flight = self._revalidate(name, mark) if last else None
        if flight is None:
            return self._resolve_once(name)
        try:
            with contextlib.suppress(CancelledError), aside():
                # A request that joins late waits less.
                patience = flight.began + self._patience(known) - time.monotonic()
                return flight.outcome(deadline.until(patience))
        except RenderTimeout:
            deadline.silent_for(_PATIENCE)
            log.warning("the store takes long to answer; %s is served as it was known last", name)
            return last
        return self._resolve_once(name)

    def _patience(self, known: _Resolution | None) -> float:
        """Return for how many seconds a request waits for the store where it may be served the last known original."""
        if known is None or self._clock() - known.validated > _HOT_S:
            return _PATIENCE
        return min(_PATIENCE, max(_HOT_PATIENCE_S, _USUAL_TIMES * self._usual))

    def _is_fresh(self, name: ImageName, known: _Resolution) -> bool:
        """Return whether a resolution is fresh. In its second half it is revalidated ahead of time."""
        age = self._clock() - known.validated
        if age >= self._freshness or known.mark != self.marks.read(name.text):
            return False
        if age > self._freshness / 2:
            self._revalidate(name, known.mark)
        return True

    def _resolve_once(self, name: ImageName) -> Original | None:
        key = _flight_key(name, self.marks.read(name.text))
        return self._flights.do(key, lambda: self._validate(name), lambda: None, _RESOLUTION_TIMEOUT_S)

    def _revalidate(self, name: ImageName, mark: int) -> Flight[Original | None] | None:
        """Validate a name in the background; return None when too many wait for that already."""
        return self._flights.start(
            _flight_key(name, mark), lambda: self._validate_timed(name), _RESOLUTION_TIMEOUT_S, self._worker
        )

    def _validate_timed(self, name: ImageName) -> Original | None:
        began = time.monotonic()
        try:
            original = self._validate(name)
        except Exception as error:  # perhaps no request waits for it; the next one meets the trouble itself
            log.info("%s could not be looked up: %s", name, error)
            raise
        self._usual += 0.2 * (min(_PATIENCE, time.monotonic() - began) - self._usual)
        return original

    def lease(self, original: Original) -> Lease | None:
        """Return the lease of a resolution; None when it does not hold any more."""
        text = original.name.text
        known = self._remembered(original.name)
        if known is None or known.original != original or known.mark != self.marks.read(text):
            return None
        return Lease(self.marks.slot(text), known.mark, known.validated + self._freshness)

    def look_up(self, name: ImageName) -> Original | None:
        """Return the original of a name from the container itself, right now.

        :raises StoreUnavailable: when it cannot be read
        """
        mark = self.marks.read(name.text)
        known = self._remembered(name)
        before = known.original if known else self._from_disk(name)
        original = self._find(name) if self._origin.capabilities.immediate_listing else self._newest(name)
        self._remember(name, original, mark, listed=True)
        self._learn(name, original, before)
        return original

    def note_write(self, name: ImageName, original: Original | None) -> None:
        """Note the original of a name after a write of ours, None after its deletion."""
        if self._from_disk(name) != original:  # a write to the record leaves it the same
            self._to_disk(name, original)
        self.marks.mark(name.text)
        self._remember(name, original, self.marks.read(name.text), listed=True)
        self._outdated(name)

    def originals(self, name: ImageName) -> list[Entry]:
        """Return every object that is an original of this name, the newest first; there should be one."""
        return sorted(self._listed(name) + self._laid_by_first(name), key=_age, reverse=True)

    def _listed(self, name: ImageName) -> list[Entry]:
        entries = [entry for form in _forms(name.text) for entry in self._origin.find((form,), ENDINGS)]
        entries = [entry for entry in entries if image_of(entry.key, entry.media_type) == name]
        if not entries and not split_ending(name.text)[1]:
            plain = (self._origin.head(form) for form in _forms(name.text))
            entries = [entry for entry in plain if entry and _may_be_picture(entry)]
        return entries

    def _laid_by_first(self, name: ImageName) -> list[Entry]:
        """Return the originals of a name that the first image_repo stored."""
        return self._origin.find((first_names.original_stem(name.text),), ENDINGS)

    def close(self) -> None:
        """End the threads that revalidate, without waiting for calls that the store does not answer."""
        self._worker.close(_PATIENCE)

    def _remembered(self, name: ImageName) -> _Resolution | None:
        with self._lock:
            return self._resolutions.get(name.text)

    def _validate(self, name: ImageName) -> Original | None:
        # The mark is read before the container is: a write in between shows as a difference later.
        mark = self.marks.read(name.text)
        known = self._remembered(name)
        if known and known.mark != mark:
            self._changed(name)
            known = None
        hint = (known.original if known else None) or self._from_disk(name)
        recently = known is not None and self._clock() - known.listed < LISTING_AGE
        try:
            original = self._again(hint) if hint and (recently or not known) else None
            listed = original is None
            original = original or self._find(name)
        except StoreUnavailable:
            if hint is None:
                raise
            log.warning("the store cannot be reached; %s is served as it was known last", name)
            return hint
        self._remember(name, original, mark, listed=listed or not recently)
        self._learn(name, original, hint)
        return original

    def _learn(self, name: ImageName, original: Original | None, before: Original | None) -> None:
        if original != before:
            self._to_disk(name, original)
            self._learnt(name, original)
            if before is not None:
                self._outdated(name)

    def _again(self, hint: Original) -> Original | None:
        entry = self._origin.head(hint.key)
        return original_of(hint.name, entry) if entry else None

    def _find(self, name: ImageName) -> Original | None:
        originals = self._listed(name) or self._laid_by_first(name)
        newest = max(originals, key=_age) if originals else None
        if newest and self._origin.capabilities.immediate_listing:
            return original_of(name, newest)
        key = newest.key if newest else self._from_record(name)
        # A listing may lag behind: the object itself says which version it is.
        entry = self._origin.head(key) if key else None
        return original_of(name, entry) if entry else None

    def _newest(self, name: ImageName) -> Original | None:
        """Return the newest of the originals that the listing, which may lag behind, and the record name."""
        keys = {entry.key for entry in self.originals(name)} | {self._from_record(name) or ""}
        entries = [entry for key in sorted(keys - {""}) if (entry := self._origin.head(key))]
        return original_of(name, max(entries, key=_age)) if entries else None

    def _from_record(self, name: ImageName) -> str | None:
        record = read_record(self._origin, name)
        return record.key if record and image_of(record.key, "image/") == name else None

    def _remember(self, name: ImageName, original: Original | None, mark: int, *, listed: bool) -> None:
        now = self._clock()
        with self._lock:
            before = self._resolutions.get(name.text)
            since = now if listed or not before else before.listed
            self._resolutions[name.text] = _Resolution(original, now, since, mark)

    def _from_disk(self, name: ImageName) -> Original | None:
        if self._disk is None:
            return None
        try:
            entry = self._disk.get(prefix_of(name))
            return _load(entry.body) if entry else None
        except (OSError, ValueError, TypeError, KeyError) as error:
            log.warning("the last known original of %s cannot be read from disk: %s", name, error)
            return None

    def _to_disk(self, name: ImageName, original: Original | None) -> None:
        if self._disk is None:
            return
        try:
            if original is None:
                self._disk.delete(prefix_of(name))
            else:
                text = json.dumps(asdict(original) | {"name": original.name.text}).encode()
                self._disk.put(prefix_of(name), Rendition(text, "application/json", original.version, 0.0))
        except OSError as error:
            log.warning("the original of %s cannot be noted on disk: %s", name, error)
            with contextlib.suppress(OSError):  # better nothing than what was true before
                self._disk.delete(prefix_of(name))


def _flight_key(name: ImageName, mark: int) -> str:
    # A caller after a write must not get an answer from before it.
    return f"{name.text}\0{mark:x}"


def read_record(origin: Store, name: ImageName) -> Record | None:
    """The record beside an original, if there is one of ours.

    :raises StoreUnavailable: when the store cannot be asked
    """
    return read_record_object(origin, name)[0]


def read_record_object(origin: Store, name: ImageName) -> tuple[Record | None, str]:
    """The record beside an original, and the entity tag of the object that holds it.

    :returns: None for the record where it is damaged; empty text for the tag where there is none of ours
    :raises StoreUnavailable: when the store cannot be asked
    """
    body = origin.get(record_key(name.text))
    if body is None:
        return None, ""
    with body:
        if body.entry.media_type != RECORD:
            return None, ""
        text = b"".join(body) if body.entry.size <= _MOST_RECORD_BYTES else b""
    try:
        return Record.load(text), body.entry.etag
    except ValueError as error:
        log.warning("the record of %s cannot be read: %s", name, error)
        return None, body.entry.etag


def _age(entry: Entry) -> tuple[float, str]:
    return entry.modified, entry.key


def _forms(text: str) -> tuple[str, ...]:
    """Return the spellings of a name that other tools use: NFC, and NFD as macOS writes it."""
    return tuple(dict.fromkeys((text, unicodedata.normalize("NFD", text))))


def _may_be_picture(entry: Entry) -> bool:
    """Return whether an object without an image ending may be an original: records and notes are not."""
    return entry.media_type.startswith("image/") or "." not in entry.key.rpartition("/")[2]


def _load(text: bytes) -> Original:
    members: dict[str, Any] = json.loads(text)
    return Original(**(members | {"name": ImageName(members["name"])}))
