"""Reads under the addresses of other systems (IIIF, thumbor, imgproxy, Deep Zoom), as requests of ``/images``.

The same pixels are one rendition under any address, and access, budgets and ``requests.mode`` hold for all.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import replace

from cachetools import TTLCache
from flask import request

from image_repo.access.control import Action
from image_repo.config import Config
from image_repo.model.names import ImageName, path_of
from image_repo.model.original import Original
from image_repo.repository.repository import Repository
from image_repo.web import responses
from image_repo.web.handle import Pictures, ReadRequest
from image_repo.web.identity import is_shared, name_of, principal
from image_repo.web.responses import Reply

Size = tuple[int, int]
#: versions of originals whose size in pixels is remembered, and for how many seconds
_MAX_SIZES, _SIZES_S = 4096, 600.0


class TranslatedReads:
    """Answers reads of single pictures whose parameters another dialect has named."""

    def __init__(self, repo: Repository, pictures: Pictures, config: Config) -> None:
        self._repo = repo
        self._pictures = pictures
        self._mode = config.requests.mode
        self._lock = threading.Lock()
        self._sizes: TTLCache[tuple[str, str], Size] = TTLCache(_MAX_SIZES, _SIZES_S)

    def resolve(self, name: str) -> Original:
        """Return the original of a name, percent-decoded once.

        :raises ImageNotFound: when there is none that the caller may know of
        """
        return self._repo.reader.resolve(principal(), ImageName.readings(name))

    def size(self, original: Original) -> Size:
        """Return width and height of an original, upright; the record need not be read for each tile."""
        at = original.name.text, original.version
        with self._lock:
            size = self._sizes.get(at)
        if size is None:
            record = self._repo.reader.record(principal(), original)
            size = record.width, record.height
            with self._lock:
                self._sizes[at] = size
        return size

    def is_shared(self, original: Original) -> bool:
        """Return whether every caller gets the same answer about an original."""
        return is_shared(self._repo, Action.READ, name_of(original))

    def handle(
        self,
        original: Original,
        parameters: Iterable[tuple[str, str]],
        *,
        is_listed: bool = False,
        is_signed: bool = False,
        ends: int | None = None,
    ) -> Reply:
        """Return the picture.

        :param parameters: of ``/images``
        :param is_listed: whether the configuration offers exactly this rendition
        :param is_signed: whether a signature of the dialect itself was accepted
        :param ends: seconds since the epoch from which on the request is refused; None for never
        """
        pairs = list(parameters)
        own = [(name, text) for name in ("signature", "v") for text in request.args.getlist(name)]
        read = replace(
            read := ReadRequest.of(request.environ, path_of(name_of(original)), principal()),
            query=[*pairs, *own],
            accept=read.accept if ("kind", "auto") in pairs else None,
            is_listed=is_signed if self._mode == "signed" else is_listed,
            ends=ends,
        )
        reply = self._pictures.handle(read)
        request.environ[responses.HIT] = reply.hit
        return reply
