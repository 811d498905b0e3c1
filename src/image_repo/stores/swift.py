"""Containers of OpenStack Swift. The only place that knows Swift's client library and how one signs in.

A connection of the library serves one thread at a time, so every call takes one out of a bounded
:class:`ConnectionPool`, which the containers of one account share. The pool signs in once for all
of them, renews the token before it ends where that is known, and answers a refused token with
one silent renewal. Nothing here sleeps, and nothing waits longer than its timeout.
"""

from __future__ import annotations

import contextlib
import email.utils
import hashlib
import http.client
import io
import logging
import math
import secrets
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, BinaryIO, Self, TypeVar
from urllib.parse import quote, unquote, urlsplit

from keystoneauth1 import exceptions as keystone
from keystoneauth1.identity import v3
from keystoneauth1.session import Session
from swiftclient import client as swift  # type: ignore[import-untyped]
from swiftclient.exceptions import ClientException  # type: ignore[import-untyped]
from urllib3.exceptions import HTTPError

from image_repo.concurrency import deadline
from image_repo.concurrency.limiter import aside
from image_repo.config import Credentials, PersistentStoreConfiguration
from image_repo.config.loading import OPENSTACK
from image_repo.config.rules import KNOWN_KEYS, SHORTEST_KEY
from image_repo.errors import LinksNotConfigured, OriginalDamaged, PreconditionFailed, StoreUnavailable
from image_repo.stores import lookup
from image_repo.stores.base import CHUNK, Entry, NoContainer
from image_repo.stores.tempurl import DIGESTS, LinkBase

log = logging.getLogger(__name__)
T = TypeVar("T")

# They log headers and whole bodies, signatures among them; what goes wrong is told by our own exceptions.
for _name in ("swiftclient", "keystoneauth", "keystoneclient", "urllib3"):
    logging.getLogger(_name).setLevel(logging.CRITICAL)

#: what a call may meet below HTTP: ``requests`` raises OSErrors, and reading a body urllib3's own
_BROKEN = (OSError, HTTPError, http.client.HTTPException)
#: a call that failed sooner than this is made once more, so that a retry never doubles a long wait
_RETRY_WITHIN = 1.0
#: a token is renewed this long before its end, or a tenth of what it lasts where that is less
_RENEW_AHEAD = 60.0
#: a body may take the timeout and this many seconds for each byte (16 KiB/s)
_SLOWEST = 1 / (16 << 10)
#: for how long the keys of temporary URLs are remembered
_KEYS_FRESH = 300.0
#: the most names of one page of a listing that Swift gives
_PAGE = 10_000
_META = "x-object-meta-"
_KEY_HEADERS = ("temp-url-key", "temp-url-key-2")


# -- who we are ----------------------------------------------------------------------


def resolve_credentials(credentials: Credentials, environ: Mapping[str, str]) -> Credentials:
    """Fills what is left open from the usual variables, ``OS_*`` and ``ST_*``.

    Who names a user or an application credential in the configuration does not get the other
    way of signing in from the environment: the two are never mixed.
    """
    password, application = ("username", "password"), ("application_credential_id", "application_credential_secret")
    barred: set[str] = set()
    if any(getattr(credentials, name) for name in application):
        barred.update(password, ("tenant", "tenant_id"))
    elif any(getattr(credentials, name) for name in password):
        barred.update(application)
    found: dict[str, Any] = {}
    for name, variables in OPENSTACK.items():
        text = next((environ[variable] for variable in variables if environ.get(variable)), None)
        if text and name not in barred and getattr(credentials, name) is None:
            found[name] = text.lower().removeprefix("v").removesuffix(".0") if name == "auth_version" else text
    return replace(credentials, **found) if found else credentials


def have_credentials(credentials: Credentials) -> bool:
    """Whether it is said where to sign in: then the originals are in Swift, and anything missing is a mistake."""
    return bool(credentials.authurl)


def new_link_key() -> str:
    """A key to sign temporary URLs with that nobody can guess."""
    return secrets.token_urlsafe(32)


# -- signing in ----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Access:
    """What signing in gives.

    :param renew: seconds of the monotonic clock after which a new token is asked for ahead of need
    :param ends: and after which this one is not good any more
    """

    url: str
    token: str = field(repr=False)
    renew: float
    ends: float


