"""One way in for a read: resolve → authorise → key and entity tag → conditions → fetch → headers.

:meth:`Pictures.handle` is behind requests without Flask and behind the Flask view (:mod:`image_repo.web.images`);
what it returns is what the fast path and coalesced requests repeat (:mod:`image_repo.web.fast_path`).
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Any
from urllib.parse import parse_qsl, quote

from werkzeug.wsgi import get_current_url

from image_repo import wiring
from image_repo.access.control import Action
from image_repo.access.principal import Principal
from image_repo.access.request_rules import signed_targets
from image_repo.config import Config
from image_repo.errors import (
    BadParameter,
    BadRequest,
    CatalogueDisabled,
    CatalogueUnavailable,
    ImageNotFound,
    OriginalsNotServed,
    Problem,
    QueryTooSlow,
)
from image_repo.exchange import exporter
from image_repo.exchange.zip_writer import stream_zip
from image_repo.model import regex
from image_repo.model.formats import BY_ENDING, split_ending
from image_repo.model.names import ImageName, parse_prefix, path_of
from image_repo.model.original import Original
from image_repo.model.parameters import integer, is_boolean, read_boolean
from image_repo.model.recipe import Recipe, RecipeRequest, read_request
from image_repo.model.record import Record, timestamp
from image_repo.model.surrogate_keys import surrogate_keys
from image_repo.repository.reader import Variant
from image_repo.repository.repository import Repository
from image_repo.web import openapi, problems, responses
from image_repo.web.client_address import client_key
from image_repo.web.conditions import ConditionalRequest
from image_repo.web.render_budget import RenderBudget
from image_repo.web.responses import CacheableHit, Headers, Reply, ResponseHead
from image_repo.web.sized_urls import SizedUrls, read_widths


@dataclass(frozen=True, slots=True)
class ReadRequest:
    """A GET or HEAD below ``/images/``, independent of what received it.

    :param path: behind the base path, percent-decoded once
    :param query: names and values in their order, decoded
    :param is_listed: whether the configuration offers exactly this rendition, whatever ``requests.mode`` says of others
    :param root_url: returns this server's URL as the client sees it
    :param client: what counts as one client
    :param ends: seconds since the epoch from which on it is refused; None for never
    """

    path: str
    query: Sequence[tuple[str, str]]
    accept: str | None
    conditions: ConditionalRequest
    principal: Principal
    root_url: Callable[[], str]
    client: str = ""
    is_listed: bool = False
    ends: int | None = None

    @classmethod
    def of(cls, environ: dict[str, Any], path: str, principal: Principal) -> ReadRequest:
        """Return the request that a WSGI server received (PEP 3333).

        :raises BadRequest: for a query string that is not UTF-8
        """
        try:
            text = environ.get("QUERY_STRING", "").encode("latin-1").decode()
        except UnicodeError as error:
            raise BadRequest("The query is not UTF-8.") from error
        return cls(
            path=path,
            query=parse_qsl(text, keep_blank_values=True, errors="werkzeug.url_quote") if text else (),
            accept=environ.get("HTTP_ACCEPT"),
            conditions=ConditionalRequest(environ),
            principal=principal,
            root_url=partial(get_current_url, environ, host_only=True),
            client=client_key(environ),
        )


@dataclass(frozen=True, slots=True)
class Options:
    """The parameters of a read beside the recipe."""

    url: bool = False
    meta: bool = False
    share: bool = False
    regex: Callable[[str], bool] | None = None
    lifetime: int | None = None
    download: str | None = None
    version: str | None = None
    widths: tuple[int, ...] | None = None

    @classmethod
    def read(cls, parameters: Mapping[str, str], max_lifetime: int) -> Options:
        """Read the parameters that are no part of a recipe.

        :param max_lifetime: of a temporary URL, in seconds
        :raises BadParameter: for a bad value
        """
        lifetime, download = parameters.get("lifetime"), parameters.get("download")
        share = parameters.get("share", "false")  # of a link, its principal is known already
        return cls(
            url=read_boolean("url", parameters.get("url", "false")),
            meta=read_boolean("meta", parameters.get("meta", "false")),
            share=is_boolean(share) and read_boolean("share", share),
            regex=regex.searcher("regex", parameters["regex"]) if "regex" in parameters else None,
            lifetime=integer(1, max_lifetime)("lifetime", lifetime) if lifetime is not None else None,
            download=responses.safe_filename("download", download) if download else download,
            version=parameters.get("v"),
            widths=_read_srcset(parameters["srcset"]) if "srcset" in parameters else None,
        )


#: behind a name, where no image is called so: its picture, as in the image storage microservice
_IMAGE_OF = "/image"


@dataclass(frozen=True, slots=True)
class _Read:
    """A request whose parameters are understood.

    :param ends: seconds since the epoch from which on it is refused, so that its response is not repeated
    """

    request: ReadRequest
    recipe: RecipeRequest
    options: Options
    ends: int | None = None


class Pictures:
    """Answers reads of pictures, their records, links to them, and all of these below a folder."""

    def __init__(self, repo: Repository, config: Config) -> None:
        self._repo = repo
        self._reader = repo.reader
        self._defaults = wiring.defaults(config)
        self._freshness = config.freshness
        self._origin = config.cors_origin
        self._public_url = config.public_url
        self._base = f"/{config.repository_base_pathname}/"
        self._surrogate_header = config.surrogate_header
        self._rules = wiring.request_rules(config)
        self.budget = RenderBudget(wiring.render_budget(config, repo))
        self._sized_urls = SizedUrls(repo, config)

    def handle(self, request: ReadRequest) -> Reply:
        """Return the response.

        :raises Problem: as :mod:`image_repo.errors` says
        :raises RequestedRangeNotSatisfiable: when the range lies outside the picture
        """
        recipe_request, rest = read_request(request.query, openapi.READ_OPTIONS)
        if request.is_listed:
            recipe_request = RecipeRequest(is_listed=True, **recipe_request.values)
        options = Options.read(rest, self._repo.policy.url_lifetime_most)
        wants_record = not request.query and _accepts_records_alone(request.accept)
        is_rendered = not (options.meta or options.share or wants_record or options.widths is not None)
        ends = self._check(request, recipe_request, rest) if is_rendered else None
        resolved = recipe_request.with_preset(self._defaults.presets)
        read = _Read(request, resolved, options, request.ends if ends is None else ends)
        if options.regex or not request.path or request.path.endswith("/"):
            return self._folder(read, parse_prefix(request.path))
        answer = self._named_record if wants_record else self._named
        try:
            return answer(read, request.path)
        except ImageNotFound:
            if not request.path.endswith(_IMAGE_OF):
                raise
        reply = answer(read, request.path.removesuffix(_IMAGE_OF))
        reply.hit = None  # an image of the whole name may be written at any time
        return reply

    def _check(self, request: ReadRequest, recipe_request: RecipeRequest, rest: Mapping[str, str]) -> int | None:
        """Accept a request for renditions; return when its signature ends, in seconds since the epoch, if it does.

        A share link is signed already: what it is for needs no second signature, as long as no parameter is added.
        """
        if request.is_listed:
            return None
        if request.principal.shared is not None and not recipe_request.values:
            return None
        paths = (request.path.removesuffix(_IMAGE_OF), request.path)
        targets = [request.principal.qualify_target(target) for path in paths for target in signed_targets(path)]
        return self._rules.check(recipe_request, targets, rest.get("regex"), rest.get("signature"))

    def _named_record(self, read: _Read, path: str) -> Reply:
        """Return the record at the address of a picture; caches in between keep the picture alone."""
        reply = self._named(replace(read, options=replace(read.options, meta=True)), path)
        location = f"{self._base}{quote(path)}?meta=True"
        reply.headers = [each for each in reply.headers if each[0] != "Cache-Control"]
        reply.headers += [("Cache-Control", "no-store"), ("Content-Location", location)]
        return reply

    def _named(self, read: _Read, path: str) -> Reply:
        """Return the picture or the record of a name."""
        readings, principal = ImageName.readings(path), read.request.principal
        try:
            original = self._reader.resolve(principal, readings)
        except ImageNotFound:
            if read.options.meta:
                return self._record(read, self._reader.description(principal, readings))
            self._refuse_description(principal, readings)
            raise
        reply = self._image(read, original)
        if original.name != principal.qualify(readings[0]):  # an image of the first reading may be written at any time
            reply.hit = None
        return reply

    def _refuse_description(self, principal: Principal, readings: Sequence[ImageName]) -> None:
        """Say of a description that it has no picture yet.

        Only names in the index are looked for, so that a missing one costs the store nothing.
        """
        with suppress(CatalogueDisabled, CatalogueUnavailable, QueryTooSlow):
            if not self._reader.is_indexed(principal, readings):
                return
            name = self._reader.description(principal, readings).name
            raise ImageNotFound(f"{name!r} has data, but no picture yet; ?meta=True is its record.", name=name)

    def _image(self, read: _Read, original: Original) -> Reply:
        principal = read.request.principal
        if read.options.share:
            return self._share(read, principal.relative(original.name.text))
        if read.options.meta:
            return self._record(read, self._reader.record(principal, original))
        if read.options.widths is not None:
            return self._srcset(read, original, read.options.widths)
        recipe, is_negotiated = self._settle(read, original)
        if read.options.url:
            link = self._link(read, original, recipe)
            return responses.send_json(link, cache_control="no-store", origin=self._origin)  # it holds a signature
        variant = self._reader.variant(principal, original, recipe)
        if recipe.is_original:
            return self._original(read, variant)
        head = self._head(read, variant, is_negotiated=is_negotiated)
        unchanged = responses.not_modified(read.request.conditions, head)
        if unchanged:
            unchanged.hit = _hit(read, variant, head)
        return unchanged or self._rendition(read, variant, head)

    def _record(self, read: _Read, record: Record) -> Reply:
        principal = read.request.principal
        grant = self._repo.access.authorise(principal, Action.READ, principal.qualify_target(record.name))
        return responses.send_record(read.request.conditions, record, origin=self._origin, is_shared=grant.is_shared)

    def _rendition(self, read: _Read, variant: Variant, head: ResponseHead) -> Reply:
        original, budget = variant.original, self._charge(read, variant)
        served = self._reader.fetch(variant)
        body, rendition = served.rendition.body, served.rendition
        is_current = served.version == original.version
        if not is_current:  # the picture was replaced meanwhile
            newer = self._head(read, replace(variant, original=replace(original, version=served.version)))
            head = replace(head, etag=rendition.etag, modified=rendition.modified, cache_control=newer.cache_control)
        more = [*responses.provenance(served), *budget]
        reply = responses.send_bytes(read.request.conditions, head, body, more)
        if is_current:
            reply.hit = _hit(read, variant, head)
        return reply

    def _charge(self, read: _Read, variant: Variant) -> Headers:
        """Count a render that the request causes; return the headers with what is left of the client's budget.

        :raises TooManyRenders: where nothing is left
        """
        caller = read.request.principal
        if not self.budget.bounds(caller) or variant.recipe.is_original or self._reader.is_cached(variant):
            return []
        return self.budget.charge(caller, read.request.client)

    def _original(self, read: _Read, variant: Variant) -> Reply:
        principal, conditions = read.request.principal, read.request.conditions
        # Under its content address it never changes; elsewhere the record need not be read.
        is_addressed = read.request.path.startswith("sha256:")
        sha256 = self._reader.record(principal, variant.original).sha256 if is_addressed else None
        unchanged = responses.not_modified(conditions, self._head(read, variant, sha256))
        if unchanged:
            return unchanged
        with ExitStack() as stack:
            original, spool = stack.enter_context(self._reader.original(principal, variant.original))
            head = self._head(read, self._reader.variant(principal, original, variant.recipe), spool.sha256)
            more = [responses.cache_status("origin")]
            return responses.send_file(conditions, head, spool.file, spool.size, stack, more)
        raise AssertionError

    def _head(
        self, read: _Read, variant: Variant, sha256: str | None = None, *, is_negotiated: bool = False
    ) -> ResponseHead:
        """
        :param sha256: of an original, where it is known
        """
        original, recipe, options = variant.original, variant.recipe, read.options
        is_content_address = bool(sha256) and split_ending(read.request.path)[0] == f"sha256:{sha256}"
        return ResponseHead(
            media_type=original.media_type if recipe.is_original else recipe.media_type,
            etag=variant.etag,
            modified=original.modified,
            filename=_filename(original, recipe, options.download),
            attachment=options.download is not None,
            cache_control=responses.caching(
                self._freshness if read.ends is None else min(self._freshness, read.ends - time.time()),
                is_immutable=read.ends is None and (is_content_address or options.version == original.version),
                is_shared=variant.grant.is_shared,
            ),
            is_negotiated=is_negotiated,
            origin=self._origin,
            sha256=sha256,
            surrogate_keys=self._surrogate_keys(read, original),
            step=self._step(read.recipe, recipe),
        )

    def _surrogate_keys(self, read: _Read, original: Original) -> tuple[str, str] | None:
        """Return the header by which caches in front purge; they may keep what has one for longer than it says."""
        header = self._surrogate_header if read.ends is None else None
        return surrogate_keys(header, original.name.text) if header else None

    def _step(self, request: RecipeRequest, recipe: Recipe) -> str:
        """Return the box where it is not the requested one."""
        if not self._defaults.steps or recipe.is_original or request.box(self._defaults) == recipe.size:
            return ""
        return "x".join(str(side or "") for side in recipe.size)

    def _settle(self, read: _Read, original: Original) -> tuple[Recipe, bool]:
        """Return the recipe with nothing left open, and whether ``Accept`` decided the format."""
        focus = self._reader.focus(original) if read.recipe.uses_record_focus else None
        recipe, is_negotiated = read.recipe.settle(
            self._defaults, accept=read.request.accept, focus=focus, source=original.media_type
        )
        if recipe.is_original and not self._repo.policy.serve_originals:
            raise OriginalsNotServed(
                "Originals hold positions and names. The configuration allows them with serve_originals: true.",
                parameter="kind",
            )
        return recipe, is_negotiated

    def _link(self, read: _Read, original: Original, recipe: Recipe) -> dict[str, Any]:
        """Return name, temporary URL and expiry of a variant.

        It begins with this server's own address where the store cannot serve it.
        """
        options = read.options
        filename = _filename(original, recipe, options.download)
        self._charge(read, self._reader.variant(read.request.principal, original, recipe))
        # A link that is made by a signature ends with it.
        link = self._repo.links.create(read.request.principal, original, recipe, options.lifetime, filename, read.ends)
        root = (self._public_url or read.request.root_url()).rstrip("/") if link.url.startswith("/") else ""
        return {"name": link.name.text, "url": root + link.url, "expires": timestamp(link.expires)}

    def _srcset(self, read: _Read, original: Original, widths: Sequence[int]) -> Reply:
        """Return widths and URLs of a picture."""
        principal = read.request.principal
        record = self._reader.record(principal, original)
        root = (self._public_url or read.request.root_url()).rstrip("/")
        share = [pair for pair in read.request.query if pair[0] == "share"]
        size = record.width, record.height
        sources = self._sized_urls.sources(root, principal, original, read.recipe, size, widths, share)
        members = {
            "name": principal.relative(original.name.text),
            "version": original.version,
            "srcset": ", ".join(f"{source.url} {source.width}w" for source in sources),
            "sources": [source.public() for source in sources],
        }
        # They hold signatures, or a link's token.
        return responses.send_json(members, cache_control="no-store", origin=self._origin)

    def _share(self, read: _Read, target: str) -> Reply:
        """Return a link by which anybody may read an image or a folder until its time.

        :param target: the caller's name of it
        """
        principal = read.request.principal
        path = principal.namespace + target
        self._repo.access.check_may_share(principal, path)
        lifetime = read.options.lifetime or self._repo.policy.url_lifetime
        token, expires = self._repo.authenticator.shares.sign(path, lifetime, principal.owner)
        root = (self._public_url or read.request.root_url()).rstrip("/")
        link = {
            "name": target,
            "url": f"{root}{self._base}{quote(path_of(path))}?share={token}",
            "expires": timestamp(expires),
        }
        return responses.send_json(link, cache_control="no-store", origin=self._origin)

    # -- folders ---------------------------------------------------------------------

    def _folder(self, read: _Read, prefix: str) -> Reply:
        """Return all below a folder that matches: one picture, a zip, or a JSON list."""
        principal = read.request.principal
        if read.options.widths is not None:
            raise BadParameter("srcset", "Expected the name of one image.")
        if read.options.share and not read.options.regex:
            return self._share(read, prefix)
        images = self._reader.images(principal, prefix, read.options.regex)
        first = list(itertools.islice(images, 2))
        if not first:
            raise ImageNotFound("No image matches.", name=prefix)
        everything = itertools.chain(first, images)
        if read.options.meta:
            return _stream_list(
                principal, everything, lambda original: self._reader.record(principal, original).public()
            )
        if len(first) == 1 and not read.options.url:
            reply = self._image(read, first[0])
            reply.hit = None  # another image may match at any time
            return reply
        self._settle(read, first[0])  # a mistake in the parameters is raised now
        if read.options.url:
            return _stream_list(
                principal, everything, lambda original: self._link(read, original, self._recipe(read, original))
            )
        members = exporter.pictures(self._repo, principal, everything, partial(self._member, read))
        filename = (prefix.rstrip("/").rpartition("/")[2] or "images") + ".zip"
        return responses.send_zip(stream_zip(members, self._repo.policy.spool), filename)

    def _recipe(self, read: _Read, original: Original) -> Recipe:
        return self._settle(read, original)[0]

    def _member(self, read: _Read, original: Original) -> Recipe:
        """Return the recipe of a member of a zip, whose render is counted."""
        recipe = self._recipe(read, original)
        self._charge(read, self._reader.variant(read.request.principal, original, recipe))
        return recipe


def _accepts_records_alone(accept: str | None) -> bool:
    return accept is not None and "application/json" in accept and "image/" not in accept and "*/*" not in accept


def _read_srcset(text: str) -> tuple[int, ...] | None:
    """Return the widths, none for those of the configuration; None where there is to be no srcset."""
    if is_boolean(text):
        return () if read_boolean("srcset", text) else None
    return read_widths(text)


def _hit(read: _Read, variant: Variant, head: ResponseHead) -> CacheableHit | None:
    if read.ends is not None:
        return None
    return CacheableHit(variant.original, variant.key, read.recipe.uses_record_focus, head.is_negotiated, variant.grant)


def _filename(original: Original, recipe: Recipe, download: str | None) -> str:
    """Return the name to save a picture under: the requested one, or the last part of its own.

    :raises BadParameter: when the requested one ends as another format does
    """
    ending = exporter.ending_of(original, recipe)
    if not download:
        return f"{original.name.text.rpartition('/')[2]}.{ending}"
    requested = split_ending(download)[1]
    if requested and requested is not BY_ENDING.get(ending):
        raise BadParameter.expected(f"a name that ends in .{ending} as the picture does", "download", download)
    return download


def _stream_list(
    principal: Principal, images: Iterable[Original], describe: Callable[[Original], dict[str, Any]]
) -> Reply:
    """Return a JSON list, one image at a time; the problem of an image stands in its place."""

    def item(original: Original) -> str:
        try:
            return responses.to_json(describe(original))
        except Problem as problem:
            return responses.to_json({"name": principal.relative(original.name.text), **problems.document(problem)})

    def stream() -> Iterator[str]:
        separator = "["
        for original in images:
            yield separator + item(original)
            separator = ","
        yield "]"

    return responses.stream_json(stream())
