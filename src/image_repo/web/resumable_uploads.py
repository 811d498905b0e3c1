"""``/uploads``: uploads in parts that go on after a broken connection (tus 1.0, https://tus.io/protocols).

The end of each is the ordinary upload: what ``PUT /images/NAME`` does with a body, this does with the parts.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

from flask import Blueprint, Flask, Response, request, url_for
from werkzeug.exceptions import MethodNotAllowed, UnsupportedMediaType
from werkzeug.http import http_date

from image_repo import wiring
from image_repo.access.control import Action
from image_repo.config import Config
from image_repo.errors import BadRequest, ChecksumMismatch, PreconditionFailed, Problem, TooLarge
from image_repo.model.names import ImageName, parse_prefix
from image_repo.repository.partial_uploads import Announcement, PartialUpload, PartialUploads
from image_repo.repository.repository import Repository
from image_repo.repository.spool import Spool, check_digests
from image_repo.web import openapi
from image_repo.web.audit import WRITTEN_PATH
from image_repo.web.catalogue import read_parameters
from image_repo.web.client_address import client_key
from image_repo.web.identity import authorise, principal
from image_repo.web.images import Images
from image_repo.web.responses import EXPOSED, Headers, Reply
from image_repo.web.uploads import Upload

_PATH = "/uploads"
_VERSION = "1.0.0"
_EXTENSIONS = "creation,creation-with-upload,expiration,termination,checksum"
_PART = "application/offset+octet-stream"
#: of Upload-Checksum → of hashlib
_ALGORITHMS = {"sha1": "sha1", "sha256": "sha256", "sha512": "sha512", "md5": "md5"}
#: metadata that clients send of themselves: the first bytes decide what a file is
_IGNORED = frozenset(("filetype", "type", "relativePath"))
#: response headers that scripts of other origins may read
_EXPOSED = (
    EXPOSED[0],
    f"{EXPOSED[1]}, Tus-Extension, Tus-Max-Size, Tus-Resumable, Tus-Version, Upload-Expires, Upload-Length, "
    "Upload-Metadata, Upload-Offset",
)
#: of the requests, for OpenAPI
_HEADER_SCHEMAS: dict[str, dict[str, Any]] = {
    "Upload-Length": {"type": "integer", "minimum": 1},
    "Upload-Metadata": {"type": "string"},
    "Upload-Offset": {"type": "integer", "minimum": 0},
    "X-HTTP-Method-Override": {"enum": ["PATCH", "DELETE"]},
}
#: bytes that are read at a time: what a connection that breaks may cost
_READ_BYTES = 1 << 16
_MAX_DIGITS = 18
_METADATA_KEY = re.compile(r"[!-+\--~]+")


def install(app: Flask, repo: Repository, images: Images, config: Config) -> None:
    """Add the routes."""
    views = _Views(repo, images, wiring.build_partial_uploads(config, repo), config)
    routes = Blueprint("uploads", __name__)
    one = f"{_PATH}/<upload_id>"
    for path in (_PATH, one):
        routes.add_url_rule(path, "options", views.options, methods=["OPTIONS"])
    for path, name, view, method in (
        (_PATH, "create", views.create, "POST"),
        (one, "offset", views.offset, "HEAD"),
        (one, "append", views.append, "PATCH"),
        (one, "delete", views.delete, "DELETE"),
        (one, "override", views.override, "POST"),
    ):
        routes.add_url_rule(path, name, view, methods=[method], provide_automatic_options=False)
    routes.after_request(_add_headers(config))
    app.register_blueprint(routes)


def _add_headers(config: Config) -> Callable[[Response], Response]:
    """Return what adds the headers of every response, also of problems."""
    write_origins = frozenset(config.cors_write_origins)

    def add(response: Response) -> Response:
        if request.method != "OPTIONS":
            response.headers["Tus-Resumable"] = _VERSION
        if response.status_code == PreconditionFailed.status:
            response.headers["Tus-Version"] = _VERSION
        response.headers["Cache-Control"] = "no-store"
        response.headers[_EXPOSED[0]] = _EXPOSED[1]
        if request.method == "HEAD":  # Cors passes on reads as they are; scripts that write need this one
            origin = request.headers.get("Origin")
            allowed = origin if origin in write_origins else config.cors_origin
            if allowed is not None:
                response.headers["Access-Control-Allow-Origin"] = allowed
            response.headers["Vary"] = "Origin"
        return response

    return add


class _Views:
    """The views of ``/uploads``.

    :param images: stores what has arrived
    """

    def __init__(self, repo: Repository, images: Images, uploads: PartialUploads, config: Config) -> None:
        self._repo = repo
        self._images = images
        self._uploads = uploads
        self._max_bytes = min(config.server.max_upload, config.render.max_source)

    def options(self, **_: str) -> Reply:
        """``OPTIONS``: what is spoken here."""
        headers = [
            ("Tus-Version", _VERSION),
            ("Tus-Extension", _EXTENSIONS),
            ("Tus-Max-Size", str(self._max_bytes)),
            ("Tus-Checksum-Algorithm", ",".join(_ALGORITHMS)),
        ]
        return Reply(204, headers)

    def create(self) -> Reply:
        """``POST /uploads``: announces an upload, and may bring its first bytes."""
        read_parameters(())
        metadata = _Metadata(request.headers.get("Upload-Metadata", ""))
        authorise(self._repo, Action.WRITE, metadata.text_of_target)
        _check_version()
        length = self._read_length()
        has_body = request.mimetype == _PART
        if not has_body and request.content_length:
            raise UnsupportedMediaType(f"Expected no body, or the first bytes as {_PART}.")
        conditions = self._images.conditions()
        self._images.check(metadata.target, metadata.filename, metadata.fields, conditions)
        members = {
            "metadata": metadata.text,
            "match": None if conditions.match is None else sorted(conditions.match),
            "absent": conditions.absent,
            "repr_digest": request.headers.get("Repr-Digest"),
        }
        creator = _creator()
        client = client_key(request.environ) if principal().is_anonymous else creator
        announcement = Announcement(length, creator, client, members)
        upload = self._uploads.create(announcement, request.headers.get("X-Upload-Id"))
        where = [("Location", url_for("uploads.offset", upload_id=upload.id))]
        if not has_body:
            return Reply(201, [*where, ("Upload-Offset", "0"), *_expiry(upload)])
        try:
            reply = self._append(upload, 0)
        except Exception:
            upload.discard()  # its client does not know where it is
            raise
        return Reply(201, [*where, *(header for header in reply.headers if header[0] != "Location")])

    def offset(self, upload_id: str) -> Reply:
        """``HEAD /uploads/ID``: how many bytes have arrived."""
        upload = self._find(upload_id)
        headers = [("Upload-Length", str(upload.announcement.length)), *_progress(upload)]
        metadata = upload.announcement.request["metadata"]
        return Reply(200, [*headers, *((("Upload-Metadata", metadata),) if metadata else ())])

    def append(self, upload_id: str) -> Reply:
        """``PATCH /uploads/ID``: the next bytes; with the last ones the picture is stored."""
        upload = self._find(upload_id)
        if request.mimetype != _PART:
            raise UnsupportedMediaType(f"Expected the bytes as {_PART}.")
        return self._append(upload, _read_number("Upload-Offset"))

    def delete(self, upload_id: str) -> Reply:
        """``DELETE /uploads/ID``: forgets the bytes."""
        self._find(upload_id).delete()
        return Reply(204, [])

    def override(self, upload_id: str) -> Reply:
        """``POST /uploads/ID`` with X-HTTP-Method-Override, for clients that cannot send the method."""
        views = {"PATCH": self.append, "DELETE": self.delete, "HEAD": self.offset}
        view = views.get(request.headers.get("X-HTTP-Method-Override", "").upper())
        if view is None:
            authorise(self._repo, Action.WRITE, "")
            raise MethodNotAllowed(list(views), "Expected another method, or its name as X-HTTP-Method-Override.")
        return view(upload_id)

    def _find(self, upload_id: str) -> PartialUpload:
        """Return an upload of the caller, which may still write where it is to be stored."""
        read_parameters(())
        authorise(self._repo, Action.WRITE, "")
        _check_version()
        upload = self._uploads.find(upload_id, _creator())
        authorise(self._repo, Action.WRITE, _metadata_of(upload).text_of_target)
        return upload

    def _read_length(self) -> int:
        if "Upload-Defer-Length" in request.headers:
            raise BadRequest("Expected Upload-Length: a length that is told later is not accepted here.")
        length = _read_number("Upload-Length")
        if not length:
            raise BadRequest("Expected a picture, but the file is empty.")
        if length > self._max_bytes:
            raise TooLarge(f"At most {self._max_bytes} bytes are taken.", limit=self._max_bytes)
        return length

    def _append(self, upload: PartialUpload, offset: int) -> Reply:
        """Write the body behind an offset; store the picture where it has the last bytes."""
        chunks = iter(lambda: request.stream.read(_READ_BYTES), b"")
        checksum = request.headers.get("Upload-Checksum")
        if checksum is None:
            offset = upload.append(offset, chunks)
        else:
            digest = _read_checksum(checksum)
            with Spool(self._repo.policy.spool, self._max_bytes, hashed=False) as spool:
                _verify(spool.fill(chunks), *digest)
                offset = upload.append(offset, iter(lambda: spool.read(_READ_BYTES), b""))
        if offset == upload.announcement.length:
            return Reply(204, [("Upload-Offset", str(offset)), *self._store(upload)])
        return Reply(204, [("Upload-Offset", str(offset)), *_expiry(upload)])

    def _store(self, upload: PartialUpload) -> Headers:
        """Store the picture; return the headers that tell of it.

        What is refused is deleted. What fails otherwise waits for the last byte to come again.
        """
        members, metadata = upload.announcement.request, _metadata_of(upload)
        match = members["match"]
        conditions = replace(
            self._images.conditions(),
            match=None if match is None else frozenset(match),
            absent=members["absent"],
        )
        if metadata.target:
            request.environ[WRITTEN_PATH] = url_for("image", path=metadata.text_of_target)
        with upload.complete() as spool:
            try:
                check_digests(spool, members["repr_digest"], None)
                arrived = Upload(spool, None, metadata.filename, metadata.fields)
                record, _ = self._images.store(metadata.target, arrived, conditions)
            except Problem as problem:
                if problem.status < 500 and problem.status != 401:
                    upload.discard()
                raise
            location = url_for("image", path=record.name)
            request.environ[WRITTEN_PATH] = location
            headers = {"Location": location, "Content-Location": f"{location}?meta=True", "ETag": f'"{record.etag}"'}
            upload.finish(headers)
        return list(headers.items())


class _Metadata:
    """What ``Upload-Metadata`` says: ``name``, ``filename``, and as in a form the data.

    :param text: keys and values in base64, separated by commas
    """

    def __init__(self, text: str) -> None:
        self.text = text.strip()
        values = _read_metadata(self.text)
        name = values.pop("name", "")
        self.filename = values.pop("filename", None) or None
        self.fields = {key: [value] for key, value in values.items() if key not in _IGNORED}
        #: a name, a folder, or None for a name by content
        self.target: ImageName | str | None = None
        if name:
            self.target = parse_prefix(name) if name.endswith("/") else ImageName.readings(name)[0]

    @property
    def text_of_target(self) -> str:
        """The target of the action; empty for a name by content."""
        return self.target.text if isinstance(self.target, ImageName) else self.target or ""


def _metadata_of(upload: PartialUpload) -> _Metadata:
    return _Metadata(upload.announcement.request["metadata"])


def _read_metadata(text: str) -> dict[str, str]:
    values: dict[str, str] = {}
    for pair in text.split(",") if text else ():
        key, _, value = pair.strip().partition(" ")
        if not _METADATA_KEY.fullmatch(key) or key in values:
            raise BadRequest("Expected Upload-Metadata to be keys, each once, with values in base64: name bGFrZQ==.")
        try:
            values[key] = base64.b64decode(value.strip(), validate=True).decode()
        except (binascii.Error, ValueError) as error:
            raise BadRequest(f"Expected the value of {key[:40]} in Upload-Metadata as base64 of UTF-8.") from error
    return values


def _read_number(header: str) -> int:
    text = request.headers.get(header, "")
    if not (text.isascii() and text.isdigit() and len(text) <= _MAX_DIGITS):
        raise BadRequest(f"Expected {header} to be a number of bytes, but received {text[:40]!r}.")
    return int(text)


def _check_version() -> None:
    if request.headers.get("Tus-Resumable") != _VERSION:
        raise PreconditionFailed(f"Expected Tus-Resumable: {_VERSION}.")


def _read_checksum(text: str) -> tuple[str, bytes]:
    """Return the algorithm and the digest that Upload-Checksum names."""
    name, _, value = text.strip().partition(" ")
    try:
        return _ALGORITHMS[name], base64.b64decode(value.strip(), validate=True)
    except (KeyError, binascii.Error, ValueError) as error:
        raise BadRequest(f"Expected Upload-Checksum to be one of {', '.join(_ALGORITHMS)}, and base64.") from error


def _verify(spool: Spool, algorithm: str, digest: bytes) -> None:
    if spool.digest(algorithm) != digest:
        raise ChecksumMismatch(f"The {algorithm} of the {spool.size} bytes that arrived is another.")


def _creator() -> str:
    """Return what identifies the caller."""
    caller = principal()
    return json.dumps([caller.name, caller.owner])


def _progress(upload: PartialUpload) -> Headers:
    """Return the headers of how far an upload is, and how it has ended."""
    ended = list((upload.outcome or {}).items())
    return [("Upload-Offset", str(upload.offset)), *(ended if upload.outcome is not None else _expiry(upload))]


def _expiry(upload: PartialUpload) -> Headers:
    return [("Upload-Expires", http_date(upload.expires))]


# -- OpenAPI -----------------------------------------------------------------------------


def paths() -> openapi.Paths:
    """Return the OpenAPI paths of uploads in parts."""
    created = _operation("Announce an upload in parts (tus 1.0)", ("Upload-Length", "Upload-Metadata"), "201", False)
    return {
        _PATH: {"post": created},
        f"{_PATH}/{{upload_id}}": {
            "parameters": [openapi.in_path("upload_id", "the last part of Location")],
            "head": _operation("How many bytes have arrived, as Upload-Offset", (), "200", False),
            "post": _operation("PATCH or DELETE for clients that cannot send it", ("X-HTTP-Method-Override",), "204"),
            "patch": _operation("The next bytes; with the last ones the picture is stored", ("Upload-Offset",), "204"),
            "delete": _operation("Forget an upload", (), "204", False),
        },
    }


def _operation(summary: str, headers: Iterable[str], status: str, has_body: bool = True) -> dict[str, Any]:
    """Return the Operation Object of a request of tus.

    :param headers: of the request, beside Tus-Resumable
    """
    parameters = [_header("Tus-Resumable", {"const": _VERSION})]
    parameters += [_header(name, _HEADER_SCHEMAS[name]) for name in headers]
    bytes_ = {"required": True, "content": {_PART: {"schema": {"type": "string", "format": "binary"}}}}
    made = openapi.operation(summary, parameters, {}, **({"requestBody": bytes_} if has_body else {}))
    made["responses"][status] = {"description": made["responses"].pop("200")["description"]}
    return made


def _header(name: str, schema: Mapping[str, Any]) -> dict[str, Any]:
    return {"name": name, "in": "header", "required": name != "Upload-Metadata", "schema": schema}
