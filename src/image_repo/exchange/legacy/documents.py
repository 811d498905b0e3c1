"""Documents of two systems over MongoDB, as ``mongoexport`` or the service itself writes them.

* Of an image-data-set service: ``{"_id", "file", "time", "data", "userId"}``, with files in its uploads folder. The
  name of the image is its ``_id``, so that ``/images/ID`` stays valid; its data are ``data``, with ``file``, ``time``
  and ``userId`` added, as ``_file`` … if the user has a member of that name.
* Of a store of descriptions: any object with a ``name``. The whole object is the data of the description.

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

#: the documents of that service in a zip
EXPORTED = "mongodb_data.json"
#: all members of a document of the image-data-set service
_MEMBERS = frozenset(("_id", "file", "time", "data", "userId", "__v"))
#: of these, the members that are added to ``data``
_ADDED = ("file", "time", "userId")
_FILE = re.compile(rb'"file"\s*:\s*("(?:[^"\\\n]|\\.){1,4096}")')
#: members of a record of image_repo: only its data are imported
_RECORD = frozenset(("name", "version", "sha256", "media_type", "data"))


class Documents:
    """A file of documents.

    :param uploads: the folder of the files that they name
    """

    def __init__(self, path: Path, uploads: Path | None) -> None:
        self._path = path
        self._uploads = uploads
        self.description = "documents of MongoDB"
        #: progress, in bytes of the file
        self.done, self.total = 0, path.stat().st_size

    def items(self) -> Iterator[Item]:
        """Yield each document in the order of the file.

        :raises BadParameter: if files are named and their folder is unknown
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
                return self._picture(value.position, document)
            name, data = _description(document)
        except (BadParameter, LibraryMissing):
            raise
        except Problem as problem:
            return Item(value.position, "", problem=problem)
        return Item(f"{value.position} ({name[:200]})", name, data=data)

    def _picture(self, position: str, document: Mapping[str, Any]) -> Item:
        if self._uploads is None:
            raise BadParameter("uploads", "These documents name files: give their folder with --uploads.")
        file = document["file"]
        return Item(
            f"{position} ({file[:200]})",
            _id(document),
            open=partial(chunks, self._uploads, file),
            data=_data(document),
            filename=file.rpartition("/")[2] or None,
        )


def as_lines(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the documents of a zip from the image-data-set service as lines of ``metadata.jsonl``.

    An invalid document becomes an invalid line for the same file: its picture is not imported without it.

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
    """Yield the files that an invalid document names, as JSON."""
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
    """Return a document in plain JSON.

    :raises BadRequest: if it is invalid
    """
    if value.problem:
        raise value.problem
    try:
        document = plain(value.value)
    except NotExtended as error:
        raise BadRequest(f"Expected MongoDB Extended JSON, but {error}.") from error
    if not isinstance(document, dict):
        raise BadRequest("Expected a document, not a value alone.")
    return document


def _is_picture(document: Mapping[str, Any]) -> bool:
    return _MEMBERS.issuperset(document) and isinstance(document.get("file"), str)


def _id(document: Mapping[str, Any]) -> str:
    """Return the name of an image.

    :raises BadRequest: if its _id cannot be a name
    """
    name = _name(document.get("_id"))
    if name is None:
        raise BadRequest("Expected an _id that is text or a number.")
    return name


def _description(document: Mapping[str, Any]) -> tuple[str, Any]:
    """Return name and data of a description.

    :raises BadRequest: if it is none
    """
    if "file_name" in document:
        raise BadRequest("This is the record of a file beside it: import the folder or the zip that contains both.")
    name = _name(document.get("name", document.get("_id")))
    if name is None:
        raise BadRequest("Expected a document with _id and file, or with a name of its own.")
    if _MEMBERS.issuperset(document) and "data" in document:  # an image of the service without its file
        return name, _data(document)
    return name, document["data"] if _RECORD.issubset(document) else document


def _name(value: Any) -> str | None:
    """Return the identifier of a document as the name of an image; None if it is neither text nor a number."""
    text = str(value) if type(value) in (str, int) else ""
    return split_ending(text)[0] or None


def _data(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return the data of an image of the image-data-set service, with members of the document added."""
    own = document.get("data", {})
    data = dict(own) if isinstance(own, Mapping) else {} if own is None else {"data": own}
    for member in _ADDED:
        if document.get(member) is not None:
            data[_unused_name(member, data)] = document[member]
    return data


def _unused_name(member: str, data: Mapping[str, Any]) -> str:
    return _unused_name("_" + member, data) if member in data else member
