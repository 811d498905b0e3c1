"""The collection over HTTP: pages of records, changes of many, ``/search``, ``/stats/KEY``."""

from __future__ import annotations

from collections.abc import Collection as Known
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import quote, unquote_to_bytes, urlencode

from flask import Flask, current_app, request

from image_repo.access.control import Action
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
from image_repo.catalogue.query import Path
from image_repo.config import Config
from image_repo.errors import BadBody, BadParameter, BadRequest, PartlyDone, Problem, Unfinished
from image_repo.model.parameters import integer, read_boolean, unknown_parameter
from image_repo.repository.collection import Changed, Collection
from image_repo.repository.reader import Reader
from image_repo.repository.repository import Repository
from image_repo.web import openapi, problems, responses, uploads
from image_repo.web.client_address import client_key
from image_repo.web.conditions import ConditionalRequest
from image_repo.web.identity import authorise, is_shared, principal
from image_repo.web.paths import check_encoding
from image_repo.web.render_budget import RENDER_BUDGET, RenderBudget
from image_repo.web.responses import Reply
from image_repo.web.shared_queries import SHARING, SharedQueries

#: of a key, in statistics
MAX_VALUES = 1_000
#: parameters of ``/stats/KEY`` beside a filter
STATISTICS_WORDS: Words = {
    "limit": (
        {"type": "integer", "minimum": 1, "maximum": MAX_VALUES, "default": MAX_VALUES},
        "how many values are listed, the most frequent first",
    ),
}
#: parameter of deletions
PERMANENT: Words = {"permanent": ({"type": "boolean"}, "erase now: nothing goes into the bin")}
#: parameters of ``/keys``
KEY_WORDS: Words = {
    "limit": (
        {"type": "integer", "minimum": 1, "maximum": MAX_VALUES, "default": MAX_VALUES},
        "how many keys are listed, the most frequent first",
    ),
}
#: conditions of a request that hold for one image
_CONDITIONS = ("If-Match", "If-None-Match", "If-Unmodified-Since")
_read_max_values = integer(1, MAX_VALUES)


def install(app: Flask, repo: Repository, collection: Collection, config: Config) -> None:
    """Add the routes."""
    views = _Views(repo, collection, config)
    base = "/" + config.repository_base_pathname
    app.add_url_rule(base, "list", views.list, methods=["GET"])
    app.add_url_rule(base, "patch_many", views.patch, methods=["PATCH"])
    app.add_url_rule(base, "delete_many", views.delete, methods=["DELETE"])
    app.add_url_rule("/search", "search", views.search, methods=["GET"])
    app.add_url_rule("/keys", "keys", views.keys, methods=["GET"])
    app.add_url_rule("/stats/<any_path:key>", "statistics", views.statistics, methods=["GET"])


def read_query(
    known: Known[str], others: Known[str] = (), *, single_underscore: bool = False, grammar: Grammar = IMAGES
) -> ParsedQuery:
    """Parse the query string of this request.

    :param known: words of :mod:`image_repo.catalogue.grammar` that mean something here
    :param others: words that the caller reads by itself
    :raises BadParameter: as :meth:`~image_repo.catalogue.grammar.Grammar.read` says
    :raises BadRequest: for a query string that is no UTF-8
    :raises ImageNotFound: for near duplicates of an image that the caller may not know of
    :raises TooManyRenders: when that has to be decoded, and the client has used up its budget
    """
    try:
        unquote_to_bytes(request.query_string).decode()
    except UnicodeDecodeError as error:
        raise BadRequest("The query is not UTF-8.") from error
    pairs = list(request.args.items(multi=True))
    if grammar is IMAGES and "near" in known:
        pairs = [(name, _hash_near(text) if name == "near" else text) for name, text in pairs]
    return grammar.read(pairs, known, others, single_underscore=single_underscore)


