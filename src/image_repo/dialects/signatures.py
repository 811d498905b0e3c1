"""Signatures of thumbor's and imgproxy's URLs, compared in constant time."""

from __future__ import annotations

import base64
import hmac

from image_repo.errors import LinkRefused

_REFUSED = "The signature of this URL is not valid."


def verify_thumbor(key: str, signature: str, *texts: str) -> None:
    """Accept a signature of thumbor: HMAC-SHA1, base64url with its padding.

    :param texts: what may be signed: what stands behind the signature as it was sent, and percent-decoded
    :raises LinkRefused: when none of them is
    """
    _verify(signature, *(hmac.digest(key.encode(), text.encode(), "sha1") for text in texts))


def verify_imgproxy(key: bytes, salt: bytes, signature: str, path: str) -> None:
    """Accept a signature of imgproxy: HMAC-SHA256 of salt and path, base64url without padding.

    :param path: behind the signature, as it was sent, from its ``/`` on
    :raises LinkRefused: when it is another one
    """
    _verify(signature, hmac.digest(key, salt + path.encode(), "sha256"))


def _verify(signature: str, *digests: bytes) -> None:
    received = signature.rstrip("=").encode()
    expected = [base64.urlsafe_b64encode(digest).rstrip(b"=") for digest in digests]
    if not any([hmac.compare_digest(each, received) for each in expected]):  # noqa: C419, each is compared
        raise LinkRefused(_REFUSED)
