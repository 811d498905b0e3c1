"""Verbs for images and their data: ``ls``, ``rm``, ``mv``, ``set``, ``stats``."""

from __future__ import annotations

import json
from collections.abc import Iterable
from contextlib import closing
from functools import partial
from itertools import islice
from typing import Any

import click

from image_repo.access.principal import ADMIN
from image_repo.catalogue.base import Document
from image_repo.catalogue.grammar import IMAGES
from image_repo.catalogue.query import Filter, Path
from image_repo.cli.catalogue import complete_catalogue, parse_selection
from image_repo.cli.options import DRY_RUN, JSON, Options, fail, verb
from image_repo.errors import Problem
from image_repo.model.names import ImageName, parse_prefix
from image_repo.model.strict_json import read_json
from image_repo.repository.collection import Changed, Collection
from image_repo.repository.metadata import UNCONDITIONAL, merge
from image_repo.repository.ownership import give, name_below, record_of
from image_repo.repository.rename import rename
from image_repo.repository.repository import Repository
from image_repo.repository.restore import restore

SELECTION = click.argument("arguments", nargs=-1, metavar="[PATH/] [FILTER]...")


@click.command("ls")
@SELECTION
@click.option("-n", "--limit", type=click.IntRange(min=1), metavar="N", help="List at most N images.")
@click.option("--long", "is_long", is_flag=True, help="Also print size in pixels, bytes and time of upload.")
@JSON
@verb
def ls_command(
    options: Options, /, arguments: tuple[str, ...], limit: int | None, is_long: bool, as_json: bool
) -> None:
    """List images by name, or by sort=KEY.

    \b
    image_repo ls sites/ species=fox width__gte=1000
    image_repo ls sort=-uploaded -n 10 --json
    """
    with closing(options.repo()) as repo:
        query = parse_selection(arguments, partial(repo.reader.hash_near, ADMIN), ("sort",)).query
        complete_catalogue(options.load(), repo, options.progress)
        collection = Collection(repo)
        _warn_of_unknown_keys(collection, query.paths())
        for document in islice(collection.each(ADMIN, query.filter, query.order), limit):
            click.echo(_json(document) if as_json else _line(document, is_long=is_long))


def _warn_of_unknown_keys(collection: Collection, paths: Iterable[Path]) -> None:
    for key, nearest in collection.unknown_keys(ADMIN, paths).items():
        click.echo(f"No record has the key {key}." + (f" Did you mean {nearest}?" if nearest else ""), err=True)


def _line(document: Document, *, is_long: bool) -> str:
    if not is_long:
        return str(document["name"])
    size = f"{document['width']}x{document['height']}" if document.get("version") else "-"
    return f"{size:>11} {document.get('bytes') or 0:>11} {document.get('uploaded') or '-':<24}  {document['name']}"


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


# -- changes ---------------------------------------------------------------------------


@click.command("rm")
@click.argument("arguments", nargs=-1, required=True, metavar="NAME...|PATH/|FILTER...")
@click.option("--permanent", is_flag=True, help="Erase now: nothing goes into the bin.")
@DRY_RUN
@JSON
@verb
def rm_command(options: Options, /, arguments: tuple[str, ...], permanent: bool, dry_run: bool, as_json: bool) -> None:
    """Delete images by name, below a path, or by filters.

    Their records and renditions are deleted too.

    They stay in the bin for trash.days: see image_repo restore.

    \b
    image_repo rm sites/north sites/south
    image_repo rm sites/ species=fox --dry-run
    """
    with closing(options.repo()) as repo:
        if any("=" in argument or argument.endswith("/") for argument in arguments):
            complete_catalogue(options.load(), repo, options.progress)
            selection, everything = _bulk_selection(repo, arguments)
            collection = Collection(repo)
            if dry_run:
                matched = collection.count_changes(ADMIN, selection, everything=everything)
                _report(options, {"matched": matched}, as_json=as_json)
                return
            changes = collection.delete(ADMIN, selection, everything=everything, permanent=permanent)
            _report_changes(options, changes, as_json=as_json)
            return
        names = [repo.reader.resolve_name(ADMIN, ImageName.readings(name)) for name in arguments]
        for name in names:
            record_of(repo, name)
        for name in [] if dry_run else names:
            repo.writer.delete(ADMIN, name, disposal="erase" if permanent else "bin")
    _report(options, {"matched": len(names)} | ({} if dry_run else {"modified": len(names)}), as_json=as_json)