class _Login:
    """Signs in, once for all threads."""

    def __init__(self, settings: PersistentStoreConfiguration, credentials: Credentials) -> None:
        self._settings = settings
        self._credentials = credentials
        self._lock = threading.Lock()
        self._known: _Access | None = None
        self._failure: tuple[float, StoreUnavailable] | None = None

    def access(self, refused: str | None = None) -> _Access:
        """A token and the address to use it at.

        :param refused: a token that the store does not take any more
        """
        known, now = self._known, time.monotonic()
        if known and known.token != refused and now < known.ends:
            return known if now < known.renew else self._ahead(known)
        if not self._lock.acquire(timeout=deadline.left(self._settings.timeout)):
            raise StoreUnavailable("Signing in to the store takes too long.")
        try:
            known = self._known
            if known and known.token != refused and time.monotonic() < known.ends:
                return known
            # Who waited while it failed shares the outcome: no queue of logins, one after the other.
            if self._failure and self._failure[0] > now:
                raise _like(self._failure[1])
            return self._renew()
        finally:
            self._lock.release()

    def _ahead(self, known: _Access) -> _Access:
        """Renews a token that is still good; the other threads go on with it, and so do we when that fails."""
        if not self._lock.acquire(blocking=False):
            return known
        try:
            return self._renew()
        except StoreUnavailable as error:
            log.warning("the token of the store could not be renewed: %s", error.detail)
            left = known.ends - time.monotonic()
            self._known = replace(known, renew=time.monotonic() + left / 4)
            return known
        finally:
            self._lock.release()

    def _renew(self) -> _Access:
        try:
            url, token, lasts = self._sign_in()
        except StoreUnavailable as error:
            self._failure = (time.monotonic(), error)
            raise
        known, now = self._known, time.monotonic()
        if known and known.token == token:
            # TempAuth gives the same token until it has ended, in whole seconds rounded down: to ask for a new one
            # sooner is in vain. Where this is too long by a moment, the token is refused, and renewed then.
            ahead, lasts = 0.0, max(1.0, lasts)
        else:
            ahead = min(_RENEW_AHEAD, lasts / 10)
        self._known = _Access(url, token, now + lasts - ahead, now + lasts)
        return self._known

    def _sign_in(self) -> tuple[str, str, float]:
        """Storage URL, token, and for how many seconds it is good (infinite where that is not told)."""
        try:
            if _auth_version(self._credentials) == "1":
                return _sign_in_v1(self._settings, self._credentials)
            return _sign_in_v3(self._settings, self._credentials)
        except ClientException as error:
            if error.http_status in (401, 403):
                raise StoreUnavailable("Swift does not take this user and password.") from error
            raise _translated(error) from error
        except (keystone.Unauthorized, keystone.NotFound) as error:  # the latter for an unknown application credential
            raise StoreUnavailable("Keystone does not take these credentials, or this project.") from error
        except (keystone.EndpointNotFound, keystone.EmptyCatalog) as error:
            raise StoreUnavailable(
                "The catalogue of the identity service has no object store for this region and interface."
            ) from error
        except keystone.HttpError as error:
            raise StoreUnavailable(f"The identity service answered with status {error.http_status}.") from error
        except keystone.ClientException as error:
            raise StoreUnavailable(f"The identity service cannot be used: {_reason(error)}.") from error
        except ValueError:  # a header that cannot be sent: the message would show the password
            raise StoreUnavailable("The credentials hold characters that cannot be sent.") from None
        except _BROKEN as error:
            raise _translated(error) from error


def _auth_version(credentials: Credentials) -> str:
    """``1`` or ``3``; the second version is no more, and Keystones that spoke it speak the third beside it."""
    if credentials.auth_version in ("1", "3"):
        return credentials.auth_version
    last = urlsplit(str(credentials.authurl)).path.rstrip("/").rpartition("/")[2]
    return "1" if last in ("v1.0", "v1", "auth") and credentials.auth_version is None else "3"