def _hash_near(text: str) -> str:
    """Return the condition of near duplicates; a picture that is decoded for it counts as rendered."""
    reader: Reader = current_app.extensions["image_repo"].reader
    budget: RenderBudget = current_app.extensions[RENDER_BUDGET]
    caller = principal()
    return reader.hash_near(caller, text, lambda: budget.charge(caller, client_key(request.environ)))


def read_parameters(known: Known[str]) -> dict[str, str]:
    """Return the parameters of this request.

    :raises BadParameter: for one that is unknown, or given twice
    """
    parameters: dict[str, str] = {}
    for name, value in request.args.items(multi=True):
        if name not in known:
            raise unknown_parameter(name, known)
        if name in parameters:
            raise BadParameter(name, f"The parameter {name} is given more than once.")
        parameters[name] = value
    return parameters


class _Views:
    """The views of the collection."""

    def __init__(self, repo: Repository, collection: Collection, config: Config) -> None:
        self._repo = repo
        self._collection = collection
        self._origin = config.cors_origin
        self._shares = SharedQueries(repo, config)
        # The server ends requests that take too long; the report has to be sent before.
        self._seconds = config.server.request_timeout / 2

    # -- reading ---------------------------------------------------------------------

    def list(self) -> Reply:
        """``GET /images``: a page of records, or with ``share=True`` a link to it."""
        if self._shares.is_wanted():
            read_query((*FILTER_WORDS, *PAGE_WORDS), SHARING)  # a mistake in it is raised now
            return self._shares.make()
        return self._page(single_underscore=False)

    def search(self) -> Reply:
        """``GET /search``: the same page; one underscore is enough for an operator."""
        return self._page(single_underscore=True)

    def _page(self, *, single_underscore: bool) -> Reply:
        caller = principal()
        by_link = caller.shared is not None
        words = ("share",) if by_link else ()
        query = read_query((*FILTER_WORDS, *PAGE_WORDS), words, single_underscore=single_underscore)
        page, shared = self._collection.page(caller, query.query), is_shared(self._repo, Action.LIST, "")
        if by_link:
            page = self._shares.with_urls(page)
        state = {**self._state(surely=page.count == 0), **self._unknown(query.query.paths())}
        return send_page(page, query, "images", state, self._origin, is_shared=shared)

    def statistics(self, key: str) -> Reply:
        """``GET /stats/KEY``: the values of a key."""
        check_encoding(request.environ)
        path = IMAGES.path("KEY", key)
        query = read_query(FILTER_WORDS, STATISTICS_WORDS, single_underscore=True)
        max_values = _read_max_values("limit", query.rest.get("limit", str(MAX_VALUES)))
        statistics = self._collection.statistics(principal(), query.query.filter, path, max_values)
        members: dict[str, Any] = {
            "_id": None,
            "max": statistics.most,
            "min": statistics.least,
            "avg": statistics.mean,
            "count": statistics.count,
            "key": key,
            "values": [{"count": count, "value": value} for value, count in statistics.values],
        }
        more = {"more": statistics.more} if statistics.more else {}
        shared = is_shared(self._repo, Action.LIST, "")
        return responses.send_tagged(
            ConditionalRequest(request.environ),
            {**members, **more, **self._state(), **self._unknown((path, *query.query.paths()))},
            origin=self._origin,
            is_shared=shared,
        )

    def keys(self) -> Reply:
        """``GET /keys``: the keys that records have, with types and counts."""
        most = _read_max_values("limit", read_parameters(KEY_WORDS).get("limit", str(MAX_VALUES)))
        usages, total = self._collection.keys(principal(), most)
        keys = [
            {"key": IMAGES.key(usage.path), "count": usage.count, "types": usage.types}
            for usage in usages
            if all(member and "." not in member for member in usage.path)  # what a query can name
        ]
        more = {"more": total - len(usages)} if total > len(usages) else {}
        return responses.send_tagged(
            ConditionalRequest(request.environ),
            {"keys": keys, **more, **self._state()},
            origin=self._origin,
            is_shared=is_shared(self._repo, Action.LIST, ""),
        )

    def _unknown(self, paths: Iterable[Path]) -> dict[str, Any]:
        return tell_unknown_keys(self._collection.unknown_keys(principal(), paths))

    def _state(self, *, surely: bool = True) -> dict[str, str]:
        """Return a note where the catalogue is being rebuilt, so that more may be found later."""
        return {"catalogue": "rebuilding"} if self._collection.rebuilding(surely=surely) is not None else {}

    # -- bulk changes ----------------------------------------------------------------

    def patch(self) -> Reply:
        """``PATCH /images?FILTER``: merges the body into the data of all that match."""
        authorise(self._repo, Action.WRITE, "")
        query, patch = _bulk_query(), uploads.read_patch()
        if not isinstance(patch, dict):
            raise BadBody("Expected a JSON object: anything else would replace the data of many images.")
        if query.dry:
            return self._count_changes(query)
        changed = self._collection.update(
            principal(), query.query.filter, patch, everything=query.everything, seconds=self._seconds
        )
        return self._changed(query, changed)

    def delete(self) -> Reply:
        """``DELETE /images?FILTER``: deletes all that match."""
        authorise(self._repo, Action.DELETE, "")
        query = _bulk_query(PERMANENT)
        permanent = read_boolean("permanent", query.rest.get("permanent", "false"))
        if query.dry:
            return self._count_changes(query)
        changed = self._collection.delete(
            principal(),
            query.query.filter,
            everything=query.everything,
            permanent=permanent,
            seconds=self._seconds,
        )
        return self._changed(query, changed)

    def _count_changes(self, query: ParsedQuery) -> Reply:
        matched = self._collection.count_changes(principal(), query.query.filter, everything=query.everything)
        state = {**self._state(), **self._unknown(query.query.paths())}
        return responses.send_json({"matched": matched, "modified": 0, "dry": True, **state})

    def _changed(self, query: ParsedQuery, changed: Changed) -> Reply:
        counts: dict[str, Any] = {"matched": changed.matched, "modified": changed.modified, **self._state()}
        if not changed.matched:
            counts |= self._unknown(query.query.paths())
        if changed.is_whole:
            return responses.send_json(counts)
        raise _partly(changed, counts)


