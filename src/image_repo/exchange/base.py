"""Whole collections out and in: archives, data-set formats, what neighbours leave behind.

Here is what the parts agree on. :mod:`.export` walks documents and makes a zip; a :class:`Format` sees
each of them go past, and puts files of its own behind the pictures. :mod:`.importing` takes :class:`Item`
after :class:`Item`, wherever they come from, and says with an :class:`ImportOutcome` what became of each.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO, Literal, Protocol

from image_repo.errors import Problem
from image_repo.model.recipe import Recipe

# -- out ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class File:
    """A picture as it lies in an export; not its original, unless originals are exported.

    :param name: of the member, relative to the root of the zip
    :param sha256: lower-case hex of its bytes
    :param size: in bytes
    :param width: in pixels, upright
    :param height: in pixels, upright
    :param recipe: what it was made by, which says where things lie in it; None for an original
    """

    name: str
    sha256: str
    media_type: str
    size: int
    width: int
    height: int
    recipe: Recipe | None = None


@dataclass(frozen=True, slots=True)
class Exported:
    """A document that is exported.

    :param document: the record as it is told (:meth:`image_repo.model.record.Record.public`)
    :param file: None for a description, and where the picture could not be made
    """

    document: Mapping[str, Any]
    file: File | None


@dataclass(frozen=True, slots=True)
class About:
    """What an export is of.

    :param title: for people: what was asked for
    :param images: where the images are served, without a ``/`` at the end; None where nobody knows
    :param temporary: opens a file that is gone when it is closed: what grows with the export lies there
    """

    title: str
    images: str | None
    temporary: Callable[[], BinaryIO]


class Sheets(Protocol):
    """The files of one export in one format, while they are written. Memory does not grow with the documents."""

    def add(self, exported: Exported) -> None:
        """Takes the next document. Two exports of the same documents come in the same order."""
        ...

    def members(self, newest: float) -> Iterator[tuple[str, bytes | BinaryIO]]:
        """The files: name in the zip, and bytes, or a file from its present position on.

        :param newest: seconds since the epoch: when the newest picture was uploaded. There is no other clock here:
            the same documents give the same bytes
        """
        ...

    def close(self) -> None:
        """Lets temporary files go; called in any case."""
        ...


class Format(Protocol):
    """A way in which others expect to be told of pictures."""

    #: what ``format=`` and ``--format`` take
    name: str
    #: for people: one line
    help: str

    def open(self, about: About) -> Sheets:
        """Begins an export."""
        ...


# -- in -----------------------------------------------------------------------------------

Status = Literal["stored", "replaced", "unchanged", "skipped", "failed"]
#: reads what was to be the picture, from its beginning; called at most once, from any thread
Opener = Callable[[], Iterable[bytes]]


@dataclass(frozen=True, slots=True)
class Item:
    """Something to be taken in: a picture, what is said of one, or both. Nothing of it is trusted.

    :param entry: what it is called where it comes from, for the report
    :param name: of the image, without an image ending; where the import has a prefix, below that
    :param open: gives its bytes; None where only ``data`` is to be taken
    :param data: the user's own, which replaces what was said before; None leaves that
    :param filename: what the file was called when it was first uploaded
    :param sha256: what its bytes must have as their digest; None when that is not known
    :param original: the digest of the picture that these bytes are only a rendition of; where that
        picture is there already, it stays
    :param problem: why it cannot be taken, where that is known already
    """

    entry: str
    name: str
    open: Opener | None = None
    data: Any = None
    filename: str | None = None
    sha256: str | None = None
    original: str | None = None
    problem: Problem | None = None


@dataclass(frozen=True, slots=True)
class ImportOutcome:
    """What became of an item.

    :param status: ``stored``: there was nothing of this name. ``replaced``: the picture, or what is said of it, is
        another now. ``unchanged``: all was there already. ``skipped``: no picture, nothing to be taken. ``failed``
    :param name: of the image; None where there is none
    :param problem: why it was skipped or has failed
    """

    entry: str
    status: Status
    name: str | None = None
    problem: Problem | None = None

    def public(self) -> dict[str, Any]:
        """As it is told."""
        told: dict[str, Any] = {"entry": self.entry, "name": self.name, "status": self.status}
        if self.problem:
            told["problem"] = {
                "type": f"/problems/{self.problem.slug}",
                "title": self.problem.title,
                "status": self.problem.status,
                "detail": self.problem.detail,
            }
        return told