def _sign_in_v1(settings: PersistentStoreConfiguration, credentials: Credentials) -> tuple[str, str, float]:
    """Swift's own scheme: a GET with two headers (TempAuth)."""
    parsed, connection = swift.http_connection(
        str(credentials.authurl),
        cacert=credentials.cacert,
        insecure=credentials.insecure,
        timeout=(settings.connect_timeout, settings.timeout),
    )
    try:
        user, key = str(credentials.username), str(credentials.password)
        connection.request("GET", parsed.path, "", {"X-Auth-User": user, "X-Auth-Key": key})
        answer = connection.getresponse()
        body = answer.read()
        url, token = answer.getheader("x-storage-url"), answer.getheader("x-auth-token")
        if answer.status // 100 != 2:
            raise ClientException("signing in failed", http_status=answer.status, http_response_headers=answer.headers)
        if not url or not token:
            raise StoreUnavailable(f"What answers at the address of the store is no Swift ({len(body)} bytes of it).")
        lasts = answer.getheader("x-auth-token-expires") or ""
        return url, token, float(lasts) if lasts.isdigit() else math.inf
    finally:
        connection.close()


def _sign_in_v3(settings: PersistentStoreConfiguration, credentials: Credentials) -> tuple[str, str, float]:
    """Keystone, Identity API v3: by password or by application credential."""
    session = Session(
        auth=_v3_plugin(credentials),
        verify=False if credentials.insecure else (credentials.cacert or True),
        timeout=settings.timeout,
    )
    try:
        access = session.auth.get_access(session)  # type: ignore[union-attr]
        url = access.service_catalog.url_for(
            service_type="object-store", interface=credentials.interface, region_name=credentials.region
        )
        lasts = (access.expires - datetime.now(UTC)).total_seconds() if access.expires else math.inf
        return str(url), str(access.auth_token), max(0.0, lasts)
    finally:
        session.session.close()


def _v3_plugin(credentials: Credentials) -> Any:
    address = _v3_address(str(credentials.authurl))
    if credentials.application_credential_id:
        return v3.ApplicationCredential(
            auth_url=address,
            application_credential_id=credentials.application_credential_id,
            application_credential_secret=str(credentials.application_credential_secret),
        )
    given: dict[str, Any] = {"username": credentials.username, "password": credentials.password}
    given |= _domain("user", credentials.user_domain_id, credentials.user_domain_name)
    if credentials.tenant_id:
        given["project_id"] = credentials.tenant_id
    else:
        given["project_name"] = credentials.tenant
        given |= _domain("project", credentials.project_domain_id, credentials.project_domain_name)
    return v3.Password(auth_url=address, **given)


def _domain(whose: str, by_id: str | None, name: str | None) -> dict[str, str]:
    """Where nothing is said of it, it is the one that every Keystone has."""
    return {f"{whose}_domain_name": name} if name and not by_id else {f"{whose}_domain_id": by_id or "default"}


def _v3_address(authurl: str) -> str:
    """Where the third version is, also for an address without a version or with the second one."""
    base = authurl.rstrip("/")
    return base if base.endswith("/v3") else base.removesuffix("/v2.0") + "/v3"


# -- connections ---------------------------------------------------------------------


class ConnectionPool:
    """The connections to one account, shared by its containers.

    :param credentials: resolved: see :func:`resolve_credentials`
    """

    def __init__(self, settings: PersistentStoreConfiguration, credentials: Credentials) -> None:
        self.settings = settings
        self.credentials = credentials
        self._login = _Login(settings, credentials)
        self._slots = threading.Semaphore(settings.connections)
        #: the last one given back is the first one taken: the others' sockets may be closed by now
        self._idle: list[Any] = []

    def url(self) -> str:
        """The storage URL: of the account, without a ``/`` at its end."""
        return self._login.access().url.rstrip("/")

    def run(self, action: Callable[[Any], T], *, again: bool = True) -> T:
        """Makes a call.

        :param action: gets a connection of the library, signed in
        :param again: whether the call may be made twice when its connection breaks
        :raises StoreUnavailable: for everything but :class:`_Refusal`
        """
        with self.lease() as lease:
            return lease.run(action, again=again)

    def lease(self) -> Lease:
        """Takes a connection, which is given back when the lease is closed.

        :raises StoreUnavailable: when none is free in time
        """
        if not self._slots.acquire(timeout=deadline.left(self.settings.timeout)):
            raise StoreUnavailable("All connections to the store are in use.")
        try:
            connection = self._idle.pop()
        except IndexError:
            connection = self._connect()
        return Lease(connection, self._login, self._give)

    def _connect(self) -> Any:
        # It signs in by itself only when it knows how to; it is told a token before each call instead.
        return swift.Connection(
            retries=0,
            cacert=self.credentials.cacert,
            insecure=self.credentials.insecure,
            timeout=(self.settings.connect_timeout, self.settings.timeout),
        )

    def _give(self, connection: Any) -> None:
        self._idle.append(connection)
        self._slots.release()

    def close(self) -> None:
        """Closes the connections that are not in use; new ones are made when they are needed."""
        with contextlib.suppress(IndexError):
            while True:
                self._idle.pop().close()