def tell_unknown_keys(unknown: Mapping[str, str | None]) -> dict[str, Any]:
    """Return the members of a response that tell keys without any record, and what was probably meant."""
    nearest = {key: near for key, near in unknown.items() if near}
    return {**({"unknown_keys": list(unknown)} if unknown else {}), **({"nearest": nearest} if nearest else {})}


def _bulk_query(others: Known[str] = ()) -> ParsedQuery:
    """Return which records are to be changed.

    :raises BadRequest: for no filter without ``all=True``, and for conditions that hold for one image
    """
    condition = next((name for name in _CONDITIONS if name in request.headers), None)
    if condition:
        raise BadRequest(f"{condition} holds for one image: the records of many have no entity tag together.")
    query = read_query((*FILTER_WORDS, *BULK_WORDS), others)
    if query.query.filter.is_empty and not query.everything:
        raise BadRequest("Expected a filter, or all=True where everything is meant.", parameter="all")
    return query


def _partly(changed: Changed, counts: Mapping[str, Any]) -> Problem:
    """Return the problem of a change that is not complete: 503 where repeating it may do more, else 409."""
    failed = len(changed.failed) + changed.more
    members = {**counts, "failed": [each.public() for each in changed.failed], "more": changed.more}
    detail = f"Of {changed.matched} records that match, {changed.modified} are changed and {failed} could not be."
    if changed.ended:
        members["last"] = changed.last
        detail += f" It ended before all were looked at: {changed.ended}"
        detail += " With name__gt and the last name, it goes on behind that."
    return (Unfinished if changed.ended or changed.passing else PartlyDone)(detail, **members)


# -- pages ----------------------------------------------------------------------------------


