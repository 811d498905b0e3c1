"""One JSON object after the other out of a file that may be larger than memory, and broken anywhere.

They stand on lines of their own (JSON lines), one behind the other (indented), as the elements of one array,
or as those of the array in the answer of a service: ``{"count": 3, "images": […]}``. One that cannot be read is
told, and the next one is read.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

from image_repo.errors import BadBody, BrokenArchive, Problem, TooLarge
from image_repo.model.strict_json import read_object

#: the most bytes of one value
MOST_VALUE = 1 << 19
#: what is read at a time, and what is looked at to tell how a file is made up
CHUNK = 1 << 16

_BOM = b"\xef\xbb\xbf"
_OUTSIDE, _INSIDE = re.compile(rb'["\[\]{},]'), re.compile(rb'["\\]')
#: the beginning of a page of an answer: members that say how large it is, then the array
_PAGE = re.compile(
    rb'\{\s*(?:"(?:count|count_is|page|pages|limit|skip|total|select)"\s*:\s*(?:[0-9.]+|null|"[^"\\]{0,1000}")\s*,\s*)*'
    rb'"(?:images|items)"\s*:\s*\['
)


@dataclass(frozen=True, slots=True)
class Value:
    """An object of the file.

    :param where: ``line 12`` or ``element 3``
    :param problem: why it could not be read; None where it was
    :param text: as it stands there, where it could not be read; of one that is too long, how it begins
    """

    where: str
    value: Mapping[str, Any] = field(default_factory=dict)
    problem: Problem | None = None
    text: bytes = b""


def is_json(head: bytes) -> bool:
    """Whether a file that begins so may be read here."""
    return head.removeprefix(_BOM).lstrip()[:1] in (b"{", b"[")


def values(chunks: Iterable[bytes]) -> Iterator[Value]:
    """Every object of a file; memory grows with the largest of them at most, and that is bounded.

    :param chunks: of any size
    """
    stream = iter(chunks)
    head = b""
    while len(head) < CHUNK and (chunk := next(stream, b"")):
        head += chunk
    head = head.removeprefix(_BOM)
    start = len(head) - len(head.lstrip())
    page = _PAGE.match(head, start)
    if page or head[start : start + 1] == b"[":
        yield from _Splitter(listed=True).read(chain((head[page.end() if page else start + 1 :],), stream))
    elif head[start:].partition(b"\n")[0].strip() == b"{":
        yield from _Splitter(listed=False).read(chain((head,), stream))
    else:
        yield from _lines(chain((head,), stream))


def _lines(chunks: Iterable[bytes]) -> Iterator[Value]:
    piece, number = _Piece(), 1
    for chunk in chunks:
        *ended, rest = chunk.split(b"\n")
        for end in ended:
            piece.add(end)
            if not piece.is_blank:
                yield piece.take(f"line {number}")
            number += 1
        piece.add(rest)
    if not piece.is_blank:
        yield piece.take(f"line {number}")


class _Piece:
    """The bytes of an object, as they come; of one that is too long only the first are kept."""

    def __init__(self) -> None:
        self._bytes = bytearray()
        self._long = False

    def add(self, more: bytes) -> None:
        """Takes the next bytes."""
        self._long = self._long or len(self._bytes) + len(more) > MOST_VALUE
        self._bytes += more[: MOST_VALUE - len(self._bytes)]

    @property
    def is_blank(self) -> bool:
        """Whether nothing but blanks has come."""
        return not self._long and not self._bytes.strip()

    def take(self, where: str) -> Value:
        """What has come, read; the next piece begins."""
        text, long = bytes(self._bytes), self._long
        self._bytes.clear()
        self._long = False
        try:
            if long:
                raise TooLarge(f"An entry may have at most {MOST_VALUE} bytes.", limit=MOST_VALUE)
            return Value(where, read_object(text.decode(), "the entry"))
        except UnicodeDecodeError:
            return Value(where, problem=BadBody("Expected the entry to be JSON in UTF-8."), text=text)
        except Problem as problem:
            return Value(where, problem=problem, text=text)


class _Splitter:
    """Finds where objects end, by counting brackets outside of text.

    :param listed: whether they are elements of an array whose beginning has been read
    """

    def __init__(self, *, listed: bool) -> None:
        self._listed = listed
        self._depth = 0
        self._quoted = self._escaped = self._ended = False
        self._piece = _Piece()
        self._number = 0

    def read(self, chunks: Iterable[bytes]) -> Iterator[Value]:
        """The objects from here on."""
        for chunk in chunks:
            yield from self._feed(chunk)
            if self._ended:
                return
        if self._listed:
            yield Value("the end", problem=BrokenArchive("The file ends before its list does."))
        elif not self._piece.is_blank:
            yield self._take()

    def _feed(self, chunk: bytes) -> Iterator[Value]:
        start = 0
        for at in self._ends(chunk):
            self._piece.add(chunk[start:at])
            start = at + self._listed  # what stands between elements belongs to none
            if not self._ended or self._number or not self._piece.is_blank:  # nothing at all is in an empty list
                yield self._take()
            if self._ended:
                return
        self._piece.add(chunk[start:])

    def _ends(self, chunk: bytes) -> Iterator[int]:
        """Where objects end in a chunk."""
        at = 0
        if self._escaped and chunk:
            self._escaped, at = False, 1
        while found := (_INSIDE if self._quoted else _OUTSIDE).search(chunk, at):
            at = found.end()
            sign = found[0]
            if sign == b'"':
                self._quoted = not self._quoted
            elif sign == b"\\":
                self._escaped = at == len(chunk)
                at += 1
            elif sign in b"[{":
                self._depth += 1
            elif sign == b",":
                if self._listed and not self._depth:
                    yield at - 1
            elif self._depth:
                self._depth -= 1
                if not self._listed and not self._depth:
                    yield at
            elif self._listed:
                self._ended = True
                yield at - 1

    def _take(self) -> Value:
        self._number += 1
        return self._piece.take(f"element {self._number}")
