"""The settings: each declared once, with type, default and help."""

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
DefaultKind = Literal["jpg", "png", "webp", "avif", "tif", "gif", "jp2", "auto"]
Kinds = Annotated[tuple[WritableKind, ...], BeforeValidator(read_list)]
#: name → {parameter: value}
Presets = Mapping[str, Mapping[str, str]]
#: a value, ``env:NAME`` or ``file:PATH``
Credential = Annotated[str, Sourced()]
#: the same, and never printed
Secret = Annotated[str, Sourced(secret=True)]


def _setting(default: Any, help: str) -> Any:
    """A setting: its default, or what makes it, and what a person is told of it."""
    if callable(default):
        return field(default_factory=default, metadata={"help": help})
    return field(default=default, metadata={"help": help})


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def _section(cls: type[T]) -> type[T]:
    """A frozen dataclass that takes no settings but its own."""
    cls.__pydantic_config__ = ConfigDict(extra="forbid", allow_inf_nan=False)  # type: ignore[attr-defined]
    return dataclass(frozen=True)(cls)


@_section
class Credentials:
    """Who we are for Swift and Keystone. The usual OS_* are the default of each."""

    authurl: Credential | None = _setting(None, "identity service: …/auth/v1.0 or …/v3 (OS_AUTH_URL, ST_AUTH)")
    auth_version: AuthVersion | None = _setting(
        None, "version of the identity service (OS_IDENTITY_API_VERSION); read off authurl when absent"
    )
    username: Credential | None = _setting(None, "user (OS_USERNAME, ST_USER)")
    password: Secret | None = _setting(None, "password (OS_PASSWORD, ST_KEY)")
    tenant: Credential | None = _setting(None, "name of the project (OS_PROJECT_NAME, OS_TENANT_NAME)")
    tenant_id: Credential | None = _setting(None, "id of the project (OS_PROJECT_ID, OS_TENANT_ID)")
    user_domain_name: Credential | None = _setting(None, "domain of the user (OS_USER_DOMAIN_NAME)")
    user_domain_id: Credential | None = _setting(None, "domain of the user, by id (OS_USER_DOMAIN_ID)")
    project_domain_name: Credential | None = _setting(None, "domain of the project (OS_PROJECT_DOMAIN_NAME)")
    project_domain_id: Credential | None = _setting(None, "domain of the project, by id (OS_PROJECT_DOMAIN_ID)")
    region: Credential | None = _setting(None, "region whose object store is used (OS_REGION_NAME)")
    application_credential_id: Credential | None = _setting(
        None, "instead of user and password (OS_APPLICATION_CREDENTIAL_ID)"
    )
    application_credential_secret: Secret | None = _setting(None, "its secret (OS_APPLICATION_CREDENTIAL_SECRET)")
    interface: Interface = _setting("public", "which endpoint of the catalogue is spoken with (OS_INTERFACE)")
    cacert: Credential | None = _setting(None, "file of certificates to trust (OS_CACERT)")
    insecure: bool = _setting(False, "accept any certificate; for trying things out only")


@_section
class PersistentStoreConfiguration:
    """The container of the originals: the only truth."""

    kind: Literal["auto", "disk", "swift"] = _setting(
        "auto", "auto: Swift when credentials are there (OS_AUTH_URL …), else a folder on disk"
    )
    container: str = _setting("test_image_repo", "Swift container of the originals (persistent)")
    path: str = _setting("./image_repo_data", "folder of the originals when kind is disk")
    credentials: Credentials = _setting(Credentials, "for Swift")
    url_key: Secret | None = _setting(None, "key that temporary URLs are signed with; the container's own when absent")
    url_key_2: Secret | None = _setting(None, "a second key that is accepted, so that one can be changed")
    url_key_create: bool = _setting(False, "make and set a key at start when the container has none")
    url_lifetime: Positive = _setting(172_800, "seconds for which a temporary URL holds at least")
    url_lifetime_most: Positive = _setting(604_800, "the longest lifetime that a request may ask for, in seconds")
    url_lifetime_slack: Count = _setting(
        86_400, "seconds by which it may hold longer, so that the same request gives the same URL"
    )
    public_endpoint: str | None = _setting(
        None, "scheme://host of the store as clients see it, where that differs from the catalogue's"
    )
    connections: Positive = _setting(8, "the most connections to the store from one process")
    timeout: Seconds = _setting(10.0, "seconds to wait for each answer of the store, or piece of it")
    connect_timeout: Seconds = _setting(2.0, "seconds to wait for a connection")

    @property
    def resolved_kind(self) -> Literal["disk", "swift"]:
        """What ``auto`` comes to: Swift when it is said where to sign in."""
        if self.kind == "auto":
            return "swift" if self.credentials.authurl else "disk"
        return self.kind


