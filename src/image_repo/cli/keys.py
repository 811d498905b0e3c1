"""Keys: the one that signs temporary URLs, and API keys."""

from __future__ import annotations

import json
from contextlib import closing

import click

from image_repo import wiring
from image_repo.access.api_keys import new_key
from image_repo.cli.options import JSON, Options, verb
from image_repo.config import Config
from image_repo.errors import NameConflict
from image_repo.stores.tempurl import new_link_key


@click.command("link-key")
@click.option("--second", is_flag=True, help="Set the key that only verifies, so that the first can be changed.")
@click.option("--show", is_flag=True, help="Print the key.")
@click.option("--force", is_flag=True, help="Replace a key that is set; the first one is kept as the second.")
@verb
def link_key_command(options: Options, /, second: bool, show: bool, force: bool) -> None:
    """Set the key that signs temporary URLs: the configured one (url_key), else a new one.

    A key that is set already is replaced with --force only: links that were signed with it stop working, unless it is
    the other key.
    """
    store, secret = set_link_key(options.load(), second=second, force=force)
    options.say(f"{store} has the {'second ' if second else ''}key for temporary URLs.")
    if show:
        click.echo(secret)


def set_link_key(config: Config, *, second: bool, force: bool = False) -> tuple[str, str]:
    """Set the configured key for temporary URLs, else a new one, where they are verified.

    :param second: set the key that only verifies; for rotation: set it, distribute it, then make it the first
    :param force: replace a key that is set; a first one becomes the second
    :returns: description of the store, and the key
    :raises NameConflict: when another key is set
    """
    settings = config.persistent_store_configuration
    configured = settings.url_key_2 if second else settings.url_key
    stores = wiring.build_stores(config)
    store = stores.cache or stores.origin
    try:
        secret = str(configured) if configured else new_link_key()
        link_keys = store.stored_link_keys()
        before = link_keys[second] if link_keys else ""
        if before == secret:
            return store.description, secret
        if before and not force:
            raise NameConflict(
                f"{store.description} has a key for temporary URLs already, and links that were signed with it would "
                "stop working: --force replaces it, and keeps a first key as the second."
            )
        if before and not second:
            store.set_link_key(before, second=True)
        store.set_link_key(secret, second=second)
        return store.description, secret
    finally:
        stores.close()


@click.group("key")
def key_command() -> None:
    """Make, list and revoke API keys.

    The first key closes a server that was open to everybody, until access.anonymous says otherwise.
    """


@key_command.command("add")
@click.argument("name")
@click.option("--role", type=click.Choice(("reader", "writer", "admin")), required=True, help="What it may do.")
@click.option("--prefix", default="", metavar="FOLDER/", help="Nothing outside of this folder.")
@click.option("--expires", metavar="DATE", help="It holds until the beginning of this day in UTC.")
@verb
def add_command(options: Options, /, name: str, role: str, prefix: str, expires: str | None) -> None:
    """Make an API key and print it, this once: it is sent as Authorization: Bearer."""
    with closing(options.repo()) as repo:
        click.echo(repo.authenticator.keys.add(new_key(name, role, prefix, expires)))


@key_command.command("list")
@JSON
@verb
def list_command(options: Options, /, as_json: bool) -> None:
    """List API keys: name, role, folder, expiry."""
    with closing(options.repo()) as repo:
        keys = repo.authenticator.keys.all()
    if as_json:
        click.echo(json.dumps([key.public() for key in keys]))
        return
    for key in keys:
        click.echo(f"{key.name}\t{key.role}\t{key.prefix or '/'}\t{key.expires or 'never expires'}")


@key_command.command("revoke")
@click.argument("name")
@verb
def revoke_command(options: Options, /, name: str) -> None:
    """Revoke an API key, at every node within freshness seconds."""
    with closing(options.repo()) as repo:
        repo.authenticator.keys.revoke(name)
    options.say(f"{name} is revoked.")
