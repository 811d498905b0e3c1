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
import queue
import threading
import time
import unicodedata
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import asdict, dataclass, replace
from typing import Any, TypeVar

from cachetools import LRUCache

from image_repo.caches.tiers import Tier
from image_repo.concurrency import deadline
from image_repo.concurrency.invalidation import InvalidationEpochs
from image_repo.concurrency.limiter import aside
from image_repo.concurrency.single_flight import SingleFlight
from image_repo.errors import StoreUnavailable
from image_repo.model.formats import ENDINGS, split_ending
from image_repo.model.key import prefix_of
from image_repo.model.names import ImageName
from image_repo.model.original import Original
from image_repo.model.record import MEDIA_TYPE as RECORD
from image_repo.model.record import Record, record_key
from image_repo.model.rendition import Rendition
from image_repo.stores.base import Entry, Store

log = logging.getLogger(__name__)
T = TypeVar("T")

#: seconds after which a name is looked for in the listing again, where a HEAD alone would do:
#: so a second original that another tool laid beside the first is found
LISTING_AGE = 60.0
#: seconds that a request waits for the store where it could be answered with what was known last
_PATIENCE = 1.0
#: the same for a name that was validated in the last :data:`_HOT_S`, or so many times what the store usually takes
_HOT_PATIENCE_S, _HOT_S, _USUAL_TIMES = 0.03, 60.0, 8.0
#: threads that ask for requests: enough that a breaker notices when none of them gets an answer
_ASKING = 4
_MOST_NAMES = 100_000
_MOST_REFRESHES = 256
_MOST_RECORD_BYTES = 2 << 20


@dataclass(frozen=True, slots=True)
class _Known:
    current: Original | None
    asked: float
    listed: float
    mark: bytes


@dataclass(frozen=True, slots=True)
class Lease:
    """Until when a resolution may be used without revalidation, while the mark of its name stays the same.

    :param slot: where the mark is
    :param until: monotonic seconds
    """

    slot: int
    mark: bytes
    until: float


def original_of(name: ImageName, entry: Entry) -> Original:
    """Return the original of a name from a store's entry."""
    known = split_ending(entry.key)[1]
    media_type = known.media_type if known else entry.media_type
    # Swift's Last-Modified is its time rounded up: a listing has fractions, a HEAD does not.
    return Original(name, entry.key, entry.etag, entry.size, float(math.ceil(entry.modified)), media_type)


def image_of(key: str, media_type: str) -> ImageName | None:
    """Return the name of the image whose original an object is; None when it is no original.

    Originals have a known ending, or none and the media type of an image, and a key that is a valid name.
    """
    stem, made = split_ending(key)
    if not made and not media_type.startswith("image/"):
        return None
    return ImageName.of_key(stem)


