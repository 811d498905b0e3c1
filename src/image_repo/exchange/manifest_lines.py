"""Read ``metadata.jsonl`` and ``descriptions.jsonl``: one JSON object a line, as ImageFolder of Hugging Face.

A line with ``data``, or with only members of a record, comes from image_repo: ``name``, ``data`` and ``filename`` are
imported, the digest is compared with the content, and other members of a record, such as ``owner``, are ignored. In
lines of other tools (``label``, ``text``, …) all members beside ``file_name`` are data, as are unknown members beside
``data``. ``mongodb_data.json`` of another system is converted to such lines.
"""

from __future__ import annotations

import json
import posixpath
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from itertools import chain
from typing import Any, BinaryIO

from image_repo.errors import BadBody, BadName, BrokenArchive, NotAPicture, Problem, StoreUnavailable
from image_repo.exchange.base import Item, Opener
from image_repo.exchange.legacy.documents import EXPORTED, as_lines
from image_repo.model.formats import split_ending
from image_repo.model.record import PUBLIC_MEMBERS
from image_repo.model.strict_json import read_json, read_object
from image_repo.repository.metadata import check_data

#: lines of pictures; lines of descriptions, which have no picture
METADATA, DESCRIPTIONS = "metadata.jsonl", "descriptions.jsonl"
#: data of 64 KiB, all of it escaped, and the rest of a record
_MAX_LINE_BYTES = 1 << 20
_MAX_FILENAME_CHARACTERS = 1_000
#: of a file_name in an invalid line
_MAX_PATH_BYTES = 4_096

_RECORD_MEMBERS = frozenset(("file_name", *PUBLIC_MEMBERS))
_SHA256 = re.compile(r"[0-9a-f]{64}")
_DRIVE = re.compile(r"[A-Za-z]:")
_BOM = b"\xef\xbb\xbf"
_FILE_NAME = re.compile(rb'"file_name"\s*:\s*("(?:[^"\\]|\\.){1,%d}")' % _MAX_PATH_BYTES)


def is_manifest(path: str) -> bool:
    """Return whether a file describes others, in whatever folder it lies."""
    return path.rpartition("/")[2] in (METADATA, DESCRIPTIONS, EXPORTED)


@dataclass(frozen=True, slots=True)
class _ManifestLine:
    """The content of a line; ``name`` and ``filename`` are None if they follow from the path."""

    name: str | None
    data: Any
    filename: str | None = None
    sha256: str | None = None
    original: str | None = None


@dataclass(frozen=True, slots=True)
class _Place:
    """The place of a line in the spooled manifests.

    :param number: of the line in its file, from 1
    """

    number: int
    begin: int
    size: int