class Lease:
    """One connection, for one thread at a time."""

    def __init__(self, connection: Any, login: _Login, give: Callable[[Any], None]) -> None:
        self._connection = connection
        self._login = login
        self._give: Callable[[Any], None] | None = give

    def run(self, action: Callable[[Any], T], *, again: bool = True) -> T:
        """Makes a call: with a new token where the old one is refused, on a new socket where the old one is dead.

        :raises _Refusal: for an answer that the caller has to judge
        """
        began = time.monotonic()
        access = self._login.access()
        renewed = False
        while True:
            self._use(access)
            try:
                with aside():
                    return action(self._connection)
            except ClientException as error:
                if error.http_status == 401 and not renewed:
                    renewed, access = True, self._login.access(refused=access.token)
                    continue
                raise _translated(error) from error
            except _BROKEN as error:
                self._connection.close()
                if again and time.monotonic() - began < _RETRY_WITHIN:
                    again = False
                    continue
                raise _translated(error) from error
            except ValueError as error:  # a listing that is no JSON
                self._connection.close()
                raise StoreUnavailable("What the store answered cannot be read.") from error

    def _use(self, access: _Access) -> None:
        if self._connection.url != access.url:
            self._connection.close()
        self._connection.url, self._connection.token = access.url, access.token

    def close(self, *, broken: bool = False) -> None:
        """Gives the connection back, once.

        :param broken: there may be bytes left on it that belong to nobody
        """
        give, self._give = self._give, None
        if give:
            if broken:
                self._connection.close()
            give(self._connection)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


# -- trouble -------------------------------------------------------------------------


class _Refusal(StoreUnavailable):
    """An answer that some calls expect; for all others it is trouble.

    :param status: of HTTP
    """

    def __init__(self, detail: str, status: int) -> None:
        super().__init__(detail)
        self.answered = status


_STATUSES = {
    401: "The store does not take the token that it gave.",
    403: "The user of the repository has no right to do this in the store.",
    404: "The store has no such container.",
    408: "The store waited too long for the bytes.",
    413: "The object is larger than the store allows.",
    422: "The bytes were damaged on their way to the store.",
    429: "The store asks for fewer requests.",
    498: "The store asks for fewer requests.",
    507: "The store is full.",
}


def _translated(error: Exception) -> StoreUnavailable:
    """What a person is told of an exception of the library; the exception itself is for the log."""
    status = getattr(error, "http_status", None)
    if not status:
        return StoreUnavailable(f"The store cannot be reached: {_reason(error)}.")
    headers: Mapping[str, str] = getattr(error, "http_response_headers", None) or {}
    if not _is_whole(headers):
        return StoreUnavailable("The answer of the store was cut off.")
    refusal = _Refusal(_STATUSES.get(status, f"The store answered with status {status}."), status)
    told = headers.get("Retry-After", "")
    if told.isascii() and told.isdigit():
        refusal.retry_after = min(int(told), 3600)
    return refusal


def _is_whole(headers: Mapping[str, str]) -> bool:
    """Whether a head of HTTP came to its end, which Python's library takes for one wherever it breaks off.

    Every server that has a clock sends a Date (RFC 9110, 6.6.1), and Swift sends it last.
    """
    return "date" in headers or "Date" in headers


