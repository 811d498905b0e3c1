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

from image_repo.catalogue.query import Scalar
from image_repo.errors import BadParameter
from image_repo.model.record import timestamp

#: values of a list, and characters of a number
MOST_VALUES, MOST_CHARACTERS = 100, 40

_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")
_LITERALS: Mapping[str, Scalar] = {"true": True, "false": False, "null": None}
#: a value of a list: a JSON string, or whatever begins otherwise
_PIECE = re.compile(r'(?:"(?:[^"\\]|\\.)*"|(?!")[^,]*)(?=,|\Z)', re.DOTALL)


def equal(text: str) -> tuple[Scalar, ...]:
    """Return the values that a text equals; one of them is enough."""
    quoted = _unquoted(text)
    plain = text if quoted is None else quoted
    number = _number(plain)
    if number is not None:
        return (number, plain)
    if quoted is None and text in _LITERALS:
        return (_LITERALS[text],)
    return (plain,)


def than(name: str, text: str, *, numbers: bool) -> Scalar:
    """Return the value to compare with: a number where it is written as one and not quoted, else text.

    :param name: of the parameter
    :param numbers: whether the value may be a number at all
    :raises BadParameter: for a number that a double does not hold
    """
    quoted = _unquoted(text)
    if quoted is not None:
        return quoted
    if not numbers or not _NUMBER.fullmatch(text):
        return text
    number = _number(text)
    if number is None:
        raise BadParameter.expected(f"a number of at most {MOST_CHARACTERS} characters that a double holds", name, text)
    return number


def instant(text: str) -> str:
    """Return a point in time as records spell it, in UTC and to the millisecond; anything else unchanged.

    So that text compares as time does, whatever the offset, and with or without parts of a second.
    """
    try:
        moment = datetime.fromisoformat(text)
        return timestamp(moment.timestamp()) if moment.tzinfo else text
    except (ValueError, OverflowError, OSError):
        return text


def listed(name: str, text: str) -> tuple[Scalar, ...]:
    """Return the values that the items of a list equal.

    :raises BadParameter: for more than :data:`MOST_VALUES`, or a quote that is not closed
    """
    values: list[Scalar] = []
    for count, piece in enumerate(_pieces(name, text), 1):
        if count > MOST_VALUES:
            raise BadParameter(name, f"At most {MOST_VALUES} values are taken for {name}.")
        values.extend(equal(piece))
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
