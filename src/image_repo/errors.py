"""Every exception that image_repo raises on purpose, and what it means over HTTP.

A :class:`Problem` ends as application/problem+json (RFC 9457); the docstring of each kind is its page. A
:class:`ConfigurationError` is never seen over HTTP.

`detail` and `members` are public. The private reason is `__cause__`, and goes to the log.
"""

from __future__ import annotations

import re
from collections.abc import Sequence


class Problem(Exception):
    """An error that is reported to the client.

    :param detail: one or two sentences for the client, without secrets or paths of ours
    :param members: further members of the problem document, such as ``parameter``
    """

    status = 500
    #: the last part of the URL of its page
    slug = "internal-error"
    title = "Something went wrong here"
    #: seconds after which the client may try again, sent as ``Retry-After``
    retry_after: int | None = None
    #: how to authenticate, sent as ``WWW-Authenticate`` (RFC 9110, section 11.6.1)
    challenge: str | None = None
    #: further headers of the response
    headers: Sequence[tuple[str, str]] = ()

    def __init_subclass__(
        cls,
        *,
        status: int | None = None,
        title: str | None = None,
        retry_after: int | None = None,
        challenge: str | None = None,
    ) -> None:
        """Define a kind of problem; its slug is its name. What is not given is that of its base."""
        super().__init_subclass__()
        if title is not None:
            cls.title, cls.slug = title, re.sub(r"(?<!^)(?=[A-Z])", "-", cls.__name__).lower()
        cls.status = status or cls.status
        cls.retry_after = retry_after or cls.retry_after
        cls.challenge = challenge or cls.challenge

    def __init__(self, detail: str = "", **members: object) -> None:
        super().__init__(detail or self.title)
        self.detail = detail
        self.members = members


class BadRequest(Problem, status=400, title="The request cannot be understood"):
    """400: the request is not one that we understand."""


class BadName(BadRequest, title="No image can have this name"):
    """400: no image can have this name."""


class BadParameter(BadRequest, title="A parameter is wrong"):
    """400: a query parameter is unknown, given twice, or has a bad value."""

    def __init__(self, parameter: str, detail: str, **members: object) -> None:
        super().__init__(detail, parameter=parameter, **members)

    @classmethod
    def expected(cls, what: str, parameter: str, received: str) -> BadParameter:
        """The one way in which values are refused: *Expected X for Y but received 'Z'.*"""
        excerpt = received if len(received) <= 40 else received[:39] + "…"
        return cls(parameter, f"Expected {what} for {parameter} but received {excerpt!r}.")


class BadPattern(BadParameter, title="The pattern cannot be used"):
    """400: a regular expression that RE2 does not take."""


class BadBody(BadRequest, title="The body of the request is wrong"):
    """400: the body of an upload has the wrong form."""


class DigestMismatch(BadRequest, title="The bytes are not the ones that the digest names"):
    """400: the bytes that arrived are not those that the sender's digest names."""


class Unauthenticated(Problem, status=401, title="Credentials are needed", challenge="Bearer"):
    """401: this needs credentials, and the request has none that are accepted."""


class InvalidToken(Unauthenticated, title="The token is not accepted"):
    """401: a token is damaged, expired, not signed by the provider, or meant for others (RFC 6750, section 3.1)."""

    def __init__(self, detail: str = "", **members: object) -> None:
        super().__init__(detail, **members)
        self.challenge = f'Bearer error="invalid_token", error_description="{detail or self.title}"'


class LinkRefused(Problem, status=401, title="The signature of this temporary URL is not valid"):
    """401: a temporary URL whose signature is missing or wrong."""


class Forbidden(Problem, status=403, title="This is not allowed with these credentials"):
    """403: the credentials of the request do not allow this."""


class LoginFailed(Problem, status=403, title="The login did not succeed"):
    """403: the identity provider refused a login, or what it answered does not belong to one that began here."""


class CrossOrigin(Problem, status=403, title="Pages of other sites change nothing here"):
    """403: a page of another site requests a change; browsers send its forms, and cookies, without a preflight."""


class OriginalsNotServed(Problem, status=403, title="Originals are not served here"):
    """403: originals hold positions and names, and are served only where that is allowed."""


class ImageNotFound(Problem, status=404, title="There is no such image"):
    """404: the container was asked, and has no such image."""


class ArtifactNotFound(Problem, status=404, title="There is no such artifact"):
    """404: the container was asked, and has no artifact with this digest."""


class SnapshotNotFound(Problem, status=404, title="There is no such snapshot"):
    """404: the container was asked, and has no such snapshot."""


class KeyNotFound(Problem, status=404, title="There is no such API key"):
    """404: no API key has this name."""


class UploadNotFound(Problem, status=404, title="There is no such upload"):
    """404: no unfinished upload of the caller has this id: it has ended, has expired, or lies on another node."""


class OffsetConflict(Problem, status=409, title="The next bytes of the upload are others"):
    """409: a part of an upload begins at another byte than the next one; ``offset`` is that of the next one."""


class NameConflict(Problem, status=409, title="The name stands for something else"):
    """409: the name is taken: a content address of other bytes, or another entry's."""


class PartlyDone(Problem, status=409, title="Not all of these records could be changed"):
    """409: of the records that a filter means, some could not be changed; the others are.

    ``matched`` and ``modified`` count them, ``failed`` names those that could not be changed, each with the reason,
    and ``more`` says how many further ones there are.
    """


