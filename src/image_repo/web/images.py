"""Pictures, and images as things: ``/images/…``."""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import parse_qsl

from flask import Flask, Response, current_app, request, url_for
from werkzeug.exceptions import HTTPException

from image_repo import wiring
from image_repo.access.principal import ANONYMOUS
from image_repo.config import Config
from image_repo.errors import BadBody, BadName, ImageNotFound, OriginalsNotServed, Problem
from image_repo.exchange import exporter
from image_repo.exchange.zip_writer import stream_zip
from image_repo.model import regex
from image_repo.model.formats import split_ending
from image_repo.model.names import ImageName, parse_prefix
from image_repo.model.original import Original
from image_repo.model.parameters import integer, read_boolean, unknown_parameter
from image_repo.model.recipe import Recipe, RecipeRequest, read_request
from image_repo.model.record import Record, timestamp
from image_repo.repository.metadata import Conditions
from image_repo.repository.repository import Repository
from image_repo.web import fast_path, openapi, plain, problems, responses, uploads
from image_repo.web.paths import check_encoding


@dataclass(frozen=True, slots=True)
class Options:
    """What is asked for beside the recipe."""

    url: bool = False
    meta: bool = False
    regex: Callable[[str], bool] | None = None
    lifetime: int | None = None
    download: str | None = None
    version: str | None = None

    @classmethod
    def read(cls, rest: dict[str, str], most_lifetime: int) -> Options:
        """Reads the parameters that are no part of a recipe.

        :raises BadParameter: for a bad value
        """
        told = dict(rest)
        lifetime, download = told.get("lifetime"), told.get("download")
        return cls(
            url=read_boolean("url", told.get("url", "false")),
            meta=read_boolean("meta", told.get("meta", "false")),
            regex=regex.searcher("regex", told["regex"]) if "regex" in told else None,
            lifetime=integer(1, most_lifetime)("lifetime", lifetime) if lifetime is not None else None,
            download=responses.safe_filename("download", download) if download else download,
            version=told.get("v"),
        )


