"""Checks before serving: the trial run (``-t``), and what each start prepares and warns about."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from http.client import HTTPException
from pathlib import Path
from urllib.parse import quote

import click

from image_repo import wiring
from image_repo.access.api_keys import is_marked_closed
from image_repo.cli import catalogue
from image_repo.cli.options import JSON, Options, verb
from image_repo.concurrency.private_folder import make_private
from image_repo.config import Config, foreign
from image_repo.errors import ConfigurationError, LibraryMissing, LinksNotConfigured, Problem, StoreUnavailable
from image_repo.repository.resolver import image_of
from image_repo.server import address, process
from image_repo.stores.base import Store
from image_repo.web.client_address import is_loopback

log = logging.getLogger(__name__)

_MARKER_UNKNOWN = "it cannot be determined whether there are API keys"
#: a name that no image has
_NO_IMAGE = ".trial"
_ALL_OPEN = "everybody may read and write"
#: of a person in many providers: the name to log in by
_CHANGEABLE_CLAIM = "preferred_username"


@dataclass(frozen=True)
class Finding:
    """The result of one check."""

    ok: bool
    subject: str
    detail: str

    def __str__(self) -> str:
        return f"{'ok   ' if self.ok else 'WRONG'}  {self.subject}: {self.detail}"


@click.command("status")
@JSON
@verb
def status_command(options: Options, /, as_json: bool) -> None:
    """Print the state of server, stores, catalogue and other nodes."""
    config = options.load()
    pid = process.find_running(Path(config.pid_file))
    findings = trial(config)
    if as_json:
        server = {"running": pid is not None, "pid": pid, "url": address.url(config)}
        click.echo(json.dumps({"server": server, "checks": [asdict(finding) for finding in findings]}))
    else:
        print_findings([Finding(True, "server", f"{address.url(config)} (pid {pid})" if pid else "not running")])
        print_findings(findings)
    if not all(finding.ok for finding in findings):
        raise SystemExit(1)


def print_findings(findings: Iterable[Finding]) -> None:
    """Print a line for each finding, on a terminal in colour."""
    for finding in findings:
        click.secho(str(finding), fg=None if finding.ok else "red")


def trial(config: Config) -> list[Finding]:
    """Check folders, stores, the key of links, the catalogue and other nodes, without serving."""
    findings = [Finding(True, "settings", "all are valid")]
    findings += [Finding(True, "environment", line) for line in foreign(os.environ, config)]
    findings += [_check_folder(*folder) for folder in _folders(config)]
    stores, at = wiring.build_stores(config), len(findings)
    try:
        for subject, store in (("originals", stores.origin), ("renditions", stores.cache)):
            if store is not None:
                findings.append(_check_store(subject, store, create=config.create_new))
        if all(finding.ok for finding in findings):
            findings.append(_check_links(config, stores.cache or stores.origin))
            findings += _check_catalogue(config, stores)
            findings += _check_owners(config, stores)
        findings.append(_check_access(config, stores.origin, is_reachable=findings[at].ok))
        findings += [*_check_watermark(config), *_check_purges(config)]
    finally:
        stores.close()
    return findings


def _check_watermark(config: Config) -> Iterator[Finding]:
    """Check that the watermark of renditions can be drawn, where there is one."""
    try:
        if wiring.watermark(config) is not None:
            yield Finding(True, "watermark", "callers without credentials get renditions with it")
    except ConfigurationError as error:
        yield Finding(False, "watermark", str(error))


def _check_purges(config: Config) -> Iterator[Finding]:
    """Check that the cache in front accepts a purge, of an image that cannot exist."""
    request = wiring.purge_request(config)
    if request is None:
        return
    try:
        request.send(_NO_IMAGE)
    except (OSError, HTTPException, ValueError) as error:
        yield Finding(False, "purges", f"the cache in front does not accept one: {error}")
    else:
        yield Finding(True, "purges", "the cache in front accepts them")


def _check_access(config: Config, store: Store, *, is_reachable: bool) -> Finding:
    """Check that tokens can be verified; say what callers without credentials may.

    :param store: with the API keys
    :param is_reachable: whether it is worth asking: each question to a silent store takes its timeout
    """
    access = config.access
    rules = f"; {len(access.rules)} rules by folder" if access.rules else ""
    if access.anonymous is None and not access.oidc.is_configured and access.image_scope == "all":
        return _check_marker(store, rules) if is_reachable else Finding(False, "access", _MARKER_UNKNOWN)
    words = {"none": "nothing", "read": "read", "write": "read and write"}
    rule = f"callers without credentials may {words[access.anonymous or 'none']}{rules}"
    if access.image_scope == "user":
        rule = "each user sees and changes its own images, administrators all; without credentials nothing is seen"
    if not access.oidc.is_configured:
        return Finding(True, "access", f"{rule}; API keys count (image_repo key)")
    return _check_provider(config, rule)


def _check_provider(config: Config, rule: str) -> Finding:
    """Check that tokens can be verified, and that people can log in where a client is configured.

    :param rule: what callers without credentials may
    """
    try:
        keys = wiring.provider_keys(config)
    except (OSError, ValueError) as error:
        return Finding(False, "access", f"{rule}; the keys of the identity provider cannot be fetched: {error}")
    detail = f"{rule}; the identity provider has {len(keys)} keys for tokens"
    if not config.access.oidc.client_id:
        return Finding(True, "access", detail)
    try:
        wiring.check_login(config)
    except (OSError, ValueError, LibraryMissing) as error:
        return Finding(False, "access", f"{rule}; nobody can log in: {error}")
    return Finding(True, "access", f"{detail}; people log in at /login")


def _check_marker(store: Store, rules: str) -> Finding:
    """Check whether an API key was made, which closes an open server."""
    try:
        is_closed = is_marked_closed(store)
    except StoreUnavailable as error:
        return Finding(False, "access", f"{_MARKER_UNKNOWN}: {error.detail}")
    if not is_closed:
        return Finding(True, "access", _ALL_OPEN + rules)
    return Finding(True, "access", "callers without credentials may nothing, because an API key was made")


def _access_warnings(config: Config, store: Store) -> Iterator[str]:
    """Yield what is dangerous, or does not work yet: tokens get 503 until the keys are there."""
    finding = _check_access(config, store, is_reachable=True)
    host, _ = address.host_and_port(config.listen)
    if finding.detail.startswith(_ALL_OPEN) and not is_loopback(host):
        yield (
            f"everybody who reaches {config.listen} may read, write and delete: access.anonymous says what callers "
            "without credentials may"
        )
    if config.access.image_scope == "user" and config.access.user_identifier == _CHANGEABLE_CLAIM:
        yield (
            f"access.user_identifier is {_CHANGEABLE_CLAIM}, which some providers let people change: they would lose "
            "their images, or get those of others. sub stays the same"
        )
    if finding.ok:
        log.info("access: %s", finding.detail)
    elif config.access.oidc.is_configured:  # wiring.prepare has warned about the store
        yield finding.detail


def _folders(config: Config) -> Iterator[tuple[str, str]]:
    if config.local_cache_configuration.enabled:
        yield "disk cache", config.local_cache_configuration.cache_path
    yield "local files", config.local_file_cache_path


def _check_folder(subject: str, path: str) -> Finding:
    try:
        make_private(Path(path))
    except OSError as error:
        return Finding(False, subject, str(error) if error.errno is None else f"{path}: {error.strerror}")
    usable = os.access(path, os.R_OK | os.W_OK | os.X_OK)
    return Finding(usable, subject, f"{path} is private" if usable else f"{path} cannot be written to")


def _passed_over(store: Store) -> str:
    paths = ", ".join(store.passed_over())
    return f"passed over, because it cannot be read: {paths}" if paths else ""


def _check_store(subject: str, store: Store, *, create: bool) -> Finding:
    try:
        store.check(create=create)
    except StoreUnavailable as error:
        is_named = str(error).startswith(store.description)
        return Finding(False, subject, str(error) if is_named else f"{store.description}: {error}")
    return Finding(
        True, subject, "; ".join(filter(None, (store.description, store.capabilities.probed, _passed_over(store))))
    )


def _check_links(config: Config, store: Store) -> Finding:
    key = config.persistent_store_configuration.url_key
    try:
        store.presign("-", 0, "-")
        if key and not store.capabilities.folder and str(key) not in (store.stored_link_keys() or (str(key),)):
            detail = "url_key is no key of the container, so links would be refused: image_repo link-key sets it"
            return Finding(False, "temporary URLs", detail)
    except LinksNotConfigured as error:
        return Finding(True, "temporary URLs", f"none: {error} (image_repo link-key makes a key)")
    return Finding(True, "temporary URLs", "signed by the store's key")


def _check_catalogue(config: Config, stores: wiring.Stores) -> Iterator[Finding]:
    state = catalogue.state(config, stores)
    if state is None:
        yield Finding(True, "catalogue", "none (catalogue.enabled: false)")
        return
    yield Finding(state.ok, "catalogue", state.text)
    try:
        conflict = catalogue.node_conflict(config, stores)
    except (Problem, OSError) as error:
        yield Finding(False, "other nodes", f"it cannot be determined whether there are any: {error}")
    else:
        yield Finding(conflict is None, "other nodes", conflict or "none with a catalogue of their own")


def _check_owners(config: Config, stores: wiring.Stores) -> Iterator[Finding]:
    """Name the folders whose images are no user's, where users are kept apart."""
    if config.access.image_scope != "user":
        return
    try:
        unowned = catalogue.folders_without_owner(config, stores)
    except Problem as error:
        yield Finding(False, "users", f"it cannot be determined which images belong to none: {error.detail}")
        return
    if unowned is None or not unowned[0]:
        return
    count, folders = unowned
    where = f", some below {', '.join(f'{folder}/' for folder in folders)}" if folders else ""
    yield Finding(
        True,
        "users",
        f"{count} images belong to administrators alone{where}: also where a user is called like the folder. "
        "image_repo set FOLDER/ --owner USER gives them to a user",
    )


