"""Which keys documents have, and of which types: counted as documents come and go. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from image_repo.catalogue import collation
from image_repo.catalogue.base import KeyUsage
from image_repo.catalogue.query import Path

#: members of a path; deeper ones are not counted, as no filter reaches them
MAX_LEVELS = 33
#: in place of a type: of all documents that have the key
ANY = ""
_TYPES = {
    collation.NULL: "null",
    collation.FALSE: "boolean",
    collation.TRUE: "boolean",
    collation.NUMBER: "number",
    collation.TEXT: "text",
}

#: a path, and the type of a value there
KeyType = tuple[Path, str]


def key_types(document: Mapping[str, Any]) -> set[KeyType]:
    """Return the paths of a document with the types of their values: of an array ``list`` and those of its elements."""
    types: set[KeyType] = set()
    waiting: list[tuple[Path, Any]] = [((), document)]
    while waiting:
        path, value = waiting.pop()
        for each in value if isinstance(value, list) else (value,):
            if isinstance(each, Mapping) and len(path) < MAX_LEVELS:
                waiting += [((*path, str(member)), below) for member, below in each.items()]
            if path and each is not value:
                types.add((path, _type(each)))
        if path:
            types |= {(path, ANY), (path, _type(value))}
    return types


def _type(value: Any) -> str:
    return _TYPES.get(collation.kind_of(value)) or ("list" if isinstance(value, list) else "object")


def usages(counts: Mapping[KeyType, int]) -> list[KeyUsage]:
    """Return the keys of counted types, the most frequent first."""
    types: dict[Path, dict[str, int]] = {}
    for (path, type_), count in sorted(counts.items()):
        types.setdefault(path, {})[type_] = count
    usages = [KeyUsage(path, of_key.pop(ANY), of_key) for path, of_key in types.items()]
    return sorted(usages, key=lambda usage: (-usage.count, usage.path))


def count_keys(documents: Iterable[Mapping[str, Any]]) -> list[KeyUsage]:
    """Return the keys of documents, the most frequent first."""
    counts: Counter[KeyType] = Counter()
    for document in documents:
        counts.update(key_types(document))
    return usages(counts)
