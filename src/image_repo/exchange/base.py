"""Types that exports and imports share.

:mod:`.exporter` makes a zip of documents; each :class:`.formats.base.FormatWriter` gets every document, and adds its
files behind the pictures. :mod:`.importer` imports :class:`Item` after :class:`Item`, whatever their source, and
returns an :class:`ImportOutcome` for each.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal, TypeVar

from image_repo.errors import Busy, Problem
from image_repo.model.recipe import Recipe

#: attempts to get a render slot
_MAX_ATTEMPTS = 20
T = TypeVar("T")


def retry_while_busy(call: Callable[[], T]) -> T:
    """Return the result of a call; wait for a render slot where other requests get 503.

    :raises Busy: if no slot becomes free
    """
    for _ in range(_MAX_ATTEMPTS):
        try:
            return call()
        except Busy as busy:
            time.sleep(busy.retry_after or 1)
    return call()


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Let errors name a path instead of the temporary file beside it."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error


def write_file(path: Path, chunks: Iterable[bytes], modified: float | None = None) -> None:
    """Write a file whole or not at all. An existing file or link is replaced.

    :param modified: seconds since the epoch
    :raises OSError: if it cannot be written; it names the path
    """
    with naming(path), tempfile.NamedTemporaryFile(dir=path.parent, prefix=".part-", delete=False) as file:
        try:
            file.writelines(chunks)
            file.close()
            if modified is not None:
                os.utime(file.name, (modified, modified))
            Path(file.name).replace(path)
        except BaseException:
            Path(file.name).unlink(missing_ok=True)
            raise


# -- out ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class File:
    """The file of a picture in an export: a rendition (derivative), or the original.

    :param name: of the member, relative to the root of the zip
    :param sha256: lower-case hex of its bytes
    :param size: in bytes
    :param width: in pixels, upright
    :param height: in pixels, upright
    :param split: the folder that ``name`` begins with; empty without splits
    :param recipe: of a rendition, from which positions of annotations follow; None for an original
    """

    name: str
    sha256: str
    media_type: str
    size: int
    width: int
    height: int
    recipe: Recipe | None = None
    split: str = ""


@dataclass(frozen=True, slots=True)
class Exported:
    """A document of an export.

    :param document: the public record (:meth:`image_repo.model.record.Record.public`)
    :param file: None for a description, and if the picture could not be made
    """

    document: Mapping[str, Any]
    file: File | None


@dataclass(frozen=True, slots=True)
class About:
    """Description of an export.

    :param title: for people: the query
    :param images: base URL of the images, without a ``/`` at the end; None if unknown
    :param temporary: opens a file that is deleted when it is closed; for data that grow with the export
    :param label: the key whose value is the label of a picture in ImageFolder, as a path into the document
    :param split: the key whose value is the folder of a picture: a split of the data set
    """

    title: str
    images: str | None
    temporary: Callable[[], BinaryIO]
    label: tuple[str, ...] = ()
    split: tuple[str, ...] = ()


# -- in -----------------------------------------------------------------------------------

Status = Literal["stored", "replaced", "unchanged", "skipped", "failed"]
#: reads the content from its beginning; called at most once, from any thread
Opener = Callable[[], Iterable[bytes]]


@dataclass(frozen=True, slots=True)
class Item:
    """An untrusted entry of an import: a picture, data, or both.

    :param entry: its name in the source, for the report
    :param name: of the image, without an image ending; relative to the prefix of the import
    :param open: opens its content; None if it has only ``data``
    :param data: replaces the data of the record; None keeps them
    :param merge: whether ``data`` is added to the data of the record instead
    :param filename: of the first upload
    :param sha256: expected digest of the content; None if unknown
    :param original: digest of the original if the content is a rendition of it; that original stays if it is stored
    :param problem: the reason why it cannot be imported, if known already
    """

    entry: str
    name: str
    open: Opener | None = None
    data: Any = None
    merge: bool = False
    filename: str | None = None
    sha256: str | None = None
    original: str | None = None
    problem: Problem | None = None


@dataclass(frozen=True, slots=True)
class ImportOutcome:
    """The outcome of an item.

    :param status: ``stored``: the name is new. ``replaced``: the picture, or its data, changed. ``unchanged``: nothing
        changed. ``skipped``: no picture and no data. ``failed``
    :param name: of the image; None if there is none
    :param problem: the reason of a failed or skipped item
    """

    entry: str
    status: Status
    name: str | None = None
    problem: Problem | None = None

    def public(self) -> dict[str, Any]:
        """Return the outcome as JSON members."""
        members: dict[str, Any] = {"entry": self.entry, "name": self.name, "status": self.status}
        if self.problem:
            members["problem"] = {
                "type": f"/problems/{self.problem.slug}",
                "title": self.problem.title,
                "status": self.problem.status,
                "detail": self.problem.detail,
            }
        return members
