"""The index follows the container: what it holds of an image, and who tells it of writes.

The container is the truth. A write that the container has taken is a success, whether the
index could be told of it or not: the name is then noted, and looked at again soon
(:mod:`image_repo.sync.reconciler`). If even that cannot be noted, the next look at the whole
container finds it by its stamp.
"""

from __future__ import annotations

import base64
import hashlib
import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from image_repo.catalogue.base import Document, Index, Row
from image_repo.catalogue.outbox import Outbox
from image_repo.concurrency.backoff import Backoff
from image_repo.errors import CatalogueDisabled, Problem
from image_repo.model.names import ImageName
from image_repo.model.original import Original
from image_repo.model.record import Record, timestamp

log = logging.getLogger(__name__)

#: behind the stamp of a row that holds only what a listing tells: the original has still to be read
UNREAD = "?"
#: behind the stamp of a row whose original cannot be read: not tried again until it is another one
BROKEN = "!"
#: note of an index: how far it is from being complete for the first time, such as ``0.43``; none when it is
REBUILDING = "rebuilding"
#: note of an index: when it was held against the container last, and how long that took
SWEPT = "swept"
#: seconds for which an index that did not answer is not told anything, at first and at most
_PAUSE_S, _LONGEST_PAUSE_S = 1.0, 30.0


# -- stamps --------------------------------------------------------------------------


def stamp(key: str, version: str, record: str) -> str:
    """Differs whenever the original's object or the record's object does; a listing alone tells it.

    :param key: of the original's object; with the version empty where there is none
    :param record: the entity tag of the record's object; empty where there is none
    """
    return f"{original_part(key, version)}.{_short(record) if record else ''}"


def original_part(key: str, version: str) -> str:
    """How the stamp begins of every row that tells of this very original."""
    return _short(f"{key}\0{version}") if version else ""


def tells_of(known: str | None, current: Original) -> bool:
    """Whether a row with this stamp tells of this very original."""
    return known is not None and known.partition(".")[0] == original_part(current.key, current.version)


def bare(known: str) -> str:
    """A stamp without what stands behind it."""
    return known.rstrip(UNREAD + BROKEN)


def _short(text: str) -> str:
    made = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=9).digest()
    return base64.urlsafe_b64encode(made).decode()


# -- how complete it is --------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SweepState:
    """When an index was held against the whole container last.

    :param at: seconds since the epoch
    :param took: seconds of work
    """

    at: float
    took: float

    @classmethod
    def read(cls, index: Index) -> SweepState | None:
        """None where it never was, to the end."""
        try:
            told = json.loads(index.note(SWEPT) or "")
            return cls(float(told["at"]), float(told["took"]))
        except (ValueError, TypeError, KeyError):
            return None

    def keep(self, index: Index) -> None:
        """Notes it in the index."""
        index.keep_note(SWEPT, json.dumps({"at": round(self.at, 3), "took": round(self.took, 3)}))


def lacking(index: Index) -> str | None:
    """How far an index is that does not tell everything yet, 0 to 1 as text; None when it does.

    One that was never held against the whole container lacks all that it has not been told: it may just have been
    made anew, because somebody has deleted it.
    """
    noted = index.note(REBUILDING)
    return noted if noted is not None or SweepState.read(index) else "0"


# -- documents -----------------------------------------------------------------------


def listed(current: Original, stored: Record | None) -> Document:
    """What a listing tells of a picture, and its user said of an earlier one; the rest is null until it is read."""
    record = Record(
        name=current.name.text,
        key=current.key,
        version=current.version,
        sha256="",
        media_type=current.media_type,
        bytes=current.size,
        width=0,
        height=0,
        filename=stored.filename if stored else None,
        uploaded=timestamp(current.modified),
        owner=stored.owner if stored else None,
        data=stored.data if stored else {},
    )
    return {**record.public(), **dict.fromkeys(("sha256", "width", "height", "image_id"))}


# -- who tells -----------------------------------------------------------------------


class Indexer:
    """Tells the index what was written, as well as it can be told.

    :param index: None where there is none
    :param trouble: why there is none, where that is not what the configuration wants
    """

    def __init__(self, index: Index | None, behind: Outbox, trouble: Problem | None = None) -> None:
        self._index = index
        self._trouble = trouble
        self.behind = behind
        self._backoff = Backoff(_PAUSE_S, _LONGEST_PAUSE_S)

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
        """Whether there is an index that can be told anything."""
        return self._index is not None

    def wrote(self, name: str, document: Document, known: str) -> None:
        """Tells of a record that is in the container now. Whoever calls this holds the name.

        :param known: its stamp
        """
        self.wrote_all([Row(name, document, known)])

    def wrote_all(self, rows: Sequence[Row]) -> None:
        """Tells of several records at once. Whoever calls this holds their names."""
        self._tell([row.name for row in rows], lambda index: index.put(rows))

    def removed(self, name: str) -> None:
        """Tells of an image that is not in the container any more. Whoever calls this holds the name."""
        self._tell([name], lambda index: index.remove([name]))

    def noted(self, name: ImageName, current: Original | None = None) -> None:
        """Has a name looked at soon, unless the index knows of this very original."""
        if self._index is not None:
            self.behind.add(name.text, original_part(current.key, current.version) if current else "")

    def close(self) -> None:
        """Gives connections back."""
        if self._index is not None:
            self._index.close()

    def _tell(self, names: Sequence[str], say: Callable[[Index], object]) -> None:
        if self._index is None or not names:
            return
        if self._backoff.left() > 0:
            self._behind_with(names)
            return
        try:
            say(self._index)
        except Exception as error:  # whatever it is, the container has taken the write
            self._behind_with(names)
            self._failed(names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more", error)
        else:
            self._backoff.reset()

    def _behind_with(self, names: Sequence[str]) -> None:
        for name in names:
            self.behind.add(name)

    def _failed(self, name: str, error: Exception) -> None:
        self._backoff.fail()
        known = isinstance(error, Problem)
        reason = (error.detail or error.title) if isinstance(error, Problem) else error
        log.warning("the catalogue could not be told of %s, and will be: %s", name, reason, exc_info=not known)
