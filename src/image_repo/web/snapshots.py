"""``/snapshots``: queries that are frozen, for papers to cite."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from typing import Any
from urllib.parse import quote, urlencode

from flask import Flask, request, url_for

from image_repo.catalogue.grammar import FILTER_WORDS, PAGE_WORDS
from image_repo.config import Config
from image_repo.errors import BadParameter
from image_repo.model.parameters import integer, read_boolean
from image_repo.repository.repository import Repository
from image_repo.repository.snapshots import Change, Snapshot, Snapshots
from image_repo.web import catalogue, openapi, responses
from image_repo.web.conditions import ConditionalRequest
from image_repo.web.identity import principal
from image_repo.web.paths import check_encoding
from image_repo.web.responses import Reply

_PATH = "/snapshots"
#: there is no registered media type of JSON lines; this is what everybody says
_LINES = "application/jsonl"
_MOST_PER_PAGE = 1_000
#: images that are looked at between two signs of life
_AT_ONCE = 500

_FREEZING: dict[str, tuple[dict[str, Any], str]] = {
    "exif": ({"type": "boolean"}, "whether camera, lens and capture time are kept too"),
}
_ONE: dict[str, tuple[dict[str, Any], str]] = {
    "meta": ({"type": "boolean"}, "what is told of it instead of the manifest"),
    "check": ({"type": "boolean"}, "which of its images are missing by now, or have other bytes"),
}
_LISTING = {name: PAGE_WORDS[name] for name in ("limit", "page", "skip")}


def install(app: Flask, repo: Repository, config: Config) -> None:
    """Adds the routes."""
    views = _Views(Snapshots(repo), config.cors_origin)
    app.add_url_rule(_PATH, "snapshots", views.list, methods=["GET"])
    app.add_url_rule(_PATH, "freeze", views.freeze, methods=["POST"])
    app.add_url_rule(f"{_PATH}/<any_path:snapshot_id>", "snapshot", views.get, methods=["GET"])


class _Views:
    """The views over the snapshots of one repository."""

    def __init__(self, snapshots: Snapshots, origin: str | None) -> None:
        self._snapshots = snapshots
        self._origin = origin

    def freeze(self) -> Reply:
        """``POST /snapshots?FILTER``: 201, or 200 where the same images with the same data were frozen before."""
        asked = catalogue.wanted(FILTER_WORDS, _FREEZING)
        exif = read_boolean("exif", asked.rest.get("exif", "false"))
        words = urlencode([pair for pair in request.args.items(multi=True) if pair[0] != "exif"], quote_via=quote)
        frozen = self._snapshots.freeze(principal(), asked.query.filter, words, exif=exif)
        left_out = {"left_out": frozen.left_out} if frozen.left_out else {}
        response = responses.send_json({**frozen.snapshot.public(), **left_out}, 201 if frozen.new else 200)
        response.headers.append(("Location", url_for("snapshot", snapshot_id=frozen.snapshot.id)))
        return response

    def list(self) -> Reply:
        """``GET /snapshots``: those that were made last, the newest first."""
        told = catalogue.said(_LISTING)
        limit = integer(1, _MOST_PER_PAGE)("limit", told.get("limit", "100"))
        page = integer(1, 999_999)("page", told.get("page", "1"))
        if "page" in told and "skip" in told:
            raise BadParameter("skip", "Expected either skip or page, not both.")
        skip = integer(0, 999_999)("skip", told["skip"]) if "skip" in told else (page - 1) * limit
        found, count = self._snapshots.recent(principal(), skip, limit)
        members: dict[str, Any] = {
            "count": count,
            "page": skip // limit + 1,
            "limit": limit,
            "pages": -(-count // limit),
        }
        members["snapshots"] = [each.public() for each in found]
        response = responses.send_tagged(ConditionalRequest(request.environ), members, origin=self._origin)
        if skip + limit < count:
            response.headers.append(("Link", f'<{_PATH}?limit={limit}&skip={skip + limit}>; rel="next"'))
        return response

    def get(self, snapshot_id: str) -> Reply:
        """``GET /snapshots/ID``: the manifest, for ever; or what is told of it, or what became of its images."""
        check_encoding(request.environ)
        told = catalogue.said(_ONE)
        meta, check = (read_boolean(name, told.get(name, "false")) for name in ("meta", "check"))
        found = self._snapshots.get(principal(), snapshot_id)
        if check:
            return self._check(found)
        conditions = ConditionalRequest(request.environ)
        if meta:
            return responses.send_tagged(conditions, found.public(), origin=self._origin)
        head = self._head(found)
        unchanged = responses.not_modified(conditions, head)
        if unchanged:
            return unchanged
        if request.method == "HEAD":
            return responses.send_head(head, found.bytes)
        with ExitStack() as stack:
            spool = stack.enter_context(self._snapshots.open(principal(), found))
            return responses.send_file(conditions, head, spool.file, spool.size, stack)

    def _head(self, found: Snapshot) -> responses.ResponseHead:
        return responses.ResponseHead(
            media_type=_LINES,
            etag=found.sha256,
            modified=found.modified,
            filename=f"{found.id}.jsonl",
            attachment=True,
            cache_control=responses.caching(0, is_immutable=True),
            origin=self._origin,
            sha256=found.sha256,
        )

    def _check(self, found: Snapshot) -> Reply:
        changes = self._snapshots.changes(principal(), found)
        first = next(changes)  # what is wrong with the manifest shows before the answer begins
        return responses.stream_json(_findings(found, itertools.chain([first], changes)), origin=self._origin)


def _findings(found: Snapshot, changes: Iterable[tuple[str, Change | None]]) -> Iterator[str]:
    """One JSON object, as it comes: ``ok`` stands at its end, so what is cut off says nothing."""
    yield f'{{"id":"{found.id}","count":{found.count},"changes":['
    separator = ""
    for number, (name, change) in enumerate(changes, 1):
        if change:
            yield separator + json.dumps({"name": name, "is": change}, ensure_ascii=False)
            separator = ","
        elif number % _AT_ONCE == 0:
            yield "\n"  # whoever waits, and whoever ends what seems stuck, sees that it goes on
    yield f'],"ok":{"false" if separator else "true"}}}\n'


# -- what is told of it ------------------------------------------------------------------


def paths(base: str) -> openapi.Paths:
    """What can be done with snapshots, as OpenAPI has it.

    :param base: what the paths of images begin with; snapshots lie beside them
    """
    facts = {"application/json": {"schema": {"type": "object"}}}
    lines = {_LINES: {"schema": {"type": "string", "format": "binary"}}}
    asking = [*catalogue.filters(), *openapi.query({**FILTER_WORDS, **_FREEZING})]
    made = openapi.operation("Freeze what matches", asking, facts)
    made["responses"]["201"] = {"description": "it is new", "content": facts}
    return {
        _PATH: {"post": made, "get": openapi.operation("The newest snapshots", openapi.query(_LISTING), facts)},
        f"{_PATH}/{{snapshot_id}}": {
            "parameters": [openapi.in_path("snapshot_id", "64 hexadecimal digits")],
            "get": openapi.operation("The manifest, or what became of its images", openapi.query(_ONE), lines | facts),
        },
    }
