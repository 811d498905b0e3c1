"""``/artifacts``: files of any kind, stored and served byte by byte."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import Any

from flask import Flask, request, url_for

from image_repo import wiring
from image_repo.access.control import Action
from image_repo.catalogue.grammar import FILTER_WORDS, PAGE_WORDS
from image_repo.config import Config
from image_repo.errors import ArtifactNotFound, BadBody, BadParameter
from image_repo.model.parameters import read_boolean
from image_repo.model.strict_json import read_object
from image_repo.repository.artifacts import GRAMMAR, KIND, OCTETS, PREFIX, Artifacts
from image_repo.repository.metadata import check_data
from image_repo.repository.repository import Repository
from image_repo.web import catalogue, openapi, responses, uploads
from image_repo.web.conditions import ConditionalRequest
from image_repo.web.identity import authorise, is_shared, principal
from image_repo.web.paths import check_encoding
from image_repo.web.responses import Reply

_PATH = "/artifacts"
#: of one artifact: name → (schema, help)
_READ_PARAMETERS: dict[str, tuple[dict[str, Any], str]] = {
    "meta": ({"type": "boolean"}, "the record instead of the bytes"),
}
#: of an upload; a form may say them in parts of the same names
_UPLOAD_PARAMETERS: dict[str, tuple[dict[str, Any], str]] = {
    "kind": (
        {"type": "string", "pattern": f"^{KIND.pattern}$"},
        "what sort of file it is, else file",
    ),
    "meta": ({"type": "object"}, "what you say of it, a JSON object: at most 64 KiB, nested at most 32 deep"),
}
_TOKEN = r"[A-Za-z0-9!#$%&'*+.^_`|~-]+"  # noqa: S105, RFC 9110, section 5.6.2
#: RFC 9110, section 8.3.1, without quoted strings
_MEDIA_TYPE = re.compile(rf"{_TOKEN}/{_TOKEN}(?: ?; ?{_TOKEN}={_TOKEN})*")
_MAX_MEDIA_TYPE_CHARS, _MAX_FILENAME_CHARS = 200, 200


def install(app: Flask, repo: Repository, config: Config) -> None:
    """Add the routes."""
    artifacts = wiring.build_artifacts(config, repo)
    views = _Views(repo, artifacts, config.cors_origin)
    one = f"{_PATH}/<any_path:artifact_id>"
    app.add_url_rule(_PATH, "artifacts", views.list, methods=["GET"])
    app.add_url_rule(_PATH, "add_artifact", views.add, methods=["POST"])
    app.add_url_rule(one, "artifact", views.get, methods=["GET"])
    app.add_url_rule(one, "delete_artifact", views.delete, methods=["DELETE"])


class _Views:
    """The views of ``/artifacts`` over one repository."""

    def __init__(self, repo: Repository, artifacts: Artifacts, origin: str | None) -> None:
        self._repo = repo
        self._artifacts = artifacts
        self._origin = origin

    # -- writing ---------------------------------------------------------------------

    def add(self) -> Reply:
        """``POST /artifacts?kind=K&meta={JSON}``: 201, or 200 where these bytes were known."""
        parameters = catalogue.read_parameters(_UPLOAD_PARAMETERS)
        authorise(self._repo, Action.WRITE, PREFIX)
        with uploads.receive(self._repo, "a file") as upload:
            _add_fields(parameters, upload.fields)
            artifact, is_new = self._artifacts.put(
                principal(),
                upload.spool,
                kind=_kind(parameters.get("kind")),
                media_type=_media_type(upload.content_type),
                filename=_filename(upload.filename),
                meta=_meta(parameters.get("meta")),
            )
        members = {"artifact_id": artifact.artifact_id, "kind": artifact.kind, "bytes": artifact.bytes}
        reply = responses.send_json(members, 201 if is_new else 200)
        reply.headers.append(("Location", url_for("artifact", artifact_id=artifact.artifact_id)))
        return reply

    def delete(self, artifact_id: str) -> Reply:
        """``DELETE /artifacts/sha256:HEX``: returns what went."""
        check_encoding(request.environ)
        catalogue.read_parameters(())
        return responses.send_json(
            {"artifact_id": artifact_id, "deleted": self._artifacts.delete(principal(), artifact_id)}
        )

    # -- reading ---------------------------------------------------------------------

    def list(self) -> Reply:
        """``GET /artifacts``: a page of records."""
        query = catalogue.read_query((*FILTER_WORDS, *PAGE_WORDS), grammar=GRAMMAR)
        page, shared = self._artifacts.page(principal(), query.query), is_shared(self._repo, Action.LIST, PREFIX)
        state = catalogue.tell_unknown_keys(self._artifacts.unknown_keys(principal(), query.query.paths()))
        return catalogue.send_page(page, query, "artifacts", state, self._origin, is_shared=shared)

    def get(self, artifact_id: str) -> Reply:
        """``GET`` and ``HEAD /artifacts/sha256:HEX``: exactly those bytes, or with ``meta`` their record."""
        check_encoding(request.environ)
        parameters = catalogue.read_parameters(_READ_PARAMETERS)
        artifact, conditions = self._artifacts.get(principal(), artifact_id), ConditionalRequest(request.environ)
        shared = self._artifacts.is_shared(principal(), artifact)
        if read_boolean("meta", parameters.get("meta", "false")):
            return responses.send_tagged(conditions, artifact.public(), origin=self._origin, is_shared=shared)
        head = responses.ResponseHead(
            media_type=artifact.media_type,
            etag=artifact.sha256,
            modified=artifact.modified,
            filename=artifact.filename or artifact.sha256,
            attachment=True,
            cache_control=responses.caching(0, is_immutable=True, is_shared=shared),
            origin=self._origin,
            sha256=artifact.sha256,
        )
        unchanged = responses.not_modified(conditions, head)
        if unchanged:
            return unchanged
        if request.method == "HEAD":
            if not self._artifacts.is_whole(principal(), artifact):
                raise ArtifactNotFound(f"The bytes of {artifact.artifact_id} are not there any more.")
            return responses.send_head(head, artifact.bytes)
        with ExitStack() as stack:
            spool = stack.enter_context(self._artifacts.open(principal(), artifact))
            return responses.send_file(conditions, head, spool.file, spool.size, stack)


# -- uploads -----------------------------------------------------------------------------


def _add_fields(parameters: dict[str, str], fields: Mapping[str, Sequence[str]]) -> None:
    """Add the fields of a form to the parameters of its request."""
    for name, texts in fields.items():
        if name not in _UPLOAD_PARAMETERS:
            raise BadBody(f"Expected a form to have the parts file, kind and meta, but received {name[:40]!r}.")
        if name in parameters or len(texts) > 1:
            raise BadParameter(name, f"The parameter {name} is given more than once.")
        parameters[name] = texts[0]


def _kind(text: str | None) -> str | None:
    if text is None or KIND.fullmatch(text):
        return text
    raise BadParameter.expected("1 to 64 letters, digits, '.', '_' and '-'", "kind", text)


def _meta(text: str | None) -> dict[str, Any] | None:
    if text is None:
        return None
    try:
        meta = read_object(text, "meta")
        check_data(meta, "meta")
    except BadBody as problem:
        raise BadParameter("meta", problem.detail) from problem
    return meta


def _media_type(text: str | None) -> str | None:
    """Return a media type that may stand in a header; None for one that says nothing."""
    if not text or text == OCTETS or text.startswith(uploads.URL_ENCODED):
        return None
    return text if len(text) <= _MAX_MEDIA_TYPE_CHARS and _MEDIA_TYPE.fullmatch(text) else None


def _filename(text: str | None) -> str | None:
    """Return the name of a file without folders and unprintable characters."""
    last = (text or "").replace("\\", "/").rpartition("/")[2]
    printable = "".join(char for char in last if char.isprintable())
    return printable[:_MAX_FILENAME_CHARS] or None


# -- OpenAPI -----------------------------------------------------------------------------


def paths() -> openapi.Paths:
    """Return the OpenAPI paths of artifacts."""
    facts = {"application/json": {"schema": {"type": "object"}}}
    octets = {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}
    form = {"type": "object", "properties": {"file": {"type": "string", "format": "binary"}}, "required": ["file"]}
    body = {"required": True, "content": {uploads.MULTIPART: {"schema": form}, **octets}}
    made = openapi.operation(
        "Store a file under its content address", openapi.query(_UPLOAD_PARAMETERS), facts, requestBody=body
    )
    made["responses"]["201"] = {"description": "it is new", "content": facts}
    asking = [*catalogue.filters(data="meta"), *openapi.query({**FILTER_WORDS, **PAGE_WORDS})]
    return {
        _PATH: {"get": openapi.operation("A page of the records that match", asking, facts), "post": made},
        f"{_PATH}/{{artifact_id}}": {
            "parameters": [openapi.in_path("artifact_id", "sha256: and 64 hexadecimal digits")],
            "get": openapi.operation(
                "Exactly those bytes, or their record", openapi.query(_READ_PARAMETERS), octets | facts
            ),
            "delete": openapi.operation("Delete an artifact", [], facts),
        },
    }
