"""OpenStack Swift as a store (Object Storage API v1, and the middlewares ``tempurl``, ``slo``, ``dlo``)."""

from __future__ import annotations

import hashlib
import io
import secrets
import threading
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, BinaryIO, Self
from urllib.parse import quote, unquote, urlsplit

from swiftclient import client
from swiftclient.exceptions import ClientException

from image_repo.errors import LinksNotConfigured, OriginalDamaged, StoreUnavailable
from image_repo.signing import DIGESTS, LinkBase
from image_repo.stores import CHUNK, Entry
from image_repo.stores.swiftaccount import WIRE_TROUBLE, Lease, Rewindable, SwiftAccount, unavailable

_META = "x-object-meta-"
_KEYS = ("x-container-meta-temp-url-key", "x-container-meta-temp-url-key-2")
_ACCOUNT_KEYS = ("x-account-meta-temp-url-key", "x-account-meta-temp-url-key-2")
#: seconds for which the container's keys are remembered
_KEYS_AGE = 300.0
#: a shorter key can be guessed, and this one stood in the first image_repo's source
_SHORTEST_KEY, _KNOWN_KEY = 16, "123456789"


class SwiftStore:
    """One container.

    :param own_keys: keys for temporary URLs from the configuration; the container's when there are none
    :param public_endpoint: ``scheme://host`` as clients see it, where that is another
    :param page: names in one page of a listing, at most 10,000
    """

    verifies = True

    def __init__(
        self,
        account: SwiftAccount,
        container: str,
        *,
        own_keys: tuple[str, ...] = (),
        public_endpoint: str | None = None,
        page: int = 10_000,
    ) -> None:
        self.description = f"Swift container {container!r} ({account.place})"
        self.identity = f"swift:{account.identity}|{container}"
        self._account = account
        self._container = container
        self._own_keys = own_keys
        self._endpoint = public_endpoint
        self._page = page
        self._keys: tuple[float, tuple[str, ...]] = (0.0, ())
        self._digest: str | None = None
        self._lock = threading.Lock()

    # -- objects ---------------------------------------------------------------------

    def check(self, *, create: bool = False) -> None:
        """Reaches the container; makes it when it is missing and ``create`` says so.

        :raises StoreUnavailable: with what is wrong
        """
        try:
            self._account.call(client.head_container, self._container, quick=True)
        except ClientException as error:
            if error.http_status != 404 or not create:
                told = unavailable(error, f"look at the container {self._container}")
                raise StoreUnavailable(f"{self.description}: {told}") from error
            self._create()

    def _create(self) -> None:
        try:
            self._account.call(client.put_container, self._container)
        except ClientException as error:
            raise unavailable(error, f"make the container {self._container}") from error

    def head(self, key: str) -> Entry | None:
        """What is known of an object."""
        try:
            headers = self._account.call(client.head_object, self._container, key, quick=True)
        except ClientException as error:
            if error.http_status == 404:
                return None
            raise unavailable(error, f"look at {key}") from error
        return _entry(key, headers)

    def get(self, key: str) -> SwiftBody | None:
        """Opens an object for reading; it holds a connection until it is closed."""
        lease = self._account.take()
        try:
            headers, body = self._account.on(lease, client.get_object, self._container, key, resp_chunk_size=CHUNK)
        except ClientException as error:
            self._account.give(lease)
            if error.http_status == 404:
                return None
            raise unavailable(error, f"read {key}") from error
        except BaseException:
            self._account.drop(lease)
            raise
        return SwiftBody(_entry(key, headers), body, self._account, lease)

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
        """Stores an object; Swift is told its MD5, and refuses what was damaged on its way."""
        contents = Rewindable(io.BytesIO(data) if isinstance(data, bytes) else data)
        digest, size = _measure(contents)
        headers = {f"{_META}{name}": quote(value) for name, value in (metadata or {}).items()}
        if expires is not None:
            headers["X-Delete-At"] = str(int(expires))
        if not overwrite:
            headers["If-None-Match"] = "*"
        told: dict[str, Any] = {}
        try:
            self._account.call(
                client.put_object, self._container, key, contents=contents if size else b"", content_length=size,
                etag=digest, content_type=media_type, headers=headers, response_dict=told,
            )  # fmt: skip
        except ClientException as error:
            raise unavailable(error, f"store {key}") from error
        answered = told["headers"]
        if answered.get("etag", "").strip('"') != digest:
            raise StoreUnavailable("The store has stored other bytes than it was given.")
        modified = _http_time(answered.get("last-modified"))
        return Entry(key, size, digest, modified, media_type, metadata or {}, expires)

    def delete(self, key: str) -> bool:
        """Removes an object."""
        try:
            self._account.call(client.delete_object, self._container, key)
        except ClientException as error:
            if error.http_status == 404:
                return False
            raise unavailable(error, f"delete {key}") from error
        return True

    def keys(self, prefix: str = "", *, after: str = "", before: str = "") -> Iterator[Entry]:
        """The objects in order, a page at a time."""
        while True:
            page = self._list(prefix, after, before)
            for row in page:
                yield _listed(row)
            if len(page) < self._page:
                return
            after = page[-1]["name"]

    def _list(self, prefix: str, after: str, before: str) -> list[dict[str, Any]]:
        try:
            _, rows = self._account.call(
                client.get_container, self._container, marker=after, prefix=prefix, end_marker=before, limit=self._page
            )
        except ClientException as error:
            raise unavailable(error, f"list {prefix}") from error
        return [row for row in rows if "name" in row]

    def close(self) -> None:
        """Gives connections back."""
        self._account.close()

    # -- temporary URLs --------------------------------------------------------------

    def link_base(self) -> LinkBase:
        """What to sign with, and where the store is.

        :raises LinksNotConfigured: when neither the configuration nor the container has a key
        """
        keys = self.link_secrets()
        if not keys:
            raise LinksNotConfigured(
                f"The container {self._container!r} has no key for temporary URLs: "
                "`image_repo link-key` sets one, or url_key names it."
            )
        url = urlsplit(self._account.url())
        endpoint = self._endpoint or f"{url.scheme}://{url.netloc}"
        return LinkBase(endpoint, f"{unquote(url.path)}/{self._container}/", keys[0], self._best_digest())

    def link_secrets(self) -> tuple[str, ...]:
        """The configuration's keys, else the container's own, else the account's."""
        if self._own_keys:
            return self._own_keys
        asked, keys = self._keys
        if not keys or time.monotonic() - asked > _KEYS_AGE:
            keys = self._ask_keys()
            self._keys = (time.monotonic(), keys)
        return keys

    def _ask_keys(self) -> tuple[str, ...]:
        try:
            container = self._account.call(client.head_container, self._container, quick=True)
            found = tuple(container[name] for name in _KEYS if container.get(name))
            if found:
                return found
            account = self._account.call(client.head_account, quick=True)
        except ClientException as error:
            raise unavailable(error, "ask for the key of temporary URLs") from error
        return tuple(account[name] for name in _ACCOUNT_KEYS if account.get(name))

    def set_link_key(self, secret: str, *, second: bool = False) -> None:
        """Gives the container a key.

        :raises ValueError: for a key that can be guessed
        """
        if len(secret) < _SHORTEST_KEY or secret == _KNOWN_KEY:
            raise ValueError(f"a key has at least {_SHORTEST_KEY} characters, and is not one that everybody knows")
        try:
            self._account.call(client.post_container, self._container, {_KEYS[second]: secret})
        except ClientException as error:
            raise unavailable(error, "set the key of temporary URLs") from error
        self._keys = (0.0, ())

    def _best_digest(self) -> str:
        """The best of the digests that the cluster takes, asked once."""
        with self._lock:
            if self._digest is None:
                allowed = self._ask_digests()
                self._digest = next((digest for digest in DIGESTS if digest in allowed), DIGESTS[0])
        return self._digest

    def _ask_digests(self) -> list[str]:
        url = urlsplit(self._account.url())
        http = self._account.connection(f"{url.scheme}://{url.netloc}/info")
        http[1].requests_args["timeout"] = (self._account.timeouts.connect, self._account.timeouts.quick)
        try:
            told = client.get_capabilities(http)
        except ClientException:  # some clusters hide it: then the usual ones are allowed
            return list(DIGESTS)
        except (*WIRE_TROUBLE, ValueError) as error:
            raise StoreUnavailable("The store does not tell what it can do.") from error
        finally:
            http[1].close()
        return list(told.get("tempurl", {}).get("allowed_digests", ["sha1"]))


