"""Answers with bytes in them: the headers that every picture carries, conditions and ranges."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO
from urllib.parse import quote

from flask import Response, current_app, request
from werkzeug.http import http_date, is_resource_modified

from image_repo.errors import BadParameter, PreconditionFailed
from image_repo.model.record import Record
from image_repo.model.rendition import Layer, Served
from image_repo.stores.base import CHUNK

_YEAR = 31_536_000


@dataclass(frozen=True, slots=True)
class ResponseHead:
    """What stands in the head of an answer with bytes.

    :param etag: without quotes
    :param modified: seconds since the epoch
    :param filename: what a browser calls the file
    :param attachment: whether it saves the file rather than showing it
    :param cache_control: how long it may be kept, and by whom
    :param negotiated: whether ``Accept`` had a say
    :param sha256: of the whole of the bytes, in hex, where it is known
    """

    media_type: str
    etag: str
    modified: float
    filename: str
    attachment: bool = False
    cache_control: str = "no-store"
    negotiated: bool = False
    origin: str | None = "*"
    sha256: str | None = None

    def head(self) -> list[tuple[str, str]]:
        """The head, written out at once: a header set after another costs more than all the rest of an answer."""
        disposed = disposition(self.filename, attachment=self.attachment)
        return [
            ("Content-Type", self.media_type),
            ("ETag", f'"{self.etag}"'),
            ("Last-Modified", http_date(int(self.modified))),
            ("Cache-Control", self.cache_control),
            ("Content-Disposition", disposed),
            *_GUARD,
            ("Cross-Origin-Resource-Policy", "cross-origin"),
            *((("Access-Control-Allow-Origin", self.origin),) if self.origin else ()),
            *((("Vary", "Accept"),) if self.negotiated else ()),
            *((("Repr-Digest", repr_digest(self.sha256)),) if self.sha256 else ()),
            ("Date", http_date()),  # RFC 9110, section 6.6.1
            ("Accept-Ranges", "bytes"),
        ]


#: keeps browsers from taking bytes for another type than is said, and from running what they hold
_GUARD = (("X-Content-Type-Options", "nosniff"), ("Content-Security-Policy", "default-src 'none'; sandbox"))
#: the headers by which a request asks for less than the whole, or for nothing
_CONDITIONS = frozenset(
    f"HTTP_{name}"
    for name in ("RANGE", "IF_RANGE", "IF_MATCH", "IF_NONE_MATCH", "IF_MODIFIED_SINCE", "IF_UNMODIFIED_SINCE")
)


def repr_digest(sha256: str) -> str:
    """Repr-Digest of bytes, whatever part of them is sent (RFC 9530, section 3).

    :param sha256: in hex
    """
    return f"sha-256=:{base64.b64encode(bytes.fromhex(sha256)).decode()}:"


def guard(response: Response) -> Response:
    """Puts on what every answer with foreign bytes has."""
    for name, value in _GUARD:
        response.headers[name] = value
    return response


def disposition(filename: str, *, attachment: bool = False) -> str:
    """Content-Disposition with a name in any script (RFC 6266, RFC 8187)."""
    return f"{'attachment' if attachment else 'inline'}; filename*=UTF-8''{quote(filename, safe='')}"


def safe_filename(parameter: str, text: str) -> str:
    """Accepts the name of a file to save.

    :raises BadParameter: for a path, control characters, or more than 200 characters
    """
    if not text or len(text) > 200 or any(c in '/\\"' or ord(c) < 32 or ord(c) == 127 for c in text):
        raise BadParameter.expected("the name of a file", parameter, text)
    return text


def caching(freshness: float, *, immutable: bool) -> str:
    """Cache-Control of a picture: for ever under its version, else for ``freshness`` seconds (RFC 9111, RFC 8246)."""
    if immutable:
        return f"public, max-age={_YEAR}, immutable"
    return f"public, max-age={int(freshness)}" if freshness >= 1 else "public, no-cache"


def cache_status(layer: Layer) -> str:
    """Which layer answered (RFC 9211)."""
    how = "hit" if layer in ("memory", "disk", "cache") else "fwd=uri-miss"
    return f"image_repo; {how}; detail={layer}"


def server_timing(timings: Iterable[tuple[str, float]]) -> str:
    """How long the steps took, in milliseconds (W3C Server Timing)."""
    return ", ".join(f"{step};dur={seconds * 1000:.1f}" for step, seconds in timings)


def not_modified(dress: ResponseHead) -> Response | None:
    """304 when the request holds this representation already (RFC 9110, section 13.2.2).

    :raises PreconditionFailed: when the request wants another one, or none that is as new
    """
    _check_preconditions(dress)
    if request.method not in ("GET", "HEAD") or _CONDITIONS.isdisjoint(request.environ):
        return None
    if is_resource_modified(request.environ, etag=f'"{dress.etag}"', last_modified=http_date(int(dress.modified))):
        return None
    response = Response(status=304, headers=dress.head())
    for name in ("Content-Type", "Content-Length", "Content-Disposition", "Accept-Ranges"):
        response.headers.pop(name, None)
    return response


def _check_preconditions(dress: ResponseHead) -> None:
    if "If-Match" in request.headers:
        if not request.if_match.contains(dress.etag):
            raise PreconditionFailed("If-Match names another representation than this one.")
    elif request.if_unmodified_since and request.if_unmodified_since.timestamp() < int(dress.modified):
        raise PreconditionFailed("It was modified since the time that If-Unmodified-Since names.")
    # They hold, and have no more to say: Werkzeug takes some that do for a reason to send nothing.
    for name in ("HTTP_IF_MATCH", "HTTP_IF_UNMODIFIED_SINCE"):
        request.environ.pop(name, None)


def send_json(
    members: Any, status: int = 200, *, cache_control: str = "no-store", origin: str | None = None
) -> Response:
    """JSON, as everything that is no picture is told."""
    response = Response(current_app.json.dumps(members) + "\n", status, mimetype="application/json")
    response.headers["Cache-Control"] = cache_control
    response.headers["X-Content-Type-Options"] = "nosniff"
    if origin:
        response.headers["Access-Control-Allow-Origin"] = origin
    return response


def send_record(record: Record, status: int = 200, *, origin: str | None = None) -> Response:
    """A record under its own entity tag; 304 when the request holds it already."""
    return _send_tagged(record.text(), record.etag, status, origin)


def send_tagged(members: Any, *, origin: str | None = None) -> Response:
    """JSON under its own entity tag; 304 when the request holds it already."""
    text = current_app.json.dumps(members).encode() + b"\n"
    return _send_tagged(text, hashlib.sha256(text).hexdigest()[:32], 200, origin)


def _send_tagged(text: bytes, etag: str, status: int, origin: str | None) -> Response:
    response = Response(text, status, mimetype="application/json")
    response.set_etag(etag)
    response.headers["Cache-Control"] = "no-cache" if request.method in ("GET", "HEAD") else "no-store"
    response.headers["X-Content-Type-Options"] = "nosniff"
    if origin:
        response.headers["Access-Control-Allow-Origin"] = origin
    response.make_conditional(request)
    return response


def whole(dress: ResponseHead, served: Served) -> list[tuple[str, str]]:
    """The head of a plain 200 with a rendition."""
    length = ("Content-Length", str(len(served.rendition.body)))
    return [*dress.head(), length, *told_of(served)]


def told_of(served: Served) -> list[tuple[str, str]]:
    """What a head tells of how a rendition came about."""
    status = ("Cache-Status", cache_status(served.layer))
    return [status, ("Server-Timing", server_timing(served.timings))] if served.layer == "rendered" else [status]


def send_bytes(body: bytes, dress: ResponseHead) -> Response:
    """200, 206 or 416 with bytes from memory."""
    return _ranged(Response(body, headers=dress.head()), len(body))


class _Rest:
    """What an open file holds from its present position on, in chunks; a range of it is sought, not read up to."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._first = file.tell()

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        chunk = self._file.read(CHUNK)
        if not chunk:
            raise StopIteration
        return chunk

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int) -> None:
        self._file.seek(self._first + offset)

    def tell(self) -> int:
        return self._file.tell() - self._first


def send_file(file: BinaryIO, size: int, dress: ResponseHead) -> Response:
    """200, 206 or 416 with what an open file holds from here on; it is closed with the answer."""
    response = Response(_Rest(file), headers=dress.head())
    response.call_on_close(file.close)
    response.content_length = size
    return _ranged(response, size)


def _ranged(response: Response, size: int) -> Response:
    if _CONDITIONS.isdisjoint(request.environ):
        return response
    # Several ranges at once are answered whole, which RFC 9110, section 14.2, leaves to the server: a few
    # bytes of request must not cost a multipart answer of any size. Units that we do not know, likewise.
    asked = request.range
    one = asked is None or (asked.units == "bytes" and len(asked.ranges) == 1)
    response.make_conditional(request, accept_ranges=one, complete_length=size if one else None)
    response.headers["Accept-Ranges"] = "bytes"
    return response
