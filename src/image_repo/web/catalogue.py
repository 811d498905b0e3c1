"""The collection over HTTP: pages of records, changes of many, ``/search``, ``/stats/KEY``."""

from __future__ import annotations

from collections.abc import Collection as Known
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, unquote_to_bytes, urlencode

from flask import Flask, request

from image_repo.catalogue.base import Page
from image_repo.catalogue.grammar import (
    BULK_WORDS,
    FILTER_WORDS,
    IMAGES,
    OPERATORS,
    PAGE_WORDS,
    Grammar,
    ParsedQuery,
    Words,
)
from image_repo.catalogue.query import Filter
from image_repo.config import Config
from image_repo.errors import BadBody, BadParameter, BadRequest, PartlyDone, Problem, Unfinished
from image_repo.model.parameters import integer, unknown_parameter
from image_repo.repository.collection import Changed, Collection
from image_repo.web import openapi, problems, responses, uploads
from image_repo.web.conditions import ConditionalRequest
from image_repo.web.identity import principal
from image_repo.web.paths import check_encoding
from image_repo.web.responses import Reply

#: the most values of a key that are told
MOST_VALUES = 1_000
#: what can be asked of ``/stats/KEY`` beside a filter
STATISTICS_WORDS: Words = {
    "limit": (
        {"type": "integer", "minimum": 1, "maximum": MOST_VALUES, "default": MOST_VALUES},
        "how many values are told, the most frequent first",
    ),
}
#: conditions of a request that hold for one image
_CONDITIONS = ("If-Match", "If-None-Match", "If-Unmodified-Since")
_most_values = integer(1, MOST_VALUES)


def install(app: Flask, collection: Collection, config: Config) -> None:
    """Adds the routes."""
    views = _Views(collection, config)
    base = "/" + config.repository_base_pathname
    app.add_url_rule(base, "list", views.list, methods=["GET"])
    app.add_url_rule(base, "patch_many", views.patch, methods=["PATCH"])
    app.add_url_rule(base, "delete_many", views.delete, methods=["DELETE"])
    app.add_url_rule("/search", "search", views.search, methods=["GET"])
    app.add_url_rule("/stats/<any_path:key>", "statistics", views.statistics, methods=["GET"])


def wanted(
    known: Known[str], others: Known[str] = (), *, single_underscore: bool = False, grammar: Grammar = IMAGES
) -> ParsedQuery:
    """What the query string of this request asks for.

    :param known: the words that mean something here, of :mod:`image_repo.catalogue.grammar`
    :param others: words that the caller reads by itself
    :raises BadParameter: as :meth:`~image_repo.catalogue.grammar.Grammar.read` says
    :raises BadRequest: for a query string that is no UTF-8
    """
    try:
        unquote_to_bytes(request.query_string).decode()
    except UnicodeDecodeError as error:
        raise BadRequest("The query is not UTF-8.") from error
    return grammar.read(request.args.items(multi=True), known, others, single_underscore=single_underscore)


def said(known: Known[str]) -> dict[str, str]:
    """The parameters of this request.

    :raises BadParameter: for one that is unknown, or given twice
    """
    told: dict[str, str] = {}
    for name, value in request.args.items(multi=True):
        if name not in known:
            raise unknown_parameter(name, known)
        if name in told:
            raise BadParameter(name, f"The parameter {name} is given more than once.")
        told[name] = value
    return told