class SwiftBody:
    """An open object, checked against its entity tag while it is read.

    The last chunk is handed out when the digest is known to fit. Of objects in segments the tag is no
    digest; their ``metadata`` says ``segmented``.
    """

    def __init__(self, entry: Entry, body: Any, account: SwiftAccount, lease: Lease) -> None:
        self.entry = entry
        self._body = body
        self._account = account
        self._lease: Lease | None = lease
        self._ended = False

    def __iter__(self) -> Iterator[bytes]:
        digest = hashlib.md5(usedforsecurity=False)
        size, held = 0, b""
        for chunk in self._chunks():
            if held:
                yield held
            held = chunk
            size += len(chunk)
            digest.update(chunk)
        if size != self.entry.size:
            raise StoreUnavailable("The store broke off in the middle of an object.")
        self._ended = True
        if not self.entry.metadata.get("segmented") and digest.hexdigest() != self.entry.etag:
            raise OriginalDamaged("The store hands out other bytes than were stored.")
        if held:
            yield held

    def _chunks(self) -> Iterator[bytes]:
        try:
            yield from self._body
        except WIRE_TROUBLE as error:
            raise StoreUnavailable("The store broke off in the middle of an object.") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        lease, self._lease = self._lease, None
        if lease is None:
            return
        if self._ended:
            self._account.give(lease)
        else:
            self._account.drop(lease)


def new_link_key() -> str:
    """A key that cannot be guessed."""
    return secrets.token_urlsafe(32)


def _measure(contents: Rewindable) -> tuple[str, int]:
    """MD5 in hex, and the number of bytes; goes back to the beginning."""
    digest, size = hashlib.md5(usedforsecurity=False), 0
    while chunk := contents.read(CHUNK):
        digest.update(chunk)
        size += len(chunk)
    contents.rewind()
    return digest.hexdigest(), size


def _entry(key: str, headers: Mapping[str, str]) -> Entry:
    metadata = {name.removeprefix(_META): unquote(value) for name, value in headers.items() if name.startswith(_META)}
    if headers.get("x-static-large-object") or headers.get("x-object-manifest"):
        metadata["segmented"] = "true"
    expires = headers.get("x-delete-at")
    return Entry(
        key,
        int(headers.get("content-length", 0)),
        headers.get("etag", "").strip('"'),
        _http_time(headers.get("last-modified")),
        headers.get("content-type", "application/octet-stream").partition(";")[0],
        metadata,
        float(expires) if expires else None,
    )


def _listed(row: Mapping[str, Any]) -> Entry:
    modified = datetime.fromisoformat(row["last_modified"]).replace(tzinfo=UTC).timestamp()
    return Entry(row["name"], row["bytes"], row["hash"], modified, row["content_type"].partition(";")[0])


def _http_time(text: str | None) -> float:
    """Seconds since the epoch (RFC 9110, section 5.6.7); now where the store says nothing."""
    return parsedate_to_datetime(text).timestamp() if text else time.time()
