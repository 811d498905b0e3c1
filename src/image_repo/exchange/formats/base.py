"""What every export format is: a writer of files beside the pictures."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import ExitStack
from importlib import import_module
from typing import BinaryIO, ClassVar

from image_repo.errors import LibraryMissing
from image_repo.exchange.base import About, Exported
from image_repo.exchange.formats.notes import Notes, notes_member

#: name in the zip, and bytes, or a file from its current position on
TableMember = tuple[str, bytes | BinaryIO]


class FormatWriter(ABC):
    """The files of one export in one format. Memory does not grow with the documents."""

    #: what ``format=`` and ``--format`` take
    name: ClassVar[str]
    #: for people: one line
    help: ClassVar[str]
    #: the extra, and the library that it installs; None if the format needs none
    extra: ClassVar[tuple[str, str] | None] = None

    def __init__(self, about: About) -> None:
        self._about = about
        self._notes = Notes()
        self._opened = ExitStack()

    @classmethod
    def require(cls) -> None:
        """Check that the library of the format is installed.

        :raises LibraryMissing: if it is not
        """
        if cls.extra is None:
            return
        extra, library = cls.extra
        try:
            import_module(library)
        except ImportError as error:
            message = f"{cls.name} is written by {library}, which is not installed: pip install 'image_repo[{extra}]'"
            raise LibraryMissing(message) from error

    @abstractmethod
    def add(self, exported: Exported) -> None:
        """Add the next document; two exports of the same documents have the same order."""

    @abstractmethod
    def _tables(self, newest: float) -> Iterator[TableMember]:
        """Yield the files of the format."""

    def members(self, newest: float) -> Iterator[TableMember]:
        """Yield the files, then notes about what they lack.

        :param newest: seconds since the epoch: when the newest picture was uploaded. There is no other clock here:
            the same documents give the same bytes
        """
        yield from self._tables(newest)
        if text := self._notes.text():
            yield notes_member(self.name), text

    def close(self) -> None:
        """Delete temporary files."""
        self._opened.close()

    def _temporary(self) -> BinaryIO:
        return self._opened.enter_context(self._about.temporary())
