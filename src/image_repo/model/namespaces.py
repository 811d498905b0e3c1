"""Namespaces: the folder of each user in the container (``access.image_scope: user``)."""

from __future__ import annotations

import re
import unicodedata
from contextlib import suppress
from dataclasses import replace
from functools import lru_cache
from typing import Any
from urllib.parse import quote, unquote

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
    if len(quote(text.encode("utf-8", "surrogatepass"), safe="")) > MAX_NAMESPACE_BYTES:
        raise BadName(f"The name of a user may have at most {MAX_NAMESPACE_BYTES} bytes when it is percent-encoded.")
    if owner != owner.strip() or unicodedata.normalize("NFC", text) != text:
        raise BadName("The name of a user has to be in Unicode's form NFC, without blanks around it.")
    return ImageName.parse(text).text + "/"


def owner_in(name: str) -> str | None:
    """Return the owner whose folder a name, or a folder with its ``/``, lies in; None for the top."""
    folder, separator, _ = name.partition("/")
    return unquote(folder) if separator else None


def own_name(name: str, owner: Any) -> str:
    """Return the name that its owner uses for an image; the same where it has none, or lies elsewhere."""
    with suppress(BadName):
        if isinstance(owner, str):  # another tool may have written anything
            return name.removeprefix(namespace_of(owner))
    return name


def seen_by_owner(record: Record) -> Record:
    """Return a record under the name that its owner uses."""
    return replace(record, name=own_name(record.name, record.owner))
