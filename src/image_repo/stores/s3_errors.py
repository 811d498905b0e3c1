"""Errors of botocore, translated into those of a store."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from botocore.exceptions import (  # type: ignore[import-untyped]
    ClientError,
    NoCredentialsError,
    PartialCredentialsError,
    TokenRetrievalError,
)

from image_repo.errors import StoreUnavailable
from image_repo.stores.http_errors import Refusal, broken_problem, is_whole

_WRONG_REGION = "The bucket is in another region: credentials.region (S3_REGION) names it."
_CODES = {
    "NoSuchBucket": "The store has no such bucket.",
    "AccessDenied": "The credentials have no right to do this in the store.",
    "InvalidAccessKeyId": "The store does not know this access key.",
    "SignatureDoesNotMatch": "The secret access key does not belong to this access key.",
    "ExpiredToken": "The session token has expired.",
    "InvalidToken": "The store does not accept the session token.",
    "RequestTimeTooSkewed": "The clocks of this machine and of the store differ by more than the store allows.",
    "SlowDown": "The store asks for fewer requests.",
    "BadDigest": "The bytes were damaged on their way to the store.",
    "XAmzContentSHA256Mismatch": "The bytes were damaged on their way to the store.",
    "EntityTooLarge": "The object is larger than the store allows.",
    "InvalidBucketName": "The store does not allow this name of a bucket.",
    "PermanentRedirect": _WRONG_REGION,
    "AuthorizationHeaderMalformed": _WRONG_REGION,
    "IllegalLocationConstraintException": _WRONG_REGION,
}
_STATUSES = {
    301: _WRONG_REGION,
    403: "The credentials are wrong, or have no right to do this in the store.",
    404: "The store has no such object.",
    429: "The store asks for fewer requests.",
    503: "The store is too busy, or out of order.",
    507: "The store is full.",
}


class S3Refusal(Refusal):
    """An answer of S3 with an error.

    :param code: such as ``NoSuchKey``; the status as text where the answer has no body
    """

    def __init__(self, detail: str, status: int, code: str) -> None:
        super().__init__(detail, status)
        self.code = code


def translated(error: Exception) -> StoreUnavailable:
    """Return the problem for an exception of botocore; the exception itself is for the log."""
    if isinstance(error, NoCredentialsError | PartialCredentialsError | TokenRetrievalError):
        return StoreUnavailable(
            "There are no credentials for S3: credentials.access_key_id with secret_access_key, "
            "S3_ACCESS_KEY_ID with S3_SECRET_ACCESS_KEY, or those of the AWS SDK."
        )
    if not isinstance(error, ClientError):
        return broken_problem(error)
    answer: Mapping[str, Any] = error.response
    metadata = answer.get("ResponseMetadata", {})
    headers, status = metadata.get("HTTPHeaders", {}), int(metadata.get("HTTPStatusCode", 0))
    if not is_whole(headers):
        return StoreUnavailable("The answer of the store was cut off.")
    code = str(answer.get("Error", {}).get("Code", status))
    words = _CODES.get(code) or _STATUSES.get(status) or f"The store answered with status {status} ({code})."
    refusal = S3Refusal(words, status, code)
    retry_after = headers.get("retry-after", "")
    if retry_after.isascii() and retry_after.isdigit():
        refusal.retry_after = min(int(retry_after), 3600)
    return refusal
