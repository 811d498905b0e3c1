"""``metadata.jsonl``: pictures and what is known of them, as ImageFolder of Hugging Face reads it, and we take it back.

A line has ``file_name`` first, then the members of the record. Its digest, type and sizes are those of the file
that it names; ``image_id`` is the original's. Descriptions have no file, which ImageFolder does not want in this
file: they are lines of ``descriptions.jsonl``.

``datasets`` reads lines into a table: a member has one type throughout, and the first 10 MB decide what it is.
Where ``data`` or ``exif`` differ too much for that, they stand there as JSON text in every line; ``data`` that is text
always does. An import takes both. The lines of descriptions are no table: there, ``data`` is what it is.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, BinaryIO

from image_repo.exchange.base import About, Exported
from image_repo.exchange.manifest_lines import DESCRIPTIONS, METADATA

#: of a table, the bytes that decide its types (datasets 5, FolderBasedBuilder._read_metadata)
_DECIDING = 10 << 20
#: members of a table: more make it slow, and a type for each takes memory here
_MOST_MEMBERS = 2_000
#: what pyarrow.json takes for a time, where all values of a member are like it
_TIME = re.compile(r"\d{4}-\d\d-\d\d([ T]\d\d(:\d\d){1,2}Z?)?")
_TOGETHER = (frozenset(("whole", "number")), frozenset(("time", "text")))
#: names of members that ImageFolder takes for paths of further pictures
_PATHS = ("file_name", "file_names")


class Uniform:
    """Whether the values of a member have the same types throughout."""

    def __init__(self) -> None:
        self.holds = True
        self._kinds: dict[tuple[str, ...], set[str]] = {}
        self._decided = False

    def see(self, value: Any) -> None:
        """Takes the next value."""
        self.holds = self.holds and self._fits((), value)

    def decide(self) -> None:
        """From here on, nothing new may come."""
        self._decided = True

    def _fits(self, path: tuple[str, ...], value: Any) -> bool:
        if value is None:
            return True
        kind = _kind(value)
        if kind is None or not self._takes(path, kind):
            return False
        if isinstance(value, dict):
            return all(_is_member(name) and self._fits((*path, name), each) for name, each in value.items())
        return not isinstance(value, list) or all(self._fits((*path, "[]"), each) for each in value)

    def _takes(self, path: tuple[str, ...], kind: str) -> bool:
        kinds = self._kinds.get(path, set())
        if kind in kinds:
            return True
        if self._decided or len(self._kinds) >= _MOST_MEMBERS:
            return False
        self._kinds[path] = kinds | {kind}
        return not kinds or any(self._kinds[path] <= both for both in _TOGETHER)


def _is_member(name: str) -> bool:
    """Whether a table can have a member of this name; arrow takes a NUL for its end."""
    return not name.endswith(_PATHS) and "\0" not in name


def _kind(value: Any) -> str | None:
    """Of what type a column with this value is; None where there is none for it."""
    if isinstance(value, str):
        return "time" if _TIME.fullmatch(value) else "text"
    if isinstance(value, int) and not isinstance(value, bool):
        return "whole" if -(2**63) <= value < 2**63 else None
    return {bool: "truth", float: "number", dict: "object", list: "list"}.get(type(value))


class ImageFolder:
    """The two files of one export."""

    def __init__(self, about: About) -> None:
        self._about = about
        self._pictures, self._descriptions = about.temporary(), about.temporary()
        self._opened = [self._pictures, self._descriptions]
        self._seen = {name: Uniform() for name in ("data", "exif", "filename", "owner")}

    def add(self, exported: Exported) -> None:
        """Takes the next document."""
        document, file = exported.document, exported.file
        if file is None:
            _write(self._descriptions, document)
            return
        document = _plain(document)
        for name, seen in self._seen.items():
            seen.see(document.get(name))
        facts = {"sha256": file.sha256, "media_type": file.media_type, "bytes": file.size}
        size = {"width": file.width, "height": file.height}
        _write(self._pictures, {"file_name": file.name, **document, **facts, **size})
        if self._pictures.tell() >= _DECIDING:
            for seen in self._seen.values():
                seen.decide()

    def members(self, _: float) -> Iterator[tuple[str, bytes | BinaryIO]]:
        """``metadata.jsonl``, and ``descriptions.jsonl`` where there is any."""
        if self._descriptions.tell():
            self._descriptions.seek(0)
            yield DESCRIPTIONS, self._descriptions
        changes = {name: _CHANGES[name] for name, seen in self._seen.items() if not seen.holds}
        table = self._changed(changes) if changes else self._pictures
        table.seek(0)
        yield METADATA, table

    def _changed(self, changes: Mapping[str, Callable[[Any], str]]) -> BinaryIO:
        """The lines again, with some of their members written in another way."""
        changed = self._about.temporary()
        self._opened.append(changed)
        self._pictures.seek(0)
        for line in self._pictures:
            told = json.loads(line)
            _write(changed, {name: changes[name](value) if name in changes else value for name, value in told.items()})
        return changed

    def close(self) -> None:
        """Lets temporary files go."""
        for file in self._opened:
            file.close()


def _plain(document: Mapping[str, Any]) -> Mapping[str, Any]:
    """With data that is text as JSON: who reads it need not know whether the others are."""
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
