"""Bodies of uploads: a form with one file, the picture itself, or what is said of it."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, Any, cast

from flask import Request, current_app, request
from werkzeug.datastructures import FileStorage
from werkzeug.exceptions import UnsupportedMediaType

from image_repo.errors import BadBody, NotAPicture
from image_repo.model.recipe import Recipe
from image_repo.model.strict_json import read_json
from image_repo.repository.metadata import MOST_DATA, Conditions, check_data
from image_repo.repository.repository import Repository
from image_repo.repository.spool import Spool, check_digests
from image_repo.stores.base import CHUNK

#: the parts of a form that may hold the picture
_FILE_PARTS = ("file", "image")
#: the media types of what is said of an image
_DATA_TYPES = ("application/json", "application/merge-patch+json")
#: the most bytes of JSON that are read: what may be stored, and room for blanks and ``\u`` escapes
_MOST_JSON = 8 * MOST_DATA


@dataclass(frozen=True, slots=True)
class Upload:
    """An upload that has arrived, and whose digests fit."""

    spool: Spool
    filename: str | None
    data: Any


class UploadRequest(Request):
    """A request whose files go straight into a :class:`Spool`, hashed on their way, and are never written twice."""

    _spools: Sequence[Spool] = ()

    def _get_file_stream(
        self,
        total_content_length: int | None,
        content_type: str | None,
        filename: str | None = None,
        content_length: int | None = None,
    ) -> IO[bytes]:
        repo: Repository = current_app.extensions["image_repo"]
        spool = repo.writer.spool()
        self._spools = [*self._spools, spool]
        return cast("IO[bytes]", spool)

    def keep(self, spool: Spool) -> None:
        """Has a file outlive the request: whoever calls this closes it."""
        self._spools = [each for each in self._spools if each is not spool]

    def close(self) -> None:
        """Lets the files go, those of a form too that was refused while it was read."""
        super().close()
        for spool in self._spools:
            spool.close()


@contextmanager
def received(repo: Repository) -> Iterator[Upload]:
    """What the request brings.

    :raises BadBody: for a form without exactly one picture, or data that cannot be stored
    :raises DigestMismatch: when a digest of the sender does not fit
    """
    kind = request.mimetype
    if kind in ("multipart/form-data", "application/x-www-form-urlencoded"):
        yield from _form()
        return
    if kind.endswith("json"):
        raise NotAPicture(f"Expected a picture, or data as application/json, but received {kind[:60]}.")
    with repo.writer.spool() as spool:
        spool.fill(iter(lambda: request.stream.read(CHUNK), b""))
        if not spool.size:
            raise BadBody("Expected a picture in the body, or a form with a part 'file', but the body is empty.")
        _check(spool)
        yield Upload(spool, None, None)


def _form() -> Iterator[Upload]:
    storage = only_file()
    spool = cast("Spool", storage.stream)
    spool.seek(0)
    _check(spool)
    yield Upload(spool, storage.filename or None, _data())


def only_file() -> FileStorage:
    """The one file of a form.

    :raises BadBody: when there is none, or another
    """
    files = list(request.files.items(multi=True))
    if len(files) != 1 or files[0][0] not in _FILE_PARTS:
        names = ", ".join(sorted({name for name, _ in files})) or "none"
        raise BadBody(f"Expected one part with a file, called 'file' or 'image', but received: {names[:200]}.")
    return files[0][1]


def kept_file() -> Spool:
    """The one file of a form, for an answer that outlives the request; whoever calls this closes it.

    :raises BadBody: when there is none, or another
    """
    storage = only_file()
    spool, storage.stream = cast("Spool", storage.stream), io.BytesIO()
    cast("UploadRequest", request._get_current_object()).keep(spool)  # type: ignore[attr-defined]
    return spool


def _check(spool: Spool) -> None:
    check_digests(spool, request.headers.get("Repr-Digest"), request.headers.get("Content-MD5"))


def _data() -> Any:
    """``data`` as JSON, and every other field of the form as text; one that comes several times, as a list.

    :raises BadBody: for several ``data``, one that cannot be stored, or that is no object where there are other fields
    """
    said = dict(request.form.lists())
    texts = said.pop("data", [])
    if len(texts) > 1:
        raise BadBody(f"Expected one part called 'data', but received {len(texts)}.")
    data = read_json(texts[0]) if texts else {}
    fields = {name: each if each[1:] else each[0] for name, each in said.items()}
    if not (texts or fields):
        return None
    if fields and not isinstance(data, dict):
        raise BadBody("Expected data to be a JSON object, because other fields come with it.")
    told = {**data, **fields} if fields else data
    check_data(told)
    return told


def brings_data() -> bool:
    """Whether the body is what a user says of an image, and no picture."""
    return request.mimetype == _DATA_TYPES[0]


def data() -> Any:
    """What the body says of an image.

    :raises UnsupportedMediaType: when it is neither JSON nor a merge patch
    :raises BadBody: for JSON that cannot be told again, or null
    :raises DigestMismatch: when a digest of the sender does not fit
    :raises TooLarge: for too many bytes
    """
    if request.mimetype not in _DATA_TYPES:
        raise UnsupportedMediaType(f"Expected the body to be {' or '.join(_DATA_TYPES)}.")
    with Spool(None, _MOST_JSON) as spool:
        spool.fill(iter(lambda: request.stream.read(CHUNK), b""))
        _check(spool)
        text = spool.read()
    try:
        said = read_json(text.decode())
    except UnicodeDecodeError as error:
        raise BadBody("Expected data to be JSON in UTF-8.") from error
    check_data(said)
    return said


def conditions(shown: Recipe) -> Conditions:
    """``If-Match`` and ``If-None-Match: *`` of the request.

    :param shown: what a client gets that asks for the image and nothing else
    """
    match = frozenset(request.if_match.as_set(include_weak=False)) if "If-Match" in request.headers else None
    if match is not None and request.if_match.star_tag:
        match = frozenset("*")
    return Conditions(match, bool(request.if_none_match.star_tag), shown)