def _reason(error: BaseException) -> str:
    """Why a connection failed, in words without addresses and headers."""
    seen: list[str] = []
    cause: BaseException | None = error
    while cause is not None and len(seen) < 10:
        seen.append(f"{type(cause).__name__} {cause}")
        inner = [part for part in cause.args if isinstance(part, BaseException)]
        cause = inner[0] if inner else (getattr(cause, "reason", None) or cause.__cause__ or cause.__context__)
        cause = cause if isinstance(cause, BaseException) else None
    text = " ".join(seen).lower()
    words = {
        "the name of its host is not known": ("nameresolution", "gaierror", "name or service not known"),
        "nobody listens at its address": ("refused",),
        "its certificate is not accepted": ("certificate",),
        "it does not answer in time": ("timeout", "timed out"),
        "it closed the connection": ("reset", "aborted", "broken pipe", "incompleteread", "remotedisconnected"),
        "there is no way to its network": ("unreachable",),
    }
    return next((said for said, signs in words.items() if any(sign in text for sign in signs)), "the connection failed")


def _like(error: StoreUnavailable) -> StoreUnavailable:
    """The same trouble for another thread, which needs a traceback of its own."""
    made = StoreUnavailable(error.detail)
    made.retry_after, made.__cause__ = error.retry_after, error.__cause__
    return made


# -- objects -------------------------------------------------------------------------


class SwiftBody:
    """An object on its way here. Every byte is checked before the last one is handed out."""

    def __init__(self, entry: Entry, response: Any, lease: Lease, timeout: float) -> None:
        self.entry = entry
        self._response = response
        self._lease = lease
        self._bound = timeout + entry.size * _SLOWEST
        self._md5 = None if "segmented" in entry.metadata else hashlib.md5(usedforsecurity=False)

    def __iter__(self) -> Iterator[bytes]:
        """The bytes in chunks.

        :raises StoreUnavailable: when the transfer breaks off, or crawls
        :raises OriginalDamaged: instead of the last chunk, when the digest does not fit
        """
        left, deadline = self.entry.size, time.monotonic() + self._bound
        if not left:
            self._finish()
        while left:
            chunk = self._read(min(CHUNK, left))
            left -= len(chunk)
            if not chunk or time.monotonic() > deadline:
                raise StoreUnavailable(f"The transfer of {self.entry.key!r} broke off.")
            if self._md5:
                self._md5.update(chunk)
            if not left:
                self._finish()
            yield chunk

    def _read(self, size: int) -> bytes:
        raw = self._response.raw
        try:
            # What one look at the socket gives: else a store that crawls could stretch each chunk without end.
            with aside():
                return bytes(getattr(raw, "read1", raw.read)(size))
        except _BROKEN as error:
            raise StoreUnavailable(f"The transfer of {self.entry.key!r} broke off: {_reason(error)}.") from error

    def _finish(self) -> None:
        if self._md5 and self._md5.hexdigest() != self.entry.etag:
            raise OriginalDamaged(f"The bytes of {self.entry.key!r} are not those that its entity tag names.")
        self._read(1)  # the library sees the end, so that the connection can be used again
        self._lease.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._lease.close(broken=True)


