"""Bodies of uploads: a form with one file, or the picture itself."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, Any, cast

from flask import Request, current_app, request
from werkzeug.datastructures import FileStorage

from image_repo.errors import BadBody, NotAPicture
from image_repo.recipe import Recipe
from image_repo.repo import Conditions, Repo
from image_repo.sources import Spool, check_digests
from image_repo.stores import CHUNK

#: the parts of a form that may hold the picture
_FILE_PARTS = ("file", "image")
#: the most bytes of what a user says of a picture
_MOST_DATA = 64 << 10
#: how deep objects and lists of it may be nested
_MOST_LEVELS = 64


@dataclass(frozen=True, slots=True)
class Upload:
    """An upload that has arrived, and whose digests fit."""

    spool: Spool
    filename: str | None
    data: Mapping[str, Any] | None


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
        repo: Repo = current_app.extensions["image_repo"]
        spool = repo.spool()
        self._spools = [*self._spools, spool]
        return cast("IO[bytes]", spool)

    def close(self) -> None:
        """Lets the files go, those of a form too that was refused while it was read."""
        super().close()
        for spool in self._spools:
            spool.close()


@contextmanager
def received(repo: Repo) -> Iterator[Upload]:
    """What the request brings.

    :raises BadBody: for a form without exactly one picture, or data that is no JSON object
    :raises DigestMismatch: when a digest of the sender does not fit
    """
    kind = request.mimetype
    if kind in ("multipart/form-data", "application/x-www-form-urlencoded"):
        yield from _form()
        return
    if kind.endswith("json"):
        raise NotAPicture("Expected a picture but received JSON.")
    with repo.spool() as spool:
        spool.fill(iter(lambda: request.stream.read(CHUNK), b""))
        if not spool.size:
            raise BadBody("Expected a picture in the body, or a form with a part 'file', but the body is empty.")
        _check(spool)
        yield Upload(spool, None, None)


def _form() -> Iterator[Upload]:
    storage = _only_file()
    spool = cast("Spool", storage.stream)
    spool.seek(0)
    _check(spool)
    yield Upload(spool, storage.filename or None, _data())


def _only_file() -> FileStorage:
    files = list(request.files.items(multi=True))
    if len(files) != 1 or files[0][0] not in _FILE_PARTS:
        names = ", ".join(sorted({name for name, _ in files})) or "none"
        raise BadBody(f"Expected one part with a file, called 'file' or 'image', but received: {names[:200]}.")
    return files[0][1]


def _check(spool: Spool) -> None:
    check_digests(spool, request.headers.get("Repr-Digest"), request.headers.get("Content-MD5"))


def _data() -> dict[str, Any] | None:
    """``data`` as JSON, and every other field of the form as text."""
    fields = dict(request.form.items())
    if sum(len(name) + len(value) for name, value in fields.items()) > _MOST_DATA:
        raise BadBody(f"What is said of a picture may have at most {_MOST_DATA} characters.")
    text = fields.pop("data", None)
    data = _read_json(text) if text is not None else {}
    return {**data, **fields} if text is not None or fields else None


def _read_json(text: str) -> dict[str, Any]:
    """Data that can be told again as it came: to every JSON parser, in UTF-8, and from any depth of the stack.

    :raises BadBody: when it is no such object
    """
    try:
        data = json.loads(text, parse_constant=_no_constant, parse_float=_finite)
        json.dumps(data, ensure_ascii=False).encode()  # half a surrogate pair is no text (RFC 8259, section 8.2)
    except (ValueError, RecursionError) as error:
        raise BadBody("Expected data to be JSON.") from error
    if not isinstance(data, dict):
        raise BadBody("Expected data to be a JSON object.")
    if not _is_flat(data, _MOST_LEVELS):
        raise BadBody(f"Objects and lists of data may be nested at most {_MOST_LEVELS} deep.")
    return data


def _no_constant(text: str) -> None:
    raise ValueError(f"{text} is not JSON (RFC 8259)")


def _finite(text: str) -> float:
    """A number that is beyond what a float holds would be told as ``Infinity``, which is no JSON."""
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text[:40]} is too large")
    return value


def _is_flat(value: Any, levels: int) -> bool:
    """Whether objects and lists are nested no deeper than so many levels."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    return inner is None or (levels > 0 and all(_is_flat(each, levels - 1) for each in inner))


def conditions(shown: Recipe) -> Conditions:
    """``If-Match`` and ``If-None-Match: *`` of the request.

    :param shown: what a client gets that asks for the image and nothing else
    """
    match = frozenset(request.if_match.as_set(include_weak=False)) if "If-Match" in request.headers else None
    if match is not None and request.if_match.star_tag:
        match = frozenset("*")
    return Conditions(match, bool(request.if_none_match.star_tag), shown)
