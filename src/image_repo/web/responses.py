"""Responses without a server in mind: their headers, and bodies that are bytes, files or streams."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, BinaryIO
from unicodedata import combining, normalize
from urllib.parse import quote

from werkzeug.http import HTTP_STATUS_CODES, http_date

from image_repo.access.control import Grant
from image_repo.errors import BadParameter
from image_repo.model.original import Original
from image_repo.model.record import Record
from image_repo.model.rendition import Layer, Served
from image_repo.stores.base import CHUNK
from image_repo.web.closing import Closing
from image_repo.web.conditions import ConditionalRequest

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

Headers = list[tuple[str, str]]

_MAX_AGE_S = 31_536_000
#: where a response leaves its :class:`CacheableHit` for the fast path
HIT = "image_repo.hit"
#: keeps browsers from guessing another type than is declared
NOSNIFF = ("X-Content-Type-Options", "nosniff")
#: keeps browsers from guessing the type of foreign bytes, and from running scripts in them
FOREIGN_BYTES = (NOSNIFF, ("Content-Security-Policy", "default-src 'none'; sandbox"))
#: response headers that scripts of other origins may read, beside those that they may always (Fetch standard)
EXPOSED = (
    "Access-Control-Expose-Headers",
    "Cache-Status, Content-Disposition, Content-Range, ETag, Link, Location, Repr-Digest, Retry-After, X-Image-Step, "
    "X-Request-ID",
)
#: controls, and those of text direction (Unicode Standard Annex 9)
_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
#: characters of which clients make different things in quotes
_NOT_PLAIN = re.compile(r'[^ -~]|["%/\\]')
#: headers that a 304 leaves out, beside its entity tag (RFC 9110, section 15.4.5)
NOT_IN_304 = frozenset(("Content-Type", "Content-Length", "Content-Disposition", "Accept-Ranges", "Last-Modified"))


@dataclass(frozen=True, slots=True)
class CacheableHit:
    """The identity of a rendition whose 200 or 304 may be repeated by the fast path.

    :param key: of the rendition
    :param uses_focus: whether the focus in the image's record decides its pixels
    :param is_negotiated: whether ``Accept`` decides the format
    :param grant: under which it was served
    """

    original: Original
    key: str
    uses_focus: bool
    is_negotiated: bool
    grant: Grant


@dataclass(slots=True)
class Reply:
    """A response: built without a server in mind, sent as the WSGI application that it is.

    :param body: bytes or a stream of them, encoded
    :param hit: identifies what is served, where the fast path may repeat it
    """

    status: int
    headers: Headers
    body: bytes | Iterable[bytes] = b""
    hit: CacheableHit | None = None
    _closing: list[Callable[[], object]] = field(default_factory=list)

    def on_close(self, callback: Callable[[], object]) -> None:
        """Call this when the response is sent, or the client is gone."""
        self._closing.append(callback)

    def close(self) -> None:
        """Run the callbacks and close the body."""
        with ExitStack() as stack:
            for callback in self._closing:
                stack.callback(callback)
            if hasattr(self.body, "close"):
                stack.callback(self.body.close)

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Send it over WSGI (PEP 3333); without its body where the method is HEAD."""
        if self.hit:
            environ[HIT] = self.hit
        start_response(f"{self.status} {HTTP_STATUS_CODES[self.status].upper()}", self.headers)
        if environ.get("REQUEST_METHOD") == "HEAD":
            self.close()
            return ()
        if isinstance(self.body, bytes):
            return (self.body,)
        return Closing(self.body, self.close)


@dataclass(frozen=True, slots=True)
class ResponseHead:
    """The head of a response with bytes.

    :param etag: without quotes
    :param modified: seconds since the epoch
    :param filename: suggested to browsers
    :param attachment: whether a browser saves the file rather than showing it
    :param is_negotiated: whether ``Accept`` decided the format
    :param origin: who may read it from scripts (CORS)
    :param sha256: of the whole of the bytes, in hex, where it is known
    :param surrogate_keys: a header by which caches in front purge
    :param step: the box in pixels where it was enlarged to the next step: ``330x250``, ``330x``
    """

    media_type: str
    etag: str
    modified: float
    filename: str
    attachment: bool = False
    cache_control: str = "no-store"
    is_negotiated: bool = False
    origin: str | None = "*"
    sha256: str | None = None
    surrogate_keys: tuple[str, str] | None = None
    step: str = ""

    def headers(self) -> Headers:
        """Return the headers, all but those of the body's length."""
        return [
            ("Content-Type", self.media_type),
            ("ETag", f'"{self.etag}"'),
            ("Last-Modified", http_date(int(self.modified))),
            ("Cache-Control", self.cache_control),
            ("Content-Disposition", disposition(self.filename, attachment=self.attachment)),
            *FOREIGN_BYTES,
            ("Cross-Origin-Resource-Policy", "cross-origin"),
            *allow_origin(self.origin),
            *_vary(self.cache_control, is_negotiated=self.is_negotiated),
            *((("X-Image-Step", self.step),) if self.step else ()),
            *((self.surrogate_keys,) if self.surrogate_keys else ()),
            *((("Repr-Digest", repr_digest(self.sha256)),) if self.sha256 else ()),
            ("Date", http_date()),  # RFC 9110, section 6.6.1
            ("Accept-Ranges", "bytes"),
        ]


