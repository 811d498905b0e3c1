"""One JSON object after the other out of a file that may be larger than memory, and broken anywhere.

They stand on lines of their own (JSON lines), one behind the other (indented), as the elements of one array,
or as those of the array in the answer of a service: ``{"count": 3, "images": […]}``. One that cannot be read is
told, and the next one is read.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from io import BufferedReader, FileIO
from typing import Any

from image_repo.errors import BadBody, BrokenArchive, Problem, TooLarge
from image_repo.jsontext import read_object

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
    """

    where: str
    value: Mapping[str, Any] = field(default_factory=dict)
    problem: Problem | None = None


def is_json(head: bytes) -> bool:
    """Whether a file that begins so may be read here."""
    return head.removeprefix(_BOM).lstrip()[:1] in (b"{", b"[")


def values(file: BufferedReader[FileIO]) -> Iterator[Value]:
    """Every value of a file; memory grows with the largest of them at most, and that is bounded.

    :param file: at its beginning, with a buffer of at least :data:`CHUNK`
    """
    head = file.peek(CHUNK)
    start = len(head) - len(head.removeprefix(_BOM).lstrip())
    page = _PAGE.match(head, start)
    if page or head[start : start + 1] == b"[":
        file.seek(page.end() if page else start + 1)
        yield from _Splitter(listed=True).read(file)
    elif head[start:].partition(b"\n")[0].strip() == b"{":
        file.seek(start)
        yield from _Splitter(listed=False).read(file)
    else:
        file.seek(len(head) - len(head.removeprefix(_BOM)))
        yield from _lines(file)


def _lines(file: BufferedReader[FileIO]) -> Iterator[Value]:
    number = 0
    while line := file.readline(MOST_VALUE + 2):
        number += 1
        long = len(line.rstrip(b"\r\n")) > MOST_VALUE
        while not line.endswith(b"\n") and (rest := file.readline(CHUNK)):
            line = rest
        if long:
            yield _too_long(f"line {number}")
        elif line.strip():
            yield _value(f"line {number}", line)


def _too_long(where: str) -> Value:
    return Value(where, problem=TooLarge(f"An entry may have at most {MOST_VALUE} bytes.", limit=MOST_VALUE))


def _value(where: str, text: bytes) -> Value:
    try:
        return Value(where, read_object(text.decode(), "the entry"))
    except UnicodeDecodeError:
        return Value(where, problem=BadBody("Expected the entry to be JSON in UTF-8."))
    except Problem as problem:
        return Value(where, problem=problem)


class _Splitter:
    """Finds where values end, by counting brackets outside of text.

    :param listed: whether they are elements of an array whose beginning has been read
    """

    def __init__(self, *, listed: bool) -> None:
        self._listed = listed
        self._depth = 0
        self._quoted = self._escaped = self._long = self._ended = False
        self._piece = bytearray()
        self._number = 0

    def read(self, file: BufferedReader[FileIO]) -> Iterator[Value]:
        """The values from here on."""
        while not self._ended and (chunk := file.read(CHUNK)):
            yield from self._feed(chunk)
        if self._listed and not self._ended:
            yield Value("the end", problem=BrokenArchive("The file ends before its list does."))
        elif not self._listed and (self._long or self._piece.strip()):
            yield self._take()

    def _feed(self, chunk: bytes) -> Iterator[Value]:
        start = 0
        for at in self._ends(chunk):
            self._keep(chunk[start:at])
            start = at + self._listed  # what stands between elements belongs to none
            if not self._ended or self._number or self._long or self._piece.strip():
                yield self._take()
            if self._ended:
                return
        self._keep(chunk[start:])

    def _ends(self, chunk: bytes) -> Iterator[int]:
        """Where values end in a chunk."""
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

    def _keep(self, piece: bytes) -> None:
        if self._long or len(self._piece) + len(piece) > MOST_VALUE:
            self._long = True
            self._piece.clear()
        else:
            self._piece += piece

    def _take(self) -> Value:
        self._number += 1
        where = f"element {self._number}"
        made = _too_long(where) if self._long else _value(where, bytes(self._piece))
        self._long = False
        self._piece.clear()
        return made