@click.command("restore")
@click.argument("target", metavar="NAME|PATH/")
@click.option("--id", "item_id", metavar="ID", help="Which version; the newest by default.")
@click.option("--list", "is_list", is_flag=True, help="List what is in the bin below PATH/; / is the whole repository.")
@JSON
@verb
def restore_command(options: Options, /, target: str, item_id: str | None, is_list: bool, as_json: bool) -> None:
    """Restore an image that was deleted or replaced, with its record.

    \b
    image_repo restore --list /
    image_repo restore sites/north
    """
    with closing(options.repo()) as repo:
        if is_list:
            for item in repo.trash.items(parse_prefix(target.removeprefix("/"))):
                public = item.public()
                click.echo(_json(public) if as_json else f"{public['at']}  {item.reason:8}  {item.id}  {item.name}")
            return
        record = restore(repo, ADMIN, ImageName.readings(target), item_id)
    if as_json:
        click.echo(_json(record.public()))
    else:
        options.say(f"{record.name} is restored.")


@click.command("mv")
@click.argument("source", metavar="NAME")
@click.argument("target", metavar="NEW_NAME")
@JSON
@verb
def mv_command(options: Options, /, source: str, target: str, as_json: bool) -> None:
    """Rename an image, with its record. An existing image is never replaced."""
    with closing(options.repo()) as repo:
        name, new_name = repo.reader.resolve_name(ADMIN, ImageName.readings(source)), ImageName.readings(target)[0]
        record = rename(repo, ADMIN, name, new_name)
    if as_json:
        click.echo(_json(record.public()))
    else:
        options.say(f"{name} is now {new_name}.")


