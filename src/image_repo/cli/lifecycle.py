"""The verb ``s3-lifecycle``: have S3 itself delete renditions that have expired."""

from __future__ import annotations

import json
import math

import click

from image_repo import wiring
from image_repo.caches.container import PREFIX
from image_repo.cli.options import DRY_RUN, Options, verb

_DAY_S = 86_400


@click.command("s3-lifecycle")
@DRY_RUN
@verb
def s3_lifecycle_command(options: Options, /, dry_run: bool) -> None:
    """Set lifecycle rules on the bucket of the renditions, so that S3 deletes expired ones.

    Rules of others stay. Without them, or where the store takes none, a serving node sweeps once a day.
    """
    config = options.load()
    lifecycle = wiring.build_lifecycle(config)
    # S3 counts whole days from the midnight behind the last write.
    days = math.ceil(wiring.rendition_lifetime(config) / _DAY_S) + 1
    if dry_run:
        click.echo(json.dumps(lifecycle.rules_for(PREFIX, days), indent=2))
    elif lifecycle.expire(PREFIX, days):
        options.say(f"S3 deletes renditions {days} days after they were written.")
    else:
        options.say(f"S3 deletes renditions {days} days after they were written, as before.")
