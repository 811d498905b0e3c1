"""Every exception that image_repo raises on purpose, and what it means over HTTP.

    Problem                    anything that ends as application/problem+json (RFC 9457)
    ├── BadRequest         400 text that cannot be understood
    │   ├── BadName            a name that no image can have
    │   ├── BadParameter       a query parameter: unknown, repeated, or with a bad value
    │   ├── BadPattern         a regular expression that RE2 refuses
    │   ├── BadBody            an upload whose form is wrong
    │   └── DigestMismatch     the bytes are not those that the sender's digest names
    ├── Unauthenticated    401 credentials are missing or not accepted
    │   └── InvalidToken       a token that is not accepted
    ├── LinkRefused        401 a temporary URL without or with a wrong signature
    ├── Forbidden          403 these credentials do not allow it
    ├── LoginFailed        403 the identity provider did not say who has logged in
    ├── CrossOrigin        403 a change with a session's cookie that another site asks for
    ├── OriginalsNotServed 403 `kind=original` where the configuration does not allow it
    ├── ImageNotFound      404 the container looked, and it is not there
    ├── ArtifactNotFound   404 no artifact has this digest
    ├── SnapshotNotFound   404 no snapshot has this id
    ├── KeyNotFound        404 no API key has this name
    ├── UploadNotFound     404 no unfinished upload of the caller has this id
    ├── NameConflict       409 a content address that names other bytes
    ├── OffsetConflict     409 the next bytes of an upload are others
    ├── RequestTimeout     408 a head that did not come in time
    ├── LinkExpired        410 a temporary URL after its time
    ├── PartlyDone         409 a change of many records that some of them did not take
    ├── PreconditionFailed 412 `If-Match`, `If-None-Match` or `overwrite: false`
    ├── TooLarge           413 more bytes than the configuration allows
    │   └── QuotaExceeded      the bytes that a user may have are used up
    ├── UriTooLong         414 a request line with more bytes than the configuration allows
    ├── NotAPicture        415 bytes that are none of the formats we read
    ├── UnsupportedPicture 415 a sound picture, of a kind that is not read here
    ├── BrokenPicture      422 the right format, but damaged
    ├── BrokenArchive      422 an archive that cannot be read
    ├── OverBudget         422 too many pixels, frames, scans or bytes of metadata
    ├── UploadLocked       423 another request is at work on the upload
    ├── TooManyUploads     429 the caller has too many unfinished uploads
    ├── TooManyRenders     429 the client's budget of renders is used up
    ├── HeadersTooLarge    431 a head with more bytes than the configuration allows
    ├── ChecksumMismatch   460 the bytes of a part are not those that its checksum names
    ├── OriginalDamaged    500 an original that is not what was stored
    ├── LinksNotConfigured 501 no key to sign temporary URLs with
    ├── LoginNotConfigured 501 the configuration names no client of an identity provider
    ├── CatalogueDisabled  501 the configuration has no catalogue
    ├── LibraryMissing     501 an optional library that is not installed
    ├── Busy               503 the queue of renders is full
    ├── ProviderUnavailable 503 the keys of the identity provider are not known
    ├── StoreUnavailable   503 the store could not be asked
    ├── NotTheWriter       503 another node holds the lease of the one that writes
    ├── CatalogueUnavailable 503 the index could not be asked
    ├── QueryTooSlow       503 a query took longer than allowed
    ├── Unfinished         503 a change of many records that can go on, when it is asked for again
    ├── RenderTimeout      504 it took longer than allowed
    └── InsufficientStorage 507 there is no room for a further unfinished upload

    ConfigurationError         mistakes in the configuration; never seen over HTTP

`detail` and `members` are public. The private reason is `__cause__`, and goes to the log.
"""

from __future__ import annotations

from collections.abc import Sequence