class SwiftStore:
    """One container.

    :param pool: the connections to its account
    :param container: its name
    :param page: how many names a listing asks for at a time
    """

    verifies = True

    def __init__(
        self, pool: ConnectionPool, settings: PersistentStoreConfiguration, container: str, *, page: int = _PAGE
    ) -> None:
        self._pool = pool
        self._settings = settings
        self._container = container
        self._page = min(page, _PAGE)
        self._links = _Links(pool, settings, container)
        credentials = pool.credentials
        where = urlsplit(str(credentials.authurl))
        self.description = f"Swift container {container!r} at {where.scheme}://{where.hostname}" + (
            f":{where.port}" if where.port else ""
        )
        self.identity = "|".join(("swift", str(credentials.authurl), _account(credentials), container))

    def check(self, *, create: bool = False) -> None:
        """Signs in and looks for the container, which is made where it is missing and ``create`` says so.

        :raises StoreUnavailable: with what is wrong, in words for the person at the command line
        """
        try:
            self._look_for_container(create)
        except StoreUnavailable as error:
            raise StoreUnavailable(f"{self.description}: {error.detail}") from error.__cause__

    def _look_for_container(self, create: bool) -> None:
        try:
            self._pool.run(lambda connection: connection.head_container(self._container))
        except _Refusal as error:
            if error.answered != 404:
                raise
            if not create:
                raise self._no_container() from error.__cause__
            self._pool.run(lambda connection: connection.put_container(self._container))
            log.info("%s was made", self.description)

    def _no_container(self) -> NoContainer:
        return NoContainer(f"There is no container {self._container!r}; create_new: true makes it.")

    # -- one object ------------------------------------------------------------------

    def head(self, key: str) -> Entry | None:
        """What is known of an object."""
        headers = _absent(lambda: self._pool.run(lambda connection: connection.head_object(self._container, key)))
        return None if headers is None else _entry(key, headers)

    def get(self, key: str) -> SwiftBody | None:
        """Opens an object for reading."""
        lease = self._pool.lease()
        try:
            found = _absent(
                lambda: lease.run(lambda connection: connection.get_object(self._container, key, resp_chunk_size=CHUNK))
            )
            if found is None:
                lease.close()
                return None
            headers, body = found
            return SwiftBody(_entry(key, headers), body.resp, lease, self._settings.timeout)
        except BaseException:
            lease.close(broken=True)
            raise

    def put(
        self,
        key: str,
        data: bytes | BinaryIO,
        *,
        media_type: str,
        metadata: Mapping[str, str] | None = None,
        expires: float | None = None,
        overwrite: bool = True,
    ) -> Entry:
        """Stores an object whole; Swift answers when it is on its disks.

        :returns: its entry, whose ``modified`` is told in whole seconds here, rounded up
        :raises PreconditionFailed: when there is one already and ``overwrite`` is False
        """
        upload = _Upload.of(io.BytesIO(data) if isinstance(data, bytes) else data)
        headers = {_META + name: quote(value, safe=" ") for name, value in (metadata or {}).items()}
        if expires is not None:
            headers["X-Delete-At"] = str(_delete_at(expires))
        if not overwrite:
            headers["If-None-Match"] = "*"
        try:
            # Sent twice, "not if there is one" would find what it has written itself.
            answer = self._pool.run(self._sender(key, upload, media_type, headers), again=overwrite)
        except _Refusal as error:
            if error.answered == 412 and not overwrite:
                raise PreconditionFailed(f"There is an object {key!r} already.") from error
            raise (self._no_container() if error.answered == 404 else error) from error.__cause__
        if answer.get("etag", "").strip('"') != upload.md5:
            raise StoreUnavailable(f"The store has other bytes for {key!r} than it was sent.")
        modified = _date(answer["last-modified"]) if "last-modified" in answer else time.time()
        kept = float(headers["X-Delete-At"]) if expires is not None else None
        return Entry(key, upload.size, upload.md5, modified, media_type, dict(metadata or {}), kept)

    def _sender(
        self, key: str, upload: _Upload, media_type: str, headers: Mapping[str, str]
    ) -> Callable[[Any], Mapping[str, str]]:
        attempts = iter(range(1 << 30))

        def send(connection: Any) -> Mapping[str, str]:
            if next(attempts):
                # Swift may refuse a token and close while we still send: then only this tells why.
                connection.head_container(self._container)
            upload.file.seek(upload.start)
            answer: dict[str, Any] = {}
            connection.put_object(
                self._container,
                key,
                upload.file,
                content_length=upload.size,
                etag=upload.md5,
                content_type=media_type,
                headers=dict(headers),
                response_dict=answer,
            )
            told: Mapping[str, str] = answer["headers"]
            return told

        return send

    def together(self) -> contextlib.AbstractContextManager[None]:
        """Swift has each object safe when it says so."""
        return contextlib.nullcontext()

    def delete(self, key: str) -> bool:
        """Removes an object. False when there was none."""
        return (
            _absent(lambda: self._pool.run(lambda connection: (connection.delete_object(self._container, key),)))
            is not None
        )

    # -- listing ---------------------------------------------------------------------

    def keys(self, prefix: str = "", *, after: str = "", before: str = "") -> Iterator[Entry]:
        """The objects whose key begins with ``prefix``, by code points of the key, a page at a time.

        :param after: only keys behind this one
        :param before: only keys ahead of this one
        """
        while True:
            page = self._list(prefix, after, before)
            yield from map(_listed, page)
            if len(page) < self._page:
                return
            after = page[-1]["name"]

    def called(self, names: Collection[str], endings: Collection[str]) -> list[Entry]:
        """The objects that are called like one of these names, with one of these endings in any case.

        :param endings: in lower case, with their dot; empty text for the name itself
        """
        return lookup.called(self.keys, names, endings)

    def _list(self, prefix: str, after: str, before: str) -> list[dict[str, Any]]:
        def ask(connection: Any) -> list[dict[str, Any]]:
            found: list[dict[str, Any]] = connection.get_container(
                self._container, marker=after, end_marker=before, prefix=prefix, limit=self._page
            )[1]
            return found

        try:
            return self._pool.run(ask)
        except _Refusal as error:
            raise (self._no_container() if error.answered == 404 else error) from error.__cause__

    # -- temporary URLs --------------------------------------------------------------

    def link_base(self) -> LinkBase:
        """What to sign temporary URLs with: the configured key, else the container's own, else the account's.

        :raises LinksNotConfigured: when there is none, or Swift has no temporary URLs
        """
        return self._links.base()

    def link_secrets(self) -> tuple[str, ...]:
        """The keys that temporary URLs are verified with, at most two."""
        return self._links.secrets()

    def set_link_key(self, secret: str, *, second: bool = False) -> None:
        """Sets a key of temporary URLs on the container.

        :param second: as the one that is only verified with
        :raises LinksNotConfigured: for a key that can be guessed
        """
        if secret in KNOWN_KEYS or len(secret) < SHORTEST_KEY:
            raise LinksNotConfigured(f"Expected a key of at least {SHORTEST_KEY} characters that nobody knows.")
        header = f"X-Container-Meta-{_KEY_HEADERS[second]}"
        try:
            self._pool.run(lambda connection: connection.post_container(self._container, {header: secret}))
        except _Refusal as error:
            raise (self._no_container() if error.answered == 404 else error) from error.__cause__
        self._links.forget()

    def close(self) -> None:
        """Gives connections back: those of the whole account."""
        self._pool.close()


