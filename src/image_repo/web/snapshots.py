"""``/snapshots``: queries that are frozen, for papers to cite."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from typing import Any
from urllib.parse import quote, urlencode

from flask import Flask, request, url_for

from image_repo.access.control import Action
from image_repo.catalogue.grammar import FILTER_WORDS, PAGE_WORDS
from image_repo.config import Config
from image_repo.errors import BadParameter
from image_repo.model.parameters import integer, read_boolean
from image_repo.repository.repository import Repository
from image_repo.repository.snapshots import PREFIX, Change, Snapshot, Snapshots
from image_repo.web import catalogue, openapi, responses
from image_repo.web.conditions import ConditionalRequest
from image_repo.web.identity import is_shared, principal
from image_repo.web.paths import check_encoding
from image_repo.web.responses import Reply

_PATH = "/snapshots"
#: no media type of JSON lines is registered; this one is usual
_JSON_LINES = "application/jsonl"
_MAX_PER_PAGE = 1_000
#: checked images after which a silent response gets a line break
_HEARTBEAT_IMAGES = 500

_FREEZE_PARAMETERS: dict[str, tuple[dict[str, Any], str]] = {
    "exif": ({"type": "boolean"}, "whether camera, lens and capture time are kept too"),
}
_READ_PARAMETERS: dict[str, tuple[dict[str, Any], str]] = {
    "meta": ({"type": "boolean"}, "its description instead of the manifest"),
    "check": ({"type": "boolean"}, "which of its images are missing by now, or have other bytes"),
}
_LIST_PARAMETERS = {name: PAGE_WORDS[name] for name in ("limit", "page", "skip")}


def install(app: Flask, repo: Repository, config: Config) -> None:
    """Add the routes."""
    views = _Views(repo, config.cors_origin)
    app.add_url_rule(_PATH, "snapshots", views.list, methods=["GET"])
    app.add_url_rule(_PATH, "freeze", views.freeze, methods=["POST"])
    app.add_url_rule(f"{_PATH}/<any_path:snapshot_id>", "snapshot", views.get, methods=["GET"])


class _Views:
    """The views of ``/snapshots`` over one repository."""

    def __init__(self, repo: Repository, origin: str | None) -> None:
        self._repo = repo
        self._snapshots = Snapshots(repo)
        self._origin = origin

    def freeze(self) -> Reply:
        """``POST /snapshots?FILTER``: 201, or 200 where the same images with the same data were frozen before."""
        query = catalogue.read_query(FILTER_WORDS, _FREEZE_PARAMETERS)
        exif = read_boolean("exif", query.rest.get("exif", "false"))
        words = urlencode([pair for pair in request.args.items(multi=True) if pair[0] != "exif"], quote_via=quote)
        frozen = self._snapshots.freeze(principal(), query.query.filter, words, exif=exif)
        left_out = {"left_out": frozen.left_out} if frozen.left_out else {}
        reply = responses.send_json({**frozen.snapshot.public(), **left_out}, 201 if frozen.new else 200)
        reply.headers.append(("Location", url_for("snapshot", snapshot_id=frozen.snapshot.id)))
        return reply

    def list(self) -> Reply:
        """``GET /snapshots``: a page of snapshots, the newest first."""
        parameters = catalogue.read_parameters(_LIST_PARAMETERS)
        limit = integer(1, _MAX_PER_PAGE)("limit", parameters.get("limit", "100"))
        page = integer(1, 999_999)("page", parameters.get("page", "1"))
        if "page" in parameters and "skip" in parameters:
            raise BadParameter("skip", "Expected either skip or page, not both.")
        skip = integer(0, 999_999)("skip", parameters["skip"]) if "skip" in parameters else (page - 1) * limit
        snapshots, count = self._snapshots.recent(principal(), skip, limit)
        members: dict[str, Any] = {"count": count, "page": skip // limit + 1, "limit": limit}
        members |= {"pages": -(-count // limit), "snapshots": [snapshot.public() for snapshot in snapshots]}
        shared = is_shared(self._repo, Action.LIST, PREFIX)
        conditions = ConditionalRequest(request.environ)
        reply = responses.send_tagged(conditions, members, origin=self._origin, is_shared=shared)
        if skip + limit < count:
            reply.headers.append(("Link", f'<{_PATH}?limit={limit}&skip={skip + limit}>; rel="next"'))
        return reply

    def get(self, snapshot_id: str) -> Reply:
        """``GET /snapshots/ID``: the manifest; or its description; or what became of its images."""
        check_encoding(request.environ)
        parameters = catalogue.read_parameters(_READ_PARAMETERS)
        meta, check = (read_boolean(name, parameters.get(name, "false")) for name in ("meta", "check"))
        snapshot = self._snapshots.get(principal(), snapshot_id)
        if check:
            return self._check(snapshot)
        conditions, shared = (
            ConditionalRequest(request.environ),
            self._snapshots.is_shared(principal(), snapshot),
        )
        if meta:
            return responses.send_tagged(conditions, snapshot.public(), origin=self._origin, is_shared=shared)
        head = responses.ResponseHead(
            media_type=_JSON_LINES,
            etag=snapshot.sha256,
            modified=snapshot.modified,
            filename=f"{snapshot.header.id}.jsonl",
            attachment=True,
            cache_control=responses.caching(0, is_immutable=True, is_shared=shared),
            origin=self._origin,
            sha256=snapshot.sha256,
        )
        unchanged = responses.not_modified(conditions, head)
        if unchanged:
            return unchanged
        if request.method == "HEAD":
            return responses.send_head(head, snapshot.bytes)
        with ExitStack() as stack:
            spool = stack.enter_context(self._snapshots.open(principal(), snapshot))
            return responses.send_file(conditions, head, spool.file, spool.size, stack)

    def _check(self, snapshot: Snapshot) -> Reply:
        changes = self._snapshots.changes(principal(), snapshot)
        first = next(changes)  # a broken manifest is found before the response begins
        return responses.stream_json(_findings(snapshot, itertools.chain([first], changes)), origin=self._origin)


def _findings(snapshot: Snapshot, changes: Iterable[tuple[str, Change | None]]) -> Iterator[str]:
    """Yield one JSON object. ``ok`` stands at its end, so that a response that is cut off does not claim it."""
    yield f'{{"id":"{snapshot.id}","count":{snapshot.count},"changes":['
    separator = ""
    for number, (name, change) in enumerate(changes, 1):
        if change:
            yield separator + json.dumps({"name": name, "is": change}, ensure_ascii=False)
            separator = ","
        elif number % _HEARTBEAT_IMAGES == 0:
            yield "\n"  # keeps clients and proxies from giving up
    yield f'],"ok":{"false" if separator else "true"}}}\n'


# -- OpenAPI -----------------------------------------------------------------------------


def paths() -> openapi.Paths:
    """Return the OpenAPI paths of snapshots."""
    facts = {"application/json": {"schema": {"type": "object"}}}
    lines = {_JSON_LINES: {"schema": {"type": "string", "format": "binary"}}}
    asking = [*catalogue.filters(), *openapi.query({**FILTER_WORDS, **_FREEZE_PARAMETERS})]
    made = openapi.operation("Freeze what matches", asking, facts)
    made["responses"]["201"] = {"description": "it is new", "content": facts}
    return {
        _PATH: {"post": made, "get": openapi.operation("The newest snapshots", openapi.query(_LIST_PARAMETERS), facts)},
        f"{_PATH}/{{snapshot_id}}": {
            "parameters": [openapi.in_path("snapshot_id", "64 hexadecimal digits")],
            "get": openapi.operation(
                "The manifest, or what became of its images", openapi.query(_READ_PARAMETERS), lines | facts
            ),
        },
    }
