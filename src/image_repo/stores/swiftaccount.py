"""An account of OpenStack Swift: who we are, a token that is renewed before it ends, and a bounded pool of connections.

Every call goes through :meth:`SwiftAccount.call`, the one place where foreign exceptions
become ours. The client library's own ``Connection`` is not used: it is not safe to share between
threads while a body streams, and it sleeps a second before it renews a token.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from typing import Any, TypeVar
from urllib.parse import urlsplit

from keystoneauth1 import exceptions as identity_errors
from keystoneauth1 import session as identity_session
from keystoneauth1.identity import v3
from requests import RequestException
from swiftclient import authv1, client
from swiftclient.exceptions import ClientException
from urllib3.exceptions import HTTPError

from image_repo.config import Credentials
from image_repo.errors import PreconditionFailed, StoreUnavailable

log = logging.getLogger(__name__)
T = TypeVar("T")

#: a setting → the variables of the environment that fill it, the first that is set
_VARIABLES: dict[str, tuple[str, ...]] = {
    "authurl": ("OS_AUTH_URL", "ST_AUTH"),
    "auth_version": ("OS_IDENTITY_API_VERSION", "OS_AUTH_VERSION", "ST_AUTH_VERSION"),
    "username": ("OS_USERNAME", "ST_USER"),
    "password": ("OS_PASSWORD", "ST_KEY"),
    "tenant": ("OS_PROJECT_NAME", "OS_TENANT_NAME"),
    "tenant_id": ("OS_PROJECT_ID", "OS_TENANT_ID"),
    "user_domain_name": ("OS_USER_DOMAIN_NAME",),
    "user_domain_id": ("OS_USER_DOMAIN_ID",),
    "project_domain_name": ("OS_PROJECT_DOMAIN_NAME",),
    "project_domain_id": ("OS_PROJECT_DOMAIN_ID",),
    "region": ("OS_REGION_NAME",),
    "application_credential_id": ("OS_APPLICATION_CREDENTIAL_ID",),
    "application_credential_secret": ("OS_APPLICATION_CREDENTIAL_SECRET",),
    "interface": ("OS_INTERFACE", "OS_ENDPOINT_TYPE"),
    "cacert": ("OS_CACERT",),
}
#: what trouble with the wire looks like, whichever library meets it
WIRE_TROUBLE = (RequestException, HTTPError, OSError)


def resolve_credentials(credentials: Credentials, environ: Mapping[str, str]) -> Credentials:
    """Fills what the configuration leaves open from the usual ``OS_*``, else ``ST_*``."""
    default = Credentials()
    found: dict[str, Any] = {}
    for name, variables in _VARIABLES.items():
        value = next((environ[variable] for variable in variables if environ.get(variable)), None)
        if value is not None and getattr(credentials, name) == getattr(default, name):
            found[name] = value
    if "interface" in found:
        found["interface"] = found["interface"].removesuffix("URL")
    if "auth_version" in found:
        found["auth_version"] = found["auth_version"].removeprefix("v").partition(".")[0]
    return replace(credentials, **found)


def have_credentials(credentials: Credentials) -> bool:
    """Whether there is enough to try Swift with."""
    known = {field.name for field in fields(credentials) if getattr(credentials, field.name)}
    by_password = {"username", "password"} <= known
    return "authurl" in known and (by_password or "application_credential_id" in known)


def _plugin(credentials: Credentials) -> Any:
    """How we prove who we are: auth v1, or Keystone v3 by password or application credential."""
    url = str(credentials.authurl).rstrip("/")
    text = {f.name: str(v) for f in fields(credentials) if (v := getattr(credentials, f.name)) is not None}
    if credentials.auth_version == "1" or (credentials.auth_version is None and "/v1" in urlsplit(url).path):
        return authv1.PasswordPlugin(auth_url=url, username=text["username"], password=text["password"])
    url = _version_3(url)
    if "application_credential_id" in text:
        return v3.ApplicationCredential(
            auth_url=url,
            application_credential_id=text["application_credential_id"],
            application_credential_secret=text.get("application_credential_secret"),
        )
    own = "user_domain_name" in text or "user_domain_id" in text
    project = "project_domain_name" in text or "project_domain_id" in text
    return v3.Password(
        auth_url=url,
        username=text.get("username"),
        password=text.get("password"),
        project_name=text.get("tenant"),
        project_id=text.get("tenant_id"),
        user_domain_name=text.get("user_domain_name"),
        # a cloud without domains of its own has this one, and the first image_repo knew of none
        user_domain_id=text.get("user_domain_id") or (None if own else "default"),
        project_domain_name=text.get("project_domain_name"),
        project_domain_id=text.get("project_domain_id") or (None if project else "default"),
    )


def _version_3(url: str) -> str:
    """The identity service at version 3: 2.0, which the first image_repo spoke, is gone everywhere."""
    stem, _, last = url.rpartition("/")
    if last.startswith("v2"):
        log.info("identity version 2 is gone; %s/v3 is asked instead of %s", stem, url)
        return f"{stem}/v3"
    return url if last == "v3" else f"{url}/v3"


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds that a call may wait: for a connection, for a quick answer, and for each piece of a transfer."""

    connect: float
    quick: float
    transfer: float