class ManifestLines:
    """The lines of all manifests of an import. Each that names a file takes some 200 bytes of memory.

    :param file: spools them
    :param max_lines: of all manifests together, with empty ones; None for any number
    """

    def __init__(self, file: BinaryIO, max_lines: int | None = None) -> None:
        self._file = file
        self._max_lines = self._remaining = max_lines
        self._manifests: list[tuple[str, int]] = []  # path, and offset of its first line
        #: digest of a path → offset of its line
        self._offsets: dict[bytes, int] = {}
        self._duplicates: set[int] = set()
        #: offset from which lines are labels: they give way to those of manifests
        self._labels_begin: int | None = None
        #: number of lines without a file
        self.without_file = 0

    def add(self, path: str, chunks: Iterable[bytes]) -> None:
        """Read a manifest.

        :param path: in the archive, or below the folder
        :raises BrokenArchive: if there are too many lines; none of them counts then
        :raises StoreUnavailable: if there is no space to spool it
        """
        self._manifests.append((path, self._file.seek(0, 2)))
        lines = as_lines(chunks) if path.rpartition("/")[2] == EXPORTED else chunks
        for chunk in chain(self._counted(lines), [b"\n"]):
            try:
                self._file.write(chunk)
            except OSError as error:
                raise StoreUnavailable("There is no room for the bytes on their way in.") from error
        for place, text in self._scan(len(self._manifests) - 1):
            files = self._files(place, text)
            self.without_file += not files
            # An invalid line may name any number of files.
            self._count(len(files[1:]))
            for file in files:
                digest = _digest(_joined(path, file))
                is_duplicate = self._offsets.setdefault(digest, place.begin) != place.begin
                if is_duplicate and not self._is_label(place.begin):
                    self._duplicates.add(place.begin)

    def add_labels(self, path: str, lines: Iterable[bytes]) -> None:
        """Add the lines of a file of labels, after all manifests; a file that has a line already keeps it.

        :raises BrokenArchive, StoreUnavailable: as :meth:`add` says
        """
        if self._labels_begin is None:
            self._labels_begin = self._file.seek(0, 2)
        self.add(path, lines)

    def _counted(self, chunks: Iterable[bytes]) -> Iterator[bytes]:
        """Yield chunks until there are too many lines, or one is far too long."""
        last, length = b"\n", 0
        for chunk in chunks:
            self._count(chunk.count(b"\n"))
            length = len(chunk) - chunk.rfind(b"\n") - 1 if b"\n" in chunk else length + len(chunk)
            if length > _MAX_LINE_BYTES:
                raise BrokenArchive(f"A line may have at most {_MAX_LINE_BYTES} bytes.")
            last = chunk[-1:] or last
            yield chunk
        self._count(last != b"\n")

    def _count(self, lines: int) -> None:
        if self._remaining is None:
            return
        self._remaining -= lines
        if self._remaining < 0:
            names = f"{METADATA}, {DESCRIPTIONS} and {EXPORTED}"
            raise BrokenArchive(f"At most {self._max_lines} lines of {names} are taken, all of them together.")

    def item(self, path: str, open_: Opener) -> Item:
        """Return the item of a file with its line; to be called once for each file.

        :param path: in the archive, or below the folder
        """
        filename = path.rpartition("/")[2]
        item = Item(path, split_ending(path.removeprefix("./"))[0], open_, filename=filename)
        problem = _path_problem(path)
        if problem:
            return replace(item, problem=problem)
        offset = self._offsets.pop(_digest(posixpath.normpath(path)), None)
        if offset is None:
            return item
        try:
            line = _parse(self._text(offset))
        except Problem as problem:
            return replace(item, problem=problem)
        return replace(
            item,
            name=line.name or item.name,
            data=line.data,
            merge=self._is_label(offset),
            filename=filename if line.filename is None else line.filename or None,
            sha256=line.sha256,
            original=line.original,
        )

    def rest(self) -> Iterator[Item]:
        """Yield the lines for which :meth:`item` was not called: descriptions, and invalid lines."""
        unused = set(self._offsets.values()) | self._duplicates
        for index, (path, _) in enumerate(self._manifests):
            for place, text in self._scan(index):
                files = self._files(place, text)
                if not files or place.begin in unused:
                    yield self._unused(f"{path}:{place.number}", place, text, files[0] if files else None)

    def _is_label(self, offset: int) -> bool:
        return self._labels_begin is not None and offset >= self._labels_begin

    def _unused(self, entry: str, place: _Place, text: bytes | None, file: str | None) -> Item:
        try:
            line = _parse(text)
            if file is not None and place.begin in self._duplicates:
                raise BrokenArchive(f"There are several lines of {file[:200]!r}.")
            if file is not None:
                missing = NotAPicture if self._is_label(place.begin) else BrokenArchive
                raise missing(f"There is no file {file[:200]!r}.")
            if not line.name:
                raise BadBody("Expected a line without file_name to have a name.")
        except Problem as problem:
            return Item(entry, "", problem=problem)
        return Item(entry, line.name, data=line.data)

    def _scan(self, index: int) -> Iterator[tuple[_Place, bytes | None]]:
        """Yield the lines of one manifest that are not empty; None for one that is too long."""
        at = self._manifests[index][1]
        end = self._manifests[index + 1][1] if index + 1 < len(self._manifests) else self._file.seek(0, 2)
        number = 0
        while at < end:
            self._file.seek(at)
            text = self._file.readline(_MAX_LINE_BYTES)
            size, number = len(text), number + 1
            if not text.endswith(b"\n"):
                while (more := self._file.readline(_MAX_LINE_BYTES)) and not more.endswith(b"\n"):
                    size += len(more)
                size += len(more)
                yield _Place(number, at, size), None
            elif text.strip(b" \t\r\n\xef\xbb\xbf"):
                yield _Place(number, at, size), text
            at += size

    def _files(self, place: _Place, text: bytes | None) -> Sequence[str]:
        """Return the file of a line. Files of invalid lines are searched for: none is imported without its line."""
        try:
            line = json.loads(text.removeprefix(_BOM)) if text else None
        except (ValueError, RecursionError):
            line = None
        if not isinstance(line, dict):
            matches = (match[1] for piece in self._pieces(place) for match in _FILE_NAME.finditer(piece))
            return tuple(dict.fromkeys(map(_unquoted, matches)))
        file = line.get("file_name")
        return (file,) if isinstance(file, str) and file else ()

    def _pieces(self, place: _Place) -> Iterator[bytes]:
        """Yield a line of any length; pieces overlap, so that each file_name is whole in one of them."""
        end, overlap = place.begin + place.size, 2 * _MAX_PATH_BYTES
        for at in range(place.begin, end, _MAX_LINE_BYTES):
            self._file.seek(at)
            yield self._file.read(min(_MAX_LINE_BYTES + overlap, end - at))

    def _text(self, offset: int) -> bytes | None:
        self._file.seek(offset)
        text = self._file.readline(_MAX_LINE_BYTES)
        return text if text.endswith(b"\n") else None


