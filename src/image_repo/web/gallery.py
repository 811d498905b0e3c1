"""``/``: the page for people, and ``/grid``, the columns from which it lays out any number of pictures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flask import Flask, Response, render_template, request

from image_repo import __version__
from image_repo.access.control import Action
from image_repo.catalogue.base import Page
from image_repo.catalogue.grammar import FILTER_WORDS, PAGE_WORDS, Words
from image_repo.catalogue.query import Filter, Path, Query
from image_repo.config import Config
from image_repo.model.formats import BY_ENDING
from image_repo.model.names import parse_prefix
from image_repo.repository.collection import Collection
from image_repo.repository.repository import Repository
from image_repo.web import openapi, responses
from image_repo.web.catalogue import filters, read_query, tell_unknown_keys
from image_repo.web.conditions import ConditionalRequest
from image_repo.web.identity import is_shared, principal
from image_repo.web.oembed import DISCOVERY_TYPE as OEMBED_TYPE
from image_repo.web.oembed import discovery_url
from image_repo.web.paths import server_root
from image_repo.web.problem_page import prefers_page
from image_repo.web.responses import NOSNIFF, Reply

#: pictures in one answer of ``/grid``; measured: 10,000 take 0.2 s and 600 kB, with two columns of times 0.3 s, 1.1 MB
MAX_ROWS = 10_000
#: parameters of ``/grid`` beside a filter
GRID_WORDS: Words = {
    "folder": ({"type": "string"}, "all below this folder"),
    "select": ({"type": "string"}, "further columns, separated by commas: exif.captured,data.site"),
    **{word: PAGE_WORDS[word] for word in ("sort", "after")},
}
#: members of a record that make the columns
_COLUMNS = {"names": "name", "versions": "version", "widths": "width", "heights": "height"}
#: hash of the one style sheet that OpenSeadragon 6.1 adds: the outline of what has the focus
_VIEWER_STYLE = "'sha256-9xTiqzfwFaL2SGb1rmr8gysEwVVjIvqWAgmZgqFqpEE='"
#: no inline script, no other host (Content Security Policy Level 3)
POLICY = (
    f"default-src 'none'; script-src 'self'; style-src 'self' {_VIEWER_STYLE}; img-src 'self' data: blob:; "
    "connect-src 'self'; worker-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)


def install(app: Flask, repo: Repository, collection: Collection, config: Config) -> None:
    """Add the routes."""
    base, origin = config.repository_base_pathname, config.cors_origin
    app.add_url_rule("/", "index", lambda: _index(base, config.public_url), methods=["GET"])
    app.add_url_rule("/grid", "grid", lambda: _grid(repo, collection, origin), methods=["GET"])


def _index(base: str, public_url: str | None) -> Reply | Response:
    """``GET /``: the page where a browser asks, else where the interface is; either leads to what embeds a picture."""
    varies, picture = ("Vary", "Accept"), request.args.get("picture", "")
    described = discovery_url(server_root(public_url), base, picture) if picture else ""
    if not prefers_page(request.environ):
        reply = responses.send_json({"name": "image_repo", "version": __version__, "images": f"/{base}"})
        reply.headers.append(varies)
        if described:
            reply.headers.append(("Link", f'<{described}>; rel="alternate"; type="{OEMBED_TYPE}"'))
        return reply
    headers = [("Content-Security-Policy", POLICY), ("Referrer-Policy", "same-origin"), NOSNIFF, varies]
    headers.append(("Cache-Control", "no-cache"))
    return Response(
        render_template("gallery.html", base=base, endings="|".join(sorted(BY_ENDING)), oembed=described),
        mimetype="text/html",
        headers=headers,
    )


def _grid(repo: Repository, collection: Collection, origin: str | None) -> Reply:
    """``GET /grid``: names, versions, widths and heights of what matches, in order, and the columns of ``select``."""
    parsed = read_query((*FILTER_WORDS, "sort", "after", "select"), ("folder",))
    folder, keys = parsed.rest.get("folder", ""), request.args.get("select", "").split(",")
    selected = dict(zip(keys, parsed.query.select, strict=False))
    query = Query(
        parsed.query.filter & Filter(prefix=parse_prefix(folder)),
        order=parsed.query.order,
        select=(*((member,) for member in _COLUMNS.values()), *selected.values()),
        limit=MAX_ROWS,
        after=parsed.query.after,
        exact=parsed.query.after is None,
    )
    page = collection.page(principal(), query)
    unknown = tell_unknown_keys(collection.unknown_keys(principal(), parsed.query.paths()))
    rebuilding = {"catalogue": "rebuilding"} if collection.rebuilding(surely=page.count == 0) is not None else {}
    return responses.send_tagged(
        ConditionalRequest(request.environ),
        {**_columns(page, selected), **unknown, **rebuilding},
        origin=origin,
        is_shared=is_shared(repo, Action.LIST, ""),
    )


def _columns(page: Page, selected: Mapping[str, Path]) -> dict[str, Any]:
    """Return a page of documents as columns; a description without a picture is 0 by 0.

    :param selected: key → path of further columns; null where a document has nothing there
    """
    columns = {name: [document.get(member) or 0 for document in page.documents] for name, member in _COLUMNS.items()}
    further = {key: [_value_at(document, path) for document in page.documents] for key, path in selected.items()}
    return {"count": page.count, "after": page.after, **columns, **({"columns": further} if further else {})}


def _value_at(document: Any, path: Path) -> Any:
    """Return what is at a path, which goes into objects alone; None where nothing is."""
    for member in path:
        document = document.get(member) if isinstance(document, Mapping) else None
    return document


# -- OpenAPI -----------------------------------------------------------------------------


def paths() -> openapi.Paths:
    """Return the OpenAPI path of the columns."""
    content = {"application/json": {"schema": {"type": "object"}}}
    parameters = [*filters(), *openapi.query({**FILTER_WORDS, **GRID_WORDS})]
    summary = f"Names, versions, widths and heights of what matches, as columns, {MAX_ROWS} at a time"
    return {"/grid": {"get": openapi.operation(summary, parameters, content)}}
