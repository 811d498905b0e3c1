"""The indexer: writes to the index what was written to the container, and notes in the outbox what it could not.

The container is the truth. A write that the container has accepted is a success, even if the index fails: the name
then goes to the outbox, and the daemon indexes it soon. If even that fails, the next sweep of the whole container
(:mod:`image_repo.sync.reconciler`) finds it by its stamp.
"""

from __future__ import annotations

import base64
import hashlib
import itertools
import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from image_repo.catalogue.base import Document, Row
from image_repo.catalogue.outbox import Outbox
from image_repo.concurrency.backoff import Backoff
from image_repo.concurrency.group_commit import GroupCommit
from image_repo.errors import CatalogueDisabled, Problem
from image_repo.model.names import ImageName
from image_repo.model.original import Original
from image_repo.model.record import Record, timestamp

if TYPE_CHECKING:
    from image_repo.catalogue.index import Index

log = logging.getLogger(__name__)

#: suffix of the stamp of a row that is known only from a listing: the original is not read yet
UNREAD = "?"
#: suffix of the stamp of a row whose original cannot be read: not retried until it is replaced
BROKEN = "!"
#: note of an index: how far it is from being complete for the first time, such as ``0.43``; none when it is
REBUILDING = "rebuilding"
#: note of an index: when it was last compared with the container, and how long that took
SWEPT = "swept"
#: note of an index: why it does not follow the container; none while it does
TROUBLE = "trouble"
#: seconds for which an index that did not answer is left alone, at first and at most
_PAUSE_S, _LONGEST_PAUSE_S = 1.0, 30.0


# -- stamps --------------------------------------------------------------------------


def stamp(key: str, version: str, record: str) -> str:
    """Return text that differs whenever the original's or the record's object does; a listing suffices to make it.

    :param key: of the original's object; with the version empty where there is none
    :param record: the entity tag of the record's object; empty where there is none
    """
    return f"{original_part(key, version)}.{_short(record) if record else ''}"


def original_part(key: str, version: str) -> str:
    """Return the beginning of the stamp of every row for this very original."""
    return _short(f"{key}\0{version}") if version else ""


def tells_of(known: str | None, original: Original) -> bool:
    """Return whether a row with this stamp describes this very original."""
    return known is not None and known.partition(".")[0] == original_part(original.key, original.version)


def completes(known: str, row: Row) -> bool:
    """Return whether a row holds what was read of the original that a row with this stamp knows from a listing."""
    return known.endswith(UNREAD) and known.partition(".")[0] == row.stamp.partition(".")[0]


def bare(known: str) -> str:
    """Return a stamp without its suffix."""
    return known.rstrip(UNREAD + BROKEN)


def _short(text: str) -> str:
    digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=9).digest()
    return base64.urlsafe_b64encode(digest).decode()


# -- how complete it is --------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SweepState:
    """When an index was last compared with the whole container.

    :param at: seconds since the epoch
    :param took: seconds of work
    """

    at: float
    took: float

    @classmethod
    def read(cls, index: Index) -> SweepState | None:
        """Return the state of an index; None where no sweep has ended."""
        try:
            state = json.loads(index.note(SWEPT) or "")
            return cls(float(state["at"]), float(state["took"]))
        except (ValueError, TypeError, KeyError):
            return None

    def save(self, index: Index) -> None:
        """Store the state as a note of the index."""
        index.keep_note(SWEPT, json.dumps({"at": round(self.at, 3), "took": round(self.took, 3)}))


def lacking(index: Index) -> str | None:
    """Return how complete an index is, 0 to 1 as text; None when it is complete.

    One that was never compared with the whole container may have been deleted and made anew, and lacks the rest.
    """
    noted = index.note(REBUILDING)
    return noted if noted is not None or SweepState.read(index) else "0"


# -- documents -----------------------------------------------------------------------


def listed(original: Original, stored: Record | None) -> Document:
    """Return the document of a picture that is known from a listing, with earlier user data; the rest is null."""
    record = Record(
        name=original.name.text,
        key=original.key,
        version=original.version,
        sha256="",
        media_type=original.media_type,
        bytes=original.size,
        width=0,
        height=0,
        filename=stored.filename if stored else None,
        uploaded=timestamp(original.modified),
        owner=stored.owner if stored else None,
        data=stored.data if stored else {},
    )
    return {**record.public(), **dict.fromkeys(("sha256", "width", "height", "image_id"))}


# -- the indexer ---------------------------------------------------------------------


class Indexer:
    """Writes to the index what was written to the container; best effort.

    :param index: None where there is none
    :param trouble: why there is none, where the configuration wants one
    """

    def __init__(self, index: Index | None, outbox: Outbox, trouble: Problem | None = None) -> None:
        self._index = index
        self._trouble = trouble
        self.outbox = outbox
        self._backoff = Backoff(_PAUSE_S, _LONGEST_PAUSE_S)
        # Measured: of the work of storing a small picture, an index transaction of its own is a third.
        self._put: GroupCommit[Sequence[Row]] = GroupCommit(lambda items: self.index.put(itertools.chain(*items)))

    @property
    def index(self) -> Index:
        """The index.

        :raises CatalogueDisabled: when there is none
        :raises CatalogueUnavailable: when there should be one
        """
        if self._index is None:
            raise self._trouble or CatalogueDisabled("The configuration has catalogue.enabled: false.")
        return self._index

    @property
    def is_there(self) -> bool:
        """Whether there is an index."""
        return self._index is not None

    def wrote(self, name: str, document: Document, known: str) -> None:
        """Index a record that is in the container now. The caller holds the lock of its name.

        :param known: its stamp
        """
        self.wrote_all([Row(name, document, known)])

    def wrote_all(self, rows: Sequence[Row]) -> None:
        """Index several records at once. The caller holds the locks of their names."""
        self._tell([row.name for row in rows], lambda _: self._put(rows))

    def removed(self, name: str) -> None:
        """Remove an image that is not in the container any more. The caller holds the lock of its name."""
        self._tell([name], lambda index: index.remove([name]))

    def noted(self, name: ImageName, original: Original | None = None) -> None:
        """Add a name to the outbox, unless the index knows this very original."""
        if self._index is not None:
            self.outbox.add(name.text, original_part(original.key, original.version) if original else "")

    def close(self) -> None:
        """Close the connections."""
        if self._index is not None:
            self._index.close()

    def _tell(self, names: Sequence[str], say: Callable[[Index], object]) -> None:
        if self._index is None or not names:
            return
        if self._backoff.left() > 0:
            self._note_all(names)
            return
        try:
            say(self._index)
        except Exception as error:  # whatever it is, the container has accepted the write
            self._note_all(names)
            self._failed(names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more", error)
        else:
            self._backoff.reset()

    def _note_all(self, names: Sequence[str]) -> None:
        for name in names:
            self.outbox.add(name)

    def _failed(self, name: str, error: Exception) -> None:
        self._backoff.fail()
        log.warning("%s could not be indexed, and will be: %s", name, error, exc_info=not isinstance(error, Problem))
