"""Presigned URLs of S3: Signature Version 4 in the query. Pure; the moment of signing is an argument.

Source: *Authenticating Requests: Using Query Parameters (AWS Signature Version 4)*, Amazon S3 API Reference.
The library signs with the present time, so that each of its URLs is another one. Here the same request gives the same
URL until it expires, and browsers and proxies can cache what it points to.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass, field
from datetime import UTC, datetime
from urllib.parse import quote, urlencode, urlsplit

#: seconds for which a presigned URL can be valid
LONGEST_S = 604_800


@dataclass(frozen=True, slots=True)
class Signer:
    """Credentials as a signature needs them.

    :param token: of a session; the URL ends with it
    """

    access_key: str
    secret_key: str = field(repr=False)
    region: str
    token: str | None = field(default=None, repr=False)


def presigned_url(address: str, signer: Signer, signed: int, lifetime: int, parameters: dict[str, str]) -> str:
    """Return the address of an object with a signature for ``GET``.

    :param address: scheme, authority and path, percent-encoded
    :param signed: seconds since the epoch of the moment of signing
    :param lifetime: seconds from then
    :param parameters: such as ``response-content-disposition``
    """
    moment = datetime.fromtimestamp(signed, UTC).strftime("%Y%m%dT%H%M%SZ")
    scope = f"{moment[:8]}/{signer.region}/s3/aws4_request"
    query = {
        **parameters,
        "X-Amz-Algorithm": "AWS4-HMAC-SHA256",
        "X-Amz-Credential": f"{signer.access_key}/{scope}",
        "X-Amz-Date": moment,
        "X-Amz-Expires": str(lifetime),
        "X-Amz-SignedHeaders": "host",
    }
    if signer.token:
        query["X-Amz-Security-Token"] = signer.token
    text = urlencode(sorted(query.items()), quote_via=quote, safe="-_.~")
    parts = urlsplit(address)
    request = "\n".join(("GET", parts.path, text, f"host:{parts.netloc}\n", "host", "UNSIGNED-PAYLOAD"))
    message = "\n".join(("AWS4-HMAC-SHA256", moment, scope, hashlib.sha256(request.encode()).hexdigest()))
    key = f"AWS4{signer.secret_key}".encode()
    for part in scope.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    signature = hmac.new(key, message.encode(), "sha256").hexdigest()
    return f"{address}?{text}&X-Amz-Signature={signature}"
