"""The data folder (``ISS_DATA``) of a store that names images and artifacts by their SHA-256.

``blobs/ab/cd/HEX`` holds content, and ``meta/ab/cd/HEX.json`` its metadata: of an image ``{"kind": "image", "bytes",
"mime", "width", "height", "created_at"}``, of an artifact its own members, ``kind``, ``bytes`` and ``created_at``.
Images and artifacts share the folder, and differ by ``kind``.

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
from image_repo.exchange.legacy.folders import chunks, open_below
from image_repo.model.strict_json import read_object

#: of the metadata of a blob
_MAX_META_BYTES = 1 << 19
#: depth of folders; the store has two levels
_MAX_LEVELS = 4
_HEX = re.compile(r"[0-9a-f]{64}")
_IMAGE = "image"
#: members that the record of an image has anyway
_FACTS = ("kind", "bytes", "width", "height")


@dataclass(frozen=True, slots=True)
class Blob:
    """Content under its digest: an image (:attr:`item`) or an artifact.

    :param entry: path below the folder, for the report
    :param open: opens its content; called at most once for the image, and once more for the artifact
    """

    entry: str
    sha256: str
    open: Opener
    meta: Mapping[str, Any]

    @property
    def is_image(self) -> bool:
        """Return whether it was stored as an image; it need not be a picture."""
        return bool(self.meta.get("kind", _IMAGE) == _IMAGE)

    @property
    def item(self) -> Item:
        """Return it as an image named by its digest."""
        data = {name: value for name, value in self.meta.items() if name not in _FACTS and value is not None}
        return Item(self.entry, f"sha256:{self.sha256}", open=self.open, data=data or None, sha256=self.sha256)

    @property
    def kind(self) -> str | None:
        """Return the kind of the artifact; invalid characters become ``-`` (:attr:`artifact_meta` has them)."""
        kind = self.meta.get("kind")
        return re.sub(r"[^A-Za-z0-9._-]", "-", kind)[:64] if isinstance(kind, str) and kind else None

    @property
    def artifact_meta(self) -> dict[str, Any]:
        """Return the ``meta`` of the artifact."""
        meta = {name: value for name, value in self.meta.items() if name not in ("kind", "bytes")}
        kind = self.meta.get("kind")
        return meta if kind in (None, self.kind) else {**meta, "kind": kind}


class Blobs:
    """A folder of blobs."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.description = "images and artifacts under their SHA-256"
        #: progress, in files
        self.done, self.total = 0, sum(1 for _ in self._files())

    @staticmethod
    def is_there(folder: Path) -> bool:
        """Return whether a folder has blobs."""
        return (folder / "blobs").is_dir()

    def images(self) -> Iterator[Blob | Item]:
        """Yield blobs that were stored as images, and files that are no blobs as items with a problem."""
        for blob in self._blobs():
            if isinstance(blob, Item) or blob.is_image:
                self.done += 1
                yield blob

    def artifacts(self) -> Iterator[Blob]:
        """Yield all other blobs."""
        for blob in self._blobs():
            if isinstance(blob, Blob) and not blob.is_image:
                self.done += 1
                yield blob

    def _blobs(self) -> Iterator[Blob | Item]:
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
        """Yield paths below ``blobs`` in order, without following links; one folder at a time is in memory."""
        with os.scandir(self._folder / "blobs" / below) as entries:
            names = sorted((entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries)
        for name, is_folder in names:
            if name.startswith("."):
                continue
            if is_folder and below.count("/") < _MAX_LEVELS:
                yield from self._files(f"{below}{name}/")
            else:
                yield below + name

    def _meta(self, relative: str) -> dict[str, Any]:
        """Return the metadata of a blob; empty without a file of them."""
        if not os.path.lexists(self._folder / "meta" / f"{relative}.json"):
            return {}
        with open_below(self._folder / "meta", relative + ".json") as file:
            text = file.read(_MAX_META_BYTES + 1)
        if len(text) > _MAX_META_BYTES:
            raise TooLarge(f"meta/{relative}.json has more than {_MAX_META_BYTES} bytes.")
        try:
            return read_object(text.decode(), f"meta/{relative}.json")
        except UnicodeDecodeError:
            raise BadRequest(f"Expected meta/{relative}.json to be in UTF-8.") from None
