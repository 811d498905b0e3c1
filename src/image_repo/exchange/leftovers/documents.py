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

from collections.abc import Iterator, Mapping
from functools import partial
from io import BufferedReader, FileIO
from pathlib import Path
from typing import Any

from image_repo.errors import BadParameter, BadRequest, Problem
from image_repo.exchange import Item
from image_repo.exchange.leftovers.extended import NotExtended, plain
from image_repo.exchange.leftovers.folders import chunks
from image_repo.exchange.leftovers.jsonstream import CHUNK, Value, values
from image_repo.formats import split_ending

#: what a document of the image-data-set service has, and nothing else
_MEMBERS = frozenset(("_id", "file", "time", "data", "userId", "__v"))
#: of these, what beside ``data`` is kept
_KEPT = ("file", "time", "userId")
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
        with BufferedReader(FileIO(self._path), CHUNK) as file:
            for value in values(file):
                self.done = file.tell()
                yield self._item(value)
        self.done = self.total

    def _item(self, value: Value) -> Item:
        if value.problem:
            return _refused(value.where, value.problem)
        try:
            document = plain(value.value)
        except NotExtended as error:
            return _refused(value.where, BadRequest(f"Expected MongoDB Extended JSON, but {error}."))
        if isinstance(document, dict) and _MEMBERS.issuperset(document) and isinstance(document.get("file"), str):
            return self._picture(value.where, document)
        return _description(value.where, document)

    def _picture(self, where: str, document: Mapping[str, Any]) -> Item:
        if self._uploads is None:
            raise BadParameter("uploads", "These documents name files: say with --uploads in which folder they are.")
        file = document["file"]
        name = _name(document.get("_id"))
        entry = f"{where} ({file[:200]})"
        if name is None:
            return _refused(entry, BadRequest("Expected an _id that is text or a number."))
        return Item(
            entry,
            name,
            open=partial(chunks, self._uploads, file),
            data=_data(document),
            filename=file.rpartition("/")[2] or None,
        )


def _description(where: str, document: Any) -> Item:
    said = document if isinstance(document, dict) else {}
    name = _name(said.get("name", said.get("_id")))
    if "file_name" in said:
        return _refused(where, BadRequest("This tells of a file beside it: import the folder, or the zip, it lies in."))
    if name is None:
        return _refused(where, BadRequest("Expected a document with _id and file, or with a name of its own."))
    data = said["data"] if _RECORD.issubset(said) and isinstance(said["data"], dict) else said
    return Item(f"{where} ({name[:200]})", name, data=data)


def _refused(entry: str, problem: Problem) -> Item:
    return Item(entry, "", problem=problem)


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
