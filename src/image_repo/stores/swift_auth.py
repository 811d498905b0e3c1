"""Signing in to Swift: TempAuth (v1) and Keystone (v3), once for all threads of a process."""

from __future__ import annotations

import logging
import math
import threading
import time
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

from keystoneauth1 import exceptions as keystone
from keystoneauth1.identity import v3
from keystoneauth1.session import Session
from swiftclient import client as swift  # type: ignore[import-untyped]
from swiftclient.exceptions import ClientException  # type: ignore[import-untyped]

from image_repo.concurrency import deadline
from image_repo.config import Credentials, PersistentStoreConfiguration
from image_repo.errors import StoreUnavailable
from image_repo.stores.http_errors import BROKEN, reason_of
from image_repo.stores.swift_errors import copy_of, translated

log = logging.getLogger(__name__)

#: a token is renewed this long before its end, or a tenth of its life where that is less
_RENEW_AHEAD_S = 60.0


@dataclass(frozen=True, slots=True)
class Token:
    """A token, and where to use it.

    :param renew: seconds of the monotonic clock after which a new token is asked for ahead of need
    :param ends: and after which this one is not good any more
    """

    url: str
    token: str = field(repr=False)
    renew: float
    ends: float


class Login:
    """Signs in, once for all threads."""

    def __init__(self, settings: PersistentStoreConfiguration, credentials: Credentials) -> None:
        self._settings = settings
        self._credentials = credentials
        self._lock = threading.Lock()
        self._known: Token | None = None
        self._failure: tuple[float, StoreUnavailable] | None = None

    def access(self, refused: str | None = None) -> Token:
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
            # Threads that waited while it failed share the outcome, instead of a queue of logins.
            if self._failure and self._failure[0] > now:
                raise copy_of(self._failure[1])
            return self._renew()
        finally:
            self._lock.release()

    def _ahead(self, known: Token) -> Token:
        """Renew a token that is still good; other threads go on with it, and so does this one when that fails."""
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

    def _renew(self) -> Token:
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
            ahead = min(_RENEW_AHEAD_S, lasts / 10)
        self._known = Token(url, token, now + lasts - ahead, now + lasts)
        return self._known

    def _sign_in(self) -> tuple[str, str, float]:
        """Storage URL, token, and for how many seconds it is good (infinite where that is unknown)."""
        try:
            if auth_version(self._credentials) == "1":
                return _sign_in_v1(self._settings, self._credentials)
            return _sign_in_v3(self._settings, self._credentials)
        except ClientException as error:
            if error.http_status in (401, 403):
                raise StoreUnavailable("Swift does not take this user and password.") from error
            raise translated(error) from error
        except (keystone.Unauthorized, keystone.NotFound) as error:  # the latter for an unknown application credential
            raise StoreUnavailable("Keystone does not take these credentials, or this project.") from error
        except (keystone.EndpointNotFound, keystone.EmptyCatalog) as error:
            raise StoreUnavailable(
                "The catalogue of the identity service has no object store for this region and interface."
            ) from error
        except keystone.HttpError as error:
            raise StoreUnavailable(f"The identity service answered with status {error.http_status}.") from error
        except keystone.ClientException as error:
            raise StoreUnavailable(f"The identity service cannot be used: {reason_of(error)}.") from error
        except ValueError:  # a header that cannot be sent: the message would show the password
            raise StoreUnavailable("The credentials hold characters that cannot be sent.") from None
        except BROKEN as error:
            raise translated(error) from error


def auth_version(credentials: Credentials) -> str:
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
    """Return the domain; by default the one that every Keystone has."""
    return {f"{whose}_domain_name": name} if name and not by_id else {f"{whose}_domain_id": by_id or "default"}


def _v3_address(authurl: str) -> str:
    """Return the address of the third version, also for one without a version or with the second."""
    base = authurl.rstrip("/")
    return base if base.endswith("/v3") else base.removesuffix("/v2.0") + "/v3"