# -- headers ---------------------------------------------------------------------------


def allow_origin(origin: str | None) -> Headers:
    """Return the CORS headers for an origin; nothing where none is allowed."""
    return [("Access-Control-Allow-Origin", origin), EXPOSED] if origin else []


def _vary(cache_control: str, *, is_negotiated: bool = False) -> Headers:
    """Return the headers of requests that decide the response: a browser may change its credentials."""
    names = [*(("Accept",) if is_negotiated else ()), *(("Authorization",) if "private" in cache_control else ())]
    return [("Vary", ", ".join(names))] if names else []


def repr_digest(sha256: str) -> str:
    """Return Repr-Digest of bytes, whatever part of them is sent (RFC 9530, section 3).

    :param sha256: in hex
    """
    return f"sha-256=:{base64.b64encode(bytes.fromhex(sha256)).decode()}:"


def disposition(filename: str, *, attachment: bool = False) -> str:
    """Return Content-Disposition: a name in ASCII for older clients, and the name in any script (RFC 6266, appendix D).

    Controls of text direction would show an ending that the name does not have.
    """
    filename = _CONTROLS.sub("", filename)
    base = "".join(char for char in normalize("NFKD", filename) if not combining(char))
    kind = "attachment" if attachment else "inline"
    return f"{kind}; filename=\"{_NOT_PLAIN.sub('_', base)}\"; filename*=UTF-8''{quote(filename, safe='')}"


def safe_filename(parameter: str, text: str, *, forbidden: str = '/\\"', max_chars: int = 200) -> str:
    """Accept the name of a file to save.

    :param forbidden: characters, beside controls
    :raises BadParameter: for one of them, or too many characters
    """
    if not text or len(text) > max_chars or any(c in forbidden or ord(c) < 32 or ord(c) == 127 for c in text):
        raise BadParameter.expected("the name of a file", parameter, text)
    return text


def caching(freshness: float, *, is_immutable: bool, is_shared: bool = True) -> str:
    """Return Cache-Control: for a year under a version, else for ``freshness`` seconds (RFC 9111, RFC 8246).

    :param is_shared: whether every caller gets the same; otherwise only browsers may store it
    """
    scope = "public" if is_shared else "private"
    if is_immutable:
        return f"{scope}, max-age={_MAX_AGE_S}, immutable"
    return f"{scope}, max-age={int(freshness)}" if freshness >= 1 else f"{scope}, no-cache"


def cache_status(layer: Layer) -> tuple[str, str]:
    """Return Cache-Status with the layer that answered (RFC 9211)."""
    how = "hit" if layer in ("memory", "disk", "cache") else "fwd=uri-miss"
    return "Cache-Status", f"image_repo; {how}; detail={layer}"


def provenance(served: Served) -> Headers:
    """Return the headers on how a rendition came about; Server-Timing is in milliseconds (W3C Server Timing)."""
    headers = [cache_status(served.layer)]
    if served.rendition.largest:
        # it is smaller than asked for: the original is too large to be decoded at its own size
        headers.append(("X-Image-Largest", served.rendition.largest))
    if served.layer == "rendered":
        timing = ", ".join(f"{step};dur={seconds * 1000:.1f}" for step, seconds in served.timings)
        headers.append(("Server-Timing", timing))
    return headers


# -- bytes and files -------------------------------------------------------------------


def not_modified(conditions: ConditionalRequest, head: ResponseHead) -> Reply | None:
    """Return a 304 when the client has this representation already.

    :raises PreconditionFailed: when the client wants another one
    """
    if conditions.are_met(head.etag, head.modified):
        return None
    return Reply(304, [header for header in head.headers() if header[0] not in NOT_IN_304])


def send_bytes(
    conditions: ConditionalRequest, head: ResponseHead, body: bytes, more: Iterable[tuple[str, str]] = ()
) -> Reply:
    """Return 200 or 206 with bytes from memory.

    :raises RequestedRangeNotSatisfiable: as :meth:`.ConditionalRequest.byte_range` says
    """
    part = conditions.byte_range(head.etag, head.modified, len(body))
    reply = _whole_or_part(head, part, len(body), more)
    reply.body = body[slice(*part)] if part else body
    return reply


