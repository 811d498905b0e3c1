"""MongoDB Extended JSON to plain JSON, versions 1 and 2, relaxed and canonical. Pure.

What JSON can hold stays what it is; the rest becomes text, or an object, that a person reads without a manual:

========================================  =======================================================
``$oid``                                  its 24 hex digits
``$date``                                 ``2026-11-21T07:19:09.000Z``: always UTC, always milliseconds;
                                          outside of the years 1 to 9999 milliseconds since the epoch
``$numberInt`` ``$numberLong``            a number, with all its digits
``$numberDouble``                         a number; ``NaN``, ``Infinity`` and ``-Infinity``, which are no JSON, as text
``$numberDecimal``                        a number where a double is exactly that, else its text
``$binary`` ``$uuid``                     the text of the UUID for subtype 4, else base64; the subtype is dropped
``$timestamp``                            ``{"t": seconds, "i": which of that second}``
``$regularExpression``, ``$regex``        ``/pattern/options``
``$symbol``                               text
``$code``                                 text; with ``$scope`` it stays the object that it is
``$minKey`` ``$maxKey``                   the texts ``MinKey`` and ``MaxKey``
``$undefined``                            null
========================================  =======================================================

Other names that begin with ``$`` stay: those of references (``$ref``, ``$id``), and the user's own.

Sources: MongoDB Extended JSON v2 specification (mongodb/specifications, extended-json), MongoDB manual
"MongoDB Extended JSON (v1)".
"""

from __future__ import annotations

import base64
import binascii
import math
import re
import uuid
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import Any

#: how deep objects and lists may be nested: what data may, and what the wrappers add
MOST_LEVELS = 64

_OID = re.compile(r"[0-9a-fA-F]{24}")
_INTEGER = re.compile(r"-?[0-9]{1,20}")
_DOUBLE = re.compile(r"-?[0-9]{1,400}(\.[0-9]{1,400})?([eE][+-]?[0-9]{1,4})?")
_DECIMAL = re.compile(r"[+-]?([0-9]{1,40}(\.[0-9]{0,40})?|\.[0-9]{1,40})([eE][+-]?[0-9]{1,5})?")
_NO_NUMBERS = ("NaN", "Infinity", "-Infinity")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
#: subtypes of binary data: a UUID in the order of RFC 9562
_UUID = "04"


class NotExtended(ValueError):
    """A wrapper that does not hold what its name says: what was expected."""


def plain(value: Any, levels: int = MOST_LEVELS) -> Any:
    """A value of extended JSON as plain JSON.

    :raises NotExtended: for a wrapper that holds something else, or what is nested too deep
    """
    if isinstance(value, Mapping):
        wrapper = _WRAPPERS.get(frozenset(value))
        if wrapper:
            return wrapper(value)
    elif not isinstance(value, list):
        return value
    if not levels:
        raise NotExtended(f"objects and lists are nested more than {MOST_LEVELS} deep")
    if isinstance(value, list):
        return [plain(each, levels - 1) for each in value]
    return {name: plain(each, levels - 1) for name, each in value.items()}


def _text(value: Mapping[str, Any], name: str, form: re.Pattern[str] | None = None) -> str:
    found = value[name]
    if not isinstance(found, str) or (form and not form.fullmatch(found)):
        raise NotExtended(f"{name} holds {_shown(found)}, which it cannot")
    return found


def _shown(value: Any) -> str:
    text = repr(value) if isinstance(value, str | int | float) else f"a {type(value).__name__}"
    return text if len(text) <= 40 else text[:39] + "…"


# -- numbers ------------------------------------------------------------------------------


def _integer(name: str) -> Callable[[Mapping[str, Any]], int]:
    return lambda value: _whole(name, value[name])


def _whole(name: str, found: Any) -> int:
    """A whole number as text; version 1 of the format has numbers too."""
    return found if type(found) is int else int(_text({name: found}, name, _INTEGER))


def _double(value: Mapping[str, Any]) -> float | str:
    found = value["$numberDouble"]
    if found in _NO_NUMBERS:
        return str(found)
    number = float(found) if type(found) in (int, float) else float(_text(value, "$numberDouble", _DOUBLE))
    if not math.isfinite(number):
        raise NotExtended(f"$numberDouble holds {_shown(found)}, which is too large")
    return number


