"""``metadata.jsonl``: the records of pictures in the ImageFolder layout of Hugging Face, which imports also read.

A line has ``file_name`` first, then the members of the record. Digest, type and sizes are those of the exported file;
``image_id`` is that of the original. ImageFolder expects a file for each line: descriptions are lines of
``descriptions.jsonl``.

``datasets`` reads lines into a table: each member has one type, which the first 10 MB decide. If ``data`` or ``exif``
have no common type, every line has them as JSON text; ``data`` that is text is always JSON text. Imports read both.
The lines of descriptions are no table: there, ``data`` keeps its type.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, BinaryIO

from image_repo.exchange.base import About, Exported
from image_repo.exchange.formats import coercion
from image_repo.exchange.formats.base import FormatWriter, TableMember
from image_repo.exchange.manifest_lines import DESCRIPTIONS, METADATA

#: bytes of a table that decide its types (datasets 5, FolderBasedBuilder._read_metadata)
_TYPE_DECIDING_BYTES = 10 << 20
#: members of a table: each takes memory, and many make the table slow
_MAX_MEMBERS = 2_000
#: text that pyarrow.json reads as a time, if all values of a member match
_TIME = re.compile(r"\d{4}-\d\d-\d\d([ T]\d\d(:\d\d){1,2}Z?)?")
_COMPATIBLE = (frozenset(("whole", "number")), frozenset(("time", "text")))
#: names of members that ImageFolder reads as paths of further pictures
_PATHS = ("file_name", "file_names")


class _TypeCheck:
    """Checks that the values of a member have the same types throughout."""

    def __init__(self) -> None:
        self.is_uniform = True
        #: the first member whose types differ
        self.offender: tuple[str, ...] = ()
        self._kinds: dict[tuple[str, ...], set[str]] = {}
        self._decided = False

    def add(self, value: Any) -> None:
        self.is_uniform = self.is_uniform and self._fits((), value)

    def decide(self) -> None:
        """Allow no new types from here on."""
        self._decided = True

    def _fits(self, path: tuple[str, ...], value: Any) -> bool:
        if value is None:
            return True
        kind = _kind(value)
        if kind is None or not self._takes(path, kind):
            self.offender = self.offender or path
            return False
        if isinstance(value, dict):
            return all(_is_member(name) and self._fits((*path, name), each) for name, each in value.items())
        return not isinstance(value, list) or all(self._fits((*path, "[]"), each) for each in value)

    def _takes(self, path: tuple[str, ...], kind: str) -> bool:
        kinds = self._kinds.get(path, set())
        if kind in kinds:
            return True
        if self._decided or len(self._kinds) >= _MAX_MEMBERS:
            return False
        self._kinds[path] = kinds | {kind}
        return not kinds or any(self._kinds[path] <= both for both in _COMPATIBLE)


def _is_member(name: str) -> bool:
    """Return whether a table can have a member of this name; arrow ends names at a NUL."""
    return not name.endswith(_PATHS) and "\0" not in name


def _kind(value: Any) -> str | None:
    """Return the type of a column with this value; None if no column can hold it."""
    if isinstance(value, str):
        return "time" if _TIME.fullmatch(value) else "text"
    if isinstance(value, int) and not isinstance(value, bool):
        return "whole" if -(2**63) <= value < 2**63 else None
    return {bool: "truth", float: "number", dict: "object", list: "list"}.get(type(value))


class ImageFolder(FormatWriter):
    """The two files of one export."""

    name = "imagefolder"
    help = "ImageFolder: metadata.jsonl, descriptions.jsonl"

    def __init__(self, about: About) -> None:
        super().__init__(about)
        self._descriptions = self._temporary()
        #: lines of pictures by split
        self._pictures = {"": self._temporary()} if not about.split else {}
        self._checks = {name: _TypeCheck() for name in ("data", "exif", "filename", "owner")}

    def add(self, exported: Exported) -> None:
        """Add the next document."""
        document, file = exported.document, exported.file
        if file is None:
            _write(self._descriptions, document)
            return
        document = _plain(document)
        for name, check in self._checks.items():
            check.add(document.get(name))
        facts = {"sha256": file.sha256, "media_type": file.media_type, "bytes": file.size}
        size = {"width": file.width, "height": file.height}
        label = {"label": coercion.text_at(document, self._about.label) or ""} if self._about.label else {}
        if file.split not in self._pictures:
            self._pictures[file.split] = self._temporary()
        name = file.name.removeprefix(f"{file.split}/") if file.split else file.name
        _write(self._pictures[file.split], {"file_name": name, **label, **document, **facts, **size})
        if self._pictures[file.split].tell() >= _TYPE_DECIDING_BYTES:
            for check in self._checks.values():
                check.decide()

    def _tables(self, newest: float) -> Iterator[TableMember]:
        if self._descriptions.tell():
            self._descriptions.seek(0)
            yield DESCRIPTIONS, self._descriptions
        for name, check in self._checks.items():
            if not check.is_uniform and _CHANGES[name] is _as_json:
                key = ".".join((name, *check.offender))
                self._notes.add(METADATA, f"{name} is JSON text in every line: {key} has values of different types")
        # the files of several splits must have the same types
        is_split = len(self._pictures) > 1
        changes = {name: _CHANGES[name] for name, check in self._checks.items() if is_split or not check.is_uniform}
        for split, lines in self._pictures.items():
            table = self._changed(lines, changes) if changes else lines
            table.seek(0)
            yield f"{split}/{METADATA}" if split else METADATA, table

    def _changed(self, lines: BinaryIO, changes: Mapping[str, Callable[[Any], str]]) -> BinaryIO:
        """Return the lines with some members converted."""
        changed = self._temporary()
        lines.seek(0)
        for line in lines:
            members = json.loads(line)
            _write(changed, {key: changes[key](value) if key in changes else value for key, value in members.items()})
        return changed


def _plain(document: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a document whose data are JSON text if they are text: readers treat all lines alike."""
    data = document.get("data")
    return {**document, "data": json.dumps(data, ensure_ascii=False)} if isinstance(data, str) else document


def _as_json(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _as_text(value: Any) -> str:
    return value or ""


_CHANGES: Mapping[str, Callable[[Any], str]] = {
    "data": _as_json, "exif": _as_json, "filename": _as_text, "owner": _as_text,
}  # fmt: skip


def _write(file: BinaryIO, members: Mapping[str, Any]) -> None:
    file.write(json.dumps(members, ensure_ascii=False, separators=(",", ":")).encode() + b"\n")
