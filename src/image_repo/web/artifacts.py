"""``/artifacts``: files of any kind, stored and given back byte by byte."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, cast

from flask import Flask, request, url_for

from image_repo import wiring
from image_repo.catalogue.grammar import FILTER_WORDS, PAGE_WORDS
from image_repo.config import Config
from image_repo.errors import ArtifactNotFound, BadBody, BadParameter
from image_repo.model.parameters import read_boolean
from image_repo.model.strict_json import read_object
from image_repo.repository.artifacts import GRAMMAR, KIND, OCTETS, Artifact, Artifacts
from image_repo.repository.metadata import check_data
from image_repo.repository.repository import Repository
from image_repo.repository.spool import Spool, check_digests
from image_repo.stores.base import CHUNK
from image_repo.web import catalogue, openapi, responses, uploads
from image_repo.web.conditions import ConditionalRequest
from image_repo.web.identity import principal
from image_repo.web.paths import check_encoding
from image_repo.web.responses import Reply

_PATH = "/artifacts"
#: of one artifact: name → (schema, help)
_ONE: dict[str, tuple[dict[str, Any], str]] = {
    "meta": ({"type": "boolean"}, "the record instead of the bytes"),
}
#: of an upload; a form may say them in parts of the same names
_SAID: dict[str, tuple[dict[str, Any], str]] = {
    "kind": (
        {"type": "string", "pattern": f"^{KIND.pattern}$"},
        "what sort of file it is, else file",
    ),
    "meta": ({"type": "object"}, "what you say of it, a JSON object: at most 64 KiB, nested at most 32 deep"),
}
_TOKEN = r"[A-Za-z0-9!#$%&'*+.^_`|~-]+"  # noqa: S105, RFC 9110, section 5.6.2
#: RFC 9110, section 8.3.1, without quoted strings
_MEDIA_TYPE = re.compile(rf"{_TOKEN}/{_TOKEN}(?: ?; ?{_TOKEN}={_TOKEN})*")
_MOST_MEDIA_TYPE, _MOST_FILENAME = 200, 200
#: what programs send that were not told what they send
_UNTOLD = "application/x-www-form-urlencoded"


def install(app: Flask, repo: Repository, config: Config) -> None:
    """Adds the routes."""
    artifacts = Artifacts(repo, wiring.artifacts_follower(config, repo.origin))
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
        told = catalogue.said(_SAID)
        with _received(self._repo, told) as (spool, media_type, filename):
            kind, meta = _kind(told.get("kind")), _meta(told.get("meta"))
            made, new = self._artifacts.put(
                principal(), spool, kind=kind, media_type=media_type, filename=filename, meta=meta
            )
        members = {"artifact_id": made.artifact_id, "kind": made.kind, "bytes": made.bytes}
        response = responses.send_json(members, 201 if new else 200)
        response.headers.append(("Location", url_for("artifact", artifact_id=made.artifact_id)))
        return response

    def delete(self, artifact_id: str) -> Reply:
        """``DELETE /artifacts/sha256:HEX``: tells what went."""
        check_encoding(request.environ)
        catalogue.said(())
        return responses.send_json(
            {"artifact_id": artifact_id, "deleted": self._artifacts.delete(principal(), artifact_id)}
        )

    # -- reading ---------------------------------------------------------------------

    def list(self) -> Reply:
        """``GET /artifacts``: a page of records."""
        asked = catalogue.wanted((*FILTER_WORDS, *PAGE_WORDS), grammar=GRAMMAR)
        return catalogue.send_page(self._artifacts.page(principal(), asked.query), asked, "artifacts", {}, self._origin)

    def get(self, artifact_id: str) -> Reply:
        """``GET`` and ``HEAD /artifacts/sha256:HEX``: exactly those bytes, or with ``meta`` their record."""
        check_encoding(request.environ)
        parameters = catalogue.said(_ONE)
        artifact, conditions = self._artifacts.get(principal(), artifact_id), ConditionalRequest(request.environ)
        if read_boolean("meta", parameters.get("meta", "false")):
            return responses.send_tagged(conditions, artifact.public(), origin=self._origin)
        head = _head(artifact, self._origin)
        unchanged = responses.not_modified(conditions, head)
        if unchanged:
            return unchanged
        if request.method == "HEAD":
            if not self._artifacts.is_whole(artifact):
                raise ArtifactNotFound(f"The bytes of {artifact.artifact_id} are not there any more.")
            return responses.send_head(head, artifact.bytes)
        with ExitStack() as stack:
            spool = stack.enter_context(self._artifacts.open(principal(), artifact))
            return responses.send_file(conditions, head, spool.file, spool.size, stack)


def _head(artifact: Artifact, origin: str | None) -> responses.ResponseHead:
    return responses.ResponseHead(
        media_type=artifact.media_type,
        etag=artifact.sha256,
        modified=artifact.modified,
        filename=artifact.filename or artifact.sha256,
        attachment=True,
        cache_control=responses.caching(0, is_immutable=True),
        origin=origin,
        sha256=artifact.sha256,
    )


# -- what arrives ------------------------------------------------------------------------


@contextmanager
def _received(repo: Repository, told: dict[str, str]) -> Iterator[tuple[Spool, str | None, str | None]]:
    """The bytes that the request brings, what they are, and what the file is called.

    :param told: gets what a form says beside its file
    :raises BadBody: for a form without exactly one file, or that says something twice
    :raises DigestMismatch: when a digest of the sender does not fit
    """
    if request.mimetype == "multipart/form-data":
        storage = uploads.only_file()
        spool = cast("Spool", storage.stream)
        spool.seek(0)
        _take_form(told)
        _check(spool)
        yield spool, _media_type(storage.content_type), _filename(storage.filename)
        return
    with repo.writer.spool() as spool:
        spool.fill(iter(lambda: request.stream.read(CHUNK), b""))
        if not spool.size:
            raise BadBody("Expected a file in the body, or a form with a part 'file', but the body is empty.")
        _check(spool)
        yield spool, _media_type(request.content_type), None


def _check(spool: Spool) -> None:
    check_digests(spool, request.headers.get("Repr-Digest"), request.headers.get("Content-MD5"))


def _take_form(told: dict[str, str]) -> None:
    for name, text in request.form.items(multi=True):
        if name not in _SAID:
            raise BadBody(f"Expected a form to have the parts file, kind and meta, but received {name[:40]!r}.")
        if name in told:
            raise BadParameter(name, f"The parameter {name} is given more than once.")
        told[name] = text


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
    """A media type that may stand in a head; None for what says nothing."""
    if not text or text.startswith(_UNTOLD) or len(text) > _MOST_MEDIA_TYPE or not _MEDIA_TYPE.fullmatch(text):
        return None
    return None if text == OCTETS else text


def _filename(text: str | None) -> str | None:
    """What a file is called without the folders that it lay in, and what must not stand in a name."""
    last = (text or "").replace("\\", "/").rpartition("/")[2]
    printable = "".join(char for char in last if char.isprintable())
    return printable[:_MOST_FILENAME] or None


# -- what is told of it ------------------------------------------------------------------


def paths(base: str) -> openapi.Paths:
    """What can be done with artifacts, as OpenAPI has it.

    :param base: what the paths of images begin with; artifacts lie beside them
    """
    facts = {"application/json": {"schema": {"type": "object"}}}
    octets = {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}
    form = {"type": "object", "properties": {"file": {"type": "string", "format": "binary"}}, "required": ["file"]}
    body = {"required": True, "content": {"multipart/form-data": {"schema": form}, **octets}}
    made = openapi.operation("Store a file under its content address", openapi.query(_SAID), facts, requestBody=body)
    made["responses"]["201"] = {"description": "it is new", "content": facts}
    asking = [*catalogue.filters(data="meta"), *openapi.query({**FILTER_WORDS, **PAGE_WORDS})]
    return {
        _PATH: {"get": openapi.operation("A page of the records that match", asking, facts), "post": made},
        f"{_PATH}/{{artifact_id}}": {
            "parameters": [openapi.in_path("artifact_id", "sha256: and 64 hexadecimal digits")],
            "get": openapi.operation("Exactly those bytes, or their record", openapi.query(_ONE), octets | facts),
            "delete": openapi.operation("Delete an artifact", [], facts),
        },
    }