class Problem(Exception):
    """An error that is reported to the client.

    :param detail: one or two sentences for the client, without secrets or paths of ours
    :param members: further members of the problem document, such as ``parameter``
    """

    status = 500
    slug = "internal-error"
    title = "Something went wrong here"
    #: seconds after which the client may try again, sent as ``Retry-After``
    retry_after: int | None = None
    #: how to authenticate, sent as ``WWW-Authenticate`` (RFC 9110, section 11.6.1)
    challenge: str | None = None
    #: further headers of the response
    headers: Sequence[tuple[str, str]] = ()

    def __init__(self, detail: str = "", **members: object) -> None:
        super().__init__(detail or self.title)
        self.detail = detail
        self.members = members


class BadRequest(Problem):
    """400: the request is not one that we understand."""

    status = 400
    slug = "bad-request"
    title = "The request cannot be understood"


class BadName(BadRequest):
    """400: no image can have this name."""

    slug = "bad-name"
    title = "No image can have this name"


class BadParameter(BadRequest):
    """400: a query parameter is unknown, given twice, or has a bad value."""

    slug = "bad-parameter"
    title = "A parameter is wrong"

    def __init__(self, parameter: str, detail: str, **members: object) -> None:
        super().__init__(detail, parameter=parameter, **members)

    @classmethod
    def expected(cls, what: str, parameter: str, received: str) -> BadParameter:
        """The one way in which values are refused: *Expected X for Y but received 'Z'.*"""
        shown = received if len(received) <= 40 else received[:39] + "…"
        return cls(parameter, f"Expected {what} for {parameter} but received {shown!r}.")


class BadPattern(BadParameter):
    """400: a regular expression that RE2 does not take."""

    slug = "bad-pattern"
    title = "The pattern cannot be used"


class BadBody(BadRequest):
    """400: the body of an upload has the wrong form."""

    slug = "bad-body"
    title = "The body of the request is wrong"


class DigestMismatch(BadRequest):
    """400: the bytes that arrived are not those that the sender's digest names."""

    slug = "digest-mismatch"
    title = "The bytes are not the ones that the digest names"


class Unauthenticated(Problem):
    """401: this needs credentials, and the request has none that are accepted."""

    status = 401
    slug = "unauthenticated"
    title = "Credentials are needed"
    challenge = "Bearer"


class InvalidToken(Unauthenticated):
    """401: a token is damaged, expired, not signed by the provider, or meant for others (RFC 6750, section 3.1)."""

    slug = "invalid-token"
    title = "The token is not accepted"

    def __init__(self, detail: str = "", **members: object) -> None:
        super().__init__(detail, **members)
        self.challenge = f'Bearer error="invalid_token", error_description="{detail or self.title}"'


class LinkRefused(Problem):
    """401: a temporary URL whose signature is missing or wrong."""

    status = 401
    slug = "link-refused"
    title = "The signature of this temporary URL is not valid"


class Forbidden(Problem):
    """403: the credentials of the request do not allow this."""

    status = 403
    slug = "forbidden"
    title = "This is not allowed with these credentials"


class LoginFailed(Problem):
    """403: the identity provider refused a login, or what it answered does not belong to one that began here."""

    status = 403
    slug = "login-failed"
    title = "The login did not succeed"


class CrossOrigin(Problem):
    """403: a page of another site requests a change; browsers send its forms, and cookies, without a preflight."""

    status = 403
    slug = "cross-origin"
    title = "Pages of other sites change nothing here"


class OriginalsNotServed(Problem):
    """403: originals hold positions and names, and are served only where that is allowed."""

    status = 403
    slug = "originals-not-served"
    title = "Originals are not served here"


class ImageNotFound(Problem):
    """404: the container was asked, and has no such image."""

    status = 404
    slug = "image-not-found"
    title = "There is no such image"


class ArtifactNotFound(Problem):
    """404: the container was asked, and has no artifact with this digest."""

    status = 404
    slug = "artifact-not-found"
    title = "There is no such artifact"


