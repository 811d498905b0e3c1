"""Constraints beyond the type of each setting: between settings, and on texts with a grammar."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from ipaddress import ip_network
from pathlib import Path as File
from urllib.parse import urlsplit

from image_repo.config.readers import SourcedText, is_moment
from image_repo.config.settings import AccessConfiguration, Config, Credentials, PersistentStoreConfiguration
from image_repo.config.tree import Path, get, leaves
from image_repo.errors import BadName, BadParameter
from image_repo.model.names import parse_prefix
from image_repo.model.operations import read_background
from image_repo.model.recipe import read_request

#: setting, and what was expected
Violation = tuple[Path, str]
#: the default key of the first image_repo, which is public
KNOWN_KEYS = frozenset(("123456789",))
MIN_KEY_CHARS = 16
#: the first segments of paths that are not those of images
_TAKEN = "temp iiif thumbor imgproxy dzi oembed health healthz livez readyz metrics docs openapi.json problems"
_TAKEN_BY_QUERIES = (
    "search stats export import artifacts snapshots uploads grid static access me keys trash login logout"
)
RESERVED = frozenset(f"{_TAKEN} {_TAKEN_BY_QUERIES}".split())
_LISTEN = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^\s:/\[\]]+):([0-9]{1,5})")
_SEGMENT = re.compile(r"[A-Za-z0-9_~-][A-Za-z0-9._~-]*")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_ORIGIN = re.compile(r"\*|null|https?://[A-Za-z0-9.\[\]:-]+")
_STORE = "persistent_store_configuration"
_BUCKET = re.compile(r"[A-Za-z0-9._-]{3,255}")
#: presigned URLs with Signature Version 4
_LONGEST_S3_LINK_S = 604_800


def first_violations(config: Config) -> dict[Path, str]:
    """Return setting → the first constraint that it violates."""
    violations: dict[Path, str] = {}
    for rule in _RULES:
        for setting, message in rule(config):
            violations.setdefault(setting, message)
    return violations


def _clean_text(config: Config) -> Iterator[Violation]:
    for path, _ in leaves(Config):
        value = get(config, path)
        if isinstance(value, str) and _CONTROL.search(value):
            yield path, "expected text without control characters"


def _listen(config: Config) -> Iterator[Violation]:
    match = _LISTEN.fullmatch(config.listen)
    if not match or not 1 <= int(match[2]) <= 65_535:
        yield ("listen",), f"expected HOST:PORT such as 127.0.0.1:5000 but received {config.listen!r}"


def _base(config: Config) -> Iterator[Violation]:
    segments = config.repository_base_pathname.split("/")
    if not all(_SEGMENT.fullmatch(segment) for segment in segments):
        yield ("repository_base_pathname",), "expected a path such as images or api/images, without '/' at its ends"
    elif segments[0] in RESERVED:
        yield ("repository_base_pathname",), f"{segments[0]!r} is taken: other addresses begin with it"


def _addresses(config: Config) -> Iterator[Violation]:
    endpoint, url = config.persistent_store_configuration.public_endpoint, config.public_url
    if endpoint is not None and (not _is_address(endpoint) or urlsplit(endpoint).path):
        yield (_STORE, "public_endpoint"), f"expected scheme://host without a path but received {endpoint!r}"
    if url is not None and (not _is_address(url) or url.endswith("/")):
        yield ("public_url",), f"expected scheme://host[/path] without '/' at its end but received {url!r}"
    origin = config.cors_origin
    if origin is not None and not _ORIGIN.fullmatch(origin):
        expected = "expected '*', an origin such as https://example.org, or null"
        yield ("cors_origin",), f"{expected} but received {origin!r}"
    for writer in config.cors_write_origins:
        if writer in ("*", "null") or not _ORIGIN.fullmatch(writer):
            yield ("cors_write_origins",), f"expected origins such as https://example.org but received {writer!r}"
        elif origin not in ("*", writer):
            yield ("cors_write_origins",), f"expected cors_origin '*' or {writer!r}: who writes has to read"
    for proxy in config.server.trusted_proxies:
        if not _is_network(proxy):
            yield ("server", "trusted_proxies"), f"expected an address or a network (10.0.0.0/8) but received {proxy!r}"


def _is_network(text: str) -> bool:
    try:
        ip_network(text)
    except ValueError:
        return False
    return True


def _is_address(text: str) -> bool:
    try:
        parts = urlsplit(text)
        has_host = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        return False
    return has_host and not (parts.query or parts.fragment or parts.username or re.search(r"\s", text))


#: keys that sign
_SECRETS: tuple[Path, ...] = (
    *((_STORE, name) for name in ("url_key", "url_key_2")),
    *(("access", name) for name in ("secret", "secret_2")),
    *(("requests", name) for name in ("key", "key_2")),
    *(("dialects", name) for name in ("thumbor_key", "imgproxy_key")),
)
_HEX = re.compile(r"(?:[0-9a-fA-F]{2})+")


def _requests(config: Config) -> Iterator[Violation]:
    mode, steps = config.requests.mode, config.requests.steps
    if mode == "signed" and not config.requests.key:
        yield ("requests", "key"), "expected a key of at least 16 characters, because requests.mode is signed"
    if not steps or list(steps) != sorted(set(steps)):
        yield ("requests", "steps"), "expected at least one side in pixels, each larger than the one before"


def _keys(config: Config) -> Iterator[Violation]:
    for path in _SECRETS:
        key = get(config, path)
        if key is None:
            continue
        if isinstance(key, SourcedText) and key.problem:
            yield path, key.problem
        elif key in KNOWN_KEYS:
            yield path, "expected a key other than the public default; image_repo link-key creates one"
        elif len(key) < MIN_KEY_CHARS:
            yield path, f"expected a key of at least {MIN_KEY_CHARS} characters"


def _dialects(config: Config) -> Iterator[Violation]:
    for name in ("imgproxy_key", "imgproxy_salt"):
        text = getattr(config.dialects, name)
        if isinstance(text, SourcedText) and text.problem:
            yield ("dialects", name), text.problem
        elif text is not None and not _HEX.fullmatch(text):
            yield ("dialects", name), "expected hexadecimal digits, two for each byte"
    if (config.dialects.imgproxy_key is None) != (config.dialects.imgproxy_salt is None):
        yield ("dialects", "imgproxy_salt"), "expected imgproxy_key and imgproxy_salt, or neither"


def _credentials(config: Config) -> Iterator[Violation]:
    store = config.persistent_store_configuration
    if store.resolved_kind == "disk":
        return
    above = (_STORE, "credentials")
    credentials = store.credentials
    values = {path: getattr(credentials, path[-1]) for path, _ in leaves(type(credentials), above)}
    problems = {path: text.problem for path, text in values.items() if isinstance(text, SourcedText) and text.problem}
    if problems:
        yield from problems.items()
    elif store.resolved_kind == "s3":
        yield from _s3_credentials(store, above)
    else:
        yield from _swift_credentials(credentials, above)


def _s3_credentials(store: PersistentStoreConfiguration, above: Path) -> Iterator[Violation]:
    credentials = store.credentials
    endpoint = credentials.endpoint
    if endpoint is not None and (not _is_address(endpoint) or urlsplit(endpoint).path.strip("/")):
        yield (*above, "endpoint"), f"expected scheme://host without a path but received {str(endpoint)!r}"
    if bool(credentials.access_key_id) != bool(credentials.secret_access_key):
        yield above, "expected access_key_id and secret_access_key together (S3_ACCESS_KEY_ID, S3_SECRET_ACCESS_KEY)"
    if store.url_lifetime + store.url_lifetime_slack > _LONGEST_S3_LINK_S:
        expected = f"expected at most {_LONGEST_S3_LINK_S} together with url_lifetime_slack: no URL of S3 holds longer"
        yield (_STORE, "url_lifetime"), expected


def _swift_credentials(given: Credentials, above: Path) -> Iterator[Violation]:
    url = given.authurl
    if not url:
        yield (*above, "authurl"), "expected the address of the identity service, here or in OS_AUTH_URL"
    elif not re.match(r"https?://[^/\s]", url):
        expected = "expected an address such as https://keystone.example.org/v3"
        yield (*above, "authurl"), f"{expected} but received {str(url)!r}"
    has_password = given.username and given.password
    if not has_password and not (given.application_credential_id and given.application_credential_secret):
        expected = "expected username and password, or an application credential with its secret"
        yield above, f"{expected} (OS_USERNAME, OS_PASSWORD …)"


def _access(config: Config) -> Iterator[Violation]:
    access, above = config.access, ("access", "oidc")
    uri = access.oidc.jwks_uri
    if isinstance(uri, SourcedText) and uri.problem:
        yield (*above, "jwks_uri"), uri.problem
        return
    for name in ("issuer", "jwks_uri"):
        address = getattr(access.oidc, name)
        if address is not None and not re.match(r"https?://[^/\s]", address):
            expected = "expected an address such as https://id.example.org/realms/lab"
            yield (*above, name), f"{expected} but received {str(address)!r}"
    for number, rule in enumerate(access.rules):
        try:
            parse_prefix(rule.prefix)
        except BadName as error:
            yield ("access", "rules"), f"rule {number + 1}: prefix: {error.detail}"
        if rule.until is not None and not is_moment(rule.until):
            yield ("access", "rules"), f"rule {number + 1}: expected a date such as 2030-01-31 for until"
        if not rule.who:
            yield ("access", "rules"), f"rule {number + 1}: expected who it is for"
    yield from _login(access)
    yield from _watermark(access)
    for name in ("audience", "roles_claim", "roles"):
        if getattr(access.oidc, name) and not access.oidc.is_configured:
            yield (*above, name), "expected issuer or jwks_uri beside it"
    if access.oidc.roles and not access.oidc.roles_claim:
        yield (*above, "roles"), "expected roles_claim beside it"


def _login(access: AccessConfiguration) -> Iterator[Violation]:
    oidc, above = access.oidc, ("access", "oidc")
    if access.iiif_info and access.image_scope == "user":
        yield ("access", "iiif_info"), "expected false, because access.image_scope keeps users apart"
    elif access.iiif_info and not oidc.client_id:
        yield ("access", "iiif_info"), "expected access.oidc.client_id beside it: people log in there"
    secret = oidc.client_secret
    if isinstance(secret, SourcedText) and secret.problem:
        yield (*above, "client_secret"), secret.problem
    if secret and not oidc.client_id:
        yield (*above, "client_secret"), "expected client_id beside it"
    if not oidc.client_id:
        return
    if not oidc.issuer:
        yield (*above, "client_id"), "expected issuer beside it, which names where people log in"
    if "openid" not in oidc.scope.split():
        yield (*above, "scope"), f"expected openid among them but received {oidc.scope!r}"
    if not access.secret:
        yield ("access", "secret"), "expected a secret of at least 16 characters, which signs the sessions of people"


#: of HTTP (RFC 9110, sections 5.6.2 and 5.5)
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_HEADER = re.compile(rf"{_TOKEN.pattern}: *[^\x00-\x1f\x7f]+")


def _purge(config: Config) -> Iterator[Violation]:
    purge = config.purge
    if purge.url is not None and not re.match(r"https?://[^/\s{}]", purge.url):
        yield ("purge", "url"), f"expected an address such as http://varnish:6081/ but received {purge.url!r}"
    if not _TOKEN.fullmatch(purge.method):
        yield ("purge", "method"), f"expected a method such as PURGE or POST but received {purge.method!r}"
    for header in purge.headers:
        if not _HEADER.fullmatch(header):
            yield ("purge", "headers"), f"expected headers such as 'xkey-purge: {{key}}' but received {header!r}"
    texts = (purge.url or "", purge.body or "", *purge.headers)
    if any("{key}" in text for text in texts) and not config.surrogate_header:
        yield ("surrogate_header",), "expected a header, because purge uses {key}, which it tells the cache in front"
    secret = purge.secret_header
    if isinstance(secret, SourcedText) and secret.problem:
        yield ("purge", "secret_header"), secret.problem
    elif secret is not None and not _HEADER.fullmatch(secret):
        yield ("purge", "secret_header"), "expected a header such as 'Fastly-Key: …'"


#: characters of the text of a watermark
_MAX_MARK = 100


def _watermark(access: AccessConfiguration) -> Iterator[Violation]:
    mark, above = access.anonymous_limits.watermark, ("access", "anonymous_limits", "watermark")
    if mark.text is not None and mark.picture is not None:
        yield (*above, "picture"), "expected either text or picture, not both"
    if mark.text is not None and not (mark.text.strip() and mark.text.isprintable() and len(mark.text) <= _MAX_MARK):
        yield (*above, "text"), f"expected one line of at most {_MAX_MARK} characters"
    if mark.picture is not None and not File(mark.picture).is_file():
        yield (*above, "picture"), f"expected a file, but there is no {mark.picture}"


def _scope(config: Config) -> Iterator[Violation]:
    access = config.access
    if access.owner_quota and access.image_scope != "user":
        yield ("access", "owner_quota"), "expected image_scope: user beside it"
    if access.owner_quota and not config.catalogue.enabled:
        yield ("access", "owner_quota"), "expected catalogue.enabled: true beside it"
    if not access.user_identifier:
        yield ("access", "user_identifier"), "expected the name of a claim, such as sub"


def _containers(config: Config) -> Iterator[Violation]:
    for section in (_STORE, "swift_cache_configuration"):
        name = getattr(config, section).container
        if not name or "/" in name or len(name.encode()) > 256:
            yield (section, "container"), "expected a name of 1 to 256 bytes without '/'"
        elif config.persistent_store_configuration.resolved_kind == "s3" and not _BUCKET.fullmatch(name):
            yield (section, "container"), f"expected a bucket: letters, digits, '.' and '-', but received {name!r}"


def _folders(config: Config) -> Iterator[Violation]:
    """Eviction deletes files in caches, so no original may lie in one."""
    store = config.persistent_store_configuration
    paths = {
        (_STORE, "path"): store.path,
        ("local_cache_configuration", "cache_path"): config.local_cache_configuration.cache_path,
        ("local_file_cache_path",): config.local_file_cache_path,
        ("pid_file",): config.pid_file,
    }
    for path, text in paths.items():
        if not text:
            yield path, "expected a path"
    if store.resolved_kind != "disk":
        return
    originals = File(store.path).absolute()
    for path in (("local_cache_configuration", "cache_path"), ("local_file_cache_path",)):
        folder = File(paths[path]).absolute()
        if folder == originals or folder in originals.parents or originals in folder.parents:
            yield path, f"expected a folder apart from that of the originals ({store.path})"


def _times(config: Config) -> Iterator[Violation]:
    store = config.persistent_store_configuration
    if store.url_lifetime > store.url_lifetime_most:
        yield (_STORE, "url_lifetime"), f"expected at most url_lifetime_most, which is {store.url_lifetime_most}"
    if config.render.wait > config.server.request_timeout:
        yield ("render", "wait"), f"expected at most server.request_timeout, which is {config.server.request_timeout}"


def _pictures(config: Config) -> Iterator[Violation]:
    kinds = config.image_auto_formats
    if not kinds or len(set(kinds)) < len(kinds):
        yield ("image_auto_formats",), "expected at least one format, and none of them twice"
    try:
        read_background("image_default_background", config.image_default_background)
    except BadParameter as error:
        yield ("image_default_background",), _lower(error)


def _presets(config: Config) -> Iterator[Violation]:
    for name, parameters in config.presets.items():
        path = ("presets", name)
        if not _SEGMENT.fullmatch(name):
            yield path, "expected a name of letters, digits, '-' and '_'"
        if "preset" in parameters:
            yield (*path, "preset"), "expected parameters without preset: a preset cannot include another"
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


_RULES: tuple[Callable[[Config], Iterator[Violation]], ...] = (
    _clean_text, _listen, _base, _addresses, _keys, _credentials, _access, _scope,
    _containers, _folders, _times, _pictures, _presets, _requests, _dialects, _purge,
)  # fmt: skip