def send_file(
    conditions: ConditionalRequest,
    head: ResponseHead,
    file: BinaryIO,
    size: int,
    stack: ExitStack,
    more: Iterable[tuple[str, str]] = (),
) -> Reply:
    """Return 200 or 206 with an open file, from its present position on.

    :param size: bytes from that position to the end
    :param stack: closed with the response; stays with the caller when this raises
    :raises RequestedRangeNotSatisfiable: as :meth:`.ConditionalRequest.byte_range` says
    """
    part = conditions.byte_range(head.etag, head.modified, size)
    reply = _whole_or_part(head, part, size, more)
    first, end = part or (0, size)
    reply.body = _read_file(file, file.tell() + first, end - first)
    reply.on_close(stack.pop_all().close)
    return reply


def send_head(head: ResponseHead, size: int) -> Reply:
    """Return the head of a 200 alone.

    :param size: of the body that a GET would have, in bytes
    """
    return _whole_or_part(head, None, size, ())


def _whole_or_part(
    head: ResponseHead, part: tuple[int, int] | None, size: int, more: Iterable[tuple[str, str]]
) -> Reply:
    if part is None:
        return Reply(200, [*head.headers(), ("Content-Length", str(size)), *more])
    first, end = part
    content_range = ("Content-Range", f"bytes {first}-{end - 1}/{size}")
    return Reply(206, [*head.headers(), ("Content-Length", str(end - first)), content_range, *more])


def _read_file(file: BinaryIO, first: int, count: int) -> Iterator[bytes]:
    file.seek(first)
    while count and (chunk := file.read(min(CHUNK, count))):
        count -= len(chunk)
        yield chunk


def send_zip(members: Iterable[bytes], filename: str) -> Reply:
    """Return a streamed zip; its length is not known before its end."""
    headers = [
        ("Content-Type", "application/zip"),
        ("Content-Disposition", disposition(filename, attachment=True)),
        ("Cache-Control", "no-store"),
        *FOREIGN_BYTES,
    ]
    return Reply(200, headers, members)


# -- JSON --------------------------------------------------------------------------------


def to_json(members: Any) -> str:
    """Return JSON with text in any script as it is."""
    return json.dumps(members, ensure_ascii=False)


def _json_headers(cache_control: str, origin: str | None, media_type: str = "application/json") -> Headers:
    cached = [("Cache-Control", cache_control), *_vary(cache_control)]
    return [("Content-Type", media_type), *cached, NOSNIFF, *allow_origin(origin)]


def send_json(members: Any, status: int = 200, *, cache_control: str = "no-store", origin: str | None = None) -> Reply:
    """Return JSON."""
    body = (to_json(members) + "\n").encode()
    return Reply(status, [*_json_headers(cache_control, origin), ("Content-Length", str(len(body)))], body)


def stream_json(parts: Iterable[str], *, origin: str | None = None) -> Reply:
    """Return JSON whose text comes in parts."""
    return Reply(200, _json_headers("no-store", origin), (part.encode() for part in parts))


def send_tagged(
    conditions: ConditionalRequest,
    members: Any,
    *,
    origin: str | None = None,
    is_shared: bool = True,
    media_type: str = "application/json",
) -> Reply:
    """Return JSON, or the bytes of a document of another type, under its own entity tag, or 304."""
    text = members if isinstance(members, bytes) else to_json(members).encode() + b"\n"
    return _send_tagged(conditions, text, hashlib.sha256(text).hexdigest()[:32], origin, is_shared, media_type)


def send_record(
    conditions: ConditionalRequest, record: Record, *, origin: str | None = None, is_shared: bool = True
) -> Reply:
    """Return a record under its own entity tag, or 304."""
    return _send_tagged(conditions, record.text(), record.etag, origin, is_shared)


def _send_tagged(
    conditions: ConditionalRequest,
    text: bytes,
    etag: str,
    origin: str | None,
    is_shared: bool,
    media_type: str = "application/json",
) -> Reply:
    cache_control = "no-cache" if is_shared else "private, no-cache"
    headers = [*_json_headers(cache_control, origin, media_type), ("ETag", f'"{etag}"'), ("Date", http_date())]
    if not conditions.are_met(etag, None):
        return Reply(304, [header for header in headers if header[0] not in NOT_IN_304])
    return Reply(200, [*headers, ("Content-Length", str(len(text)))], text)


def send_written(record: Record, status: int, location: str) -> Reply:
    """Return the record after a write, under the entity tag that ``meta=True`` gives it."""
    text = record.text()
    where = [("Location", location), ("Content-Location", f"{location}?meta=True"), ("ETag", f'"{record.etag}"')]
    return Reply(status, [*_json_headers("no-store", None), *where, ("Content-Length", str(len(text)))], text)
