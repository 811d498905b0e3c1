"""Buckets of S3: Amazon's, and of other stores that speak its protocol."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import logging
import math
import time
import uuid
from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from datetime import datetime
from email.utils import parsedate_to_datetime
from functools import partial
from typing import Any, BinaryIO
from urllib.parse import quote, unquote, urlsplit, urlunsplit

from image_repo.errors import LinkRefused, LinksNotConfigured, PreconditionFailed, StoreUnavailable
from image_repo.stores import lookup
from image_repo.stores.base import OUTCOME_UNKNOWN, Capabilities, Entry, NoContainer, StoreSilent
from image_repo.stores.http_body import HttpBody
from image_repo.stores.http_errors import BROKEN, absent
from image_repo.stores.s3_client import S3Client
from image_repo.stores.s3_errors import S3Refusal
from image_repo.stores.s3_media_types import ListedTypes
from image_repo.stores.s3_multipart import MULTIPART_BYTES, upload_in_parts
from image_repo.stores.s3_presign import LONGEST_S, Signer, presigned_url
from image_repo.stores.upload import Upload

log = logging.getLogger(__name__)

#: the most keys of one page of a listing, and of the first page of a listing that ends at a key
_PAGE, _SHORT_PAGE = 1000, 16
#: metadata of ours beside the caller's
_MD5, _EXPIRES = "image-repo-md5", "image-repo-expires"
_PROBES = ".probes/"
_ENCRYPTED_ETAGS = frozenset(("aws:kms", "aws:kms:dsse"))


class S3Store:
    """A :class:`~image_repo.stores.base.Store` in one bucket.

    :param client: the connections to its endpoint
    :param page: keys of one page of a listing
    :param multipart: size in bytes above which an object is sent in parts
    """

    def __init__(self, client: S3Client, bucket: str, *, page: int = _PAGE, multipart: int = MULTIPART_BYTES) -> None:
        self._client = client
        self._bucket = bucket
        self._page = min(page, _PAGE)
        self._multipart = multipart
        self._types = ListedTypes(self.head, client.settings.connections)
        self._conditional: bool | None = None
        self.capabilities = Capabilities(verifies_digests=True, drops_expired=False, longest_link=LONGEST_S)
        credentials = client.settings.credentials
        endpoint = urlsplit(str(credentials.endpoint or "https://amazonaws.com"))
        self.description = f"S3 bucket {bucket!r} at {endpoint.scheme}://{endpoint.netloc.rpartition('@')[2]}"
        # Amazon's names of buckets are unique; at another endpoint each account may have its own.
        account = str(credentials.access_key_id or "") if credentials.endpoint else ""
        self.identity = "|".join(("s3", urlunsplit(endpoint).rstrip("/"), account, bucket))

    def check(self, *, create: bool = False) -> None:
        """List the bucket; make it where it is missing and ``create`` says so; probe what the store can do.

        :raises StoreUnavailable: with what is wrong, in words for the person at the command line
        """
        try:
            self._look_for_bucket(create)
            self.capabilities = replace(self.capabilities, probed=self._probe())
        except StoreUnavailable as error:
            raise StoreUnavailable(f"{self.description}: {error.detail}") from error.__cause__

    def _look_for_bucket(self, create: bool) -> None:
        try:
            self._call("list_objects_v2", MaxKeys=1)
        except NoContainer:
            if not create:
                raise
            region = self._client.library().meta.region_name
            is_default = region in ("us-east-1", "aws-global")
            place = {} if is_default else {"CreateBucketConfiguration": {"LocationConstraint": region}}
            self._call("create_bucket", **place)
            log.info("%s was made", self.description)

    def _call(self, operation: str, **parameters: Any) -> dict[str, Any]:
        """Call an operation on the bucket.

        :raises NoContainer: when there is no such bucket
        """
        try:
            return self._client.call(operation, Bucket=self._bucket, **parameters)
        except S3Refusal as error:
            raise self._explained(error) from error.__cause__

    def _explained(self, error: S3Refusal) -> StoreUnavailable:
        if error.code != "NoSuchBucket":
            return error
        return NoContainer(f"There is no bucket {self._bucket!r}; create_new: true makes it.")

    # -- one object ------------------------------------------------------------------

    def head(self, key: str) -> Entry | None:
        answer = absent(lambda: self._call("head_object", Key=key))
        return _current(_entry(key, answer)[0]) if answer else None

    def get(self, key: str) -> HttpBody | None:
        self._client.acquire()
        try:
            answer = absent(lambda: self._open(key))
            if answer:
                entry, md5 = _entry(key, answer)
                stream = answer["Body"]
                if _current(entry):
                    raw = getattr(stream, "_raw_stream", stream)
                    return HttpBody(entry, md5, raw, partial(self._end, stream), self._client.settings.timeout)
                self._end(stream, has_rest=True)
                return None
        except BaseException:
            self._client.release()
            raise
        self._client.release()
        return None

    def _end(self, stream: Any, has_rest: bool) -> None:
        if has_rest:
            with contextlib.suppress(*BROKEN):
                stream.close()
        self._client.release()

    def _open(self, key: str) -> dict[str, Any]:
        try:
            return self._client.call_in_slot("get_object", Bucket=self._bucket, Key=key)
        except S3Refusal as error:
            raise self._explained(error) from error.__cause__

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
        """Store an object whole; S3 answers when it is on its disks.

        :returns: its entry, whose ``modified`` is that of the answer
        :raises PreconditionFailed: when there is one already and ``overwrite`` is False
        """
        upload = Upload.of(data)
        expiry = None if expires is None else float(math.ceil(expires))
        own = {_MD5: upload.md5} | ({} if expiry is None else {_EXPIRES: str(int(expiry))})
        texts = {name: quote(text, safe="") for name, text in (metadata or {}).items()}
        facts: dict[str, Any] = {"ContentType": media_type, "Metadata": texts | own}
        if not overwrite:
            if self.head(key):
                raise _there_already(key)
            if self._is_conditional():
                facts["IfNoneMatch"] = "*"
        try:
            etag, modified = self._send(key, upload, facts, overwrite)
        except S3Refusal as error:
            if error.http_status == 412 and not overwrite:
                raise _there_already(key) from error
            raise
        except StoreSilent as error:
            raise StoreSilent(OUTCOME_UNKNOWN) from error.__cause__
        entry = Entry(key, upload.size, etag, modified, media_type, dict(metadata or {}), expiry)
        self._types.note(entry)
        return entry

    def _send(self, key: str, upload: Upload, facts: dict[str, Any], again: bool) -> tuple[str, float]:
        """Send an object; return its entity tag and the time of the answer."""
        if upload.size > self._multipart:
            answer = upload_in_parts(self._call, key, upload, facts)
        else:
            upload.file.seek(upload.start)
            digest = base64.b64encode(bytes.fromhex(upload.md5)).decode()
            # Sent twice, "not if there is one" would find what it has written itself.
            answer = self._call("put_object", again=again, Key=key, Body=upload.file, ContentMD5=digest, **facts)
            if not _is_encrypted(answer) and answer.get("ETag", "").strip('"') != upload.md5:
                raise StoreUnavailable(f"The store has other bytes for {key!r} than it was sent.")
        date = answer["ResponseMetadata"]["HTTPHeaders"]["date"]
        return answer["ETag"].strip('"'), parsedate_to_datetime(date).timestamp()

    def restore_etag(self, key: str, present: str, former: str) -> bool:
        """Do nothing: the entity tag follows from the bytes."""
        return False

    def batch(self) -> contextlib.AbstractContextManager[None]:
        """Do nothing: S3 has each object safe when it says so."""
        return contextlib.nullcontext()

    def delete(self, key: str) -> bool:
        """Delete an object. False when there was none; S3 itself does not tell."""
        if absent(lambda: self._call("head_object", Key=key)) is None:
            return False
        self._call("delete_object", Key=key)
        return True

    # -- listing ---------------------------------------------------------------------

    def keys(self, prefix: str = "", *, after: str = "", before: str = "") -> Iterator[Entry]:
        size = min(_SHORT_PAGE if before else _PAGE, self._page)
        while True:
            place = {"StartAfter": after} if after else {}
            answer = self._call("list_objects_v2", Prefix=prefix, MaxKeys=size, **place)
            if "IsTruncated" not in answer:
                raise StoreUnavailable("The listing of the store was cut off.")
            page = [_listed(item) for item in answer.get("Contents", ())]
            inside = [entry for entry in page if not before or entry.key < before]
            yield from self._types.fill(inside)
            if not answer["IsTruncated"] or not page or len(inside) < len(page):
                return
            after, size = page[-1].key, min(8 * size, self._page)

    def find(self, names: Collection[str], endings: Collection[str]) -> list[Entry]:
        return lookup.find(self.keys, names, endings)

    # -- temporary URLs --------------------------------------------------------------

    def passed_over(self) -> list[str]:
        """Return nothing: a listing that fails is an error here."""
        return []

    def presign(self, key: str, expires: int, filename: str) -> str:
        client, credentials = self._client.signer()
        if credentials is None:
            raise LinksNotConfigured("There are no credentials to sign URLs of S3 with.")
        address = client.generate_presigned_url("get_object", Params={"Bucket": self._bucket, "Key": key})
        region = client.meta.region_name
        signer = Signer(
            credentials.access_key,
            credentials.secret_key,
            "us-east-1" if region == "aws-global" else region,
            credentials.token,
        )
        signed = max(0, expires - LONGEST_S)
        disposition = f"inline; filename*=UTF-8''{quote(filename, safe='')}"
        return presigned_url(
            address.partition("?")[0],
            signer,
            signed,
            expires - signed,
            {"response-content-disposition": disposition},
        )

    def verify_presigned(self, key: str, signature: str, expires: str) -> None:
        """Refuse: S3 itself serves what :meth:`presign` has signed."""
        raise LinkRefused("The store itself serves temporary URLs.")

    def stored_link_keys(self) -> tuple[str, ...]:
        """Return nothing: S3 signs with its credentials."""
        return ()

    def set_link_key(self, secret: str, *, second: bool = False) -> None:
        """Refuse: S3 signs with its credentials."""
        raise LinksNotConfigured("S3 signs temporary URLs with its credentials; there is no key to set.")

    def close(self) -> None:
        """Close the connections to the endpoint."""
        self._client.close()

    # -- abilities -------------------------------------------------------------------

    def _is_conditional(self) -> bool:
        """Return whether the store honours ``If-None-Match: *``; some ignore it, and overwrite."""
        if self._conditional is None:
            with self._probe_key() as key:
                self._conditional = self._refuses_second(key)
        return self._conditional

    def _refuses_second(self, key: str) -> bool:
        for _ in range(2):
            try:
                self._call("put_object", Key=key, Body=b"", IfNoneMatch="*")
            except S3Refusal as error:
                if error.http_status not in (400, 409, 412, 501):
                    raise
                return error.http_status == 412
        return False

    def _refuses_damage(self, key: str) -> bool:
        wrong = base64.b64encode(hashlib.md5(b"other", usedforsecurity=False).digest()).decode()
        try:
            self._call("put_object", Key=key, Body=b"bytes", ContentMD5=wrong)
        except S3Refusal as error:
            if error.http_status != 400:
                raise
            return True
        return False

    def _probe(self) -> str:
        """Return what the store can do, for people."""
        with self._probe_key() as key:
            verifies = self._refuses_damage(key)
        conditional = "honoured" if self._is_conditional() else "not honoured (a look precedes each first write)"
        digests = "verified by the store" if verifies else "not verified by the store (its entity tags are, here)"
        return f"conditional writes are {conditional}; digests of uploads are {digests}"

    @contextlib.contextmanager
    def _probe_key(self) -> Iterator[str]:
        key = f"{_PROBES}{uuid.uuid4().hex}"
        try:
            yield key
        finally:
            with contextlib.suppress(StoreUnavailable):
                self._call("delete_object", Key=key)


def _there_already(key: str) -> PreconditionFailed:
    return PreconditionFailed(f"There is an object {key!r} already.")


def _current(entry: Entry) -> Entry | None:
    """Return the entry; None after its expiry, because S3 removes objects by age only, once a day."""
    return None if entry.expires is not None and entry.expires <= time.time() else entry


def _is_encrypted(answer: Mapping[str, Any]) -> bool:
    """Return whether the entity tag is not made of the bytes, because a key of the user encrypts them."""
    return answer.get("ServerSideEncryption") in _ENCRYPTED_ETAGS or "SSECustomerAlgorithm" in answer


def _entry(key: str, answer: Mapping[str, Any]) -> tuple[Entry, str | None]:
    """Return the entry in an answer, and the MD5 of the bytes where it is known."""
    try:
        metadata = {name.lower(): unquote(text) for name, text in answer["Metadata"].items()}
        etag = str(answer["ETag"]).strip('"')
        own, expires = metadata.pop(_MD5, None), metadata.pop(_EXPIRES, None)
        # The entity tag of an object in parts is made of theirs: no MD5 of its bytes.
        md5 = own if "-" in etag or _is_encrypted(answer) else etag
        if md5 is None:
            metadata["segmented"] = "true"
        modified, size = answer["LastModified"], int(answer["ContentLength"])
        media_type = answer.get("ContentType", "application/octet-stream")
        entry = Entry(key, size, etag, _seconds(modified), media_type, metadata, float(expires) if expires else None)
    except (KeyError, ValueError) as error:
        raise StoreUnavailable(f"The headers of {key!r} lack a size, an entity tag or a date.") from error
    return entry, md5


def _listed(item: Mapping[str, Any]) -> Entry:
    return Entry(item["Key"], int(item["Size"]), item["ETag"].strip('"'), _seconds(item["LastModified"]), "")


def _seconds(moment: datetime) -> float:
    """Return whole seconds since the epoch, which is all that the headers of an object have."""
    return float(math.floor(moment.timestamp()))