@dataclass(frozen=True)
class _Upload:
    """Bytes to be sent, as often as it takes."""

    file: BinaryIO
    start: int
    size: int
    md5: str

    @classmethod
    def of(cls, file: BinaryIO) -> _Upload:
        """Reads the file once, from its present position, for its size and digest."""
        start, size = file.tell(), 0
        made = hashlib.md5(usedforsecurity=False)
        while chunk := file.read(CHUNK):
            made.update(chunk)
            size += len(chunk)
        return cls(file, start, size, made.hexdigest())


def _absent(call: Callable[[], T]) -> T | None:
    """What the call gives; None where the store says that there is no such thing."""
    try:
        return call()
    except _Refusal as error:
        if error.answered == 404:
            return None
        raise


def _entry(key: str, headers: Mapping[str, str]) -> Entry:
    """What the headers of an object tell. The library has undone the percent-encoding of their values."""
    if not _is_whole(headers):
        raise StoreUnavailable(f"What the store tells of {key!r} was cut off.")
    metadata = {name[len(_META) :]: value for name, value in headers.items() if name.startswith(_META)}
    # The entity tag of an object in segments is made of theirs: no MD5 of its bytes.
    if headers.get("x-static-large-object", "").lower() == "true" or "x-object-manifest" in headers:
        metadata["segmented"] = "true"
    try:
        return Entry(
            key,
            int(headers["content-length"]),
            headers["etag"].strip('"'),
            _modified(headers),
            headers.get("content-type", "application/octet-stream"),
            metadata,
            float(headers["x-delete-at"]) if "x-delete-at" in headers else None,
        )
    except (KeyError, ValueError) as error:
        raise StoreUnavailable(f"What the store tells of {key!r} has no size, entity tag or date.") from error


def _modified(headers: Mapping[str, str]) -> float:
    """The same time that the listing gives: ``Last-Modified`` is rounded up to whole seconds."""
    return float(headers["x-timestamp"]) if "x-timestamp" in headers else _date(headers["last-modified"])


def _date(text: str) -> float:
    """A date of HTTP in seconds since the epoch."""
    return email.utils.parsedate_to_datetime(text).timestamp()


