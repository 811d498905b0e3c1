"""What every operation of the OpenAPI document has: an id, a tag, the statuses of its problems, headers."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

METHODS = frozenset(("get", "head", "put", "post", "patch", "delete"))
_WORD = re.compile(r"\{\w+\}|\w+")
#: status → what it means, of any operation
_PROBLEMS = {
    "400": "a parameter, the path or the body cannot be understood",
    "401": "credentials are needed, or were not accepted",
    "403": "the credentials do not allow this",
    "404": "there is no such thing, or the caller may not know of it",
    "405": "another method than those of this path",
    "409": "the name stands for something else",
    "410": "the link has expired",
    "412": "a condition of the request does not hold",
    "413": "too many bytes",
    "415": "not a picture in a format that is read here",
    "416": "the range lies outside of the picture",
    "422": "the picture is damaged, or larger than a render may be",
    "423": "another request is at work on the upload, with Retry-After",
    "429": "too many renders for this client, or unfinished uploads, with Retry-After",
    "460": "the bytes are not those that the checksum names",
    "501": "the configuration has not what this needs",
    "503": "too much to do, or the store cannot be asked, with Retry-After",
    "504": "the picture took too long to make",
    "507": "there is no room for the upload",
}
_UNCHANGED = {"304": "unchanged: an entity tag or a date of the request still holds"}
_OF_ALL = ("400", "401", "403", "404", "501", "503")
_OF_METHOD = {
    "get": ("304", "412"),
    "head": ("412",),
    "put": ("409", "412", "413", "415", "422"),
    "post": ("409", "412", "413", "415", "422"),
    "patch": ("409", "412", "413", "415"),
    "delete": ("409", "412"),
}
#: first part of the path → statuses of what changes something there
_OF_PATH = {"uploads": ("413", "415", "422", "423", "429", "460", "507")}
_OF_PICTURES = ("410", "416", "422", "429", "504")
#: first part of the path → group of the documentation; others are pictures
_TAGS = {
    "search": "find", "keys": "find", "stats": "find", "grid": "find",
    "artifacts": "collections", "snapshots": "collections", "export": "collections", "import": "collections",
    "trash": "collections", "uploads": "images",
    "iiif": "other addresses", "oembed": "other addresses", "thumbor": "other addresses",
    "imgproxy": "other addresses", "dzi": "other addresses",
    "me": "access", "access": "access", "login": "access", "logout": "access",
    "health": "operation", "metrics": "operation", "readyz": "operation",
}  # fmt: skip
_HEADERS = {
    "ETag": "entity tag, strong; known before rendering (RFC 9110)",
    "Last-Modified": "when the original was stored",
    "Cache-Control": "how long it may be stored, and by whom (RFC 9111)",
    "Content-Disposition": "the name to save it under",
    "Cache-Status": "which layer has answered (RFC 9211)",
    "Server-Timing": "milliseconds of each step of a render",
}


def complete(operation: dict[str, Any], method: str, path: str) -> None:
    """Add to an operation what follows from its method and path.

    :param path: beginning with ``/images`` where the configuration has another base
    """
    words = list(_words(path))
    operation["operationId"] = method + "".join(words)
    operation["tags"] = [_TAGS.get(path.split("/")[1], "images")]
    success = operation["responses"].get("200", {})
    is_picture = method == "get" and any(kind.startswith("image/") for kind in success.get("content", {}))
    of_path = _OF_PATH.get(path.split("/")[1], ())
    for code in sorted({*_OF_ALL, *_OF_METHOD[method], *of_path, *(_OF_PICTURES if is_picture else ())}):
        operation["responses"].setdefault(code, {"$ref": f"#/components/responses/{code}"})
    if is_picture:
        success["headers"] = {name: {"$ref": f"#/components/headers/{name}"} for name in _HEADERS}
        operation["responses"].setdefault("206", {"description": "a part of it", "content": success["content"]})


def _words(path: str) -> Iterator[str]:
    """Yield the words of an id: ``/images/{name}`` → Images ByName."""
    for word in _WORD.findall(path):
        parts = word.strip("{}").replace(".", "_").split("_")
        yield ("By" if word.startswith("{") else "") + "".join(part[:1].upper() + part[1:] for part in parts)


def components(problem: dict[str, Any]) -> dict[str, Any]:
    """Return the responses and headers to which operations refer.

    :param problem: the Response Object of a problem
    """
    responses = {code: {**problem, "description": text} for code, text in _PROBLEMS.items()}
    headers = {name: {"description": text, "schema": {"type": "string"}} for name, text in _HEADERS.items()}
    return {
        "responses": {**responses, **{code: {"description": text} for code, text in _UNCHANGED.items()}},
        "headers": headers,
    }
