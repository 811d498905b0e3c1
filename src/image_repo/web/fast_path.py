"""Hits before Flask: pictures in memory, and 304, answered from the raw request line.

A WSGI callable before everything else. When the application has answered a request for a picture with a plain 200 or
304, the head of that response is remembered under the request's own text and its principal, with the key of the bytes
and the lease on them (:class:`~image_repo.repository.resolver.Lease`). The same request again is two look-ups and one
authorisation: the bytes come from the same tier by the same key, and the lease ends when the version has to be
revalidated, or at once when any process of the node writes to the name.

Whatever is unusual goes on to the application: other methods, bodies, ranges, rare forms of conditions, tokens that are
not accepted, and what was evicted. The limiter lets few threads at a time run there
(:mod:`image_repo.concurrency.limiter`), so that hits need not wait for them. Of equal requests at the same time, one
goes ahead (:mod:`image_repo.web.coalescing`).
"""

from __future__ import annotations

import contextlib
import math
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from email.utils import formatdate
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from cachetools import TTLCache
from werkzeug.http import http_date

from image_repo.access.control import Action, Grant
from image_repo.access.principal import ANONYMOUS, Principal
from image_repo.concurrency import deadline
from image_repo.errors import Problem
from image_repo.model.names import ImageName
from image_repo.model.rendition import Rendition
from image_repo.observability import metrics
from image_repo.repository.repository import Repository
from image_repo.repository.resolver import Lease
from image_repo.web import access_log, ops
from image_repo.web.access_log import REQUEST_ID, AccessLog, valid_request_id
from image_repo.web.client_address import peer_of
from image_repo.web.closing import Closing
from image_repo.web.coalescing import RequestCoalescer
from image_repo.web.identity import Identify, may_take_time
from image_repo.web.responses import HIT, NOT_IN_304, CacheableHit, Headers, cache_status

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

#: headers of requests that the application answers
UNUSUAL = frozenset(
    f"HTTP_{name}"
    for name in (
        "X_AUTH_TOKEN",
        *("RANGE", "IF_RANGE", "IF_MATCH", "IF_UNMODIFIED_SINCE"),
        *("TRANSFER_ENCODING", "EXPECT", "UPGRADE"),
    )
) | {"REMOTE_USER"}
#: a request line with a space too many has another one
PROTOCOLS = ("HTTP/1.1", "HTTP/1.0", "HTTP/2.0")
#: headers of one response, which a repetition does not have
_OF_ONE_RESPONSE = frozenset(
    ("Cache-Status", "Server-Timing", "X-Request-ID", "Date", "Connection", "RateLimit", "RateLimit-Policy")
)
#: values of Connection that do not end it
PERSISTENT = (None, "keep-alive", "Keep-Alive")
_CLOSE_CONNECTION = ("Connection", "close")
_FROM_MEMORY = cache_status("memory")
#: a larger body takes long to copy, and its client may take long to read it
MAX_SMALL_BYTES = 64 << 10
#: remembered requests; each takes about 3 kB
_MAX_ENTRIES = 2048
#: of a request line, and of Accept
_MAX_TEXT_BYTES = 1024
#: environ key: since when a request waited for an equal one, in monotonic seconds
_WAITED_SINCE = "image_repo.waited_since"
#: remembered requests whose responses cannot be repeated
_MAX_UNREPEATABLE, _UNREPEATABLE_S = 4096, 10.0
#: seconds between two looks for a version that is being revalidated
_REVALIDATION_PAUSE_S = 0.05

_COLUMNS_200, _COLUMNS_304 = (metrics.STATUS[2], metrics.HIT_2XX), (metrics.STATUS[3], metrics.HIT_3XX)
_HITS, _SENT = metrics.column(metrics.HITS, "memory"), metrics.column(metrics.SENT)

_REPEATABLE = ("200", "304")

#: stands under a request line whose response depends on Accept
_NEGOTIATED = object()

_READ = Action.READ

#: a request line; of a caller who is not anonymous, with the principal
Target = str | tuple[str, Principal]
#: the key of an entry: where the response is negotiated, with Accept
EntryKey = Target | tuple[Target, str]