def send_page(
    page: Page, query: ParsedQuery, what: str, state: Mapping[str, Any], origin: str | None, *, is_shared: bool
) -> Reply:
    """Return a page under its own entity tag, with links to the pages beside it.

    :param what: the member that holds the documents
    :param state: further members
    """
    members = {**_members(page, query, what), **state}
    conditions = ConditionalRequest(request.environ)
    reply = responses.send_tagged(conditions, members, origin=origin, is_shared=is_shared)
    reply.headers.append(("Link", ", ".join(f'<{address}>; rel="{rel}"' for rel, address in _links(page, query))))
    return reply


def _members(page: Page, query: ParsedQuery, what: str) -> dict[str, Any]:
    limit = query.query.limit
    members = {
        "count": page.count,
        "page": query.page,
        "limit": limit,
        "pages": -(-page.count // limit),
        what: page.documents,
    }
    return members if page.exact else {**members, "count_is": "estimate"}


def _links(page: Page, query: ParsedQuery) -> list[tuple[str, str]]:
    """Return the pages beside this one (RFC 8288); the next by keyset, so that it costs no more than this one."""
    links = [("first", _address({}))]
    if query.query.after is None and query.query.skip > 0:
        links.append(("prev", _address(_before(query))))
    if page.after is not None:
        number = {} if query.page is None else {"page": query.page + 1}
        links.append(("next", _address({"after": page.after, **number})))
    return links


def _before(query: ParsedQuery) -> dict[str, object]:
    """Return the parameters of the page before, by page or skip as this request has them."""
    if "page" in request.args and query.page is not None:
        return {"page": query.page - 1} if query.page > 2 else {}
    skip = query.query.skip - query.query.limit
    return {"skip": skip} if skip > 0 else {}


def _address(place: Mapping[str, object]) -> str:
    """Return the address of this request at another place in the list."""
    others = [pair for pair in request.args.items(multi=True) if pair[0] not in ("after", "page", "skip")]
    text = urlencode([*others, *place.items()], quote_via=quote)
    path = quote(request.script_root + request.path)
    return f"{path}?{text}" if text else path


# -- OpenAPI --------------------------------------------------------------------------------


def paths(base: str) -> openapi.Paths:
    """Return the OpenAPI paths of the collection.

    :param base: what all paths of images begin with, with a ``/`` ahead
    """
    asking = [*filters(), *openapi.query({**FILTER_WORDS, **PAGE_WORDS})]
    searching = [*filters(one="_"), *openapi.query({**FILTER_WORDS, **PAGE_WORDS})]
    counting = [*filters(one="_"), *openapi.query({**FILTER_WORDS, **STATISTICS_WORDS})]
    page, values = _answer("Page"), _answer("Statistics")
    key = openapi.in_path("key", "a field of the record, or a key of data: width, site.plot, data.site.plot")
    return {
        base: {
            "get": openapi.operation("A page of the records that match", [*asking, *openapi.query(SHARING)], page),
            "patch": _changing("Merge into the data of all images that match (RFC 7396)", requestBody=openapi.DATA),
            "delete": _changing("Delete all images that match", PERMANENT),
        },
        "/search": {"get": openapi.operation("The same page; one underscore is enough", searching, page)},
        "/keys": {"get": openapi.operation("The keys that records have", openapi.query(KEY_WORDS), _answer("Keys"))},
        "/stats/{key}": {
            "parameters": [key],
            "get": openapi.operation("The values of a key in the records that match", counting, values),
        },
    }


def _changing(summary: str, others: Words | None = None, **more: Any) -> dict[str, Any]:
    meaning = [*filters(), *openapi.query({**FILTER_WORDS, **BULK_WORDS, **(others or {})})]
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
    """Return the parameters with the user's own names: an object, spread over the query (OpenAPI 3.1, style form).

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
    parameter = {"name": f"KEY{one}OP", "in": "query", "description": text + also, "schema": schema}
    return [{**parameter, "style": "form", "explode": True}]