class Resolver:
    """Name → :class:`Original`.

    :param marks: tells when another process of the node has written to a name
    :param disk: keeps what was known last; best effort
    :param changed: called with a name that another process has written to
    :param learnt: called when the container tells of a name what was not known here
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
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._origin = origin
        self.marks = marks
        self._disk = disk
        self._freshness = freshness
        self._changed = changed
        self._learnt = learnt
        self._clock = clock
        self._known: LRUCache[str, _Known] = LRUCache(_MOST_NAMES)
        self._lock = threading.Lock()
        self._asking = SingleFlight(None)
        self._refresher = _Refresher(self._once)

    def current(self, name: ImageName, *, absence: bool = False) -> Original | None:
        """Return the original of a name, at most ``freshness`` seconds old; None when there is none.

        :param absence: whether it is enough that there was none; otherwise that is always asked anew, because
            what another tool has just put there is found when it is asked for
        :raises StoreUnavailable: when it cannot be asked, and nothing is remembered
        """
        known = self._remembered(name)
        if known and (known.current or absence) and self._holds(name, known):
            return known.current
        mark = self.marks.read(name.text)
        last = known.current if known and known.mark == mark else self._from_disk(name)
        asked = self._refresher.soon(name, mark) if last else None
        if asked is None:
            return self._once(name)
        try:
            with aside():
                return asked.result(self._patience(known))
        except TimeoutError:
            deadline.silent_for(_PATIENCE)
            log.warning("the store takes long to answer; %s is served as it was known last", name)
            return last

    def _patience(self, known: _Known | None) -> float:
        """Return for how many seconds a request waits for the store, where it may be served what was known last."""
        if known is None or self._clock() - known.asked > _HOT_S:
            return _PATIENCE
        return min(_PATIENCE, max(_HOT_PATIENCE_S, _USUAL_TIMES * self._refresher.usual))

    def _holds(self, name: ImageName, known: _Known) -> bool:
        """Return whether a resolution is fresh. In its second half it is revalidated ahead of time."""
        age = self._clock() - known.asked
        if age >= self._freshness or known.mark != self.marks.read(name.text):
            return False
        if age > self._freshness / 2:
            self._refresher.soon(name, known.mark)
        return True

    def _once(self, name: ImageName) -> Original | None:
        # A caller after a write must not get an answer from before it.
        flight = f"{name.text}\0{self.marks.read(name.text).hex()}"
        return self._asking.do(flight, lambda: self._ask(name), lambda: None, timeout=60.0)

    def lease(self, current: Original) -> Lease | None:
        """Return the lease of a resolution; None when it does not hold any more."""
        text = current.name.text
        known = self._remembered(current.name)
        if known is None or known.current != current or known.mark != self.marks.read(text):
            return None
        return Lease(self.marks.slot(text), known.mark, known.asked + self._freshness)

    def look(self, name: ImageName) -> Original | None:
        """Return the original of a name from the container itself, right now.

        :raises StoreUnavailable: when it cannot be asked
        """
        mark = self.marks.read(name.text)
        known = self._remembered(name)
        before = known.current if known else self._from_disk(name)
        found = self._find(name) if self._origin.capabilities.immediate_listing else self._newest(name)
        self._keep(name, found, mark, listed=True)
        if found != before:
            self._to_disk(name, found)
            self._learnt(name, found)
        return found

    def written(self, name: ImageName, current: Original | None) -> None:
        """Note the original of a name after a write of ours, None after its deletion."""
        if self._from_disk(name) != current:  # of a record that was written it is the same as before
            self._to_disk(name, current)
        self.marks.mark(name.text)
        self._keep(name, current, self.marks.read(name.text), listed=True)

    def originals(self, name: ImageName) -> list[Entry]:
        """Return every object that is an original of this name, the newest first; there should be one."""
        found = [entry for form in _forms(name.text) for entry in self._origin.find((form,), ENDINGS)]
        found = [entry for entry in found if image_of(entry.key, entry.media_type) == name]
        if not found and not split_ending(name.text)[1]:
            plain = (self._origin.head(form) for form in _forms(name.text))
            found = [entry for entry in plain if entry and _may_be_picture(entry)]
        return sorted(found, key=lambda entry: (entry.modified, entry.key), reverse=True)

    def close(self) -> None:
        """End the threads that revalidate."""
        self._refresher.close()

    def _remembered(self, name: ImageName) -> _Known | None:
        with self._lock:
            return self._known.get(name.text)

    def _ask(self, name: ImageName) -> Original | None:
        # The mark is read before the container is: a write in between shows as a difference later.
        mark = self.marks.read(name.text)
        known = self._remembered(name)
        if known and known.mark != mark:
            self._changed(name)
            known = None
        hint = (known.current if known else None) or self._from_disk(name)
        recently = known is not None and self._clock() - known.listed < LISTING_AGE
        try:
            found = self._again(hint) if hint and (recently or not known) else None
            listed = found is None
            found = found or self._find(name)
        except StoreUnavailable:
            if hint is None:
                raise
            log.warning("the store cannot be asked; %s is served as it was known last", name)
            return hint
        self._keep(name, found, mark, listed=listed or not recently)
        if found != hint:
            self._to_disk(name, found)
            self._learnt(name, found)
        return found

    def _again(self, hint: Original) -> Original | None:
        entry = self._origin.head(hint.key)
        return original_of(hint.name, entry) if entry else None

    def _find(self, name: ImageName) -> Original | None:
        originals = self.originals(name)
        key = originals[0].key if originals else self._from_record(name)
        # A listing may lag behind: the object itself says which version it is.
        entry = self._origin.head(key) if key else None
        return original_of(name, entry) if entry else None

    def _newest(self, name: ImageName) -> Original | None:
        """Return the newest of the originals that the listing, which may lag behind, and the record name."""
        keys = {entry.key for entry in self.originals(name)} | {self._from_record(name) or ""}
        entries = [entry for key in sorted(keys - {""}) if (entry := self._origin.head(key))]
        return original_of(name, max(entries, key=lambda entry: (entry.modified, entry.key))) if entries else None

    def _from_record(self, name: ImageName) -> str | None:
        record = read_record(self._origin, name)
        return record.key if record and image_of(record.key, "image/") == name else None

    def _keep(self, name: ImageName, current: Original | None, mark: bytes, *, listed: bool) -> None:
        now = self._clock()
        with self._lock:
            before = self._known.get(name.text)
            since = now if listed or not before else before.listed
            self._known[name.text] = _Known(current, now, since, mark)

    def _from_disk(self, name: ImageName) -> Original | None:
        if self._disk is None:
            return None
        try:
            kept = self._disk.get(prefix_of(name))
            return _load(kept.body) if kept else None
        except (OSError, ValueError, TypeError, KeyError) as error:
            log.warning("what was known of %s cannot be read: %s", name, error)
            return None

    def _to_disk(self, name: ImageName, current: Original | None) -> None:
        if self._disk is None:
            return
        try:
            if current is None:
                self._disk.delete(prefix_of(name))
            else:
                self._disk.put(prefix_of(name), Rendition(_dump(current), "application/json", current.version, 0.0))
        except OSError as error:
            log.warning("what is known of %s cannot be kept on disk: %s", name, error)
            with contextlib.suppress(OSError):  # better nothing than what was true before
                self._disk.delete(prefix_of(name))


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


def _forms(text: str) -> tuple[str, ...]:
    """Return the spellings of a name that other tools use: NFC, and NFD as macOS writes it."""
    return tuple(dict.fromkeys((text, unicodedata.normalize("NFD", text))))


def _may_be_picture(entry: Entry) -> bool:
    """Return whether an object without an image ending may be an original: records and notes are not."""
    return entry.media_type.startswith("image/") or "." not in entry.key.rpartition("/")[2]


def _dump(current: Original) -> bytes:
    return json.dumps(asdict(replace(current, name=current.name)) | {"name": current.name.text}).encode()


def _load(text: bytes) -> Original:
    members: dict[str, Any] = json.loads(text)
    return Original(**(members | {"name": ImageName(members["name"])}))


class _Asked:
    """A look at the store that is under way, or waits its turn."""

    def __init__(self, name: ImageName, mark: bytes) -> None:
        self.name = name
        self.mark = mark
        self.outcome: Future[Original | None] = Future()
        self._began = time.monotonic()

    def result(self, patience: float) -> Original | None:
        """Return the answer of the store.

        :param patience: seconds since it began; who comes later waits less
        :raises TimeoutError: when it takes longer
        """
        return self.outcome.result(deadline.left(self._began + patience - time.monotonic()))


class _Refresher:
    """Revalidates in threads of its own: ahead of time, and for requests that can do without the answer."""

    def __init__(self, ask: Callable[[ImageName], Original | None]) -> None:
        self._ask = ask
        self._waiting: queue.Queue[_Asked | None] = queue.Queue(_MOST_REFRESHES)
        self._pending: dict[tuple[str, bytes], _Asked] = {}
        self._threads: list[threading.Thread] = []
        self._lock = threading.Lock()
        #: seconds that the store takes to answer, a moving average
        self.usual = 0.0

    def soon(self, name: ImageName, mark: bytes) -> _Asked | None:
        """Asks for a name, once at a time while its mark is the same; None when there is too much to do already."""
        with self._lock:
            if (name.text, mark) in self._pending:
                return self._pending[name.text, mark]
            if len(self._threads) < _ASKING:
                thread = threading.Thread(target=self._run, name="image_repo-refresh", daemon=True)
                self._threads.append(thread)
                thread.start()
            asked = _Asked(name, mark)
            try:
                self._waiting.put_nowait(asked)
            except queue.Full:
                return None
            self._pending[name.text, mark] = asked
            return asked

    def _run(self) -> None:
        while (asked := self._waiting.get()) is not None:
            began = time.monotonic()
            try:
                found = self._ask(asked.name)
                self.usual += 0.2 * (min(_PATIENCE, time.monotonic() - began) - self.usual)
            except Exception as error:  # perhaps nobody waits for it; the next request meets the trouble itself
                log.info("%s could not be looked up: %s", asked.name, error)
                self._land(asked)
                asked.outcome.set_exception(error)
            else:
                self._land(asked)
                asked.outcome.set_result(found)

    def _land(self, asked: _Asked) -> None:
        with self._lock:
            self._pending.pop((asked.name.text, asked.mark), None)

    def close(self) -> None:
        """End the threads, without waiting for calls that the store does not answer."""
        with self._lock:
            threads, self._threads = self._threads, []
        for _ in threads:
            with contextlib.suppress(queue.Full):
                self._waiting.put_nowait(None)
        deadline = time.monotonic() + _PATIENCE
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))
