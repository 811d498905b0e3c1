"""MongoDB Extended JSON to plain JSON, versions 1 and 2, relaxed and canonical, by pymongo's ``bson``.

The table in ``docs/coming-from.md`` shows what becomes of each type.
Other names that begin with ``$`` stay: those of references (``$ref``, ``$id``), and the user's own.

Sources: MongoDB Extended JSON v2 specification (mongodb/specifications, extended-json), MongoDB manual
"MongoDB Extended JSON (v1)".
"""

from __future__ import annotations

import base64
import math
import re
import uuid
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from functools import cache
from typing import TYPE_CHECKING, Any

from image_repo.errors import LibraryMissing

if TYPE_CHECKING:
    from bson.regex import Regex

#: how deep objects and lists may be nested: what data may, and what the wrappers add
MAX_LEVELS = 64

#: the members that a wrapper has, and no others
_WRAPPERS = {
    frozenset(names.split("+"))
    for names in (
        "$oid", "$date", "$numberInt", "$numberLong", "$numberDouble", "$numberDecimal", "$binary", "$binary+$type",
        "$uuid", "$timestamp", "$regularExpression", "$regex+$options", "$symbol", "$code", "$minKey", "$maxKey",
        "$undefined",
    )
}  # fmt: skip
#: bson also takes digits of other scripts, and underscores
_NUMBER = re.compile(r"-?Infinity|NaN|[+-]?[0-9.]{1,400}([eE][+-]?[0-9]{1,5})?")
_UUID_SUBTYPE = 4


class NotExtended(ValueError):
    """A wrapper holds a value that its name does not allow."""


def plain(value: Any) -> Any:
    """Return a value of extended JSON as plain JSON.

    :raises NotExtended: for a wrapper that holds something else, or deeper nesting than :data:`MAX_LEVELS`
    :raises LibraryMissing: for a wrapper, if pymongo is not installed
    """
    return _plain(_read(value, MAX_LEVELS))


def _read(value: Any, levels: int) -> Any:
    """Return a value with the types of bson in place of its wrappers."""
    if not isinstance(value, Mapping | list):
        return value
    if not levels:
        raise NotExtended(f"objects and lists are nested more than {MAX_LEVELS} deep")
    if isinstance(value, list):
        return [_read(each, levels - 1) for each in value]
    members = {name: _read(each, levels - 1) for name, each in value.items()}
    return _unwrap(members) if frozenset(members) in _WRAPPERS else members


def _unwrap(wrapper: dict[str, Any]) -> Any:
    name, content = min(wrapper.items())
    unwrap = _bson()[0]
    try:
        if name.startswith("$number") and not isinstance(content, bool):
            content = str(content)  # numbers of version 1
            wrapper = {name: content if _NUMBER.fullmatch(content) else None}
        value = unwrap(wrapper)
    except Exception as error:
        raise NotExtended(f"{name} holds {_abbreviated(content)}, which it cannot") from error
    if _is_changed(name, content, value):
        raise NotExtended(f"{name} holds {_abbreviated(content)}, which it cannot")
    return _decimal(content) if name == "$numberDecimal" else value


def _is_changed(name: str, content: Any, value: Any) -> bool:
    """Return whether bson takes a wrapper that says something else than what it returns."""
    if name == "$binary":
        text = content["base64"] if isinstance(content, Mapping) else content
        return isinstance(value, bytes) and base64.b64encode(value) != str(text).encode()
    if name in ("$symbol", "$code", "$regularExpression", "$regex"):
        parts = content.values() if isinstance(content, Mapping) else [content]
        return not all(isinstance(each, str) for each in parts)
    return isinstance(value, float) and math.isinf(value) and "Inf" not in content


def _abbreviated(content: Any) -> str:
    text = repr(content) if isinstance(content, str | int | float) else f"a {type(content).__name__}"
    return text if len(text) <= 40 else text[:39] + "…"


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _plain(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_plain(each) for each in value]
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if value is None or type(value) in (bool, int, float, str):
        return value
    converters = _bson()[1]
    return next(convert for kind, convert in converters.items() if isinstance(value, kind))(value)


@cache
def _bson() -> tuple[Callable[[Mapping[str, Any]], Any], Mapping[type, Callable[[Any], Any]]]:
    """Return what reads a wrapper, and what makes plain JSON of each type that it returns."""
    try:
        from bson import json_util, max_key, min_key, regex, timestamp  # noqa: PLC0415, an extra
        from bson.codec_options import DatetimeConversion  # noqa: PLC0415
        from bson.datetime_ms import DatetimeMS  # noqa: PLC0415
        from bson.objectid import ObjectId  # noqa: PLC0415
    except ImportError as error:
        raise LibraryMissing(
            "MongoDB's Extended JSON is read by pymongo, which is not installed: pip install 'image_repo[mongo]'"
        ) from error
    options = json_util.JSONOptions(tz_aware=True, tzinfo=UTC, datetime_conversion=DatetimeConversion.DATETIME_AUTO)
    return lambda wrapper: json_util.object_hook(wrapper, options), {
        ObjectId: str,
        datetime: _time,
        DatetimeMS: int,
        int: int,
        bytes: _binary,
        timestamp.Timestamp: lambda value: {"t": value.time, "i": value.inc},
        regex.Regex: _expression,
        str: str,
        min_key.MinKey: lambda _: "MinKey",
        max_key.MaxKey: lambda _: "MaxKey",
    }


def _time(value: datetime) -> str:
    """Return RFC 3339 in UTC; of one form, so that text compares as time does."""
    return value.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _decimal(text: str) -> float | str:
    number = float(text)
    return number if math.isfinite(number) and Decimal(repr(number)) == Decimal(text) else text


def _binary(value: bytes) -> str:
    is_uuid = getattr(value, "subtype", 0) == _UUID_SUBTYPE and len(value) == 16
    return str(uuid.UUID(bytes=bytes(value))) if is_uuid else base64.b64encode(value).decode()


def _expression(value: Regex[str]) -> str:
    letters = "".join(letter for letter in "ilmsux" if value.flags & re.RegexFlag[letter.upper()])
    return f"/{value.pattern}/{letters}"
