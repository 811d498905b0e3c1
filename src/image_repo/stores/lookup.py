"""Objects found by name and ending from listings, for stores that list many objects in one call."""

from __future__ import annotations

from collections.abc import Callable, Collection, Container, Iterator
from itertools import groupby, islice
from os.path import commonprefix

from image_repo.stores.base import Entry

#: objects of a listing that are looked at for each name
_MOST_LISTED = 8


def is_called(key: str, names: Container[str], endings: Container[str]) -> bool:
    """Return whether a key is one of these names with one of these endings, in any case."""
    stem, dot, ending = key.rpartition(".")
    return (stem in names and f"{dot}{ending.lower()}" in endings) or (key in names and "" in endings)


def folder_of(key: str) -> str:
    """Return the folder of a key, with its ``/``."""
    return key[: key.rfind("/") + 1]


def by_folder(names: Collection[str]) -> Iterator[tuple[str, list[str]]]:
    """Names of each folder, in order and once."""
    for folder, group in groupby(sorted(set(names), key=lambda name: (folder_of(name), name)), folder_of):
        yield folder, list(group)


def find(keys: Callable[..., Iterator[Entry]], names: Collection[str], endings: Collection[str]) -> list[Entry]:
    """Return what :meth:`~image_repo.stores.base.Store.find` does, by as few listings as possible.

    :param keys: lists the store, as :meth:`~image_repo.stores.base.Store.keys`
    """
    entries: list[Entry] = []
    for _, group in by_folder(names):
        stems = frozenset(group)
        entries += (entry for entry in _near(keys, group, endings) if is_called(entry.key, stems, endings))
    return entries


def _near(keys: Callable[..., Iterator[Entry]], names: list[str], endings: Collection[str]) -> Iterator[Entry]:
    """Objects among which are those that are called so.

    :param names: of one folder, in order
    """
    if len(names) > 1:
        # The less is listed, the better. "/" follows "." in the order of code points: so keys that begin with a name
        # and a dot are ahead of the end. That need not be the last name's: "a-2/" is ahead of "a.jpg".
        common = commonprefix(names)  # noqa: RUF071, characters are meant
        end = max(name + "/" for name in names)
        most = _MOST_LISTED * (len(names) + 8)
        between = list(islice(keys(common, after=names[0][:-1], before=end), most + 1))
        if len(between) <= most:
            yield from between
            return
    for name in names:
        yield from keys(name + ".", before=name + "/")
        if "" in endings:
            yield from keys(name, before=name + " ")