@_section
class SwiftCacheConfiguration:
    """The cache container: renditions that every node shares. With a store on disk, a folder inside it."""

    enabled: bool = _setting(True, "whether there is one")
    container: str = _setting("test_image_repo_cache", "Swift container of the renditions; may be the persistent one")
    lifetime: Positive = _setting(2_592_000, "seconds after which the container drops a rendition (X-Delete-At)")


@_section
class LocalCacheConfiguration:
    """The disk cache, shared by all processes of a node."""

    enabled: bool = _setting(True, "whether there is one")
    cache_path: str = _setting("/var/tmp/image_server", "its folder: private to this user, made when missing")
    max_size: Bytes = _setting(GIB, "the most bytes that it takes, 0 for no limit; the copies of an original take 3 MB")
    max_elements: Count = _setting(1_048_576, "the most files that it takes, 0 for no limit")
    evict_free_threshold: Fraction = _setting(0.2, "eviction begins when less than this part of it is free")
    evict_hysteresis: Fraction = _setting(0.2, "eviction goes on until this much more is free")
    priority: Literal["newest", "largest", "smallest", "thumbnail"] = _setting(
        "newest", "what is kept longest: the recently used, or those"
    )


@_section
class MemoryCacheConfiguration:
    """The cache in the memory of each process."""

    max_size: Bytes = _setting(16 * MIB, "the most bytes that it takes in each process, 0 for none")


@_section
class RenderConfiguration:
    """What a render may cost."""

    at_once: Count = _setting(0, "renders at a time over all processes of the node; 0: as many as there are processors")
    queue: Count = _setting(
        64, "how many may wait in each process, beside half of its threads in all; the next is told 503"
    )
    wait: Seconds = _setting(20.0, "the longest that a request waits for its picture, in seconds")
    max_pixels: Positive = _setting(100_000_000, "the most pixels of one frame of a source")
    max_frames: Positive = _setting(1_000, "the most frames of an animation that is kept as one")
    max_frame_pixels: Positive = _setting(300_000_000, "the most pixels of all frames of an animation together")
    max_scans: Positive = _setting(100, "the most scans of a progressive JPEG")
    max_metadata: PositiveBytes = _setting(64 * KIB, "the longest text of its metadata that is read, in bytes")
    max_source: PositiveBytes = _setting(512 * MIB, "the largest original that is rendered, in bytes")
    pixel_cache: Bytes = _setting(
        GIB,
        "the most bytes of decoded pixels that the node keeps in local_file_cache_path, for regions of large "
        "originals (24 megapixels take 122 MiB), 0 for none",
    )


@_section
class QualityConfiguration:
    """How good a picture is written where the request says nothing."""

    jpg: Quality = _setting(82, "for JPEG")
    webp: Quality = _setting(78, "for WebP")
    avif: Quality = _setting(61, "for AVIF")
    jp2: Quality = _setting(80, "for JPEG 2000")


@_section
class CatalogueConfiguration:
    """The index over the records: what queries, search and statistics are answered from. It can always be made anew."""

    enabled: bool = _setting(True, "whether there is one")
    url: Secret | None = _setting(
        None,
        "postgresql://USER:PASSWORD@HOST/DATABASE (pip install 'image_repo[postgres]'), which several nodes can share, "
        "or sqlite:///PATH; SQLite in local_file_cache_path when absent",
    )
    timeout: Seconds = _setting(10.0, "the longest that a query may take, in seconds")
    slow: Seconds = _setting(0.5, "queries that take longer are told in the log, with the key that should be indexed")
    reconcile: Count = _setting(
        120, "seconds between two looks for what other tools have done to the container, 0 for none"
    )
    connections: Positive = _setting(4, "the most connections to the database from one process")