@dataclass(slots=True)
class CachedHead:
    """Status and headers of a repeated response.

    :param columns: of the metrics: responses with this status, and those of them that took no time
    """

    status: str
    headers: Headers
    columns: tuple[int, int]
    #: method → text of the access log
    log_texts: dict[str, str] = field(default_factory=dict)
    #: status and headers in HTTP/1.1
    raw: bytes = field(init=False)

    def __post_init__(self) -> None:
        self.raw = f"HTTP/1.1 {self.status}\r\n".encode() + raw_headers(self.headers)


def raw_headers(headers: Iterable[tuple[str, str]]) -> bytes:
    """Return headers in HTTP/1.1."""
    return "".join(f"{name}: {value}\r\n" for name, value in headers).encode("latin-1")


#: the same for those of one response alone, which a second of responses has in common
_raw_own_headers = lru_cache(16)(raw_headers)


@dataclass(slots=True)
class _Entry:
    """A response that may be repeated.

    :param whole: head of a 200; None until the application has answered with one
    :param unchanged: head of a 304
    :param until: end of the lease, in monotonic seconds
    :param revalidate: when to look whether it holds on, in monotonic seconds
    """

    at: EntryKey
    uri: str
    hit: CacheableHit
    grant: Grant
    name: str
    key: str
    etag: str
    modified: str
    whole: CachedHead | None
    unchanged: CachedHead
    slot: int
    mark: int
    until: float
    revalidate: float


class CachedResponse(NamedTuple):
    """A response.

    :param own: headers of this response alone
    :param body: empty, or in one piece
    """

    head: CachedHead
    own: tuple[tuple[str, str], ...]
    body: tuple[bytes, ...]

    def raw(self) -> bytes:
        """Return it in HTTP/1.1."""
        return b"".join((self.head.raw, _raw_own_headers(self.own), b"\r\n", *self.body))


class KeepAlive(Protocol):
    """Keeps connections open after a response, and ends them."""

    @property
    def ending(self) -> bool:
        """Whether this worker is about to end."""

    def is_last(self, environ: WSGIEnvironment) -> bool:
        """Return whether no further request is read from this connection."""

    def hang_up(self) -> None:
        """End the connection of this thread once everything is sent."""