def _path_problem(path: str) -> Problem | None:
    """Return why a path is none of a picture; names are checked later."""
    if _DRIVE.match(path) or path.startswith(("/", "\\")):
        return BadName("Expected a path inside of the archive.")
    segments = re.split(r"[/\\]", path.removeprefix("./"))
    if ".." in segments:
        return BadName("Expected a path inside of the archive, without '..'.")
    if segments[0] == "__MACOSX" or any(segment.startswith(".") for segment in segments):
        return NotAPicture("It is hidden.")
    return None


def _unquoted(literal: bytes) -> str:
    """Return the text of a JSON string; of an invalid one, what is between its quotes."""
    text = literal.decode(errors="replace")
    try:
        return str(json.loads(text))
    except ValueError:
        return text[1:-1]


def _joined(manifest: str, file: str) -> str:
    folder = manifest.rpartition("/")[0]
    return posixpath.normpath(f"{folder}/{file}" if folder else file)


def _digest(path: str) -> bytes:
    return blake2b(path.encode("utf-8", "surrogatepass"), digest_size=8).digest()


def _parse(text: bytes | None) -> _ManifestLine:
    """Parse a line.

    :raises BadBody: if it is invalid
    """
    if text is None:
        raise BadBody(f"A line may have at most {_MAX_LINE_BYTES} bytes.")
    try:
        line = read_object(text.removeprefix(_BOM).decode(), "the line")
    except UnicodeDecodeError as error:
        raise BadBody("Expected the line to be in UTF-8.") from error
    if "data" not in line and not line.keys() <= _RECORD_MEMBERS:
        return _ManifestLine(None, {name: value for name, value in line.items() if name != "file_name"})
    sha256 = _hex("sha256", line.get("sha256"))
    original = _hex("image_id", _text("image_id", line.get("image_id")).removeprefix("sha256:") or None)
    filename = _text("filename", line["filename"])[:_MAX_FILENAME_CHARACTERS] if "filename" in line else None
    name = _text("name", line.get("name")) or None
    data, others = _data(line), {key: value for key, value in line.items() if key not in _RECORD_MEMBERS}
    if others and not isinstance(data, Mapping | None):
        raise BadBody(
            "Expected data to be a JSON object, because other members than those of a record stand beside it."
        )
    return _ManifestLine(name, {**others, **(data or {})} if others else data, filename, sha256, original)


def _data(line: Mapping[str, Any]) -> Any:
    """Return the data of a line. In the line of a picture, which is a table of one type, text is JSON."""
    text = line.get("data")
    if not isinstance(text, str) or not line.get("file_name"):
        return text
    data = read_json(text)
    check_data(data)
    return data


def _text(member: str, value: Any) -> str:
    if value is not None and not isinstance(value, str):
        raise BadBody(f"Expected {member} to be text.")
    return value or ""


def _hex(member: str, value: Any) -> str | None:
    if value is not None and not (isinstance(value, str) and _SHA256.fullmatch(value)):
        raise BadBody(f"Expected {member} to hold a SHA-256 as 64 hexadecimal digits.")
    return value