class Lease:
    """A connection that is ours until it is given back.

    :param http: what the client library calls ``http_conn``
    """

    def __init__(self, url: str, http: Any, *, fresh: bool) -> None:
        self.url = url
        self.http = http
        self.fresh = fresh

    def wait(self, connect: float, read: float) -> None:
        """Sets how long the next call may wait."""
        self.http[1].requests_args["timeout"] = (connect, read)


class SwiftAccount:
    """Calls to one account, from any thread.

    :param connections: the most at a time; a caller who finds none free waits for as long as a call may take
    """

    def __init__(self, credentials: Credentials, *, connections: int, timeouts: Timeouts) -> None:
        self.timeouts = timeouts
        self.place = f"{credentials.authurl}"
        self.identity = f"{credentials.authurl}|{credentials.tenant_id or credentials.tenant or credentials.username}"
        self._credentials = credentials
        self._free = threading.BoundedSemaphore(connections)
        self._idle: list[Lease] = []
        self._lock = threading.Lock()
        verify: bool | str = not credentials.insecure and (str(credentials.cacert) if credentials.cacert else True)
        self._session = identity_session.Session(
            auth=_plugin(credentials), verify=verify, timeout=timeouts.transfer, connect_retries=0
        )

    def call(self, function: Callable[..., T], *args: Any, quick: bool = False, **named: Any) -> T:
        """Makes one call of the client library, with a token that is good.

        :param function: of :mod:`swiftclient.client`; takes the storage URL and a token first
        :param quick: whether the answer is small: then it must come soon
        :raises ClientException: for what the store answered: the caller knows what it means
        :raises StoreUnavailable: for everything else
        """
        with self.lease() as lease:
            return self.on(lease, function, *args, quick=quick, **named)

    def on(self, lease: Lease, function: Callable[..., T], *args: Any, quick: bool = False, **named: Any) -> T:
        """The same on a connection that is held already."""
        lease.wait(self.timeouts.connect, self.timeouts.quick if quick else self.timeouts.transfer)
        for attempt in ("first", "second"):
            token = self._token()
            try:
                return function(lease.url, token, *args, http_conn=lease.http, **named)
            except ClientException as error:
                if error.http_status != 401 or attempt == "second":
                    raise
                self._renew(token)
            except WIRE_TROUBLE as error:
                # A connection that lay idle may have been closed by the other side: that says nothing of it.
                if lease.fresh or attempt == "second":
                    raise StoreUnavailable("The store does not answer.") from error
                lease.http[1].close()
            self._rewind(named.get("contents"))
        raise StoreUnavailable("The store does not answer.")

    @staticmethod
    def _rewind(contents: object) -> None:
        if isinstance(contents, Rewindable):
            contents.rewind()

    def url(self) -> str:
        """The storage URL, from the catalogue.

        :raises StoreUnavailable: when it cannot be had, in words for a person
        """
        with self._identity_errors():
            found = self._session.get_endpoint(
                service_type="object-store",
                interface=self._credentials.interface,
                region_name=self._credentials.region and str(self._credentials.region),
            )
        if not found:
            raise StoreUnavailable("The identity service names no object store; is the region right?")
        return str(found).rstrip("/")

    def _token(self) -> str:
        """A token; the library renews it half a minute before it ends, once for all threads."""
        with self._identity_errors():
            return str(self._session.get_token())

    def _renew(self, refused: str) -> None:
        with self._lock:
            if self._token() == refused:  # else another thread was here before us
                self._session.invalidate()

    @contextmanager
    def _identity_errors(self) -> Iterator[None]:
        try:
            yield
        except (identity_errors.Unauthorized, identity_errors.AuthorizationFailure) as error:
            raise StoreUnavailable(f"The identity service at {self.place} refuses the user or password.") from error
        except identity_errors.MissingRequiredOptions as error:
            raise StoreUnavailable("The credentials are not complete.") from error
        except (identity_errors.ClientException, *WIRE_TROUBLE) as error:
            raise StoreUnavailable(f"The identity service at {self.place} does not answer as it should.") from error

    @contextmanager
    def lease(self) -> Iterator[Lease]:
        """A connection for as long as the block runs; after an error it is not used again."""
        lease = self.take()
        try:
            yield lease
        except ClientException:
            self.give(lease)
            raise
        except BaseException:
            self.drop(lease)
            raise
        self.give(lease)

    def take(self) -> Lease:
        """A connection to be given back, or dropped.

        :raises StoreUnavailable: when all are in use for too long
        """
        url = self.url()
        if not self._free.acquire(timeout=self.timeouts.transfer):
            raise StoreUnavailable("All connections to the store are in use.")
        with self._lock:
            lease = self._idle.pop() if self._idle else None
        if lease and lease.url == url:
            lease.fresh = False
            return lease
        try:
            return Lease(url, self.connection(url), fresh=True)
        except BaseException:
            self._free.release()
            raise

    def give(self, lease: Lease) -> None:
        """Gives a connection back."""
        with self._lock:
            self._idle.append(lease)
        self._free.release()

    def drop(self, lease: Lease) -> None:
        """Gives back one whose state is not known: it is closed."""
        lease.http[1].close()
        self._free.release()

    def connection(self, url: str) -> Any:
        """A connection of the client library, as it wants it."""
        cacert = self._credentials.cacert and str(self._credentials.cacert)
        return client.http_connection(url, cacert=cacert, insecure=self._credentials.insecure)

    def close(self) -> None:
        """Closes what lies idle."""
        with self._lock:
            idle, self._idle = self._idle, []
        for lease in idle:
            lease.http[1].close()


class Rewindable:
    """A file from its present position on, which a second attempt begins anew."""

    def __init__(self, file: Any) -> None:
        self._file = file
        self._first = file.tell()

    def read(self, size: int = -1) -> bytes:
        """As of a file."""
        return bytes(self._file.read(size))

    def rewind(self) -> None:
        """Back to where it began."""
        self._file.seek(self._first)


def unavailable(error: ClientException, what: str) -> Exception:
    """What the store's refusal means to us.

    :param what: ``read a/b.jpg``; for the log
    """
    status = error.http_status
    if status == 412:
        return PreconditionFailed("There is an object of this name already.")
    log.warning("Swift answered %s when we tried to %s", status, what)
    told = {
        401: "The store refuses our token.",
        403: "The store does not allow that.",
        404: "The container does not exist; create_new: true makes it.",
        413: "The store takes no object of this size.",
        422: "The bytes were damaged on their way to the store.",
        429: "The store has too much to do.",
        507: "The store is full.",
    }
    return StoreUnavailable(told.get(status, f"The store answered {status}."))
