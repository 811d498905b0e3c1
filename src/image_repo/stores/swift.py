"""Containers of OpenStack Swift."""

from __future__ import annotations

import contextlib
import email.utils
import logging
import math
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, BinaryIO
from urllib.parse import quote, urlsplit

from image_repo.config import PersistentStoreConfiguration
from image_repo.config.rules import KNOWN_KEYS, MIN_KEY_CHARS
from image_repo.errors import LinksNotConfigured, PreconditionFailed, StoreUnavailable
from image_repo.stores import lookup, tempurl
from image_repo.stores.base import (
    CHUNK,
    OUTCOME_UNKNOWN,
    Capabilities,
    Entry,
    NoContainer,
    StoreSilent,
    is_reading_newest,
)
from image_repo.stores.http_body import HttpBody
from image_repo.stores.http_errors import Refusal, absent, is_whole
from image_repo.stores.swift_link_keys import KEY_HEADERS, LinkKeys
from image_repo.stores.swift_pool import ConnectionPool
from image_repo.stores.upload import Upload

log = logging.getLogger(__name__)

#: the most names of one page of a listing that Swift gives
_PAGE = 10_000
_META = "x-object-meta-"


class SwiftStore:
    """A :class:`~image_repo.stores.base.Store` in one container.

    :param pool: the connections to its account
    :param container: its name
    :param page: names of one page of a listing
    :param silence: seconds without an answer after which reading an object fails; as configured where None
    """

    capabilities = Capabilities(verifies_digests=True)

    def __init__(
        self,
        pool: ConnectionPool,
        settings: PersistentStoreConfiguration,
        container: str,
        *,
        page: int = _PAGE,
        silence: float | None = None,
    ) -> None:
        self._silence = silence
        self._pool = pool
        self._settings = settings
        self._container = container
        self._page = min(page, _PAGE)
        self._links = LinkKeys(pool, settings, container)
        credentials = pool.credentials
        where = urlsplit(str(credentials.authurl))
        self.description = f"Swift container {container!r} at {where.scheme}://{where.hostname}" + (
            f":{where.port}" if where.port else ""
        )

    @property
    def identity(self) -> str:
        """The account as Swift itself spells it once signed in, and the container."""
        return f"swift|{self._pool.account()}|{self._container}"

    def check(self, *, create: bool = False) -> None:
        """Sign in and look for the container; make it where it is missing and ``create`` says so.

        :raises StoreUnavailable: with what is wrong, in words for the person at the command line
        """
        try:
            self._look_for_container(create)
        except StoreUnavailable as error:
            raise StoreUnavailable(f"{self.description}: {error.detail}") from error.__cause__

    def _look_for_container(self, create: bool) -> None:
        try:
            self._pool.run(lambda connection: connection.head_container(self._container))
        except Refusal as error:
            if error.http_status != 404:
                raise
            if not create:
                raise self._no_container() from error.__cause__
            self._pool.run(lambda connection: connection.put_container(self._container))
            log.info("%s was made", self.description)

    def _no_container(self) -> NoContainer:
        return NoContainer(f"There is no container {self._container!r}; create_new: true makes it.")

    # -- one object ------------------------------------------------------------------

    def head(self, key: str) -> Entry | None:
        headers = absent(
            lambda: self._pool.run(
                lambda connection: connection.head_object(self._container, key, headers=_read_headers()),
                silence=self._silence,
            )
        )
        return None if headers is None else _entry(key, headers)

    def get(self, key: str) -> HttpBody | None:
        lease = self._pool.lease(self._silence)
        try:
            answer = absent(
                lambda: lease.run(
                    lambda connection: connection.get_object(
                        self._container, key, resp_chunk_size=CHUNK, headers=_read_headers()
                    )
                )
            )
            if answer is None:
                lease.close()
                return None
            headers, body = answer
            entry = _entry(key, headers)
            md5 = None if "segmented" in entry.metadata else entry.etag
            end = lambda has_rest: lease.close(broken=has_rest)  # noqa: E731
            return HttpBody(entry, md5, body.resp.raw, end, self._settings.timeout)
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
        """Store an object whole; Swift answers when it is on its disks.

        :returns: its entry, whose ``modified`` is in whole seconds here, rounded up
        :raises PreconditionFailed: when there is one already and ``overwrite`` is False
        """
        upload = Upload.of(data)
        headers = {_META + name: quote(value, safe=" ") for name, value in (metadata or {}).items()}
        if expires is not None:
            headers["X-Delete-At"] = str(_delete_at(expires))
        if not overwrite:
            headers["If-None-Match"] = "*"
        try:
            # Sent twice, "not if there is one" would find what it has written itself.
            answer = self._pool.run(self._sender(key, upload, media_type, headers), again=overwrite)
        except Refusal as error:
            if error.http_status == 412 and not overwrite:
                raise PreconditionFailed(f"There is an object {key!r} already.") from error
            raise (self._no_container() if error.http_status == 404 else error) from error.__cause__
        except StoreSilent as error:
            raise StoreSilent(OUTCOME_UNKNOWN) from error.__cause__
        if answer.get("etag", "").strip('"') != upload.md5:
            raise StoreUnavailable(f"The store has other bytes for {key!r} than it was sent.")
        modified = _date(answer["last-modified"]) if "last-modified" in answer else time.time()
        expiry = float(headers["X-Delete-At"]) if expires is not None else None
        return Entry(key, upload.size, upload.md5, modified, media_type, dict(metadata or {}), expiry)

    def _sender(
        self, key: str, upload: Upload, media_type: str, headers: Mapping[str, str]
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
            response_headers: Mapping[str, str] = answer["headers"]
            return response_headers

        return send

    def restore_etag(self, key: str, present: str, former: str) -> bool:
        """Do nothing: the entity tag follows from the bytes."""
        return False

    def batch(self) -> contextlib.AbstractContextManager[None]:
        """Do nothing: Swift has each object safe when it says so."""
        return contextlib.nullcontext()

    def delete(self, key: str) -> bool:
        return (
            absent(lambda: self._pool.run(lambda connection: (connection.delete_object(self._container, key),)))
            is not None
        )

    # -- listing ---------------------------------------------------------------------

    def keys(self, prefix: str = "", *, after: str = "", before: str = "") -> Iterator[Entry]:
        while True:
            page = self._list(prefix, after, before)
            yield from map(_listed, page)
            if len(page) < self._page:
                return
            after = page[-1]["name"]

    def find(self, names: Collection[str], endings: Collection[str]) -> list[Entry]:
        return lookup.find(self.keys, names, endings)

    def _list(self, prefix: str, after: str, before: str) -> list[dict[str, Any]]:
        def ask(connection: Any) -> list[dict[str, Any]]:
            page: list[dict[str, Any]] = connection.get_container(
                self._container,
                marker=after,
                end_marker=before,
                prefix=prefix,
                limit=self._page,
                headers=_read_headers(),
            )[1]
            return page

        try:
            return self._pool.run(ask)
        except Refusal as error:
            raise (self._no_container() if error.http_status == 404 else error) from error.__cause__

    # -- temporary URLs --------------------------------------------------------------

    def passed_over(self) -> list[str]:
        """Return nothing: a listing that fails is an error here."""
        return []

    def presign(self, key: str, expires: int, filename: str) -> str:
        return tempurl.temporary_url(self.link_base(), key, expires, filename)

    def verify_presigned(self, key: str, signature: str, expires: str) -> None:
        tempurl.verify(self.link_secrets(), self.link_base().path + key, signature, expires, time.time())

    def link_base(self) -> tempurl.LinkBase:
        """Return what to sign temporary URLs with: the configured key, else the container's, else the account's.

        :raises LinksNotConfigured: when there is none, or Swift has no temporary URLs
        """
        return self._links.base()

    def link_secrets(self) -> tuple[str, ...]:
        """Return the keys that temporary URLs are verified with, at most two."""
        return self._links.secrets()

    def stored_link_keys(self) -> tuple[str, ...]:
        """Return the two keys of the container, empty for none, and those of the account where it shows them."""
        return self._links.stored()

    def set_link_key(self, secret: str, *, second: bool = False) -> None:
        """Set a key of temporary URLs on the container.

        :param second: as the one that is only verified with
        :raises LinksNotConfigured: for a key that can be guessed
        """
        if secret in KNOWN_KEYS or len(secret) < MIN_KEY_CHARS:
            raise LinksNotConfigured(f"Expected a key of at least {MIN_KEY_CHARS} characters that nobody knows.")
        header = f"X-Container-Meta-{KEY_HEADERS[second]}"
        try:
            self._pool.run(lambda connection: connection.post_container(self._container, {header: secret}))
        except Refusal as error:
            raise (self._no_container() if error.http_status == 404 else error) from error.__cause__
        self._links.forget()

    def close(self) -> None:
        self._pool.close()


def _read_headers() -> dict[str, str]:
    """Return the headers of a read (Swift API: ``X-Newest`` asks all replicas)."""
    return {"X-Newest": "true"} if is_reading_newest() else {}


def _entry(key: str, headers: Mapping[str, str]) -> Entry:
    """Return the entry in the headers of an object; the library has undone their percent-encoding."""
    if not is_whole(headers):
        raise StoreUnavailable(f"The headers of {key!r} were cut off.")
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
        raise StoreUnavailable(f"The headers of {key!r} lack a size, an entity tag or a date.") from error


def _modified(headers: Mapping[str, str]) -> float:
    """Return the time that the listing gives: ``Last-Modified`` is rounded up to whole seconds."""
    return float(headers["x-timestamp"]) if "x-timestamp" in headers else _date(headers["last-modified"])


def _date(text: str) -> float:
    """A date of HTTP in seconds since the epoch."""
    return email.utils.parsedate_to_datetime(text).timestamp()


def _listed(item: Mapping[str, Any]) -> Entry:
    """Return the entry of a listed object; the entity tag of a segmented one stands apart."""
    modified = datetime.fromisoformat(item["last_modified"]).replace(tzinfo=UTC).timestamp()
    etag = (item.get("slo_etag") or item["hash"]).strip('"')
    return Entry(item["name"], int(item["bytes"]), etag, modified, item["content_type"])


def _delete_at(expires: float) -> int:
    """Return whole seconds in the future: Swift refuses the past, and its clock may differ."""
    return max(math.ceil(expires), int(time.time()) + 60)
