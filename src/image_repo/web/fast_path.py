"""Hits before Flask: pictures in memory, and 304, answered from the raw request line.

A plain WSGI callable before everything else. When the application has answered a request for
a picture with a plain 200, the head of that answer is kept here under the request's own
text, with the key of the bytes and the lease on them (:class:`~image_repo.repository.resolver.Lease`).
The same request again is then two look-ups: the bytes come from the same tier by the same key,
and the lease ends when the version would be asked for again, or at once when any process
of the node writes to the name. So what is answered here is what the application would answer.

Whatever is unusual goes on to the application: other methods, bodies, ranges, conditions of
any other form than clients of caches send, whoever shows credentials, and all that was evicted.
It is admitted by the limiter (:mod:`image_repo.concurrency.limiter`): however many ask for what takes time,
few threads are at work on it at once, and a hit waits for no more of them. And of requests that are
alike, one goes ahead (:mod:`image_repo.web.coalescing`): as a rule its answer is that of the others.
"""

from __future__ import annotations

import contextlib
import math
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from email.utils import formatdate
from typing import TYPE_CHECKING, Any, Protocol

from cachetools import TTLCache

from image_repo.access.principal import ANONYMOUS
from image_repo.concurrency import deadline
from image_repo.errors import Problem
from image_repo.model.original import Original
from image_repo.model.rendition import Rendition
from image_repo.observability import metrics
from image_repo.repository.repository import Repository
from image_repo.repository.resolver import Lease
from image_repo.web import access_log, ops
from image_repo.web.access_log import AccessLog, client_of, sane
from image_repo.web.closing import Closing
from image_repo.web.coalescing import RequestCoalescer

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

Headers = list[tuple[str, str]]

#: where the application leaves what it knows of the picture that it answers with
NOTE = "image_repo.shown"
#: who shows one of these may be answered otherwise than the next: the one place to say so
_CREDENTIALS = ("HTTP_AUTHORIZATION", "HTTP_COOKIE", "HTTP_X_AUTH_TOKEN", "REMOTE_USER")
UNUSUAL = frozenset(
    (
        *_CREDENTIALS,
        "HTTP_RANGE",
        "HTTP_IF_RANGE",
        "HTTP_IF_MATCH",
        "HTTP_IF_UNMODIFIED_SINCE",
        "HTTP_TRANSFER_ENCODING",
        "HTTP_EXPECT",
        "HTTP_UPGRADE",
    )
)
#: what no doubt is about; a request line with a space too many has another
PROTOCOLS = ("HTTP/1.1", "HTTP/1.0", "HTTP/2.0")
#: what an answer says of itself, and not of the picture
_OF_THE_ANSWER = frozenset(("Cache-Status", "Server-Timing", "X-Request-ID", "Date", "Connection"))
#: what a 304 has no use for, beside its entity tag (RFC 9110, section 15.4.5)
_OF_THE_BODY = frozenset(("Content-Type", "Content-Length", "Content-Disposition", "Accept-Ranges", "Last-Modified"))
#: what does not say that the connection is to end
_STAYS = (None, "keep-alive", "Keep-Alive")
_ENDS = ("Connection", "close")
_FROM_MEMORY = ("Cache-Status", "image_repo; hit; detail=memory")
#: requests that are remembered; each takes about 2 kB
_MOST_ENTRIES = 2048
#: the longest request line and Accept that are
_MOST_TEXT = 1024
#: marks a request that has waited for one that is alike, and says since when
_WAITED = "image_repo.waited"
#: how many requests whose answers could not be kept are remembered, and for how many seconds
_MOST_UNLEARNT, _UNLEARNT = 4096, 10.0
#: seconds between two looks whether a version that is asked for ahead has come
_PAUSE = 0.05


@dataclass(frozen=True, slots=True)
class CacheableHit:
    """What the application knows of a picture that it answers with.

    :param key: of the rendition
    :param focused: whether the point of interest of its record had a say
    """

    current: Original
    key: str
    focused: bool


@dataclass(frozen=True, slots=True)
class Ready:
    """The answer to a plain request, and what there is to know of it, where it may be repeated."""

    headers: Headers
    body: bytes
    shown: CacheableHit | None