class Images:
    """The views of ``/images`` over one repository."""

    def __init__(self, repo: Repository, config: Config) -> None:
        self._repo = repo
        self._base = "/" + config.repository_base_pathname
        self._defaults = wiring.defaults(config)
        self._freshness = config.freshness
        self._origin = config.cors_origin
        self._public_url = config.public_url

    def install(self, app: Flask) -> None:
        """Adds the routes."""
        one, base = f"{self._base}/<any_path:path>", self._base
        app.add_url_rule(base, "add", self.add, methods=["POST"])
        app.add_url_rule(one, "image", self.get, methods=["GET"])
        app.add_url_rule(one, "put", self.put, methods=["POST", "PUT"])
        app.add_url_rule(one, "patch", self.patch, methods=["PATCH"])
        app.add_url_rule(one, "delete", self.delete, methods=["DELETE"])
        self._app, self._router = app, app.url_map.bind("localhost")

    # -- reading ---------------------------------------------------------------------

    def get(self, path: str) -> Response:
        """``GET /images/NAME``, or everything below a folder."""
        if trouble := request.environ.get(plain.TROUBLE):
            raise trouble
        check_encoding(request.environ)
        asked, rest = read_request(request.args.items(multi=True), openapi.BESIDE)
        options = Options.read(rest, self._repo.policy.url_lifetime_most)
        if options.regex or not path or path.endswith("/"):
            return self._many(parse_prefix(path), asked, options)
        readings = ImageName.readings(path)
        try:
            current = self._repo.reader.resolve(ANONYMOUS, readings)
        except ImageNotFound:
            if options.meta:
                return responses.send_record(self._repo.reader.description(ANONYMOUS, readings), origin=self._origin)
            raise
        return self._one(current, asked, options, told=current.name == readings[0])

    def _one(self, current: Original, asked: RecipeRequest, options: Options, *, told: bool = False) -> Response:
        """
        :param told: whether whoever stands before the application may answer the same request again by itself
        """
        if options.meta:
            return responses.send_record(self._repo.reader.record(ANONYMOUS, current), origin=self._origin)
        recipe, negotiated = self._settle(current, asked, request.headers.get("Accept"))
        if options.url:
            # It holds a signature, and begins with the host that was asked.
            return self._json(self._link(current, recipe, options, self._here()), cache_control="no-store")
        response, replaced = self._picture(current, recipe, options, negotiated=negotiated)
        if told and not replaced and not recipe.is_original:
            key = self._repo.reader.variant(ANONYMOUS, current, recipe).key
            request.environ[fast_path.NOTE] = fast_path.CacheableHit(current, key, self._by_record(asked))
        return response

    def plain(self, path: str, query: str, accept: str | None) -> fast_path.Ready | None:
        """The answer of :meth:`get` to a request on which nothing else has a say; None where only that can tell.

        :param path: with nothing encoded in it
        :raises Problem: as :meth:`get`
        """
        try:
            endpoint, values = self._router.match(path, "GET")
        except HTTPException:
            return None
        if endpoint != "image" or not values["path"] or path.endswith("/") or self._app.before_request_funcs:
            return None
        asked, rest = read_request(parse_qsl(query, keep_blank_values=True), openapi.BESIDE)
        options = Options.read(rest, self._repo.policy.url_lifetime_most)
        if options.regex or options.meta or options.url:
            return None
        readings = ImageName.readings(values["path"])
        current = self._repo.reader.resolve(ANONYMOUS, readings)
        recipe, negotiated = self._settle(current, asked, accept)
        variant = self._repo.reader.variant(ANONYMOUS, current, recipe)
        served = None if recipe.is_original else self._repo.reader.fetch(variant)
        if served is None or served.version != current.version:
            return None
        key = variant.key
        dress = self._dress(current, recipe, options, negotiated=negotiated, etag=variant.etag)
        shown = fast_path.CacheableHit(current, key, self._by_record(asked)) if current.name == readings[0] else None
        return fast_path.Ready(responses.whole(dress, served), served.rendition.body, shown)

    def _by_record(self, asked: RecipeRequest) -> bool:
        """Whether what the record says has a part in what is asked for."""
        wanted = asked.with_preset(self._defaults.presets)
        return wanted.uses_record_focus

    def _settle(self, current: Original, asked: RecipeRequest, accept: str | None) -> tuple[Recipe, bool]:
        wanted = asked.with_preset(self._defaults.presets)
        focus = self._repo.reader.focus(current) if wanted.uses_record_focus else None
        recipe, negotiated = wanted.settle(self._defaults, accept=accept, focus=focus)
        if recipe.is_original and not self._repo.policy.serve_originals:
            raise OriginalsNotServed(
                "Originals hold positions and names. The configuration allows them with serve_originals: true.",
                parameter="kind",
            )
        return recipe, negotiated

    def _picture(
        self, current: Original, recipe: Recipe, options: Options, *, negotiated: bool
    ) -> tuple[Response, bool]:
        """The answer, and whether it shows another version, because the picture was replaced while it was asked for."""
        dress = self._dress(current, recipe, options, negotiated=negotiated)
        unchanged = responses.not_modified(dress)
        if unchanged:
            if (
                recipe.is_original
                and _is_content_address()
                and _asked_for(self._repo.reader.record(ANONYMOUS, current).sha256)
            ):
                unchanged.headers["Cache-Control"] = responses.caching(self._freshness, immutable=True)
            return unchanged, False
        if recipe.is_original:
            return self._original(current, recipe, options), False
        served = self._repo.reader.fetch(self._repo.reader.variant(ANONYMOUS, current, recipe))
        replaced = served.version != current.version
        if replaced:
            made = served.rendition
            kept = responses.caching(self._freshness, immutable=options.version == served.version)
            dress = replace(dress, etag=made.etag, modified=made.modified, cache_control=kept)
        response = responses.send_bytes(served.rendition.body, dress)
        response.headers.extend(responses.told_of(served))
        return response, replaced

    def _original(self, current: Original, recipe: Recipe, options: Options) -> Response:
        with ExitStack() as stack:
            current, spool = stack.enter_context(self._repo.reader.original(ANONYMOUS, current))
            dress = replace(self._dress(current, recipe, options, negotiated=False), sha256=spool.sha256)
            if _asked_for(spool.sha256):
                dress = replace(dress, cache_control=responses.caching(self._freshness, immutable=True))
            response = responses.send_file(spool.file, spool.size, dress)
            response.headers["Cache-Status"] = responses.cache_status("origin")
            response.call_on_close(stack.pop_all().close)
        return response

    def _dress(
        self, current: Original, recipe: Recipe, options: Options, *, negotiated: bool, etag: str | None = None
    ) -> responses.ResponseHead:
        filename = options.download or _filename(current, recipe)
        return responses.ResponseHead(
            media_type=current.media_type if recipe.is_original else recipe.media_type,
            etag=etag or self._repo.reader.variant(ANONYMOUS, current, recipe).etag,
            modified=current.modified,
            filename=filename,
            attachment=options.download is not None,
            cache_control=responses.caching(self._freshness, immutable=options.version == current.version),
            negotiated=negotiated,
            origin=self._origin,
        )

    def _link(self, current: Original, recipe: Recipe, options: Options, here: str) -> dict[str, Any]:
        filename = options.download or _filename(current, recipe)
        link = self._repo.links.create(ANONYMOUS, current, recipe, options.lifetime, filename)
        url = here + link.url if link.url.startswith("/") else link.url
        return {"name": link.name.text, "url": url, "expires": timestamp(link.expires)}

    def _here(self) -> str:
        """This server as the client sees it: what a link begins with where we answer it ourselves."""
        return (self._public_url or request.host_url).rstrip("/")

    def _json(self, members: Any, *, cache_control: str = "no-cache") -> Response:
        return responses.send_json(members, cache_control=cache_control, origin=self._origin)

    # -- many ------------------------------------------------------------------------

    def _many(self, prefix: str, asked: RecipeRequest, options: Options) -> Response:
        images = self._repo.reader.images(ANONYMOUS, prefix, options.regex)
        first = list(itertools.islice(images, 2))
        if not first:
            raise ImageNotFound("No image matches.", name=prefix)
        everything = itertools.chain(first, images)
        if options.meta:
            return _stream_json(everything, lambda current: self._repo.reader.record(ANONYMOUS, current).public())
        if options.url:
            return self._many_links(everything, first[0], asked, options)
        if len(first) == 1:
            return self._one(first[0], asked, options)
        return self._zip(prefix, everything, first[0], asked)

    def _many_links(
        self, images: Iterable[Original], first: Original, asked: RecipeRequest, options: Options
    ) -> Response:
        settled, here = self._settler(first, asked), self._here()
        return _stream_json(images, lambda current: self._link(current, settled(current), options, here))

    def _zip(self, prefix: str, images: Iterable[Original], first: Original, asked: RecipeRequest) -> Response:
        settled = self._settler(first, asked)
        # Of an iterator nobody tells the length: how long the zip would be is not known.
        members = exporter.pictures(self._repo, ANONYMOUS, images, settled)
        zipped = stream_zip(members, self._repo.policy.spool)
        response = Response(zipped if request.method == "GET" else iter(()), mimetype="application/zip")
        name = (prefix.rstrip("/").rpartition("/")[2] or "images") + ".zip"
        response.headers["Content-Disposition"] = responses.disposition(name, attachment=True)
        response.headers["Cache-Control"] = "no-store"
        return responses.guard(response)

    def _settler(self, first: Original, asked: RecipeRequest) -> Callable[[Original], Recipe]:
        """How each image of many is settled, once the request is over; what is wrong with it shows here, before."""
        recipe, _ = self._settle(first, asked, request.headers.get("Accept"))
        wanted = asked.with_preset(self._defaults.presets)
        if recipe.fit != "cover" or not wanted.uses_record_focus:
            return lambda _: recipe
        return lambda current: replace(recipe, focus=self._repo.reader.focus(current) or (0.5, 0.5))

    # -- writing ---------------------------------------------------------------------

    def add(self) -> Response:
        """``POST /images``: named by its content, a description by itself."""
        return self._write("" if uploads.brings_data() else None)

    def put(self, path: str) -> Response:
        """``POST`` or ``PUT /images/NAME``; below a folder under the file's own name."""
        check_encoding(request.environ)
        if not path or path.endswith("/"):
            return self._write(parse_prefix(path))
        readings = ImageName.readings(path)
        return self._write(self._repo.reader.resolve_name(readings) if uploads.brings_data() else readings[0])

    def _write(self, target: ImageName | str | None) -> Response:
        _no_parameters()
        return self._describe(target or "") if uploads.brings_data() else self._upload(target)

    def _describe(self, target: ImageName | str) -> Response:
        """Takes what is said of an image; a target that is a folder leaves the name to it."""
        said = uploads.data()
        name = _self_named(target, said) if isinstance(target, str) else target
        record, created = self._repo.writer.replace_data(ANONYMOUS, name, said, self._conditions())
        return _written(record, 201 if created else 200)

    def patch(self, path: str) -> Response:
        """``PATCH /images/NAME``: merges into what is said of an image."""
        check_encoding(request.environ)
        _no_parameters()
        if not path or path.endswith("/"):
            raise BadName("A folder has no data: name an image.")
        name = self._repo.reader.resolve_name(ImageName.readings(path))
        return _written(self._repo.writer.patch_data(ANONYMOUS, name, uploads.data(), self._conditions()), 200)

    def _upload(self, target: ImageName | str | None) -> Response:
        with uploads.received(self._repo) as upload:
            name = _named(target, upload.filename) if isinstance(target, str) else target
            conditions = self._conditions()
            record, created = self._repo.writer.put(
                ANONYMOUS, name, upload.spool, conditions=conditions, filename=upload.filename, data=upload.data
            )
        return _written(record, 201 if created else 200)

    def _conditions(self) -> Conditions:
        return uploads.conditions(RecipeRequest().settle(self._defaults)[0])

    def delete(self, path: str) -> Response:
        """``DELETE /images/NAME``: tells what went from which layer."""
        check_encoding(request.environ)
        derived = _only_derived()
        if not path or path.endswith("/"):
            raise BadName("A folder cannot be deleted: name an image.")
        readings = ImageName.readings(path)
        if derived:
            name = self._repo.reader.resolve(ANONYMOUS, readings).name
            gone = self._repo.writer.purge(ANONYMOUS, name)
        else:  # where there is no picture, there may be what a deletion that failed has left
            name = self._repo.reader.resolve_name(readings)
            gone = self._repo.writer.delete(ANONYMOUS, name, self._conditions())
        return responses.send_json({"name": name.text, "deleted": gone})