class _Views:
    """The views over one collection."""

    def __init__(self, collection: Collection, config: Config) -> None:
        self._collection = collection
        self._origin = config.cors_origin
        # A server ends requests that take too long: what is done has to be told before.
        self._seconds = config.server.request_timeout / 2

    # -- asking ----------------------------------------------------------------------

    def list(self) -> Reply:
        """``GET /images``: a page of records."""
        return self._page(single_underscore=False)

    def search(self) -> Reply:
        """``GET /search``: the same page; one underscore is enough for an operator."""
        return self._page(single_underscore=True)

    def _page(self, *, single_underscore: bool) -> Reply:
        asked = wanted((*FILTER_WORDS, *PAGE_WORDS), single_underscore=single_underscore)
        page = self._collection.page(principal(), asked.query)
        return send_page(page, asked, "images", self._state(surely=page.count == 0), self._origin)

    def statistics(self, key: str) -> Reply:
        """``GET /stats/KEY``: what values a key has."""
        check_encoding(request.environ)
        path = IMAGES.path("KEY", key)
        asked = wanted(FILTER_WORDS, STATISTICS_WORDS, single_underscore=True)
        most = _most_values("limit", asked.rest.get("limit", str(MOST_VALUES)))
        found = self._collection.statistics(principal(), asked.query.filter, path, most)
        members: dict[str, Any] = {
            "_id": None,
            "max": found.most,
            "min": found.least,
            "avg": found.mean,
            "count": found.count,
            "key": key,
            "values": [{"count": count, "value": value} for value, count in found.values],
        }
        more = {"more": found.more} if found.more else {}
        return responses.send_tagged(
            ConditionalRequest(request.environ), {**members, **more, **self._state()}, origin=self._origin
        )

    def _state(self, *, surely: bool = True) -> dict[str, str]:
        """That more may be found later, while the catalogue is being made."""
        return {"catalogue": "rebuilding"} if self._collection.rebuilding(surely=surely) is not None else {}

    # -- changing many ---------------------------------------------------------------

    def patch(self) -> Reply:
        """``PATCH /images?FILTER``: merges the body into the data of all that match."""
        meant, patch = _meant(), uploads.data()
        if not isinstance(patch, dict):
            raise BadBody("Expected a JSON object: anything else would replace all that is said of many images.")
        return self._changed(self._collection.update(principal(), meant, patch, seconds=self._seconds))

    def delete(self) -> Reply:
        """``DELETE /images?FILTER``: deletes all that match."""
        return self._changed(self._collection.delete(principal(), _meant(), seconds=self._seconds))

    def _changed(self, changed: Changed) -> Reply:
        counts: dict[str, Any] = {"matched": changed.matched, "modified": changed.modified, **self._state()}
        if changed.is_whole:
            return responses.send_json(counts)
        raise _partly(changed, counts)


def _meant() -> Filter:
    """Which records are to be changed.

    :raises BadRequest: where everything is meant and does not say so, and for conditions that hold for one image
    """
    condition = next((name for name in _CONDITIONS if name in request.headers), None)
    if condition:
        raise BadRequest(f"{condition} holds for one image: the records of many have no entity tag together.")
    asked = wanted((*FILTER_WORDS, *BULK_WORDS))
    if asked.query.filter.is_empty and not asked.everything:
        raise BadRequest("Expected a filter, or all=True where everything is meant.", parameter="all")
    return asked.query.filter


def _partly(changed: Changed, counts: Mapping[str, Any]) -> Problem:
    """What is told where not all was done: 503 where the same again may do more, else 409."""
    failed = len(changed.failed) + changed.more
    members = {**counts, "failed": [each.public() for each in changed.failed], "more": changed.more}
    told = f"Of {changed.matched} records that match, {changed.modified} are changed and {failed} could not be."
    if changed.ended:
        members["last"] = changed.last
        told += f" It ended before all were looked at: {changed.ended.detail or changed.ended.title}"
        told += " With name__gt and the last name, it goes on behind that."
    return (Unfinished if changed.ended or changed.passing else PartlyDone)(told, **members)


# -- pages ----------------------------------------------------------------------------------


def send_page(page: Page, asked: ParsedQuery, what: str, state: Mapping[str, str], origin: str | None) -> Reply:
    """A page under its own entity tag, with the addresses of the pages beside it.

    :param what: the member that holds the documents
    :param state: further members
    """
    members = {**_members(page, asked, what), **state}
    reply = responses.send_tagged(ConditionalRequest(request.environ), members, origin=origin)
    reply.headers.append(("Link", ", ".join(f'<{address}>; rel="{rel}"' for rel, address in _links(page, asked))))
    if origin:
        reply.headers.append(("Access-Control-Expose-Headers", "ETag, Link"))
    return reply