class SnapshotNotFound(Problem):
    """404: the container was asked, and has no such snapshot."""

    status = 404
    slug = "snapshot-not-found"
    title = "There is no such snapshot"


class KeyNotFound(Problem):
    """404: no API key has this name."""

    status = 404
    slug = "key-not-found"
    title = "There is no such API key"


class UploadNotFound(Problem):
    """404: no unfinished upload of the caller has this id: it has ended, has expired, or lies on another node."""

    status = 404
    slug = "upload-not-found"
    title = "There is no such upload"


class OffsetConflict(Problem):
    """409: a part of an upload begins at another byte than the next one; ``offset`` is that of the next one."""

    status = 409
    slug = "offset-conflict"
    title = "The next bytes of the upload are others"


class NameConflict(Problem):
    """409: the name is taken: a content address of other bytes, or another entry's."""

    status = 409
    slug = "name-conflict"
    title = "The name stands for something else"


class PartlyDone(Problem):
    """409: of the records that a filter means, some could not be changed; the others are.

    ``matched`` and ``modified`` count them, ``failed`` names those that could not be changed, each with the reason,
    and ``more`` says how many further ones there are.
    """

    status = 409
    slug = "partly-done"
    title = "Not all of these records could be changed"


class RequestTimeout(Problem):
    """408: the head of the request did not come in time, or has a form that does not end."""

    status = 408
    slug = "request-timeout"
    title = "The request took too long"


class LinkExpired(Problem):
    """410: a temporary URL after its time."""

    status = 410
    slug = "link-expired"
    title = "This temporary URL has expired"


class PreconditionFailed(Problem):
    """412: a condition of the request does not hold."""

    status = 412
    slug = "precondition-failed"
    title = "A condition of the request does not hold"


class TooLarge(Problem):
    """413: more bytes than the configuration allows."""

    status = 413
    slug = "too-large"
    title = "Too many bytes"


class QuotaExceeded(TooLarge):
    """413: a user would have more bytes than the configuration allows each."""

    slug = "quota-exceeded"
    title = "The quota of this user is used up"


class UriTooLong(Problem):
    """414: the target of the request has more bytes than the configuration allows."""

    status = 414
    slug = "uri-too-long"
    title = "The address is too long"


class NotAPicture(Problem):
    """415: these bytes are none of the formats that are read here."""

    status = 415
    slug = "not-a-picture"
    title = "This is not a picture in a format that is read here"


class UnsupportedPicture(Problem):
    """415: a sound picture, but of a kind that is not read here: a depth, a compression, a camera's raw data."""

    status = 415
    slug = "unsupported-picture"
    title = "This kind of picture is not supported"


class BrokenPicture(Problem):
    """422: a picture of a known format, but damaged."""

    status = 422
    slug = "broken-picture"
    title = "The picture is damaged"


class BrokenArchive(Problem):
    """422: what was to be imported is no archive that can be read."""

    status = 422
    slug = "broken-archive"
    title = "The archive cannot be read"


class OverBudget(Problem):
    """422: too many pixels, frames, scans, or too much metadata."""

    status = 422
    slug = "over-budget"
    title = "The picture is larger than a render may be"


class HeadersTooLarge(Problem):
    """431: the request line and the headers have more bytes than the configuration allows."""

    status = 431
    slug = "headers-too-large"
    title = "Too many bytes before the body"


class ChecksumMismatch(Problem):
    """460: the bytes of a part are not those that ``Upload-Checksum`` names; none of them count (tus 1.0)."""

    status = 460
    slug = "checksum-mismatch"
    title = "The bytes are not the ones that the checksum names"


class OriginalDamaged(Problem):
    """500: the bytes of an original are not those that were stored."""

    status = 500
    slug = "original-damaged"
    title = "The original in the store is damaged"


class LinksNotConfigured(Problem):
    """501: there is no key with which temporary URLs could be signed."""

    status = 501
    slug = "links-not-configured"
    title = "Temporary URLs need a key"