class FastPath:
    """Answers repeated reads, and passes all other requests on.

    :param inner: the application
    :param identify: returns on whose behalf a request is made; the same function that the application uses
    :param freshness: seconds
    :param pictures: the path below which pictures are
    :param at_work: marks the connection of this thread as one whose request is being answered; returns what unmarks it
    """

    def __init__(
        self,
        inner: WSGIApplication,
        repo: Repository,
        identify: Identify,
        freshness: float,
        keep_alive: KeepAlive | None = None,
        log: AccessLog | None = None,
        pictures: str = "/images/",
        at_work: Callable[[], Callable[[], None]] = lambda: _nothing,
        client_of: Callable[[WSGIEnvironment], str] = peer_of,
    ) -> None:
        self._inner = inner
        self._repo = repo
        self._freshness = freshness
        self._keep_alive = keep_alive
        self._log = log
        self._pictures = pictures
        self._coalescer = RequestCoalescer(repo.limiter)
        self._at_work = at_work
        self._client_of = client_of
        self._authorise = repo.access.authorise
        self._identify = identify
        #: requests that are not worth waiting for: their responses cannot be repeated
        self._unrepeatable: TTLCache[tuple[Target, str | None], bool] = TTLCache(_MAX_UNREPEATABLE, _UNREPEATABLE_S)
        memory = repo.reader.in_memory()
        self._learns = memory is not None and freshness > 0
        self._memory: Callable[[str], Rendition | None] = memory or (lambda _: None)
        self._mark_at = repo.epochs.at
        self._entries: dict[EntryKey | None, Any] = {}
        self._row = repo.counters.row
        self._lock = threading.Lock()
        self._dated = -math.inf
        self._date: tuple[tuple[str, str], ...] = ()

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """WSGI (PEP 3333)."""
        repeated = self.repeat(environ)
        return (
            self.ask(environ, start_response) if repeated is None else self.respond(repeated, environ, start_response)
        )

    def respond(
        self, repeated: CachedResponse, environ: WSGIEnvironment, start_response: StartResponse
    ) -> Iterable[bytes]:
        """Respond as WSGI does with what :meth:`repeat` returned."""
        head, own, body = repeated
        headers = [*head.headers, *own]
        alive = self._keep_alive
        if alive and (environ.get("HTTP_CONNECTION") not in PERSISTENT or alive.ending) and alive.is_last(environ):
            start_response(head.status, [*headers, _CLOSE_CONNECTION])
            return Closing(body, alive.hang_up)
        start_response(head.status, headers)
        return body

    def repeat(self, environ: WSGIEnvironment, *, may_wait: bool = True) -> CachedResponse | None:
        """Return the response to a repeated read, counted and logged; None where the application has to answer.

        :param may_wait: whether something may be waited for, and the body be large; otherwise None is returned then
        """
        now = time.monotonic()
        entry = self._find(environ, now, may_wait=may_wait) if may_wait or not may_take_time(environ) else None
        unchanged = None if entry is None else _is_unchanged(entry, environ)
        method = environ.get("REQUEST_METHOD")
        if entry is None or unchanged is None or (method != "GET" and method != "HEAD"):  # noqa: PLR1714, it is faster
            return None
        head = entry.unchanged if unchanged else entry.whole
        rendition = None if unchanged else self._memory(entry.key)
        if head is None or (rendition is None and not unchanged):
            return None
        if not may_wait and rendition is not None and len(rendition.body) > MAX_SMALL_BYTES:
            return None
        row = self._row
        body: tuple[bytes, ...] = ()
        size = 0
        if rendition is not None:
            row[_HITS] += 1
            if method == "GET":
                body = (rendition.body,)
                size = len(rendition.body)
                row[_SENT] += size
        own = self._date if now - self._dated < 1.0 else self._renew_date(now)
        request_id = environ.get("HTTP_X_REQUEST_ID")
        if request_id is not None and (request_id := valid_request_id(request_id)):
            own = (*own, ("X-Request-ID", request_id))
        waited = now - environ[_WAITED_SINCE] if _WAITED_SINCE in environ else 0.0
        of_status, of_no_time = head.columns
        row[of_status] += 1
        if waited:
            self._repo.counters.observe(metrics.DURATIONS, f"pictures {head.status[0]}xx", waited)
        else:
            row[of_no_time] += 1
        log = self._log
        if log:
            text = None if waited else head.log_texts.get(method)
            if text is None:
                text = _log_text(log, entry.uri, head, method, size, waited)
            log.add((time.time(), log.number(), request_id, text, self._client_of(environ)))
        return CachedResponse(head, own, body)

    def _find(self, environ: WSGIEnvironment, now: float, *, may_wait: bool) -> _Entry | None:
        """Return the entry that answers this request, if its principal may have it and its lease holds.

        :param may_wait: whether to revalidate an entry that is due, and to forget one that does not hold
        """
        target: Any = environ.get("REQUEST_URI")
        try:
            principal = self._identify(environ)
        except Problem:  # the application answers with it
            return None
        if principal is not ANONYMOUS:
            target = (target, principal)
        entry: Any = self._entries.get(target)
        if entry is _NEGOTIATED:
            entry = self._entries.get((target, environ.get("HTTP_ACCEPT", "")))
        # Where records alone are accepted, the response is the record.
        is_usual = (
            environ.keys().isdisjoint(UNUSUAL)  # quicker than the other way round, which goes through the whole environ
            and environ.get("SERVER_PROTOCOL") in PROTOCOLS
            and "json" not in environ.get("HTTP_ACCEPT", "")
        )
        # Without a Host, or with two, it is for the guard to refuse.
        if entry is None or not is_usual or environ.get("CONTENT_LENGTH") or "," in environ.get("HTTP_HOST", ","):
            return None
        try:
            grant = self._authorise(principal, _READ, entry.name)
        except Problem:  # the application answers with it
            return None
        if grant is not entry.grant and grant != entry.grant:
            self._forget(entry)
            return None
        holds = self._mark_at(entry.slot, now) == entry.mark and (
            now < entry.revalidate or (may_wait and self._holds_on(entry, principal, now))
        )
        if not holds and may_wait:
            self._forget(entry)
        return entry if holds else None

    def _renew_date(self, now: float) -> tuple[tuple[str, str], ...]:
        """Return the date header for this second."""
        self._date = (("Date", formatdate(usegmt=True)),)
        self._dated = now
        return self._date

    def _holds_on(self, entry: _Entry, principal: Principal, now: float) -> bool:
        """Revalidate an entry ahead of its end, as the application does; return whether its version is current."""
        original = entry.hit.original
        if now >= entry.until or entry.hit.uses_focus:
            return False
        try:
            current = self._repo.reader.resolve(principal, (ImageName(principal.relative(original.name.text)),))
        except Problem:
            return False
        lease = self._repo.reader.lease(current) if current == original else None
        if lease is None:
            return False
        entry.mark, entry.until = lease.mark, lease.until
        entry.revalidate = max(lease.until - self._freshness / 2, now + _REVALIDATION_PAUSE_S)
        return True

    def _forget(self, entry: _Entry) -> None:
        with self._lock:
            if self._entries.get(entry.at) is entry:
                del self._entries[entry.at]

    # -- requests that go on -----------------------------------------------------------

    def ask(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer a miss; all its waiting shares one deadline."""
        with deadline.limited(self._repo.limits.wait):
            return self._coalesce(environ, start_response)

    def _coalesce(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Pass a request on, or wait for an equal one and repeat its response."""
        target = self._target(environ)
        request = (target or "", environ.get("HTTP_ACCEPT"))
        if target is None or not self._may_wait(environ) or request in self._unrepeatable:
            return self._pass_on(environ, start_response)
        began = time.monotonic()
        # Without the mark, a connection whose request waits here would look idle.
        unmark = self._at_work()
        try:
            with self._coalescer.turn(request) as is_first:
                response = self._pass_on(environ, start_response) if is_first else None
            if response is None:
                environ[_WAITED_SINCE] = began
                response = self(environ, start_response)
            elif target not in self._entries:
                with self._lock:
                    self._unrepeatable[request] = True
        except BaseException:
            unmark()
            raise
        return Closing(response, unmark)

    def _target(self, environ: WSGIEnvironment) -> Target | None:
        """Return what a response is remembered under: nothing of one principal's answers another.

        :returns: None where the credentials are not accepted
        """
        uri: str = environ.get("REQUEST_URI", "")
        try:
            principal = self._identify(environ)
        except Problem:
            return None
        return uri if principal is ANONYMOUS else (uri, principal)

    def _may_wait(self, environ: WSGIEnvironment) -> bool:
        """Return whether this is a read whose response may be repeated; each waits once."""
        return (
            self._learns
            and environ.get("REQUEST_METHOD") == "GET"
            and environ.get("REQUEST_URI", "").startswith(self._pictures)
            and _WAITED_SINCE not in environ
            and UNUSUAL.isdisjoint(environ)
            and not environ.get("CONTENT_LENGTH")
        )

    def _pass_on(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Have the application answer; count, log and remember its response."""
        began: float = environ.get(_WAITED_SINCE) or time.monotonic()
        number = self._log.number() if self._log else 0
        client = self._client_of(environ)
        request_id = valid_request_id(environ.get("HTTP_X_REQUEST_ID"))
        environ[REQUEST_ID] = request_id or (self._log.id(number) if self._log else None)
        started: list[tuple[str, Headers]] = []

        def start(status: str, headers: Headers, *error: Any) -> Callable[[bytes], object]:
            started.append((status, headers))
            own_id = request_id or (self._log.id(number) if self._log and status >= "4" else None)
            return start_response(status, [*headers, ("X-Request-ID", own_id)] if own_id else headers, *error)

        # A liveness probe does not queue behind renders.
        is_probe = environ.get("PATH_INFO") in ops.ALIVE
        with contextlib.nullcontext() if is_probe else self._repo.limiter.application():
            response = self._inner(environ, start)
        if not started:  # PEP 3333 allows it later, but the application does not do so
            return response
        status, headers = started[-1]
        self._learn(environ, status, headers)
        self._row[metrics.STATUS[int(status[0])]] += 1
        route = metrics.route_of(environ.get("PATH_INFO", ""), environ.get("REQUEST_METHOD", ""), self._pictures)

        def sent(size: int) -> None:
            seconds = time.monotonic() - began
            self._row[_SENT] += size
            self._repo.counters.observe(metrics.DURATIONS, f"{route} {status[0]}xx", seconds)
            if self._log:
                uri = access_log.printable_uri(environ.get("REQUEST_URI") or environ.get("PATH_INFO", ""))
                method = environ.get("REQUEST_METHOD", "")
                layer = access_log.layer_of(dict(headers))
                text = self._log.describe(method, uri, status[:3], size, seconds, layer)
                self._log.add((time.time(), number, request_id, text, client))

        return _Counted(response, sent)

    def _learn(self, environ: WSGIEnvironment, status: str, headers: Headers) -> None:
        """Remember a response that may be repeated."""
        hit: CacheableHit | None = environ.get(HIT)
        uri, accept = environ.get("REQUEST_URI"), environ.get("HTTP_ACCEPT", "")
        if not self._learns or not hit or not uri or status[:3] not in _REPEATABLE:
            return
        if environ.get("REQUEST_METHOD") != "GET" or not UNUSUAL.isdisjoint(environ):
            return
        lease = self._repo.reader.lease(hit.original, focused=hit.uses_focus)
        if lease is None or len(uri) > _MAX_TEXT_BYTES or len(accept) > _MAX_TEXT_BYTES:
            return
        target = self._target(environ)
        if target is None:
            return
        at = (target, accept) if hit.is_negotiated else target
        entry = _entry(at, uri, hit, headers, lease, self._freshness)
        with self._lock:
            known = self._entries.get(at)
            if entry.whole is None and isinstance(known, _Entry) and known.etag == entry.etag:
                entry.whole = known.whole
            while len(self._entries) >= _MAX_ENTRIES:
                del self._entries[next(iter(self._entries))]
            if hit.is_negotiated:
                self._entries[target] = _NEGOTIATED
            self._entries[at] = entry


class _Counted:
    """Counts the bytes of a response.

    :param sent: called with their number when the server has taken all of them, or the client is gone
    """

    def __init__(self, inner: Iterable[bytes], sent: Callable[[int], None]) -> None:
        self._inner = inner
        self._sent = sent
        self._size = 0

    def __iter__(self) -> Iterator[bytes]:
        for part in self._inner:
            self._size += len(part)
            yield part

    def close(self) -> None:
        """Called by the server."""
        try:
            if hasattr(self._inner, "close"):
                self._inner.close()
        finally:
            self._sent(self._size)


def _entry(at: EntryKey, uri: str, hit: CacheableHit, headers: Headers, lease: Lease, freshness: float) -> _Entry:
    by_name = dict(headers)
    is_whole = "Content-Length" in by_name
    repeated = [(name, value) for name, value in headers if name not in _OF_ONE_RESPONSE]
    return _Entry(
        at=at,
        uri=uri,
        hit=hit,
        grant=hit.grant,
        name=hit.original.name.text,
        key=hit.key,
        etag=by_name["ETag"],
        modified=http_date(int(hit.original.modified)),
        whole=CachedHead("200 OK", [*repeated, _FROM_MEMORY], _COLUMNS_200) if is_whole else None,
        unchanged=CachedHead(
            "304 NOT MODIFIED", [pair for pair in repeated if pair[0] not in NOT_IN_304], _COLUMNS_304
        ),
        slot=lease.slot,
        mark=lease.mark,
        until=lease.until,
        revalidate=lease.until if hit.uses_focus else lease.until - freshness / 2,
    )


def _log_text(log: AccessLog, uri: str, head: CachedHead, method: str, size: int, waited: float) -> str:
    """Return the text of a hit in the access log; the same for all that have not waited."""
    text = log.describe(method, access_log.printable_uri(uri), head.status[:3], size, waited, "memory")
    if not waited:
        head.log_texts[method] = text
    return text


def _nothing() -> None:
    """Unmark nothing."""


def _is_unchanged(entry: _Entry, environ: WSGIEnvironment) -> bool | None:
    """Return whether the client has it already (RFC 9110, section 13.2.2); None where the application decides."""
    tag = environ.get("HTTP_IF_NONE_MATCH")
    if tag is not None:
        return True if tag == entry.etag else (False if _is_one_strong_tag(tag) else None)
    since = environ.get("HTTP_IF_MODIFIED_SINCE")
    return False if since is None else (True if since == entry.modified else None)


def _is_one_strong_tag(text: str) -> bool:
    """Return whether this is one strong entity tag; the application decides about a list, a weak one and ``*``."""
    return len(text) > 1 and text[0] == text[-1] == '"' and text.count('"') == 2
