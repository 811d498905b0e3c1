"""The verb ``check``: compare originals, records, artifacts, snapshots and catalogue with one another."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass

import click

from image_repo import wiring
from image_repo.cli import catalogue
from image_repo.cli.options import Options, verb
from image_repo.cli.progress import Step
from image_repo.config import Config
from image_repo.errors import Problem
from image_repo.model import first_names
from image_repo.model.formats import split_ending
from image_repo.model.names import ImageName
from image_repo.model.record import MEDIA_TYPE as RECORD
from image_repo.model.record import Record, record_key
from image_repo.repository.repository import Repository
from image_repo.repository.resolver import image_of, read_record
from image_repo.repository.snapshots import Snapshots
from image_repo.stores.base import Entry, Store

#: originals that are read at a time
AT_ONCE = 4


@click.command("check")
@verb
def check_command(options: Options, /) -> None:
    """Read everything that is stored, and print what is wrong.

    Originals, artifacts and snapshots are read. Reported are bytes that are not those that were uploaded, names
    with two originals, records without one, a damaged catalogue. Nothing is changed. A catalogue that is a little
    behind is reported, and is no error.
    """
    with closing(options.repo()) as repo:
        scan = scan_container(repo)
        with options.progress("Reading", len(scan.originals)) as step:
            faults = list(check(repo, scan, step))
        faults += check_artifacts_and_snapshots(options.load(), repo)
        broken, behind = catalogue.differences(repo)
    faults += [f"{path}: cannot be read, and is passed over" for path in repo.origin.passed_over()]
    faults += broken
    for line in faults:
        click.echo(line)
    for line in behind:
        click.echo(line, err=True)
    options.say(f"{len(scan.originals)} images, {len(scan.records)} records, {len(scan.others)} other objects.")
    if faults:
        raise SystemExit(1)


@dataclass(frozen=True)
class ContainerScan:
    """The content of the container: originals by name, newest first, and records by key.

    :param unnamed: keys of pictures and records from which no valid name follows
    """

    originals: dict[ImageName, list[Entry]]
    records: dict[str, Entry]
    others: list[str]
    unnamed: list[str]


def scan_container(repo: Repository) -> ContainerScan:
    """List the whole container."""
    scan = ContainerScan({}, {}, [], [])
    for entry in repo.origin.keys():  # noqa: SIM118, a store is no dict
        name = image_of(entry.key, entry.media_type)
        if name is not None:
            scan.originals.setdefault(name, []).append(entry)
        elif _is_unnamed(entry):
            scan.unnamed.append(entry.key)
        elif entry.media_type == RECORD:
            scan.records[entry.key] = entry
        elif not entry.key.startswith("."):
            scan.others.append(entry.key)
    for entries in scan.originals.values():
        entries.sort(key=lambda entry: entry.modified, reverse=True)
    return scan


def _is_unnamed(entry: Entry) -> bool:
    """Return whether an object would belong to an image but for its name; hidden objects never do."""
    if any(part.startswith(".") for part in entry.key.split("/")):
        return False
    stem, format_ = split_ending(entry.key)
    if first_names.is_first_key(stem):  # a rendition
        return False
    if entry.media_type == RECORD:
        return ImageName.of_key(entry.key.removesuffix(".json")) is None
    return (format_ is not None or entry.media_type.startswith("image/")) and ImageName.of_key(stem) is None


def check(repo: Repository, scan: ContainerScan, step: Step) -> Iterator[str]:
    """Yield a line for each fault of an original or a record; every original is read.

    :param step: called after each image
    """
    for key in scan.unnamed:
        yield f"{key!r}: no name that an image can have"
    for name, entries in scan.originals.items():
        if len(entries) > 1:
            others = ", ".join(entry.key for entry in entries[1:])
            yield f"{name}: has more than one original: {entries[0].key} is the image, not {others}"
    record_keys = {record_key(name.text) for name in scan.originals}
    for key in sorted(scan.records.keys() - record_keys):
        record = read_record(repo.origin, ImageName(key.removesuffix(".json")))
        if record is None or not record.is_description:
            yield f"{key}: a record without an original"
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for fault in pool.map(lambda item: _check_original(repo, *item), list(scan.originals.items())):
            step(1)
            if fault:
                yield fault


def check_artifacts_and_snapshots(config: Config, repo: Repository) -> Iterator[str]:
    """Yield a line for each damaged artifact and snapshot; all are read."""
    yield from wiring.build_artifacts(config, repo).damaged()
    yield from Snapshots(repo).damaged()


def _check_original(repo: Repository, name: ImageName, entries: list[Entry]) -> str | None:
    entry = entries[0]
    try:
        digest = _sha256(repo.origin, entry.key)
        record = read_record(repo.origin, name)
    except Problem as error:
        return f"{entry.key}: {error}"
    if digest is None:
        return None  # it was deleted meanwhile
    head = repo.origin.head(entry.key)
    if record is None or head is None:
        return None
    if (record.version, record.key) != (head.etag, entry.key):
        return _check_foreign_record(entry, record, digest)
    if record.sha256 != digest:
        return f"{entry.key}: its bytes are not those that were uploaded (SHA-256 {digest}, recorded {record.sha256})"
    return None


def _check_foreign_record(entry: Entry, record: Record, digest: str) -> str | None:
    """Return the fault of a record that is of another version, unless it only waits to be made anew."""
    intended = (record.intent or {}).get("sha256")
    if record.is_description or digest in (record.sha256, intended):
        return None
    return f"{entry.key}: its record, and so its data, is of other bytes (SHA-256 {record.sha256}, found {digest})"


def _sha256(store: Store, key: str) -> str | None:
    body = store.get(key)
    if body is None:
        return None
    digest = hashlib.sha256()
    with body:
        for chunk in body:
            digest.update(chunk)
    return digest.hexdigest()
