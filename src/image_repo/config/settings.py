"""The settings: each is declared once, with type, default and help."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, TypeVar, dataclass_transform

from annotated_types import Ge, Gt, Le
from pydantic import BeforeValidator, ConfigDict

from image_repo.config.readers import Sourced, read_auth_version, read_bytes, read_interface, read_list, read_sides

T = TypeVar("T")
KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30

Fraction = Annotated[float, Ge(0), Le(1)]
Count = Annotated[int, Ge(0)]
Positive = Annotated[int, Ge(1)]
#: whole numbers, or with a unit: 64 MiB, 1G
Bytes = Annotated[int, BeforeValidator(read_bytes), Ge(0)]
PositiveBytes = Annotated[int, BeforeValidator(read_bytes), Ge(1)]
Seconds = Annotated[float, Gt(0)]
Quality = Annotated[int, Ge(1), Le(100)]
Side = Annotated[int, Ge(1), Le(10_000)]
Sides = Annotated[tuple[Side, Side], BeforeValidator(read_sides)]
AuthVersion = Annotated[Literal["1", "2", "3"], BeforeValidator(read_auth_version), Sourced()]
Interface = Annotated[Literal["public", "internal", "admin"], BeforeValidator(read_interface), Sourced()]
WritableKind = Literal["jpg", "png", "webp", "avif", "tif", "gif", "jp2"]
DefaultKind = Literal["jpg", "png", "webp", "avif", "tif", "gif", "jp2", "auto", "source"]
#: sides in pixels
Steps = Annotated[tuple[Side, ...], BeforeValidator(read_list)]
Texts = Annotated[tuple[str, ...], BeforeValidator(read_list)]
Kinds = Annotated[tuple[WritableKind, ...], BeforeValidator(read_list)]
#: name → {parameter: value}
Presets = Mapping[str, Mapping[str, str]]
#: value of a claim → role
Roles = Mapping[str, Literal["reader", "writer", "admin"]]
#: a value, ``env:NAME`` or ``file:PATH``
Credential = Annotated[str, Sourced()]
#: the same, and never printed
Secret = Annotated[str, Sourced(secret=True)]


def _setting(default: Any, help: str) -> Any:
    """Return a setting: its default or the factory of it, and its help."""
    if callable(default):
        return field(default_factory=default, metadata={"help": help})
    return field(default=default, metadata={"help": help})


def _group(section: type[T]) -> T:
    """Return a section of settings, whose help is its docstring."""
    group: T = field(default_factory=section, metadata={"help": section.__doc__})
    return group


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def _section(cls: type[T]) -> type[T]:
    """Make a class a frozen dataclass that refuses unknown settings."""
    cls.__pydantic_config__ = ConfigDict(extra="forbid", allow_inf_nan=False)  # type: ignore[attr-defined]
    return dataclass(frozen=True)(cls)


#: no name that Amazon allows for a bucket
DEFAULT_CACHE_CONTAINER = "test_image_repo_cache"


@_section
class Credentials:
    """Credentials for Swift and Keystone, or for S3; the usual OS_* and S3_* variables are their defaults."""

    authurl: Credential | None = _setting(None, "identity service: …/auth/v1.0 or …/v3 (OS_AUTH_URL, ST_AUTH)")
    auth_version: AuthVersion | None = _setting(None, "API version (OS_IDENTITY_API_VERSION); from authurl when absent")
    username: Credential | None = _setting(None, "user (OS_USERNAME, ST_USER)")
    password: Secret | None = _setting(None, "password (OS_PASSWORD, ST_KEY)")
    tenant: Credential | None = _setting(None, "name of the project (OS_PROJECT_NAME, OS_TENANT_NAME)")
    tenant_id: Credential | None = _setting(None, "id of the project (OS_PROJECT_ID, OS_TENANT_ID)")
    user_domain_name: Credential | None = _setting(None, "domain of the user (OS_USER_DOMAIN_NAME)")
    user_domain_id: Credential | None = _setting(None, "domain of the user, by id (OS_USER_DOMAIN_ID)")
    project_domain_name: Credential | None = _setting(None, "domain of the project (OS_PROJECT_DOMAIN_NAME)")
    project_domain_id: Credential | None = _setting(None, "domain of the project, by id (OS_PROJECT_DOMAIN_ID)")
    region: Credential | None = _setting(None, "region of the object store (OS_REGION_NAME, S3_REGION)")
    application_credential_id: Credential | None = _setting(None, "in place of a user (OS_APPLICATION_CREDENTIAL_ID)")
    application_credential_secret: Secret | None = _setting(None, "its secret (OS_APPLICATION_CREDENTIAL_SECRET)")
    access_key_id: Credential | None = _setting(
        None, "S3: access key (S3_ACCESS_KEY_ID); the AWS SDK's own credentials when absent"
    )
    secret_access_key: Secret | None = _setting(None, "S3: its secret (S3_SECRET_ACCESS_KEY)")
    session_token: Secret | None = _setting(None, "S3: token of temporary credentials (S3_SESSION_TOKEN)")
    endpoint: Credential | None = _setting(None, "S3: scheme://host of the store (S3_ENDPOINT); Amazon's when absent")
    addressing: Literal["auto", "path", "virtual"] = _setting(
        "auto", "S3: the bucket in the path or in the host name; auto: in the path where there is an endpoint"
    )
    interface: Interface = _setting("public", "endpoint of the service catalogue to use (OS_INTERFACE)")
    cacert: Credential | None = _setting(None, "file of CA certificates to trust (OS_CACERT)")
    insecure: bool = _setting(False, "accept any certificate; for trials only")


@_section
class PersistentStoreConfiguration:
    """The container of the originals: the only truth."""

    kind: Literal["auto", "disk", "swift", "s3"] = _setting(
        "auto", "auto: S3 where S3_BUCKET is set, Swift with credentials (OS_AUTH_URL …), else disk"
    )
    container: str = _setting(
        "test_image_repo", "Swift container or S3 bucket of the originals (S3_BUCKET); persistent"
    )
    path: str = _setting("./image_repo_data", "folder of the originals when kind is disk")
    credentials: Credentials = _group(Credentials)
    url_key: Secret | None = _setting(None, "key that signs temporary URLs; the container's own when absent")
    url_key_2: Secret | None = _setting(None, "second key that is accepted, for rotation")
    url_key_create: bool = _setting(False, "create and set a key at start when the container has none")
    url_lifetime: Positive = _setting(172_800, "lifetime of a temporary URL where the request names none, in seconds")
    url_lifetime_most: Positive = _setting(604_800, "longest lifetime that a request can name, in seconds")
    url_lifetime_slack: Count = _setting(
        86_400, "seconds by which an expiry is rounded up at most, so that URLs repeat"
    )
    public_endpoint: str | None = _setting(None, "scheme://host of the store as seen by clients, if different")
    connections: Positive = _setting(8, "maximum of connections to the store from each process")
    timeout: Seconds = _setting(
        10.0, "seconds without an answer after which the store counts as silent; a request waits at most 2 in all"
    )
    connect_timeout: Seconds = _setting(2.0, "timeout of connecting to the store, in seconds")

    @property
    def resolved_kind(self) -> Literal["disk", "swift", "s3"]:
        """The kind that ``auto`` stands for: Swift when there is an ``authurl``."""
        if self.kind == "auto":
            return "swift" if self.credentials.authurl else "disk"
        return self.kind


@_section
class SwiftCacheConfiguration:
    """The cache container: renditions that all nodes share. With a store on disk, a folder inside it."""

    enabled: bool = _setting(True, "use a cache container")
    container: str = _setting(
        DEFAULT_CACHE_CONTAINER,
        "Swift container or S3 bucket of the renditions; may be the persistent one, which is the default with S3",
    )
    lifetime: Positive = _setting(2_592_000, "seconds after which a rendition expires in the container")


@_section
class LocalCacheConfiguration:
    """The disk cache, shared by all processes of a node."""

    enabled: bool = _setting(True, "use a disk cache")
    cache_path: str = _setting("/var/tmp/image_server", "its folder: private to this user, created when missing")
    max_size: Bytes = _setting(
        GIB, "its maximum size, 0 for no limit; renditions and mezzanines have shares of their own"
    )
    mezzanine_share: Fraction = _setting(
        0.6,  # of 1 GiB: the smallest of 1,000 originals of 12 megapixels
        "the part of max_size for mezzanines: large originals, decoded at 1/8 to 1/2 of their size, from which small "
        "variants are rendered (0.5 to 5 MB each); 0 for none",
    )
    max_elements: Count = _setting(1_048_576, "its maximum number of files, 0 for no limit")
    evict_free_threshold: Fraction = _setting(0.2, "eviction begins when less than this fraction is free")
    evict_hysteresis: Fraction = _setting(0.2, "eviction ends when this fraction more is free")
    priority: Literal["newest", "largest", "smallest", "thumbnail", "cost"] = _setting(
        "newest",
        "what is evicted last: the recently used (newest), files of that kind, or what took longest to make (cost)",
    )


@_section
class MemoryCacheConfiguration:
    """The cache in the memory of each process."""

    max_size: Bytes = _setting(16 * MIB, "its maximum size in bytes in each process, 0 for none")


@_section
class RenderConfiguration:
    """Limits of rendering."""

    at_once: Count = _setting(0, "concurrent renders over all processes of the node; 0: one for each processor")
    queue: Count = _setting(64, "requests that wait for a render in each process; further ones get 503")
    wait: Seconds = _setting(20.0, "longest time that a request waits for its picture, in seconds")
    max_pixels: Positive = _setting(100_000_000, "maximum of pixels in a frame of a source")
    max_scaled_pixels: Positive = _setting(
        256_000_000, "the same for a source that is decoded smaller or in parts: sequential JPEG, TIFF in tiles"
    )
    max_frames: Positive = _setting(1_000, "maximum of frames in an animation that stays animated")
    max_frame_pixels: Positive = _setting(300_000_000, "maximum of pixels in all frames of an animation together")
    max_scans: Positive = _setting(100, "maximum of scans in a progressive JPEG")
    max_metadata: PositiveBytes = _setting(64 * KIB, "maximum size of a metadata text that is read, in bytes")
    accept_damaged: bool = _setting(
        False, "take pictures that are cut off and render what there is of them; their records say damaged"
    )
    max_source: PositiveBytes = _setting(512 * MIB, "maximum size of an original that is rendered, in bytes")
    pixel_cache: Bytes = _setting(
        GIB,
        "maximum size in bytes of the decoded pixels in local_file_cache_path, for regions of large originals "
        "(24 megapixels take 122 MiB), 0 for none",
    )


@_section
class QualityConfiguration:
    """Quality of an encoded picture where the request names none."""

    jpg: Quality = _setting(82, "for JPEG")
    webp: Quality = _setting(78, "for WebP")
    avif: Quality = _setting(61, "for AVIF")
    jp2: Quality = _setting(80, "for JPEG 2000")


@_section
class CatalogueConfiguration:
    """The index over the records, for queries, search and statistics. It can be rebuilt at any time."""

    enabled: bool = _setting(True, "use a catalogue")
    url: Secret | None = _setting(
        None,
        "postgresql://USER:PASSWORD@HOST/DATABASE (pip install 'image_repo[postgres]'), for several nodes, or "
        "sqlite:///PATH; SQLite in local_file_cache_path when absent",
    )
    timeout: Seconds = _setting(10.0, "longest time of a query, in seconds")
    slow: Seconds = _setting(0.5, "a query that takes longer is logged, with the key to index, in seconds")
    reconcile: Count = _setting(120, "seconds between reconciliations with other tools' changes, 0 for none")
    connections: Positive = _setting(4, "maximum of connections to the database from each process")


@_section
class TrashConfiguration:
    """The bin of the persistent container: originals and records of what was deleted or replaced."""

    days: Count = _setting(7, "days after which they are erased, 0 for no bin")


@_section
class PurgeConfiguration:
    """The request that makes a cache in front drop an image that has changed (docs/operating.md)."""

    url: str | None = _setting(
        None,
        "address, such as http://varnish:6081/; {key} stands for the surrogate key, {name} for the name; null: none",
    )
    method: str = _setting("PURGE", "its method")
    headers: Texts = _setting((), "its headers, such as 'xkey-purge: {key}'")
    secret_header: Secret | None = _setting(None, "a further header with a credential, such as 'Fastly-Key: …'")
    body: str | None = _setting(None, """its body, such as '{"tags": ["{key}"]}'""")
    timeout: Seconds = _setting(5.0, "longest time of a request, in seconds")


@_section
class OidcConfiguration:
    """Bearer tokens of an OpenID provider (RFC 6750); asymmetric signatures only."""

    issuer: str | None = _setting(None, "address of the provider, which is the iss of its tokens; null: not checked")
    jwks_uri: Credential | None = _setting(
        None, "address of its keys (OIDC_JWKS_URI); as the issuer's discovery document says when absent"
    )
    audience: str | None = _setting(None, "aud of the tokens that are meant for this server; null: not checked")
    roles_claim: str | None = _setting(
        None, "claim with the roles, such as realm_access.roles; null: every valid token is a writer's"
    )
    roles: Roles = _setting(dict, "value of that claim: role; reader, writer and admin mean themselves")
    client_id: str | None = _setting(
        None, "client for people who log in at /login (pip install 'image_repo[login]'); null: nobody logs in"
    )
    client_secret: Secret | None = _setting(None, "its secret; null: a public client")
    scope: str = _setting("openid profile", "what a login asks the provider for, separated by spaces")

    @property
    def is_configured(self) -> bool:
        """Whether there is a provider."""
        return bool(self.issuer or self.jwks_uri)


@_section
class AccessRule:
    """What some callers may below a folder."""

    prefix: str = _setting("", "the folder; empty for everything")
    who: str = _setting("anonymous", "anonymous, everybody, reader, writer, or the name of a caller")
    may: Literal["write", "read", "none"] = _setting("none", "what they may there")
    until: str | None = _setting(None, "a date, from whose beginning in UTC the rule does not count; null: for ever")


#: of which the longest prefix decides
Rules = tuple[AccessRule, ...]


@_section
class WatermarkConfiguration:
    """What is put on each rendition; a text or a picture."""

    text: str | None = _setting(
        None, "a line of text, white with a dark outline: letters without accents, digits, ©; null: none"
    )
    picture: str | None = _setting(None, "a PNG, WebP, JPEG or GIF file of at most 4 megapixels; null: none")
    opacity: Fraction = _setting(0.6, "0 cannot be seen, 1 hides what is below")
    repeat: bool = _setting(False, "all over the rendition; else in its lower right corner")


@_section
class AnonymousLimitsConfiguration:
    """What callers without credentials get at most, where they may read."""

    max_width: Side | None = _setting(None, "width of a rendition in pixels: wider ones shrink to it; null: any width")
    kinds: Kinds = _setting((), "formats, such as [jpg, webp]; empty: all. With any limit there are no originals")
    watermark: WatermarkConfiguration = _group(WatermarkConfiguration)


@_section
class AccessConfiguration:
    """Who may read and write. Everybody may do everything until something of it is set, or an API key is made."""

    anonymous: Literal["write", "read", "none"] | None = _setting(
        None, "what callers without credentials may; null: write, but none where oidc is set or an API key was made"
    )
    image_scope: Literal["all", "user"] = _setting(
        "all", "user: each user sees and changes its own images alone, administrators all of them (IMAGE_SCOPE)"
    )
    user_identifier: str = _setting(
        "preferred_username",
        "claim of a token, dotted, with the user for image_scope (USER_IDENTIFIER); sub cannot be changed by users",
    )
    owner_quota: Bytes = _setting(
        0, "bytes of originals and artifacts that each user may have with image_scope: user; 0: any number"
    )
    anonymous_limits: AnonymousLimitsConfiguration = _group(AnonymousLimitsConfiguration)
    secret: Secret | None = _setting(
        None, "signs share links and sessions: at least 16 characters, the same on all nodes"
    )
    secret_2: Secret | None = _setting(None, "second secret that is accepted, so that the first can be changed")
    iiif_info: bool = _setting(
        False,
        "everybody may read the info.json (size, services) of closed pictures: IIIF viewers need it to log people in",
    )
    session_lifetime: Positive = _setting(28_800, "seconds after which people have to log in again")
    audit: str | None = _setting(
        None, "file for a JSON line on each write, deletion, link, share, export and change of keys; log: in the log"
    )
    oidc: OidcConfiguration = _group(OidcConfiguration)
    rules: Rules = _setting(
        (), "rules by folder, such as {prefix: new, who: anonymous, may: none, until: 2030-01-01}; the longest decides"
    )

    @property
    def is_open(self) -> bool:
        """Whether everybody may do everything."""
        is_restricted = self.oidc.is_configured or self.rules or self.image_scope == "user"
        return self.anonymous in (None, "write") and not is_restricted


@_section
class RequestsConfiguration:
    """Which renditions can be requested: they bound what a stranger can have rendered and cached."""

    mode: Literal["any", "steps", "presets", "signed"] = _setting(
        "any",
        "any; steps: sides of a box are enlarged to the next of steps; presets: preset=NAME alone, or no parameters; "
        "signed: those that image_repo sign, or another holder of the key, has signed",
    )
    steps: Steps = _setting(
        (20, 40, 60, 120, 250, 330, 500, 960, 1280, 1920, 3840), "sides in pixels for mode steps, the smallest first"
    )
    key: Secret | None = _setting(None, "signs requests in mode signed: at least 16 characters, the same on all nodes")
    key_2: Secret | None = _setting(None, "second key that is accepted in requests, so that the first can be changed")
    renders_per_minute: Count = _setting(
        0,
        "renders of each client without credentials on a node; further ones get 429, hits do not count. 0: any number",
    )


@_section
class DialectsConfiguration:
    """Addresses of other image servers, for the pictures of this repository (docs/dialects.md)."""

    thumbor: bool = _setting(False, "serve thumbor's URLs below /thumbor/")
    thumbor_key: Secret | None = _setting(
        None, "its SECURITY_KEY: signed URLs alone are served; null: those with unsafe alone"
    )
    imgproxy: bool = _setting(False, "serve imgproxy's URLs below /imgproxy/")
    imgproxy_key: Secret | None = _setting(
        None, "its IMGPROXY_KEY, hexadecimal: signed URLs alone are served; null: signatures are not looked at"
    )
    imgproxy_salt: Secret | None = _setting(None, "its IMGPROXY_SALT, hexadecimal")
    sources: Texts = _setting(
        (), "beginnings of source URLs that stand for the repository, such as https://static.example.org/pictures/"
    )
    deep_zoom: bool = _setting(False, "serve Deep Zoom images: /dzi/NAME.dzi")


@_section
class ServerConfiguration:
    """The server's processes and limits."""

    processes: Positive = _setting(2, "worker processes")
    threads: Positive = _setting(300, "threads of each worker: concurrent connections")
    keep_alive: bool = _setting(True, "allow several requests over one connection")
    access_log: Literal["none", "plain", "json"] = _setting("plain", "log a line for each request")
    socket_timeout: Positive = _setting(10, "timeout of reading from or writing to a client, in seconds")
    request_timeout: Positive = _setting(600, "seconds after which a worker is ended whose request sends nothing")
    max_headers: PositiveBytes = _setting(32 * KIB, "maximum size of a request's headers, in bytes")
    max_upload: PositiveBytes = _setting(256 * MIB, "maximum size of an upload, in bytes")
    trusted_proxies: Texts = _setting(("127.0.0.0/8", "::1"), "addresses or networks whose X-Forwarded-* counts")
    slow_connections_per_address: Positive = _setting(100, "connections of one client on which a worker waits for it")
    backlog: Positive = _setting(1024, "connections that wait to be accepted")