@dataclass(slots=True)
class _Entry:
    """An answer, and how long it holds."""

    place: str | tuple[str, str]
    shown: CacheableHit
    key: str
    etag: str
    modified: str
    #: what the log tells of such a request: status and method → text
    told: dict[str, str]
    whole: Headers
    unchanged: Headers
    slot: int
    mark: bytes
    until: float
    #: when to ask whether it holds on, in monotonic seconds
    ask: float


_STATUS_2XX, _STATUS_3XX = metrics.STATUS[2:4]
_HITS, _SENT = metrics.column(metrics.HITS, "memory"), metrics.column(metrics.SENT)

#: stands for a request line whose answer depends on Accept
_NEGOTIATED = object()


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
    """Stands before the application.

    :param inner: answers what is not answered here
    :param freshness: seconds
    :param kept: where connections are kept after an answer
    :param log: is told of each request
    :param pictures: the path below which they are
    :param at_work: marks the connection of this thread as one whose request is being answered; gives what ends that
    """

    def __init__(
        self,
        inner: WSGIApplication,
        repo: Repository,
        freshness: float,
        kept: KeepAlive | None = None,
        log: AccessLog | None = None,
        pictures: str = "/images/",
        at_work: Callable[[], Callable[[], None]] = lambda: _nothing,
    ) -> None:
        self._at_work = at_work
        self._log = log
        self._pictures = pictures
        self._alike = RequestCoalescer(repo.limiter)
        #: what was asked for, and its answer could not be kept: nobody waits for that
        self._unlearnt: TTLCache[tuple[str, str | None], bool] = TTLCache(_MOST_UNLEARNT, _UNLEARNT)
        self._inner = inner
        self._kept = kept
        self._repo = repo
        self._freshness = freshness
        memory = repo.reader.in_memory()
        self._learns = memory is not None and freshness > 0
        self._memory: Callable[[str], Rendition | None] = memory or (lambda _: None)
        self._mark_at = repo.epochs.at
        self._entries: dict[str | tuple[str, str] | None, Any] = {}
        self._row = repo.counters.row
        self._lock = threading.Lock()
        self._dated = -math.inf
        self._date = ("Date", "")

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """WSGI (PEP 3333)."""
        now = time.monotonic()
        entry = self._standing(environ, now)
        unchanged = None if entry is None else _is_unchanged(entry, environ)
        method = environ.get("REQUEST_METHOD")
        if entry is None or unchanged is None or (method != "GET" and method != "HEAD"):  # noqa: PLR1714, it is faster
            return self._ask(environ, start_response)
        date = self._date if now - self._dated < 1.0 else self._today(now)
        row = self._row
        body: tuple[bytes, ...] = ()
        size = 0
        if unchanged:
            status, headers = "304 NOT MODIFIED", [*entry.unchanged, date]
            row[_STATUS_3XX] += 1
        else:
            found = self._memory(entry.key)
            if found is None:
                return self._ask(environ, start_response)
            status, headers = "200 OK", [*entry.whole, date]
            row[_STATUS_2XX] += 1
            row[_HITS] += 1
            if method == "GET":
                body = (found.body,)
                size = len(found.body)
                row[_SENT] += size
        given = environ.get("HTTP_X_REQUEST_ID")
        if given is not None and (given := sane(given)):
            headers.append(("X-Request-ID", given))
        log = self._log
        if log:
            waited = now - environ[_WAITED] if _WAITED in environ else 0.0
            what = (not waited and entry.told.get(status + method)) or self._tell(
                log, entry, method, status, size, waited
            )
            log.tell((time.time(), log.number(), given, what, client_of(environ)))
        kept = self._kept
        if kept and (environ.get("HTTP_CONNECTION") not in _STAYS or kept.ending) and kept.is_last(environ):
            start_response(status, [*headers, _ENDS])
            return Closing(body, kept.hang_up)
        start_response(status, headers)
        return body

    def _standing(self, environ: WSGIEnvironment, now: float) -> _Entry | None:
        """What answers this request, if it still holds."""
        entry: Any = self._entries.get(environ.get("REQUEST_URI"))
        if entry is _NEGOTIATED:
            entry = self._entries.get((environ["REQUEST_URI"], environ.get("HTTP_ACCEPT", "")))
        if entry is None or not UNUSUAL.isdisjoint(environ) or environ.get("CONTENT_LENGTH"):
            return None
        if environ.get("SERVER_PROTOCOL") not in PROTOCOLS:
            return None
        if (now >= entry.ask and not self._holds_on(entry, now)) or self._mark_at(entry.slot, now) != entry.mark:
            self._forget(entry)
            return None
        return entry  # type: ignore[no-any-return]

    def _tell(self, log: AccessLog, entry: _Entry, method: str, status: str, size: int, waited: float) -> str:
        """What the log tells of a hit."""
        uri = access_log.shown(entry.place if isinstance(entry.place, str) else entry.place[0])
        what = log.what(method, uri, status[:3], size, waited, "memory")
        if not waited:
            entry.told[status + method] = what
        return what

    def _today(self, now: float) -> tuple[str, str]:
        """The date that is told for a second."""
        self._date = ("Date", formatdate(usegmt=True))
        self._dated = now
        return self._date

    def _holds_on(self, entry: _Entry, now: float) -> bool:
        """Whether the version is the same as before, asked for as the application asks: ahead of its time."""
        if now >= entry.until or entry.shown.focused:
            return False
        try:
            current = self._repo.reader.resolve(ANONYMOUS, (entry.shown.current.name,))
        except Problem:
            return False
        lease = self._repo.reader.lease(current) if current == entry.shown.current else None
        if lease is None:
            return False
        entry.mark, entry.until = lease.mark, lease.until
        entry.ask = max(lease.until - self._freshness / 2, now + _PAUSE)
        return True

    def _forget(self, entry: _Entry) -> None:
        with self._lock:
            if self._entries.get(entry.place) is entry:
                del self._entries[entry.place]

    # -- learning --------------------------------------------------------------------

    def _ask(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer a miss; all its waiting shares one deadline."""
        with deadline.limited(self._repo.limits.wait):
            return self._coalesce(environ, start_response)

    def _coalesce(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Lets the application answer, unless it is at a request like this one: then what comes of that will do."""
        if not self._may_wait(environ):
            return self._pass_on(environ, start_response)
        began, what = time.monotonic(), _what(environ)
        # To who looks for connections that idle, one that waits here would be such.
        seen = self._at_work()
        try:
            with self._alike.turn(what) as first:
                answer = self._pass_on(environ, start_response) if first else None
            if answer is None:
                environ[_WAITED] = began
                answer = self(environ, start_response)
            elif what[0] not in self._entries:
                with self._lock:
                    self._unlearnt[what] = True
        except BaseException:
            seen()
            raise
        return Closing(answer, seen)

    def _may_wait(self, environ: WSGIEnvironment) -> bool:
        """Whether this is a request for a picture, whose answer may be another's too; each waits once."""
        return (
            self._learns
            and environ.get("REQUEST_METHOD") == "GET"
            and environ.get("REQUEST_URI", "").startswith(self._pictures)
            and _WAITED not in environ
            and UNUSUAL.isdisjoint(environ)
            and not environ.get("CONTENT_LENGTH")
            and _what(environ) not in self._unlearnt
        )

    def _pass_on(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Lets the application answer, and listens."""
        began: float = environ.get(_WAITED) or time.monotonic()
        number = self._log.number() if self._log else 0
        client = client_of(environ)
        given = sane(environ.get("HTTP_X_REQUEST_ID"))
        said: list[tuple[str, Headers]] = []

        def begin(status: str, headers: Headers, *error: Any) -> Callable[[bytes], object]:
            said.append((status, headers))
            name = given or (self._log.id(number) if self._log and status >= "4" else None)
            told = [*headers, ("X-Request-ID", name)] if name else headers
            return start_response(status, told, *error)

        # Who asks whether we live shall not wait for all the others.
        beside = environ.get("PATH_INFO") in ops.ALIVE
        with contextlib.nullcontext() if beside else self._repo.limiter.application():
            answer = self._inner(environ, begin)
        if not said:  # a server may be told later (PEP 3333), but the application does not do so
            return answer
        status, headers = said[-1]
        self._may_learn(environ, status, headers)
        at = metrics.STATUS[int(status[0])]
        self._row[at] += 1

        def done(sent: int) -> None:
            self._row[_SENT] += sent
            if self._log:
                uri = access_log.shown(environ.get("REQUEST_URI") or environ.get("PATH_INFO", ""))
                method, took = environ.get("REQUEST_METHOD", ""), time.monotonic() - began
                what = self._log.what(method, uri, status[:3], sent, took, access_log.layer_of(dict(headers)))
                self._log.tell((time.time(), number, given, what, client))

        return _Counted(answer, done)

    def _may_learn(self, environ: WSGIEnvironment, status: str, headers: Headers) -> None:
        shown: CacheableHit | None = environ.get(NOTE)
        uri = environ.get("REQUEST_URI")
        if not self._learns or not shown or not uri or len(uri) > _MOST_TEXT or not status.startswith("200 "):
            return
        if environ.get("REQUEST_METHOD") == "GET" and UNUSUAL.isdisjoint(environ):
            self._learn(uri, environ.get("HTTP_ACCEPT", ""), shown, headers)

    def _learn(self, uri: str, accept: str, shown: CacheableHit, headers: Headers) -> None:
        lease = self._repo.reader.lease(shown.current, focused=shown.focused)
        if lease is None or len(accept) > _MOST_TEXT:
            return
        negotiated = any(name == "Vary" for name, _ in headers)
        place = (uri, accept) if negotiated else uri
        entry = _entry(place, shown, headers, lease, self._freshness)
        with self._lock:
            while len(self._entries) >= _MOST_ENTRIES:
                del self._entries[next(iter(self._entries))]
            if negotiated:
                self._entries[uri] = _NEGOTIATED
            self._entries[place] = entry


class _Counted:
    """Counts the bytes of an answer.

    :param done: is told how many they were, when the server has taken all of them, or the client is gone
    """

    def __init__(self, inner: Iterable[bytes], done: Callable[[int], None]) -> None:
        self._inner = inner
        self._done = done
        self._sent = 0

    def __iter__(self) -> Iterator[bytes]:
        for part in self._inner:
            self._sent += len(part)
            yield part

    def close(self) -> None:
        """Called by the server."""
        try:
            if hasattr(self._inner, "close"):
                self._inner.close()
        finally:
            self._done(self._sent)


def _entry(
    place: str | tuple[str, str], shown: CacheableHit, headers: Headers, lease: Lease, freshness: float
) -> _Entry:
    said = dict(headers)
    kept = [(name, value) for name, value in headers if name not in _OF_THE_ANSWER]
    return _Entry(
        place=place,
        shown=shown,
        key=shown.key,
        etag=said["ETag"],
        modified=said["Last-Modified"],
        told={},
        whole=[*kept, _FROM_MEMORY],
        unchanged=[(name, value) for name, value in kept if name not in _OF_THE_BODY],
        slot=lease.slot,
        mark=lease.mark,
        until=lease.until,
        ask=lease.until if shown.focused else lease.until - freshness / 2,
    )


def _what(environ: WSGIEnvironment) -> tuple[str, str | None]:
    """What is asked for."""
    return environ["REQUEST_URI"], environ.get("HTTP_ACCEPT")


def _nothing() -> None:
    """Where nobody watches."""


def _is_unchanged(entry: _Entry, environ: WSGIEnvironment) -> bool | None:
    """Whether the client has it already (RFC 9110, section 13.2.2); None where the application is to judge."""
    tag = environ.get("HTTP_IF_NONE_MATCH")
    if tag is not None:
        return True if tag == entry.etag else (False if _is_one_tag(tag) else None)
    since = environ.get("HTTP_IF_MODIFIED_SINCE")
    return False if since is None else (True if since == entry.modified else None)


def _is_one_tag(text: str) -> bool:
    """Whether this is one strong entity tag; a list, a weak one and ``*`` are the application's to judge."""
    return len(text) > 1 and text[0] == text[-1] == '"' and text.count('"') == 2
