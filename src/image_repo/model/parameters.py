"""Readers of query parameters: text to a checked value, with what is accepted for people and for machines."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from image_repo.errors import BadParameter

V = TypeVar("V")
N = TypeVar("N", int, float)
TRUE = frozenset(("true", "1", "yes", "on"))
FALSE = frozenset(("false", "0", "no", "off"))
INTEGER = re.compile(r"[0-9]{1,6}")
DECIMAL = re.compile(r"[0-9]{1,6}(?:\.[0-9]{1,8})?|\.[0-9]{1,8}")
_MAX_ECHO_CHARS = 40


@dataclass(frozen=True, slots=True)
class Reader(Generic[V]):
    """Reads the text of a parameter.

    :param convert: text → value; raises ValueError or KeyError for text that is not accepted
    :param expected: what is accepted, for people
    :param schema: what is accepted, for machines (JSON Schema 2020-12)
    """

    convert: Callable[[str], V]
    expected: str
    schema: Mapping[str, Any] = field(default_factory=lambda: {"type": "string"})

    def __call__(self, parameter: str, text: str) -> V:
        """Return the value.

        :param parameter: its name as the client spelled it
        :raises BadParameter: when the text is not accepted
        """
        try:
            return self.convert(text)
        except (ValueError, KeyError):
            raise BadParameter.expected(self.expected, parameter, text) from None


@dataclass(frozen=True, slots=True)
class Parameter:
    """A query parameter.

    :param help: what it does, for people
    :param aliases: other names that mean the same
    """

    name: str
    read: Reader[Any]
    help: str
    aliases: tuple[str, ...] = ()

    def document(self) -> dict[str, Any]:
        """Return the Parameter Object of OpenAPI 3.1."""
        aliases = f" (also: {', '.join(self.aliases)})" if self.aliases else ""
        return {"name": self.name, "in": "query", "description": self.help + aliases, "schema": dict(self.read.schema)}


def matched(pattern: re.Pattern[str], text: str) -> str:
    """Return the text; raise ValueError where the pattern does not match all of it."""
    if pattern.fullmatch(text):
        return text
    raise ValueError(text)


def between(least: N, value: N, most: N) -> N:
    """Return the value; raise ValueError where it lies outside of the range."""
    if least <= value <= most:
        return value
    raise ValueError(value)


def integer(least: int, most: int) -> Reader[int]:
    """Return a reader of whole numbers in ASCII digits."""
    return Reader(
        lambda text: between(least, int(matched(INTEGER, text)), most),
        f"a whole number from {least} to {most}",
        {"type": "integer", "minimum": least, "maximum": most},
    )


def decimal(least: float, most: float) -> Reader[float]:
    """Return a reader of decimal numbers in ASCII digits, rounded to four decimals."""
    return Reader(
        lambda text: round(between(least, float(matched(DECIMAL, text)), most), 4),
        f"a number from {least:g} to {most:g}",
        {"type": "number", "minimum": least, "maximum": most},
    )


def choice(values: Mapping[str, V]) -> Reader[V]:
    """Return a reader of one of some words in any case.

    :param values: word in lower case → value
    """
    schema = {"type": "string", "enum": list(values)}
    return Reader(lambda text: values[text.lower()], "one of " + ", ".join(values), schema)


_BOOLEANS = {word: truth for truth, words in ((True, TRUE), (False, FALSE)) for word in words}
#: ``True true 1 yes on`` and their opposites, in any case
read_boolean = Reader(lambda text: _BOOLEANS[text.lower()], "True or False", {"type": "boolean"})


def is_boolean(text: str) -> bool:
    """Return whether this is one of the words for true and false."""
    return text.lower() in _BOOLEANS


def unknown_parameter(name: str, known: Iterable[str]) -> BadParameter:
    """Return the problem of a parameter that has no meaning here, with the nearest known name."""
    echo = name if len(name) <= _MAX_ECHO_CHARS else name[: _MAX_ECHO_CHARS - 1] + "…"
    nearest = difflib.get_close_matches(name[:_MAX_ECHO_CHARS].lower(), sorted(set(known)), n=1)
    hint = f" Did you mean {nearest[0]}?" if nearest else ""
    members = {"nearest": nearest[0]} if nearest else {}
    return BadParameter(echo, f"There is no parameter {echo!r}.{hint}", **members)