def _is_content_address() -> bool:
    """Whether the path begins as one that names bytes."""
    return str((request.view_args or {}).get("path", "")).startswith("sha256:")


def _asked_for(sha256: str | None) -> bool:
    """Whether the path names these very bytes: then it never stands for others."""
    return split_ending((request.view_args or {}).get("path", ""))[0] == f"sha256:{sha256}"


def _written(record: Record, status: int) -> Response:
    """The record after a write; its entity tag is that of what ``meta=True`` gives."""
    response = responses.send_record(record, status)
    response.headers["Location"] = url_for("image", path=record.name)
    response.headers["Content-Location"] = url_for("image", path=record.name, meta="True")
    return response


def _self_named(folder: str, said: Any) -> ImageName:
    """The name that a description gives itself, else one that nobody has."""
    own = said if isinstance(said, Mapping) else {}
    name = own.get("name", str(uuid.uuid4()))
    if not isinstance(name, str):
        raise BadBody("Expected the name to be text.")
    return ImageName.readings(folder + name)[0]


def _filename(current: Original, recipe: Recipe) -> str:
    """The last part of the name, with the ending of what is served."""
    return f"{current.name.text.rpartition('/')[2]}.{exporter.ending_of(current, recipe)}"


def _named(folder: str, filename: str | None) -> ImageName:
    if not filename:
        raise BadBody("Expected the file to have a name of its own, because the path ends in '/'.")
    return ImageName.readings(folder + filename)[0]


def _no_parameters() -> None:
    for name in request.args:
        raise unknown_parameter(name, ())


def _only_derived() -> bool:
    for name in request.args:
        if name != "derived":
            raise unknown_parameter(name, ("derived",))
    return read_boolean("derived", request.args.get("derived", "false"))


def _stream_json(images: Iterable[Original], make: Callable[[Original], dict[str, Any]]) -> Response:
    """A JSON list, one image at a time; where one cannot be told of, its problem stands in its place."""
    dumps = current_app.json.dumps

    def item(current: Original) -> str:
        try:
            return dumps(make(current))
        except Problem as problem:
            return dumps({"name": current.name.text, **problems.document(problem)})

    def stream() -> Iterator[str]:
        separator = "["
        for current in images:
            yield separator + item(current)
            separator = ","
        yield "]"

    response = Response(stream(), mimetype="application/json")
    response.headers["Cache-Control"] = "no-store"
    response.headers["X-Content-Type-Options"] = "nosniff"
    return response