def prepare(config: Config) -> list[str]:
    """Prepare folders and stores, and log what is wrong with them: a store may come back.

    :returns: lines for people: where originals are, and addresses to try
    """
    for line in foreign(os.environ, config):
        log.warning("%s", line)
    for folder in _folders(config):
        finding = _check_folder(*folder)
        if not finding.ok:
            log.warning("there is no %s: %s", finding.subject, finding.detail)
    stores = wiring.build_stores(config)
    try:
        warnings = wiring.prepare(config, stores)
        with suppress(Problem, OSError):  # wiring.prepare has warned about it
            conflict = None if warnings else catalogue.node_conflict(config, stores)
            warnings += [conflict] if conflict else []
        warnings += _access_warnings(config, stores.origin)
        for warning in warnings:
            log.warning("%s", warning)
        return [f"Originals are in {stores.origin.description}.", *_addresses(config, stores.origin)]
    finally:
        stores.close()


def _addresses(config: Config, origin: Store) -> list[str]:
    """Return lines with three addresses of a stored picture, or how to upload one."""
    base = f"{address.url(config)}/{config.repository_base_pathname}"
    try:
        entries = origin.keys()
        name = next((name for entry in entries if (name := image_of(entry.key, entry.media_type))), None)
    except Problem:
        name = None
    if name is None:
        return [f"Serving {base}; there is no picture yet: curl -F file=@PICTURE.jpg {base}/NAME"]
    url = f"{base}/{quote(name.text)}"
    return ["Try:", f"  {url}", f"  {url}?xsize=300", f"  {url}?thumbnail=True&kind=webp"]


@contextmanager
def collect_warnings() -> Iterator[list[str]]:
    """Collect the messages of warnings that are logged meanwhile."""
    handler = _WarningCollector()
    logging.getLogger().addHandler(handler)
    try:
        yield handler.messages
    finally:
        logging.getLogger().removeHandler(handler)


class _WarningCollector(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())