def _listed(item: Mapping[str, Any]) -> Entry:
    """An object of a listing, where the entity tag of one in segments stands apart."""
    modified = datetime.fromisoformat(item["last_modified"]).replace(tzinfo=UTC).timestamp()
    etag = (item.get("slo_etag") or item["hash"]).strip('"')
    return Entry(item["name"], int(item["bytes"]), etag, modified, item["content_type"])


def _delete_at(expires: float) -> int:
    """Whole seconds; Swift refuses the past, and its clock may not be ours."""
    return max(math.ceil(expires), int(time.time()) + 60)


def _account(credentials: Credentials) -> str:
    """Whose containers they are, as far as the configuration tells without signing in."""
    if _auth_version(credentials) == "1":
        who = str(credentials.username).partition(":")[0]
    elif credentials.tenant_id or credentials.tenant:
        domain = credentials.project_domain_id or credentials.project_domain_name or "default"
        who = credentials.tenant_id or f"{domain}/{credentials.tenant}"
    else:
        who = str(credentials.application_credential_id)
    return f"{who}@{credentials.region or ''}"


# -- keys of temporary URLs ----------------------------------------------------------


class _Links:
    """What temporary URLs of a container are signed with, asked for now and then."""

    def __init__(self, pool: ConnectionPool, settings: PersistentStoreConfiguration, container: str) -> None:
        self._pool = pool
        self._settings = settings
        self._container = container
        self._lock = threading.Lock()
        self._keys: tuple[str, ...] = ()
        self._asked = -math.inf
        self._digest: str | None = None

    def base(self) -> LinkBase:
        secrets = self.secrets()
        if not secrets:
            raise LinksNotConfigured(
                f"The container {self._container!r} has no key for temporary URLs: "
                "`image_repo link-key` makes one, or give its key as url_key."
            )
        if self._digest is None:
            self._digest = _best_digest(self._pool)
        storage = urlsplit(self._pool.url())
        endpoint = self._settings.public_endpoint or f"{storage.scheme}://{storage.netloc}"
        return LinkBase(endpoint.rstrip("/"), f"{unquote(storage.path)}/{self._container}/", secrets[0], self._digest)

    def secrets(self) -> tuple[str, ...]:
        given = tuple(str(key) for key in (self._settings.url_key, self._settings.url_key_2) if key)
        if given:
            return given
        with self._lock:
            if time.monotonic() - self._asked < _KEYS_FRESH:
                return self._keys
            known = self._keys
        try:
            known = self._ask()
        except StoreUnavailable:
            if not known:
                raise
            log.warning("the key of temporary URLs could not be read again; the last known one is used")
        with self._lock:
            # That there is none is not remembered: a person is about to set one.
            self._keys, self._asked = known, time.monotonic() if known else -math.inf
        return known

    def forget(self) -> None:
        with self._lock:
            self._keys, self._asked = (), -math.inf

    def _ask(self) -> tuple[str, ...]:
        headers = _absent(lambda: self._pool.run(lambda connection: connection.head_container(self._container)))
        found = _keys_in(headers, "container") if headers else ()
        return found or _keys_in(self._pool.run(lambda connection: connection.head_account()), "account")


def _keys_in(headers: Mapping[str, str], kind: str) -> tuple[str, ...]:
    if not _is_whole(headers):
        raise StoreUnavailable("What the store tells of its keys was cut off.")
    found = (headers.get(f"x-{kind}-meta-{name}", "") for name in _KEY_HEADERS)
    return tuple(key for key in found if key)


def _best_digest(pool: ConnectionPool) -> str:
    """The best digest that this Swift verifies, as ``/info`` tells.

    :raises LinksNotConfigured: when it has no temporary URLs, or only digests that we do not make
    """
    try:
        told: Mapping[str, Any] = pool.run(lambda connection: connection.get_capabilities())
    except _Refusal as error:
        if error.answered not in (401, 403, 404):
            raise
        return DIGESTS[0]  # a Swift that tells nothing of itself
    if "tempurl" not in told:
        raise LinksNotConfigured("This Swift has no temporary URLs (its middleware tempurl is off).")
    # Before it could be chosen it was SHA-1.
    allowed = told["tempurl"].get("allowed_digests", ["sha1"])
    best = next((digest for digest in DIGESTS if digest in allowed), None)
    if best is None:
        raise LinksNotConfigured(f"This Swift verifies only digests that are not made here: {', '.join(allowed)}.")
    return best
