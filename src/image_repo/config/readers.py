"""How single values are read: sizes with units, lists, and values that stand somewhere else."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import GetCoreSchemaHandler, ValidationInfo
from pydantic_core import core_schema

_BYTES = re.compile(r"([0-9]+) ?([KMGT])(?:i?B)?", re.IGNORECASE)
_UNITS = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
_SIDES = re.compile(r"([0-9]+)(?: ?[x×,] ?([0-9]+))?")


def read_bytes(value: Any) -> Any:
    """``64 MiB``, ``64M`` and ``67108864`` are the same number; units are powers of 1024."""
    found = _BYTES.fullmatch(value) if isinstance(value, str) else None
    return int(found[1]) * _UNITS[found[2].upper()] if found else value


def read_list(value: Any) -> Any:
    """A list, or its members with commas between them."""
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


def read_sides(value: Any) -> Any:
    """A list of two numbers, ``50x50``, or ``50`` for a square."""
    found = _SIDES.fullmatch(value) if isinstance(value, str) else None
    return [found[1], found[2] or found[1]] if found else value


def read_auth_version(value: Any) -> Any:
    """``v3``, ``3``, ``3.0`` and ``2.0`` as the identity services write them."""
    return value.lower().removeprefix("v").removesuffix(".0") if isinstance(value, str) else value


def read_interface(value: Any) -> Any:
    """``publicURL`` is the older word for ``public``."""
    return value.removesuffix("URL") if isinstance(value, str) else value


class SourcedText(str):
    """Text that remembers where it was read from.

    :param source: ``env:NAME`` or ``file:PATH``; None for a value that stood in the configuration itself
    :param problem: why there is nothing at that place, None where there is
    """

    __slots__ = ("problem", "source")
    source: str | None
    problem: str | None

    def __new__(cls, value: str, source: str | None = None, problem: str | None = None) -> SourcedText:
        made = super().__new__(cls, value)
        made.source = source
        made.problem = problem
        return made

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (str(self), self.source, self.problem)


class SecretText(SourcedText):
    """Text that is never printed: its ``repr`` says where it comes from. ``str`` gives the value."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"<{self.source or 'secret'}>"


@dataclass(frozen=True)
class Sourced:
    """Marks a setting whose value may stand in the environment or in a file."""

    secret: bool = False

    def text(self, value: str, source: str | None = None, problem: str | None = None) -> SourcedText:
        return (SecretText if self.secret else SourcedText)(value, source, problem)

    def resolve(self, value: str, environ: Mapping[str, str]) -> SourcedText:
        """Reads a value from where it says that it is.

        :param value: the value, ``env:NAME`` or ``file:PATH``
        :returns: empty text with its ``problem`` where there is none: whether that matters only the whole tree tells
        """
        if value.startswith("env:"):
            name = value.removeprefix("env:")
            found = environ.get(name, "")
            return self.text(found, value, None if found else f"the environment has no {name}")
        if value.startswith("file:"):
            return self._from_file(value)
        return self.text(value)

    def _from_file(self, source: str) -> SourcedText:
        path = Path(source.removeprefix("file:")).expanduser()
        try:
            text = path.read_text(encoding="utf-8").strip("\r\n")
        except OSError as error:
            return self.text("", source, f"{path} cannot be read: {error.strerror}")
        except ValueError:
            return self.text("", source, f"{path} cannot be read: it is no text")
        return self.text(text, source, None if text else f"{path} is empty")

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        return core_schema.with_info_wrap_validator_function(self._validate, handler(source))

    def _validate(self, value: Any, inner: Callable[[Any], str], info: ValidationInfo) -> SourcedText:
        if isinstance(value, SourcedText):
            found = value
        elif isinstance(value, str):
            found = self.resolve(value, (info.context or {}).get("environ", {}))
        else:
            return self.text(inner(value))
        return found if found.problem else self.text(inner(str(found)), found.source)
