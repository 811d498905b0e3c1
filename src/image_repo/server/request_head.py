"""Heads of requests that uWSGI takes and RFC 9110 and 9112 refuse."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from image_repo.errors import BadRequest, HeadersTooLarge, UriTooLong

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

#: as a server names it; a proxy before us may speak another with its clients
_PROTOCOL = re.compile(r"HTTP/\d(\.\d)?")
#: as an environ spells the names of header fields (RFC 9110, section 5.1)
_NAMES = re.compile(r"[A-Z0-9!#$%&'*+.^_`|~]*")
_CONTROL = re.compile(r"[\0\r\n]")
#: of one host, not of two that uWSGI has joined (RFC 9112, section 3.2)
_HOST = re.compile(r"[^\s,/?#@]*")
#: a target in absolute form, but for its path (RFC 9112, section 3.2.2)
_AUTHORITY = re.compile(r"https?://[^/?]*", re.IGNORECASE)
#: header fields with names of their own
_MAX_FIELDS = 100


def check_head(environ: WSGIEnvironment, max_bytes: int, *, host_required: bool) -> None:
    """Check the head of a request, and give its target the usual form.

    :param max_bytes: of the request line and the header fields
    :param host_required: whether the server reads HTTP from clients
    :raises BadRequest: when it is malformed: uWSGI hands on what it could not read
    :raises UriTooLong: when the target alone has more bytes than may be
    :raises HeadersTooLarge: when the head has
    """
    # With a space in the target, what stands behind it is the protocol to uWSGI (RFC 9112, section 3.2).
    if not environ.get("REQUEST_METHOD") or not _PROTOCOL.fullmatch(environ.get("SERVER_PROTOCOL", "")):
        raise BadRequest("Expected a request of HTTP/1.1 or HTTP/1.0, its target without spaces.")
    environ["REQUEST_METHOD"] = environ["REQUEST_METHOD"].lstrip("\r\n")  # empty lines before it (section 2.2)
    target = environ.get("REQUEST_URI") or environ.get("PATH_INFO", "") + environ.get("QUERY_STRING", "")
    if len(target) > max_bytes:
        raise UriTooLong(f"Expected a target of at most {max_bytes} bytes.")
    fields = {name[5:]: value for name, value in environ.items() if name.startswith("HTTP_")}
    names, values = "".join(fields), "".join(fields.values())
    if len(fields) > _MAX_FIELDS or len(target) + len(names) + len(values) > max_bytes:
        raise HeadersTooLarge(f"Expected at most {_MAX_FIELDS} header fields, of at most {max_bytes} bytes.")
    if not _NAMES.fullmatch(names) or _CONTROL.search(values):
        raise BadRequest("Expected each header field on one line, with no space before its colon.")
    if host_required and environ["SERVER_PROTOCOL"] == "HTTP/1.1" and not _HOST.fullmatch(fields.get("HOST", ",")):
        raise BadRequest("Expected one Host.")
    if absolute := _AUTHORITY.match(target):
        environ["REQUEST_URI"] = target[absolute.end() :]
        environ["PATH_INFO"] = _AUTHORITY.sub("", environ.get("PATH_INFO", ""), count=1)
