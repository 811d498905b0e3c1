"""What has to hold beyond the type of each setting: between settings, and in texts that have a grammar."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path as File
from urllib.parse import urlsplit

from image_repo.config.readers import SourcedText
from image_repo.config.settings import Config
from image_repo.config.tree import Path, get, leaves
from image_repo.errors import BadParameter
from image_repo.model.operations import read_background
from image_repo.model.recipe import read_request

#: a mistake: where, and what was expected
Broken = tuple[Path, str]
#: the key that the first image_repo came with, which everybody knows
KNOWN_KEYS = frozenset(("123456789",))
SHORTEST_KEY = 16
#: the first part of a path that is not an image's
_TAKEN = "temp iiif health healthz livez readyz metrics docs openapi.json problems"
_TAKEN_BY_QUERIES = "search stats export import artifacts snapshots static"
RESERVED = frozenset(f"{_TAKEN} {_TAKEN_BY_QUERIES}".split())
_LISTEN = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^\s:/\[\]]+):([0-9]{1,5})")
_SEGMENT = re.compile(r"[A-Za-z0-9_~-][A-Za-z0-9._~-]*")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_ORIGIN = re.compile(r"\*|null|https?://[A-Za-z0-9.\[\]:-]+")
_STORE = "persistent_store_configuration"


def broken(config: Config) -> Iterator[Broken]:
    """Every rule that does not hold."""
    for rule in _RULES:
        yield from rule(config)


def _clean_text(config: Config) -> Iterator[Broken]:
    for path, _ in leaves(Config):
        value = get(config, path)
        if isinstance(value, str) and _CONTROL.search(value):
            yield path, "expected text without control characters"


def _listen(config: Config) -> Iterator[Broken]:
    found = _LISTEN.fullmatch(config.listen)
    if not found or not 1 <= int(found[2]) <= 65_535:
        yield ("listen",), f"expected HOST:PORT such as 127.0.0.1:5000 but received {config.listen!r}"


def _base(config: Config) -> Iterator[Broken]:
    segments = config.repository_base_pathname.split("/")
    if not all(_SEGMENT.fullmatch(segment) for segment in segments):
        yield ("repository_base_pathname",), "expected a path such as images or api/images, without '/' at its ends"
    elif segments[0] in RESERVED:
        yield ("repository_base_pathname",), f"{segments[0]!r} is taken: other addresses begin with it"


def _addresses(config: Config) -> Iterator[Broken]:
    endpoint = config.persistent_store_configuration.public_endpoint
    if endpoint is not None and (not _is_address(endpoint) or urlsplit(endpoint).path):
        yield (_STORE, "public_endpoint"), f"expected scheme://host without a path but received {endpoint!r}"
    if config.public_url is not None and (not _is_address(config.public_url) or config.public_url.endswith("/")):
        yield (
            ("public_url",),
            f"expected scheme://host[/path] without '/' at its end but received {config.public_url!r}",
        )
    if config.cors_origin is not None and not _ORIGIN.fullmatch(config.cors_origin):
        yield (
            ("cors_origin",),
            f"expected '*', an origin such as https://example.org, or null but received {config.cors_origin!r}",
        )


def _is_address(text: str) -> bool:
    try:
        parts = urlsplit(text)
        named = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        return False
    return named and not (parts.query or parts.fragment or parts.username or re.search(r"\s", text))


def _keys(config: Config) -> Iterator[Broken]:
    for name in ("url_key", "url_key_2"):
        key = getattr(config.persistent_store_configuration, name)
        if key is None:
            continue
        if isinstance(key, SourcedText) and key.problem:
            yield (_STORE, name), key.problem
        elif key in KNOWN_KEYS:
            yield (
                (_STORE, name),
                "this is a default key that everybody knows; take one of your own (image_repo link-key makes one)",
            )
        elif len(key) < SHORTEST_KEY:
            yield (_STORE, name), f"expected a key of at least {SHORTEST_KEY} characters"


def _credentials(config: Config) -> Iterator[Broken]:
    store = config.persistent_store_configuration
    if store.resolved_kind != "swift":
        return
    above = (_STORE, "credentials")
    given = store.credentials
    wrong = False
    for path, setting in leaves(type(given), above):
        value = getattr(given, path[-1])
        if setting.sourced and isinstance(value, SourcedText) and value.problem:
            wrong = True
            yield path, value.problem
    if wrong:
        return
    if not given.authurl:
        yield (*above, "authurl"), "expected where to sign in, here or in OS_AUTH_URL"
    elif not re.match(r"https?://[^/\s]", given.authurl):
        yield (
            (*above, "authurl"),
            f"expected an address such as https://keystone.example.org/v3 but received {str(given.authurl)!r}",
        )
    if not (given.username and given.password) and not (
        given.application_credential_id and given.application_credential_secret
    ):
        yield (
            above,
            "expected username and password, or an application credential with its secret (OS_USERNAME, OS_PASSWORD …)",
        )


def _containers(config: Config) -> Iterator[Broken]:
    for section in (_STORE, "swift_cache_configuration"):
        name = getattr(config, section).container
        if not name or "/" in name or len(name.encode()) > 256:
            yield (section, "container"), "expected a name of 1 to 256 bytes without '/'"


def _folders(config: Config) -> Iterator[Broken]:
    """Caches are emptied by us: no original may ever lie in one."""
    store = config.persistent_store_configuration
    named = {
        (_STORE, "path"): store.path,
        ("local_cache_configuration", "cache_path"): config.local_cache_configuration.cache_path,
        ("local_file_cache_path",): config.local_file_cache_path,
        ("pid_file",): config.pid_file,
    }
    for path, text in named.items():
        if not text:
            yield path, "expected a path"
    if store.resolved_kind != "disk":
        return
    originals = File(store.path).absolute()
    for path in (("local_cache_configuration", "cache_path"), ("local_file_cache_path",)):
        folder = File(named[path]).absolute()
        if folder == originals or folder in originals.parents or originals in folder.parents:
            yield path, f"expected a folder apart from that of the originals ({store.path})"


def _times(config: Config) -> Iterator[Broken]:
    store = config.persistent_store_configuration
    if store.url_lifetime > store.url_lifetime_most:
        yield (_STORE, "url_lifetime"), f"expected at most url_lifetime_most, which is {store.url_lifetime_most}"
    if config.render.wait > config.server.request_timeout:
        yield ("render", "wait"), f"expected at most server.request_timeout, which is {config.server.request_timeout}"


def _pictures(config: Config) -> Iterator[Broken]:
    kinds = config.image_auto_formats
    if not kinds or len(set(kinds)) < len(kinds):
        yield ("image_auto_formats",), "expected at least one format, and none of them twice"
    try:
        read_background("image_default_background", config.image_default_background)
    except BadParameter as error:
        yield ("image_default_background",), _lower(error)


def _presets(config: Config) -> Iterator[Broken]:
    for name, parameters in config.presets.items():
        path = ("presets", name)
        if not _SEGMENT.fullmatch(name):
            yield path, "expected a name of letters, digits, '-' and '_'"
        if "preset" in parameters:
            yield (*path, "preset"), "a preset cannot ask for another"
        wrong = [(key, _refusal([(key, value)])) for key, value in parameters.items()]
        yield from (((*path, key), message) for key, message in wrong if message)
        together = None if any(message for _, message in wrong) else _refusal(parameters.items())
        if together:
            yield path, together


def _refusal(pairs: Iterable[tuple[str, str]]) -> str | None:
    try:
        read_request(pairs)
    except BadParameter as error:
        return _lower(error)
    return None


def _lower(error: BadParameter) -> str:
    return error.detail[:1].lower() + error.detail[1:].removesuffix(".")


_RULES: tuple[Callable[[Config], Iterator[Broken]], ...] = (
    _clean_text,
    _listen,
    _base,
    _addresses,
    _keys,
    _credentials,
    _containers,
    _folders,
    _times,
    _pictures,
    _presets,
)