class LoginNotConfigured(Problem):
    """501: people log in where ``access.oidc.client_id`` names a client of an identity provider."""

    status = 501
    slug = "login-not-configured"
    title = "Nobody can log in here"


class CatalogueDisabled(Problem):
    """501: nothing can be searched without a catalogue."""

    status = 501
    slug = "catalogue-disabled"
    title = "There is no catalogue here"


class LibraryMissing(Problem):
    """A request needs an optional library, and it is not installed."""

    status = 501
    slug = "library-missing"
    title = "A library that this needs is not installed"


class UploadLocked(Problem):
    """423: another request writes to the upload, or stores it; the same again succeeds soon."""

    status = 423
    slug = "upload-locked"
    title = "Another request is at work on the upload"
    retry_after = 2


class TooManyUploads(Problem):
    """429: the caller has as many unfinished uploads as it may (``uploads.max_open``)."""

    status = 429
    slug = "too-many-uploads"
    title = "Too many uploads are not finished"
    retry_after = 60


class TooManyRenders(Problem):
    """429: the client has had as many pictures rendered as it may in a minute (RFC 6585, section 4)."""

    status = 429
    slug = "too-many-renders"
    title = "Too many pictures were rendered for this client"

    def __init__(self, detail: str, retry_after: int, headers: Sequence[tuple[str, str]]) -> None:
        super().__init__(detail)
        self.retry_after = retry_after
        self.headers = headers


class Busy(Problem):
    """503: as many renders run and wait as may."""

    status = 503
    slug = "busy"
    title = "Too much to do at the moment"
    retry_after = 2


class ProviderUnavailable(Problem):
    """503: a token cannot be verified, because the keys of the identity provider are not known at the moment."""

    status = 503
    slug = "provider-unavailable"
    title = "The identity provider cannot be asked at the moment"
    retry_after = 5


class StoreUnavailable(Problem):
    """503: the store could not be asked. It says nothing of what is in it."""

    status = 503
    slug = "store-unavailable"
    title = "The store cannot be asked at the moment"
    retry_after: int | None = 2


class NotTheWriter(Problem):
    """503: another node writes to the container, and nothing orders the writes of two (``catalogue.url``)."""

    status = 503
    slug = "not-the-writer"
    title = "Another node writes to this container"
    retry_after = 15


class CatalogueUnavailable(Problem):
    """503: the index could not be asked. Pictures are served all the same."""

    status = 503
    slug = "catalogue-unavailable"
    title = "The catalogue cannot be asked at the moment"
    retry_after = 5


class QueryTooSlow(Problem):
    """503: a query took longer than the configuration allows."""

    status = 503
    slug = "query-too-slow"
    title = "The query takes too long"
    retry_after = 10


class Unfinished(Problem):
    """503: a change of many records ended before all were changed, for a reason that passes.

    The same again does the rest. ``matched`` and ``modified`` count what was done, ``failed`` names records that could
    not be changed, each with the reason, and ``more`` says how many further ones there are. Where it ended before all
    were looked at, ``last`` is the name of the last one: with ``name__gt=LAST`` it goes on behind that.
    """

    status = 503
    slug = "unfinished"
    title = "Not all of these records are changed yet"
    retry_after = 2


class RenderTimeout(Problem):
    """504: waiting for a render took longer than a request may."""

    status = 504
    slug = "render-timeout"
    title = "The picture took too long to make"


class InsufficientStorage(Problem):
    """507: there is no room for a further unfinished upload (``uploads.max_size``, or the disk)."""

    status = 507
    slug = "insufficient-storage"
    title = "There is no room for the upload"
    retry_after = 60


class ConfigurationError(Exception):
    """Mistakes in the configuration, all of them.

    :param mistakes: one line each, ``FILE:LINE: setting: what was expected``
    """

    def __init__(self, mistakes: Sequence[str]) -> None:
        super().__init__("\n".join(mistakes))
        self.mistakes = tuple(mistakes)
