"""Large objects of S3, sent in parts. Each part and the whole are verified by their entity tags."""

from __future__ import annotations

import base64
import contextlib
import hashlib
from collections.abc import Callable, Iterator
from typing import Any

from image_repo.errors import StoreUnavailable
from image_repo.stores.upload import Upload

#: size in bytes above which an object is sent in parts
MULTIPART_BYTES = 64 << 20
#: size in bytes of a part, which is held in memory; S3 takes at most 10,000, each of at least 5 MiB but the last
PART_BYTES, _MOST_PARTS = 16 << 20, 10_000

Call = Callable[..., dict[str, Any]]


def upload_in_parts(call: Call, key: str, upload: Upload, facts: dict[str, Any]) -> dict[str, Any]:
    """Send an object in parts; return the answer to its completion.

    :param call: an operation of the bucket
    :param facts: parameters of the object, with ``IfNoneMatch`` where there must be none yet
    :raises StoreUnavailable: when the store has other bytes than it was sent; nothing is stored then
    """
    condition = {name: facts[name] for name in ("IfNoneMatch",) if name in facts}
    begun = call("create_multipart_upload", Key=key, **{n: v for n, v in facts.items() if n not in condition})
    one = {"Key": key, "UploadId": begun["UploadId"]}
    try:
        parts, digests = [], b""
        for number, part in enumerate(_parts(upload), 1):
            digest = hashlib.md5(part, usedforsecurity=False).digest()
            coded = base64.b64encode(digest).decode()
            answer = call("upload_part", **one, PartNumber=number, Body=part, ContentMD5=coded)
            parts.append({"PartNumber": number, "ETag": answer["ETag"]})
            digests += digest
        etag = f"{hashlib.md5(digests, usedforsecurity=False).hexdigest()}-{len(parts)}"
        return _complete(call, one, parts, etag, condition)
    except BaseException:
        with contextlib.suppress(StoreUnavailable):
            call("abort_multipart_upload", **one)
        raise


def _complete(
    call: Call, one: dict[str, Any], parts: list[dict[str, Any]], etag: str, condition: dict[str, Any]
) -> dict[str, Any]:
    """Complete an upload. Made twice it is refused, so that a broken connection leaves the question to the object."""
    try:
        answer = call("complete_multipart_upload", again=False, MultipartUpload={"Parts": parts}, **one, **condition)
    except StoreUnavailable:
        with contextlib.suppress(StoreUnavailable):
            answer = call("head_object", Key=one["Key"])
            if answer["ETag"].strip('"') == etag:
                return answer
        raise
    is_encrypted = str(answer.get("ServerSideEncryption", "")).startswith("aws:kms")
    if answer["ETag"].strip('"') != etag and not is_encrypted:
        raise StoreUnavailable(f"The store has other bytes for {one['Key']!r} than it was sent.")
    return answer


def _parts(upload: Upload) -> Iterator[bytes]:
    size = max(PART_BYTES, -(-upload.size // _MOST_PARTS))
    upload.file.seek(upload.start)
    left = upload.size
    while left:
        part = upload.file.read(min(size, left))
        if not part:
            raise StoreUnavailable("The file became shorter while it was sent.")
        left -= len(part)
        yield part
