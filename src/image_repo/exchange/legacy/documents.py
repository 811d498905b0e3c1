"""What two neighbours keep in MongoDB, as ``mongoexport`` or the service itself writes it.

* Of an image-data-set service: ``{"_id", "file", "time", "data", "userId"}``, the files in its uploads folder. The
  image is called by its ``_id``, so that ``/images/ID`` goes on to name it; ``data`` is its data, and there too are
  ``file``, ``time`` and ``userId``, under ``_file`` … where the user has a member of that name.
* Of a store of descriptions: any object with a ``name`` of its own. All of it is the data of a description that is
  called so.

Sources: jtekt/image-storage-microservice, ``models/image.ts``, ``controllers/export.ts``; di-unipi-socc/DockerFinder,
``storage/README.md``, ``storage/ImagesManager.py``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from image_repo.errors import BadParameter, BadRequest, LibraryMissing, Problem
from image_repo.exchange.base import Item
from image_repo.exchange.legacy.extended_json import NotExtended, plain
from image_repo.exchange.legacy.folders import chunks
from image_repo.exchange.legacy.json_stream import CHUNK, Value, values
from image_repo.model.formats import split_ending

#: what that service calls its documents in a zip
EXPORTED = "mongodb_data.json"
#: what a document of the image-data-set service has, and nothing else
_MEMBERS = frozenset(("_id", "file", "time", "data", "userId", "__v"))
#: of these, what beside ``data`` is kept
_KEPT = ("file", "time", "userId")
_FILE = re.compile(rb'"file"\s*:\s*("(?:[^"\\\n]|\\.){1,4096}")')
#: what a record of our own has: of it, the user's data is what was said
_RECORD = frozenset(("name", "version", "sha256", "media_type", "data"))


class Documents:
    """A file of documents.

    :param uploads: the folder of the files that they name
    """

    def __init__(self, path: Path, uploads: Path | None) -> None:
        self._path = path
        self._uploads = uploads
        self.description = "documents of MongoDB"
        #: how far it is, and how far it goes: bytes of the file
        self.done, self.total = 0, path.stat().st_size

    def items(self) -> Iterator[Item]:
        """Each document, in the order of the file.

        :raises BadParameter: when files are named and it was not said where they are
        """
        for value in values(self._chunks()):
            yield self._item(value)

    def _chunks(self) -> Iterator[bytes]:
        with self._path.open("rb") as file:
            while chunk := file.read(CHUNK):
                self.done += len(chunk)
                yield chunk

    def _item(self, value: Value) -> Item:
        try:
            document = _document(value)
            if _is_picture(document):
                return self._picture(value.where, document)
            name, data = _description(document)
        except (BadParameter, LibraryMissing):
            raise
        except Problem as problem:
            return Item(value.where, "", problem=problem)
        return Item(f"{value.where} ({name[:200]})", name, data=data)

    def _picture(self, where: str, document: Mapping[str, Any]) -> Item:
        if self._uploads is None:
            raise BadParameter("uploads", "These documents name files: say with --uploads in which folder they are.")
        file = document["file"]
        return Item(
            f"{where} ({file[:200]})",
            _id(document),
            open=partial(chunks, self._uploads, file),
            data=_data(document),
            filename=file.rpartition("/")[2] or None,
        )


def as_lines(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """The documents of a zip that the image-data-set service has exported, as lines of our own ``metadata.jsonl``.

    What cannot be read becomes a line that cannot be read, of the same file: its picture is not taken without it.

    :param chunks: of its :data:`EXPORTED`
    """
    for value in values(chunks):
        try:
            yield json.dumps(_line(_document(value)), ensure_ascii=False).encode() + b"\n"
        except LibraryMissing:
            raise
        except Problem:
            yield b"[%s]\n" % b",".join(b'{"file_name":%s}' % file for file in _files(value))


def _files(value: Value) -> Iterator[bytes]:
    """The files that a document may name which cannot be taken, as JSON."""
    if value.problem:
        yield from (match[1] for match in _FILE.finditer(value.text))
    elif isinstance(value.value.get("file"), str):
        yield json.dumps(value.value["file"]).encode()


def _line(document: Mapping[str, Any]) -> dict[str, Any]:
    if _is_picture(document):
        return {"file_name": document["file"], "name": _id(document), "data": _data(document)}
    name, data = _description(document)
    return {"name": name, "data": data}


def _document(value: Value) -> dict[str, Any]:
    """A document in plain JSON.

    :raises BadRequest: when it cannot be had
    """
    if value.problem:
        raise value.problem
    try:
        found = plain(value.value)
    except NotExtended as error:
        raise BadRequest(f"Expected MongoDB Extended JSON, but {error}.") from error
    if not isinstance(found, dict):
        raise BadRequest("Expected a document, not a value alone.")
    return found


def _is_picture(document: Mapping[str, Any]) -> bool:
    return _MEMBERS.issuperset(document) and isinstance(document.get("file"), str)


def _id(document: Mapping[str, Any]) -> str:
    """What an image is called.

    :raises BadRequest: when it is nothing that a name could be
    """
    name = _name(document.get("_id"))
    if name is None:
        raise BadRequest("Expected an _id that is text or a number.")
    return name


def _description(document: Mapping[str, Any]) -> tuple[str, Any]:
    """Name and data of a description.

    :raises BadRequest: when it is none
    """
    if "file_name" in document:
        raise BadRequest("This tells of a file beside it: import the folder, or the zip, that it lies in.")
    name = _name(document.get("name", document.get("_id")))
    if name is None:
        raise BadRequest("Expected a document with _id and file, or with a name of its own.")
    if _MEMBERS.issuperset(document) and "data" in document:  # an image of the service that has lost its file
        return name, _data(document)
    return name, document["data"] if _RECORD.issubset(document) else document


def _name(value: Any) -> str | None:
    """What identifies a document, as the name of an image."""
    text = str(value) if type(value) in (str, int) else ""
    return split_ending(text)[0] or None


def _data(document: Mapping[str, Any]) -> dict[str, Any]:
    """The data of an image of the image-data-set service: the user's own, and what the service knew beside it."""
    given = document.get("data", {})
    data = dict(given) if isinstance(given, Mapping) else {} if given is None else {"data": given}
    for member in _KEPT:
        if document.get(member) is not None:
            data[_free(member, data)] = document[member]
    return data


def _free(member: str, data: Mapping[str, Any]) -> str:
    return _free("_" + member, data) if member in data else member
