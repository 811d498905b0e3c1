"""Metadata: the records beside the originals, with the user's data; read, made anew, changed.

All writes to a name take one lock, which the threads and processes of a node share, and all nodes by their order
(:class:`~image_repo.concurrency.locks.WriteOrder`): so no change is lost.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from image_repo import render
from image_repo.catalogue import indexer
from image_repo.catalogue.base import Document, Row
from image_repo.catalogue.indexer import BROKEN, UNREAD, Indexer
from image_repo.concurrency.limiter import Limiter
from image_repo.concurrency.locks import KeyedLock
from image_repo.config import RenderConfiguration
from image_repo.errors import BadBody, ImageNotFound, NameConflict, PreconditionFailed, Problem, TooLarge
from image_repo.model.names import ImageName
from image_repo.model.namespaces import seen_by_owner
from image_repo.model.original import Original
from image_repo.model.recipe import Recipe
from image_repo.model.record import MEDIA_TYPE, Record, record_key, timestamp
from image_repo.model.rendition import ImageInfo, Summary
from image_repo.model.strict_json import MAX_NESTING
from image_repo.repository.mezzanines import Mezzanines
from image_repo.repository.originals import Originals
from image_repo.repository.resolver import Resolver, read_record, read_record_object
from image_repo.repository.spool import Spool
from image_repo.stores.base import Entry, NotReadable, Store, reading_newest

log = logging.getLogger(__name__)

#: of the user's data of an image as JSON, in bytes
MOST_DATA = 64 << 10
#: how often a change begins anew when what it changes has changed meanwhile
_ATTEMPTS = 3
#: seconds until a record is made without decoding the picture, where as many others are decoded as may be
_MOST_WAIT_S = 1.0


@dataclass(frozen=True, slots=True)
class Conditions:
    """Conditions of a write (RFC 9110, section 13.1).

    :param match: accepted entity tags, ``*`` for any; None without ``If-Match``
    :param absent: whether there must be none yet (``If-None-Match: *``)
    :param recipe_of: returns a recipe; the entity tag of its rendition is accepted beside the version
    :param holds: a test of the redacted record under the lock of its name
    """

    match: frozenset[str] | None = None
    absent: bool = False
    recipe_of: Callable[[Original], Recipe] | None = None
    holds: Callable[[Document], bool] | None = None


UNCONDITIONAL = Conditions()


def check_data(data: Any, what: str = "data") -> None:
    """Check the user's data of an image.

    :param data: made of JSON's types, with text that UTF-8 can hold
    :param what: its name in a refusal
    :raises BadBody: when it is null, or nested too deep
    :raises TooLarge: when it has too many bytes
    """
    if data is None:
        raise BadBody(f"Expected {what} to be JSON other than null: {{}} says nothing.")
    if not _is_flat(data, MAX_NESTING):
        raise BadBody(f"Objects and lists of {what} may be nested at most {MAX_NESTING} deep.")
    size = len(json.dumps(data, ensure_ascii=False, separators=(",", ":")).encode())
    if size > MOST_DATA:
        raise TooLarge(
            f"{what.capitalize()} may have at most {MOST_DATA} bytes as JSON, and this has {size}.",
            parameter=what,
            limit=MOST_DATA,
        )


def _is_flat(value: Any, levels: int) -> bool:
    """Return whether objects and lists are nested no deeper than so many levels."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    return inner is None or (levels > 0 and all(_is_flat(each, levels - 1) for each in inner))


def merge(data: Any, patch: Any) -> Any:
    """Return patched data: ``null`` removes a member, objects are merged, all else replaces (RFC 7396, section 2)."""
    if not isinstance(patch, Mapping):
        return patch
    merged = dict(data) if isinstance(data, Mapping) else {}
    for name, value in patch.items():
        if value is None:
            merged.pop(name, None)
        else:
            merged[name] = merge(merged.get(name), value)
    return merged


