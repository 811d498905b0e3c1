"""Stream JSON objects out of a file that may be larger than memory, and invalid anywhere.

Objects are lines (JSON lines), follow one another (indented), or are the elements of one array, also of that in the
page of a service: ``{"count": 3, "images": […]}``. An invalid object is reported, and the next one is read.

A streaming parser cannot do this. Measured with ijson 3.6 (yajl): it ends at the first error of an array, reads half
a surrogate pair as ``?``, and an integer of 5,000 digits ends the process by a segmentation fault.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

from image_repo.errors import BadBody, BrokenArchive, Problem, TooLarge
from image_repo.model.strict_json import read_object

MAX_VALUE_BYTES = 1 << 19
#: bytes that are read at a time, and from which the form of a file is detected
CHUNK = 1 << 16

_BOM = b"\xef\xbb\xbf"
_STRUCTURAL, _STRUCTURAL_IN_TEXT = re.compile(rb'["\[\]{},]'), re.compile(rb'["\\]')
#: the beginning of a page: counters, then the array
_PAGE = re.compile(
    rb'\{\s*(?:"(?:count|count_is|page|pages|limit|skip|total|select)"\s*:\s*(?:[0-9.]+|null|"[^"\\]{0,1000}")\s*,\s*)*'
    rb'"(?:images|items)"\s*:\s*\['
)


@dataclass(frozen=True, slots=True)
class Value:
    """An object of the file.

    :param position: ``line 12`` or ``element 3``
    :param problem: why it is invalid; None if it is valid
    :param text: the bytes of an invalid object; only the first of one that is too long
    """

    position: str
    value: Mapping[str, Any] = field(default_factory=dict)
    problem: Problem | None = None
    text: bytes = b""


def is_json(head: bytes) -> bool:
    """Return whether a file that begins so can be read here."""
    return head.removeprefix(_BOM).lstrip()[:1] in (b"{", b"[")


def values(chunks: Iterable[bytes]) -> Iterator[Value]:
    """Yield every object of a file; memory is bounded by :data:`MAX_VALUE_BYTES`.

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
        yield from _Splitter(is_array=True).split(chain((head[page.end() if page else start + 1 :],), stream))
    elif head[start:].partition(b"\n")[0].strip() == b"{":
        yield from _Splitter(is_array=False).split(chain((head,), stream))
    else:
        yield from _lines(chain((head,), stream))


def _lines(chunks: Iterable[bytes]) -> Iterator[Value]:
    buffer, number = _Buffer(), 1
    for chunk in chunks:
        *ends, rest = chunk.split(b"\n")
        for end in ends:
            buffer.add(end)
            if not buffer.is_blank:
                yield buffer.take(f"line {number}")
            number += 1
        buffer.add(rest)
    if not buffer.is_blank:
        yield buffer.take(f"line {number}")


class _Buffer:
    """The bytes of one object; of one that is too long, only the first."""

    def __init__(self) -> None:
        self._bytes = bytearray()
        self._is_too_long = False

    def add(self, piece: bytes) -> None:
        """Append bytes."""
        self._is_too_long = self._is_too_long or len(self._bytes) + len(piece) > MAX_VALUE_BYTES
        self._bytes += piece[: MAX_VALUE_BYTES - len(self._bytes)]

    @property
    def is_blank(self) -> bool:
        """Return whether there is nothing but white space."""
        return not self._is_too_long and not self._bytes.strip()

    def take(self, position: str) -> Value:
        """Parse the object, and clear the buffer."""
        text, is_too_long = bytes(self._bytes), self._is_too_long
        self._bytes.clear()
        self._is_too_long = False
        try:
            if is_too_long:
                raise TooLarge(f"An entry may have at most {MAX_VALUE_BYTES} bytes.", limit=MAX_VALUE_BYTES)
            return Value(position, read_object(text.decode(), "the entry"))
        except UnicodeDecodeError:
            return Value(position, problem=BadBody("Expected the entry to be JSON in UTF-8."), text=text)
        except Problem as problem:
            return Value(position, problem=problem, text=text)


class _Splitter:
    """Splits a stream into objects by counting the brackets outside of text.

    :param is_array: whether they are the elements of an array, after its opening bracket
    """

    def __init__(self, *, is_array: bool) -> None:
        self._is_array = is_array
        self._depth = 0
        self._in_text = self._is_escaped = self._has_ended = False
        self._buffer = _Buffer()
        self._number = 0

    def split(self, chunks: Iterable[bytes]) -> Iterator[Value]:
        for chunk in chunks:
            yield from self._feed(chunk)
            if self._has_ended:
                return
        if self._is_array:
            yield Value("the end", problem=BrokenArchive("The file ends before its list does."))
        elif not self._buffer.is_blank:
            yield self._take()

    def _feed(self, chunk: bytes) -> Iterator[Value]:
        start = 0
        for end in self._ends(chunk):
            self._buffer.add(chunk[start:end])
            start = end + self._is_array  # without the comma
            is_empty_array = self._has_ended and not self._number and self._buffer.is_blank
            if not is_empty_array:
                yield self._take()
            if self._has_ended:
                return
        self._buffer.add(chunk[start:])

    def _ends(self, chunk: bytes) -> Iterator[int]:
        """Yield the offsets at which objects end."""
        at = 0
        if self._is_escaped and chunk:
            self._is_escaped, at = False, 1
        while match := (_STRUCTURAL_IN_TEXT if self._in_text else _STRUCTURAL).search(chunk, at):
            at = match.end()
            sign = match[0]
            if sign == b'"':
                self._in_text = not self._in_text
            elif sign == b"\\":
                self._is_escaped = at == len(chunk)
                at += 1
            elif sign in b"[{":
                self._depth += 1
            elif sign == b",":
                if self._is_array and not self._depth:
                    yield at - 1
            elif self._depth:
                self._depth -= 1
                if not self._is_array and not self._depth:
                    yield at
            elif self._is_array:
                self._has_ended = True
                yield at - 1

    def _take(self) -> Value:
        self._number += 1
        return self._buffer.take(f"element {self._number}")
