"""The meaning of a filter in plain Python, for one document at a time.

For one document at a time: before it is changed, because the index may know an older one, and
to hold an engine against.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from image_repo.catalogue import collation
from image_repo.catalogue.query import Condition, Filter, Op, Path, Scalar
from image_repo.catalogue.tokenizer import begins, words_of

#: operators of values of one kind
_COMPARES: Mapping[Op, Callable[[Any, Any], bool]] = {
    "gt": operator.gt,
    "gte": operator.ge,
    "lt": operator.lt,
    "lte": operator.le,
}
_NOWHERE: Any = object()


def holds(criteria: Filter, document: Mapping[str, Any]) -> bool:
    """Return whether a filter holds for a document."""
    if not str(document.get("name", "")).startswith(criteria.prefix):
        return False
    if not all(_holds(condition, document) for condition in criteria.conditions):
        return False
    return not criteria.words or begins(criteria.words, words_of(document))


def _holds(condition: Condition, document: Mapping[str, Any]) -> bool:
    op, values = condition.op, condition.values
    if op == "exists":
        return bool(collation.walked(document, condition.path)) is values[0]
    reached = collation.reached(document, condition.path)
    if op == "eq":
        return any(_is_one_of(each, values) for each in reached)
    if op == "ne":
        return not reached or any(not _is_one_of(each, values) for each in reached)
    if op == "element":
        return any(isinstance(each, Mapping) and holds_inside(condition, each) for each in reached)
    if op in ("regex", "near"):
        return condition.test is not None and any(isinstance(each, str) and condition.test(each) for each in reached)
    return any(_stands(op, each, values[0]) for each in reached)


def holds_inside(condition: Condition, element: Mapping[str, Any]) -> bool:
    """Return whether an object fulfils the conditions of ``element``."""
    return all(_holds(each, element) for each in condition.inside)


def _is_one_of(value: Any, values: Sequence[Scalar]) -> bool:
    """Return whether a value is of the same kind as one of these and equal: in Python, true would equal 1."""
    kind = collation.kind_of(value)
    return kind != collation.OTHER and any(
        kind == collation.kind_of(each) and _comparable(value) == _comparable(each) for each in values
    )


def _stands(op: Op, value: Any, than: Scalar) -> bool:
    kind = collation.kind_of(value)
    if kind != collation.kind_of(than) or kind not in (collation.NUMBER, collation.TEXT):
        return False
    return _COMPARES[op](_comparable(value), _comparable(than))


def _comparable(value: Any) -> Any:
    """Return numbers as doubles; text compares by code points in Python, the rest as it is."""
    return collation.double(value) if collation.kind_of(value) == collation.NUMBER else value


def project(document: Mapping[str, Any], select: Sequence[Path]) -> dict[str, Any]:
    """Return these paths of a document, into each element of arrays; missing ones are left out.

    :param select: empty for all of it
    """
    if not select:
        return dict(document)
    members: dict[str, Any] = {}
    for path in select:
        _add_path(members, path)
    selected: dict[str, Any] = _take(document, members)
    return selected


def _add_path(members: dict[str, Any], path: Path) -> None:
    """Add a path to a tree of members, where an empty one stands for everything below."""
    *above, last = path
    for member in above:
        if members.get(member) == {}:
            return
        members = members.setdefault(member, {})
    members[last] = {}


def _take(value: Any, members: Mapping[str, Any]) -> Any:
    if not members:
        return value
    if isinstance(value, list):
        parts = (_take(each, members) for each in value if isinstance(each, Mapping | list))
        return [part for part in parts if part is not _NOWHERE]
    if not isinstance(value, Mapping):
        return _NOWHERE
    parts_by = {member: _take(value[member], below) for member, below in members.items() if member in value}
    return {member: part for member, part in parts_by.items() if part is not _NOWHERE}
