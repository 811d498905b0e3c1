"""Conditional and range requests (RFC 9110, sections 13 and 14), without a server in mind."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from werkzeug.exceptions import RequestedRangeNotSatisfiable
from werkzeug.http import parse_date, parse_etags, parse_range_header, unquote_etag

from image_repo.errors import PreconditionFailed

#: environ key of each header that makes a request conditional or partial
CONDITIONAL_HEADERS = frozenset(
    f"HTTP_{name}"
    for name in ("RANGE", "IF_RANGE", "IF_MATCH", "IF_NONE_MATCH", "IF_MODIFIED_SINCE", "IF_UNMODIFIED_SINCE")
)


class ConditionalRequest:
    """The preconditions and the range of one request.

    :param environ: of WSGI (PEP 3333)
    """

    __slots__ = ("_headers", "method")

    def __init__(self, environ: Mapping[str, Any]) -> None:
        self.method: str = environ["REQUEST_METHOD"]
        self._headers: Mapping[str, str] = {} if CONDITIONAL_HEADERS.isdisjoint(environ) else environ

    def are_met(self, etag: str, modified: float | None) -> bool:
        """Return whether the representation is to be sent; False stands for 304 (RFC 9110, section 13.2.2).

        :param etag: of the representation, without quotes
        :param modified: seconds since the epoch; None where only the entity tag counts
        :raises PreconditionFailed: when ``If-Match`` or ``If-Unmodified-Since`` forbids it
        """
        headers = self._headers
        if not headers:
            return True
        match = headers.get("HTTP_IF_MATCH")
        if match is not None:
            if not parse_etags(match).contains(etag):
                raise PreconditionFailed("If-Match names another representation than this one.")
        elif _is_newer(modified, headers.get("HTTP_IF_UNMODIFIED_SINCE")):
            raise PreconditionFailed("It was modified since the time that If-Unmodified-Since names.")
        if self.method not in ("GET", "HEAD"):
            return True
        none_match = headers.get("HTTP_IF_NONE_MATCH")
        if none_match is not None:
            return not parse_etags(none_match).contains_weak(etag)
        since = headers.get("HTTP_IF_MODIFIED_SINCE")
        return modified is None or parse_date(since) is None or _is_newer(modified, since)

    def byte_range(self, etag: str, modified: float, size: int) -> tuple[int, int] | None:
        """Return the requested part as first byte and the byte behind the last; None for the whole.

        Several ranges at once are answered whole (RFC 9110, section 14.2, allows it): a few bytes of request must
        not cost a multipart response of any size. So are unknown units.

        :param size: of the whole, in bytes
        :raises RequestedRangeNotSatisfiable: when the range lies outside, or cannot be read
        """
        text = self._headers.get("HTTP_RANGE")
        if text is None or self.method != "GET" or not size or not self._if_range_holds(etag, modified):
            return None
        parsed = parse_range_header(text)
        if parsed is not None and (parsed.units != "bytes" or len(parsed.ranges) != 1):
            return None
        part = parsed.range_for_length(size) if parsed else None
        if part is None:
            raise RequestedRangeNotSatisfiable(size)
        return part

    def _if_range_holds(self, etag: str, modified: float) -> bool:
        """Compare strongly, as section 13.1.5 demands: a weak tag never holds, a date has to be the same."""
        text = self._headers.get("HTTP_IF_RANGE")
        if text is None:
            return True
        date = parse_date(text)
        if date is not None:
            return date.timestamp() == int(modified)
        return unquote_etag(text) == (etag, False)


def _is_newer(modified: float | None, date: str | None) -> bool:
    since = parse_date(date)
    return modified is not None and since is not None and int(modified) > since.timestamp()
