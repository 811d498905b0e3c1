"""``metadata.jsonl`` and ``descriptions.jsonl``: one JSON object a line, as ImageFolder of Hugging Face has it.

A line of ours has ``data``, or nothing but members of a record: ``name``, ``data`` and ``filename`` are taken
from it, its digest is held against the bytes, and what else a record has, ``owner`` for one, is passed over. In the
lines of other tools (``label``, ``text``, …) everything beside ``file_name`` is data; and so is what stands beside
``data``. A neighbour's ``mongodb_data.json`` is turned into such lines.
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
from image_repo.model.record import Record
from image_repo.model.strict_json import read_json, read_object
from image_repo.repository.metadata import check_data

#: pictures and what is said of them; descriptions, which have no picture
METADATA, DESCRIPTIONS = "metadata.jsonl", "descriptions.jsonl"
#: the longest line that is read, in bytes: data of 64 KiB, all of it escaped, and the rest of a record
_MOST_LINE = 1 << 20
_MOST_FILENAME = 1_000
#: the longest file_name that is looked for in a line that cannot be read, in bytes
_MOST_PATH = 4_096

_OURS = frozenset(("file_name", *Record.description("", {}).public()))
_SHA256 = re.compile(r"[0-9a-f]{64}")
_DRIVE = re.compile(r"[A-Za-z]:")
_BOM = b"\xef\xbb\xbf"
_NAMED = re.compile(rb'"file_name"\s*:\s*("(?:[^"\\]|\\.){1,%d}")' % _MOST_PATH)


def is_sheet(path: str) -> bool:
    """Whether a file tells of others, at whatever level it lies."""
    return path.rpartition("/")[2] in (METADATA, DESCRIPTIONS, EXPORTED)


@dataclass(frozen=True, slots=True)
class _ManifestLine:
    """What a line says; ``name`` and ``filename`` are None where they are the path's, the latter empty for none."""

    name: str | None
    data: Any
    filename: str | None = None
    sha256: str | None = None
    original: str | None = None


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a line is.

    :param sheet: number of its file
    :param number: of the line in its file, from 1
    """

    sheet: int
    number: int
    begin: int
    size: int


class Lines:
    """The lines of all files of an import that tell of others. Each that names a file takes some 200 bytes of memory.

    :param file: where they are kept meanwhile
    :param most: lines that they may have together, empty ones too; None for any number, which is for those who may
        use as much memory as they like
    """

    def __init__(self, file: BinaryIO, most: int | None = None) -> None:
        self._file = file
        self._most = self._left_over = most
        self._sheets: list[tuple[str, int]] = []  # path, and where its first line begins
        #: digest of a path → where the line is that tells of it
        self._of: dict[bytes, int] = {}
        self._twice: set[int] = set()
        #: how many tell of no file
        self.loose = 0

    def add(self, path: str, chunks: Iterable[bytes]) -> None:
        """Reads a file.

        :param path: in the archive, or below the folder, that is taken in
        :raises BrokenArchive: when there are too many lines; none of them counts then
        :raises StoreUnavailable: when there is no room for it
        """
        begin = self._file.seek(0, 2)
        self._sheets.append((path, begin))
        told = as_lines(chunks) if path.rpartition("/")[2] == EXPORTED else chunks
        for chunk in chain(self._counted(told), [b"\n"]):
            try:
                self._file.write(chunk)
            except OSError as error:
                raise StoreUnavailable("There is no room for the bytes on their way in.") from error
        for place, text in self._scan(len(self._sheets) - 1):
            files = self._files(place, text)
            self.loose += not files
            # A line that cannot be read may name any number.
            self._count(len(files[1:]))
            for named in files:
                key = _digest(_joined(path, named))
                if self._of.setdefault(key, place.begin) != place.begin:
                    self._twice.add(place.begin)

    def _counted(self, chunks: Iterable[bytes]) -> Iterator[bytes]:
        """The same, until there are too many lines."""
        last = b"\n"
        for chunk in chunks:
            self._count(chunk.count(b"\n"))
            last = chunk[-1:] or last
            yield chunk
        self._count(last != b"\n")

    def _count(self, lines: int) -> None:
        if self._left_over is None:
            return
        self._left_over -= lines
        if self._left_over < 0:
            sheets = f"{METADATA}, {DESCRIPTIONS} and {EXPORTED}"
            raise BrokenArchive(f"At most {self._most} lines of {sheets} are taken, all of them together.")

    def item(self, path: str, open_: Opener) -> Item:
        """A file of the import with what is said of it; once for each.

        :param path: in the archive, or below the folder, that is taken in
        """
        item = Item(path, split_ending(path.removeprefix("./"))[0], open_)
        refused = _refused(path)
        if refused:
            return replace(item, problem=refused)
        begin = self._of.pop(_digest(posixpath.normpath(path)), None)
        if begin is None:
            return replace(item, filename=path.rpartition("/")[2])
        try:
            line = _read(self._text(begin))
        except Problem as problem:
            return replace(item, problem=problem)
        return replace(
            item,
            name=line.name or item.name,
            data=line.data,
            filename=path.rpartition("/")[2] if line.filename is None else line.filename or None,
            sha256=line.sha256,
            original=line.original,
        )

    def rest(self) -> Iterator[Item]:
        """What tells of no file that :meth:`item` was called with: descriptions, and what is wrong."""
        missed = set(self._of.values()) | self._twice
        for number, (path, _) in enumerate(self._sheets):
            for place, text in self._scan(number):
                files = self._files(place, text)
                if not files or place.begin in missed:
                    yield self._left(f"{path}:{place.number}", place, text, files[0] if files else None)

    def _left(self, entry: str, place: _Place, text: bytes | None, named: str | None) -> Item:
        try:
            line = _read(text)
            if named is not None and place.begin in self._twice:
                raise BrokenArchive(f"There are several lines of {named[:200]!r}.")
            if named is not None:
                raise BrokenArchive(f"There is no file {named[:200]!r}.")
            if not line.name:
                raise BadBody("Expected a line without file_name to have a name.")
        except Problem as problem:
            return Item(entry, "", problem=problem)
        return Item(entry, line.name, data=line.data)

    def _scan(self, sheet: int) -> Iterator[tuple[_Place, bytes | None]]:
        """The lines of one file that are not empty; None for one that is too long."""
        at = self._sheets[sheet][1]
        end = self._sheets[sheet + 1][1] if sheet + 1 < len(self._sheets) else self._file.seek(0, 2)
        number = 0
        while at < end:
            self._file.seek(at)
            text = self._file.readline(_MOST_LINE)
            size, number = len(text), number + 1
            if not text.endswith(b"\n"):
                while (more := self._file.readline(_MOST_LINE)) and not more.endswith(b"\n"):
                    size += len(more)
                size += len(more)
                yield _Place(sheet, number, at, size), None
            elif text.strip(b" \t\r\n\xef\xbb\xbf"):
                yield _Place(sheet, number, at, size), text
            at += size

    def _files(self, place: _Place, text: bytes | None) -> Sequence[str]:
        """Of which file a line tells; of which it may tell, where it cannot be read: none is taken without it."""
        try:
            told = json.loads(text.removeprefix(_BOM)) if text else None
        except (ValueError, RecursionError):
            told = None
        if not isinstance(told, dict):
            found = (match[1] for piece in self._pieces(place) for match in _NAMED.finditer(piece))
            return tuple(dict.fromkeys(map(_unquoted, found)))
        named = told.get("file_name")
        return (named,) if isinstance(named, str) and named else ()

    def _pieces(self, place: _Place) -> Iterator[bytes]:
        """A line, however long it is; pieces overlap, so that each file_name is whole in one of them."""
        end, overlap = place.begin + place.size, 2 * _MOST_PATH
        for at in range(place.begin, end, _MOST_LINE):
            self._file.seek(at)
            yield self._file.read(min(_MOST_LINE + overlap, end - at))

    def _text(self, begin: int) -> bytes | None:
        self._file.seek(begin)
        text = self._file.readline(_MOST_LINE)
        return text if text.endswith(b"\n") else None


def _refused(path: str) -> Problem | None:
    """Why a path is none of a picture, where it shows; names are judged later, as names of images."""
    if _DRIVE.match(path) or path.startswith(("/", "\\")):
        return BadName("Expected a path inside of the archive.")
    segments = re.split(r"[/\\]", path.removeprefix("./"))
    if ".." in segments:
        return BadName("Expected a path inside of the archive, without '..'.")
    if segments[0] == "__MACOSX" or any(segment.startswith(".") for segment in segments):
        return NotAPicture("It is hidden.")
    return None


def _unquoted(text: bytes) -> str:
    """What JSON text holds; as it stands, where it cannot be read."""
    shown = text.decode(errors="replace")
    try:
        return str(json.loads(shown))
    except ValueError:
        return shown[1:-1]


def _joined(sheet: str, named: str) -> str:
    folder = sheet.rpartition("/")[0]
    return posixpath.normpath(f"{folder}/{named}" if folder else named)


def _digest(path: str) -> bytes:
    return blake2b(path.encode("utf-8", "surrogatepass"), digest_size=8).digest()


def _read(text: bytes | None) -> _ManifestLine:
    """What a line says.

    :raises BadBody: when it cannot be read
    """
    if text is None:
        raise BadBody(f"A line may have at most {_MOST_LINE} bytes.")
    try:
        told = read_object(text.removeprefix(_BOM).decode(), "the line")
    except UnicodeDecodeError as error:
        raise BadBody("Expected the line to be in UTF-8.") from error
    if "data" not in told and not told.keys() <= _OURS:
        return _ManifestLine(None, {name: value for name, value in told.items() if name != "file_name"})
    sha256 = _hex("sha256", told.get("sha256"))
    original = _hex("image_id", _text("image_id", told.get("image_id")).removeprefix("sha256:") or None)
    filename = _text("filename", told["filename"])[:_MOST_FILENAME] if "filename" in told else None
    name = _text("name", told.get("name")) or None
    data, others = _data(told), {key: value for key, value in told.items() if key not in _OURS}
    if others and not isinstance(data, Mapping | None):
        raise BadBody(
            "Expected data to be a JSON object, because other members than those of a record stand beside it."
        )
    return _ManifestLine(name, {**others, **(data or {})} if others else data, filename, sha256, original)


def _data(told: Mapping[str, Any]) -> Any:
    """Data as it is; in the line of a picture, which stands in a table of one type throughout, text is JSON."""
    data = told.get("data")
    if not isinstance(data, str) or not told.get("file_name"):
        return data
    read = read_json(data)
    check_data(read)
    return read


def _text(what: str, told: Any) -> str:
    if told is not None and not isinstance(told, str):
        raise BadBody(f"Expected {what} to be text.")
    return told or ""


def _hex(what: str, told: Any) -> str | None:
    if told is not None and not (isinstance(told, str) and _SHA256.fullmatch(told)):
        raise BadBody(f"Expected {what} to hold a SHA-256 as 64 hexadecimal digits.")
    return told
