"""Keys: the one that signs temporary URLs."""

from __future__ import annotations

import click

from image_repo import wiring
from image_repo.cli.options import Options, verb
from image_repo.config import Config
from image_repo.stores.swift_link_keys import new_link_key


@click.command("link-key")
@click.option("--second", is_flag=True, help="Set the key that only verifies, so that the first can be changed.")
@click.option("--show", is_flag=True, help="Print the key.")
@verb
def link_key_command(options: Options, /, second: bool, show: bool) -> None:
    """Make a key for temporary URLs, and set it where they are verified.

    Links signed with the previous key stop working, unless it is the other key.
    """
    store, secret = set_link_key(options.load(), second=second)
    options.say(f"{store} has a new {'second ' if second else ''}key for temporary URLs.")
    if show:
        click.echo(secret)


def set_link_key(config: Config, *, second: bool) -> tuple[str, str]:
    """Make a key for temporary URLs and set it where they are verified.

    :param second: set the key that only verifies; for rotation: set it, distribute it, then make it the first
    :returns: description of the store, and the key
    """
    stores = wiring.build_stores(config)
    store = stores.cache or stores.origin
    try:
        secret = new_link_key()
        store.set_link_key(secret, second=second)
        return store.description, secret
    finally:
        stores.close()
