"""The interface for machines: ``/openapi.json`` (OpenAPI 3.1).

Parameters and problems are told from the tables that the program itself reads, so they cannot differ from it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flask import Flask

from image_repo import __version__
from image_repo.config import Config
from image_repo.model.formats import BY_KIND, WRITABLE
from image_repo.model.operations import PARAMETERS
from image_repo.web import problems, responses

#: what can be asked for beside a recipe: name → (schema, help)
BESIDE: dict[str, tuple[dict[str, Any], str]] = {
    "url": ({"type": "boolean"}, "a temporary URL instead of the picture: {name, url, expires}"),
    "lifetime": ({"type": "integer", "minimum": 1}, "seconds for which that URL must hold"),
    "meta": ({"type": "boolean"}, "the record instead of the picture"),
    "regex": ({"type": "string"}, "every image below the path whose remaining name matches (RE2)"),
    "download": ({"type": "string"}, "save it, under this name if one is given"),
    "v": ({"type": "string"}, "the version: under it, the answer may be kept for ever"),
}
_DERIVED = {"derived": ({"type": "boolean"}, "renditions only: a purge")}
_PICTURES = {BY_KIND[kind].media_type: {"schema": {"type": "string", "format": "binary"}} for kind in WRITABLE}
_PROBLEM = {
    "description": "a problem (RFC 9457)",
    "content": {problems.MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
}
_RECORD_ANSWER = {"application/json": {"schema": {"$ref": "#/components/schemas/Record"}}}
_DATA = {"schema": {"description": "what you say of it, any JSON but null: at most 64 KiB, nested at most 32 deep"}}
#: the body of a change of data
DATA = {"required": True, "content": {"application/merge-patch+json": _DATA, "application/json": _DATA}}
_LINK_ANSWER = {"schema": {"oneOf": [{"$ref": "#/components/schemas/Record"}, {"$ref": "#/components/schemas/Link"}]}}
#: while the catalogue is being made, more may be found later
_REBUILDING = {"catalogue": {"enum": ["rebuilding"]}}
_STRINGS = ("name", "version", "sha256", "image_id", "media_type", "uploaded")


#: path → what can be done there, as OpenAPI has it
Paths = dict[str, Any]


def install(app: Flask, config: Config, *more: Paths) -> dict[str, Any]:
    """Add the route; return the document.

    :param more: what other parts of the interface say of themselves
    """
    told = document("/" + config.repository_base_pathname, *more)
    app.add_url_rule(
        "/openapi.json", "openapi", lambda: responses.send_json(told, cache_control="no-cache", origin="*")
    )
    return told


def document(base: str, *more: Paths) -> dict[str, Any]:
    """The OpenAPI document.

    :param base: what all paths of images begin with, with a ``/`` ahead
    :param more: further paths, and further methods of those that are here
    """
    told = _document(base)
    for paths in more:
        for path, item in paths.items():
            told["paths"][path] = {**told["paths"].get(path, {}), **item}
    return told


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
            base: {
                "post": _upload("Store a picture under its content address, a description under its own name"),
            },
            one: {
                "parameters": [in_path("name", "a path; slashes and a known image ending are allowed")],
                "get": _picture("A picture, its record, or a temporary URL of it"),
                "put": _upload("Store a picture, or replace what is said of it"),
                "post": _upload("Store a picture, or replace what is said of it"),
                "patch": operation(
                    "Merge into what is said of an image (RFC 7396)", [], _RECORD_ANSWER, requestBody=DATA
                ),
                "delete": operation("Delete an image, or its renditions", query(_DERIVED), {"application/json": {}}),
            },
            folder: {
                "parameters": [in_path("folder", "a path")],
                "get": _picture("All below a folder: the one picture, a zip, or a list", {"application/zip": {}}),
                "post": _upload("Store a picture under its file's own name, a description under its own"),
            },
            "/health": {"get": operation("Whether the process lives", [], {"application/json": {}})},
            "/metrics": {"get": operation("What happened on this node (Prometheus)", [], {"text/plain": {}})},
            "/readyz": {"get": operation("Whether the store can be asked", [], {"application/json": {}})},
        },
        "components": {"schemas": _schemas()},
    }


def operation(summary: str, parameters: list[dict[str, Any]], content: dict[str, Any], **more: Any) -> dict[str, Any]:
    """What can be done with a path, and that every trouble is told as a problem."""
    answered = {"200": {"description": "done", "content": content}, "default": _PROBLEM}
    return {"summary": summary, "parameters": parameters, "responses": answered, **more}


def _picture(summary: str, more: dict[str, Any] | None = None) -> dict[str, Any]:
    parameters = [parameter.document() for parameter in PARAMETERS.values()]
    content = {**_PICTURES, "application/json": _LINK_ANSWER, **(more or {})}
    return operation(summary, [*parameters, *query(BESIDE)], content)


def _upload(summary: str) -> dict[str, Any]:
    form = {
        "type": "object",
        "properties": {
            "file": {"type": "string", "format": "binary"},
            "data": {
                "type": "string",
                "description": "what you say of it, as JSON; an object if there are other fields",
            },
        },
        "required": ["file"],
    }
    raw = {"schema": {"type": "string", "format": "binary"}}
    content = {"multipart/form-data": {"schema": form}, "image/*": raw, "application/json": _DATA}
    body = {"required": True, "content": content}
    made = operation(summary, [], _RECORD_ANSWER, requestBody=body)
    made["responses"]["201"] = {"description": "it is new", "content": _RECORD_ANSWER}
    return made


def query(parameters: Mapping[str, tuple[dict[str, Any], str]]) -> list[dict[str, Any]]:
    """Parameters of a query string from their table: name → (schema, help)."""
    return [
        {"name": name, "in": "query", "description": text, "schema": schema}
        for name, (schema, text) in parameters.items()
    ]


def in_path(name: str, text: str) -> dict[str, Any]:
    """A parameter that is part of the path."""
    return {"name": name, "in": "path", "required": True, "description": text, "schema": {"type": "string"}}


def _schemas() -> dict[str, Any]:
    # Null until there is a picture; a name there always is.
    facts: dict[str, Any] = {name: {"type": ["string", "null"]} for name in _STRINGS}
    facts |= {"name": {"type": "string"}}
    facts |= {name: {"type": ["integer", "null"]} for name in ("bytes", "width", "height")}
    facts |= {name: {"type": ["string", "null"]} for name in ("filename", "owner")}
    facts |= {"exif": {"type": "object"}, "data": {}}
    facts |= {name: {"type": "boolean"} for name in ("damaged", "preview")}  # only where it is so
    counts: dict[str, Any] = {name: {"type": "integer"} for name in ("count", "limit", "pages")}
    counts |= {"page": {"type": ["integer", "null"]}, "count_is": {"enum": ["estimate"]}}
    texts = {name: {"type": "string"} for name in ("type", "title", "detail", "instance", "parameter")}
    return {
        "Record": {"type": "object", "properties": facts},
        "Link": {"type": "object", "properties": {name: {"type": "string"} for name in ("name", "url", "expires")}},
        "Page": {
            "type": "object",
            "properties": {
                **counts,
                "images": {"type": "array", "items": {"$ref": "#/components/schemas/Record"}},
                **_REBUILDING,
            },
        },
        "Changed": {
            "type": "object",
            "properties": {**{name: {"type": "integer"} for name in ("matched", "modified")}, **_REBUILDING},
        },
        "PartlyChanged": _partly_changed(),
        "Statistics": _statistics(),
        "Problem": {"type": "object", "properties": {**texts, "status": {"type": "integer"}}},
    }


def _partly_changed() -> dict[str, Any]:
    texts = {name: {"type": "string"} for name in ("name", "title", "detail")}
    failed = {"type": "object", "properties": {**texts, "status": {"type": "integer"}}}
    counts = {name: {"type": "integer"} for name in ("matched", "modified", "more")}
    told = {**counts, "failed": {"type": "array", "items": failed}, "last": {"type": "string"}}
    return {"allOf": [{"$ref": "#/components/schemas/Problem"}, {"type": "object", "properties": told}]}


def _statistics() -> dict[str, Any]:
    scalar = {"type": ["string", "number", "boolean", "null"]}
    value = {"type": "object", "properties": {"count": {"type": "integer"}, "value": scalar}}
    return {
        "type": "object",
        "properties": {
            "_id": {"type": "null"},
            "max": {"type": ["string", "number", "null"]},
            "min": {"type": ["string", "number", "null"]},
            "avg": {"type": ["number", "null"]},
            "count": {"type": "integer"},
            "key": {"type": "string"},
            "values": {"type": "array", "items": value},
            "more": {"type": "integer"},
            **_REBUILDING,
        },
    }
