"""The verb ``sign``: signed requests for a server that accepts no others."""

from __future__ import annotations

from urllib.parse import quote, urlencode

import click

from image_repo import wiring
from image_repo.access.request_rules import RequestSigner, signed_lines, signed_targets
from image_repo.cli.options import PARAMETERS, Options, parse_pairs, verb
from image_repo.config import Config
from image_repo.errors import BadName, BadParameter
from image_repo.model.recipe import read_request
from image_repo.server import address
from image_repo.web.openapi import READ_OPTIONS


@click.command("sign")
@click.argument("name")
@PARAMETERS
@click.option("--lifetime", type=click.IntRange(min=1), metavar="SECONDS", help="Let it end after SECONDS.")
@verb
def sign_command(options: Options, /, name: str, parameters: tuple[str, ...], lifetime: int | None) -> None:
    """Print the signed URL of a picture, for requests.mode: signed.

    \b
    image_repo sign sites/north xsize=300 kind=webp --lifetime 86400
    image_repo sign sites/ regex=north thumbnail=True
    """
    config = options.load()
    click.echo(signed_url(config, wiring.request_signer(config), name, parse_pairs(parameters), lifetime))


def signed_url(
    config: Config, signer: RequestSigner, name: str, parameters: dict[str, str], lifetime: int | None
) -> str:
    """Return the URL of a picture, or of a zip of a folder, with its signature.

    :param name: of an image, or a folder with its ``/``
    :param lifetime: in seconds; None for ever
    :raises BadParameter, BadName: as over HTTP
    :raises LinksNotConfigured: without a key
    """
    if "signature" in parameters:
        raise BadParameter("signature", "The signature is made here.")
    request, rest = read_request(parameters.items(), READ_OPTIONS)
    request.with_preset(wiring.defaults(config).presets)
    targets = signed_targets(name)
    if not targets:
        raise BadName(f"No image can be called {name!r}.")
    signature = signer.sign(targets[0], signed_lines(request, rest.get("regex")), lifetime)
    root = (config.public_url or address.url(config)).rstrip("/")
    path = quote(f"{config.repository_base_pathname}/{targets[0]}")
    return f"{root}/{path}?{urlencode({**parameters, 'signature': signature}, quote_via=quote)}"
