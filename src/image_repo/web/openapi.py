"""The interface for machines: ``/openapi.json`` (OpenAPI 3.1).

Parameters and problems come from the tables that the program itself uses, so they cannot differ from it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flask import Flask, request

from image_repo import __version__
from image_repo.config import Config
from image_repo.model.formats import BY_KIND, WRITABLE
from image_repo.model.operations import PARAMETERS
from image_repo.web import problems, responses
from image_repo.web.openapi_responses import METHODS, complete, components
from image_repo.web.responses import Reply
from image_repo.web.sessions import SESSION_COOKIE

#: parameters of a picture beside those of the recipe: name → (schema, help)
READ_OPTIONS: dict[str, tuple[dict[str, Any], str]] = {
    "url": ({"type": "boolean"}, "a temporary URL instead of the picture: {name, url, expires}"),
    "lifetime": ({"type": "integer", "minimum": 1}, "lifetime of that URL in seconds"),
    "share": ({"type": "string"}, "a link by which anybody may read it: {name, url, expires}"),
    "srcset": ({"type": "string"}, "True, or widths such as 320,640: widths and URLs of the picture, for <img srcset>"),
    "meta": ({"type": "boolean"}, "the record instead of the picture: size, digest, version, camera, your own data"),
    "regex": ({"type": "string"}, "every image below the path whose remaining name matches (RE2)"),
    "download": ({"type": "string"}, "save it as a file, under this name if one is given"),
    "signature": ({"type": "string"}, "of a signed request (requests.mode: signed), made by image_repo sign"),
    "v": ({"type": "string"}, "the version, from the record: the response may be cached for ever"),
}
#: parameters of the deletion of an image
DELETIONS: dict[str, tuple[dict[str, Any], str]] = {
    "derived": ({"type": "boolean"}, "renditions only: a purge"),
    "permanent": ({"type": "boolean"}, "erase now, also what is in the bin of this name"),
}
#: parameters of a POST without a body
MOVES: dict[str, tuple[dict[str, Any], str]] = {
    "rename": ({"type": "string"}, "instead of an upload: the new name of the image"),
    "restore": ({"type": "string"}, "instead of an upload: True for the newest version in the bin, or its id"),
}
#: parameters of ``/trash``
TRASH: dict[str, tuple[dict[str, Any], str]] = {
    "prefix": ({"type": "string"}, "a folder of the repository"),
    "limit": ({"type": "integer", "minimum": 1, "maximum": 1000, "default": 100}, "how many are listed"),
}
_PICTURES = {BY_KIND[kind].media_type: {"schema": {"type": "string", "format": "binary"}} for kind in WRITABLE}


def _reference(schema: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{schema}"}


_PROBLEM = {"description": "a problem (RFC 9457)", "content": {problems.MEDIA_TYPE: {"schema": _reference("Problem")}}}
_RECORD = {"application/json": {"schema": _reference("Record")}}
_DATA = {
    "schema": {"description": "your data: any JSON but null, at most 64 KiB, nested at most 32 deep"},
    "example": {"species": "fox", "stars": 3},
}
#: the body of a change of data
DATA = {"required": True, "content": {"application/merge-patch+json": _DATA, "application/json": _DATA}}
_TRASH = {"application/json": {"schema": _reference("Trash")}}
_RECORD_OR_LINK = {"schema": {"anyOf": [_reference("Record"), _reference("Link")]}}
_SECURITY_SCHEMES = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "a token of the provider, or an API key"},
    "session": {"type": "apiKey", "in": "cookie", "name": SESSION_COOKIE, "description": "of a browser, by /login"},
}
#: while the catalogue is rebuilt, results are incomplete
_REBUILDING = {"catalogue": {"enum": ["rebuilding"]}}
#: keys that no record has, and what was probably meant
_UNKNOWN_KEYS = {
    "unknown_keys": {"type": "array", "items": {"type": "string"}},
    "nearest": {"type": "object", "additionalProperties": {"type": "string"}},
}
#: path → Path Item Object of OpenAPI
Paths = dict[str, Any]


def install(app: Flask, config: Config, *more: Paths) -> dict[str, Any]:
    """Add the route; return the document.

    :param more: paths of other parts of the interface
    """
    made = document("/" + config.repository_base_pathname, *more)

    def send() -> Reply:
        root = config.public_url or request.script_root or "/"
        members = {**made, "servers": [{"url": root}]}
        return responses.send_json(members, cache_control="no-cache", origin="*")

    app.add_url_rule("/openapi.json", "openapi", send)
    return made


def document(base: str, *more: Paths) -> dict[str, Any]:
    """Return the OpenAPI document.

    :param base: beginning of all paths of images, with a leading ``/``
    :param more: further paths, and further methods of paths
    """
    made = _document(base)
    for paths in more:
        for path, item in paths.items():
            made["paths"][path] = {**made["paths"].get(path, {}), **item}
    for path, item in made["paths"].items():
        name = "/images" + path.removeprefix(base) if f"{path}/".startswith(f"{base}/") else path
        for method in METHODS & item.keys():
            complete(item[method], method, name)
    made["components"] |= components(_PROBLEM)
    return made


def _document(base: str) -> dict[str, Any]:
    one, folder = f"{base}/{{name}}", f"{base}/{{folder}}/"
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "image_repo",
            "version": __version__,
            "description": "Any picture of a repository, in any size and format, by one URL.",
        },
        "paths": {
            base: {"post": _upload("Store a picture under its content address, a description under its own name")},
            one: {
                "parameters": [in_path("name", "a path; slashes and a known image ending are allowed", "lake")],
                "get": _picture("A picture, its record, or a temporary URL of it"),
                "put": _upload("Store a picture, or replace its data"),
                "post": _upload("Store a picture, or replace its data; rename or restore an image", MOVES),
                "patch": operation("Merge into the data of an image (RFC 7396)", [], _RECORD, requestBody=DATA),
                "delete": operation("Delete an image, or its renditions", query(DELETIONS), {"application/json": {}}),
            },
            folder: {
                "parameters": [in_path("folder", "a path")],
                "get": _picture("All below a folder: the one picture, a zip, or a list", {"application/zip": {}}),
                **{
                    method: _upload("Store a picture under its file's own name, a description under its own")
                    for method in ("post", "put")
                },
            },
            "/trash": {"get": operation("What was deleted or replaced, by name", query(TRASH), _TRASH)},
            "/health": {"get": operation("Liveness of the process", [], {"application/json": {}})},
            "/metrics": {"get": operation("Metrics of this node (Prometheus)", [], {"text/plain": {}})},
            "/readyz": {"get": operation("Readiness: whether the store answers", [], {"application/json": {}})},
        },
        "components": {"schemas": _schemas(), "securitySchemes": _SECURITY_SCHEMES},
        # The configuration says what needs a token or a session.
        "security": [{}, {"bearer": []}, {"session": []}],
    }


def operation(summary: str, parameters: list[dict[str, Any]], content: dict[str, Any], **more: Any) -> dict[str, Any]:
    """Return an Operation Object, whose errors are problems."""
    answers = {"200": {"description": "done", "content": content}, "default": _PROBLEM}
    return {"summary": summary, "parameters": parameters, "responses": answers, **more}


def _picture(summary: str, more: dict[str, Any] | None = None) -> dict[str, Any]:
    parameters = [parameter.document() for parameter in PARAMETERS.values()]
    content = {**_PICTURES, "application/json": _RECORD_OR_LINK, **(more or {})}
    return operation(summary, [*parameters, *query(READ_OPTIONS)], content)


def _upload(summary: str, parameters: Mapping[str, tuple[dict[str, Any], str]] | None = None) -> dict[str, Any]:
    data = {"type": "string", "description": "your data as JSON; an object where there are other fields"}
    form = {**_object({"file": {"type": "string", "format": "binary"}, "data": data}), "required": ["file"]}
    raw = {"schema": {"type": "string", "format": "binary"}}
    content = {"multipart/form-data": {"schema": form}, "image/*": raw, "application/json": _DATA}
    body = {"required": not parameters, "content": content}
    made = operation(summary, query(parameters or {}), _RECORD, requestBody=body)
    made["responses"]["201"] = {"description": "created", "content": _RECORD}
    return made


def query(parameters: Mapping[str, tuple[dict[str, Any], str]]) -> list[dict[str, Any]]:
    """Return the Parameter Objects of a table: name → (schema, help)."""
    return [
        {"name": name, "in": "query", "description": text, "schema": schema}
        for name, (schema, text) in parameters.items()
    ]


def in_path(name: str, text: str, example: str | None = None) -> dict[str, Any]:
    """Return the Parameter Object of a part of the path."""
    made = {"name": name, "in": "path", "required": True, "description": text, "schema": {"type": "string"}}
    return made if example is None else {**made, "example": example}


def _typed(type_: str | list[str], *names: str) -> dict[str, Any]:
    """Return properties of one type."""
    return {name: {"type": type_} for name in names}


def _object(*properties: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of an object."""
    return {"type": "object", "properties": {name: schema for each in properties for name, schema in each.items()}}


