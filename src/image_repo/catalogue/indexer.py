"""The index follows the container: what it holds of an image, and who tells it of writes.

The container is the truth. A write that the container has taken is a success, whether the
index could be told of it or not: the name is then noted, and looked at again soon
(:mod:`image_repo.sync.reconciler`). If even that cannot be noted, the next look at the whole
container finds it by its stamp.
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import hashlib
import json
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from image_repo.catalogue.base import Document, Index, Row
from image_repo.errors import CatalogueDisabled, Problem
from image_repo.model.names import ImageName
from image_repo.model.record import Record, timestamp
from image_repo.repository.resolver import Current

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
_PAUSE, _LONGEST_PAUSE = 1.0, 30.0
#: the most bytes of names that are noted; what is beyond is found by its stamp
_MOST_BYTES = 4 << 20
_OPEN = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW


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


def tells_of(known: str | None, current: Current) -> bool:
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
class Swept:
    """When an index was held against the whole container last.

    :param at: seconds since the epoch
    :param took: seconds of work
    """

    at: float
    took: float

    @classmethod
    def read(cls, index: Index) -> Swept | None:
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
    return noted if noted is not None or Swept.read(index) else "0"


# -- documents -----------------------------------------------------------------------


def listed(current: Current, stored: Record | None) -> Document:
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


class Behind:
    """Names that the index has still to be told of, for all processes of the node; survives them.

    :param path: of the file that holds them; None for nowhere: then the next look at everything finds them
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._taken = path.with_name(path.name + ".taken") if path else None

    def add(self, name: str, version: str = "") -> None:
        """Notes a name; best effort.

        :param version: how the stamp has to begin; empty when the name is to be looked at in any case
        """
        if self._path is None:
            return
        line = json.dumps([name, version]).encode() + b"\n"
        try:
            while not self._append(self._path, line):
                pass
        except OSError as error:
            log.info("it is not noted that the catalogue does not know of %s: %s", name, error)

    @staticmethod
    def _append(path: Path, line: bytes) -> bool:
        """Whether it was written into the file that the others read from now on."""
        handle = os.open(path, _OPEN, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_SH)
            ours = os.fstat(handle)
            with contextlib.suppress(FileNotFoundError):
                there = path.stat()
                if (ours.st_dev, ours.st_ino) == (there.st_dev, there.st_ino):
                    if ours.st_size < _MOST_BYTES:
                        os.write(handle, line)
                    return True
            return False
        finally:
            os.close(handle)

    def is_empty(self) -> bool:
        """Whether nothing is noted."""
        return not any(path.exists() for path in (self._path, self._taken) if path)

    def take(self) -> list[tuple[str, str]]:
        """What is noted, each name once; noted still until :meth:`done`. One process at a time may do this."""
        if self._path is None or self._taken is None:
            return []
        if not self._taken.exists():
            try:
                self._path.rename(self._taken)
            except FileNotFoundError:
                return []
        with self._taken.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX)  # somebody may be about to end his line
            return list(dict(_lines(file.read(2 * _MOST_BYTES))).items())

    def done(self) -> None:
        """Forgets what was taken."""
        if self._taken:
            self._taken.unlink(missing_ok=True)


def _lines(text: bytes) -> Iterator[tuple[str, str]]:
    for line in text.splitlines():
        with contextlib.suppress(ValueError, TypeError):  # a line that was cut off by the end of its process
            name, version = json.loads(line)
            yield str(name), str(version)


class Follower:
    """Tells the index what was written, as well as it can be told.

    :param index: None where there is none
    :param trouble: why there is none, where that is not what the configuration wants
    """

    def __init__(self, index: Index | None, behind: Behind, trouble: Problem | None = None) -> None:
        self._index = index
        self._trouble = trouble
        self.behind = behind
        self._lock = threading.Lock()
        self._pause = 0.0
        self._until = 0.0

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

    def noted(self, name: ImageName, current: Current | None = None) -> None:
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
        if time.monotonic() < self._until:
            self._behind_with(names)
            return
        try:
            say(self._index)
        except Exception as error:  # whatever it is, the container has taken the write
            self._behind_with(names)
            self._failed(names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more", error)
        else:
            self._pause = 0.0

    def _behind_with(self, names: Sequence[str]) -> None:
        for name in names:
            self.behind.add(name)

    def _failed(self, name: str, error: Exception) -> None:
        with self._lock:
            self._pause = min(max(_PAUSE, 2 * self._pause), _LONGEST_PAUSE)
            self._until = time.monotonic() + self._pause
        known = isinstance(error, Problem)
        reason = (error.detail or error.title) if isinstance(error, Problem) else error
        log.warning("the catalogue could not be told of %s, and will be: %s", name, reason, exc_info=not known)
