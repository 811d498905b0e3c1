"""The verb ``config``: print settings, and migrate those of the first image_repo."""

from __future__ import annotations

import os
from pathlib import Path

import click

from image_repo.cli.options import FILE, Options, fail, verb
from image_repo.config import Config, dump, migrate
from image_repo.errors import ConfigurationError
from image_repo.exchange.base import write_file


@click.command("config")
@click.option("--migrate", "former", type=FILE, metavar="OLD.yml", help="Print the settings of a first image_repo.")
@click.option("-o", "--output", type=FILE, metavar="FILE", help="Write to FILE, which must not exist.")
@verb
def config_command(options: Options, /, former: Path | None, output: Path | None) -> None:
    """Print every setting as YAML, or migrate old settings.

    Without --migrate it does the same as -Y. Settings of the old file that have moved, or that are dropped, are
    listed on standard error. A password or key is not printed: the new file names an environment variable for it.

    \b
    image_repo config --migrate old.yml -o config.yml
    """
    notes: list[str] = []
    if former is None:
        text = dump(options.load() if options.path else Config())
    else:
        try:
            config, notes = migrate(former, os.environ)
        except ConfigurationError as error:
            fail(*error.mistakes)
        text = dump(config)
    if output is not None and output.exists():
        fail(f"{output} exists; it is not replaced.")
    for note in notes:
        click.echo(note, err=True)
    if output is None:
        click.echo(text, nl=False)
    else:
        write_file(output, [text.encode()])