class RequestTimeout(Problem, status=408, title="The request took too long"):
    """408: the head of the request did not come in time, or has a form that does not end."""


class LinkExpired(Problem, status=410, title="This temporary URL has expired"):
    """410: a temporary URL after its time."""


class PreconditionFailed(Problem, status=412, title="A condition of the request does not hold"):
    """412: a condition of the request does not hold."""


class TooLarge(Problem, status=413, title="Too many bytes"):
    """413: more bytes than the configuration allows."""


class QuotaExceeded(TooLarge, title="The quota of this user is used up"):
    """413: a user would have more bytes than the configuration allows each."""


class UriTooLong(Problem, status=414, title="The address is too long"):
    """414: the target of the request has more bytes than the configuration allows."""


class NotAPicture(Problem, status=415, title="This is not a picture in a format that is read here"):
    """415: these bytes are none of the formats that are read here."""


class UnsupportedPicture(Problem, status=415, title="This kind of picture is not supported"):
    """415: a sound picture, but of a kind that is not read here: a depth, a compression, a camera's raw data."""


class BrokenPicture(Problem, status=422, title="The picture is damaged"):
    """422: a picture of a known format, but damaged."""


class BrokenArchive(Problem, status=422, title="The archive cannot be read"):
    """422: what was to be imported is no archive that can be read."""


class OverBudget(Problem, status=422, title="The picture is larger than a render may be"):
    """422: too many pixels, frames, scans, or too much metadata."""


class HeadersTooLarge(Problem, status=431, title="Too many bytes before the body"):
    """431: the request line and the headers have more bytes than the configuration allows."""


class ChecksumMismatch(Problem, status=460, title="The bytes are not the ones that the checksum names"):
    """460: the bytes of a part are not those that ``Upload-Checksum`` names; none of them count (tus 1.0)."""


class OriginalDamaged(Problem, status=500, title="The original in the store is damaged"):
    """500: the bytes of an original are not those that were stored."""


class LinksNotConfigured(Problem, status=501, title="Temporary URLs need a key"):
    """501: there is no key with which temporary URLs could be signed."""


class LoginNotConfigured(Problem, status=501, title="Nobody can log in here"):
    """501: people log in where ``access.oidc.client_id`` names a client of an identity provider."""


class CatalogueDisabled(Problem, status=501, title="There is no catalogue here"):
    """501: nothing can be searched without a catalogue."""


class LibraryMissing(Problem, status=501, title="A library that this needs is not installed"):
    """501: a request needs an optional library, and it is not installed."""


class UploadLocked(Problem, status=423, title="Another request is at work on the upload", retry_after=2):
    """423: another request writes to the upload, or stores it; the same again succeeds soon."""


class TooManyUploads(Problem, status=429, title="Too many uploads are not finished", retry_after=60):
    """429: the caller has as many unfinished uploads as it may (``uploads.max_open``)."""


class TooManyRenders(Problem, status=429, title="Too many pictures were rendered for this client"):
    """429: the client has had as many pictures rendered as it may in a minute (RFC 6585, section 4)."""

    def __init__(self, detail: str, retry_after: int, headers: Sequence[tuple[str, str]]) -> None:
        super().__init__(detail)
        self.retry_after = retry_after
        self.headers = headers


class Busy(Problem, status=503, title="Too much to do at the moment", retry_after=2):
    """503: as many renders run and wait as may."""


class ProviderUnavailable(
    Problem, status=503, title="The identity provider cannot be asked at the moment", retry_after=5
):
    """503: a token cannot be verified, because the keys of the identity provider are not known at the moment."""


class StoreUnavailable(Problem, status=503, title="The store cannot be asked at the moment", retry_after=2):
    """503: the store could not be asked. It says nothing of what is in it."""


class NotTheWriter(Problem, status=503, title="Another node writes to this container", retry_after=15):
    """503: another node writes to the container, and nothing orders the writes of two (``catalogue.url``)."""


class CatalogueUnavailable(Problem, status=503, title="The catalogue cannot be asked at the moment", retry_after=5):
    """503: the index could not be asked. Pictures are served all the same."""


class QueryTooSlow(Problem, status=503, title="The query takes too long", retry_after=10):
    """503: a query took longer than the configuration allows."""


class Unfinished(Problem, status=503, title="Not all of these records are changed yet", retry_after=2):
    """503: a change of many records ended before all were changed, for a reason that passes.

    The same again does the rest. ``matched`` and ``modified`` count what was done, ``failed`` names records that could
    not be changed, each with the reason, and ``more`` says how many further ones there are. Where it ended before all
    were looked at, ``last`` is the name of the last one: with ``name__gt=LAST`` it goes on behind that.
    """


class RenderTimeout(Problem, status=504, title="The picture took too long to make"):
    """504: waiting for a render took longer than a request may."""


class InsufficientStorage(Problem, status=507, title="There is no room for the upload", retry_after=60):
    """507: there is no room for a further unfinished upload (``uploads.max_size``, or the disk)."""


class ConfigurationError(Exception):
    """Mistakes in the configuration, all of them.

    :param mistakes: one line each, ``FILE:LINE: setting: what was expected``
    """

    def __init__(self, mistakes: Sequence[str]) -> None:
        super().__init__("\n".join(mistakes))
        self.mistakes = tuple(mistakes)