def _decimal(value: Mapping[str, Any]) -> int | float | str:
    text = value["$numberDecimal"]
    if text in _NO_NUMBERS:
        return str(text)
    text = _text(value, "$numberDecimal", _DECIMAL)
    try:
        number = float(text)
        exact = math.isfinite(number) and Decimal(repr(number)) == Decimal(text)
    except (InvalidOperation, OverflowError):
        exact = False
    return number if exact else text


# -- times --------------------------------------------------------------------------------


def _date(value: Mapping[str, Any]) -> str | int:
    found = value["$date"]
    if isinstance(found, Mapping) and set(found) == {"$numberLong"}:
        found = _whole("$date", found["$numberLong"])
    if type(found) is int:
        return _of_milliseconds(found)
    if isinstance(found, str):
        try:
            return _iso(datetime.fromisoformat(found))
        except (ValueError, OverflowError):
            pass
    raise NotExtended(f"$date holds {_shown(found)}, which is no time")


def _of_milliseconds(milliseconds: int) -> str | int:
    try:
        return _iso(_EPOCH + timedelta(milliseconds=milliseconds))
    except OverflowError:
        return milliseconds


def _iso(time: datetime) -> str:
    """RFC 3339 in UTC; of one form, so that text compares as time does. Without a zone it is UTC, as in MongoDB."""
    there = time if time.tzinfo else time.replace(tzinfo=UTC)
    return there.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _timestamp(value: Mapping[str, Any]) -> dict[str, int]:
    found = value["$timestamp"]
    if not isinstance(found, Mapping) or set(found) != {"t", "i"}:
        raise NotExtended("$timestamp holds no t and i")
    return {name: _whole("$timestamp", found[name]) for name in ("t", "i")}


# -- bytes and text -----------------------------------------------------------------------


def _binary(value: Mapping[str, Any]) -> str:
    found = value["$binary"]
    if isinstance(found, Mapping) and set(found) == {"base64", "subType"}:
        return _bytes(_text(found, "base64"), _text(found, "subType"))
    if "$type" in value:  # version 1
        kind = value["$type"]
        return _bytes(_text(value, "$binary"), f"{kind:02x}" if type(kind) is int else _text(value, "$type"))
    raise NotExtended("$binary holds no base64 and subType")


def _bytes(text: str, kind: str) -> str:
    try:
        content = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise NotExtended(f"$binary holds {_shown(text)}, which is no base64") from None
    return str(uuid.UUID(bytes=content)) if kind.zfill(2) == _UUID and len(content) == 16 else text


def _uuid(value: Mapping[str, Any]) -> str:
    try:
        return str(uuid.UUID(_text(value, "$uuid")))
    except ValueError:
        raise NotExtended(f"$uuid holds {_shown(value['$uuid'])}, which is none") from None


def _expression(value: Mapping[str, Any]) -> str:
    found = value["$regularExpression"]
    if not isinstance(found, Mapping) or set(found) != {"pattern", "options"}:
        raise NotExtended("$regularExpression holds no pattern and options")
    return f"/{_text(found, 'pattern')}/{_text(found, 'options')}"


def _old_expression(value: Mapping[str, Any]) -> str:
    return f"/{_text(value, '$regex')}/{_text(value, '$options')}"


def _undefined(_: Mapping[str, Any]) -> None:
    return None


#: the members that an object has, and no others → how it is read
_WRAPPERS: dict[frozenset[str], Callable[[Mapping[str, Any]], Any]] = {
    frozenset({"$oid"}): lambda value: _text(value, "$oid", _OID).lower(),
    frozenset({"$date"}): _date,
    frozenset({"$numberInt"}): _integer("$numberInt"),
    frozenset({"$numberLong"}): _integer("$numberLong"),
    frozenset({"$numberDouble"}): _double,
    frozenset({"$numberDecimal"}): _decimal,
    frozenset({"$binary"}): _binary,
    frozenset({"$binary", "$type"}): _binary,
    frozenset({"$uuid"}): _uuid,
    frozenset({"$timestamp"}): _timestamp,
    frozenset({"$regularExpression"}): _expression,
    frozenset({"$regex", "$options"}): _old_expression,
    frozenset({"$symbol"}): lambda value: _text(value, "$symbol"),
    frozenset({"$code"}): lambda value: _text(value, "$code"),
    frozenset({"$minKey"}): lambda _: "MinKey",
    frozenset({"$maxKey"}): lambda _: "MaxKey",
    frozenset({"$undefined"}): _undefined,
}
