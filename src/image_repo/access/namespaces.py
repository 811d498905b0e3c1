"""Namespaces: the folder of each user in the container (``access.image_scope: user``)."""

from __future__ import annotations

import re
import unicodedata
from contextlib import suppress
from dataclasses import replace
from functools import lru_cache
from urllib.parse import quote, unquote

from image_repo.access.principal import Principal
from image_repo.errors import BadName
from image_repo.model.names import ImageName
from image_repo.model.record import Record

#: of an owner's folder, percent-encoded: names have 700 bytes in all, folders on disk 255
MAX_NAMESPACE_BYTES = 200
#: owners of what API keys write begin with it; no token is accepted for one
KEY_OWNER = "key:"
#: below the folder of all artifacts, and of all snapshots: the folders of users
USERS = "users/"
_FIRST_DOT = re.compile(r"^\.")


@lru_cache(4096)
def namespace_of(owner: str) -> str:
    """Return the folder of an owner, with its ``/``; different owners have different ones.

    What cannot stand in one part of a name is percent-encoded: ``%``, ``/`` and a dot at the beginning.

    :raises BadName: when no folder can have this name
    """
    text = _FIRST_DOT.sub("%2E", owner.replace("%", "%25").replace("/", "%2F"))
    if len(quote(text, safe="")) > MAX_NAMESPACE_BYTES:
        raise BadName(f"The name of a user may have at most {MAX_NAMESPACE_BYTES} bytes when it is percent-encoded.")
    if owner != owner.strip() or unicodedata.normalize("NFC", text) != text:
        raise BadName("The name of a user has to be in Unicode's form NFC, without blanks around it.")
    return ImageName.parse(text).text + "/"


def owner_in(name: str) -> str | None:
    """Return the owner whose folder a name, or a folder with its ``/``, lies in; None for the top."""
    folder, separator, _ = name.partition("/")
    return unquote(folder) if separator else None


def seen_by_owner(record: Record) -> Record:
    """Return a record under the name that its owner uses; as it is where it has none, or lies elsewhere."""
    if not isinstance(record.owner, str):  # another tool may have written anything
        return record
    with suppress(BadName):
        return replace(record, name=record.name.removeprefix(namespace_of(record.owner)))
    return record


def of_owner(principal: Principal, owner: str) -> Principal:
    """Return a caller that uses the names of an owner's namespace, and sees nothing else.

    :raises BadName: when the owner can have none
    """
    return Principal(
        principal.name, principal.roles, principal.prefix, principal.shared, owner=owner, namespace=namespace_of(owner)
    )