def _members(page: Page, asked: ParsedQuery, what: str) -> dict[str, Any]:
    limit = asked.query.limit
    members = {
        "count": page.count,
        "page": asked.page,
        "limit": limit,
        "pages": -(-page.count // limit),
        what: page.documents,
    }
    return members if page.exact else {**members, "count_is": "estimate"}


def _links(page: Page, asked: ParsedQuery) -> list[tuple[str, str]]:
    """The pages beside this one (RFC 8288); the next by where this one ends, so that it costs no more than this one."""
    found = [("first", _address({}))]
    if asked.query.after is None and asked.query.skip > 0:
        found.append(("prev", _address(_before(asked))))
    if page.after is not None:
        number = {} if asked.page is None else {"page": asked.page + 1}
        found.append(("next", _address({"after": page.after, **number})))
    return found


def _before(asked: ParsedQuery) -> dict[str, object]:
    """Where the page before begins, said as this one was."""
    if "page" in request.args and asked.page is not None:
        return {"page": asked.page - 1} if asked.page > 2 else {}
    skip = asked.query.skip - asked.query.limit
    return {"skip": skip} if skip > 0 else {}


def _address(place: Mapping[str, object]) -> str:
    """This request, at another place of what it asks for."""
    kept = [pair for pair in request.args.items(multi=True) if pair[0] not in ("after", "page", "skip")]
    query = urlencode([*kept, *place.items()], quote_via=quote)
    path = quote(request.script_root + request.path)
    return f"{path}?{query}" if query else path


# -- what is told of it ---------------------------------------------------------------------


def paths(base: str) -> openapi.Paths:
    """What can be done here, as OpenAPI has it.

    :param base: what all paths of images begin with, with a ``/`` ahead
    """
    asking = [*filters(), *openapi.query({**FILTER_WORDS, **PAGE_WORDS})]
    searching = [*filters(one="_"), *openapi.query({**FILTER_WORDS, **PAGE_WORDS})]
    counting = [*filters(one="_"), *openapi.query({**FILTER_WORDS, **STATISTICS_WORDS})]
    page, values = _answer("Page"), _answer("Statistics")
    key = openapi.in_path("key", "a field of the record, or a key of data: width, site.plot, data.site.plot")
    return {
        base: {
            "get": openapi.operation("A page of the records that match", asking, page),
            "patch": _changing("Merge into what is said of all images that match (RFC 7396)", requestBody=openapi.DATA),
            "delete": _changing("Delete all images that match"),
        },
        "/search": {"get": openapi.operation("The same page; one underscore is enough", searching, page)},
        "/stats/{key}": {
            "parameters": [key],
            "get": openapi.operation("What values a key has, in the records that match", counting, values),
        },
    }


def _changing(summary: str, **more: Any) -> dict[str, Any]:
    meaning = [*filters(), *openapi.query({**FILTER_WORDS, **BULK_WORDS})]
    partly = _answer("PartlyChanged", problems.MEDIA_TYPE)
    made = openapi.operation(summary, meaning, _answer("Changed"), **more)
    made["responses"]["409"] = {"description": "some of them could not be changed", "content": partly}
    made["responses"]["503"] = {
        "description": "not all are changed yet: the same again does the rest",
        "content": partly,
    }
    return made


def _answer(schema: str, media_type: str = "application/json") -> dict[str, Any]:
    return {media_type: {"schema": {"$ref": f"#/components/schemas/{schema}"}}}


def filters(one: str = "__", data: str = "data") -> list[dict[str, Any]]:
    """Parameters whose names are the user's own: an object, spread over the query (OpenAPI 3.1, style form).

    :param data: the member in which any key is looked for that is no field
    """
    operators = "; ".join(f"{name}: {text}" for name, text in OPERATORS.items())
    text = (
        "KEY=VALUE or KEY__OP=VALUE: a condition, and all of them have to hold. KEY: a field of the record, else a key "
        f"of {data}; dots lead into objects and into each element of a list. VALUE: 30 is the number and the text, "
        f'true false null are themselves, "true" is text. OP: {operators}.'
    )
    also = " KEY_gt KEY_gte KEY_lt KEY_lte KEY_ne with one underscore also work." if one == "_" else ""
    schema = {"type": "object", "additionalProperties": {"type": "string"}}
    told = {"name": f"KEY{one}OP", "in": "query", "description": text + also, "schema": schema}
    return [{**told, "style": "form", "explode": True}]