@click.command("set")
@click.argument("target", metavar="NAME|PATH/")
@click.argument("members", nargs=-1, metavar="[KEY=TEXT | KEY:=JSON]...")
@click.option("--unset", multiple=True, metavar="KEY", help="Remove KEY; may be repeated.")
@click.option("--where", multiple=True, metavar="FILTER", help="Only images that match; may be repeated.")
@click.option("--owner", metavar="USER", help="Give them to a user, and move them below USER/; '' for administrators.")
@DRY_RUN
@JSON
@verb
def set_command(
    options: Options,
    /,
    target: str,
    members: tuple[str, ...],
    unset: tuple[str, ...],
    where: tuple[str, ...],
    owner: str | None,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Set members of the data of one image, or of many, or give them to a user.

    \b
    image_repo set sites/north species=fox stars:=5
    image_repo set sites/ checked:=true --where species=fox --dry-run
    image_repo set inbox/ --owner ann
    """
    patch = _patch(members, unset)
    if not patch and owner is None:
        raise click.UsageError("Expected KEY=TEXT, KEY:=JSON, --unset KEY or --owner USER.")
    if patch and owner is not None:
        raise click.UsageError("--owner goes without KEY=TEXT, KEY:=JSON and --unset.")
    if where and not target.endswith("/"):
        raise click.UsageError("--where needs a PATH/; / is the whole repository.")
    if owner is not None:
        _give(options, target, where, owner or None, dry_run=dry_run, as_json=as_json)
        return
    with closing(options.repo()) as repo:
        if target.endswith("/"):
            complete_catalogue(options.load(), repo, options.progress)
            arguments = (target, *where) if target != "/" else where
            _update(options, repo, arguments, patch, dry_run=dry_run, as_json=as_json)
            return
        name = repo.reader.resolve_name(ADMIN, ImageName.readings(target))
        before = record_of(repo, name).data
        data = merge(before, patch) if dry_run else repo.writer.patch_data(ADMIN, name, patch, UNCONDITIONAL).data
    if as_json or dry_run:
        click.echo(_json(data))
    else:
        options.say(f"{name} is changed.")


def _update(
    options: Options, repo: Repository, arguments: tuple[str, ...], patch: Any, *, dry_run: bool, as_json: bool
) -> None:
    selection, everything = _bulk_selection(repo, arguments)
    collection = Collection(repo)
    if dry_run:
        matched = collection.count_changes(ADMIN, selection, everything=everything)
        _report(options, {"matched": matched}, as_json=as_json)
    else:
        _report_changes(options, collection.update(ADMIN, selection, patch, everything=everything), as_json=as_json)


def _give(
    options: Options, target: str, where: tuple[str, ...], owner: str | None, *, dry_run: bool, as_json: bool
) -> None:
    """Give one image, or those that match, to a user."""
    name_below(ImageName("-"), owner)  # a bad owner is a mistake before anything is moved
    with closing(options.repo()) as repo:
        if target.endswith("/"):
            complete_catalogue(options.load(), repo, options.progress)
            selection, _ = _bulk_selection(repo, (target, *where) if target != "/" else where)
            # The list is whole before the first is moved, which changes what matches.
            names = [ImageName(document["name"]) for document in Collection(repo).each(ADMIN, selection)]
        else:
            names = [repo.reader.resolve_name(ADMIN, ImageName.readings(target))]
        failed = [] if dry_run else [problem for name in names if (problem := _give_one(repo, name, owner))]
    for line in failed:
        click.echo(line, err=True)
    given = len(names) if dry_run else len(names) - len(failed)
    _report(options, {"matched" if dry_run else "given": given}, as_json=as_json)
    if failed:
        fail(f"{len(failed)} failed.")


def _give_one(repo: Repository, name: ImageName, owner: str | None) -> str | None:
    """Give an image to a user; return what is wrong."""
    try:
        give(repo, name, owner)
    except Problem as problem:
        return f"{name}: {problem.detail or problem.title}"
    return None


def _bulk_selection(repo: Repository, arguments: tuple[str, ...]) -> tuple[Filter, bool]:
    """Return what is to be changed, and whether conditions may hold because no record has their key."""
    parsed = parse_selection(arguments, partial(repo.reader.hash_near, ADMIN), ("all",))
    return parsed.query.filter, parsed.everything


def _patch(members: tuple[str, ...], unset: tuple[str, ...]) -> dict[str, Any]:
    patch: dict[str, Any] = dict.fromkeys(unset)
    for member in members:
        key, separator, text = member.partition("=")
        if not separator or not key.removesuffix(":"):
            raise click.UsageError(f"Expected KEY=TEXT or KEY:=JSON, but received {member!r}.")
        patch[key.removesuffix(":")] = read_json(text, key) if key.endswith(":") else text
    return patch


def _report_changes(options: Options, changes: Changed, *, as_json: bool) -> None:
    for failure in changes.failed:
        click.echo(f"{failure.name}: {failure.problem}", err=True)
    _report(options, {"matched": changes.matched, "modified": changes.modified}, as_json=as_json)
    if not changes.is_whole:
        ended = changes.ended
        fail(f"{len(changes.failed) + changes.more} failed" + (f"; it ended early: {ended}" if ended else "") + ".")


def _report(options: Options, numbers: dict[str, int], *, as_json: bool) -> None:
    if as_json:
        click.echo(_json(numbers))
    else:
        options.say(", ".join(f"{number} {name}" for name, number in numbers.items()) + ".")


# -- statistics ------------------------------------------------------------------------


@click.command("stats")
@click.argument("key")
@SELECTION
@click.option("-n", "--limit", type=click.IntRange(min=1), default=20, metavar="N", help="Print at most N values (20).")
@JSON
@verb
def stats_command(options: Options, /, key: str, arguments: tuple[str, ...], limit: int, as_json: bool) -> None:
    """Count the values of a key, the most frequent first.

    \b
    image_repo stats species sites/ width__gte=1000
    """
    path = IMAGES.path("KEY", key)
    with closing(options.repo()) as repo:
        complete_catalogue(options.load(), repo, options.progress)
        collection, query = Collection(repo), parse_selection(arguments, partial(repo.reader.hash_near, ADMIN)).query
        _warn_of_unknown_keys(collection, (path, *query.paths()))
        statistics = collection.statistics(ADMIN, query.filter, path, limit)
    if as_json:
        values = [{"value": value, "count": count} for value, count in statistics.values]
        numbers = {"count": statistics.count, "min": statistics.least, "max": statistics.most, "avg": statistics.mean}
        click.echo(_json({"key": key, **numbers, "values": values, "more": statistics.more}))
        return
    for value, count in statistics.values:
        click.echo(f"{count:>9}  {value if isinstance(value, str) else _json(value)}")
    if statistics.more:
        click.echo(f"… and {statistics.more} more values; -n prints them.", err=True)
