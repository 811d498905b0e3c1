"""Keys of a query that no document has: they are probably misspelt."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import islice
from typing import TYPE_CHECKING

from image_repo.catalogue.grammar import Grammar
from image_repo.catalogue.key_usage import count_keys
from image_repo.catalogue.query import Condition, Filter, Path, Query
from image_repo.errors import BadParameter

if TYPE_CHECKING:
    from image_repo.catalogue.index import Index

#: documents whose keys are proposed to a caller who may not see all of them
_SAMPLE = 1_000


def unknown_keys(index: Index, grammar: Grammar, visible: Filter, paths: Iterable[Path]) -> Mapping[str, str | None]:
    """Return those keys that no visible document has, each with what was probably meant.

    :param paths: of the keys
    """
    members = [path for path in paths if path[1:]]  # fields are always known
    missing = index.missing_keys(members) if members else []
    if not visible.is_empty:
        missing = [path for path in members if path in missing or not _is_there(index, visible, path)]
    if not missing:
        return {}
    usages = index.keys()[0] if visible.is_empty else count_keys(islice(index.each(visible), _SAMPLE))
    return {grammar.key(path): grammar.nearest(path, [usage.path for usage in usages]) for path in missing}


def _is_there(index: Index, visible: Filter, path: Path) -> bool:
    exists = Filter((Condition(path, "exists", (True,)),))
    return bool(index.page(Query(visible & exists, limit=1)).documents)


def refuse_unknown_keys(unknown: Mapping[str, str | None], why: str = "") -> None:
    """Refuse keys that no document has.

    :param why: what follows from it, as the end of a sentence
    :raises BadParameter: with the first of them, and the nearest
    """
    for key, nearest in unknown.items():
        hint, members = (f" Did you mean {nearest}?", {"nearest": nearest}) if nearest else ("", {})
        raise BadParameter(key, f"No record has the key {key}{why}.{hint}", **members)
