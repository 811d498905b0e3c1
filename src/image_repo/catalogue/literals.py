"""Values of a query string as JSON values to compare with. Pure.

A query string has only text, a document has JSON: ``30`` means the number and the text,
``"30"`` too, ``true`` itself and ``"true"`` the text. Numbers are written as JSON writes
them (RFC 8259, section 6), in ASCII digits.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Literal

from image_repo.catalogue.query import Scalar
from image_repo.errors import BadParameter
from image_repo.model.record import timestamp

#: kinds of values that a field has: ``any`` for whatever JSON is there, ``object`` for none that compares
Kind = Literal["text", "time", "number", "object", "any"]
#: values of a list, and characters of a number
MOST_VALUES, MOST_CHARACTERS = 100, 40

_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")
#: a point in time, or its beginning: of ISO 8601 what records, and people, write
_TIME = re.compile(
    r"[0-9]{4}(-[0-9]{2}(-[0-9]{2}([T ][0-9]{2}(:[0-9]{2}(:[0-9]{2}(\.[0-9]+)?)?)?(Z|[+-][0-9]{2}:?[0-9]{2})?)?)?)?"
)
_LITERALS: Mapping[str, Scalar] = {"true": True, "false": False, "null": None}
#: a value of a list: a JSON string, or whatever begins otherwise
_PIECE = re.compile(r'(?:"(?:[^"\\]|\\.)*"|(?!")[^,]*)(?=,|\Z)', re.DOTALL)


def equal(name: str, text: str, kind: Kind = "any") -> tuple[Scalar, ...]:
    """Return the values that a text equals; one of them is enough.

    :param name: of the parameter
    :param kind: of the values that it is compared with
    :raises BadParameter: for a text that no value of this kind equals
    """
    quoted = _unquoted(text)
    plain = text if quoted is None else quoted
    if quoted is None and text in _LITERALS and (kind == "any" or text == "null"):
        return (_LITERALS[text],)
    if kind == "time":
        return (instant(name, plain),)
    number = _number(plain)
    if number is None and kind == "number":
        raise BadParameter.expected("a number", name, text)
    return (plain,) if number is None else (number, plain)


def than(name: str, text: str, kind: Kind = "any") -> Scalar:
    """Return the value to compare with: a number where it is written as one and not quoted, else text.

    :param name: of the parameter
    :param kind: of the values that it is compared with
    :raises BadParameter: for a number that a double does not hold, and for a text that no value of this kind
        compares with
    """
    quoted = _unquoted(text)
    plain = text if quoted is None else quoted
    if kind == "time":
        return instant(name, plain)
    if kind == "text" or (kind == "any" and (quoted is not None or not _NUMBER.fullmatch(text))):
        return plain
    number = None if quoted is not None else _number(text)
    if number is None:
        raise BadParameter.expected(f"a number of at most {MOST_CHARACTERS} characters that a double holds", name, text)
    return number


def instant(name: str, text: str) -> str:
    """Return a point in time as records spell it, in UTC and to the millisecond; the beginning of one unchanged.

    So that text compares as time does, whatever the offset, and with or without parts of a second.

    :raises BadParameter: for anything else: ``yesterday`` would be after every time
    """
    if not _TIME.fullmatch(text):
        raise BadParameter.expected("a time such as 2026-11-21 or 2026-11-21T12:59:47Z (+ is written %2B)", name, text)
    text = text.replace(" ", "T")
    try:
        moment = datetime.fromisoformat(text)
        return timestamp(moment.timestamp()) if moment.tzinfo else text
    except (ValueError, OverflowError, OSError):
        return text


def listed(name: str, text: str, kind: Kind = "any") -> tuple[Scalar, ...]:
    """Return the values that the items of a list equal.

    :raises BadParameter: for more than :data:`MOST_VALUES`, a quote that is not closed, or as :func:`equal` says
    """
    values: list[Scalar] = []
    for count, piece in enumerate(_pieces(name, text), 1):
        if count > MOST_VALUES:
            raise BadParameter(name, f"At most {MOST_VALUES} values are taken for {name}.")
        values.extend(equal(name, piece, kind))
    return tuple(values)


def _pieces(name: str, text: str) -> Iterator[str]:
    """Return the items of a list, quoted ones with their quotes."""
    at = 0
    while True:
        match = _PIECE.match(text, at)
        if not match:
            raise BadParameter.expected('values separated by commas, those that hold one as "…"', name, text)
        yield match[0]
        if match.end() == len(text):
            return
        at = match.end() + 1


def _number(text: str) -> float | None:
    """Return a number as a double, whole ones as int; None where it is none, or too large for a double."""
    if len(text) > MOST_CHARACTERS or not _NUMBER.fullmatch(text):
        return None
    value = float(text)
    if not math.isfinite(value):
        return None
    return int(value) if value.is_integer() and abs(value) <= 2**53 else value


def _unquoted(text: str) -> str | None:
    """Return the text of a JSON string; None where it is none."""
    if len(text) < 2 or text[0] != '"' or text[-1] != '"':
        return None
    try:
        value: str = json.loads(text)
        value.encode()
    except ValueError:  # half a surrogate pair, too
        return None
    return value
