"""The data folder (``ISS_DATA``) of a store that names images and artifacts by their SHA-256.

``blobs/ab/cd/HEX`` holds bytes and ``meta/ab/cd/HEX.json`` what is said of them: of an image ``{"kind": "image",
"bytes", "mime", "width", "height", "created_at"}``, of an artifact its own members, ``kind``, ``bytes`` and
``created_at``. Images and artifacts share the folder; only ``kind`` tells them apart.

Source: VitalyVorobyev/image_store_service, ``iss.py`` of v0.1.14.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from image_repo.errors import BadRequest, Problem, TooLarge
from image_repo.exchange.base import Item, Opener
from image_repo.exchange.legacy.folders import chunks, opened
from image_repo.model.strict_json import read_object

#: the most bytes that are read of what is said of a blob
_MOST_META = 1 << 19
#: how deep folders may lie; there are two levels of them
_MOST_LEVELS = 4
_HEX = re.compile(r"[0-9a-f]{64}")
_IMAGE = "image"
#: what the record of an image tells anyway
_FACTS = ("kind", "bytes", "width", "height")


@dataclass(frozen=True, slots=True)
class Blob:
    """Bytes under their digest. :attr:`item` is the image that they may be; else they are an artifact.

    :param entry: where it lies below the folder, for the report
    :param open: gives its bytes; called at most once for the image, and once more for the artifact
    :param meta: what was said of it
    """

    entry: str
    sha256: str
    open: Opener
    meta: Mapping[str, Any]

    @property
    def is_image(self) -> bool:
        """Whether it was stored as an image; that it is a picture is another matter."""
        return bool(self.meta.get("kind", _IMAGE) == _IMAGE)

    @property
    def item(self) -> Item:
        """As an image, called by its digest."""
        data = {name: value for name, value in self.meta.items() if name not in _FACTS and value is not None}
        return Item(self.entry, f"sha256:{self.sha256}", open=self.open, data=data or None, sha256=self.sha256)

    @property
    def kind(self) -> str | None:
        """As an artifact; what no kind can hold becomes a ``-``, and stands in :attr:`said` as it was."""
        found = self.meta.get("kind")
        return re.sub(r"[^A-Za-z0-9._-]", "-", found)[:64] if isinstance(found, str) and found else None

    @property
    def said(self) -> dict[str, Any]:
        """The ``meta`` of the artifact."""
        told = {name: value for name, value in self.meta.items() if name not in ("kind", "bytes")}
        kind = self.meta.get("kind")
        return told if kind in (None, self.kind) else {**told, "kind": kind}


class Blobs:
    """Such a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.description = "images and artifacts under their SHA-256"
        #: how far it is, and how far it goes: files
        self.done, self.total = 0, sum(1 for _ in self._files())

    @staticmethod
    def is_there(folder: Path) -> bool:
        """Whether a folder is one."""
        return (folder / "blobs").is_dir()

    def images(self) -> Iterator[Blob | Item]:
        """What was stored as an image, and, as items with a problem, what is no blob at all."""
        for found in self._found():
            if isinstance(found, Item) or found.is_image:
                self.done += 1
                yield found

    def artifacts(self) -> Iterator[Blob]:
        """Everything else."""
        for found in self._found():
            if isinstance(found, Blob) and not found.is_image:
                self.done += 1
                yield found

    def _found(self) -> Iterator[Blob | Item]:
        for relative in self._files():
            entry = f"blobs/{relative}".encode(errors="backslashreplace").decode()
            sha256 = relative.rpartition("/")[2]
            try:
                if not _HEX.fullmatch(sha256):
                    raise BadRequest("Expected a file that is called by its SHA-256 in lower-case hex.")
                meta = self._meta(relative)
            except Problem as problem:
                yield Item(entry, "", problem=problem)
            else:
                yield Blob(entry, sha256, partial(chunks, self._folder / "blobs", relative), meta)

    def _files(self, below: str = "") -> Iterator[str]:
        """Paths below ``blobs``, in order; one folder's names are in memory at a time. No link is followed."""
        with os.scandir(self._folder / "blobs" / below) as found:
            entries = sorted((entry.name, entry.is_dir(follow_symlinks=False)) for entry in found)
        for name, is_folder in entries:
            if name.startswith("."):
                continue
            if is_folder and below.count("/") < _MOST_LEVELS:
                yield from self._files(f"{below}{name}/")
            else:
                yield below + name

    def _meta(self, relative: str) -> dict[str, Any]:
        """What is said of a blob; nothing where there is no file of it."""
        if not os.path.lexists(self._folder / "meta" / f"{relative}.json"):
            return {}
        with opened(self._folder / "meta", relative + ".json") as file:
            text = file.read(_MOST_META + 1)
        if len(text) > _MOST_META:
            raise TooLarge(f"What is said of it in meta/{relative}.json has more than {_MOST_META} bytes.")
        try:
            return read_object(text.decode(), f"meta/{relative}.json")
        except UnicodeDecodeError:
            raise BadRequest(f"Expected meta/{relative}.json to be in UTF-8.") from None