@_section
class UploadsConfiguration:
    """Uploads in parts (tus, at /uploads): what is not finished waits in local_file_cache_path."""

    max_size: Bytes = _setting(
        8 * GIB, "maximum size of all unfinished uploads of a node, by the bytes that have arrived; 0: none"
    )
    max_open: Positive = _setting(20, "unfinished uploads of one caller")
    lifetime: Positive = _setting(86_400, "seconds without a further byte after which one is deleted")


@_section
class Config:
    """All settings."""

    listen: str = _setting("127.0.0.1:5000", "HOST:PORT to listen on (--listen)")
    repository_base_pathname: str = _setting("images", "beginning of all paths of images, such as api/images")
    public_url: str | None = _setting(None, "public scheme://host[/path]; from the request when absent")
    persistent_store_configuration: PersistentStoreConfiguration = _group(PersistentStoreConfiguration)
    swift_cache_configuration: SwiftCacheConfiguration = _group(SwiftCacheConfiguration)
    local_cache_configuration: LocalCacheConfiguration = _group(LocalCacheConfiguration)
    memory_cache_configuration: MemoryCacheConfiguration = _group(MemoryCacheConfiguration)
    local_file_cache_path: str = _setting(
        "/var/tmp/image_repo", "folder for uploads and files that a node's processes share"
    )
    create_new: bool = _setting(False, "create missing containers at start")
    freshness: Annotated[float, Ge(0), Le(3600)] = _setting(5.0, "seconds before a response is revalidated")
    overwrite: bool = _setting(True, "replace a picture by an upload of the same name")
    serve_originals: bool = _setting(False, "allow kind=original; originals can hold positions and names")
    metadata_location: bool = _setting(False, "include the position of a picture in its record")
    keep_copyright: bool = _setting(False, "copy Artist and Copyright of the original into renditions")
    image_default_format: DefaultKind = _setting(
        "jpg",
        "format where the request names none; auto: by Accept; source: that of the original where browsers show it, "
        "else jpg, so that a transparent logo.png stays one",
    )
    image_default_quality: QualityConfiguration = _group(QualityConfiguration)
    image_auto_formats: Kinds = _setting(("avif", "webp", "jpg"), "for kind=auto, best first; the last needs no Accept")
    image_default_background: str = _setting("ffffff", "colour behind transparent parts")
    thumbnail_default_size: Sides = _setting((50, 50), "box of a thumbnail in pixels")
    thumbnail_sharpen: bool = _setting(True, "sharpen thumbnails")
    thumbnail_equalise: bool = _setting(False, "equalise the histogram of thumbnails")
    ignored_parameters: Texts = _setting(
        ("utm_*", "fbclid", "gclid", "_"), "parameters that are passed over: mailers and trackers add them to links"
    )
    presets: Presets = _setting(dict, "name: {parameter: value}, for preset=name")
    requests: RequestsConfiguration = _group(RequestsConfiguration)
    dialects: DialectsConfiguration = _group(DialectsConfiguration)
    render: RenderConfiguration = _group(RenderConfiguration)
    catalogue: CatalogueConfiguration = _group(CatalogueConfiguration)
    trash: TrashConfiguration = _group(TrashConfiguration)
    access: AccessConfiguration = _group(AccessConfiguration)
    server: ServerConfiguration = _group(ServerConfiguration)
    uploads: UploadsConfiguration = _group(UploadsConfiguration)
    cors_origin: str | None = _setting("*", "Access-Control-Allow-Origin of pictures; null: not sent")
    cors_write_origins: Texts = _setting((), "origins whose scripts may write, such as https://app.example.org")
    surrogate_header: Literal["Surrogate-Key", "xkey", "Cache-Tag"] | None = _setting(
        None, "header of pictures with keys by which a cache in front purges them (docs/operating.md)"
    )
    purge: PurgeConfiguration = _group(PurgeConfiguration)
    telemetry: bool = _setting(False, "OpenTelemetry traces to OTEL_EXPORTER_OTLP_*; pip install 'image_repo[otel]'")
    pid_file: str = _setting("/var/tmp/image_repo_pid", "file for the process id of a server in the background")
