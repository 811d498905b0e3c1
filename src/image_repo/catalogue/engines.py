"""The engines by their URLs: SQLite for one node, PostgreSQL for many."""

from __future__ import annotations

import re
from pathlib import Path as File
from typing import TYPE_CHECKING

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from image_repo.catalogue.index import Index
from image_repo.catalogue.sqlite import SqliteDialect
from image_repo.concurrency.locks import WriteOrder
from image_repo.errors import ConfigurationError

if TYPE_CHECKING:
    from image_repo.catalogue.postgres_notices import PostgresNotices


def open_index(
    url: str | None,
    folder: File | None,
    *,
    collection: str,
    scope: str,
    timeout: float = 10.0,
    slow: float = 0.5,
    connections: int = 4,
) -> Index:
    """Return the index of a collection; it connects at the first query.

    :param url: ``sqlite:///PATH`` or ``postgresql://USER:PASSWORD@HOST/DATABASE``; None for SQLite in ``folder``
    :param folder: private to this node
    :param collection: of lower-case letters; each has tables of its own
    :param scope: which repository it is, and what else decides what is in an index: one of another scope starts empty
    :param timeout: seconds that a query may take
    :param slow: seconds after which a query is logged
    :param connections: the most at a time
    :raises ConfigurationError: for another URL, or an engine that is not installed
    """
    if not re.fullmatch("[a-z]{1,30}", collection):
        raise ValueError(f"not a collection: {collection!r}")
    place = _file(url, folder)
    if place:
        dialect = SqliteDialect(place, collection=collection, scope=scope, timeout=timeout, connections=connections)
        return Index(dialect, slow)
    from image_repo.catalogue.postgres import PostgresDialect  # noqa: PLC0415, most have no use for it

    assert url
    shared = PostgresDialect(_url(url), collection=collection, scope=scope, timeout=timeout, connections=connections)
    return Index(shared, slow)


def open_order(url: str | None, scope: str, *, connections: int = 4) -> WriteOrder | None:
    """Return what orders the writers of several nodes; it connects at the first write.

    :param scope: the identity of their container
    :returns: None where no engine is shared
    """
    if url is None or _url(url).get_backend_name() == "sqlite":
        return None
    from image_repo.catalogue.postgres_order import PostgresOrder  # noqa: PLC0415, most have no use for it

    return PostgresOrder(_url(url), scope, connections=connections)


def open_notices(url: str | None, scope: str, sender: str) -> PostgresNotices | None:
    """Return what tells the other nodes of changes; it connects at the first one.

    :param scope: the identity of their container
    :param sender: names this node
    :returns: None where no engine is shared
    """
    if url is None or _url(url).get_backend_name() == "sqlite":
        return None
    from image_repo.catalogue.postgres_notices import PostgresNotices  # noqa: PLC0415, most have no use for it

    return PostgresNotices(_url(url), scope, sender)


def _file(url: str | None, folder: File | None) -> File | None:
    """Return the file of SQLite; None for another engine."""
    if url is None:
        if folder is None:
            raise ConfigurationError(["catalogue.url: expected a URL where there is no folder"])
        return folder / "catalogue.sqlite"
    parsed = _url(url)
    if parsed.get_backend_name() != "sqlite":
        return None
    if not parsed.database or parsed.database == ":memory:":
        raise ConfigurationError(["catalogue.url: expected sqlite:///PATH with the path of a file"])
    return File(parsed.database)


def _url(url: str) -> URL:
    try:
        parsed = make_url(url)
        parsed.get_backend_name()
    except (ArgumentError, ValueError) as error:
        raise ConfigurationError(["catalogue.url: expected postgresql://… or sqlite:///PATH"]) from error
    if parsed.get_backend_name() not in ("sqlite", "postgresql"):
        raise ConfigurationError(["catalogue.url: expected postgresql://… or sqlite:///PATH"])
    return parsed
