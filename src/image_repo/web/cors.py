"""Cross-origin requests (Fetch standard, CORS protocol): preflights, and which origins may write."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from image_repo.errors import CrossOrigin
from image_repo.web import problems
from image_repo.web.client_address import is_host_reliable, is_loopback
from image_repo.web.responses import EXPOSED, Headers, Reply, allow_origin

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

_READS, _WRITES = ("GET", "HEAD"), ("POST", "PUT", "PATCH", "DELETE")
#: request headers beyond the safelisted ones that the interface knows
_REQUEST_HEADERS = (
    "Authorization, Content-Type, Content-MD5, If-Match, If-Modified-Since, If-None-Match, If-Range, "
    "If-Unmodified-Since, Range, Repr-Digest, X-Request-ID"
)
#: those of writes alone: a preflight that allows them allows POST too, whatever methods it lists
_WRITE_HEADERS = "Tus-Resumable, Upload-Checksum, Upload-Length, Upload-Metadata, Upload-Offset, X-HTTP-Method-Override"
#: seconds for which a browser may remember a preflight; browsers take less
_MAX_AGE_S = 86_400
_FOREIGN_DETAIL = (
    "Pages of other sites change nothing here, unless cors_write_origins names them. Where the page is this server's "
    "own, a proxy has replaced Host: set public_url to the address that browsers show."
)


class Cors:
    """Answers preflights, and lets scripts of some origins read the responses to what they write; reads pass unchanged.

    Other sites change nothing: browsers send their forms without a preflight, also to a server that is open to all.

    :param read_origin: ``*``, an origin, or None: Access-Control-Allow-Origin of pictures and records
    :param write_origins: origins whose scripts may write
    :param public_url: this server's address as browsers see it, where that is configured
    """

    def __init__(
        self,
        application: WSGIApplication,
        read_origin: str | None,
        write_origins: Iterable[str],
        public_url: str | None = None,
    ) -> None:
        self._application = application
        self._read_origin = read_origin
        self._write_origins = frozenset(write_origins)
        self._public_host = _host(public_url or "")

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """WSGI (PEP 3333)."""
        origin, method = environ.get("HTTP_ORIGIN"), environ["REQUEST_METHOD"]
        if method in _WRITES and self._is_foreign(environ):
            return problems.respond(CrossOrigin(_FOREIGN_DETAIL), method, environ.get("PATH_INFO", ""))(
                environ, start_response
            )
        if origin is None:
            return self._application(environ, start_response)
        if method == "OPTIONS" and "HTTP_ACCESS_CONTROL_REQUEST_METHOD" in environ:
            return self._preflight(origin)(environ, start_response)
        if origin not in self._write_origins or method in _READS:
            return self._application(environ, start_response)

        def start(status: str, headers: Headers, *error: Any) -> Callable[[bytes], object]:
            other_headers = [header for header in headers if header[0].lower() != "access-control-allow-origin"]
            exposed = allow_origin(origin)
            if any(header[0] == EXPOSED[0] for header in other_headers):
                exposed.remove(EXPOSED)
            return start_response(status, [*other_headers, *exposed, ("Vary", "Origin")], *error)

        return self._application(environ, start)

    def _is_foreign(self, environ: WSGIEnvironment) -> bool:
        """Return whether a page of another site makes the request (Fetch Metadata; RFC 6454, section 7).

        Without TLS, browsers send Sec-Fetch-Site to their own machine alone: for other servers Origin is compared.
        """
        site, origin = environ.get("HTTP_SEC_FETCH_SITE"), environ.get("HTTP_ORIGIN")
        if origin in self._write_origins:
            return False
        has_token = environ.get("HTTP_AUTHORIZATION", "").lower().startswith("bearer ")  # pages need a preflight for it
        if site is not None or origin is None or has_token:
            return bool(site == "cross-site")
        own = _host(f"//{environ.get('HTTP_HOST', '')}")
        # A proxy on this machine may have replaced Host without any header of its own.
        is_known = own is not None and not is_loopback(own) and is_host_reliable(environ)
        return is_known and (_host(origin) or "null") not in (own, self._public_host)

    def _preflight(self, origin: str) -> Reply:
        may_write = origin in self._write_origins
        if not may_write and self._read_origin not in ("*", origin):
            return Reply(204, [("Vary", "Origin")])
        headers = [
            ("Access-Control-Allow-Origin", origin if may_write else self._read_origin or origin),
            ("Access-Control-Allow-Methods", ", ".join((*_READS, *_WRITES) if may_write else _READS)),
            (
                "Access-Control-Allow-Headers",
                f"{_REQUEST_HEADERS}, {_WRITE_HEADERS}" if may_write else _REQUEST_HEADERS,
            ),
            ("Access-Control-Max-Age", str(_MAX_AGE_S)),
            ("Vary", "Origin"),
        ]
        return Reply(204, headers)


def _host(url: str) -> str | None:
    """Return the host of an address; None where there is none."""
    try:
        return urlsplit(url).hostname
    except ValueError:
        return None