def _array(items: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": items}


def _schemas() -> dict[str, Any]:
    return {
        "Record": _object(
            # null without a picture, except the name
            _typed(["string", "null"], "version", "sha256", "image_id", "media_type", "uploaded", "filename", "owner"),
            _typed(["integer", "null"], "bytes", "width", "height"),
            _typed("string", "name"),
            _typed("object", "exif"),
            {"data": {}},
            # only where the pixels are known
            _typed("string", "dhash", "thumbhash"),
            {"palette": _array({"type": "string"})},
            _typed("boolean", "damaged", "preview"),  # only where true
        ),
        "Trash": _object({"items": _array(_trash_item())}),
        "Link": _object(_typed("string", "name", "url", "expires")),
        "Page": _object(
            _typed("integer", "count", "limit", "pages"),
            _typed(["integer", "null"], "page"),
            {"count_is": {"enum": ["estimate"]}, "images": _array(_reference("Record"))},
            _REBUILDING,
            _UNKNOWN_KEYS,
        ),
        "Changed": _object(
            _typed("integer", "matched", "modified"), _typed("boolean", "dry"), _REBUILDING, _UNKNOWN_KEYS
        ),
        "Keys": _object({"keys": _array(_key_usage())}, _typed("integer", "more"), _REBUILDING),
        "PartlyChanged": {"allOf": [_reference("Problem"), _partly_changed()]},
        "Statistics": _statistics(),
        "Problem": _object(
            _typed("string", "type", "title", "detail", "instance", "parameter", "login"), _typed("integer", "status")
        ),
    }


def _trash_item() -> dict[str, Any]:
    facts = _typed(["string", "null"], "sha256", "media_type"), _typed(["integer", "null"], "bytes")
    return _object(_typed("string", "name", "id", "at"), {"reason": {"enum": ["deleted", "replaced"]}}, *facts)


def _key_usage() -> dict[str, Any]:
    types = {"types": {"type": "object", "additionalProperties": {"type": "integer"}}}
    return _object(_typed("string", "key"), _typed("integer", "count"), types)


def _partly_changed() -> dict[str, Any]:
    failed = _object(_typed("string", "name", "title", "detail"), _typed("integer", "status"))
    counts = _typed("integer", "matched", "modified", "more")
    return _object(counts, {"failed": _array(failed)}, _typed("string", "last"))


def _statistics() -> dict[str, Any]:
    return _object(
        _typed("null", "_id"),
        _typed(["string", "number", "null"], "max", "min"),
        _typed(["number", "null"], "avg"),
        _typed("integer", "count", "more"),
        _typed("string", "key"),
        {
            "values": _array(
                _object(_typed("integer", "count"), _typed(["string", "number", "boolean", "null"], "value"))
            )
        },
        _REBUILDING,
        _UNKNOWN_KEYS,
    )