@_section
class ServerConfiguration:
    """The processes that answer."""

    processes: Positive = _setting(2, "worker processes")
    threads: Positive = _setting(300, "threads of each worker: connections at a time")
    keep_alive: bool = _setting(True, "whether clients may send several requests over one connection")
    access_log: Literal["none", "plain", "json"] = _setting("plain", "a line in the log for each request")
    socket_timeout: Positive = _setting(10, "seconds that a silent client is waited for")
    request_timeout: Positive = _setting(
        600, "seconds after which a worker is ended that is at work on a request and sends nothing"
    )
    max_headers: PositiveBytes = _setting(32 * KIB, "the most bytes of a request's headers")
    max_upload: PositiveBytes = _setting(256 * MIB, "the most bytes of an upload")
    backlog: Positive = _setting(1024, "connections that may wait to be accepted")


@_section
class Config:
    """The whole tree."""

    listen: str = _setting("127.0.0.1:5000", "HOST:PORT to listen on (--listen)")
    repository_base_pathname: str = _setting("images", "what all paths of images begin with; api/images is possible")
    public_url: str | None = _setting(
        None, "scheme://host[/path] of this server as clients see it; from the request when absent"
    )
    persistent_store_configuration: PersistentStoreConfiguration = _setting(
        PersistentStoreConfiguration, "where the originals are: the only truth"
    )
    swift_cache_configuration: SwiftCacheConfiguration = _setting(
        SwiftCacheConfiguration, "the third cache: a container that all nodes share"
    )
    local_cache_configuration: LocalCacheConfiguration = _setting(
        LocalCacheConfiguration, "the second cache: on the disk of this node"
    )
    memory_cache_configuration: MemoryCacheConfiguration = _setting(
        MemoryCacheConfiguration, "the first cache: in memory"
    )
    local_file_cache_path: str = _setting(
        "/var/tmp/image_repo", "folder for uploads on their way in, and for what the processes of a node share"
    )
    create_new: bool = _setting(False, "make the containers at start when they are missing")
    freshness: Annotated[float, Ge(0), Le(3600)] = _setting(
        5.0, "seconds for which an answer may be kept before the store is asked again"
    )
    overwrite: bool = _setting(True, "whether an upload replaces a picture of the same name")
    serve_originals: bool = _setting(False, "whether kind=original is answered; originals hold positions and names")
    metadata_location: bool = _setting(False, "whether records tell where a picture was taken")
    keep_copyright: bool = _setting(False, "write Artist and Copyright of the original into what is served")
    image_default_format: DefaultKind = _setting("jpg", "the format where none is asked for")
    image_default_quality: QualityConfiguration = _setting(QualityConfiguration, "the quality where none is asked for")
    image_auto_formats: Kinds = _setting(
        ("avif", "webp", "jpg"), "what kind=auto tries, best first; the last one needs no Accept"
    )
    image_default_background: str = _setting("ffffff", "the colour behind transparent parts")
    thumbnail_default_size: Sides = _setting((50, 50), "box of a thumbnail in pixels")
    thumbnail_sharpen: bool = _setting(True, "whether thumbnails are sharpened")
    thumbnail_equalise: bool = _setting(False, "whether the histogram of thumbnails is equalised")
    presets: Presets = _setting(dict, "name: {parameter: value}, asked for with preset=name")
    render: RenderConfiguration = _setting(RenderConfiguration, "what a render may cost")
    catalogue: CatalogueConfiguration = _setting(CatalogueConfiguration, "what queries are answered from")
    server: ServerConfiguration = _setting(ServerConfiguration, "the processes that answer")
    cors_origin: str | None = _setting("*", "Access-Control-Allow-Origin of pictures; null sends none")
    telemetry: bool = _setting(
        False, "trace requests with OpenTelemetry (pip install 'image_repo[otel]'); OTEL_EXPORTER_OTLP_* say where to"
    )
    pid_file: str = _setting("/var/tmp/image_repo_pid", "where a server in the background leaves its process id")