def describe(
    original: Original,
    info: ImageInfo,
    sha256: str,
    stored: Record | None,
    *,
    uploaded: float,
    filename: str | None = None,
    data: Any = None,
    owner: str | None = None,
) -> Record:
    """Return the record of a picture: facts from its bytes, the user's data from before unless there is new.

    What an upload intended of these very bytes counts as new.

    :param owner: None for the one from before
    """
    intent = _intended(stored, sha256)
    data = data if data is not None else intent.get("data")
    return Record(
        name=original.name.text,
        key=original.key,
        version=original.version,
        sha256=sha256,
        media_type=info.media_type,
        bytes=original.size,
        width=info.width,
        height=info.height,
        filename=filename or intent.get("filename") or (stored.filename if stored else None),
        uploaded=intent.get("uploaded") or timestamp(uploaded),
        owner=owner or (stored.owner if stored else None),
        exif=info.exif,
        data=data if data is not None else (stored.data if stored else {}),
        dhash=info.summary.dhash,
        thumbhash=info.summary.thumbhash,
        palette=info.summary.palette,
        damaged=info.is_damaged,
        preview=info.is_preview,
    )


def _intended(stored: Record | None, sha256: str) -> Mapping[str, Any]:
    """Return the intent of an upload of these bytes that was cut off; empty where there was none."""
    intent = stored.intent if stored else None
    return intent if isinstance(intent, Mapping) and intent.get("sha256") == sha256 else {}


def fitting(stored: Record | None, original: Original | None) -> Record | None:
    """Return the record when it belongs to this original, or to none as yet; else None."""
    if stored is None:
        return None
    if original is None:
        return stored if stored.is_description else None
    return stored if (stored.version, stored.key) == (original.version, original.key) else None


def is_owned(owner: str | None, original: Original | None, stored: Record | None) -> bool:
    """Return whether what a name stands for, if it does for anything, is an owner's.

    :param owner: None for anybody
    """
    is_free = original is None and stored is None
    return owner is None or is_free or (stored is not None and stored.owner == owner)


def check_owner(owner: str | None, original: Original | None, stored: Record | None) -> None:
    """Check that a name may be written to on behalf of an owner.

    :raises NameConflict: when it stands for something of another one
    """
    if not is_owned(owner, original, stored):
        raise NameConflict("Choose another name.")


def _are_same(one: Record | None, other: Record | None) -> bool:
    """Compare them as they are stored: in Python, true equals 1."""
    return (one and one.dump()) == (other and other.dump())


def _with_data_of(made: Record | None, stored: Record | None) -> Record | None:
    """Return a new record with the user's present data."""
    if made is None or _intended(stored, made.sha256):
        return made
    return replace(made, data=stored.data if stored else {})


class MetadataStore:
    """The records beside the originals, and the locks of names that are written to.

    :param originals: read where a record is missing
    :param locks: of names that are written to
    :param indexer: indexes each record that is written
    :param mezzanines: from which what was not uploaded is summarised, and which get what that decodes
    :param limiter: of renders: where there is no mezzanine, pixels are decoded for that
    :param location: whether positions are disclosed; they are stored in any case
    """

    def __init__(
        self,
        origin: Store,
        resolver: Resolver,
        originals: Originals,
        locks: KeyedLock,
        indexer: Indexer,
        limits: RenderConfiguration,
        *,
        mezzanines: Mezzanines,
        limiter: Limiter,
        location: bool,
    ) -> None:
        self._origin = origin
        self._resolver = resolver
        self._originals = originals
        self._locks = locks
        self._indexer = indexer
        self._limits = limits
        self._mezzanines = mezzanines
        self._limiter = limiter
        self._location = location

    @contextmanager
    def lock(self, name: ImageName, *, to_write: bool = True) -> Iterator[None]:
        """Hold the lock of a name, so that nobody else writes to it, and read what is newest.

        :param to_write: False to read the container and write to the index alone
        :raises Busy: when others hold it for too long
        :raises Problem: with status 503, when the order of several nodes cannot be kept
        """
        with self._locks.held(name.text, self._limits.wait, to_write=to_write), reading_newest():
            try:
                yield
            except BaseException as error:
                if not isinstance(error, Problem) or error.status >= 500:
                    self._indexer.noted(name)  # how far it got is unknown
                raise

    def note_abandoned(self) -> None:
        """Add the names whose writer was killed to the outbox of the index."""
        for key in self._locks.abandoned():
            name = ImageName.of_key(key)
            if name:
                self._indexer.noted(name)

    def confirm(self) -> None:
        """Check, before a write, that no other node may hold the lock of the name by now.

        :raises Problem: with status 503, when one may
        """
        self._locks.confirm()

    def redact(self, record: Record) -> Record:
        """Return the record with or without positions, as the configuration says."""
        if self._location:
            return record
        return replace(record, exif={name: fact for name, fact in record.exif.items() if name not in render.POSITION})

    def announce(
        self, name: ImageName, stored: Record | None, upload: Mapping[str, Any], owner: str | None = None
    ) -> bool:
        """Store the intent of an upload beside what the record says: its data takes effect with its bytes.

        :param stored: the record as it is; None where there is none
        :param owner: of the image where there is no record
        :param upload: as :class:`Record` says of an intent
        :returns: whether it was stored: not where another tool's JSON lies
        """
        base = stored or Record.description(name.text, {}, owner)
        is_first = stored is None or not (stored.version or stored.is_description)  # or the first one was cut off too
        intent = {**upload, "first": True} if is_first else upload
        self.confirm()
        try:
            self._put(replace(base, intent=intent), fresh=stored is None)
        except PreconditionFailed:
            return False
        return True

    def withdraw(self, name: ImageName, stored: Record | None) -> None:
        """Undo :meth:`announce`."""
        self.confirm()
        if stored is None:
            self._origin.delete(record_key(name.text))
        else:
            self._put(stored)

    def _put(self, record: Record, *, fresh: bool = False) -> Entry:
        return self._origin.put(record_key(record.name), record.dump(), media_type=MEDIA_TYPE, overwrite=not fresh)

    def write(self, record: Record, *, fresh: bool = False) -> None:
        """Store a record and index it; the caller holds the lock of its name.

        :param fresh: whether there must be none yet, ours or another tool's
        :raises PreconditionFailed: when there is one all the same
        """
        self._index(self.store(record, fresh=fresh))

    def _index(self, row: Row) -> None:
        self._indexer.wrote_all([row])

    def store(self, record: Record, *, fresh: bool = False) -> Row:
        """Store a record, and return its row for the index; the caller holds the lock of its name.

        :param fresh: whether there must be none yet, ours or another tool's
        :raises PreconditionFailed: when there is one all the same
        """
        self.confirm()
        record = replace(record, intent=None)
        entry = self._put(record, fresh=fresh)
        stamp = indexer.stamp(record.key, record.version, entry.etag)
        return Row(record.name, self.redact(record).public(), stamp)

    def row(self, name: ImageName) -> Row | None:
        """Return the row of a name from what is in the container right now; None where nothing is.

        A picture without a record is not read for this: its row holds only what a listing knows.

        :raises StoreUnavailable: when it cannot be asked
        """
        original = self._resolver.look_up(name)
        stored, etag = read_record_object(self._origin, name)
        record = fitting(stored, original)
        if original is None and record is None:
            return None
        stamp = indexer.stamp(original.key if original else "", original.version if original else "", etag)
        if record:
            return Row(name.text, self.redact(record).public(), stamp)
        return Row(name.text, indexer.listed(original, stored), stamp + UNREAD) if original else None

    def reindex(self, name: ImageName) -> str | None:
        """Make the index agree with the container on one name.

        :returns: the stamp of its row; None where there is none
        :raises StoreUnavailable, CatalogueUnavailable: when one of them cannot be asked
        :raises Busy: when others write to the name for too long
        """
        index = self._indexer.index
        with self.lock(name, to_write=False):
            row = self.row(name)
            stamp = index.stamps([name.text]).get(name.text)
            if row is None:
                index.remove([name.text])
                return None
            if stamp is not None and indexer.bare(stamp) == indexer.bare(row.stamp):
                return stamp  # what was read of the original stays, or that it cannot be read
            index.put([row])
            return row.stamp

    def complete(self, name: ImageName, stamp: str) -> Row | None:
        """Read an original that the index knows only from a listing, and return its row, which is still to be indexed.

        What cannot be understood has a row too, so that it is read once.

        :param stamp: of the present row
        :returns: None where the image is gone, or another one than in the row
        :raises StoreUnavailable, CatalogueUnavailable, Busy: when it has to be done another time
        """
        original = self._resolver.resolve(name)
        if original is None or not indexer.tells_of(stamp, original):
            stamp = self.reindex(name) or ""
            original = self._resolver.resolve(name)
        if original is None or not stamp.endswith(UNREAD):
            return None
        rows: list[Row] = []
        try:
            record = self._read(original, rows.append)
        except NotReadable:  # the bytes may be sound
            raise
        except Problem as problem:
            if problem.retry_after is not None:
                raise
            log.warning("%s cannot be read: %s", original.key, problem)
            listed = indexer.listed(original, read_record(self._origin, name))
            return Row(name.text, listed, indexer.bare(stamp) + BROKEN)
        if rows:
            return rows[-1]
        is_same = record.version == original.version
        return Row(name.text, self.redact(record).public(), indexer.bare(stamp)) if is_same else None

    def read(self, original: Original) -> Record:
        """Return the record of an image, positions included; where it is missing or outdated, it is made anew.

        A new one is stored beside the original where we may write there.
        """
        return self._read(original, self._index)

    def _read(self, original: Original, index: Callable[[Row], object]) -> Record:
        """Do as :meth:`read` does.

        :param index: called with the row of a record that was stored, under the lock of its name
        """
        stored = read_record(self._origin, original.name)
        record = fitting(stored, original)
        if record:
            return record
        with self._originals.open(original) as (newest, spool):
            if (newest.key, newest.version) != (original.key, original.version):
                return self._read_again(newest, index)
            info = self._inspect(newest, spool, stored)
            made = describe(newest, info, spool.sha256, stored, uploaded=newest.modified)
        if stored and stored.sha256 == made.sha256 and stored.key == made.key:
            # The same bytes with another time of change: restored from a backup, most likely.
            if self._origin.restore_etag(newest.key, newest.version, stored.version):
                self._resolver.note_write(original.name, self._resolver.look_up(original.name))
                self._indexer.noted(original.name)
                return stored
            made = replace(made, uploaded=stored.uploaded)
        return self._store_if_unchanged(made, original.name, stored, index) or self._read_again(newest, index)

    def _read_again(self, original: Original, index: Callable[[Row], object]) -> Record:
        """Do as :meth:`read` does after another write: the record that was read before it has not the data of that."""
        with reading_newest():
            return self._read(original, index)

    def _inspect(self, original: Original, spool: Spool, stored: Record | None) -> ImageInfo:
        """Return the facts of an original, with the summary of its pixels where that is cheap or known."""
        info = render.inspect(spool.file, self._limits, location=True)
        if stored and stored.sha256 == spool.sha256 and stored.dhash:
            return replace(info, summary=Summary(stored.dhash, stored.thumbhash, tuple(stored.palette)))
        try:
            mezzanine = self._mezzanines.smallest(original)
            if mezzanine or render.is_summarised_cheaply(spool.file, self._limits):
                return replace(info, summary=self._summarise(original, spool, mezzanine))
        except Problem as problem:  # the header was read, which is enough for a record
            log.info("a record is made without a summary: %s", problem)
        return info

    def _summarise(self, original: Original, spool: Spool, mezzanine: render.Mezzanine | None) -> Summary:
        if mezzanine:
            return render.summary_of(mezzanine)
        heavy = render.is_heavy(spool.file, self._limits)
        with self._limiter.slot(_MOST_WAIT_S, heavy=heavy):
            mezzanines, summary = render.summarise(spool.file, self._limits)
        self._mezzanines.offer(original, mezzanines)
        return summary

    def read_summarised(self, original: Original, before_decoding: Callable[[], object] = lambda: None) -> Record:
        """Return the record as :meth:`read` does, with the summary of the pixels: they are decoded where it has none.

        :raises Problem: as :func:`image_repo.render.render`, also where they cannot be decoded
        """
        record = self.read(original)
        if record.dhash:
            return record
        before_decoding()
        with self._originals.open(original) as (newest, spool):
            summary = self._summarise(newest, spool, self._mezzanines.smallest(newest))
        if (newest.key, newest.version) != (record.key, record.version):
            return self.read_summarised(newest)
        made = replace(record, dhash=summary.dhash, thumbhash=summary.thumbhash, palette=summary.palette)
        stored = self._store_if_unchanged(made, original.name, record, self._index)
        if stored:
            return stored
        with reading_newest():
            return self.read_summarised(newest)

    def _store_if_unchanged(
        self, made: Record, name: ImageName, before: Record | None, index: Callable[[Row], object]
    ) -> Record | None:
        """Store a record that was made of a picture and what was there before; None where that has changed since."""
        try:
            with self._locks.held(name.text, 0.0), reading_newest():  # a reader does not wait for writers
                if not _are_same(read_record(self._origin, name), before):
                    return None
                index(self.store(made, fresh=before is None))
        except Exception as error:  # reading never needs the right to write
            log.info("the record of %s is not stored: %s", name, error)
        return made

    def description(self, name: ImageName) -> Record | None:
        """Return the record of a name without a picture; None where there is none."""
        return fitting(read_record(self._origin, name), None)

    def change(
        self,
        name: ImageName,
        edit: Callable[[Any], Any],
        conditions: Conditions,
        owner: str | None = None,
    ) -> tuple[Record, bool]:
        """Change the user's data of an image.

        :param owner: whose it has to be, and is where there was none; None for anybody's
        :param edit: the data as it is, None where there is neither picture nor description → as it shall be
        :returns: the redacted record, and whether there was none
        :raises PreconditionFailed: when a condition forbids it
        :raises NameConflict: when another tool's JSON lies where the record would, or the owner is another one
        """
        made: Record | None = None
        for _ in range(_ATTEMPTS):
            with self.lock(name):
                original = self._resolver.look_up(name)
                stored = read_record(self._origin, name)
                check_owner(owner, original, stored)
                record = fitting(stored, original) or fitting(_with_data_of(made, stored), original)
                if original is None or record:
                    self._check(record, conditions)
                    data = edit(record.data if record else None)
                    check_data(data)
                    changed = replace(record, data=data) if record else Record.description(name.text, data, owner)
                    if self._replace(changed, fresh=stored is None):
                        self._resolver.note_write(name, original)
                        return self.redact(changed), record is None
            if original and not record:
                made = self.read(original)  # it takes long, so the lock is not held meanwhile
        raise NameConflict(f"The JSON at {record_key(name.text)!r} is another tool's.", name=name.text)

    def _check(self, record: Record | None, conditions: Conditions) -> None:
        if conditions.match is not None and conditions.match.isdisjoint(self.tags(record)):
            raise PreconditionFailed("If-Match names another record than the one that is stored.")
        if conditions.holds and not (record and conditions.holds(self.redact(record).public())):
            raise PreconditionFailed("The record is not what it was any more.")
        if record and conditions.absent:
            raise PreconditionFailed(f"There is something called {record.name!r} already.", name=record.name)

    def tags(self, record: Record | None) -> set[str]:
        """Return the entity tags of the redacted record, also as its owner sees it; none where there is none."""
        if record is None:
            return set()
        redacted = self.redact(record)
        return {"*", redacted.etag, seen_by_owner(redacted).etag}

    def _replace(self, changed: Record, *, fresh: bool) -> bool:
        try:
            self.write(changed, fresh=fresh)
        except PreconditionFailed:  # another node's first record, or another tool's JSON: only a look tells
            return False
        return True


def patched(name: ImageName, patch: Any) -> Callable[[Any], Any]:
    """Return the edit that :meth:`MetadataStore.change` needs to merge a patch into data.

    :raises ImageNotFound: from what is returned, when there is nothing to be changed
    """

    def edit(data: Any) -> Any:
        if data is None:
            raise ImageNotFound(f"There is no image {name.text!r}.", name=name.text)
        return merge(data, patch)

    return edit
